"""What the demo learns from: stories, lessons in copying, and facts, all of our own making.

A model that only reads stories never learns to use the words it was asked for: that takes copying,
and plain stories give little reason to learn it. Hence the lessons: a few random words, said
again and again to the end of the row. Each row of a story holds the instruction and the story,
in the very markers of the chat template, so that the words are always in sight:

    ### Instruction:\\nWrite a story with the words: apple, jump, shiny.\\n\\n### Response:\\nOnce …
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TypeVar

from tinyllm.chat_template import conversation_texts
from tinyllm.data.manifest import Format, Manifest, author, write_manifest
from tinyllm.data.writers import DataWriter, conversation_row, multiple_choice_row, open_writer
from tinyllm.providers.grammar.phrases import phrase
from tinyllm.providers.grammar.science import load_facts, quiz
from tinyllm.providers.grammar.vocabulary import WordTriple, load_vocabulary
from tinyllm.providers.story_grammar import Story, tell_story, word_triples
from tinyllm.quickstart.stories import make_stories
from tinyllm.records import Conversation, Message, MultipleChoice
from tinyllm.reporting import Reporter
from tinyllm.seeding import random_for

T = TypeVar("T")

ROWS_PER_STEP = 16
N_VALIDATION = 200
_LICENCE = ("Apache-2.0",)
_LESSON_WORDS = (3, 8)
_LESSON_LENGTH = 110  # words in a lesson, about as many tokens as a story has
_POOL = 32 * ROWS_PER_STEP
_WARM_UP_LESSONS, _STORY_LESSONS = 0.7, 0.25
_FACTS_PER_ROW, _FACT_ROUNDS = 12, 30
_PHRASES_PER_ROW, _PHRASE_ROUNDS = 22, 25
_QUESTIONS_PER_ROW, _QUESTION_ROUNDS = 4, 20
_FEATURE_NAMES = {
    "dialogue": "a dialogue",
    "plot_twist": "a plot twist",
    "moral_value": "a moral",
    "bad_ending": "a bad ending",
    "foreshadowing": "foreshadowing",
    "conflict": "a conflict",
}


@dataclass(frozen=True, slots=True)
class Corpus:
    """The files of a demo, and how much there is to learn from."""

    warm_up: Path
    """Mostly lessons in copying, some stories."""
    stories: Path
    """Mostly stories, some lessons and facts."""
    instructions: Path
    """Conversations: stories from words and features, answers to questions."""
    validation: Path
    """Conversations: stories from words that training never saw together."""
    quiz: Path
    n_stories: int
    n_bytes: int


def ask_for_story(words: WordTriple, features: Iterable[str] = ()) -> str:
    """Return the instruction that asks for a story."""
    text = f"Write a story with the words: {', '.join(words)}."
    wanted = [_FEATURE_NAMES[name] for name in features]
    return f"{text} It should have {' and '.join(wanted)}." if wanted else text


def write_corpus(folder: Path, seed: int, n_stories: int, reporter: Reporter) -> Corpus:
    """Write all files of the demo; the same seed gives the same bytes.

    Raises Interrupted after Ctrl-C or SIGTERM; called again it goes on.
    """
    told = make_stories(folder / "gen-stories", seed, n_stories, reporter)
    n_warm_up, n_tune = n_stories // 6, n_stories // 4
    warm_up = [_row(story) for story in told[:n_warm_up]]
    warm_up += _lessons(seed, "warm-up", len(warm_up), _WARM_UP_LESSONS)
    stories = [_row(story) for story in told[n_warm_up : n_stories - n_tune]]
    stories += _fact_rows(seed) + _phrase_rows(seed)
    stories += _lessons(seed, "stories", len(stories), _STORY_LESSONS)
    instructions = [
        _conversation(story, _free_request(story, i))
        for i, story in enumerate(told[n_stories - n_tune :])
    ]
    instructions += _question_rows(seed)
    n_bytes = [
        _write_texts(folder / "warm_up.txt", _in_order(warm_up, len, seed)),
        _write_texts(folder / "stories.txt", _in_order(stories, len, seed)),
        _write_conversations(
            folder / "instructions.jsonl", _in_order(instructions, _n_characters, seed)
        ),
    ]
    _write_conversations(folder / "validation.jsonl", _held_out(seed), evaluation_only=True)
    _write_quiz(folder / "quiz.jsonl", quiz(seed))
    return Corpus(
        warm_up=folder / "warm_up.txt",
        stories=folder / "stories.txt",
        instructions=folder / "instructions.jsonl",
        validation=folder / "validation.jsonl",
        quiz=folder / "quiz.jsonl",
        n_stories=n_stories,
        n_bytes=sum(n_bytes),
    )


def _held_out(seed: int) -> Iterator[Conversation]:
    """Yield stories of word triples from the far end of the order, behind those of the trials."""
    triples = word_triples(seed)
    for i in range(N_VALIDATION):
        index = len(triples) // 2 + i
        yield _conversation(tell_story(seed, index, triples.training(index)))


def _conversation(story: Story, prompt: str | None = None) -> Conversation:
    """Ask for the story's words, and for one story in three for its features too."""
    if prompt is None:
        asks_for_features = sum(map(ord, story.text)) % 3 == 0
        prompt = ask_for_story(story.words, story.features if asks_for_features else ())
    messages = (Message("user", prompt), Message("assistant", story.text))
    return Conversation("-".join(story.words), messages)


def _free_request(story: Story, index: int) -> str | None:
    """Return how people ask who do not know of words, for one story in eight; else None."""
    noun = story.words[0]
    free = {0: f"Tell me a story about {phrase(noun, Random(0))}.", 8: "Tell me a story."}
    return free.get(index % 16)


def _row(story: Story) -> str:
    return "".join(conversation_texts(_conversation(story)))


def _lessons(seed: int, purpose: str, n_others: int, share: float) -> list[str]:
    """Return as many lessons as make up `share` of the rows beside `n_others` others."""
    n = round(n_others * share / (1 - share))
    words = load_vocabulary().words
    return [_lesson(random_for(seed, f"lesson {purpose}", i), words) for i in range(n)]


def _lesson(random: Random, words: Sequence[str]) -> str:
    chosen = [random.choice(words) for _ in range(random.randint(*_LESSON_WORDS))]
    repeated = chosen * (_LESSON_LENGTH // len(chosen))
    return f"Say: {' '.join(repeated)}"


def _fact_rows(seed: int) -> list[str]:
    sentences = [sentence for fact in load_facts() for sentence in fact.sentences]
    rows: list[str] = []
    for i in range(_FACT_ROUNDS):
        random_for(seed, "facts", i).shuffle(sentences)
        rows += [" ".join(part) for part in _parts(sentences, _FACTS_PER_ROW)]
    return rows


def _phrase_rows(seed: int) -> list[str]:
    """Return rows that show each word in its place: who can be brave, what can be crunchy."""
    words = list(load_vocabulary().words)
    rows: list[str] = []
    for i in range(_PHRASE_ROUNDS):
        random = random_for(seed, "phrases", i)
        random.shuffle(words)
        phrases = [phrase(word, random) for word in words]
        rows += [f"Words: {', '.join(part)}." for part in _parts(phrases, _PHRASES_PER_ROW)]
    return rows


def _question_rows(seed: int) -> list[Conversation]:
    """Return conversations of several questions and answers; some facts are never asked for."""
    pairs = [
        (question, fact.sentences[0])
        for fact in load_facts()
        if not fact.is_only_stated
        for question in fact.questions
    ]
    rows: list[Conversation] = []
    for i in range(_QUESTION_ROUNDS):
        random_for(seed, "questions", i).shuffle(pairs)
        for part in _parts(pairs, _QUESTIONS_PER_ROW):
            messages = [
                message
                for question, answer in part
                for message in (Message("user", question), Message("assistant", answer))
            ]
            rows.append(Conversation(f"questions-{i}-{len(rows)}", tuple(messages)))
    return rows


def _in_order(rows: Sequence[T], size_of: Callable[[T], int], seed: int) -> list[T]:
    """Shuffle rows so that those of one training step are about equally long.

    Rows of a step are padded to the longest of them: this halves the padding.
    """
    random = random_for(seed, "order of rows")
    shuffled = random.sample(rows, len(rows))
    ordered: list[T] = []
    for pool in _parts(shuffled, _POOL):
        steps = list(_parts(sorted(pool, key=size_of), ROWS_PER_STEP))
        random.shuffle(steps)
        ordered += (row for step in steps for row in step)
    return ordered


def _parts(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[i : i + size] for i in range(0, len(items), size))


def _n_characters(conversation: Conversation) -> int:
    return sum(len(message.content) for message in conversation.messages)


def _write_texts(path: Path, texts: Iterable[str]) -> int:
    with open_writer(path) as writer:
        for text in texts:
            writer.write_text(text)
    return _close(path, writer, "text")


def _write_conversations(
    path: Path, conversations: Iterable[Conversation], *, evaluation_only: bool = False
) -> int:
    with open_writer(path) as writer:
        for conversation in conversations:
            writer.write_json(conversation_row(conversation))
    return _close(path, writer, "conversations", evaluation_only)


def _write_quiz(path: Path, items: Iterable[MultipleChoice]) -> int:
    with open_writer(path) as writer:
        for item in items:
            writer.write_json(multiple_choice_row(item))
    return _close(path, writer, "multiple-choice", True)


def _close(path: Path, writer: DataWriter, format: Format, evaluation_only: bool = False) -> int:
    """Write the manifest of a file that is whole; return the file's size in bytes."""
    manifest = Manifest(
        name=path.name,
        format=format,
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=_LICENCE,
        evaluation_only=evaluation_only,
        written_by=author("quickstart"),
    )
    write_manifest(path, manifest)
    return writer.bytes
