"""A conversation remembers, forgets the oldest when it must, and takes turns back."""

import itertools
import math

import pytest

from tests.tiny import tiny_loaded
from tinyllm.chat_template import render_prompt
from tinyllm.config.generation import Sampling
from tinyllm.errors import UsageError
from tinyllm.generation.chat_session import ChatSession
from tinyllm.generation.engine import Engine
from tinyllm.records import Conversation, Message

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


def test_a_retry_by_another_message_takes_the_place_of_the_last(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    say(session, "one")
    say(session, "two")
    "".join(session.retry("three"))
    assert [exchange.user for exchange in session.history] == ["one", "three"]


def test_nothing_changes_before_the_first_token_is_drawn(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    say(session, "one")
    before = session.history
    session.send("two")
    session.retry()
    session.set(Sampling(ban=("no such token",)))
    with pytest.raises(UsageError):
        say(session, "three")
    with pytest.raises(UsageError):
        "".join(session.retry())
    assert session.history == before


def test_a_retry_that_does_not_fit_keeps_the_exchange(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    say(session, "one")
    with pytest.raises(UsageError, match="context holds 512"):
        session.retry("fox " * 600)
    assert [exchange.user for exchange in session.history] == ["one"]


def test_a_fork_says_the_same_and_then_goes_its_own_way(roomy):
    session = ChatSession(Engine(roomy), SHORT, system="Be.")
    say(session, "one")
    other = session.fork(Engine(roomy))
    assert say(session, "two") == say(other, "two")
    assert other.conversation() == session.conversation()
    other.undo()
    assert len(session.history) == 2


def test_another_engine_goes_on_with_what_was_said_and_given(roomy, monkeypatch):
    session = ChatSession(Engine(roomy), Sampling(top_k=7, max_new_tokens=5, seed=7), system="Be.")
    say(session, "one")
    session.switch(Engine(tiny_loaded(chat=True, context_length=256, generation={"top_p": 0.5})))
    seen = prompts_of(session, monkeypatch)
    say(session, "two")
    text = roomy.tokenizer.decode(seen[0])
    assert text.startswith("Be.")
    assert "one" in text
    assert (session.sampling.top_k, session.sampling.top_p) == (7, 0.5)
    assert session.engine.context_length == 256


def test_a_base_model_in_between_keeps_the_conversation(roomy, plain):
    session = ChatSession(Engine(roomy), SHORT, system="Be.")
    say(session, "one")
    session.switch(Engine(plain))
    assert session.n_context_tokens() == 0
    session.switch(Engine(roomy))
    assert session.system == "Be."
    assert session.conversation().messages[1] == Message("user", "one")


def test_a_setting_can_be_taken_back_to_the_checkpoints_own():
    loaded = tiny_loaded(chat=True, generation={"temperature": 0.3})
    session = ChatSession(Engine(loaded), Sampling(temperature=1.0, top_k=4))
    origins = [session.origin(name) for name in ("temperature", "top_k", "top_p")]
    assert origins == ["set here", "set here", "default"]
    session.reset("temperature")
    assert (session.sampling.temperature, session.sampling.top_k) == (0.3, 4)
    assert session.origin("temperature") == "from the checkpoint"
    session.reset()
    assert session.sampling.top_k == 0


def test_a_conversation_that_was_saved_goes_on(roomy):
    session = ChatSession(Engine(roomy), SHORT, system="Be.")
    say(session, "one")
    say(session, "two")
    other = ChatSession(Engine(roomy), SHORT)
    other.load(session.conversation())
    assert (other.system, other.history) == (session.system, session.history)


@pytest.mark.parametrize(
    "roles", [[], ["system"], ["user"], ["assistant", "user"], ["user", "assistant", "system"]]
)
def test_what_is_no_conversation_is_refused_and_changes_nothing(roomy, roles):
    session = ChatSession(Engine(roomy), SHORT, system="Be.")
    say(session, "one")
    with pytest.raises(UsageError, match="do not take turns"):
        session.load(Conversation("x", tuple(Message(role, "words") for role in roles)))
    assert len(session.history) == 1


def test_the_last_exchanges_can_be_had_alone(roomy):
    session = ChatSession(Engine(roomy), SHORT, system="Be.")
    for text in ("one", "two", "three"):
        say(session, text)
    roles = [message.role for message in session.conversation(session.history[-1:]).messages]
    assert roles == ["system", "user", "assistant"]
    assert session.conversation(session.history[-2:]).messages[1].content == "two"
    assert session.conversation([]).messages == (Message("system", "Be."),)


def test_a_reply_knows_what_it_cost(roomy):
    session = ChatSession(Engine(roomy), SHORT)
    assert session.last is None
    say(session, "one")
    first = session.last
    assert (len(first.ids), first.finish_reason, first.is_cut_by_limit) == (5, "length", True)
    assert 0 < first.first_token_seconds <= first.elapsed_seconds
    assert first.tokens_per_second == pytest.approx(5 / first.elapsed_seconds)
    say(session, "two")
    assert session.last.n_reused_tokens >= len(first.prompt)
    assert session.n_context_tokens() > len(session.last.prompt)
    session.undo()
    assert session.last is None


def test_the_odds_of_a_reply_are_those_it_was_drawn_by(roomy):
    session = ChatSession(Engine(roomy), Sampling(max_new_tokens=12, temperature=1.3, seed=4))
    say(session, "one")
    reply = session.last
    odds = reply.odds(3)
    assert [token.token_id for token in odds] == reply.ids
    assert all(len(token.top) == 3 for token in odds)
    asked = Sampling(max_new_tokens=12, temperature=1.3, logprobs=3, seed=reply.sampling.seed)
    (whole,) = Engine(roomy).complete([reply.prompt], asked)
    assert whole.ids == tuple(reply.ids)
    for ours, theirs in zip(odds, whole.odds, strict=True):
        assert ours.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert math.exp(ours.logprob) <= 1


def test_the_odds_of_a_reply_that_was_broken_off_end_where_it_did(roomy):
    session = ChatSession(Engine(roomy), Sampling(max_new_tokens=30, seed=4))
    reply = session.send("one")
    list(itertools.islice(reply, 7))
    reply.close()
    assert len(session.last.odds(0)) == len(session.last.ids) == 7
    say(session, "two")  # the engine is free again


def test_odds_are_found_where_drawing_again_would_part_from_the_reply(roomy):
    engine = Engine(roomy)
    session = ChatSession(engine, Sampling(max_new_tokens=8, seed=4))
    say(session, "one")
    reply = session.last
    reply.ids[3:] = [reply.ids[3] % 200 + 1, 77, roomy.tokenizer.end_of_text_id]
    odds = reply.odds(2)
    assert [token.token_id for token in odds] == reply.ids
    (whole,) = engine.loglikelihood([(reply.prompt, reply.ids)])
    assert math.fsum(token.logprob for token in odds) == pytest.approx(whole.nats, abs=1e-3)


def test_a_loop_ends_a_reply(roomy):
    session = ChatSession(
        Engine(tiny_loaded(chat=True, context_length=2048)), Sampling(temperature=0.0)
    )
    say(session, "tell me everything")
    assert session.finish_reason == "loop"
