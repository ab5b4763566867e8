"""Loss of a text: every byte counted once, the same for any batch, window by window."""

import json
import math

import numpy as np
import pytest
import torch

from tests.tiny import TEXT, tiny_loaded
from tinyllm.chat_template import render
from tinyllm.config.evaluation import EvalLossConfig
from tinyllm.data.sources import read_conversations
from tinyllm.errors import DataError
from tinyllm.evaluation.loss import (
    DocumentLoss,
    bits_per_byte_values,
    measure,
    measure_documents,
    was_trained_on_whole_documents,
)
from tinyllm.evaluation.statistics import cluster_bootstrap_interval, mean
from tinyllm.reporting import SilentReporter

DOCUMENTS = ["Once upon a time there was a fox.", "naïve 🌍", "The sun gives light. " * 3]


def text_file(tmp_path, documents):
    path = tmp_path / "text.txt"
    path.write_text("".join(f"{d}\n<|endoftext|>\n" for d in documents), encoding="utf-8")
    return str(path)


def loss_of(loaded, source, **options):
    return measure(loaded, EvalLossConfig(data=source, **options), SilentReporter())


def naive(loaded, ids, first=1):
    with torch.inference_mode():
        log_odds = loaded.model(torch.tensor([ids[:-1]]))[0].double().log_softmax(-1)
    return -sum(float(log_odds[i - 1, ids[i]]) for i in range(first, len(ids)))


def test_it_is_the_mean_over_all_tokens_and_ends(plain, tmp_path):
    end = plain.tokenizer.end_of_text_id
    rows = [[end, *plain.tokenizer.encode(text), end] for text in DOCUMENTS]
    loss = loss_of(plain, text_file(tmp_path, DOCUMENTS))
    total, n_tokens = sum(naive(plain, ids) for ids in rows), sum(len(ids) - 1 for ids in rows)
    n_bytes = sum(len(text.encode()) for text in DOCUMENTS)
    assert (loss.n_tokens, loss.n_bytes, loss.n_documents) == (n_tokens, n_bytes, 3)
    assert loss.nats_per_token == pytest.approx(total / n_tokens, rel=1e-5)
    assert loss.perplexity == pytest.approx(math.exp(total / n_tokens), rel=1e-4)
    assert loss.bits_per_byte == pytest.approx(total / math.log(2) / n_bytes, rel=1e-5)


def test_a_model_that_knows_nothing_needs_the_logarithm_of_its_vocabulary(tmp_path):
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight.zero_()
    loss = loss_of(loaded, text_file(tmp_path, DOCUMENTS))
    assert loss.nats_per_token == pytest.approx(math.log(loaded.tokenizer.vocab_size), rel=1e-6)


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.9])
def test_a_text_longer_than_the_context_is_scored_to_its_end(plain, tmp_path, overlap):
    loss = loss_of(plain, text_file(tmp_path, [TEXT * 3]), overlap=overlap)
    assert loss.n_tokens == len(plain.tokenizer.encode((TEXT * 3).strip())) + 1
    assert loss.n_windows >= 8


def test_the_batch_size_does_not_matter(plain, tmp_path):
    source = text_file(tmp_path, [TEXT, *DOCUMENTS])
    one, many = (loss_of(plain, source, batch_size=size) for size in (1, 64))
    assert one.nats_per_token == pytest.approx(many.nats_per_token, rel=1e-6)
    assert one.n_tokens == many.n_tokens


def test_a_limit_takes_the_first_documents(plain, tmp_path):
    assert loss_of(plain, text_file(tmp_path, DOCUMENTS), max_documents=2).n_documents == 2


def test_of_conversations_only_the_answers_count(chatty, tmp_path):
    path = tmp_path / "talk.jsonl"
    path.write_text(
        json.dumps({"instruction": "What gives light?", "input": "", "output": "the sun"})
        + "\n"
        + json.dumps({"instruction": "And rain?", "input": "", "output": "clouds"})
        + "\n"
    )
    loss = loss_of(chatty, str(path))
    expected, n_tokens = 0.0, 0
    for conversation in read_conversations(str(path)):
        example = render(conversation, chatty.tokenizer, chatty.template)
        first = example.loss_mask.index(True)
        expected += naive(chatty, example.ids, first)
        n_tokens += sum(example.loss_mask)
    assert (loss.format, loss.n_tokens) == ("conversations", n_tokens)
    assert loss.n_bytes == len("the sunclouds")
    assert loss.nats_per_token == pytest.approx(expected / n_tokens, rel=1e-5)


def test_a_model_trained_on_whole_documents_is_not_asked_for_their_first_token(tmp_path):
    loaded = tiny_loaded(training={"config": {"data": {"packing": "documents"}}})
    assert was_trained_on_whole_documents(loaded.info.training)
    ids = [*loaded.tokenizer.encode(DOCUMENTS[0]), loaded.tokenizer.end_of_text_id]
    loss = loss_of(loaded, text_file(tmp_path, DOCUMENTS[:1]))
    assert loss.n_tokens == len(ids) - 1
    assert loss.n_bytes == len(DOCUMENTS[0]) - len(loaded.tokenizer.token_bytes(ids[0]))
    assert loss.nats_per_token * loss.n_tokens == pytest.approx(naive(loaded, ids), rel=1e-5)


def test_unknown_characters_are_counted(tmp_path):
    loaded = tiny_loaded(kind="char")
    assert loss_of(loaded, text_file(tmp_path, ["foxЖ"])).unknown_share == pytest.approx(1 / 5)


def test_an_empty_text_is_refused(plain, tmp_path):
    path = tmp_path / "empty.txt"
    path.write_text("")
    with pytest.raises(DataError):
        loss_of(plain, str(path))


def test_what_documents_cost_adds_up(plain, tmp_path):
    config = EvalLossConfig(data=text_file(tmp_path, DOCUMENTS))
    loss, documents = measure_documents(plain, config, SilentReporter())
    assert len({d.id for d in documents}) == 3
    assert sum(d.nats for d in documents) / loss.n_tokens == pytest.approx(loss.nats_per_token)
    assert mean(bits_per_byte_values(documents)) == pytest.approx(loss.bits_per_byte)
    assert loss.interval_95.low <= loss.bits_per_byte <= loss.interval_95.high


def test_one_document_has_no_interval(plain, tmp_path):
    assert loss_of(plain, text_file(tmp_path, DOCUMENTS[:1])).interval_95 is None


def test_the_interval_covers_the_bits_per_byte_of_all_texts():
    generator = np.random.default_rng(2)
    n_covered = 0
    for trial in range(300):
        sizes = generator.integers(20, 2000, 60)  # bytes; long texts are predicted better
        nats = sizes * (0.8 - sizes / 10_000) * generator.normal(1, 0.1, 60)
        documents = [
            DocumentLoss(str(i), float(cost), 1, int(size))
            for i, (cost, size) in enumerate(zip(nats, sizes, strict=True))
        ]
        values = [[value] for value in bits_per_byte_values(documents)]
        low, high = cluster_bootstrap_interval(values, seed=trial)
        n_covered += low <= EXPECTED_BITS <= high
    assert 0.912 <= n_covered / 300 <= 0.988


_SIZES = np.arange(20, 2000)
EXPECTED_BITS = float((_SIZES * (0.8 - _SIZES / 10_000)).sum() / _SIZES.sum() / math.log(2))
