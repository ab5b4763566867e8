"""`tinyllm eval-openbookqa`: answer OpenBookQA, with error bars."""

from pathlib import Path
from typing import Annotated

import typer

from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import CheckpointOption, DeviceOption


def eval_openbookqa(
    checkpoint: CheckpointOption = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="A file of questions. Without it, datasets/260207-openbook-qa/SPLIT.jsonl.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="train, validation, dev or test.", show_default=False),
    ] = None,
    chat_template: Annotated[
        bool | None,
        typer.Option("--chat-template", help="Ask through the model's chat template as well."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Ask only the first so many.", show_default=False)
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(help="Rows per forward pass.", show_default=False)
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(help="Folder for the report. Without it, beside the checkpoint."),
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer OpenBookQA's questions by likelihood, exactly as lm-evaluation-harness asks them.

    The report (results.json, results.md, predictions.jsonl) goes to a folder.
    """
    from tinyllm.cli.display import print_json, print_text, reporter, table
    from tinyllm.cli.speaking import load_model
    from tinyllm.config.base import load_config
    from tinyllm.config.evaluation import EvalOpenbookqaConfig
    from tinyllm.evaluation.openbookqa import SCORE_HEADER, baseline_rows, run, score_rows

    flags = {
        "checkpoint": checkpoint,
        "data": data,
        "split": split,
        "chat_template": chat_template,
        "limit": limit,
        "batch_size": batch_size,
        "output": output,
        "device": device,
    }
    chosen = load_config(EvalOpenbookqaConfig, config, sets=sets or (), flags=flags)
    say = reporter()
    loaded = load_model(chosen.checkpoint, chosen.device, say)
    report = run(loaded, chosen, say)
    if as_json:
        print_json(report.results)
        return
    for form in report.forms:
        print_text(f"{form.form}, {form.n_questions} questions")
        print_text(table(score_rows(form.scores), SCORE_HEADER))
        print_text(table(baseline_rows(form), ("baseline", "%")))
    print_text(report.verdict)
    say.note(f"report: {report.folder}")
