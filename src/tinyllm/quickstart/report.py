"""How the demo's results read on a screen."""

from pathlib import Path

from tinyllm.quickstart.workflow import QuickstartResult, Stage
from tinyllm.reporting import format_bytes, format_count, format_duration

_N_STORIES = 2


def as_text(result: QuickstartResult) -> str:
    """Return the page that `tinyllm quickstart` prints."""
    found = result.examination
    checkpoint = _relative(result.checkpoint)
    lines = ["time"]
    lines += [_stage_line(stage) for stage in result.stages]
    lines += [f"  {'all together':<30}{format_duration(result.seconds):>14}", ""]
    lines += [
        (
            f"model                    {format_count(result.n_parameters)} parameters, "
            f"{format_bytes(result.n_bytes)}: {checkpoint}"
        ),
        f"all three words used     {found.uses_its_words}, words never seen together before",
        f"ended by itself          {found.ends_by_itself}",
        f"bits per byte            {found.bits_per_byte:.3f} on unseen stories",
        f"science quiz             {found.quiz}, guessing gives {100 * found.quiz_chance:.0f} %",
    ]
    for trial in found.trials[:_N_STORIES]:
        lines += ["", f"> Write a story with the words: {', '.join(trial.words)}.", trial.text]
    lines += ["", f"> {found.question}", found.answer]
    lines += ["", f"Talk to it:  tinyllm chat --checkpoint {checkpoint}"]
    return "\n".join(lines)


def _stage_line(stage: Stage) -> str:
    line = f"  {stage.name:<30}{format_duration(stage.seconds):>14}"
    if stage.tokens_per_second is not None:
        line += f"{stage.tokens_per_second:>10,.0f} tokens/s"
    return line


def _relative(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path
