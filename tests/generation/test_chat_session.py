"""A conversation remembers, forgets the oldest when it must, and takes turns back."""

import pytest

from tests.tiny import tiny_loaded
from tinyllm.chat_template import render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession
from tinyllm.generation.engine import Engine
from tinyllm.records import Message

SHORT = Sampling(max_new_tokens=5, seed=2)


def say(session, text):
    return "".join(session.send(text))


@pytest.fixture(scope="module")
def roomy():
    return tiny_loaded(chat=True, context_length=512)


def prompts_of(session, monkeypatch):
    """Record what the engine is asked to continue."""
    seen = []
    generate = session.engine.generate

    def spy(prompts, sampling, **options):
        seen.extend(prompts)
        return generate(prompts, sampling, **options)

    monkeypatch.setattr(session.engine, "generate", spy)
    return seen


def test_the_second_turn_sees_the_first(roomy, monkeypatch):
    session = ChatSession(Engine(roomy), SHORT)
    seen = prompts_of(session, monkeypatch)
    say(session, "my name is Ada")
    say(session, "what is my name?")
    first = session.history[0]
    assert first.user == "my name is Ada"
    expected = [
        Message("user", first.user),
        Message("assistant", first.reply),
        Message("user", "what is my name?"),
    ]
    assert seen[1] == render_prompt(
        [m for m in expected if m.content], roomy.tokenizer, roomy.template
    )


def test_the_same_seed_gives_the_same_conversation(roomy):
    def talk():
        session = ChatSession(Engine(roomy), SHORT)
        return [say(session, text) for text in ("hello", "and then?", "why?")]

    assert talk() == talk()


def test_retry_draws_another_reply_to_the_same_message(roomy):
    session = ChatSession(Engine(roomy), Sampling(max_new_tokens=20, temperature=1.5, seed=1))
    first = say(session, "hello")
    second = "".join(session.retry())
    assert first != second
    assert [exchange.user for exchange in session.history] == ["hello"]


def test_undo_takes_the_last_exchange_back(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    say(session, "one")
    say(session, "two")
    assert session.undo().user == "two"
    assert [exchange.user for exchange in session.history] == ["one"]


def test_nothing_can_be_retried_or_undone_before_anything_was_said(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    with pytest.raises(UsageError, match="nothing has been said"):
        session.retry()
    with pytest.raises(UsageError, match="nothing has been said"):
        session.undo()


def test_a_reply_that_is_broken_off_is_kept_as_far_as_it_came(roomy):
    session = ChatSession(Engine(roomy), Sampling(temperature=0.0, max_new_tokens=30))
    whole = say(session, "tell me of the fox")
    session.undo()
    reply = session.send("tell me of the fox")
    part = "".join(next(reply) for _ in range(3))
    reply.close()
    assert session.history[-1].reply == part.strip("\n")
    assert whole.startswith(part)
    assert session.finish_reason is None


def test_the_oldest_turns_make_way_when_the_context_is_full(monkeypatch):
    loaded = tiny_loaded(chat=True, context_length=192)
    session = ChatSession(Engine(loaded), SHORT)
    seen = prompts_of(session, monkeypatch)
    n_forgotten = []
    for i in range(8):
        say(session, f"message number {i}")
        n_forgotten.append(session.n_forgotten)
    assert n_forgotten[0] == 0
    assert n_forgotten[-1] > 0
    assert all(len(ids) <= 144 for ids in seen)
    assert "number 7" in loaded.tokenizer.decode(seen[-1])
    assert "number 0" not in loaded.tokenizer.decode(seen[-1])
    assert len(session.history) == 8


def test_a_message_longer_than_the_context_is_refused_and_changes_nothing(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    say(session, "hello")
    with pytest.raises(UsageError, match="context holds 512"):
        session.send("fox " * 600)
    assert len(session.history) == 1


def test_the_system_text_stands_first_and_stays(roomy, monkeypatch):
    session = ChatSession(Engine(roomy), SHORT, system="You are a fox.")
    seen = prompts_of(session, monkeypatch)
    say(session, "who are you?")
    say(session, "really?")
    assert all(roomy.tokenizer.decode(ids).startswith("You are a fox.") for ids in seen)
    assert session.conversation().messages[0] == Message("system", "You are a fox.")


def test_a_base_model_continues_each_text_by_itself(plain, monkeypatch):
    session = ChatSession(Engine(plain), SHORT)
    seen = prompts_of(session, monkeypatch)
    say(session, "Once")
    say(session, "The fox")
    assert not session.is_chat_tuned
    assert seen == [plain.tokenizer.encode("Once"), plain.tokenizer.encode("The fox")]


def test_a_base_model_has_no_place_for_a_system_text(plain):
    with pytest.raises(UsageError, match="not chat-tuned"):
        ChatSession(Engine(plain), system="You are a fox.")


def test_settings_change_one_by_one_and_the_rest_stays():
    loaded = tiny_loaded(chat=True, generation={"temperature": 0.3, "top_k": 9})
    session = ChatSession(Engine(loaded), Sampling(top_p=0.5))
    session.set(Sampling(top_k=2))
    sampling = session.sampling
    assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.3, 2, 0.5)


def test_a_chat_model_stops_before_it_speaks_for_the_user(chatty):
    session = ChatSession(Engine(chatty), SHORT)
    assert "### Instruction:" in session.sampling.stop
