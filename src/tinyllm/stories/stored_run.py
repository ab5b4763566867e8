"""A run that lives in an object store as well: what a lost machine leaves for another.

    s3://bucket/name/
        dataset.jsonl  train.txt  …      the data set, sent when it is finished, manifests last
        stories-run/state.json           what the run's files are: lists of blocks; written last
        stories-run/blocks/…             the blocks (`stored_files.py`)

The folder here is where the run happens; every while, and when it stops, what is new goes to the
store. A state is one object and names blocks that are there: whoever reads it sees the run as it
was at one moment. An object store has no locks. Each start writes a token into the state, and a
process that finds another's token there stops: who comes last goes on, and nothing is mixed.
"""

import contextlib
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from tinyllm.config.storage import StoreConfig
from tinyllm.errors import DataError, TinyLLMError
from tinyllm.files import sha256_file
from tinyllm.locks import Lock
from tinyllm.reporting import Reporter
from tinyllm.storage import Store
from tinyllm.stories.run_folder import StoriesFolder
from tinyllm.stories.stored_files import Block, blocks_of, bring, relation, send
from tinyllm.stories.stored_state import State

_NOT_MIRRORED = (".lock", ".tmp")


class StoredRun:
    """The copy of one run in a store, while this process writes it."""

    def __init__(
        self, store: Store, folder: StoriesFolder, every_seconds: float, reporter: Reporter
    ) -> None:
        self._store, self._folder, self._reporter = store, folder, reporter
        self._every_seconds = every_seconds
        self._state = State()
        self._there: set[str] = set()
        self._sent: dict[str, tuple[int, int]] = {}
        """By name: size and time of the file that the state tells of."""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._keep_sending, name="store", daemon=True)
        self._one_at_a_time = threading.Lock()
        self._is_away = False
        self._is_rewritten = False
        """Whether a journal has changed other than by growing since it was sent."""
        self.lost: DataError | None = None
        """Set when another process has taken the run over."""
        self.on_lost: Callable[[], object] | None = None

    # ---- at the start ----

    def claim(self) -> None:
        """Bring here what the store has more of, and become the one who writes there.

        Raises DataError when the two went on apart from each other.
        """
        found = State.read(self._store)
        if found is not None:
            if found.token:
                self._reporter.note(
                    f"{self._store.url} was last written by {found.writer}, {found.at}; "
                    "should that still run, it stops now"
                )
            restore(self._store, found, self._folder, self._reporter)
            self._there = {block.sha256 for blocks in found.files.values() for block in blocks}
            self._state = found
        self._state.token = secrets.token_hex(8)
        self._state.write(self._store)
        self._thread.start()

    # ---- on the way ----

    def _keep_sending(self) -> None:
        while not self._over.wait(self._every_seconds):
            try:
                self._send()
                self._is_away = False
            except TinyLLMError as error:
                if self.lost is not None:
                    if self.on_lost is not None:
                        self.on_lost()
                    return
                if not self._is_away:
                    self._reporter.warn(f"{error.message}; it is tried again")
                self._is_away = True

    @contextlib.contextmanager
    def rewriting(self) -> Iterator[None]:
        """Let journals be changed within; afterwards the store's are replaced by them."""
        with self._one_at_a_time:
            try:
                yield
            finally:  # what failed may have changed some of them
                self._is_rewritten = True

    def _send(self) -> None:
        """Send what is new, then the state, then take away what it no longer names."""
        with self._one_at_a_time:
            files, stamps = self._blocks()
            if files != self._state.files:
                for name, blocks in files.items():
                    send(self._store, self._folder.run / name, blocks, self._there)
                self._require_ours()
                state = replace(self._state, files=files)
                state.write(self._store)
                self._state = state
            self._sent, self._is_rewritten = stamps, False  # only now: what failed is sent again
            named = {block.sha256 for blocks in files.values() for block in blocks}
            stale = [Block(sha, 0).name for sha in self._there - named]
            self._there &= named
            self._store.delete(stale)

    def _blocks(self) -> tuple[dict[str, list[Block]], dict[str, tuple[int, int]]]:
        """Return blocks and stamp of every file of the run; what has not changed is not read.

        Only of a journal that this process has sent is it known that it has grown since, and no
        more: what an earlier one sent is read anew once.
        """
        found, stamps = {}, {}
        journals = [path.name for path in self._folder.ledgers.journals]
        for name in _names(self._folder):
            path = self._folder.run / name
            try:
                about = path.stat()
            except FileNotFoundError:  # it was there a moment ago
                continue
            stamp = (about.st_size, about.st_mtime_ns)
            known = self._state.files.get(name, [])
            if self._sent.get(name) != stamp:
                grew = name in self._sent and name in journals and not self._is_rewritten
                known = blocks_of(path, known if grew else ())
            found[name] = known
            stamps[name] = stamp
        return found, stamps

    def _require_ours(self) -> None:
        """Raise DataError when another process has written its token."""
        found = State.read(self._store)
        if found is None or found.token != self._state.token:
            who = "somebody" if found is None else found.writer
            self.lost = DataError(
                f"{who} has gone on with the run in {self._store.url}: this one stops",
                f"What was made here is in {self._folder.path}.",
            )
            raise self.lost

    # ---- at the end ----

    def publish(self, files: Sequence[Path]) -> None:
        """Send the finished files, manifests last, where they are not there yet."""
        place = self._folder.path
        wanted = {path.relative_to(place).as_posix(): sha256_file(path) for path in files}
        with self._one_at_a_time:
            before = self._state.dataset
            if wanted == before:
                return
            self._require_ours()
            with self._reporter.stage(f"send {len(files)} files to {self._store.url}"):
                self._state.dataset = {}
                self._store.delete(n for n in before if n not in wanted or _is_manifest(n))
                for name in sorted(wanted, key=_is_manifest):
                    self._store.upload(place / name, name)
            self._state.dataset = wanted
            self._state.write(self._store)

    def close(self) -> None:
        """Send what is left and say that nobody writes here any more. Raises DataError."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join()
        if self.lost is not None:
            raise self.lost
        self._send()
        self._state.token = ""
        self._state.write(self._store)


def _is_manifest(name: str) -> bool:
    return name.endswith(".manifest.json")


@contextlib.contextmanager
def stored_run(
    config: StoreConfig, folder: StoriesFolder, reporter: Reporter, *, locks: bool
) -> Iterator[StoredRun | None]:
    """Keep a run's copy in its store while the block runs; None where the config names none.

    What the store has more of is brought here first. However the block ends, what is new is sent;
    an error that is already on its way is not replaced by another. Raises DataError.
    """
    if config.url is None:
        yield None
        return
    run = StoredRun(Store(config), folder, config.upload_seconds, reporter)
    with Lock(folder.ledgers.lock) if locks else contextlib.nullcontext():
        run.claim()
    try:
        yield run
    except BaseException as error:
        try:
            run.close()
        except TinyLLMError as late:
            if isinstance(error, TinyLLMError) and late is run.lost:
                raise late from error
            reporter.warn(f"{late.message}; all of it is in {folder.path}")
        raise
    run.close()


def restore(store: Store, state: State, folder: StoriesFolder, reporter: Reporter) -> None:
    """Bring the run's folder up to what the store has, where that is more.

    Raises DataError when neither journal is the beginning of the other.
    """
    journals = {path.name for path in folder.ledgers.journals}
    relations = {
        relation(folder.run / name, blocks, store)
        for name, blocks in state.files.items()
        if name in journals
    }
    if "other" in relations or {"longer", "shorter"} <= relations:
        raise DataError(
            f"the run in {folder.path} and the one in {store.url} went on apart from each other",
            "Another --output goes on with what is in the store; another `store.url` with this.",
        )
    if "shorter" not in relations and folder.run_file.is_file():
        return
    with reporter.stage(f"bring the run from {store.url}"):
        for name, blocks in _run_file_last(state.files, folder):
            bring(store, blocks, folder.run / name)


def read_stored(config: StoreConfig, folder: StoriesFolder) -> None:
    """Write the run as a store has it into a folder. Raises DataError when there is none."""
    store = Store(config)
    state = State.read(store)
    if state is None:
        raise DataError(f"there is no run in {store.url}", "Check --output and `store.url`.")
    for name, blocks in state.files.items():
        bring(store, blocks, folder.run / name)


def _run_file_last(
    files: Mapping[str, list[Block]], folder: StoriesFolder
) -> list[tuple[str, list[Block]]]:
    """Return the files so that a run which was brought by half is brought again."""
    return sorted(files.items(), key=lambda item: item[0] == folder.run_file.name)


def _names(folder: StoriesFolder) -> list[str]:
    """Return the names of a run's files, the journals in the order in which they may be read.

    An accepted story has its line in the attempts already: those are read last.
    """
    first = [path.name for path in folder.ledgers.journals if path.is_file()]
    rest = sorted(
        path.relative_to(folder.run).as_posix()
        for path in folder.run.rglob("*")
        if path.is_file() and not path.name.endswith(_NOT_MIRRORED)
    )
    return [*first, *(name for name in rest if name not in first)]
