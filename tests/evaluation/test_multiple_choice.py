"""Scores of choices: every rule by hand, ties shared, batches without influence."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.tiny import tiny_loaded
from tinyllm.chat_template import render, render_prompt
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.errors import CheckpointError, DataError
from tinyllm.evaluation.multiple_choice import METRICS, Asking, evaluate
from tinyllm.evaluation.multiple_choice.cloze import ClozePrediction, summarise_cloze
from tinyllm.evaluation.multiple_choice.scores import credit, tied_best
from tinyllm.generation.engine import Engine
from tinyllm.generation.loglikelihood import encode_pair
from tinyllm.records import Conversation, Message, MultipleChoice

QUESTIONS = list(read_multiple_choice(str(Path(__file__).with_name("questions.jsonl"))))


def prediction(choices, nats, *, answer=0, alone=None, n_tokens=None):
    return ClozePrediction(
        question=MultipleChoice("q", "stem", tuple(choices), answer),
        scored=list(choices),
        nats=list(nats),
        nats_without_question=list(alone or [0.0] * len(nats)),
        n_tokens=list(n_tokens or [1] * len(nats)),
    )


def test_each_score_makes_choices_comparable_in_its_own_way():
    one = prediction(
        ["ab", "äöüß", "abcdefgh", "x"],
        [-4.0, -7.0, -12.0, -5.0],
        alone=[-1.0, -2.0, -11.5, -4.0],
        n_tokens=[1, 7, 2, 5],
    )
    picks = {metric: tied_best(one.values(metric)) for metric in METRICS}
    assert picks == {
        "acc": [0],  # the largest sum
        "acc_norm": [2],  # -12 / 8 characters
        "acc_bytes": [1],  # -7 / 8 bytes
        "acc_token": [1, 3],  # -7 / 7 = -5 / 5
        "acc_uncond": [2],  # -12 + 11.5
    }


@given(st.lists(st.integers(-3, 0), min_size=4, max_size=4), st.integers(0, 3))
def test_a_tie_shares_the_credit(values, answer):
    top = [i for i, v in enumerate(values) if v == max(values)]
    assert credit(tied_best(values), answer) == (1 / len(top) if answer in top else 0)


@given(st.lists(st.floats(-50, 0), min_size=4, max_size=4))
def test_the_credits_of_all_answers_add_up_to_one(values):
    assert sum(credit(tied_best(values), answer) for answer in range(4)) == pytest.approx(1)


def test_a_model_that_tells_nothing_apart_scores_chance_with_every_question_tied():
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.model.embed_tokens.weight.zero_()
    result = evaluate(Engine(loaded), QUESTIONS)
    score = result.scores["acc_token"]
    assert score.value == pytest.approx(0.25)
    assert score.n_ties == len(QUESTIONS)


def test_the_batch_size_changes_no_pick(plain):
    alone = evaluate(Engine(plain), QUESTIONS, batch_size=1)
    together = evaluate(Engine(plain), QUESTIONS, batch_size=32)
    for a, b in zip(alone.predictions, together.predictions, strict=True):
        for metric in METRICS:
            assert tied_best(a.values(metric)) == tied_best(b.values(metric))
    assert [alone.scores[m].value for m in METRICS] == [together.scores[m].value for m in METRICS]


def test_baselines_are_counted_from_the_questions_alone():
    questions = [
        prediction(["long one", "a", "bb", "cc"], [0] * 4, answer=0, alone=[-9, -1, -9, -9]),
        prediction(["a", "long one", "bb", "cc"], [0] * 4, answer=0, alone=[-1, -9, -9, -9]),
        prediction(["aa", "bb", "cc", "dd"], [0] * 4, answer=3, alone=[-1, -1, -2, -2]),
    ]
    baselines = summarise_cloze(questions).baselines
    assert baselines["uniform"] == 0.25
    assert baselines["majority_label"] == pytest.approx(2 / 3)
    assert baselines["longest_choice"] == pytest.approx((1 + 0 + 1 / 4) / 3)
    assert baselines["shortest_choice"] == pytest.approx((0 + 1 + 1 / 4) / 3)
    assert baselines["choices_only_acc"] == pytest.approx(1 / 3)


def test_142_of_500_right_is_above_chance_and_141_is_not():
    def result(n_right):
        right = prediction("abcd", [0, -1, -1, -1])
        wrong = prediction("abcd", [-1, 0, -1, -1])
        return summarise_cloze([right] * n_right + [wrong] * (500 - n_right))

    assert result(142).scores["acc_norm"].p_value < 0.05
    assert result(141).scores["acc_norm"].p_value > 0.05
    assert result(125).scores["acc_norm"].standard_error == pytest.approx(0.0194, abs=1e-4)


def test_the_chat_form_continues_the_prompt_exactly_as_tuning_did(chatty):
    context = render_prompt([Message("user", "Why?")], chatty.tokenizer, chatty.template)
    answer = chatty.tokenizer.encode("because")
    tuned = render(
        Conversation("c", (Message("user", "Why?"), Message("assistant", "because"))),
        chatty.tokenizer,
        chatty.template,
    )
    assert tuned.ids == [*context, *answer, chatty.tokenizer.end_of_text_id]
    question = MultipleChoice("q", "Why?", ("because", "never"), 0)
    result = evaluate(Engine(chatty), [question], Asking(template=chatty.template))
    [expected] = Engine(chatty).loglikelihood([(context, answer)])
    assert result.form == "chat"
    assert result.predictions[0].nats[0] == pytest.approx(expected.nats, abs=1e-5)


def test_spaces_at_the_end_of_the_question_belong_to_the_choice(plain):
    context, continuation, _ = encode_pair(plain.tokenizer, "fox  ", " house")
    assert plain.tokenizer.decode(context) == "fox"
    assert plain.tokenizer.decode(continuation) == "   house"


def test_a_cut_inside_a_token_is_noticed(plain):
    inside = [encode_pair(plain.tokenizer, "in th", "e sea")[2]]
    between = [encode_pair(plain.tokenizer, "in the", " sea")[2]]
    assert (inside, between) == ([True], [False])


def test_a_tokenizer_that_lacks_the_letters_is_refused():
    loaded = tiny_loaded(kind="char")
    strange = [MultipleChoice("q", "ЖЩЪ ЖЩЪ?", ("Ж", "Щ"), 0)]
    with pytest.raises(DataError, match="unknown to this model's tokenizer"):
        evaluate(Engine(loaded), strange)


def test_no_questions_are_refused(plain):
    with pytest.raises(DataError, match="no questions"):
        evaluate(Engine(plain), [])


def test_a_diverged_model_gets_no_score():
    loaded = tiny_loaded()
    with torch.no_grad():
        loaded.model.model.norm.weight.fill_(float("inf"))
    with pytest.raises(CheckpointError, match="not a number"):
        evaluate(Engine(loaded), QUESTIONS)
