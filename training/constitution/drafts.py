"""Write the control: the drafts where sft.jsonl has what became of them.

Tuning on these as long as on the others tells what tuning alone does.

python training/constitution/drafts.py REVISIONS-FOLDER
"""

import sys
from pathlib import Path

from tinyllm.data.conversations import conversation_from_row
from tinyllm.data.rows import read_rows
from tinyllm.data.writers import conversation_row, open_writer
from tinyllm.records import Conversation, Message


def main() -> None:
    """Write drafts.jsonl into the folder named on the command line."""
    folder = Path(sys.argv[1])
    drafts = {row["id"]: row["draft"] for row in read_rows(folder / "revisions.jsonl")}
    with open_writer(folder / "drafts.jsonl") as writer:
        for row in read_rows(folder / "sft.jsonl"):
            tuned_on = conversation_from_row(row, "", "")
            assert tuned_on is not None
            prompt, story = tuned_on.messages
            draft = Message(story.role, drafts[tuned_on.id])
            writer.write_json(conversation_row(Conversation(tuned_on.id, (prompt, draft))))


if __name__ == "__main__":
    main()
