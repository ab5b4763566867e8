"""The stories of the demo: `tinyllm gen-stories` with the offline provider, and what it wrote.

The folder is what that command leaves: dataset.jsonl, train.txt, report.md and the journals, so a
demo that is stopped while stories are made goes on with the next one.
"""

import json
from collections.abc import Iterator
from pathlib import Path

from tinyllm.config.stories import FeatureShares, StoriesConfig, StoryPlanConfig
from tinyllm.providers.story_grammar import FEATURE_SHARES, Story
from tinyllm.reporting import Reporter
from tinyllm.stories.run_folder import StoriesFolder
from tinyllm.stories.workflow import run


def make_stories(folder: Path, seed: int, n_stories: int, reporter: Reporter) -> list[Story]:
    """Make stories that differ from one another, or go on with them; return them in order.

    Raises Interrupted after Ctrl-C or SIGTERM: what was written stays.
    """
    config = StoriesConfig(
        output=folder,
        n_stories=n_stories,
        seed=seed,
        plan=StoryPlanConfig(features=FeatureShares(**FEATURE_SHARES)),
        validation_fraction=0.0,
        charts=False,
    )
    run(config, reporter)
    return list(_read(StoriesFolder(folder).dataset))


def _read(path: Path) -> Iterator[Story]:
    """Yield the stories of a data set with what they were asked for."""
    with open(path, encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            words = record["words"]
            yield Story(
                text=record["story"],
                words=(words["noun"], words["verb"], words["adjective"]),
                features=tuple(record["features"]),
                summary="",
            )
