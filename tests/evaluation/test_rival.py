"""Two models on the same questions: the exact test, and what it could have seen."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tinyllm.errors import DataError
from tinyllm.evaluation.multiple_choice.cloze import ClozePrediction, summarise_cloze
from tinyllm.evaluation.multiple_choice.report import prediction_json
from tinyllm.evaluation.multiple_choice.rival import (
    Rival,
    credits_of,
    find_predictions,
    pair,
    pair_credits,
    read_rival,
    smallest_visible,
)
from tinyllm.records import MultipleChoice

CREDITS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.25, 1.0]), st.sampled_from([0.0, 0.25, 1.0])),
    min_size=1,
    max_size=60,
)


@given(CREDITS)
def test_the_test_is_the_binomial_one_on_the_questions_that_differ(pairs):
    ours, theirs = [a for a, _ in pairs], [b for _, b in pairs]
    found = pair_credits("cloze", "acc_norm", ours, theirs)
    n = found.n_only_this + found.n_only_other
    expected = stats.binomtest(found.n_only_this, n, 0.5).pvalue if n else 1.0
    assert found.p_value == pytest.approx(expected)
    assert found.difference == pytest.approx((sum(ours) - sum(theirs)) / len(pairs))
    mirrored = pair_credits("cloze", "acc_norm", theirs, ours)
    assert (mirrored.difference, mirrored.p_value) == (-found.difference, found.p_value)


@given(st.integers(0, 300))
def test_the_smallest_visible_difference_is_seen_and_nothing_smaller(n_discordant):
    least = smallest_visible(n_discordant, 1000)
    if least is None:
        assert n_discordant < 6
        return
    n_more = round((least * 1000 + n_discordant) / 2)
    assert stats.binomtest(n_more, n_discordant, 0.5).pvalue < 0.05
    assert stats.binomtest(n_more - 1, n_discordant, 0.5).pvalue >= 0.05


@pytest.mark.parametrize(
    ("discordance", "percentage_points"), [(0.1, 3.2), (0.2, 4.4), (0.3, 5.2), (0.4, 6.0)]
)
def test_what_500_questions_can_show(discordance, percentage_points):
    found = smallest_visible(int(500 * discordance), 500)
    assert 100 * found == pytest.approx(percentage_points)


def result_of(picks):
    predictions = []
    for i, pick in enumerate(picks):
        question = MultipleChoice(f"q{i}", f"stem {i}", ("aa", "bb", "cc", "dd"), 0)
        nats = [0.0 if choice == pick else -9.0 for choice in range(4)]
        predictions.append(ClozePrediction(question, question.choices, nats, [0.0] * 4, [1] * 4))
    return summarise_cloze(predictions)


def write(path, result, **changes):
    lines = [{**prediction_json("cloze", p), **changes} for p in result.predictions]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


def test_predictions_that_were_written_are_read_again(tmp_path):
    result = result_of([0, 1, 0, 2])
    write(tmp_path / "predictions.jsonl", result)
    assert find_predictions(str(tmp_path)) == tmp_path / "predictions.jsonl"
    texts = {p.question.id: p.question.question for p in result.predictions}
    other = read_rival(tmp_path / "predictions.jsonl", texts)
    assert other.forms == {"cloze": credits_of(result)}
    assert pair(result, other).verdict.startswith("no difference shown")


def test_a_model_that_is_right_where_the_other_is_not_is_called_better():
    good, bad = result_of([0] * 12), result_of([0] * 2 + [1] * 10)
    found = pair(good, Rival("bad", {"cloze": credits_of(bad)}))
    assert (found.n_only_this, found.n_only_other) == (10, 0)
    assert found.verdict.startswith("this model is better")
    assert pair(bad, Rival("good", {"cloze": credits_of(good)})).verdict.startswith("the other is")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"id": "q0", "form": "cloze"}', "not a prediction on a multiple-choice question"),
        ('{"id": "q0", "form": "cloze", "credits": {"acc": "x"}}', "not a prediction"),
        ("[]", "a JSON object was expected"),
        ("", "holds answers to 0 questions"),
    ],
)
def test_what_holds_no_predictions_is_named(tmp_path, line, message):
    (tmp_path / "p.jsonl").write_text(f"{line}\n")
    with pytest.raises(DataError, match=message):
        read_rival(tmp_path / "p.jsonl", {"q0": "stem 0"})


def test_answers_to_other_questions_are_refused(tmp_path):
    result = result_of([0, 1, 2])
    write(tmp_path / "p.jsonl", result, question="another stem")
    texts = {p.question.id: p.question.question for p in result.predictions}
    with pytest.raises(DataError, match="3 questions, of which 0 are among the 3"):
        read_rival(tmp_path / "p.jsonl", texts)
