"""Letters in all rotations, written answers, examples and facts before a question."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllm.chat_template import render
from tinyllm.config.multiple_choice import EvalOpenbookqaConfig, MultipleChoiceTask
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.multiple_choice_task import known_tasks
from tinyllm.errors import DataError
from tinyllm.evaluation.multiple_choice import Asking, evaluate
from tinyllm.evaluation.multiple_choice.letters import LettersPrediction, summarise_letters
from tinyllm.evaluation.multiple_choice.sources import draw_shots
from tinyllm.evaluation.multiple_choice.written import match_choice
from tinyllm.generation.engine import Engine
from tinyllm.records import Conversation, Message, MultipleChoice
from tinyllm.reporting import SilentReporter

PATH = Path(__file__).with_name("questions.jsonl")
QUESTIONS = list(read_multiple_choice(str(PATH)))
OPENBOOKQA = known_tasks()["openbookqa"]
CHOICES = ("light", "sun light", "a wooden spoon", "soil")


def rotated(question, by):
    n = len(question.choices)
    return dataclasses.replace(
        question,
        choices=tuple(question.choices[(i + by) % n] for i in range(n)),
        answer=(question.answer - by) % n,
    )


# -- letters ------------------------------------------------------------------------------------


def test_the_order_of_the_choices_changes_no_pick_of_the_letters(plain):
    asked = QUESTIONS[:4]
    turned = [rotated(question, 1) for question in asked]
    engine, asking = Engine(plain), Asking(style="letters")
    one = evaluate(engine, asked, asking)
    other = evaluate(engine, turned, asking)
    for a, b in zip(one.predictions, other.predictions, strict=True):
        assert a.question.choices[a.best("acc")[0]] == b.question.choices[b.best("acc")[0]]
    assert one.scores["acc"].value == other.scores["acc"].value


@given(st.lists(st.floats(-20, 0), min_size=4, max_size=4), st.integers(0, 3))
def test_a_liking_for_letters_alone_is_a_tie_of_all_choices(liking, answer):
    question = MultipleChoice("q", "stem", ("a", "b", "c", "d"), answer)
    rotations = [[liking[(i - r) % 4] for i in range(4)] for r in range(4)]
    prediction = LettersPrediction(question, rotations)
    assert prediction.best("acc") == [0, 1, 2, 3]
    assert summarise_letters([prediction], "letters").scores["acc"].value == 0.25


def test_a_liking_for_one_letter_is_told():
    question = MultipleChoice("q", "stem", ("a", "b", "c", "d"), 0)
    rotations = [[0.0 if (i - r) % 4 == 1 else -9.0 for i in range(4)] for r in range(4)]
    details = summarise_letters([LettersPrediction(question, rotations)], "letters").details
    assert details["share_of_letters_won"] == {"B": 1.0}
    assert details["share_same_in_all_rotations"] == 0.0
    assert details["mean_acc_of_single_rotations"] == 0.25


def test_the_letter_is_scored_below_the_shown_choices(plain):
    question = MultipleChoice("q", "What shines?", ("sun", "mud", "wood"), 0)
    asking = Asking(style="letters")
    request = asking.letter_request(question, [1, 2, 0], 2, plain.tokenizer)
    text = plain.tokenizer.decode(request.context + request.continuation)
    assert text == "Question: What shines?\nA. mud\nB. wood\nC. sun\nAnswer: C"
    [prediction] = evaluate(Engine(plain), [question], asking).predictions
    [expected] = Engine(plain).loglikelihood([(request.context, request.continuation)])
    assert prediction.rotations[1][0] == pytest.approx(expected.nats, abs=1e-4)


# -- written answers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "choice", "match"),
    [
        ("soil", 3, "exact"),
        ("  Soil! ", 3, "exact"),
        ("A wooden spoon.", 2, "exact"),
        ("B", 1, "letter"),
        ("(D)", 3, "letter"),
        ("C. a wooden spoon", 2, "letter"),
        ("answer: A", 0, "letter"),
        ("I think it is the soil, of course", 3, "contains"),
        ("It needs sun light to grow.", 1, "contains"),
        ("light, and soil", None, "several"),
        ("a dog barked", None, "none"),
        ("soils and lights", None, "none"),
        ("E", None, "none"),
        ("", None, "none"),
        ("A spoon", None, "none"),
    ],
)
def test_a_written_answer_is_matched_or_left_alone(text, choice, match):
    assert match_choice(text, CHOICES) == (choice, match)


@given(st.lists(st.text("abc xyz", min_size=1), min_size=2, max_size=5, unique=True))
def test_the_text_of_a_choice_never_names_another_one(choices):
    words = [" ".join(choice.split()) for choice in choices]
    for i, choice in enumerate(choices):
        found, _ = match_choice(choice, choices)
        assert found == i or words.count(words[i]) > 1 or not words[i]


def test_written_answers_are_greedy_and_the_unmatched_are_counted(chatty):
    engine = Engine(chatty)
    asking = Asking(style="generate", template=chatty.template)
    result = evaluate(engine, QUESTIONS, asking, batch_size=5)
    again = evaluate(engine, QUESTIONS, asking, batch_size=64)
    assert [p.text for p in result.predictions] == [p.text for p in again.predictions]
    unmatched = [p for p in result.predictions if not p.best("acc")]
    assert result.details["unmatched_rate"] == len(unmatched) / len(QUESTIONS)
    assert sum(result.details["n_by_match"].values()) == len(QUESTIONS)


# -- examples, facts, gaps ----------------------------------------------------------------------


def config(**values):
    return EvalOpenbookqaConfig(**values)


def test_examples_are_drawn_by_seed_and_never_asked_themselves():
    asked = QUESTIONS[:20]

    def draw(**values):
        chosen = config(shots_data=str(PATH), **values)
        return draw_shots(OPENBOOKQA, chosen, "none", asked, SilentReporter())

    assert draw(n_shots=0) == ()
    assert draw(n_shots=2, seed=3) == draw(n_shots=2, seed=3)
    assert len({draw(n_shots=2, seed=seed) for seed in range(8)}) > 1
    assert not set(draw(n_shots=4)) & set(asked)
    with pytest.raises(DataError, match="holds 4 examples that are not asked"):
        draw(n_shots=5)


def test_examples_are_found_beside_the_questions(tmp_path):
    (tmp_path / "test.jsonl").write_bytes(PATH.read_bytes())
    source = str(tmp_path / "test.jsonl")
    with pytest.raises(DataError, match="training split of OpenBookQA"):
        draw_shots(OPENBOOKQA, config(n_shots=1), source, [], SilentReporter())
    (tmp_path / "train.jsonl").write_bytes(PATH.read_bytes())
    assert len(draw_shots(OPENBOOKQA, config(n_shots=3), source, [], SilentReporter())) == 3


def test_through_the_template_examples_are_turns_as_tuning_saw_them(chatty):
    shot, question = QUESTIONS[0], QUESTIONS[1]
    asking = Asking(OPENBOOKQA, shots=(shot,), template=chatty.template)
    request = asking.cloze_requests(question, chatty.tokenizer)[2]
    turns = (
        Message("user", shot.question),
        Message("assistant", shot.choices[shot.answer]),
        Message("user", question.question),
        Message("assistant", question.choices[2]),
    )
    tuned = render(Conversation("c", turns), chatty.tokenizer, chatty.template).ids
    assert [*request.context, *request.continuation] == tuned[:-1]


def test_the_fact_is_given_only_where_it_is_asked_for(plain):
    question = MultipleChoice("q", "Owls sleep", ("by day", "by night"), 0, "owls hunt at night")

    def text(**how):
        [request, _] = Asking(OPENBOOKQA, **how).cloze_requests(question, plain.tokenizer)
        return plain.tokenizer.decode(request.context + request.continuation)

    assert text() == "Owls sleep by day"
    assert text(with_fact=True) == "owls hunt at night\nOwls sleep by day"
    with pytest.raises(DataError, match="question t-0 has no fact"):
        Asking(OPENBOOKQA, with_fact=True).cloze_requests(QUESTIONS[0], plain.tokenizer)


def test_words_in_braces_inside_a_question_are_left_alone(plain):
    question = MultipleChoice("q", "What is {fact} and {question}?", ("x", "y"), 0, "f")
    asking = Asking(MultipleChoiceTask(name="t", title="T", prompt="Q: {question}\nA:"))
    request = asking.cloze_requests(question, plain.tokenizer)[0]
    text = plain.tokenizer.decode(request.context + request.continuation)
    assert text == "Q: What is {fact} and {question}?\nA: x"


@pytest.mark.parametrize("sentence", ["There is no gap.", "Nothing follows _"])
def test_a_sentence_without_a_gap_is_named(plain, sentence):
    question = MultipleChoice("w-1", sentence, ("a", "b"), 0)
    with pytest.raises(DataError, match="question w-1 has no '_' with text behind it"):
        evaluate(Engine(plain), [question], Asking(known_tasks()["winogrande"]))
