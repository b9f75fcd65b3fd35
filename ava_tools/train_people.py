"""Train a people detector (Faster R-CNN) on a data set's boxes and score it (AP, AP50, AR)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ava_tools.cli import check_training, run_command, run_training, training_parser
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.engine.distributed import Processes

EXAMPLE = """examples:
  python -m ava_tools.train_people --cfg configs/people_demo.yaml optim.epochs=3
  python -m ava_tools.train_people --resume runs/people_demo
  python -m ava_tools.train_people --eval-only --checkpoint runs/people_demo
  python -m ava_tools.train_people --eval-only --checkpoint coco --cfg people_ava

With --eval-only and --cfg, --checkpoint is also a state dict of torchvision's, or 'coco'.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = _parse(arguments)
    from detection.config import list_people_options, load_people_config

    evaluate = partial(evaluate_checkpoint, options)
    return run_training(options, list_people_options, load_people_config, evaluate)


def evaluate_checkpoint(options: argparse.Namespace, processes: Processes) -> None:
    """Score a run, or the weights of a configuration, as one of the processes of the run."""
    from detection.config import load_people_config
    from detection.engine.tasks import people

    if options.cfg:
        people.score_weights(
            options.checkpoint,
            load_people_config(options.cfg, options.overrides),
            actor_classes=options.actor_class or None,
            processes=processes,
        )
    else:
        people.score_run(options.checkpoint, overrides=options.overrides, processes=processes)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
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
