"""From the results.json of a scaling study to what people read."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tinyllm.evaluation.pages import Block, Bullets, Code, Heading, Paragraph, Picture, Table
from tinyllm.evaluation.scaling.law import N_UNKNOWNS
from tinyllm.reporting import format_count, format_duration

TITLE = "How loss falls with size and data"
Results = Mapping[str, Any]
_SYMBOLS = {"irreducible": "E", "size_exponent": "a", "data_exponent": "b"}
_MEANINGS = {
    "irreducible": "what no model gets below",
    "size_exponent": "how fast size helps",
    "data_exponent": "how fast data helps",
}


def blocks_of(results: Results) -> list[Block]:
    """Return the whole report."""
    return [
        *_summary(results),
        *_models(results),
        *_law(results),
        *_charts(results["charts"]),
        *_limits(results),
    ]


def sentences_of(results: Results) -> list[str]:
    """Return what is to be said first, in a few sentences."""
    law = results["law"]
    if law is None:
        return [f"No law is fitted: {results['why_no_law']}."]
    return [
        (
            f"L = {_number(law['irreducible'])} + {_number(law['size_factor'])} / "
            f"N^{_number(law['size_exponent'])} + {_number(law['data_factor'])} / "
            f"D^{_number(law['data_exponent'])}, in {results['unit']}."
        ),
        f"The {results['n_points']} points scatter around it by {_percent(law['residual_error'])} "
        f"of the loss ({N_UNKNOWNS} unknowns, so {results['n_points'] - N_UNKNOWNS} degrees of "
        f"freedom); the farthest lies off by {_percent(law['largest_residual'])}"
        + _left_out(law["left_out_error"]),
        *results["undetermined"],
        *results["doublings"],
    ]


def _left_out(error: float | None) -> str:
    if error is None:
        return "."
    return f", and a point predicted from all others by {_percent(error)} on average."


def _summary(results: Results) -> Iterator[Block]:
    yield Paragraph(
        "Trained from scratch, each model of one size on one amount of text, and all validated on "
        "the same text. N is the number of non-embedding parameters, D of tokens learnt from."
    )
    yield Bullets(sentences_of(results))
    if results["notes"]:
        yield Bullets(results["notes"])


def _models(results: Results) -> Iterator[Block]:
    yield Heading("Models")
    header = (
        "model", "layers x width", "parameters", "without embeddings", "tokens", "trained for",
        "nats per token", "bits per byte", "off the law",
    )  # fmt: skip
    yield Table("Trained models, by size and data", header, [_row(m) for m in results["models"]])


def _row(model: Results) -> list[str]:
    parameters = model["parameters"]
    off = model["relative_residual"]
    return [
        model["name"],
        f"{model['n_layers']} x {model['hidden_size']}",
        format_count(parameters["total"]),
        format_count(parameters["non_embedding"]),
        format_count(model["trained_tokens"]),
        format_duration(model["elapsed_seconds"]),
        f"{model['loss_nats']:.4f}",
        f"{model['bits_per_byte']:.4f}",
        "–" if off is None else f"{100 * off:+.2f} %",
    ]


def _law(results: Results) -> Iterator[Block]:
    law = results["law"]
    if law is None:
        return
    yield Heading("The law")
    rows = [
        [
            _SYMBOLS[name],
            _number(law[name]),
            f"{_number(low)} to {_number(high)}",
            _MEANINGS[name],
        ]
        for name, (low, high) in law["intervals_95"].items()
    ]
    yield Table("L = E + A / N^a + B / D^b", ("", "value", "95 % interval", "meaning"), rows)
    yield Paragraph(
        "The intervals refit the law to losses that scatter as the residuals do. They take for "
        "granted that the law holds and that runs differ by chance only: with one seed for each "
        "point they are the best case."
    )


def _charts(charts: Sequence[Results]) -> Iterator[Block]:
    yield Heading("Charts")
    yield Paragraph("Every chart has its figures beside it, in a .csv file of the same name.")
    for chart in charts:
        yield Picture(chart["file"], chart["alt"])


def _limits(results: Results) -> Iterator[Block]:
    yield Heading("What the numbers do not show")
    yield Bullets(
        [
            "The law is fitted to the sizes and amounts in the table. Outside them it is a guess.",
            (
                "Settings that suit one size need not suit another: a size that was trained badly "
                "looks like a law that bends."
            ),
            "Loss says how well a text is predicted, not how good a story is.",
        ]
    )
    yield Heading("How this was made")
    yield Code(
        [
            results["command"],
            f"tinyllm {results['tinyllm_version']}, {results['made_at']}, seed {results['seed']}",
        ]
    )


def _number(value: float) -> str:
    return f"{value:.3g}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
