"""Score a clip classification network with different views: accuracy against GMAC."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ava_tools.cli import command_parser, run_command

if TYPE_CHECKING:
    from detection.engine.tasks.clip_scoring import ClipScore

EXAMPLE = """examples:
  python -m ava_tools.score_views --checkpoint runs/kinetics_x3d_m
  python -m ava_tools.score_views --checkpoint x3d_s.pt --cfg configs/kinetics_x3d_xs.yaml \\
      --clips 10 --crops 1,3 --json views.json
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Score every number of views and print the table; return the exit code."""
    args = _parse(argv)
    from detection.engine.distributed import joined_processes

    with joined_processes() as processes:
        from detection.datasets.clips import Views
        from detection.engine import runs
        from detection.engine.tasks.clips import ClipTask
        from detection.errors import UserError

        run = runs.open_for_evaluation(
            args.checkpoint, cfg=args.cfg, overrides=args.overrides, processes=processes
        )
        if not isinstance(run.task, ClipTask):
            raise UserError(f"{args.checkpoint}: detects actions, a classification run is required")
        scores: list[ClipScore] = []
        for crops in args.crops:
            for clips in args.clips:
                scores.append(run.task.score_views(run.model, Views(clips, crops)))
                if processes.is_first:
                    if len(scores) == 1:
                        print(_header(scores[0]), flush=True)
                    print(_line(scores[-1]), flush=True)
        if processes.is_first and args.json is not None:
            from detection.files import write_text

            rows = [_as_json(score) for score in scores]
            write_text(args.json, json.dumps(rows, indent=2) + "\n")
    return 0


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("score_views", __doc__, EXAMPLE)
    parser.shared("--checkpoint", required=True)
    parser.shared("--cfg", "overrides", "--json")
    add = parser.add_argument
    add("--clips", type=_numbers, default=[1, 3, 5, 10], help="clips a video (default 1,3,5,10)")
    add("--crops", type=_numbers, default=[1], help="crops a clip, 1 or 3, or 1,3 (default 1)")
    args = parser.parse_intermixed_args(argv)
    if min(args.clips) < 1:
        parser.error(f"--clips must be at least 1, got {min(args.clips)}")
    if not set(args.crops) <= {1, 3}:
        parser.error("--crops must be 1, 3 or 1,3")
    return args


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _header(score: ClipScore) -> str:
    from detection.engine.tasks.clip_scoring import headline

    names = "".join(f"{name:>12}" for name in headline(score.accuracy))
    return (
        f"{score.accuracy.num_videos} videos; GMAC: 1 per multiply-add, all views of a video\n"
        f"{'views':>8}{names}{'GMAC/view':>12}{'GMAC/video':>12}{'seconds':>10}"
    )


def _line(score: ClipScore) -> str:
    from detection.engine.tasks.clip_scoring import headline

    views = f"{score.views.clips} x {score.views.crops}"
    numbers = "".join(f"{value:>12.4f}" for value in headline(score.accuracy).values())
    macs = score.macs / 1e9
    return f"{views:>8}{numbers}{macs:>12.3f}{len(score.views) * macs:>12.3f}{score.seconds:>10.1f}"


def _as_json(score: ClipScore) -> dict[str, Any]:
    from detection.engine.tasks.clip_scoring import as_json

    left_out = ("per_class", "num_ground_truth")
    return {name: value for name, value in as_json(score).items() if name not in left_out}


if __name__ == "__main__":
    run_command(main)
