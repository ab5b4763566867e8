"""`tinyllm eval-multiple-choice`: answer known sets of questions, or your own."""

from typing import Annotated

import typer

from tinyllm.cli import question_options as options
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import CheckpointOption, DeviceOption


def eval_multiple_choice(
    task: Annotated[
        str | None,
        typer.Argument(
            metavar="TASK",
            help="arc_easy, arc_challenge, hellaswag, openbookqa, piqa, winogrande, or a JSON "
            "file that describes a set of your own.",
            show_default=False,
        ),
    ] = None,
    checkpoint: CheckpointOption = None,
    data: options.DataOption = None,
    split: options.SplitOption = None,
    style: options.StyleOption = None,
    n_shots: options.ShotsOption = None,
    shots_data: options.ShotsDataOption = None,
    seed: options.ShotsSeedOption = None,
    with_fact: options.FactOption = None,
    chat_template: options.TemplateOption = None,
    compare: options.CompareOption = None,
    limit: options.LimitOption = None,
    batch_size: options.BatchSizeOption = None,
    output: options.OutputOption = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Answer questions with choices by likelihood, exactly as lm-evaluation-harness asks them.

    The report (results.json, results.md, predictions.jsonl, questions.html) goes to a folder.
    """
    from tinyllm.config.base import load_config
    from tinyllm.config.multiple_choice import EvalMultipleChoiceConfig
    from tinyllm.data.multiple_choice_task import find_task

    flags = {
        "task": task,
        "checkpoint": checkpoint,
        "data": data,
        "split": split,
        "style": style,
        "n_shots": n_shots,
        "shots_data": shots_data,
        "seed": seed,
        "with_fact": with_fact,
        "chat_template": chat_template,
        "compare": compare,
        "limit": limit,
        "batch_size": batch_size,
        "output": output,
        "device": device,
    }
    chosen = load_config(EvalMultipleChoiceConfig, config, sets=sets or (), flags=flags)
    options.examine(find_task(chosen.task), chosen, as_json=as_json)
