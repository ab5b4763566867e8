import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinyllm.errors import DataError
from tinyllm.locks import Lock

HOLD = """
import sys
from pathlib import Path
from tinyllm.locks import Lock
with Lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(path: Path) -> "subprocess.Popen[str]":
    command = [sys.executable, "-c", HOLD, str(path)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    return holder


def test_a_lock_names_its_holder_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    holder = hold(path)
    try:
        with pytest.raises(DataError, match=rf"process {holder.pid} on .* is writing to") as caught:
            Lock(path).__enter__()
        assert caught.value.exit_code == 3
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert path.exists()
        with Lock(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
        assert not path.exists()
    finally:
        holder.kill()
        holder.communicate()
