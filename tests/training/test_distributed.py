"""Two real processes do what one does."""

import subprocess
from pathlib import Path

import pytest
import torch

from tests.training.conftest import make_text
from tests.training.test_resume import losses, train, weights, write_config

LAUNCHER = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")


def train_on_two(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return train(folder, *arguments, program=(*LAUNCHER, "-m", "tinyllm"))


@pytest.mark.skipif(not torch.distributed.is_available(), reason="needs torch.distributed")
def test_two_processes_train_as_one_and_one_goes_on_from_two(tmp_path: Path) -> None:
    constant = {"decay": "constant", "warmup_steps": 0}
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        make_text(tmp_path / name / "text.txt")
        write_config(tmp_path / name, schedule=constant)
    one = train(tmp_path / "one")
    assert one.returncode == 0, one.stderr
    two = train_on_two(tmp_path / "two", "--max-steps", "6")
    assert two.returncode == 0, two.stderr
    assert two.stderr.count("prepare the data: done") == 1
    rest = train(tmp_path / "two")
    assert rest.returncode == 0, rest.stderr
    assert "going on from step 6" in rest.stderr
    found, expected = losses(tmp_path / "two"), losses(tmp_path / "one")
    assert [step for step, _ in found] == [step for step, _ in expected]
    assert [loss for _, loss in found] == pytest.approx([loss for _, loss in expected], abs=1e-5)
    for name, weight in weights(tmp_path / "one").items():
        torch.testing.assert_close(weights(tmp_path / "two")[name], weight, atol=1e-4, rtol=0)
