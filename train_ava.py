"""Train an X3D action detector and score it as on AVA: the run in one screen.

python train_ava.py --cfg configs/demo_x3d_xs.yaml                      train, then evaluate
python train_ava.py --cfg configs/demo_x3d_xs.yaml optim.lr=0.05        change an option
python train_ava.py --resume runs/demo_x3d_xs                           go on where it stopped
python train_ava.py --eval-only --checkpoint runs/demo_x3d_xs           score a finished run
torchrun --nproc-per-node 8 train_ava.py --cfg ...                      on 8 GPUs, or processes
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ava_tools.cli import CommandParser, path_text, run_command
from detection.config import list_options, load_config
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.engine.distributed import Processes
    from detection.engine.runs import Run, Training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    options = parse_arguments(arguments)
    if options.list_options:
        for key, kind, default, sentence in list_options():
            print(f"{key} ({kind}, default {default})\n    {sentence}")
        return 0

    # torch is loaded here, so that --help answers at once
    from detection.engine.distributed import joined_processes

    with joined_processes() as processes:
        return carry_out(options, processes)


def carry_out(options: argparse.Namespace, processes: Processes) -> int:
    """Train and evaluate, as one of the processes of the run; return the exit code."""
    from detection.engine import runs
    from detection.engine.run_folder import folder_of, only_run

    if options.eval_only:
        run = runs.open_for_evaluation(
            options.checkpoint, cfg=options.cfg, overrides=options.overrides, processes=processes
        )
        with only_run(run.folder, processes):
            runs.evaluate_and_report(run)
        return 0

    if options.resume:
        with only_run(runs.folder_to_resume(options.resume), processes):
            run, training = runs.resume(
                options.resume, overrides=options.overrides, processes=processes
            )
            return train_and_score(run, training)
    config = load_config(options.cfg, options.overrides)
    with only_run(folder_of(config), processes):
        run, training = runs.start(config, overwrite=options.overwrite, processes=processes)
        return train_and_score(run, training)


def train_and_score(run: Run, training: Training) -> int:
    """Train to the last epoch, then evaluate; return the exit code."""
    from detection.engine import runs

    code = runs.train_and_report(run, training)
    if code == 0 and run.log.board is not None and run.task.name == "actions":
        show_predictions(run)
    return code


def show_predictions(run: Run) -> None:
    """Draw some scored keyframes into a sheet, and show it in TensorBoard."""
    from ava_tools import visualize

    assert run.log.board is not None
    sheet = run.folder / "tensorboard" / "predictions.png"
    visualize.main(["--run", str(run.folder), "--keyframes-only", "--sheet", str(sheet)])
    run.log.board.picture("predictions", sheet)


def parse_arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line and refuse combinations that make no sense."""
    parser = CommandParser(
        description="Train an X3D action detector and score it as on AVA (frame-mAP at IoU 0.5).",
        epilog="example: python train_ava.py --cfg configs/demo_x3d_xs.yaml optim.epochs=2",
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
        metavar="FILE_OR_RUN",
        help="weights to score: a .pt file or a run folder",
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
    if options.resume and (options.cfg or options.eval_only or options.overwrite):
        raise UserError("--resume takes its configuration from the run: no --cfg, --overwrite, ...")
    if not (options.cfg or options.resume or options.eval_only):
        raise UserError("--cfg FILE is required (or --resume RUN); see --help")
    return options


if __name__ == "__main__":
    run_command(main)
