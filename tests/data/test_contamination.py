"""Questions of a test in what a model learns from."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tiny import write_tiny_checkpoint
from tinyllm.checkpoint import read_checkpoint_info
from tinyllm.config.base import load_config
from tinyllm.config.contamination import ScanContaminationConfig
from tinyllm.data.contamination import contaminated_ids, refuse_evaluation_files
from tinyllm.data.contamination.confirming import PieceWords
from tinyllm.data.contamination.matching import Matcher
from tinyllm.data.contamination.probes import items_of, question_key
from tinyllm.data.contamination.questions import Wanted
from tinyllm.data.contamination.scan import Scan
from tinyllm.data.contamination.workflow import ScanResult, run
from tinyllm.data.manifest import Manifest, Source, read_manifest, write_manifest
from tinyllm.data.word_hashes import Piece, split_words
from tinyllm.errors import DataError, UsageError
from tinyllm.files import sha256_file
from tinyllm.records import MultipleChoice
from tinyllm.reporting import SilentReporter

SHORT = MultipleChoice(
    "short",
    "Frogs that live in ponds eat",
    ("stones", "small flies", "clouds", "sand"),
    1,
    "frogs catch insects with long tongues",
)
LONG = MultipleChoice(
    "long",
    "A boy leaves a glass of cold water in the sun on a hot day and after some hours",
    ("it is warm", "it is ice", "it sings", "it grows"),
    0,
)
COMMON = MultipleChoice("common", "The sun is", ("a star in our sky", "blue", "wet", "small"), 0)
TWINS = [
    MultipleChoice(f"twin{i}", "Which of these things is true?", (answer, "b", "c", "d"), 0)
    for i, answer in enumerate(("iron can rust in wet air", "wood floats in most lakes"))
]
QUESTIONS = [SHORT, LONG, COMMON, *TWINS]


def wanted(questions: list[MultipleChoice] = QUESTIONS, n_words: int = 8) -> Wanted:
    items = items_of(questions)
    return Wanted(
        items, [{"source": "q", "sha256": None, "items": 5}], n_words, Matcher(items, n_words)
    )


def found_in(*texts: str, n_words: int = 8) -> dict[str, str]:
    scan = Scan(wanted(n_words=n_words))
    scan.read("text", texts)
    return {finding.item.id: finding.worst for finding in scan.findings}


def test_a_stem_is_found_whatever_its_case_and_punctuation() -> None:
    assert found_in("He read: FROGS, that live in “ponds” — eat... what?") == {"short": "stem"}
    assert found_in("Frogs that swim in ponds eat small flies.") == {}


def test_a_stem_with_its_answer_is_told_from_one_without() -> None:
    text = "Question: Frogs that live in ponds eat\n(A) stones (B) small flies\nAnswer: B"
    assert found_in(text) == {"short": "stem_answer"}
    assert found_in(LONG.question + " it is warm.") == {"long": "stem_answer"}


def test_a_changed_copy_of_a_long_stem_is_partial() -> None:
    changed = LONG.question.replace("A boy", "One girl")
    assert found_in(changed) == {"long": "partial"}
    assert found_in("On a hot day a glass of cold water in the sun gets warm.") == {}
    in_the_middle = LONG.question.replace("in the sun", "under the sun")
    assert found_in(in_the_middle) == {"long": "partial"}
    assert found_in(in_the_middle, n_words=13) == {}


def test_a_fact_and_a_stem_that_tells_nothing_are_listed_and_not_counted() -> None:
    text = "Frogs catch insects with long tongues. Which of these things is true? I ask."
    scan = Scan(wanted())
    scan.read("text", [text])
    assert {f.item.id: f.worst for f in scan.findings} == (
        {"short": "fact", "twin0": "common_stem", "twin1": "common_stem"}
    )
    assert not any(finding.is_leak for finding in scan.findings)


def test_a_common_stem_with_its_own_answer_is_a_leak_of_that_item_only() -> None:
    assert found_in("The sun is a star in our sky.") == {"common": "stem_answer"}
    assert found_in("The sun is hot.") == {}
    text = "Which of these things is true? Wood floats in most lakes."
    assert found_in(text) == {"twin0": "common_stem", "twin1": "stem_answer"}


def test_places_name_document_character_and_words() -> None:
    scan = Scan(wanted())
    scan.read("a.txt", ["nothing", "Wow! FROGS that live in ponds, eat."])
    scan.read("b.txt", ["x " * 70_000 + SHORT.question])
    first, second = scan.findings[0].places
    assert (first.source, first.document, first.offset) == ("a.txt", 1, 5)
    assert first.text == "FROGS that live in ponds, eat."
    assert (second.source, second.document, second.offset) == ("b.txt", 0, 140_000)
    assert (scan.n_documents, first.n) == (3, 6)
    assert scan.n_bytes == 7 + 35 + 140_000 + len(SHORT.question)


@given(st.text(st.sampled_from("aB1 \n\u00a0’'é\u0301Σ½…´ﬁ-_漢"), max_size=60))
def test_every_word_has_its_place(text: str) -> None:
    read = PieceWords(Piece(0, 7, text))
    for i, word in enumerate(read.words):
        assert word in split_words(read.text(i, i + 1))
        assert text[read.offset(i) - 7 :].startswith(read.text(i, i + 1))


@settings(max_examples=60)
@given(st.data())
def test_every_verbatim_stem_is_found_wherever_it_stands(data: st.DataObject) -> None:
    words = st.sampled_from(
        ["the", "sun", "frogs", "that", "live", "in", "a", "boy", "leaves", "glass", "is", "eat"]
    )
    stems = data.draw(
        st.lists(
            st.lists(words, min_size=5, max_size=30).map(tuple), min_size=1, max_size=4, unique=True
        )
    )
    questions = [
        MultipleChoice(str(i), " ".join(stem), ("zyx", "y"), 0) for i, stem in enumerate(stems)
    ]
    chosen = data.draw(st.integers(0, len(stems) - 1))
    before, after = data.draw(st.lists(words, max_size=30)), data.draw(st.lists(words, max_size=30))
    text = " ".join([*before, *stems[chosen], *after])
    scan = Scan(wanted(questions, data.draw(st.sampled_from([8, 13]))))
    scan.read("text", ["", text])
    found = {finding.item.id: finding for finding in scan.findings}
    assert found[str(chosen)].worst == "stem"
    for id, finding in found.items():
        for place in finding.places:
            if place.found == "stem":
                assert place.text == " ".join(stems[int(id)])
                assert text[place.offset :].startswith(place.text)


def test_order_of_documents_and_blocks_change_nothing() -> None:
    generator = random.Random(0)
    fill = [
        " ".join(generator.choices(["sun", "frog", "pond", "eat", "the", "of", "a"], k=40))
        for _ in range(50)
    ]
    texts = [*fill, SHORT.question, LONG.question + " it is warm", COMMON.question]
    wanted_classes = found_in(*texts)
    assert wanted_classes == {"short": "stem", "long": "stem_answer"}
    assert found_in(*reversed(texts)) == wanted_classes
    assert found_in("\n".join(texts)) == wanted_classes


def questions_file(path: Path) -> Path:
    rows = [
        {
            "id": q.id,
            "question": q.question,
            "choices": q.choices,
            "answer": q.answer,
            "fact": q.fact,
        }
        for q in QUESTIONS
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def scanned(tmp_path: Path, *texts: Path, **flags: object) -> ScanResult:
    questions = questions_file(tmp_path / "questions.jsonl")
    given = {"texts": [str(t) for t in texts], "questions": [str(questions)], **flags}
    return run(load_config(ScanContaminationConfig, flags=given), SilentReporter())


def info_of(tmp_path: Path, training: dict[str, Any]) -> Any:
    path = write_tiny_checkpoint(tmp_path / "m.safetensors", training=training)
    return read_checkpoint_info(path)


def data_of(*manifests: Manifest | None) -> list[dict[str, Any]]:
    return [{"source": "x", "manifest": m.to_json() if m else None} for m in manifests]


def recorded(tmp_path: Path, name: str, text: str) -> Manifest:
    path = tmp_path / name
    path.write_text(text)
    scanned(tmp_path, path, record=True)
    manifest = read_manifest(path)
    assert manifest is not None
    return manifest


def test_a_checkpoint_knows_what_its_texts_hold(tmp_path: Path) -> None:
    clean = recorded(tmp_path, "clean.txt", "Nothing to see here.\n")
    leaky = recorded(tmp_path, "leaky.txt", SHORT.question + "\n")
    assert leaky.contamination[0]["leaks"] == {question_key(SHORT): "stem"}
    info = info_of(tmp_path, {"data": data_of(clean), "started_from": None})
    assert contaminated_ids(info, QUESTIONS) == set()
    info = info_of(tmp_path, {"data": data_of(clean), "started_from": {"data": data_of(leaky)}})
    assert contaminated_ids(info, QUESTIONS) == {"short"}
    assert contaminated_ids(info, [LONG]) == set()


def test_what_was_not_searched_is_unknown_and_never_clean(tmp_path: Path) -> None:
    clean = recorded(tmp_path, "clean.txt", "Nothing to see here.\n")
    other = MultipleChoice("new", "A question that nobody looked for", ("a", "b"), 0)
    searched = {"data": data_of(clean), "started_from": None}
    for training in (
        {},
        {"data": []},
        {"data": data_of(clean, None)},
        {**searched, "started_from": {}},
        {**searched, "started_from": {"data": data_of(None)}},
    ):
        assert contaminated_ids(info_of(tmp_path, training), QUESTIONS) is None
    assert contaminated_ids(info_of(tmp_path, searched), [SHORT, other]) is None


def test_a_mixture_of_searched_texts_is_searched(tmp_path: Path) -> None:
    clean = recorded(tmp_path, "clean.txt", "Nothing to see here.\n")
    leaky = recorded(tmp_path, "leaky.txt", SHORT.question + "\n")

    def mixture(*sources: Manifest | None) -> Any:
        made_of = tuple(Source("s", manifest=manifest) for manifest in sources)
        mixed = Manifest("mix.txt", "text", 2, 10, "0", sources=made_of)
        return info_of(tmp_path, {"data": data_of(mixed), "started_from": None})

    assert contaminated_ids(mixture(clean, leaky), QUESTIONS) == {"short"}
    assert contaminated_ids(mixture(clean, None), QUESTIONS) is None
    assert contaminated_ids(mixture(), QUESTIONS) is None


def test_scanning_again_replaces_the_record_and_keeps_others(tmp_path: Path) -> None:
    path = tmp_path / "text.txt"
    path.write_text(SHORT.question + "\n")
    write_manifest(path, Manifest(path.name, "text", 1, path.stat().st_size, "0", ("CC0",)))
    scanned(tmp_path, path, record=True)
    scanned(tmp_path, path, record=True)
    manifest = read_manifest(path)
    assert manifest is not None
    assert manifest.licence == ("CC0",)
    assert len(manifest.contamination) == 1
    assert manifest == Manifest.from_json(json.loads(json.dumps(manifest.to_json())))


def test_the_report_holds_every_place(tmp_path: Path) -> None:
    path = tmp_path / "text.jsonl"
    path.write_text(json.dumps({"text": f"{SHORT.question} what? {SHORT.question}"}) + "\n")
    result = scanned(tmp_path, path, output=tmp_path / "out" / "report.json")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report == json.loads(json.dumps(result.to_json()))
    (text,) = report["texts"]
    assert (text["items"], text["hits"], text["exact"], text["too_short"]) == (1, 2, 1, 0)
    assert [place["offset"] for place in text["found"][0]["places"]] == [0, 35]


def test_a_manifest_is_not_written_beside_the_hub(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="on the hub"):
        scanned(tmp_path, record=True, texts=["hf:owner/name"])


@pytest.mark.parametrize("content", ["", "not a question\n", '{"question": 3}\n'])
def test_questions_that_are_none_are_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "text.txt"
    path.write_text("A text.\n")
    bad = tmp_path / "bad.jsonl"
    bad.write_text(content)
    config = load_config(
        ScanContaminationConfig, flags={"texts": [str(path)], "questions": [str(bad)]}
    )
    with pytest.raises(DataError):
        run(config, SilentReporter())


def test_a_file_kept_for_evaluation_is_refused_and_so_is_a_copy(tmp_path: Path) -> None:
    kept, copy, other = tmp_path / "kept.txt", tmp_path / "copy.txt", tmp_path / "other.txt"
    kept.write_text("What is it?\n")
    copy.write_text("What is it?\n")
    other.write_text("What is he?\n")
    refuse_evaluation_files(str(other), [kept])
    for path in (kept, copy, tmp_path):
        with pytest.raises(DataError, match="kept for evaluation"):
            refuse_evaluation_files(str(path), [kept])


def test_a_text_made_of_evaluation_data_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mix.txt"
    path.write_text("What is it?\n")
    test = Manifest("test.txt", "text", 1, 1, "0", evaluation_only=True)
    write_manifest(
        path, Manifest(path.name, "text", 1, 12, "0", sources=(Source("t", manifest=test),))
    )
    with pytest.raises(DataError, match="kept for evaluation"):
        refuse_evaluation_files(str(path))


def test_a_text_made_of_a_test_before_it_was_registered_is_refused(tmp_path: Path) -> None:
    kept, path = tmp_path / "kept.txt", tmp_path / "mix.txt"
    kept.write_text("What is it?\n")
    path.write_text("What is it? A test.\n")
    inner = Manifest("clean.txt", "text", 1, 1, "0", sources=(Source("k", sha256_file(kept)),))
    outer = (Source("c", manifest=inner),)
    write_manifest(path, Manifest(path.name, "text", 1, path.stat().st_size, "0", sources=outer))
    refuse_evaluation_files(str(path))
    with pytest.raises(DataError, match=r"made of .*kept\.txt"):
        refuse_evaluation_files(str(path), [kept])


@pytest.mark.parametrize("name", ["allenai/openbookqa", "Rowan/hellaswag", "allenai/ai2_arc"])
def test_tests_on_the_hub_are_known_by_name(name: str) -> None:
    for address in (f"hf:{name}", f"hf:{name}/main:train"):
        with pytest.raises(DataError, match="kept for evaluation"):
            refuse_evaluation_files(address)
    refuse_evaluation_files("hf:owner/stories:train")


@pytest.mark.real_data
def test_published_questions_are_known_by_their_hash(real_data: Path) -> None:
    for name in ("Main/train.jsonl", "Main/dev.tsv", "Additional/dev_complete.jsonl"):
        with pytest.raises(DataError, match="OpenBookQA"):
            refuse_evaluation_files(str(real_data / "openbookqa" / name))


@pytest.mark.real_data
def test_alpaca_and_wikitext_hold_what_the_documentation_says(real_data: Path) -> None:
    questions = [f"Additional/{split}_complete.jsonl" for split in ("dev", "train")]
    flags = {
        "texts": [str(real_data / "alpaca"), str(real_data / "wikitext")],
        "questions": [str(real_data / "openbookqa" / name) for name in questions],
    }
    result = run(load_config(ScanContaminationConfig, flags=flags), SilentReporter())
    assert {finding.item.id for finding in result.leaks} == {"7-980", "12-474", "12-914", "13-410"}
    alpaca, *wikitext = result.texts
    assert (alpaca.record["items"], alpaca.record["listed"], alpaca.record["too_short"]) == (
        (4, 45, 42)
    )
    assert all(not text.findings for text in wikitext)
