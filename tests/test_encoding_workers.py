"""Processes that encode: the same ids, and one sentence when a process is gone."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.tiny import TEXT, tiny_tokenizer
from tinyllm.errors import DataError
from tinyllm.tokenizer.workers import EncodingWorkers

TOKENIZER = tiny_tokenizer("bpe")


def test_processes_encode_as_the_tokenizer_does_whoever_asks() -> None:
    requests = [[TEXT, "", "naïve 🌍 \ud800"], [], ["a"], [TEXT * 50] * 3] * 3
    with EncodingWorkers(TOKENIZER, 2) as workers, ThreadPoolExecutor(3) as pool:
        answers = list(pool.map(workers.encode_arrays, requests))
    for texts, answer in zip(requests, answers, strict=True):
        assert [ids.tolist() for ids in answer] == TOKENIZER.encode_batch(texts)


def test_a_process_that_is_gone_is_told_in_one_sentence() -> None:
    with EncodingWorkers(TOKENIZER, 1) as workers:
        workers.encode_arrays(["a"])
        workers._all[0].kill()
        with pytest.raises(DataError, match="ended with exit code -9"):
            workers.encode_arrays([TEXT * 100])
        with pytest.raises(DataError, match="ended with exit code -9"):  # and no waiting for ever
            workers.encode_arrays(["a"])
