import json
import shutil
from pathlib import Path

import pytest

import tinyllm
from tinyllm.checkpoint import load_checkpoint
from tinyllm.config.quickstart import QuickstartConfig
from tinyllm.data.multiple_choice import read_multiple_choice
from tinyllm.data.sources import read_conversations, read_documents
from tinyllm.errors import Interrupted, UsageError
from tinyllm.providers.story_grammar import word_triples
from tinyllm.quickstart.corpus import ask_for_story, write_corpus
from tinyllm.quickstart.examination import Count
from tinyllm.quickstart.report import as_text
from tinyllm.quickstart.workflow import QuickstartResult, run, stored_config
from tinyllm.records import Conversation
from tinyllm.reporting import RecordingReporter


def _config(folder: Path, minutes: float = 0.05) -> QuickstartConfig:
    return QuickstartConfig(
        output=folder / "demo", minutes=minutes, n_stories=120, n_trials=3, hidden_size=32
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> QuickstartResult:
    return run(_config(tmp_path_factory.mktemp("quickstart")), RecordingReporter())


def test_it_leaves_a_small_chat_checkpoint_that_speaks_alone(
    demo: QuickstartResult, tmp_path: Path
) -> None:
    alone = tmp_path / "alone.safetensors"
    shutil.copyfile(demo.checkpoint, alone)
    loaded = load_checkpoint(alone)
    assert loaded.info.kind == "chat"
    assert demo.n_bytes == alone.stat().st_size < 20_000_000
    assert isinstance(tinyllm.load(alone).generate("What does a cow say?"), str)


def test_it_measures_what_it_promises(demo: QuickstartResult) -> None:
    found = demo.examination
    assert len(found.trials) == found.uses_its_words.total == found.ends_by_itself.total == 3
    assert found.bits_per_byte > 0
    assert found.quiz.total > 300
    assert 0 <= found.quiz.interval.low <= found.quiz.interval.high <= 1
    assert found.quiz_chance == pytest.approx(0.25)
    results = json.loads((demo.checkpoint.parent / "results.json").read_text())
    assert results["n_parameters"] == demo.n_parameters
    assert [stage["name"] for stage in results["stages"]] == [stage.name for stage in demo.stages]


def test_the_page_names_all_figures_and_the_command_to_chat(demo: QuickstartResult) -> None:
    page = as_text(demo)
    for expected in (
        "all together",
        "tokens/s",
        "of 3 (95 % interval",
        "bits per byte",
        "science quiz",
        demo.examination.question,
        f"tinyllm chat --checkpoint {demo.checkpoint}",
    ):
        assert expected in page
    assert page.count("> Write a story with the words:") == 2


def test_data_is_the_same_for_the_same_seed_and_never_holds_the_trials(tmp_path: Path) -> None:
    first = write_corpus(tmp_path / "a", seed=3, n_stories=200, reporter=RecordingReporter())
    again = write_corpus(tmp_path / "b", seed=3, n_stories=200, reporter=RecordingReporter())
    other = write_corpus(tmp_path / "c", seed=4, n_stories=200, reporter=RecordingReporter())
    assert first.stories.read_bytes() == again.stories.read_bytes()
    assert first.stories.read_bytes() != other.stories.read_bytes()
    learnt = first.warm_up.read_text() + first.stories.read_text() + first.instructions.read_text()
    assert first.n_bytes == len(learnt.encode())
    asked = {ask_for_story(word_triples(3).held_out(i)) for i in range(100)}
    asked |= {c.messages[0].content for c in _conversations(first.validation)}
    assert len(asked) > 200
    assert not any(prompt.rstrip(".") in learnt for prompt in asked)


def test_its_stories_are_those_of_gen_stories_and_are_made_once(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, seed=0, n_stories=120, reporter=RecordingReporter())
    made = tmp_path / "gen-stories"
    records = [json.loads(line) for line in (made / "dataset.jsonl").read_text().splitlines()]
    assert len(records) == 120
    learnt = corpus.warm_up.read_text() + corpus.stories.read_text()
    learnt += "\n".join(c.messages[1].content for c in _conversations(corpus.instructions))
    assert all(record["story"] in learnt for record in records)
    told = [tuple(record["words"].values()) for record in records]
    assert told == [word_triples(0).training(i) for i in range(120)]

    files = (corpus.warm_up, corpus.stories, corpus.instructions)
    before = [path.read_bytes() for path in files]
    n_asked = len((made / "stories-run" / "attempts.jsonl").read_text().splitlines())
    (made / "dataset.jsonl").unlink()
    write_corpus(tmp_path, seed=0, n_stories=120, reporter=RecordingReporter())
    assert [path.read_bytes() for path in files] == before
    assert len((made / "stories-run" / "attempts.jsonl").read_text().splitlines()) == n_asked


def test_the_quiz_wording_is_never_taught(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, seed=0, n_stories=100, reporter=RecordingReporter())
    learnt = corpus.stories.read_text() + corpus.instructions.read_text()
    for item in read_multiple_choice(str(corpus.quiz)):
        assert item.question not in learnt
        assert item.fact is not None
        assert item.fact in learnt


def test_two_thirds_of_the_warm_up_are_lessons_in_copying(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path, seed=0, n_stories=600, reporter=RecordingReporter())
    texts = [d.text for d in read_documents(str(corpus.warm_up), reporter=RecordingReporter())]
    lessons = [text for text in texts if text.startswith("Say: ")]
    assert len(lessons) / len(texts) == pytest.approx(0.7, abs=0.01)
    for text in lessons:
        words = text.split()[1:]
        period = next(n for n in range(1, 9) if words[n:] == words[:-n])
        assert len(words) >= 10 * period


def test_a_stopped_demo_says_how_to_go_on_and_does(tmp_path: Path) -> None:
    config = _config(tmp_path, minutes=0.03)
    run_folder = config.output / "copying-run"
    run_folder.mkdir(parents=True)
    (config.output / "quickstart.json").write_text("{}")
    (run_folder / "stop").touch()
    with pytest.raises(Interrupted) as stopped:
        run(config, RecordingReporter(), resume=True)
    assert f"tinyllm quickstart --resume --output {config.output}" in str(stopped.value.hint)
    assert stored_config(config.output) == config
    (run_folder / "stop").unlink(missing_ok=True)
    assert run(config, RecordingReporter(), resume=True).checkpoint.is_file()


def test_going_on_needs_a_demo(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no demo to go on with"):
        stored_config(tmp_path)


def test_a_new_demo_replaces_the_old_one_and_nothing_else(
    demo: QuickstartResult, tmp_path: Path
) -> None:
    folder = tmp_path / "demo"
    shutil.copytree(demo.checkpoint.parent, folder)
    (folder / "chat-run" / "left-over.txt").touch()
    run(_config(tmp_path, minutes=0.01), RecordingReporter())
    assert not (folder / "chat-run" / "left-over.txt").exists()

    foreign = tmp_path / "foreign" / "demo"
    foreign.mkdir(parents=True)
    (foreign / "letter.txt").write_text("Dear Anna")
    with pytest.raises(UsageError, match="something else"):
        run(_config(tmp_path / "foreign"), RecordingReporter())
    assert (foreign / "letter.txt").read_text() == "Dear Anna"


def test_a_count_reads_with_its_interval() -> None:
    assert str(Count.of(90, 100)) == "90 of 100 (95 % interval 83 to 94 %)"


def _conversations(path: Path) -> list[Conversation]:
    return list(read_conversations(str(path), RecordingReporter()))
