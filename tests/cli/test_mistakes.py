"""What a user can get wrong, and the one sentence, hint and exit code that answer it."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.tiny import TEXT, tiny_tokenizer, write_tiny_checkpoint
from tinyllm.cli.app import run

USAGE, DATA, CHECKPOINT = 2, 3, 4
TINY = '"data": {"train": "story.txt"}, "max_steps": 3'
SHAPE = '"hidden_size": 32, "n_layers": 1, "n_heads": 2, "context_length": 32'


@dataclass(frozen=True)
class Mistake:
    """A command line in a folder with the files of `workplace`, and its answer."""

    name: str
    command: str
    exit_code: int
    says: str
    hint: str


MISTAKES = [
    Mistake("missing text", "train storry.txt", DATA, "storry.txt", "Did you mean story.txt?"),
    Mistake("a text in a store", "train s3://b/t.txt", DATA, "s3:/b/t.txt", "copy it here first"),
    Mistake("texts in a store", "tokenize s3://b/t.txt", USAGE, "s3://b/t.txt is in an object", ""),
    Mistake(
        "an output in a store", "clean-data story.txt -o s3://b/x", USAGE, "s3://b/x is in an", ""
    ),
    Mistake(
        "a checkpoint in a store", "infer --prompt x -c s3://b/x", CHECKPOINT, "s3:/b/x", "copy it"
    ),
    Mistake("empty text", "train empty.txt", DATA, "empty.txt", ""),
    Mistake("binary file", "train noise.bin", DATA, "noise.bin", ""),
    Mistake("binary file named text", "train noise.txt", DATA, "noise.txt", ""),
    Mistake(
        "missing config", "train --config pretain.json", USAGE, "pretain.json", "pretrain.json"
    ),
    Mistake(
        "config with a comma too many", "train --config comma.json", USAGE, "comma.json:1", "comma"
    ),
    Mistake(
        "an empty config", "train --config empty.txt", USAGE, "empty.txt is empty", "config init"
    ),
    Mistake("unknown key in a file", "train --config unknown.json", USAGE, "unknown.json:3", ""),
    Mistake(
        "misspelt key",
        "train story.txt --set optimizer.learning_rat=1",
        USAGE,
        "unknown key `optimizer.learning_rat`",
        "optimizer.learning_rate",
    ),
    Mistake(
        "wrong type", "train story.txt --set seed=abc", USAGE, 'whole number, found "abc"', "seed"
    ),
    Mistake(
        "heads do not divide the width", "train --config heads.json", USAGE, "heads.json:3", ""
    ),
    Mistake(
        "warmup longer than training",
        "train --config pretrain.json --set schedule.warmup_steps=500",
        USAGE,
        "`schedule.warmup_steps` 500 is not shorter than `max_steps` 3",
        "",
    ),
    Mistake(
        "vocabulary larger than the text allows",
        "train --config pretrain.json --set tokenizer.kind=bpe --set tokenizer.vocab_size=9000",
        USAGE,
        "9,000",
        "vocab_size",
    ),
    Mistake(
        "start from nothing",
        "train story.txt --init-from no.safetensors",
        CHECKPOINT,
        "no.safetensors",
        "",
    ),
    Mistake(
        "a checkpoint that is not one",
        "infer --prompt x --checkpoint story.txt",
        CHECKPOINT,
        "story.txt",
        "",
    ),
    Mistake(
        "a truncated checkpoint",
        "infer --prompt x --checkpoint cut.safetensors",
        CHECKPOINT,
        "cut.safetensors",
        "",
    ),
    Mistake(
        "a foreign safetensors",
        "infer --prompt x --checkpoint foreign.safetensors",
        CHECKPOINT,
        "foreign.safetensors",
        "",
    ),
    Mistake(
        "no checkpoint anywhere", "infer --prompt x --checkpoint nowhere", CHECKPOINT, "nowhere", ""
    ),
    Mistake(
        "another tokenizer than the checkpoint's",
        "train story.txt --init-from tiny.safetensors --set tokenizer.path=other.tokenizer.json",
        USAGE,
        "`tokenizer` comes from `init_from`",
        "",
    ),
    Mistake(
        "negative temperature",
        "infer --prompt x --checkpoint tiny.safetensors --temperature -1",
        USAGE,
        "temperature",
        "",
    ),
    Mistake(
        "top-p of nothing",
        "infer --prompt x --checkpoint tiny.safetensors --top-p 0",
        USAGE,
        "top_p",
        "",
    ),
    Mistake(
        "missing prompts file",
        "infer --checkpoint tiny.safetensors --prompts-file prompt.txt",
        DATA,
        "prompt.txt",
        "",
    ),
    Mistake(
        "a name of 300 letters", f"infer --prompt x -c {'x' * 300}", CHECKPOINT, "too long", ""
    ),
    Mistake("no steps", "train story.txt --max-steps 0", USAGE, "`max_steps`", "max_steps"),
    Mistake("no such device", "train story.txt --device cuda", 7, "cuda", ""),
    Mistake(
        "a place that cannot be written",
        "mix-datasets --output blocked/out.txt story.txt:1",
        DATA,
        "blocked",
        "",
    ),
    Mistake(
        "mixing without weight", "mix-datasets --output out.txt story.txt:half", USAGE, "half", ""
    ),
    Mistake(
        "mixing with a negative weight",
        "mix-datasets --output out.txt story.txt:-1",
        USAGE,
        "-1",
        "",
    ),
    Mistake(
        "mixing a missing text",
        "mix-datasets --output out.txt storry.txt:1",
        DATA,
        "storry.txt",
        "story.txt",
    ),
    Mistake("unknown dataset", "download tinystory", USAGE, "tinystory", "tinystories"),
    Mistake(
        "download from a missing file",
        "download tinystories --from nothing.gz",
        DATA,
        "nothing.gz",
        "",
    ),
    Mistake(
        "broken line in JSONL",
        "tokenize broken.jsonl --set tokenizer.vocab_size=300",
        DATA,
        "broken.jsonl",
        "",
    ),
    Mistake(
        "no exam",
        "eval-openbookqa --checkpoint tiny.safetensors --data exam.jsonl",
        DATA,
        "exam.jsonl",
        "",
    ),
    Mistake(
        "an exam that is not one",
        "eval-openbookqa --checkpoint tiny.safetensors --data good.jsonl",
        DATA,
        "good.jsonl",
        "",
    ),
    Mistake(
        "loss of a missing text",
        "eval-loss --checkpoint tiny.safetensors --data storry.txt",
        DATA,
        "storry.txt",
        "story.txt",
    ),
    Mistake(
        "resume without a run",
        "train --config pretrain.json --resume",
        USAGE,
        "nothing to resume",
        "Leave --resume out",
    ),
]


EMPTY_PATHS = [
    ("infer", "--prompt", "x", "-c", ""),
    ("infer", "-c", "tiny.safetensors", "--prompts-file="),
    ("download", "--from", ""),
    ("tokenize", "story.txt", "--output", " "),
    ("mix-datasets", "--output", "", "story.txt:1"),
    ("train", "story.txt", "--config", ""),
]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one of everything, whole and broken."""
    import numpy
    from safetensors.numpy import save_file

    folder = tmp_path_factory.mktemp("workplace")
    (folder / "story.txt").write_text(TEXT * 20, encoding="utf-8")
    (folder / "empty.txt").write_text("")
    for name in ("noise.bin", "noise.txt"):
        (folder / name).write_bytes(bytes(range(256)) * 40)
    (folder / "good.jsonl").write_text('{"text": "A day."}\n' * 50)
    (folder / "broken.jsonl").write_text('{"text": "A day."}\n{"text": "A ni\n{"text": "x"}\n')
    (folder / "pretrain.json").write_text(f'{{{TINY}, "model": {{{SHAPE}}}}}')
    (folder / "comma.json").write_text(f"{{{TINY},}}")
    (folder / "unknown.json").write_text(f'{{{TINY},\n"batch": {{}},\n"color": "red"}}')
    heads = SHAPE.replace('"n_heads": 2', '"n_heads": 5')
    (folder / "heads.json").write_text(f'{{{TINY},\n\n"model": {{{heads}}}}}')
    whole = write_tiny_checkpoint(folder / "tiny.safetensors").read_bytes()
    (folder / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    save_file({"a": numpy.zeros(3, dtype="float32")}, folder / "foreign.safetensors")
    (folder / "other.tokenizer.json").write_text(tiny_tokenizer("char").to_json())
    (folder / "blocked").write_text("a file where a folder is wanted")
    return folder


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
def test_a_mistake_gets_one_sentence_a_hint_and_its_exit_code(
    mistake: Mistake,
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    before = set(os.listdir(workplace))
    code = run(mistake.command.split())
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    hints = [line for line in captured.err.splitlines() if line.startswith("hint: ")]
    assert "Traceback" not in captured.err
    assert (code, len(errors)) == (mistake.exit_code, 1), captured.err
    assert mistake.says in errors[0]
    assert len(errors[0]) < 300
    if mistake.hint:
        assert mistake.hint in hints[0]
    assert captured.out == ""
    assert {n for n in os.listdir(workplace) if n.endswith((".tmp", ".part"))} == set()
    assert "out.txt" not in set(os.listdir(workplace)) - before


def test_a_wrong_flag_is_refused_before_any_advice(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(workplace)
    assert run(["train", "story.txt", "--max-steps", "0"]) == USAGE
    assert capsys.readouterr().err.startswith("error: ")


def test_the_table_covers_the_exit_codes_of_users() -> None:
    assert {mistake.exit_code for mistake in MISTAKES} == {2, 3, 4, 7}
    assert len({mistake.name for mistake in MISTAKES}) == len(MISTAKES)


@pytest.mark.parametrize("arguments", EMPTY_PATHS, ids=lambda arguments: arguments[0])
def test_an_empty_path_is_refused(
    arguments: tuple[str, ...],
    workplace: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(workplace)
    assert run(list(arguments)) == USAGE
    captured = capsys.readouterr()
    assert "a path is empty" in captured.err
    assert captured.out == ""
