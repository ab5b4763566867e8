"""What `eval-openbookqa` and `eval-multiple-choice` share: options, and a report shown."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tinyllm.config.multiple_choice import MultipleChoiceTask, QuestionsConfig

DataOption = Annotated[
    str | None,
    typer.Option(
        help="A file of questions. Without it, what `tinyllm download` brought.",
        show_default=False,
    ),
]
SplitOption = Annotated[
    str | None,
    typer.Option(help="train, validation, dev or test.", show_default=False),
]
StyleOption = Annotated[
    str | None,
    typer.Option(
        help="cloze: score unseen choices. letters: show them, score A, B, C. generate: show "
        "them, read the written answer.",
        show_default=False,
    ),
]
ShotsOption = Annotated[
    int | None,
    typer.Option("--n-shots", help="Answered examples before every question.", show_default=False),
]
ShotsDataOption = Annotated[
    str | None,
    typer.Option(
        "--shots-data",
        help="Where the examples are drawn from. Without it, the training split.",
        show_default=False,
    ),
]
ShotsSeedOption = Annotated[
    int | None, typer.Option("--seed", help="Which examples are drawn.", show_default=False)
]
FactOption = Annotated[
    bool | None,
    typer.Option("--with-fact", help="Give the fact behind each question: an easier task."),
]
TemplateOption = Annotated[
    bool | None,
    typer.Option("--chat-template", help="Ask through the model's chat template as well."),
]
CompareOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|NAME",
        help="Another checkpoint, or an earlier run's predictions.jsonl, to compare with.",
        show_default=False,
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="Ask only the first so many.", show_default=False)
]
BatchSizeOption = Annotated[
    int | None, typer.Option(help="Rows per forward pass.", show_default=False)
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output", "-o", help="Folder for the report. Without it, beside the checkpoint."
    ),
]


def examine(task: "MultipleChoiceTask", config: "QuestionsConfig", *, as_json: bool) -> None:
    """Ask a checkpoint, write the report, and show it."""
    from tinyllm.cli.display import print_json, print_lines, print_text, reporter, table
    from tinyllm.cli.speaking import load_model
    from tinyllm.evaluation.multiple_choice import report as tables
    from tinyllm.evaluation.multiple_choice.workflow import run
    from tinyllm.reporting import counted

    say = reporter()
    loaded = load_model(config.checkpoint, config.device, say)
    report = run(loaded, task, config, say)
    if as_json:
        print_json(report.results)
        return
    for form, subsets in zip(report.forms, report.subsets, strict=True):
        print_text(f"{form.form}, {counted(form.n_questions, 'question')}")
        print_text(table(tables.score_rows(form), tables.SCORE_HEADER))
        print_text(table(tables.baseline_rows(form), ("baseline", "%")))
        print_text(table(tables.subset_rows(subsets), tables.SUBSET_HEADER))
    if report.pairings:
        print_text(f"against {report.results['compared_with']}")
        print_text(table(tables.pairing_rows(report.pairings), tables.PAIRING_HEADER))
        print_lines(f"{pairing.form}: {pairing.verdict}" for pairing in report.pairings)
    print_lines([str(report.results["verdict"])])
    say.note(f"report: {report.folder}")
