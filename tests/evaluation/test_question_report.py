"""What is said of a score is what the figures bear."""

import pytest

from tinyllm.evaluation.multiple_choice.cloze import ClozePrediction, summarise_cloze
from tinyllm.evaluation.multiple_choice.report import as_markdown, judge
from tinyllm.evaluation.multiple_choice.workflow import part_by_training
from tinyllm.records import MultipleChoice

QUESTION = MultipleChoice("q", "stem", ("aa", "bb", "cc", "dd"), 0)


def result(n_right, n_wrong, n_tied=0):
    def made(nats):
        return ClozePrediction(QUESTION, QUESTION.choices, nats, [0.0] * 4, [1] * 4)

    right, wrong, tied = made([0, -9, -9, -9]), made([-9, 0, -9, -9]), made([-9] * 4)
    return summarise_cloze([right] * n_right + [wrong] * n_wrong + [tied] * n_tied)


@pytest.mark.parametrize(
    ("n_right", "n_wrong", "n_tied", "verdict"),
    [
        (142, 358, 0, "above chance"),
        (141, 359, 0, "not distinguishable from chance"),
        (109, 391, 0, "not distinguishable from chance"),
        (108, 392, 0, "below chance (chance 25.0 %, one-sided p = 0.04"),
        (0, 0, 500, "tells nothing apart"),
    ],
)
def test_only_a_score_beyond_chance_is_called_so(n_right, n_wrong, n_tied, verdict):
    assert verdict in judge(result(n_right, n_wrong, n_tied))


def test_the_verdict_carries_the_figures():
    sentence = judge(result(142, 358))
    assert sentence.startswith("acc_norm 28.4 % ± 2.0 on 500 questions")
    assert "p = 0.0456" in sentence


def test_the_report_names_the_primary_score_and_every_baseline():
    whole = result(30, 70)
    about = {"title": "Q", "checkpoint": "c.safetensors", "verdict": judge(whole), "asked": ""}
    text = as_markdown(about, [whole], [part_by_training(whole, None)])
    assert "| acc_norm * | 30.0 | ± 4.6 | 21.9–39.6 |" in text
    for name in whole.baselines:
        assert f"| {name} |" in text


def test_a_probability_is_never_nothing():
    assert "one-sided p < 1e-300" in judge(result(2000, 100))
