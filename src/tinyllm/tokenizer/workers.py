"""Processes that encode texts side by side: looking words up is Python's work, one core each.

A worker is a Python started by us, which reads the tokenizer and then requests from its standard
input and answers on its standard output, until the input ends. All numbers are int64, texts are
UTF-8, ids are uint32:

    tokenizer    2, the bytes of each: tokenizer.json, the name of its end token
    request      n_texts, the bytes of each, the texts one after another
    answer       n_texts, the bytes of the ids of each, the ids one after another
"""

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from queue import SimpleQueue
from typing import IO

import numpy as np

from tinyllm.byte_level import without_surrogates
from tinyllm.errors import DataError
from tinyllm.process import cores, interrupts_held
from tinyllm.tokenizer.tokenizer import Tokenizer
from tinyllm.tokenizer.words import Ids

_MOST_WORKERS = 4
"""More would wait for the one process that reads and writes."""


class EncodingWorkers:
    """So many processes with one tokenizer; a context manager that ends them."""

    def __init__(self, tokenizer: Tokenizer, count: int | None = None) -> None:
        """Start the processes, by default one a core."""
        self.count = min(cores(), _MOST_WORKERS) if count is None else count
        self._all = [_start(tokenizer) for _ in range(self.count)]
        self._free: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
        for process in self._all:
            self._free.put(process)

    def __enter__(self) -> "EncodingWorkers":
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._all:
            process.kill()
            process.communicate()

    def encode_arrays(self, texts: Sequence[str]) -> list[Ids]:
        """Encode texts in a process that is free, as `Tokenizer.encode_arrays`; from any thread.

        Raises DataError when that process has ended.
        """
        process = self._free.get()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            _send(process.stdin, [without_surrogates(text).encode() for text in texts])
            answer = _receive(process.stdout)
        except BrokenPipeError:
            answer = None
        self._free.put(process)  # an ended one too: who waits for it has to hear of it
        if answer is None:
            raise DataError(
                f"a process that encodes text ended with exit code {process.wait()}",
                "The system may have run out of memory; run the command again.",
            )
        return [np.frombuffer(ids, np.uint32) for ids in answer]


def _start(tokenizer: Tokenizer) -> "subprocess.Popen[bytes]":
    """Start a worker that finds modules where this process does."""
    program = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as w; w.main()"
    with interrupts_held():
        process = subprocess.Popen(
            [sys.executable, "-c", program],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "TOKENIZERS_PARALLELISM": "false"},
        )
    assert process.stdin is not None
    _send(process.stdin, [tokenizer.to_json().encode(), tokenizer.end_of_text.encode()])
    return process


def main() -> None:
    """Answer requests until there are no more; Ctrl-C is for the process that asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    first = _receive(requests)
    if first is None:
        return
    layout, end_of_text = (part.decode() for part in first)
    tokenizer = Tokenizer.from_json(layout, end_of_text=end_of_text)
    while (texts := _receive(requests)) is not None:
        encoded = tokenizer.encode_arrays([text.decode() for text in texts])
        _send(answers, [ids.tobytes() for ids in encoded])


def _send(pipe: IO[bytes], parts: Sequence[bytes]) -> None:
    lengths = np.array([len(parts), *map(len, parts)], np.int64)
    pipe.write(lengths.tobytes())
    pipe.write(b"".join(parts))
    pipe.flush()


def _receive(pipe: IO[bytes]) -> list[bytes] | None:
    """Return the parts of a message, None where the other side has ended."""
    head = pipe.read(8)
    if len(head) < 8:
        return None
    lengths = np.frombuffer(pipe.read(8 * int.from_bytes(head, sys.byteorder)), np.int64)
    body = pipe.read(int(lengths.sum()))
    ends = np.cumsum(lengths).tolist()
    if len(body) < (ends[-1] if ends else 0):
        return None
    return [body[end - n : end] for end, n in zip(ends, lengths.tolist(), strict=True)]
