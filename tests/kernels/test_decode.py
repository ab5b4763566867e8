"""Native decoding says what the plain network says, by whatever calls the tokens arrive."""

import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.kernels import decode_edges
from tests.model.shapes import SHAPES, VOCAB, build, small, tokens
from tinyllm.kernels import build as build_room
from tinyllm.kernels.decode import Chooser, KernelsUnavailable, NativeDecoder
from tinyllm.kernels.decode_memory import Dtype
from tinyllm.model.transformer import Transformer

needs_compiler = pytest.mark.skipif(
    not build_room.available(), reason="needs a C++ compiler (Debian: g++)"
)

DTYPES: tuple[Dtype, ...] = ("float32", "bfloat16", "int8")
TOLERANCE = 1e-4
MOST_NATS: dict[Dtype, float] = {"float32": 1e-8, "bfloat16": 1e-3, "int8": 5e-3}
"""Mean Kullback-Leibler divergence from float32 over random positions; measured 1e-4 and 1e-3."""
MOST_LOGIT_ERROR: dict[Dtype, float] = {"float32": TOLERANCE, "bfloat16": 0.25, "int8": 0.8}
"""Of logits that reach 4 to 6, at weights ten times as wide as training begins with."""

ODD = {
    "odd-widths": small(hidden_size=30, n_heads=5, intermediate_size=37),
    "head-of-two": small(hidden_size=8, n_heads=4, intermediate_size=5),
    "wide-head": small(hidden_size=96, n_heads=2, n_kv_heads=1, intermediate_size=200),
    "gpt-neo-odd": small(family="gpt-neo", hidden_size=27, n_heads=3, intermediate_size=50),
}
ALL_SHAPES = {**SHAPES, **ODD}
MANY_PANELS = [
    small(hidden_size=224, n_heads=4, n_layers=2, intermediate_size=300),
    small(family="gpt-neo", hidden_size=160, n_heads=4, n_layers=2, intermediate_size=360),
]
"""Wide enough that a lone token meets several panels of weights at once, and some are left over."""


@pytest.fixture(scope="module", autouse=True)
def _small_work_is_shared() -> Iterator[None]:
    """Let several threads share models so small that one would do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tinyllm.kernels.decode._BYTES_PER_THREAD", 1)
        patch.setattr("tinyllm.kernels.decode._BRIEF_READING", 0)
        yield


def weights_of(model: Transformer) -> dict[str, NDArray[np.float32]]:
    return {name: value.detach().numpy() for name, value in model.named_parameters()}


def decoder_of(model: Transformer, dtype: Dtype = "float32", n_threads: int = 2) -> NativeDecoder:
    return NativeDecoder(model.config, weights_of(model), dtype=dtype, n_threads=n_threads)


def plain_logits(model: Transformer, ids: torch.Tensor) -> NDArray[np.float32]:
    with torch.no_grad():
        logits: NDArray[np.float32] = model(ids).numpy()
    return logits


def by_steps(decoder: NativeDecoder, ids: torch.Tensor) -> NDArray[np.float32]:
    """Read all rows of ids (B, T) token by token; logits (B, T, V)."""
    cache = decoder.allocate(len(ids), decoder.config.context_length)
    rows = np.arange(len(ids))
    return np.stack([decoder.step(cache, rows, column) for column in ids.numpy().T], axis=1)


@needs_compiler
@pytest.mark.parametrize("length", [1, 17, 48])
@pytest.mark.parametrize("name", ALL_SHAPES)
def test_float32_logits_are_the_plain_network_s(name: str, length: int) -> None:
    model = build(ALL_SHAPES[name])
    decoder, ids = decoder_of(model), tokens(3, length)
    wanted = plain_logits(model, ids)
    np.testing.assert_allclose(by_steps(decoder, ids), wanted, atol=TOLERANCE, rtol=0)
    cache = decoder.allocate(3, length)
    for row in range(3):
        found = decoder.prefill(cache, row, ids[row].tolist())
        np.testing.assert_allclose(found, wanted[row, -1], atol=TOLERANCE, rtol=0)


@needs_compiler
@given(data=st.data())
@settings(max_examples=25)
def test_any_shape_decodes_as_the_plain_network_does(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(["llama", "gpt-neo"]))
    n_kv_heads = data.draw(st.integers(1, 3))
    group = data.draw(st.integers(1, 3)) if family == "llama" else 1
    n_heads = n_kv_heads * group
    head_dim = data.draw(st.integers(1, 20)) * (2 if family == "llama" else 1)
    config = small(
        family=family,
        n_layers=2,
        n_heads=n_heads,
        n_kv_heads=n_kv_heads,
        hidden_size=n_heads * head_dim,
        intermediate_size=data.draw(st.integers(1, 80)),
        qk_norm=family == "llama" and data.draw(st.booleans()),
        tie_embeddings=data.draw(st.booleans()),
        attention_window=data.draw(st.integers(1, 60)),
    )
    model = build(config, seed=data.draw(st.integers(0, 99)))
    ids = tokens(2, data.draw(st.integers(1, 48)))
    wanted = plain_logits(model, ids)
    decoder = decoder_of(model, n_threads=data.draw(st.integers(1, 3)))
    scale = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(by_steps(decoder, ids), wanted, atol=TOLERANCE * scale, rtol=0)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALL_SHAPES)
def test_prefill_is_steps_is_a_batch(name: str, dtype: Dtype) -> None:
    decoder, ids = decoder_of(build(ALL_SHAPES[name]), dtype), tokens(5, 33)
    tolerance = MOST_LOGIT_ERROR[dtype]  # sums of another order round to other bf16 and int8
    batched = by_steps(decoder, ids)
    for row, part in ((0, 33), (3, 20)):
        alone = by_steps(decoder, ids[row : row + 1])[0]
        np.testing.assert_allclose(batched[row], alone, atol=tolerance, rtol=0)
        cache = decoder.allocate(1, 40)
        decoder.prefill(cache, 0, ids[row, : part // 2].tolist())
        last = decoder.prefill(cache, 0, ids[row, part // 2 : part].tolist())
        np.testing.assert_allclose(last, alone[part - 1], atol=tolerance, rtol=0)


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHAPES)
def test_divergence_from_float32_is_bounded(name: str, dtype: Dtype) -> None:
    model, ids = build(SHAPES[name]), tokens(8, 48)
    wanted = torch.from_numpy(plain_logits(model, ids))
    found = torch.from_numpy(by_steps(decoder_of(model, dtype), ids))
    assert (found - wanted).abs().max() < MOST_LOGIT_ERROR[dtype]
    true, ours = wanted.log_softmax(-1), found.log_softmax(-1)
    nats = (true.exp() * (true - ours)).sum(-1).mean()
    assert nats < MOST_NATS[dtype]


@needs_compiler
def test_rows_of_unequal_length_step_together() -> None:
    model = build(SHAPES["llama-grouped-normed-untied"])
    decoder, ids = decoder_of(model), tokens(3, 30)
    cache = decoder.allocate(4, 48)
    lengths = {2: 5, 0: 29, 1: 17}
    for row, length in lengths.items():
        decoder.prefill(cache, row, ids[row, :length].tolist())
    found = decoder.step(cache, np.array([1, 2, 0]), ids[[1, 2, 0], [17, 5, 29]].numpy())
    wanted = plain_logits(model, ids)
    np.testing.assert_allclose(found, wanted[[1, 2, 0], [17, 5, 29]], atol=TOLERANCE, rtol=0)
    assert cache.lengths.tolist() == [30, 18, 6, 0]


@needs_compiler
@pytest.mark.parametrize("name", SHAPES)
def test_a_long_prompt_is_read_in_parts(name: str) -> None:
    config = SHAPES[name].model_copy(update={"context_length": 700})
    model = build(config)
    ids = tokens(1, 700)
    decoder = decoder_of(model)
    found = decoder.prefill(decoder.allocate(1, 700), 0, ids[0].tolist())
    np.testing.assert_allclose(found, plain_logits(model, ids)[0, -1], atol=TOLERANCE, rtol=0)


@needs_compiler
def test_truncated_and_copied_rows_go_on_as_if_read_anew() -> None:
    model = build(SHAPES["llama"])
    decoder, ids = decoder_of(model), tokens(2, 40)
    cache = decoder.allocate(3, 48)
    decoder.prefill(cache, 0, ids[0].tolist())
    cache.truncate(0, 21)
    cache.copy_row(0, 2)
    mixed = torch.cat((ids[0, :21], ids[1, 21:]))
    wanted = plain_logits(model, mixed.unsqueeze(0))[0, -1]
    for row in (0, 2):
        found = decoder.prefill(cache, row, mixed[21:].tolist())
        np.testing.assert_allclose(found, wanted, atol=TOLERANCE, rtol=0)
    assert cache.lengths.tolist() == [40, 0, 40]


@needs_compiler
def test_a_cache_grows_and_keeps_its_rows() -> None:
    decoder, ids = decoder_of(build(SHAPES["gpt-neo"])), tokens(3, 40)
    small, large = decoder.allocate(2, 20), decoder.allocate(3, 48)
    for cache in (small, large):
        decoder.read(cache, {0: ids[0, :19].numpy(), 1: ids[1, :5].numpy()})
    small.grow(3, 40)
    for cache in (small, large):
        decoder.read(cache, {2: ids[2].numpy(), 1: ids[1, 5:39].numpy()})
    found, wanted = (decoder.step(c, np.array([0, 1]), np.array([3, 4])) for c in (small, large))
    np.testing.assert_array_equal(found, wanted)
    assert small.lengths.tolist() == [20, 40, 40]
    with pytest.raises(ValueError, match="exceed"):
        decoder.step(small, np.array([1]), np.array([1]))


@needs_compiler
def test_what_is_not_a_number_spoils_only_what_comes_after_it() -> None:
    model = build(SHAPES["llama-grouped-normed-untied"])
    weights = weights_of(model)
    clean = NativeDecoder(model.config, weights, dtype="float32", n_threads=2)
    embeddings = weights["model.embed_tokens.weight"].copy()
    embeddings[7] = np.nan
    poisoned = {**weights, "model.embed_tokens.weight": embeddings}
    decoder = NativeDecoder(model.config, poisoned, dtype="float32", n_threads=2)
    cache = decoder.allocate(2, 48)
    beginning, rest = [1, 2, 3, 4, 5], [6, 8]
    assert np.isnan(decoder.prefill(cache, 0, [*beginning, 7, 9])).all()
    cache.copy_row(0, 1, len(beginning))
    cache.truncate(0, len(beginning))
    wanted = clean.prefill(clean.allocate(1, 48), 0, [*beginning, *rest])
    for row in (0, 1):
        np.testing.assert_array_equal(decoder.prefill(cache, row, rest), wanted)


@needs_compiler
@given(data=st.data())
@settings(max_examples=30)
def test_logits_depend_on_a_row_s_tokens_alone_to_the_bit(data: st.DataObject) -> None:
    """Neither on the rows beside it, nor on the pieces it is read in, nor on the threads."""
    model = build(data.draw(st.sampled_from([*ALL_SHAPES.values(), *MANY_PANELS])))
    dtype = data.draw(st.sampled_from(DTYPES))
    n_rows = data.draw(st.sampled_from([2, 3, 5, 14, 15, 29, 64]))
    length = data.draw(st.integers(2, 40))
    ids = tokens(n_rows, length + 3, seed=data.draw(st.integers(0, 9))).numpy()
    alone = decoder_of(model, dtype, n_threads=1)
    wanted = []
    for row in ids:
        cache = alone.allocate(1, 48)
        logits = [alone.prefill(cache, 0, row[:length])]
        logits += [
            alone.step(cache, np.zeros(1, np.int64), row[i : i + 1])[0]
            for i in range(length, length + 3)
        ]
        wanted.append(logits)
    decoder = decoder_of(model, dtype, n_threads=data.draw(st.integers(1, 3)))
    cache = decoder.allocate(n_rows, 48)
    first = data.draw(st.integers(0, length - 1))
    decoder.read(cache, {row: ids[row, :first] for row in range(n_rows)})
    for row in data.draw(st.permutations(range(n_rows)))[:5]:
        decoder.read(cache, {row: ids[row, first : length - 1]})
    behind = {row: ids[row, cache.lengths[row] : length - 1] for row in range(n_rows)}
    decoder.read(cache, {row: rest for row, rest in behind.items() if len(rest)})
    for step, column in enumerate([length - 1, *(length + i for i in range(3))]):
        rows = np.arange(n_rows)
        found = decoder.step(cache, rows, ids[:, column])
        np.testing.assert_array_equal(found, [logits[step] for logits in wanted])


@needs_compiler
@pytest.mark.parametrize("dtype", DTYPES)
def test_decode_is_steps_with_the_likeliest_token(dtype: Dtype) -> None:
    decoder = decoder_of(build(SHAPES["llama"]), dtype)
    rows, first = np.arange(3), np.array([5, 6, 7])
    cache = decoder.allocate(3, 40)
    found = decoder.decode(cache, rows, first, 30, Chooser(decoder.likeliest, [0] * 3))
    again, chosen = decoder.allocate(3, 40), [first]
    for _ in range(30):
        chosen.append(decoder.step(again, rows, chosen[-1]).argmax(-1))
    assert found.tolist() == np.stack(chosen[1:], axis=1).tolist()
    assert cache.lengths.tolist() == [30, 30, 30]


@needs_compiler
@settings(max_examples=20)
@given(n_rows=st.integers(10, 90), n_threads=st.integers(1, 3), data=st.data())
def test_rows_that_write_in_groups_write_what_they_do_alone(
    n_rows: int, n_threads: int, data: st.DataObject
) -> None:
    """Groups have a limit of rows and of weights; rows start with texts of different lengths."""
    model, dtype = build(SHAPES["llama"]), data.draw(st.sampled_from(DTYPES))
    decoder = decoder_of(model, dtype, n_threads=n_threads)
    ids = tokens(n_rows, 8, seed=n_rows).numpy()
    lengths = data.draw(st.lists(st.integers(1, 7), min_size=n_rows, max_size=n_rows))
    alone, cache = decoder.allocate(n_rows, 40), decoder.allocate(n_rows, 40)
    texts = {row: ids[row, :n] for row, n in enumerate(lengths)}
    for one in (alone, cache):
        decoder.read(one, texts)
    rows = np.array(data.draw(st.permutations(range(n_rows))))
    found = decoder.decode(cache, rows, ids[rows, 7], 9, Chooser(decoder.likeliest, [0] * n_rows))
    for row, chosen in zip(rows, found, strict=True):
        one = decoder.decode(alone, row[None], ids[row, 7:], 9, Chooser(decoder.likeliest, [0]))
        assert chosen.tolist() == one[0].tolist()
    assert cache.lengths.tolist() == alone.lengths.tolist()


@needs_compiler
def test_a_crowded_machine_changes_no_token() -> None:
    decoder = decoder_of(build(SHAPES["llama"]))
    rows, first = np.arange(2), np.array([5, 6])
    greedy = Chooser(decoder.likeliest, [0] * 2)
    wanted = decoder.decode(decoder.allocate(2, 40), rows, first, 30, greedy)
    decoder._crowd[:] = 7  # as after two lost waits: seven steps alone, then all together again
    found = decoder.decode(decoder.allocate(2, 40), rows, first, 30, greedy)
    assert found.tolist() == wanted.tolist()
    assert decoder._crowd[0] != 7


@needs_compiler
def test_decode_leaves_a_row_at_its_end_and_goes_on_with_the_others() -> None:
    import ctypes

    decoder = decoder_of(build(SHAPES["llama"]), n_threads=1)
    kind = ctypes.CFUNCTYPE(
        ctypes.c_int64, ctypes.POINTER(ctypes.c_float), ctypes.c_int64, ctypes.c_void_p
    )
    budgets = (ctypes.c_int64 * 3)(2, 9, 4)

    def choose(logits: object, vocab_size: int, state: int) -> int:
        left = ctypes.c_int64.from_address(state)
        left.value -= 1
        values = np.ctypeslib.as_array(logits, (vocab_size,))  # type: ignore[call-overload]
        return int(values.argmax()) if left.value >= 0 else -1

    function = kind(choose)
    address = ctypes.cast(function, ctypes.c_void_p).value
    assert address is not None
    states = [ctypes.addressof(budgets) + 8 * i for i in range(3)]
    first, cache = np.array([5, 6, 7]), decoder.allocate(3, 40)
    found = decoder.decode(cache, np.array([0, 1, 2]), first, 6, Chooser(address, states))
    whole = decoder.decode(
        decoder.allocate(3, 40), np.arange(3), first, 6, Chooser(decoder.likeliest, [0] * 3)
    )
    for row, n_chosen in enumerate((2, 6, 4)):
        assert found[row, :n_chosen].tolist() == whole[row, :n_chosen].tolist()
        assert (found[row, n_chosen:] == -1).all()
    assert cache.lengths.tolist() == [3, 6, 5]


@needs_compiler
def test_weights_shrink_with_their_format() -> None:
    model = build(small(hidden_size=256, intermediate_size=512, n_heads=4))
    sizes = {dtype: decoder_of(model, dtype).nbytes_weights for dtype in DTYPES}
    assert sizes["bfloat16"] == sizes["float32"] / 2
    assert sizes["float32"] / 4 < sizes["int8"] < sizes["float32"] / 3.7


@needs_compiler
def test_mistakes_are_named() -> None:
    model = build(SHAPES["llama"])
    decoder = decoder_of(model)
    cache = decoder.allocate(2, 4)
    with pytest.raises(ValueError, match="exceed the cache's 4"):
        decoder.prefill(cache, 0, [1, 2, 3, 4, 5])
    with pytest.raises(ValueError, match=f"0 to {VOCAB - 1}"):
        decoder.prefill(cache, 0, [VOCAB])
    with pytest.raises(ValueError, match="0 to 1"):
        decoder.step(cache, np.array([2]), np.array([1]))
    with pytest.raises(ValueError, match="named once"):
        decoder.step(cache, np.array([1, 1]), np.array([1, 1]))
    with pytest.raises(ValueError, match="context_length 48"):
        decoder.allocate(1, 49)
    with pytest.raises(ValueError, match="holds 0 tokens"):
        cache.truncate(0, 1)
    assert cache.lengths.tolist() == [0, 0]
    weights = weights_of(model)
    weights["model.norm.weight"] = weights["model.norm.weight"][1:]
    with pytest.raises(ValueError, match=r"model\.norm\.weight is \(31,\)"):
        NativeDecoder(model.config, weights, dtype="float32", n_threads=1)


@pytest.fixture
def kernels_off(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Behave as if no native code could be built."""
    monkeypatch.setattr("tinyllm.kernels.decode_memory.load_library", lambda _: None)
    return


@pytest.mark.usefixtures("kernels_off")
def test_without_native_code_load_answers_none() -> None:
    model = build(SHAPES["llama"])
    assert NativeDecoder.load(model.config, weights_of(model), dtype="int8", n_threads=1) is None
    with pytest.raises(KernelsUnavailable):
        decoder_of(model)


def test_decoding_needs_no_torch() -> None:
    script = "import sys, tinyllm.kernels.decode; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


_ELSEWHERE = """
import ctypes, sys
from tinyllm.kernels import decode, decode_memory

library = ctypes.CDLL(sys.argv[1])
decode_memory.load_library = lambda _: library
decode._BYTES_PER_THREAD, decode._BRIEF_READING = 1, 0
sys.path.insert(0, sys.argv[2])
from tests.kernels import decode_edges

getattr(decode_edges, sys.argv[3])(*sys.argv[4:])
"""


def run_with_library(
    built: Path, function: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Call a function of decode_edges.py in a process of its own, with another decode library."""
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", _ELSEWHERE, str(built), str(root), function, *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def compiled(target: Path, *flags: str) -> Path:
    """Compile decode.cpp with flags of its own."""
    compiler = build_room.find_compiler()
    assert compiler is not None
    source = Path(build_room.__file__).parent / "decode.cpp"
    command = build_room.compile_command(compiler, source, target, {}, ("-fopenmp", *flags))
    subprocess.run(command, check=True, capture_output=True)
    return target


@pytest.mark.long
@needs_compiler
def test_no_access_is_out_of_bounds(tmp_path: Path) -> None:
    compiler = build_room.find_compiler()
    assert compiler is not None
    sanitizers = ("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-O1", "-g")
    built = compiled(tmp_path / "decode.so", *sanitizers)
    runtime = subprocess.run(
        [*compiler.command, "-print-file-name=libasan.so"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    done = run_with_library(
        built, "reach_every_edge", LD_PRELOAD=runtime, ASAN_OPTIONS="detect_leaks=0"
    )
    assert done.returncode == 0, done.stderr[-4000:]


@pytest.mark.long
@needs_compiler
@pytest.mark.skipif(platform.machine() != "x86_64", reason="names x86 processors")
@pytest.mark.parametrize("processor", ["x86-64", "haswell", "skylake-avx512"])
def test_other_processors_say_the_same(tmp_path: Path, processor: str) -> None:
    ours = tmp_path / "ours.npz"
    decode_edges.save_logits(str(ours))
    built = compiled(tmp_path / "decode.so", f"-march={processor}")
    theirs = tmp_path / "theirs.npz"
    done = run_with_library(built, "save_logits", str(theirs))
    assert done.returncode == 0, done.stderr[-4000:]
    with np.load(ours) as wanted, np.load(theirs) as found:
        for name, logits in wanted.items():
            tolerance = TOLERANCE if name.endswith("float32") else 0.05 * np.abs(logits).max()
            np.testing.assert_allclose(found[name], logits, atol=tolerance, rtol=0)
