"""Python's way in: one line from a file to a text."""

import gc
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

import tinyllm
from tests.tiny import tiny_loaded, write_tiny_checkpoint
from tinyllm.api import Model, Settings
from tinyllm.config.generation import Sampling
from tinyllm.errors import CheckpointError, ConfigError, UsageError
from tinyllm.generation.batch import Batch
from tinyllm.generation.choose_runner import choose_runner
from tinyllm.generation.engine import Engine

DRAW = {"seed": 4, "max_new_tokens": 12, "temperature": 1.0}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return tinyllm.load(write_tiny_checkpoint(tmp_path_factory.mktemp("api") / "base.safetensors"))


@pytest.fixture(scope="module")
def chat_model(tmp_path_factory):
    path = tmp_path_factory.mktemp("api") / "chat.safetensors"
    return tinyllm.load(write_tiny_checkpoint(path, chat=True))


def test_importing_the_package_loads_nothing_heavy():
    code = (
        "import sys, tinyllm; tinyllm.__version__; "
        "print([m for m in ('torch', 'numpy', 'pydantic', 'typer') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_the_package_has_no_other_names():
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        tinyllm.lod  # noqa: B018
    assert set(tinyllm.__all__) <= set(dir(tinyllm)) | {"Model", "load"}


def test_a_prompt_is_continued_the_same_way_for_the_same_seed(model):
    text = model.generate("Once upon", **DRAW)
    assert text == model.generate("Once upon", **DRAW)
    assert text == "".join(model.stream("Once upon", **DRAW))
    assert text == model.complete(["The fox", "Once upon"], n=2, **DRAW)[2].text


def test_a_chat_model_answers_through_its_template(chat_model, model):
    assert chat_model.is_chat_tuned
    assert not model.is_chat_tuned
    assert chat_model.generate("Why?", raw=True, **DRAW) == model.generate("Why?", **DRAW)
    assert chat_model.generate("Why?", **DRAW) != model.generate("Why?", **DRAW)


def test_a_chat_keeps_its_turns(chat_model):
    chat = chat_model.chat(system="Be brief.", max_new_tokens=3, seed=1)
    reply = "".join(chat.send("Hello"))
    assert chat.history[0].user == "Hello"
    assert chat.history[0].reply == reply.strip("\n")
    assert repr(chat) == "<tinyllm.Chat: 1 exchange>"
    assert chat.finish_reason in ("stop", "length")
    assert chat.say("And then?").strip("\n") == chat.history[1].reply
    assert chat.retry().strip("\n") == chat.history[1].reply
    assert len(chat.history) == 2
    roles = [message.role for message in chat.conversation().messages]
    assert roles == ["system", "user", "assistant", "user", "assistant"]
    assert chat.undo().user == "And then?"
    assert chat.n_forgotten == 0
    chat.clear()
    assert chat.history == ()


def test_a_chat_that_is_broken_off_keeps_what_was_said(chat_model):
    chat = chat_model.chat(max_new_tokens=20, seed=1)
    reply = chat.send("Hello")
    first = next(reply) + next(reply)
    reply.close()
    assert chat.history[0].reply == first.strip("\n")
    assert chat.finish_reason is None


def test_the_same_chat_says_the_same(chat_model):
    replies = [chat_model.chat(max_new_tokens=8, seed=1).say("Hello") for _ in range(2)]
    assert replies[0] == replies[1]


def test_a_likelier_text_has_the_larger_loglikelihood(model):
    greedy = model.generate("The fox", temperature=0, max_new_tokens=3)
    likely, unlikely = model.loglikelihood([("The fox", greedy), ("The fox", " zq%&")])
    assert likely.nats > unlikely.nats


def test_the_checkpoint_tells_about_itself(model):
    assert model.info.kind == "base"
    assert model.tokenizer.decode(model.tokenizer.encode("naïve 🌍")) == "naïve 🌍"


def test_a_setting_out_of_range_or_unknown_is_refused(model):
    with pytest.raises(ConfigError, match="must be at least 0"):
        model.generate("x", temperature=-1)
    with pytest.raises(ConfigError, match="temprature") as caught:
        model.generate("x", temprature=1)
    assert "Did you mean `temperature`" in (caught.value.hint or "")


@pytest.mark.parametrize("prompt", [5, None, ["a"], b"a"])
def test_a_prompt_that_is_no_text_is_refused(model, prompt):
    with pytest.raises(UsageError, match="a prompt must be a string"):
        model.generate(prompt)
    with pytest.raises(UsageError, match="a prompt must be a string"):
        model.stream(prompt)
    with pytest.raises(UsageError, match="a prompt must be a string"):
        model.complete([prompt])


def test_a_stream_refuses_at_once(model):
    with pytest.raises(ConfigError, match="must be at least 0"):
        model.stream("x", temperature=-1)
    with pytest.raises(UsageError, match="context holds 96"):
        model.stream("fox " * 200)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: model.complete(5), "prompts must be a list, found 5"),
        (lambda model: model.complete({"a"}), "prompts must be a list"),
        (lambda model: model.complete(["x"], n=True), "at least 1, found True"),
        (lambda model: model.complete(["x"], n=1.5), "at least 1, found 1.5"),
        (lambda model: model.generate("x", system=5), "system must be a string, found 5"),
        (lambda model: model.generate("x", system="Be brief."), "not chat-tuned"),
        (lambda model: model.chat(system=b"x"), "system must be a string"),
        (lambda model: model.chat(system="Be brief."), "not chat-tuned"),
        (lambda model: model.chat().send(5), "a message must be a string, found 5"),
        (lambda model: model.chat().retry(), "nothing has been said yet"),
        (lambda model: model.loglikelihood("ab"), "pairs must be a list"),
        (lambda model: model.loglikelihood(["ab"]), r"a pair must be \(context, continuation\)"),
        (lambda model: model.loglikelihood([("a", 5)]), "a pair must be"),
        (lambda model: model.loglikelihood([("a",)]), "a pair must be"),
        (lambda model: model.generate("x", seed="1"), "must be a whole number"),
        (lambda model: model.generate("x", top_k=None), "must be a whole number"),
        (lambda model: model.generate("x", stop=5), "must be an array"),
        (lambda model: model.generate("x", max_new_tokens=0), "must be at least 1"),
        (lambda model: model.generate("x", logprobs=21), "must be at most 20"),
    ],
)
def test_a_wrong_type_is_answered_in_one_sentence(model, call, message):
    with pytest.raises(UsageError, match=message):
        call(model)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"checkpoint": 5}, "a checkpoint is a path or a name, found 5"),
        ({"device": "abacus"}, "device must be one of auto, cpu, cuda, mps, found 'abacus'"),
        ({"dtype": "int4"}, "dtype must be one of auto, float32, bfloat16, int8, found 'int4'"),
    ],
)
def test_what_cannot_be_loaded_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        tinyllm.load(**arguments)


def test_a_call_that_cannot_be_meant_is_refused(model):
    with pytest.raises(UsageError, match="at least 1, found 0"):
        model.complete(["x"], n=0)
    with pytest.raises(UsageError, match="a list was expected"):
        model.complete("x")
    with pytest.raises(UsageError, match="returns one text"):
        model.generate("x", n=0)
    with pytest.raises(ConfigError, match=r"^`temperature`: must be at least 0"):
        model.generate("x", temperature=-1)


def test_a_missing_checkpoint_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no checkpoint"):
        tinyllm.load(tmp_path / "nothing.safetensors")


def test_the_arguments_are_the_settings_of_the_schema():
    assert set(Settings.__annotations__) == set(Sampling.model_fields)


def test_none_is_a_value_and_lists_are_taken(chat_model):
    """A stored default gives way to null, where null is one of the values."""
    text = chat_model.generate("Why?", seed=1, max_new_tokens=None, stop=["a", "e"], temperature=1)
    assert "a" not in text
    assert "e" not in text


def test_one_text_stands_for_a_list_of_one(chat_model):
    text = chat_model.generate("Why?", seed=1, temperature=1, stop="a")
    assert text == chat_model.generate("Why?", seed=1, temperature=1, stop=["a"])
    assert "a" not in text


def test_odds_come_with_the_tokens_when_they_are_asked_for(model):
    [plain] = model.complete(["The fox"], **DRAW)
    assert plain.odds is None
    [completion] = model.complete(["The fox"], logprobs=3, **DRAW)
    assert completion.text == plain.text
    assert completion.odds is not None
    assert [token.token_id for token in completion.odds] == list(completion.ids)
    assert all(len(token.top) == 3 for token in completion.odds)
    assert all(token.logprob < 0 for token in completion.odds)


def test_a_model_tells_what_it_is(model, chat_model):
    assert repr(model).startswith("<tinyllm.Model ")
    assert "base.safetensors': base, " in repr(model)
    assert repr(chat_model).endswith(" parameters, context 96>")


def test_nothing_is_printed(tmp_path, capfd):
    model = tinyllm.load(write_tiny_checkpoint(tmp_path / "chat.safetensors", chat=True))
    model.generate("Why?", **DRAW)
    list(model.stream("Why?", **DRAW))
    model.chat(**DRAW).say("Why?")
    model.loglikelihood([("a", "b")])
    assert capfd.readouterr() == ("", "")


def n_live_texts():
    return sum(batch.n_live for batch in gc.get_objects() if type(batch) is Batch)


def test_a_stream_that_is_closed_or_left_frees_its_row(model):
    before = n_live_texts()
    for way in ("close", "leave", "break"):
        stream = model.stream("Once", seed=4, min_new_tokens=90, stop_on_loop=False)
        assert next(stream)  # and at most 64 tokens are drawn ahead
        assert n_live_texts() == before + 1
        if way == "close":
            stream.close()
            assert list(stream) == []
        elif way == "leave":
            del stream
        else:
            for _ in stream:
                break
            del stream
        assert n_live_texts() == before


def test_streams_side_by_side_are_the_texts_alone(model):
    prompts = ["Once upon", "The fox", "The fox", "A plant"]
    alone = [model.generate(prompt, **{**DRAW, "seed": i}) for i, prompt in enumerate(prompts)]
    streams = [model.stream(prompt, **{**DRAW, "seed": i}) for i, prompt in enumerate(prompts)]
    texts = [""] * len(prompts)
    while any(pieces := [next(stream, "") for stream in streams]):
        texts = [text + piece for text, piece in zip(texts, pieces, strict=True)]
    assert texts == alone


class OneAtATime:
    """Passes everything on to a part of an engine, and notes how many threads are inside."""

    def __init__(self, part, inside):
        self._part, self._inside = part, inside

    def open(self, *arguments):
        return OneAtATime(self._part.open(*arguments), self._inside)

    @property
    def lengths(self):
        return self._part.lengths

    def __getattr__(self, name):
        def watched(*arguments):
            self._inside.append(name)
            try:
                self._inside.most = max(self._inside.most, len(self._inside))
                return getattr(self._part, name)(*arguments)
            finally:
                self._inside.pop()

        return watched


class Inside(list):
    """What is being computed, and the most there was at a time."""

    most = 0


def test_several_threads_may_use_one_model():
    loaded, inside = tiny_loaded(chat=True), Inside()
    model = Model(Engine(loaded, runner=OneAtATime(choose_runner(loaded), inside)))

    def speak(number):
        """Return what one thread hears, in one of the five ways."""
        draw = {"seed": number, "max_new_tokens": 10 + number % 5, "temperature": 1.0}
        prompt = f"Why {number % 7}?"
        return (
            lambda: model.generate(prompt, **draw),
            lambda: "".join(model.stream(prompt, **draw)),
            lambda: [c.text for c in model.complete([prompt, "Hi"], n=2, **draw)],
            lambda: model.chat(**draw).say(prompt),
            lambda: model.loglikelihood([(prompt, " It is.")])[0].nats,
        )[number % 5]()

    alone = [speak(number) for number in range(80)]
    barrier = Barrier(8)

    def in_thread(first):
        barrier.wait()
        return [speak(number) for number in range(first, 80, 8)]

    with ThreadPoolExecutor(8) as pool:
        heard = list(pool.map(in_thread, range(8)))
    assert [heard[number % 8][number // 8] for number in range(80)] == alone
    assert inside.most == 1
