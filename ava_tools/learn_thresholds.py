"""Learn the score from which each action is taken to be done, for a run that is finished."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import command_parser, path_text, run_command
from detection.errors import UserError, printable

EXAMPLE = """examples:
  python -m ava_tools.learn_thresholds --run runs/demo_x3d_xs
  python -m ava_tools.learn_thresholds --run runs/demo_x3d_xs data.val_boxes=people
  python -m ava_tools.learn_thresholds --run runs/demo_x3d_xs data.root=MOVED_DATA

The validation split is scored, on the boxes that the run was scored on, and each class's score of
highest F1 is stored in the run's checkpoint; detect_actions and visualize use it from then on.
Training does the same at its end: this is for runs of before, for other boxes and other data.
docs/evaluation.md says how thresholds are chosen.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Score, learn, store and print; returns the exit code."""
    options = _parse(arguments)
    from detection.checkpoints.file import write_thresholds
    from detection.checkpoints.plain_file import MODEL_CONFIG, find_checkpoint
    from detection.engine import runs
    from detection.engine.distributed import ALONE
    from detection.engine.run_folder import only_run
    from detection.engine.tasks.actions import ActionTask
    from detection.reports.thresholds_text import thresholds_table
    from detection.teaching.scored import is_taught

    moved = any(override.startswith("data.") for override in options.overrides)
    if is_taught(Path(options.run)) and not moved:
        raise UserError(
            f"{options.run}: a run of teach, which learns them itself; on other data: data.root=DIR"
        )
    path = find_checkpoint(options.run)
    if path.name == MODEL_CONFIG:
        raise UserError(
            f"{options.run}: a model folder, whose files stay as they were made: thresholds are "
            "learned in the run, which is published again"
        )
    # What detect_actions loads is scored: averaged weights, where an average was kept.
    overrides = [*options.overrides, "data.also_score_boxes=[]", "evaluation.use_average=true"]
    run = runs.open_for_evaluation(path, cfg=None, overrides=overrides, processes=ALONE)
    if not isinstance(run.task, ActionTask):
        raise UserError(f"{path}: classifies whole clips; thresholds are for actions of people")
    with only_run(run.folder):
        learned = run.task.learn_thresholds(run.scored_model)
        if learned is None:
            raise UserError(
                f"{run.config.data.root}: split '{run.config.data.val_split}' has no box with a "
                "known action, thresholds cannot be learned from it"
            )
        write_thresholds(path, learned)
    for line in thresholds_table(learned, run.task.label_map).split("\n"):
        print(printable(line))
    print(printable(f"stored in {path}"))
    return 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("learn_thresholds", __doc__, EXAMPLE)
    parser.add_argument("--run", type=path_text, required=True, metavar="RUN",
        help="run folder, or a checkpoint in it")  # fmt: skip
    parser.shared("overrides", help="options that replace the run's, such as data.val_boxes=NAME")
    return parser.parse_intermixed_args(arguments)


if __name__ == "__main__":
    run_command(main)
