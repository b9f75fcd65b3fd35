"""Train an X3D action detector (or clip classifier) and score it as on AVA.

python train_ava.py --cfg configs/demo_x3d_xs.yaml                      train, then evaluate
python train_ava.py --cfg demo_x3d_xs                                   a shipped configuration
python train_ava.py --cfg configs/demo_x3d_xs.yaml optim.lr=0.05        change an option
python train_ava.py --resume runs/demo_x3d_xs                           go on where it stopped
python train_ava.py --eval-only --checkpoint runs/demo_x3d_xs           score a finished run
torchrun --nproc-per-node 8 train_ava.py --cfg ...                      on 8 GPUs, or processes
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from ava_tools.cli import check_training, run_command, run_training, training_parser
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.engine.distributed import Processes
    from detection.engine.runs import Run, Training


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    parser = training_parser("train", __doc__)
    about = "what runs the network of --eval-only (default: torch; an exported network's own)"
    parser.shared("--runtime", default=None, help=about)
    options = check_training(parser.parse_intermixed_args(arguments))
    if options.runtime is not None and not options.eval_only:
        raise UserError("--runtime goes with --eval-only: training is PyTorch's")
    from detection.config import list_options, load_config

    evaluate = partial(evaluate_checkpoint, options)
    return run_training(options, list_options, load_config, evaluate, train_and_score)


def evaluate_checkpoint(options: argparse.Namespace, processes: Processes) -> None:
    """Score a finished run or a checkpoint, as one of the processes of the run."""
    from detection.engine import runs
    from detection.engine.run_folder import only_run

    run = runs.open_for_evaluation(
        options.checkpoint,
        cfg=options.cfg,
        overrides=options.overrides,
        processes=processes,
        runtime=options.runtime,
    )
    with only_run(run.folder, processes):
        runs.evaluate_and_report(run)


def train_and_score(run: Run, training: Training) -> int:
    """Train to the last epoch, then evaluate; TensorBoard gets a sheet of scored keyframes."""
    from detection.engine import runs

    code = runs.train_and_report(run, training)
    if code == 0 and run.log.board is not None and run.task.name == "actions":
        from ava_tools import visualize

        sheet = run.folder / "tensorboard" / "predictions.png"
        visualize.main(["--run", str(run.folder), "--keyframes-only", "--sheet", str(sheet)])
        run.log.board.image("predictions", sheet)
    return code


if __name__ == "__main__":
    run_command(main)
