"""Train a people detector (Faster R-CNN) on a data set's boxes and score it (AP, AP50, AR)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ava_tools.cli import check_training, print_options, run_command, training_parser
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
    options = parse_arguments(arguments)
    if options.list_options:
        from detection.config import list_people_options

        print_options(list_people_options())
        return 0

    # torch is loaded here, so that --help answers at once
    from detection.engine.distributed import joined_processes

    with joined_processes() as processes:
        return carry_out(options, processes)


def carry_out(options: argparse.Namespace, processes: Processes) -> int:
    """Train and score, as one of the processes of the run; return the exit code."""
    from detection.config import load_people_config
    from detection.engine import runs
    from detection.engine.run_folder import folder_of, only_run

    if options.eval_only:
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
        return 0

    if options.resume:
        with only_run(runs.folder_to_resume(options.resume), processes):
            run, training = runs.resume(
                options.resume,
                overrides=options.overrides,
                processes=processes,
                load=load_people_config,
            )
            return runs.train_and_report(run, training)
    config = load_people_config(options.cfg, options.overrides)
    with only_run(folder_of(config), processes):
        run, training = runs.start(config, overwrite=options.overwrite, processes=processes)
        return runs.train_and_report(run, training)


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
