"""A compiled network learns what a plain one learns."""

import shutil
from pathlib import Path

import pytest

from tests.training.conftest import figures, make_text
from tests.training.small_runs import train, write_config


@pytest.mark.long
@pytest.mark.skipif(
    shutil.which("c++") is None, reason="torch.compile needs a C++ compiler (Debian: g++)"
)
def test_the_loss_curve_is_the_same_with_and_without_compiling(tmp_path: Path) -> None:
    curves = []
    for compiled in ("off", "on"):
        folder = tmp_path / compiled
        folder.mkdir()
        make_text(folder / "text.txt")
        model = {"hidden_size": 16, "n_layers": 1, "n_heads": 2, "context_length": 160}
        write_config(folder, model=model, compile=compiled, optimizer={"name": "adamw"})
        done = train(folder)
        assert done.returncode == 0, done.stderr
        curves.append(figures(folder, "loss_nats"))
    assert curves[1] == pytest.approx(curves[0], abs=1e-5)
