"""Short evaluations against a judge's server, of completions that lie ready in files."""

import json
from pathlib import Path
from typing import Any

from tests.stories.fault_server import FaultServer
from tinyllm.config.base import load_config
from tinyllm.config.eval_stories import EvalStoriesConfig
from tinyllm.evaluation.story_evaluation.prompts import read_prompt_set
from tinyllm.evaluation.story_evaluation.workflow import StoriesReport, run
from tinyllm.reporting import RecordingReporter, Reporter

N_PROMPTS = 4
N_SAMPLES = 3
_SENTENCES = (
    "said yes and went home.",
    "The bird was happy and sang a song about the rain.",
    "Then they all went to the river and played until it was dark.",
    "In the evening mother called them, and they had soup and bread.",
    '"That was a good day," said the smallest one, and everybody laughed.',
)
QUICK = {
    "judge.provider.kind": "openai",
    "judge.provider.openai.model": "examiner",
    "judge.provider.retries.base_seconds": 0.02,
    "judge.provider.retries.longest_seconds": 0.1,
    "judge.provider.retries.max_tries": 4,
    "judge.provider.concurrency": 4,
    "judge.repeat_share": 0.0,
    "limit": N_PROMPTS,
    "writer.n_samples": N_SAMPLES,
}


def write_completions(path: Path, *, shift: int = 0, empty: int = 0) -> Path:
    """Write a file of completions, the first `empty` of them without a word."""
    rows = []
    for i, prompt in enumerate(read_prompt_set("beginnings").first(N_PROMPTS).prompts):
        for k in range(N_SAMPLES):
            n = 1 + (i + k + shift) % len(_SENTENCES)
            text = "" if len(rows) < empty else " " + " ".join(_SENTENCES[:n])
            rows.append({"prompt_id": prompt.id, "sample": k, "text": text})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def config_for(output: Path, server: FaultServer | str | None, **flags: Any) -> EvalStoriesConfig:
    """Return a config; `__` in a name stands for a dot. Without a server nobody judges."""
    given = {name.replace("__", "."): value for name, value in flags.items()}
    quick: dict[str, Any] = dict(QUICK)
    if server is None:
        quick = {name: value for name, value in QUICK.items() if not name.startswith("judge.p")}
    else:
        url = server if isinstance(server, str) else server.url
        quick["judge.provider.openai.base_urls"] = (url,)
    return load_config(EvalStoriesConfig, flags={**quick, "output": output, **given})


def evaluate(
    output: Path,
    server: FaultServer | str | None,
    reporter: Reporter | None = None,
    *,
    reparse: bool = False,
    retry_rejects: tuple[str, ...] = (),
    **flags: Any,
) -> StoriesReport:
    """Evaluate to the end, in this process."""
    config = config_for(output, server, **flags)
    shown = reporter or RecordingReporter()
    return run(config, shown, reparse=reparse, retry_rejects=retry_rejects)


def predictions(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of predictions.jsonl."""
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]
