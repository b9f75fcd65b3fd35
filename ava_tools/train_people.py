"""Train a people detector on the boxes of a data set in AVA's form, and score it (AP, AP50, AR)."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ava_tools.cli import CommandParser, path_text, run_command
from detection.config import list_people_options, load_people_config
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.engine.distributed import Processes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    if options.list_options:
        for key, kind, default, sentence in list_people_options():
            print(f"{key} ({kind}, default {default})\n    {sentence}")
        return 0

    # torch is loaded here, so that --help answers at once
    from detection.engine.distributed import joined_processes

    with joined_processes() as processes:
        return carry_out(options, processes)


def carry_out(options: argparse.Namespace, processes: Processes) -> int:
    """Train and score, as one of the processes of the run; return the exit code."""
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
    parser = CommandParser(
        prog="python -m ava_tools.train_people",
        description="Train a people detector (Faster R-CNN) on the boxes of a data set in AVA's "
        "form and score it on the validation split: AP, AP50 and AR as COCO counts them.",
        epilog="example: python -m ava_tools.train_people --cfg configs/people_demo.yaml "
        "optim.epochs=3",
    )
    parser.add_argument(
        "--cfg", type=path_text, metavar="FILE", help="configuration, a YAML file from configs/"
    )
    parser.add_argument(
        "overrides", nargs="*", metavar="a.b=value", help="options that replace the file's"
    )
    parser.add_argument(
        "--resume", type=path_text, metavar="RUN", help="go on with a stopped run (its folder)"
    )
    parser.add_argument("--eval-only", action="store_true", help="score --checkpoint, do not train")
    parser.add_argument(
        "--checkpoint",
        type=path_text,
        metavar="WEIGHTS",
        help="weights to score: a run folder or checkpoint, or with --cfg also a state dict of "
        "torchvision's or 'coco'",
    )
    parser.add_argument(
        "--actor-class",
        action="append",
        default=[],
        metavar="NAME",
        help="with --eval-only --cfg: a class of the weights that is an actor (may be repeated)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing run folder")
    parser.add_argument(
        "--list-options", action="store_true", help="print every option a configuration can set"
    )
    options = parser.parse_intermixed_args(arguments)
    if options.list_options:
        return options
    if options.eval_only != bool(options.checkpoint):
        raise UserError("--eval-only and --checkpoint go together")
    if options.actor_class and not (options.eval_only and options.cfg):
        raise UserError("--actor-class goes with --eval-only and --cfg")
    if options.resume and (options.cfg or options.eval_only or options.overwrite):
        raise UserError("--resume takes its configuration from the run: no --cfg, --overwrite, ...")
    if not (options.cfg or options.resume or options.eval_only):
        raise UserError("--cfg FILE is required (or --resume RUN); see --help")
    return options


if __name__ == "__main__":
    run_command(main)
