"""Every error a user can cause, and the exit code it ends the program with.

    TinyLLMError                1   (raised only through a subclass)
    ├── UsageError              2   a wrong flag or argument
    │   └── ConfigError         2   a wrong value in a config file or --set
    ├── DataError               3   text, datasets, manifests, disk
    ├── CheckpointError         4   a checkpoint that is missing, broken or does not fit
    ├── ProviderError           5   a model behind an API that fails
    ├── TrainingStopped         6   training cannot go on
    ├── MissingPartError        7   an optional package or a device that is not here
    └── Interrupted           130   stopped by the user after saving (143 for SIGTERM)

A message says what happened, with the value and the place. A hint says what to do next.
Foreign exceptions are translated into these once, in the room that owns the foreign library.
"""


class TinyLLMError(Exception):
    """A failure with one sentence for the user, a hint, and an exit code."""

    exit_code = 1

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(TinyLLMError):
    """A flag or argument that cannot be honoured."""

    exit_code = 2


class ConfigError(UsageError):
    """A value in a config file, `--set` or flag that the schema refuses."""


class DataError(TinyLLMError):
    """Text or a file that cannot be read, written or used."""

    exit_code = 3


class CheckpointError(TinyLLMError):
    """A checkpoint that is missing, broken or does not fit."""

    exit_code = 4


class ProviderError(TinyLLMError):
    """A text provider that refuses or fails."""

    exit_code = 5


class TrainingStopped(TinyLLMError):
    """Training that cannot go on; what was reached is saved."""

    exit_code = 6


class MissingPartError(TinyLLMError):
    """An optional package or a device that this machine lacks."""

    exit_code = 7


class Interrupted(TinyLLMError):
    """Work that was stopped by the user after its state was saved.

    `exit_code` is 130 after Ctrl-C and 143 after SIGTERM.
    """

    exit_code = 130

    def __init__(self, message: str, hint: str | None = None, exit_code: int = 130) -> None:
        super().__init__(message, hint)
        self.exit_code = exit_code
