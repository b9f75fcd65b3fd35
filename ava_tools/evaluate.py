"""Score a detections CSV against a ground-truth CSV: frame-mAP under a named protocol."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ava_tools.cli import run_command
from detection.data.ava_files import AvaRows, read_detections, read_ground_truth, read_keyframe_list
from detection.data.label_map import read_label_map
from detection.errors import UserError
from detection.evaluation.frame_map import score_rows, why_no_ground_truth
from detection.evaluation.protocols import PROTOCOLS
from detection.evaluation.report import as_json, summary, table
from detection.files import write_text

EXAMPLE = """example:
  python -m ava_tools.evaluate --ground-truth val.csv --detections detections.csv \\
      --label-map label_map.pbtxt --exclusions excluded_val.csv --json result.json
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, score them, print and write what was asked for."""
    options = _parser().parse_args(arguments)
    label_map = read_label_map(options.label_map)
    ground_truth = read_ground_truth(options.ground_truth)
    detections = read_detections(options.detections)
    exclusions = read_keyframe_list(options.exclusions) if options.exclusions else frozenset()
    _warn(ground_truth, detections)
    result = score_rows(
        ground_truth,
        detections,
        label_map,
        exclusions=exclusions,
        protocol=options.protocol,
        iou_threshold=options.iou,
    ).frame_map()
    if not result.num_boxes:
        raise UserError(why_no_ground_truth(ground_truth, label_map))
    print(table(result, label_map))
    print(summary(result))
    if options.json:
        write_text(options.json, json.dumps(as_json(result), indent=2) + "\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ava_tools.evaluate",
        description=__doc__,
        epilog=EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ground-truth", type=Path, required=True, metavar="CSV")
    parser.add_argument("--detections", type=Path, required=True, metavar="CSV")
    parser.add_argument("--label-map", type=Path, required=True, metavar="PBTXT")
    parser.add_argument("--exclusions", type=Path, metavar="CSV", help="keyframes left out")
    parser.add_argument(
        "--protocol",
        choices=list(PROTOCOLS),
        help="default: activitynet-2018 where all times are whole seconds, else frame-map",
    )
    parser.add_argument("--iou", type=float, default=0.5, help="overlap threshold (default 0.5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result as JSON")
    return parser


def _warn(*files: AvaRows) -> None:
    for rows in files:
        for sentence in rows.warnings:
            print(f"warning: {rows.path}: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    run_command(main)
