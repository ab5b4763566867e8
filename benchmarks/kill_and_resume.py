"""Kill a training fifty times, let it go on each time, and compare the bits at the end.

    python benchmarks/kill_and_resume.py [--kills 50] [--seed 0]

Three tiny trainings run in real processes: a pretraining and a tuning over two epochs, ended by
SIGKILL at random moments, and a pretraining ended by Ctrl-C and SIGTERM in turn. All save at every
step, so that many kills fall into a save. Each must end in the weights and losses of the same
training undisturbed. The last line is JSON; the exit code is 1 when any bit differs.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.training.kill_harness import (
    same_outcome,
    train_disturbed,
    train_undisturbed,
    write_killed,
    write_tuning,
)

STEPS_A_KILL = 4
"""Steps that a kill costs at most, so that the last one still finds work to disturb."""


def main() -> int:
    """Run the three trainings; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    kills, steps = arguments.kills, arguments.kills * STEPS_A_KILL
    figures: dict[str, object] = {"steps": steps, "seed": arguments.seed}
    all_equal = True
    with tempfile.TemporaryDirectory() as root:
        whole = Path(root, "whole")
        write_killed(whole, steps)
        pace = train_undisturbed(whole)
        tuned = Path(root, "tuned")
        write_tuning(tuned, whole / "out" / "model.safetensors", steps)
        train_undisturbed(tuned)
        trainings = {
            "pretraining, killed": (whole, [SIGKILL] * kills),
            "tuning over two epochs, killed": (tuned, [SIGKILL] * kills),
            "pretraining, asked to stop": (whole, [SIGINT, SIGTERM] * (kills // 10)),
        }
        for name, (reference, signals) in trainings.items():
            folder = Path(root, name)
            if reference is tuned:
                write_tuning(folder, whole / "out" / "model.safetensors", steps)
            else:
                write_killed(folder, steps)
            tally = train_disturbed(folder, signals, pace, arguments.seed)
            equal = same_outcome(folder, reference)
            all_equal = all_equal and equal
            figures[name] = {**asdict(tally), "same_bits": equal}
            print(
                f"{name}: ended {tally.n_ended} times, {tally.n_in_a_save} of them in a save and "
                f"{tally.n_in_the_start} before the first step; {tally.seconds:.0f} s; "
                + ("the same bits" if equal else "OTHER BITS"),
                flush=True,
            )
    print(json.dumps(figures))
    return 0 if all_equal else 1


if __name__ == "__main__":
    sys.exit(main())
