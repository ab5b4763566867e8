"""`tinyllm eval-openbookqa`: answer OpenBookQA, with error bars."""

from tinyllm.cli import question_options as options
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import CheckpointOption, DeviceOption


def eval_openbookqa(
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
    """Answer OpenBookQA's questions by likelihood, exactly as lm-evaluation-harness asks them.

    The report (results.json, results.md, predictions.jsonl, questions.html) goes to a folder.
    """
    from tinyllm.config.base import load_config
    from tinyllm.config.multiple_choice import EvalOpenbookqaConfig
    from tinyllm.data.multiple_choice_task import known_tasks

    flags = {
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
    chosen = load_config(EvalOpenbookqaConfig, config, sets=sets or (), flags=flags)
    options.examine(known_tasks()["openbookqa"], chosen, as_json=as_json)
