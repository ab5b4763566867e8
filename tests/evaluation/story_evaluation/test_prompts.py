"""The prompts that ship, and those of others' files."""

import json
from collections import Counter
from pathlib import Path

import pytest

from tinyllm.errors import ConfigError, DataError
from tinyllm.evaluation.story_evaluation.prompts import PromptSet, StoryPrompt, read_prompt_set
from tinyllm.evaluation.story_evaluation.protocols import protocol_for, read_protocol
from tinyllm.evaluation.story_evaluation.subjects import DAMAGES, GOOD, anchors

YAML = """\
- |-
  One day a mouse found
  a piece of cheese, and
- "Ben said: \\"Let us"
- The cat was hungry because
"""


def test_fifty_beginnings_ship_most_of_them_cut_inside_of_a_sentence() -> None:
    prompts = read_prompt_set("beginnings").prompts
    assert len(prompts) == 50
    assert len({prompt.text for prompt in prompts}) == 50
    areas = Counter(prompt.id.rpartition("-")[0] for prompt in prompts)
    assert areas == dict.fromkeys(("character", "fact", "reasoning", "consistency", "dialogue"), 10)
    assert sum(prompt.text[-1] not in '.!?"' for prompt in prompts) > 40
    assert all(prompt.text == prompt.text.strip() for prompt in prompts)


def test_instructions_ask_for_the_words_they_name() -> None:
    for prompt in read_prompt_set("instructions").prompts:
        assert prompt.is_instruction
        assert all(word in prompt.text for word in prompt.words)


def test_what_ships_changes_only_with_its_version() -> None:
    names = ("beginnings", "instructions")
    assert [(p.version, p.sha256) for p in map(read_prompt_set, names)] == [
        (1, "bbd7bd2a68e0d8c1"),
        (1, "6df67665fcca1908"),
    ]
    protocols = ("gpt-eval-2turn", "gpt-eval-json", "instruct", "pairwise-ab")
    assert [(p.version, p.sha256) for p in map(read_protocol, protocols)] == [
        (1, "c715b59326a38411"),
        (1, "91efaa029caa040f"),
        (1, "98df7f837bba52f5"),
        (1, "00022d6243ea409e"),
    ]


def test_anchors_are_good_stories_and_each_of_their_damages() -> None:
    kinds: dict[str, dict[str, str]] = {}
    for subject in anchors(0):
        kind = subject.model.partition(":")[2]
        kinds.setdefault(kind, {})[subject.sample.prompt_id] = subject.sample.text
    assert set(kinds) == {GOOD, *DAMAGES}
    for story, good in kinds[GOOD].items():
        assert len({texts[story] for texts in kinds.values()}) == len(kinds)
        assert sorted(kinds["shuffled_words"][story].split()) == sorted(good.split())
        assert good.startswith(kinds["cut"][story])
    assert list(anchors(3)) == list(anchors(3)) != list(anchors(4))


def test_the_yaml_of_tinystories_authors_is_a_list_of_texts(tmp_path: Path) -> None:
    path = tmp_path / "Evaluation prompts.yaml"
    path.write_text(YAML)
    assert [prompt.text for prompt in read_prompt_set(str(path)).prompts] == [
        "One day a mouse found\na piece of cheese, and",
        'Ben said: "Let us',
        "The cat was hungry because",
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", '["A cat", {"id": 2, "prompt": "A dog "}]'),
        ("p.json", '{"version": 3, "prompts": [{"prompt": "A cat"}, {"text": "A dog"}]}'),
        ("p.jsonl", '"A cat"\n\n{"prompt": "A dog", "id": "2"}\n'),
        ("p.txt", "A cat\n\nA dog\n"),
        ("p.yml", "prompts:\n  - A cat\n  - prompt: A dog\n"),
    ],
)
def test_prompts_come_in_several_forms(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    found = read_prompt_set(str(tmp_path / name))
    assert found.prompts == (StoryPrompt("1", "A cat"), StoryPrompt("2", "A dog"))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("p.json", "{", "not valid JSON"),
        ("p.json", "3", "no list of prompts"),
        ("p.json", "[]", "holds no prompt"),
        ("p.json", '[{"id": 1}]', "no prompt here"),
        ("p.json", '["  "]', "no prompt here"),
        (
            "p.json",
            '[{"id": "a", "prompt": "x"}, {"id": "a", "prompt": "y"}]',
            "stands there twice",
        ),
        ("p.json", '[{"id": [], "prompt": "x"}]', "an id is"),
        ("p.json", '{"version": "a", "prompts": ["x"]}', "version"),
        ("p.json", '[{"instruction": "x", "words": "fox"}]', "list of texts"),
        ("p.jsonl", '"a"\n{', "p.jsonl:2"),
        ("p.yaml", "- [", "not valid YAML"),
        ("p.yaml", "!!python/object/apply:os.system [ls]", "not valid YAML"),
        ("p.txt", "\n\n", "holds no prompt"),
    ],
)
def test_a_file_that_holds_no_prompts_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(DataError, match=message):
        read_prompt_set(str(tmp_path / name))


def prompt_set(*are_instructions: bool) -> PromptSet:
    prompts = [StoryPrompt(str(i), "x", kind) for i, kind in enumerate(are_instructions)]
    return PromptSet("mine", None, tuple(prompts), "0")


def test_the_protocol_suits_the_prompts() -> None:
    assert protocol_for(None, prompt_set(False)).name == "gpt-eval-2turn"
    assert protocol_for(None, prompt_set(True)).name == "instruct"
    assert protocol_for("gpt-eval-json", prompt_set(False)).n_turns == 1
    for name, prompts in (("instruct", prompt_set(False)), ("gpt-eval-json", prompt_set(True))):
        with pytest.raises(ConfigError, match="protocol"):
            protocol_for(name, prompts)
    with pytest.raises(ConfigError, match="no protocol is for both"):
        protocol_for(None, prompt_set(True, False))


def test_a_protocol_of_ones_own_is_a_file(tmp_path: Path) -> None:
    own = {
        "name": "short", "version": 7, "kind": "grades", "source": "mine", "categories": ["humour"],
        "scale": [0, 5], "age_groups": False, "turns": ["Grade {story}: {form} {other}"],
        "form": "Humour: ?/5",
    }  # fmt: skip
    path = tmp_path / "short.json"
    path.write_text(json.dumps(own))
    protocol = read_protocol(str(path))
    assert protocol.write(0, {"story": "a {form} b"}) == "Grade a {form} b: Humour: ?/5 {other}"
    for key, wrong in (("turns", []), ("scale", [5, 0]), ("scale", 5), ("kind", "x")):
        broken = tmp_path / f"{key}-{wrong}.json"
        broken.write_text(json.dumps({**own, key: wrong}))
        with pytest.raises(DataError, match="is no protocol"):
            read_protocol(str(broken))
    with pytest.raises(DataError, match="there is no protocol"):
        read_protocol("gpt-eval")
