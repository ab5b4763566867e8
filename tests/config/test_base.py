import json
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, model_validator

from tinyllm.config.base import ConfigPath, DataSource, Strict, load_config
from tinyllm.config.json_lines import parse_with_lines
from tinyllm.errors import ConfigError


class Optimizer(Strict):
    name: str = "adamw"
    learning_rate: float = Field(default=1e-3, gt=0, description="Peak learning rate.")
    warmup: int = 0
    steps: int = 100

    @model_validator(mode="after")
    def _warmup_fits(self) -> "Optimizer":
        if self.warmup > self.steps:
            raise ValueError(f"warmup {self.warmup} is longer than {self.steps} steps")
        return self


class Config(Strict):
    seed: int = 0
    optimizer: Optimizer = Optimizer()
    data: DataSource
    output: ConfigPath | None = None
    prompts: tuple[str, ...] = ()


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refused(path: Path | None, *sets: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(Config, path, sets=sets)
    assert caught.value.exit_code == 2
    return caught.value


def test_layers_override_each_other_in_order(tmp_path: Path) -> None:
    write(tmp_path / "base.json", '{"seed": 1, "data": "a.txt", "optimizer": {"name": "muon"}}')
    path = write(tmp_path / "c.json", '{"extends": "base.json", "seed": 2, "prompts": ["x"]}')
    config = load_config(Config, path, sets=["seed=3", "optimizer.steps=7"], flags={"seed": 4})
    assert config.seed == 4
    assert config.optimizer == Optimizer(name="muon", steps=7)
    assert config.prompts == ("x",)


class Inner(Strict):
    size: int = 1
    rate: float = 1.0


class Outer(Strict):
    sampling: Inner = Inner(size=300, rate=0.3)
    by_factory: Inner = Field(default_factory=lambda: Inner(size=7))


class Middle(Strict):
    keeps_default: ClassVar[bool] = False
    inner: Inner = Inner(size=9)


class Alternatives(Strict):
    middle: Middle = Middle(inner=Inner(size=2, rate=0.5))


def test_what_is_said_of_a_section_lies_over_its_default() -> None:
    changed = load_config(Outer, sets=["sampling.rate=0.7", "by_factory.rate=2"])
    assert changed.sampling == Inner(size=300, rate=0.7)
    assert changed.by_factory == Inner(size=7, rate=2.0)
    assert Outer.model_validate(changed.model_dump()) == changed
    assert Outer(sampling=Inner(rate=0.7)).sampling.size == 1  # an object is the whole section


def test_a_section_of_alternatives_takes_the_place_of_its_default() -> None:
    said = load_config(Alternatives, sets=["middle.inner.rate=2"])
    assert said.middle.inner == Inner(size=9, rate=2.0)


def test_a_fault_beside_a_default_names_its_own_place(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"sampling": {\n"rate": "much"}}')
    with pytest.raises(ConfigError) as caught:
        load_config(Outer, path)
    assert f"{path}:2" in caught.value.message
    assert "sampling.rate" in caught.value.message


def test_a_flag_that_was_not_given_changes_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"seed": 2, "data": "a"}')
    assert load_config(Config, path, flags={"seed": None}).seed == 2


def test_paths_in_a_file_are_relative_to_it_and_flags_to_the_shell(tmp_path: Path) -> None:
    write(tmp_path / "base" / "b.json", '{"data": "a.txt"}')
    path = write(tmp_path / "plan" / "c.json", '{"extends": "../base/b.json", "output": "out"}')
    config = load_config(Config, path)
    assert Path(config.data) == tmp_path / "plan" / ".." / "base" / "a.txt"
    assert config.output == tmp_path / "plan" / "out"
    assert load_config(Config, path, sets=["output=x/y"]).output == Path("x/y")


def test_a_hub_name_in_a_file_is_not_a_path(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"data": "hf:owner/name"}')
    assert load_config(Config, path).data == "hf:owner/name"


def test_a_schema_key_is_for_editors_only(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"$schema": "train.schema.json", "data": "a"}')
    assert load_config(Config, path).seed == 0


def test_set_takes_the_type_that_the_key_wants() -> None:
    config = load_config(
        Config, sets=["data=123", 'prompts=["1"]', "optimizer.learning_rate=1", "optimizer.name=7"]
    )
    assert config.data == "123"
    assert config.optimizer.name == "7"
    assert config.optimizer.learning_rate == 1.0


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        (
            "optimizer.learning_rat=1",
            "unknown key `optimizer.learning_rat`",
            "optimizer.learning_rate",
        ),
        (
            "learning_rate=1",
            "unknown key `learning_rate`",
            "Did you mean `optimizer.learning_rate`?",
        ),
        ("sed=1", "unknown key `sed`", "Did you mean `seed`?"),
        ("seed=1.5", "`seed`: must be a whole number, found 1.5", None),
        ("seed=yes", '`seed`: must be a whole number, found "yes"', None),
        ("optimizer.learning_rate=-1", "must be more than 0", "Peak learning rate."),
        ("optimizer=3", "`optimizer`: must be an object, found 3", None),
        ("prompts=a", '`prompts`: must be an array, found "a"', None),
        ("optimizer.warmup=200", "`optimizer`: warmup 200 is longer than 100 steps", None),
        ("seed", "--set takes key=value, found 'seed'", "--set seed=7"),
    ],
)
def test_a_wrong_set_says_what_and_what_else(text: str, sentence: str, hint: str | None) -> None:
    error = refused(None, "data=a", text)
    assert sentence in error.message
    if hint:
        assert hint in (error.hint or "")


def test_faults_in_a_file_are_named_with_their_lines(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c.json",
        '{\n  "seed": "x",\n  "optimizer": {\n    "nam": "y"\n  },\n  "prompts": [\n"a",\n2]\n}',
    )
    message = refused(path).message
    assert f'{path}:2: `seed`: must be a whole number, found "x"' in message
    assert f"{path}:4: unknown key `optimizer.nam`" in message
    assert f"{path}:8: `prompts[1]`: must be a string, found 2" in message
    assert f"{path}:1: `data` is required" in message


@pytest.mark.parametrize(
    ("text", "sentence", "hint"),
    [
        ('{"seed": 1,}', "c.json:1: this is not valid JSON", None),
        ('{"seed": 1 // one\n}', "c.json:1: this is not valid JSON", "JSON has no comments"),
        ("{'seed': 1}", "c.json:1: this is not valid JSON", "JSON wants double quotes."),
        (
            '{"seed": 1,\n "seed": 2}',
            "c.json:2: this is not valid JSON: the key 'seed' stands",
            None,
        ),
        ("[1]", "a config is a JSON object, found an array", None),
        ("", "c.json is empty", None),
        ('{"extends": "c.json"}', "extends itself", None),
        (f'{{"seed": {"9" * 5000}}}', "c.json: a number here has thousands of digits", None),
        ('{"extends": 3}', "extends must be the path of a file, found 3", None),
    ],
)
def test_a_broken_file_is_refused(
    tmp_path: Path, text: str, sentence: str, hint: str | None
) -> None:
    error = refused(write(tmp_path / "c.json", text))
    assert sentence in error.message
    if hint:
        assert hint in (error.hint or "")


def test_a_config_that_is_not_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_bytes(b"\xff\xfe\x00\x93")
    assert "is not UTF-8 text" in refused(tmp_path / "c.json").message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values, st.sampled_from([None, 0, 2]))
def test_every_key_of_any_json_gets_its_line(value: object, indent: int | None) -> None:
    text = json.dumps(value, indent=indent)
    parsed, lines = parse_with_lines(text)
    assert parsed == value
    assert len(lines) == count_places(value)
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


def count_places(value: object) -> int:
    if isinstance(value, dict):
        return 1 + sum(map(count_places, value.values()))
    return 1 + sum(map(count_places, value)) if isinstance(value, list) else 1


def test_an_empty_path_is_refused() -> None:
    assert "`data`: a path is empty" in refused(None, "data=").message
    assert "`output`: a path is empty" in refused(None, "data=a", "output=").message


def test_a_config_nested_without_end_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c.json", '{"a": ' * 100_000 + "1" + "}" * 100_000)
    assert "nested too deeply" in refused(path).message


def test_a_refused_string_is_said_in_plain_words() -> None:
    class Named(Strict):
        name: str = Field(default="a", min_length=1, pattern="^[a-z]*$")

    for text, sentence in (
        ("name=", '`name`: must be at least 1 character long, found ""'),
        ("name=A/b", '`name`: must be of the form ^[a-z]*$, found "A/b"'),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(Named, sets=[text])
        assert sentence in caught.value.message
