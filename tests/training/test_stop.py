"""Asking a training to stop, politely and less so."""

import os
import signal
from pathlib import Path

import pytest

from tests.training.kill_harness import ActingReporter
from tests.training.test_workflow import config_for, train
from tinyllm.errors import Interrupted
from tinyllm.training.run_folder import RunFolder
from tinyllm.training.stop import stop_on_signals
from tinyllm.training.workflow import run


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_asks_and_names_its_exit_code(number: signal.Signals, code: int) -> None:
    with stop_on_signals() as stop:
        assert not stop
        os.kill(os.getpid(), number)
        assert stop
        assert stop.exit_code == code


def test_a_second_signal_leaves_at_once() -> None:
    with stop_on_signals() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
        assert stop


def test_earlier_handlers_come_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with stop_on_signals():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_file_named_stop_ends_a_training_after_saving(text: Path) -> None:
    config = config_for(text)
    assert config.checkpoint.path is not None
    folder = RunFolder.beside(config.checkpoint.path)
    reporter = ActingReporter({1: folder.stop_request.touch})
    with pytest.raises(Interrupted, match="step 1 is saved") as caught:
        run(config, reporter, resume_command="tinyllm train text.txt --resume")
    assert caught.value.exit_code == 130
    assert caught.value.hint == "Go on with: tinyllm train text.txt --resume"
    assert not folder.stop_request.exists()
    result, _ = train(config, resume=True)
    assert (result.resumed_from, result.steps) == (1, 6)
