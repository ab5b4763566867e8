"""`tinyllm models`: which models are here, what they are, and whether they are sound."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tinyllm.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

app = typer.Typer(
    help="List, inspect and verify models.",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
)
NameArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="CHECKPOINT",
        help="A checkpoint's file, folder or name. Without it, the newest one found.",
        show_default=False,
    ),
]


@app.command("list")
def list_models(as_json: JsonOption = False) -> None:
    """List the models that a bare name finds here, the newest first."""
    from tinyllm.checkpoint.description import overview
    from tinyllm.checkpoint.search import models_here
    from tinyllm.cli.display import print_json, print_text, reporter, table
    from tinyllm.errors import CheckpointError
    from tinyllm.reporting import format_bytes, format_count

    say = reporter()
    found: list[dict[str, Any]] = []
    for path in models_here():
        try:
            found.append(overview(path))
        except CheckpointError as error:
            say.warn(error.message)
    if as_json:
        print_json(found)
        return
    if not found:
        say.note("there are no models in this folder or where training leaves them")
        return
    rows: list[tuple[str, ...]] = [
        (
            str(one["path"]),
            str(one["kind"]),
            str(one["family"]),
            format_count(one["parameters"]),
            str(one["context_length"] or "-"),
            format_bytes(one["n_bytes"]),
            ", ".join(one["licences"]) or "unknown",
        )
        for one in found
    ]
    header = ("model", "kind", "family", "parameters", "context", "size", "licences of its data")
    print_text(table(rows, header))


@app.command("inspect")
def inspect(checkpoint: NameArgument = None, as_json: JsonOption = False) -> None:
    """Show a model's shape, sizes, tokenizer, training record and the licences of its data."""
    from tinyllm.checkpoint import read_checkpoint
    from tinyllm.checkpoint.description import describe
    from tinyllm.cli.display import print_facts, print_json

    described = describe(read_checkpoint(_find(checkpoint)))
    if as_json:
        print_json(described)
        return
    print_facts(list(_rows(described)))


@app.command("verify")
def verify(
    checkpoint: NameArgument = None,
    sha256: Annotated[
        str | None, typer.Option(metavar="HEX", help="The hash it must have.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read every byte of a model: shapes, numbers that are not finite, tokenizer, hashes.

    Ends with exit code 4 where something is wrong.
    """
    from dataclasses import asdict

    from tinyllm.checkpoint import description
    from tinyllm.cli.display import print_json, print_text
    from tinyllm.errors import CheckpointError

    path = _find(checkpoint)
    checks = description.verify(path)
    if sha256 is not None:
        description.require_sha256(path, sha256)
    if as_json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            print_text(f"{'good' if check.is_good else 'BAD '}  {check.what}: {check.found}")
    bad = [check.what for check in checks if not check.is_good]
    if bad:
        raise CheckpointError(f"{path}: {', '.join(bad)}", "Copy or download it again.")


def _find(name: str | None) -> "Path":
    from tinyllm.checkpoint import find_checkpoint
    from tinyllm.cli.display import reporter

    found = find_checkpoint(name)
    if found.was_sought:
        reporter().note(f"checkpoint: {found.path} ({found.reason})")
    return found.path


def _rows(described: dict[str, Any]) -> "Iterator[tuple[str, str]]":
    """Yield what is told of a model to people: of what, and what."""
    from tinyllm.checkpoint.description import trainings_of
    from tinyllm.reporting import counted, format_bytes, format_count

    counts = {kind: format_count(n) for kind, n in described["parameters"].items()}
    weights = format_bytes(4 * described["parameters"]["total"])
    cache, tokenizer = format_bytes(described["kv_cache_bytes"]), described["tokenizer"]
    yield (
        "model",
        f"{described['path']} ({described['kind']}, {format_bytes(described['n_bytes'])})",
    )
    parts = f"{counts['embedding']} embedding, {counts['non_embedding']} non-embedding"
    yield "parameters", f"{counts['total']} ({parts})"
    yield "memory", f"{weights} of float32 weights, {cache} of keys and values for a whole context"
    yield "shape", _listed(described["model"])
    end = tokenizer["end_of_text"]
    yield "tokenizer", f"{tokenizer['kind']}, {tokenizer['vocab_size']:,} tokens, ends with {end}"
    if described["chat_template"]:
        yield "template", described["chat_template"].get("name", "jinja")
    if described["generation"]:
        yield "sampling", _listed(described["generation"])
    for record in trainings_of(described["training"]):
        yield "training", _training(record)
    for data in described["data"]:
        n_documents = data["documents"]
        extent = f", {counted(n_documents, 'document')}" if n_documents is not None else ""
        licence = ", ".join(data["licences"]) or "licence unknown"
        yield "data", f"{data['name']}{extent}: {licence}"


def _training(record: "Mapping[str, Any]") -> str:
    from tinyllm.reporting import format_count

    name = (record.get("config") or {}).get("name")
    n_steps = f"{record.get('step', '?')} steps"
    parts = [f"{name}: {n_steps}" if name else n_steps]
    if record.get("trained_tokens") is not None:
        parts.append(f"{format_count(record['trained_tokens'])} tokens")
    loss = (record.get("validation") or {}).get("bits_per_byte")
    if loss is not None:
        parts.append(f"{loss:.4f} bits per byte on its validation text")
    return ", ".join(parts)


def _listed(values: "Mapping[str, Any]") -> str:
    return ", ".join(f"{key} {value}" for key, value in values.items())
