"""Write what is asked for: prompts to revise stories for, and others that no model has ever seen.

    prompts.jsonl    {"id", "prompt"}       stories from three words each, to be drafted and revised
    gate.jsonl       conversations          stories that tell while it learns how much is forgotten
    unseen.jsonl     {"id", "instruction", "words", "features"}                    to measure on
    held-out.jsonl   conversations          stories for the unseen prompts, for bits per byte

No three words stand together in two of them, and the demo's chat model has met none of these
triples: it learns the first ones of its seed, and those here are a quarter of the way behind them
and at the far end.

python training/constitution/prompts.py FOLDER
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinyllm.data.manifest import Manifest, author, write_manifest
from tinyllm.data.writers import conversation_row, open_writer
from tinyllm.providers.grammar.vocabulary import WordTriple
from tinyllm.providers.story_grammar import tell_story, word_triples
from tinyllm.quickstart.corpus import ask_for_story
from tinyllm.records import Conversation, Message

SEED = 0
N_PROMPTS, N_GATE, N_UNSEEN = 3000, 200, 1000
FIRST_GATE, FIRST_UNSEEN = 1000, 5000


def main() -> None:
    """Write four files into the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    triples = word_triples(SEED)
    first = len(triples) // 4
    asked = [triples.training(first + i) for i in range(N_PROMPTS)]
    gate = [triples.held_out(FIRST_GATE + i) for i in range(N_GATE)]
    unseen = [triples.held_out(FIRST_UNSEEN + i) for i in range(N_UNSEEN)]
    with open_writer(folder / "prompts.jsonl") as writer:
        for words in asked:
            writer.write_json({"id": "-".join(words), "prompt": ask_for_story(words)})
    with open_writer(folder / "unseen.jsonl") as writer:
        for words in unseen:
            writer.write_json(_to_measure(words))
    _write_held_out(folder / "gate.jsonl", list(_told(gate, FIRST_GATE)))
    _write_held_out(folder / "held-out.jsonl", list(_told(unseen, FIRST_UNSEEN)))


def _to_measure(words: WordTriple) -> dict[str, Any]:
    """Ask as ever, and have the answer looked at for speech, which the prompt does not mention."""
    return {
        "id": "-".join(words),
        "instruction": ask_for_story(words),
        "words": list(words),
        "features": ["dialogue"],
    }


def _told(triples: Sequence[WordTriple], first: int) -> Iterator[Conversation]:
    """Tell stories as they come: with speech and without."""
    for index, words in enumerate(triples, first):
        story = tell_story(SEED, index, words).text
        messages = (Message("user", ask_for_story(words)), Message("assistant", story))
        yield Conversation("-".join(words), messages)


def _write_held_out(path: Path, conversations: Sequence[Conversation]) -> None:
    """Write stories with a manifest by which every training refuses them."""
    with open_writer(path) as writer:
        for conversation in conversations:
            writer.write_json(conversation_row(conversation))
    manifest = Manifest(
        name=path.name,
        format="conversations",
        documents=writer.documents,
        bytes=writer.bytes,
        sha256=writer.sha256,
        licence=("Apache-2.0",),
        evaluation_only=True,
        written_by=author("training/constitution/prompts.py"),
    )
    write_manifest(path, manifest)


if __name__ == "__main__":
    main()
