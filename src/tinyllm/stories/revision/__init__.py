"""Stories made better by written principles, and pairs of a better and a worse one.

constitution.py    the principles (constitution.json), and which are drawn for a story
tasks.py           the prompts, with their stories where the sources hold them
asked.py           what can be read of a prompt: words, speech
turns.py           drafts, critiques and revisions as the work of a pipeline (prompts.json)
gates.py           what makes a revision one
chain.py           each story's text after each round, read from the journals
asking.py          round after round, each turn journalled
offline_editor.py  a critic, reviser and judge by rules
judging.py         blind comparison in both orders (judging.json), and who wins
outputs.py         sft.jsonl, prefs.jsonl, revisions.jsonl
report.py          results.json and results.md
folder.py          the folder of it all
looking.py         --dry-run and --status
workflow.py        `tinyllm revise-stories`
"""
