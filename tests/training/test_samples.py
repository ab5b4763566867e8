"""Samples that are written on the way never cost the training."""

from pathlib import Path

from tests.training.test_workflow import config_for, train


def test_of_a_prompt_longer_than_the_context_the_beginning_is_continued(text: Path) -> None:
    prompts = ("the cat sat " * 40, "the dog", "")
    config = config_for(text, max_steps=1, samples__prompts=prompts, samples__max_new_tokens=4)
    result, _ = train(config)
    written = (result.run_folder / "samples.md").read_text(encoding="utf-8")
    assert "the cat sat the cat sat" in written
    assert "the dog" in written
