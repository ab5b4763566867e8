"""A training of seconds: its config, how it is run as a command, and what it leaves."""

import contextlib
import io
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import torch
from safetensors.torch import load_file

from tests.training.conftest import make_text
from tinyllm.cli.app import run

Finished = subprocess.CompletedProcess[str]


def write_config(folder: Path, **changes: object) -> Path:
    """Write the config of a tiny pretraining on `text.txt`; dropout makes random draws count."""
    config: dict[str, object] = {
        "data": {"train": "text.txt", "validation_fraction": 0.2},
        "tokenizer": {"kind": "char"},
        "model": {
            "hidden_size": 16,
            "n_layers": 1,
            "n_heads": 2,
            "context_length": 160,
            "dropout": 0.1,
        },
        "batch": {"micro_batch_size": 2, "grad_accum_steps": 2, "context_length": 16},
        "optimizer": {"name": "muon"},
        "max_steps": 10,
        "checkpoint": {"path": "out/model.safetensors", "every_steps": 5},
        "evaluation": {"every_steps": 5, "max_tokens": 200},
    }
    path = folder / "config.json"
    path.write_text(json.dumps({**config, **changes}), encoding="utf-8")
    return path


def write_pretraining(folder: Path, **changes: object) -> None:
    """Write a small text and the config of a training on it."""
    folder.mkdir(parents=True, exist_ok=True)
    make_text(folder / "text.txt", n_documents=80)
    write_config(folder, **changes)


def train(folder: Path, *arguments: str) -> Finished:
    """Run `tinyllm train` in this process, which spares it the start of Python and torch."""
    command = ["train", "--config", "config.json", *arguments]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(folder), redirect_stdout(out), redirect_stderr(err):
        code = run(command)
    return Finished(command, code, out.getvalue(), err.getvalue())


def train_apart(
    folder: Path, *arguments: str, program: Sequence[str] = (sys.executable, "-m", "tinyllm")
) -> Finished:
    """Run `tinyllm train` in a process of its own."""
    return subprocess.run(
        [*program, "train", "--config", "config.json", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def weights(folder: Path) -> dict[str, torch.Tensor]:
    """Return what the training in a folder has learnt."""
    return dict(load_file(folder / "out" / "model.safetensors"))


def same_weights(one: Path, other: Path) -> bool:
    """Tell whether two trainings ended in the same weights, bit for bit."""
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
