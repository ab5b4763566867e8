"""Rows and batches: nothing lost, nothing twice, the same after any interruption."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.data.loader import IGNORE, N_WIDTHS, Batch, Loader, Packing
from tinyllm.data.packing import PADDING, best_fit, next_fit
from tinyllm.data.shard_writer import ShardCounts
from tinyllm.data.shards import Shards
from tinyllm.data.split import split_shards
from tinyllm.errors import ConfigError, DataError
from tinyllm.seeding import Permutation, derive_seed

END = 0


def shards_of(documents: list[list[int]], masks: list[list[bool]] | None = None) -> Shards:
    """Make shards in memory; document i is given with its end token."""
    lengths = np.array([len(d) for d in documents], np.int64)
    flat = [i for document in documents for i in document]
    mask = None if masks is None else np.array([m for row in masks for m in row], np.uint8)
    return Shards(
        ids=np.array(flat, np.uint16),
        loss_mask=mask,
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        keys=np.arange(len(documents), dtype=np.uint64) * np.uint64((2**64 - 1) // len(documents)),
        counts=ShardCounts(n_documents=len(documents), n_tokens=len(flat)),
        fingerprint="made by hand",
        folder=Path(),
    )


def numbered(lengths: list[int]) -> Shards:
    """Make documents whose ids are all different, each closed by the end token."""
    counter = iter(range(1, 60_000))
    return shards_of([[*(next(counter) for _ in range(n)), END] for n in lengths])


def same(a: Batch, b: Batch) -> bool:
    ids = (a.document_ids is None) == (b.document_ids is None)
    if a.document_ids is not None and b.document_ids is not None:
        ids = torch.equal(a.document_ids, b.document_ids)
    return ids and torch.equal(a.input_ids, b.input_ids) and torch.equal(a.targets, b.targets)


def targets_of(loader: Loader, epoch: int = 0) -> list[int]:
    return [i for b in loader.batches(epoch) for i in b.targets.flatten().tolist() if i != IGNORE]


lengths = st.lists(st.integers(0, 30), min_size=1, max_size=30)
layouts = st.sampled_from([("contiguous", True), ("documents", True), ("documents", False)])


@given(lengths, st.integers(1, 12), st.booleans(), st.integers(0, 3))
def test_contiguous_rows_train_every_token_exactly_once(
    lengths: list[int], context_length: int, shuffle: bool, epoch: int
) -> None:
    shards = numbered([*lengths, 3])
    loader = Loader(
        shards, batch_size=3, context_length=context_length, shuffle=shuffle, seed=epoch
    )
    assert Counter(targets_of(loader, epoch)) == Counter(shards.ids.tolist())
    assert loader.n_targets == shards.n_tokens


@given(lengths, st.integers(1, 12))
def test_contiguous_targets_follow_their_inputs(lengths: list[int], context_length: int) -> None:
    shards = numbered([*lengths, 3])
    stream = shards.ids.tolist()
    following = set(zip(stream, [*stream[1:], stream[0]], strict=True))
    loader = Loader(shards, batch_size=4, context_length=context_length)
    for batch in loader.batches():
        assert batch.input_ids.shape == batch.targets.shape
        assert batch.input_ids.shape[1] == context_length
        learnt = batch.targets != IGNORE
        assert learnt.any(dim=1).all()
        pairs = zip(batch.input_ids[learnt].tolist(), batch.targets[learnt].tolist(), strict=True)
        assert set(pairs) <= following


@given(lengths, st.integers(1, 12), st.booleans(), st.booleans(), st.integers(0, 3))
def test_document_rows_train_every_token_but_the_first_of_each_document(
    lengths: list[int], context_length: int, pack: bool, shuffle: bool, epoch: int
) -> None:
    shards = numbered([*lengths, 3])
    loader = Loader(
        shards,
        batch_size=3,
        context_length=context_length,
        packing="documents",
        pack=pack,
        shuffle=shuffle,
    )
    expected = Counter(
        i for d in range(shards.n_documents) for i in shards.document(d)[1:].tolist()
    )
    assert Counter(targets_of(loader, epoch)) == expected
    report = loader.report
    assert report.n_targets == sum(expected.values())
    assert report.n_documents + report.n_dropped == shards.n_documents
    assert report.n_dropped == sum(shards.lengths == 1)
    assert report.n_split == sum(shards.lengths - 1 > context_length)


@given(lengths, st.integers(1, 12), st.booleans())
def test_packed_documents_stay_whole_and_apart(
    lengths: list[int], context_length: int, shuffle: bool
) -> None:
    shards = numbered([*lengths, 3])
    loader = Loader(
        shards, batch_size=3, context_length=context_length, packing="documents", shuffle=shuffle
    )
    wanted = {
        tuple(shards.document(i)[piece : piece + context_length + 1].tolist())
        for i in range(shards.n_documents)
        for piece in range(0, int(shards.lengths[i]) - 1, context_length)
    }
    found = []
    for batch in loader.batches():
        ids = batch.document_ids
        if ids is None:
            ids = torch.where(batch.targets == IGNORE, PADDING, 0)
        for inputs, targets, row in zip(batch.input_ids, batch.targets, ids, strict=True):
            for document in row.unique().tolist():
                here = row == document
                if document == PADDING:
                    assert (targets[here] == IGNORE).all()
                else:
                    found.append((*inputs[here].tolist(), int(targets[here][-1])))
                    assert targets[here][:-1].tolist() == inputs[here][1:].tolist()
    assert len(found) == len(wanted)
    assert set(found) == wanted


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 20)), min_size=1, max_size=20),
    st.integers(1, 25),
    st.booleans(),
)
def test_every_masked_row_trains_something_and_every_document_is_used_or_reported(
    shapes: list[tuple[int, int]], context_length: int, pack: bool
) -> None:
    documents = [[*range(1, prompt + answer + 1), END] for prompt, answer in shapes]
    masks = [[False] * prompt + [True] * (answer + 1) for prompt, answer in shapes]
    shards = shards_of(documents, masks)
    teachable = [i for i, (prompt, _) in enumerate(shapes) if prompt <= context_length]
    settings = {"batch_size": 2, "context_length": context_length, "packing": "documents"}
    if not teachable:
        with pytest.raises(DataError, match="anything to learn"):
            Loader(shards, pack=pack, **settings)  # type: ignore[arg-type]
        return
    loader = Loader(shards, pack=pack, **settings)  # type: ignore[arg-type]
    n_targets = 0
    for batch in loader.batches():
        assert (batch.targets != IGNORE).any(dim=1).all()
        n_targets += batch.n_targets
    assert n_targets == loader.n_targets
    used = [i for row in range(loader.n_rows) for i in loader.documents(row, 1)]
    assert sorted(used) == teachable
    assert loader.report.n_dropped == len(shapes) - len(teachable)


@given(lengths, st.integers(1, 12), layouts, st.booleans(), st.integers(1, 5), st.integers(0, 99))
def test_rows_are_a_pure_function_of_seed_and_number(
    lengths: list[int],
    context_length: int,
    layout: tuple[str, bool],
    shuffle: bool,
    batch_size: int,
    seed: int,
) -> None:
    settings = {
        "batch_size": batch_size,
        "context_length": context_length,
        "packing": layout[0],
        "pack": layout[1],
        "shuffle": shuffle,
        "seed": seed,
    }
    shards = numbered([*lengths, 3])
    first, second = Loader(shards, **settings), Loader(shards, **settings)  # type: ignore[arg-type]
    total = 2 * first.n_rows
    consumed = [first.rows(i, batch_size) for i in range(0, total, batch_size)]
    for number, batch in reversed(list(enumerate(consumed))):
        assert same(second.rows(number * batch_size, batch_size), batch)


@given(lengths, layouts, st.integers(1, 7), st.integers(0, 60))
def test_resuming_at_any_row_equals_no_interruption(
    lengths: list[int], layout: tuple[str, bool], batch_size: int, cursor: int
) -> None:
    def fresh() -> Loader:
        return Loader(
            numbered([*lengths, 3]),
            batch_size=batch_size,
            context_length=7,
            packing="contiguous" if layout[0] == "contiguous" else "documents",
            pack=layout[1],
            seed=5,
        )

    whole, resumed = fresh(), fresh()
    for row in range(cursor + 3):
        expected = whole.rows(row, 1)
        if row >= cursor:
            assert same(resumed.rows(row, 1), expected)


@pytest.mark.parametrize(("packing", "pack"), [("contiguous", True), ("documents", True)])
def test_epochs_differ_when_shuffled_and_repeat_when_not(packing: str, pack: bool) -> None:
    shards = numbered([5, 9, 2, 7, 11, 3] * 5)
    for shuffle in (True, False):
        loader = Loader(
            shards,
            batch_size=100,
            context_length=8,
            packing=packing,  # type: ignore[arg-type]
            pack=pack,
            shuffle=shuffle,
        )
        (first,), (second,) = list(loader.batches(0)), list(loader.batches(1))
        assert same(first, second) != shuffle
        other_seed = Loader(
            shards,
            batch_size=100,
            context_length=8,
            packing=packing,  # type: ignore[arg-type]
            pack=pack,
            shuffle=shuffle,
            seed=1,
        )
        assert same(first, next(other_seed.batches(0))) != shuffle


def test_without_shuffling_rows_keep_the_order_of_the_text() -> None:
    shards = numbered([4, 9, 2, 7, 3])
    for packing in ("contiguous", "documents"):
        loader = Loader(
            shards,
            batch_size=2,
            context_length=10,
            packing=packing,  # type: ignore[arg-type]
            shuffle=False,
        )
        seen = [i for b in loader.batches() for i in b.input_ids[b.targets != IGNORE].tolist()]
        words = [i for i in seen if i != END]
        assert words == sorted(words)


def test_a_batch_may_reach_over_the_end_of_an_epoch() -> None:
    loader = Loader(
        numbered([3, 5, 8, 2]), batch_size=4, context_length=6, packing="documents", pack=False
    )
    batch = loader.rows(2, 4)
    assert batch.input_ids.shape[0] == 4
    for i in range(4):
        row = loader.rows(2 + i, 1)
        width = row.input_ids.shape[1]
        assert torch.equal(batch.input_ids[i, :width], row.input_ids[0])
        assert torch.equal(batch.targets[i, :width], row.targets[0])
        assert (batch.targets[i, width:] == IGNORE).all()


def test_rows_end_soon_after_the_longest_document_of_the_batch() -> None:
    loader = Loader(
        numbered([3, 5, 2]), batch_size=3, context_length=100, packing="documents", pack=False
    )
    assert loader.rows(0, 3).input_ids.shape == (3, 7)
    assert loader.rows(0, 3).document_ids is None


@given(st.integers(1, 300))
def test_there_are_few_different_widths(context_length: int) -> None:
    lengths = list(range(1, context_length + 1))
    loader = Loader(
        numbered(lengths),
        batch_size=1,
        context_length=context_length,
        packing="documents",
        pack=False,
        shuffle=False,
    )
    widths = [batch.input_ids.shape[1] for batch in loader.batches()]
    assert len(set(widths)) <= N_WIDTHS
    assert max(widths) <= context_length
    assert all(width >= length for width, length in zip(sorted(widths), lengths, strict=False))


def test_texts_that_are_all_longer_than_the_row_go_on_in_further_rows() -> None:
    loader = Loader(numbered([50] * 7), batch_size=2, context_length=8, packing="documents")
    assert loader.n_targets == 7 * 50
    assert sum(batch.n_targets for batch in loader.batches()) == 7 * 50
    assert loader.report.n_split == 7
    assert "7 go on over several rows" in loader.report.summary()


def test_conversations_that_are_all_longer_than_the_row_are_cut_and_counted() -> None:
    documents = [[*range(1, 50), END]] * 7
    shards = shards_of(documents, [[False] * 3 + [True] * 47] * 7)
    loader = Loader(shards, batch_size=2, context_length=8, packing="documents")
    assert len(list(loader.batches())) == 4
    assert (loader.report.n_cut, loader.report.n_tokens_cut) == (7, 7 * 41)
    assert loader.n_targets == 7 * 6
    assert "7 cut" in loader.report.summary()


@given(st.lists(st.integers(1, 20), min_size=1, max_size=60))
def test_no_row_is_overfilled_and_best_fit_leaves_no_two_that_fit_in_one(spans: list[int]) -> None:
    array = np.array(spans, np.int64)
    rows = best_fit(array, 20)
    filled = np.bincount(rows, weights=array)
    assert filled.max() <= 20
    assert set(rows.tolist()) == set(range(int(rows.max()) + 1))
    assert len(filled) == 1 or np.partition(filled, 1)[:2].sum() > 20
    assert np.bincount(next_fit(array, 20), weights=array).max() <= 20


@pytest.mark.parametrize("shuffle", [True, False])
def test_a_part_of_the_documents_streams_without_the_others(shuffle: bool) -> None:
    shards = numbered([5] * 200)
    for part in split_shards(shards, 0.2):
        loader = Loader(part, batch_size=8, context_length=7, shuffle=shuffle)
        expected = [i for d in range(part.n_documents) for i in part.document(d).tolist()]
        assert Counter(targets_of(loader)) == Counter(expected)


def test_documents_of_rows_are_named() -> None:
    shards = numbered([4, 9, 2, 7, 3])
    packed = Loader(shards, batch_size=2, context_length=10, packing="documents", shuffle=False)
    assert packed.documents(0, packed.n_rows) == [0, 1, 2, 3, 4]
    stream = Loader(shards, batch_size=2, context_length=10, shuffle=False)
    assert stream.documents(0, 1) == [0, 1]


def test_unusable_requests_are_refused() -> None:
    with pytest.raises(DataError, match="too few"):
        Loader(shards_of([[END]]), batch_size=1, context_length=4)
    with pytest.raises(ConfigError, match="batch_size 0"):
        Loader(numbered([4]), batch_size=0, context_length=4)
    masked = shards_of([[1, 2, END]], [[False, True, True]])
    with pytest.raises(ConfigError, match="cut conversations apart"):
        Loader(masked, batch_size=1, context_length=4)


def test_identity_tells_loaders_apart() -> None:
    shards = numbered([4, 5])
    first = Loader(shards, batch_size=1, context_length=4)
    assert first.identity == Loader(shards, batch_size=2, context_length=4).identity
    assert first.identity != Loader(shards, batch_size=1, context_length=5).identity
    assert first.identity != Loader(shards, batch_size=1, context_length=4, seed=1).identity


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(1, 25)), min_size=1, max_size=6),
    st.sampled_from(["contiguous", "documents"]),
)
def test_rows_do_not_depend_on_which_were_asked_for_before(
    asked: list[tuple[int, int]], packing: Packing
) -> None:
    shards = numbered([5, 9, 2, 7, 12, 3, 8, 6, 4, 10])

    def loader() -> Loader:
        return Loader(shards, batch_size=2, context_length=6, packing=packing, pack=False, seed=3)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyllm.data.loader.ORDER_BLOCK", 4)
        patch.setattr("tinyllm.data.loader.READ_AHEAD_TOKENS", 42)
        used = loader()
        for first, count in asked:
            assert same(used.rows(first, count), loader().rows(first, count))


@pytest.mark.parametrize("epoch", [0, 3])
def test_rows_come_in_the_order_of_the_seeded_permutation(epoch: int) -> None:
    n = 50
    loader = Loader(
        numbered([4] * n), batch_size=2, context_length=8, packing="documents", pack=False, seed=5
    )
    order = Permutation(n, derive_seed(5, "row order", epoch), "rows")
    assert [loader.documents(epoch * n + i, 1) for i in range(n)] == [[i] for i in order]
