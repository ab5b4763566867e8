"""Python's way in: one line from a file to a text."""

import subprocess
import sys

import pytest

import tinyllm
from tests.tiny import write_tiny_checkpoint
from tinyllm.errors import CheckpointError, ConfigError, UsageError

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
        next(model.stream(prompt))


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
