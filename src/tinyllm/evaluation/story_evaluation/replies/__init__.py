"""From what a judge said to grades, or to why there are none. Nothing is guessed.

reading.py       the ladder: JSON, then `Name: x/10`, then `[[x]]`
by_json.py       the last JSON object that names every category
json_in_text.py  finding objects in running text
by_labels.py     the last complete set of names with numbers
choices.py       which of two stories is the better one
copies.py        what a reply only copies from the story that it grades
numbers.py       numbers in figures and words; categories by their names
"""

from tinyllm.evaluation.story_evaluation.replies.reading import (
    PARSER_VERSION,
    Fault,
    Grades,
    read_grades,
    read_reply,
)

__all__ = ["PARSER_VERSION", "Fault", "Grades", "read_grades", "read_reply"]
