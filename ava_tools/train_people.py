"""Train a people detector (Faster R-CNN) on a data set's boxes and score it (AP, AP50, AR)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ava_tools.cli import check_training, print_options, program, run_command, training_parser
from detection.errors import EXIT_STOPPED, UserError

if TYPE_CHECKING:
    from detection.engine.people_runs import PeopleRun

EXAMPLE = """examples:
  python -m ava_tools.train_people --cfg configs/people_demo.yaml optim.epochs=3
  python -m ava_tools.train_people --resume runs/people_demo
  python -m ava_tools.train_people --eval-only --checkpoint runs/people_demo
  python -m ava_tools.train_people --eval-only --checkpoint coco --cfg people_ava

With --eval-only and --cfg, --checkpoint is also a state dict of torchvision's, or 'coco'.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    from detection.people.config import list_people_options, load_people_config

    if options.list_options:
        print_options(list_people_options())
        return 0

    from detection.engine import people_runs  # torch is loaded here, so that --help is instant
    from detection.engine.run_folder import only_run

    if options.eval_only and options.cfg:
        config = load_people_config(options.cfg, options.overrides)
        people_runs.score_weights(
            options.checkpoint, config, actor_classes=options.actor_class or None
        )
        return 0
    if options.eval_only:
        people_runs.score_run(options.checkpoint, overrides=options.overrides)
        return 0

    if options.resume:
        with only_run(people_runs.folder_to_resume(options.resume)):
            return train_and_score(people_runs.resume(options.resume, overrides=options.overrides))
    config = load_people_config(options.cfg, options.overrides)
    with only_run(people_runs.folder_of(config)):
        return train_and_score(people_runs.start(config, overwrite=options.overwrite))


def train_and_score(run: PeopleRun) -> int:
    """Train to the last epoch, then score; return the exit code."""
    from detection.engine import people_runs

    if not people_runs.train(run):
        print(f"stopped and saved; go on with: {program('train_people')} --resume {run.folder}")
        return EXIT_STOPPED
    people_runs.score_run(run.folder, held=True)
    return 0


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and refuse combinations that make no sense."""
    parser = training_parser("train_people", __doc__, EXAMPLE)
    parser.add_argument(
        "--actor-class",
        action="append",
        default=[],
        metavar="NAME",
        help="with --eval-only --cfg: a class of the weights that counts as a person; repeatable",
    )
    options = check_training(parser.parse_intermixed_args(arguments))
    if options.actor_class and not (options.eval_only and options.cfg):
        raise UserError("--actor-class goes with --eval-only and --cfg")
    return options


if __name__ == "__main__":
    run_command(main)
