"""Commands run in real processes that are forked from one that has imported everything already.

A start from nothing takes seconds, and nearly all of them are imports. `warm_start` gives the path
of a command that behaves as `tinyllm` does: it sends its arguments, folder, environment and streams
to the process that imported, hands on the signals it gets, and ends as the forked process ends.
With `-c PROGRAM` in front of the arguments that program is run instead.
"""

import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.heavy import MODULES

_CLIENT = """#!{python} -IS
import json, os, signal, socket, sys
server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
server.connect({address!r})
for number in (signal.SIGINT, signal.SIGTERM):
    signal.signal(number, lambda number, _: server.send(bytes([number])))
asked = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)])
socket.send_fds(server, [asked.encode()], [0, 1, 2])
status = int(server.recv(16) or b"-9")
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
sys.exit(status)
"""
_TINYLLM = "from tinyllm.cli.app import main; main()"


@contextmanager
def warm_start(folder: Path) -> Iterator[Path]:
    """Import what trainings need in a process of its own, and give the command that forks it."""
    address = str(folder / "warm")
    command = folder / "tinyllm"
    command.write_text(_CLIENT.format(python=sys.executable, address=address))
    command.chmod(0o755)
    root = Path(__file__).parent.parent
    server = subprocess.Popen(
        [sys.executable, "-m", "tests.warm", address], cwd=root, stdout=subprocess.PIPE
    )
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"ready\n"
        yield command
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


def _serve(address: str) -> None:
    """Fork a process for everyone who asks, until killed."""
    for name in MODULES:
        importlib.import_module(name)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(address)
    listener.listen()
    gc.freeze()  # what is imported stays in shared memory
    os.write(1, b"ready\n")
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for keepers
    while True:
        asker, _ = listener.accept()
        if not os.fork():
            listener.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            _keep(asker)
        asker.close()


def _keep(asker: socket.socket) -> None:
    """Fork the process, hand signals on to it, and tell how it ended."""
    content, streams, _, _ = socket.recv_fds(asker, 2**20, 3)
    arguments, folder, environment = json.loads(content)
    child = os.fork()
    if not child:
        asker.close()
        _become(arguments, folder, environment, streams)
    for stream in streams:
        os.close(stream)
    ended = os.pidfd_open(child)
    while ended not in select.select([asker, ended], [], [])[0]:
        number = asker.recv(1)
        os.kill(child, number[0] if number else signal.SIGKILL)  # no asker, no process
        if not number:
            break
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with contextlib.suppress(BrokenPipeError):
        asker.send(str(status).encode())
    os._exit(0)


def _become(
    arguments: list[str], folder: str, environment: dict[str, str], streams: list[int]
) -> None:
    """Go on as the process that was asked for; never come back."""
    for place, stream in enumerate(streams):
        os.dup2(stream, place)
        os.close(stream)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    program = _TINYLLM
    if arguments[:1] == ["-c"]:
        _, program, *arguments = arguments
    sys.argv = ["tinyllm", *arguments]
    status = 0
    try:
        exec(program, {"__name__": "__main__"})
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    atexit._run_exitfuncs()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    os._exit(status)  # to tear down all modules takes longer than most commands


if __name__ == "__main__":
    _serve(sys.argv[1])
