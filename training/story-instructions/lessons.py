"""Write lessons in copying: a few words, said over and over.

A model this small learns to copy words of its context late or never from stories alone; rows of
repeated words teach it within minutes (docs/log.md).

python training/story-instructions/lessons.py lessons-data.txt
"""

import sys
from pathlib import Path

from tinyllm.data.writers import open_writer
from tinyllm.providers.grammar.vocabulary import load_vocabulary
from tinyllm.seeding import random_for

N_LESSONS = 6000
MOST_WORDS = 8
ROW_WORDS = 120


def main() -> None:
    """Write the file named on the command line."""
    words = load_vocabulary().words
    with open_writer(Path(sys.argv[1])) as writer:
        for number in range(N_LESSONS):
            random = random_for(0, "copying lesson", number)
            chosen = random.sample(words, random.randint(2, MOST_WORDS))
            writer.write_text(f"Say: {' '.join(chosen * (ROW_WORDS // len(chosen)))}")


if __name__ == "__main__":
    main()
