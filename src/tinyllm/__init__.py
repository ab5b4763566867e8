"""tinyllm: make a small language model of your own.

    import tinyllm
    tinyllm.load("chat.safetensors").generate("Once upon a time")

Importing this package costs nothing; what is named here is loaded when it is first used.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllm.api import Model, load

__version__ = "0.1.0"
__all__ = ["Model", "__version__", "load"]


def __getattr__(name: str) -> object:
    """Load what is asked for. Raises AttributeError for any other name."""
    if name in ("Model", "load"):
        from tinyllm import api

        return getattr(api, name)
    raise AttributeError(f"module 'tinyllm' has no attribute {name!r}")
