"""`tinyllm eval-stories`: let models go on with stories, measure the texts, have them graded."""

from pathlib import Path
from typing import Annotated, Any

import typer

from tinyllm.cli.asking_options import RepairOption, StatusOption, show
from tinyllm.cli.options import ConfigOption, JsonOption, SetOption
from tinyllm.cli.sampling_options import DeviceOption


def eval_stories(
    checkpoint: Annotated[
        list[str] | None,
        typer.Option(
            "--checkpoint",
            "-c",
            metavar="FILE|NAME",
            help="A checkpoint. Repeatable; without any, the newest one found.",
            show_default=False,
        ),
    ] = None,
    completions: Annotated[
        list[Path] | None,
        typer.Option(
            "--completions",
            metavar="FILE.jsonl",
            help="What another model wrote, as prompt_id and text. Repeatable.",
            show_default=False,
        ),
    ] = None,
    prompts: Annotated[
        str | None,
        typer.Option(
            help="beginnings, instructions, or a file of prompts.", show_default="beginnings"
        ),
    ] = None,
    n_samples: Annotated[
        int | None, typer.Option("--n-samples", help="Texts per prompt.", show_default="10")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(help="Only the first so many prompts.", show_default=False)
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Who grades, at OpenAI or --judge-url. Without one, texts are only measured.",
            show_default=False,
        ),
    ] = None,
    judge_url: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="A server that answers like OpenAI's.", show_default=False
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        typer.Option(
            help="gpt-eval-2turn, gpt-eval-json, instruct, pairwise-ab or a file.",
            show_default=False,
        ),
    ] = None,
    training_text: Annotated[
        str | None,
        typer.Option(
            help="The text that the models learnt: what do they know by heart?",
            show_default=False,
        ),
    ] = None,
    max_cost: Annotated[
        str | None,
        typer.Option(help="Stop judging before this much money.", show_default=False),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what a judge is asked, and what it would cost.")
    ] = False,
    status: StatusOption = False,
    reparse: Annotated[
        bool,
        typer.Option("--reparse", help="Read the judge's stored replies anew; ask nobody."),
    ] = False,
    retry_rejects: Annotated[
        list[str] | None,
        typer.Option(
            "--retry-rejects",
            metavar="REASON",
            help="Ask the judge once more for what was given up for this reason. Repeatable.",
            show_default=False,
        ),
    ] = None,
    repair: RepairOption = False,
    seed: Annotated[
        int | None, typer.Option("--seed", "-s", help="Decides what is drawn.", show_default="0")
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Folder for the report. Without it, beside the checkpoint."
        ),
    ] = None,
    device: DeviceOption = None,
    config: ConfigOption = None,
    sets: SetOption = None,
    as_json: JsonOption = False,
) -> None:
    """Let models go on with story beginnings, measure the texts, and let a judge grade them.

    Without a judge nothing is asked of anybody. The same command goes on where it was stopped: no
    text is written twice and no reply is paid for twice.
    """
    from tinyllm.cli.display import print_json, print_lines, print_text, reporter, table
    from tinyllm.config.base import load_config
    from tinyllm.config.eval_stories import EvalStoriesConfig

    flags: dict[str, Any] = {
        "checkpoints": tuple(checkpoint) if checkpoint else None,
        "completions": tuple(completions) if completions else None,
        "prompts": prompts,
        "writer.n_samples": n_samples,
        "limit": limit,
        "judge.provider.kind": "openai" if judge is not None or judge_url is not None else None,
        "judge.provider.openai.model": judge,
        "judge.provider.openai.base_urls": (judge_url,) if judge_url is not None else None,
        "judge.protocol": protocol,
        "judge.provider.budget.max_cost": max_cost,
        "training_text": training_text,
        "seed": seed,
        "output": output,
        "device": device,
    }
    chosen = load_config(EvalStoriesConfig, config, sets=sets or (), flags=flags)
    say = reporter()
    if status or dry_run:
        from tinyllm.evaluation.story_evaluation.looking import look_ahead, read_status

        show(read_status(chosen, say) if status else look_ahead(chosen, say), as_json=as_json)
        return
    from tinyllm.evaluation.story_evaluation.workflow import run

    report = run(chosen, say, reparse=reparse, repair=repair, retry_rejects=retry_rejects or ())
    if as_json:
        print_json(report.to_json())
        return
    print_text(table(report.rows(), ("", *report.results)))
    print_lines([report.says()])
    say.note(f"report: {report.folder / 'results.md'}")
