"""Score events of persons within a tolerance of frames: precision, recall and F1, as FOOTPASS."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, number, run_command, whole_number
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.evaluation.event_f1 import EventScore

EXAMPLE = """examples:
  python -m ava_tools.score_events --ground-truth playbyplay_val.json --detections mine.json
  python -m ava_tools.score_events --ground-truth gt.json --detections mine.json \\
      --classes pass,shot --tolerance 25 --least-score 0 --json result.json

docs/evaluation.md has the files' form and the rules.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, score them, print and write what was asked for."""
    options = _options(arguments)
    from detection.evaluation.event_f1 import event_f1
    from detection.evaluation.event_files import FOOTPASS_CLASSES, read_events

    names = options.classes or FOOTPASS_CLASSES
    truth, others = read_events(options.ground_truth, num_classes=len(names), scored=False)
    found, more = read_events(options.detections, num_classes=len(names), scored=True)
    result = event_f1(
        truth, found, names,
        tolerance_frames=options.tolerance, least_score=options.least_score,
    )  # fmt: skip
    if not result.num_videos:
        raise UserError(
            f"{options.detections}: no game in common with {options.ground_truth}: "
            f"{printable(next(iter(found), 'none'))} here, {printable(next(iter(truth), 'none'))}"
        )
    for count, path in ((others, options.ground_truth), (more, options.detections)):
        if count:
            print(f"left out: {count:,} events of other classes, of {path}", file=sys.stderr)
    for why, count in result.left_out.items():
        print(f"left out: {count:,} {why}", file=sys.stderr)
    print(_text(result, options.tolerance))
    if options.json:
        from detection.files import write_text
        from detection.formats.json_text import json_text

        out = asdict(result) | {"tolerance_frames": options.tolerance}
        write_text(options.json, json_text(out | {"least_score": options.least_score}))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("score_events", __doc__, EXAMPLE)
    add = parser.add_argument
    add("--ground-truth", type=Path, required=True, metavar="JSON")
    add("--detections", type=Path, required=True, metavar="JSON")
    add("--classes", type=_names, metavar="NAME,...",
        help="classes 1, 2, ... by name (default: FOOTPASS' eight)")  # fmt: skip
    add("--tolerance", type=whole_number(0, 1_000_000), default=12, metavar="FRAMES",
        help="frames that a detection may be away from its event (default 12)")  # fmt: skip
    add("--least-score", type=number(0, 1), default=0.15, metavar="SCORE",
        help="detections under it do not count (default 0.15)")  # fmt: skip
    parser.shared("--json")
    return parser.parse_args(arguments)


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise argparse.ArgumentTypeError(f"{text!r}: different names between commas are required")
    return names


def _text(result: EventScore, tolerance: int) -> str:
    from detection.reports.evaluation_text import columns

    shares, counts = ("precision", "recall", "f1"), ("true", "false", "missed")
    rows = [
        (name, *(f"{one[key]:.4f}" for key in shares), *(f"{one[key]:,}" for key in counts))
        for name, one in result.per_class.items()
    ]
    return (
        f"{columns(('class', *shares, *counts), rows)}\n"
        f"F1 {result.f1:.4f} within {tolerance} frames (precision {result.precision:.4f}, recall "
        f"{result.recall:.4f}; {result.num_videos:,} videos, "
        f"{result.num_true + result.num_missed:,} events, "
        f"{result.num_true + result.num_false:,} detections)"
    )


if __name__ == "__main__":
    run_command(main)
