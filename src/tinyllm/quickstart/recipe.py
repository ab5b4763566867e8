"""How the demo's model is trained: three trainings, one after another, in a budget of minutes.

    copying   mostly lessons in copying        constant learning rate
    base      stories, facts, some lessons     constant learning rate
    chat      instructions and answers         falling to zero

The figures were found by trial (docs/log.md). What made the difference: lessons in copying before
and among the stories, a learning rate of 0.01 for the embedding, and rows that hold a whole story.
"""

from pathlib import Path
from typing import Any, Literal

from tinyllm.config.model import ModelSpec
from tinyllm.config.quickstart import QuickstartConfig
from tinyllm.config.tokenize import TokenizerSpec
from tinyllm.config.train import TrainConfig
from tinyllm.config.train_sections import (
    Batch,
    Evaluation,
    Optimizer,
    Saving,
    Schedule,
    TrainData,
)
from tinyllm.quickstart.corpus import ROWS_PER_STEP, Corpus

CONTEXT_LENGTH = 256
_SHARES = {"copying": 0.25, "base": 0.4, "chat": 0.35}
_HEAD_DIM = 32
_OPTIMIZER = Optimizer(name="muon", learning_rate=1e-2, matrix_learning_rate=0.02, weight_decay=0.0)
_STEADY = Schedule(decay="constant", warmup_steps=20)
_FALLING = Schedule(decay="linear", warmup_steps=10, min_learning_rate=0.0)
_ROWS_AT_ONCE = 8  # small blocks fit the cache; more are no faster and take more memory
_NEVER = 1_000_000_000


def plan(
    config: QuickstartConfig, corpus: Corpus, tokenizer: Path, folder: Path
) -> list[TrainConfig]:
    """Return the configs of the three trainings, in order."""
    copying = TrainConfig(
        **_common(config, "copying", folder),
        data=_data(corpus.warm_up, "text"),
        tokenizer=TokenizerSpec(path=tokenizer),
        model=ModelSpec(
            family="llama",
            hidden_size=config.hidden_size,
            n_layers=config.n_layers,
            n_heads=config.hidden_size // _HEAD_DIM,
            context_length=CONTEXT_LENGTH,
            qk_norm=True,
        ),
        schedule=_STEADY,
    )
    base = TrainConfig(
        **_common(config, "base", folder),
        init_from=str(folder / "copying.safetensors"),
        data=_data(corpus.stories, "text"),
        schedule=_STEADY,
    )
    chat = TrainConfig(
        **_common(config, "chat", folder),
        init_from=str(folder / "base.safetensors"),
        data=_data(corpus.instructions, "conversations"),
        schedule=_FALLING,
    )
    return [copying, base, chat]


def _common(config: QuickstartConfig, name: str, folder: Path) -> dict[str, Any]:
    """Return what the three trainings share."""
    return {
        "name": name,
        "seed": config.seed,
        "batch": Batch(
            micro_batch_size=_ROWS_AT_ONCE, grad_accum_steps=ROWS_PER_STEP // _ROWS_AT_ONCE
        ),
        "optimizer": _OPTIMIZER,
        "max_minutes": config.minutes * _SHARES[name],
        "checkpoint": Saving(path=folder / f"{name}.safetensors", keep=1),
        "evaluation": Evaluation(every_steps=_NEVER),
    }


def _data(path: Path, format: Literal["text", "conversations"]) -> TrainData:
    """Take a file as it is ordered, each document in a row of its own."""
    return TrainData(
        train=(str(path),), validation_fraction=0.0, format=format, packing="single", shuffle=False
    )
