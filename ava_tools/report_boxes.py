"""Report how good a file of person boxes is: recall, precision, the frame-mAP it allows."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ava_tools.cli import command_parser, run_command, share, warn
from detection.errors import printable

if TYPE_CHECKING:
    from detection.datasets.folder import DatasetFolder
    from detection.evaluation.box_report import BoxReport

EXAMPLE = """examples:
  python -m ava_tools.report_boxes --dataset data/demo --split val --name small --html boxes.html
  python -m ava_tools.report_boxes --dataset data/jhmdb --split split1_val \\
      --boxes boxes.csv --partly-labelled --json boxes.json --png boxes.png

The ceiling is the highest frame-mAP that any classifier could reach with the boxes: the evaluator's
own score of perfect detections. docs/people.md explains every figure.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit code."""
    options = _parse(arguments)

    from detection.datasets.folder import DatasetFolder
    from detection.reports import boxes_text

    folder = DatasetFolder.open(options.dataset)
    path = options.boxes or folder.boxes_path(folder.split(options.split), options.name)
    result = _report(folder, path, options)
    print(printable(f"{path} against {folder.split(options.split).annotations}"))
    for line in boxes_text.as_text(result).split("\n"):
        print(printable(line))
    _write(result, path, options)
    return 0


def _report(folder: DatasetFolder, path: Path, options: argparse.Namespace) -> BoxReport:
    from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows
    from detection.datasets.ava_csv import read_person_boxes
    from detection.datasets.split_joins import box_mismatches
    from detection.evaluation.box_report import report_boxes

    split = folder.split(options.split)
    ground_truth = read_ground_truth_rows(split)
    boxes = read_person_boxes(path)
    warn(ground_truth, boxes)
    for sentence in box_mismatches(
        split, ground_truth, boxes, name=f"the boxes ({path.name})", at=options.threshold
    ):
        print(printable(f"warning: {sentence}"), file=sys.stderr)
    return report_boxes(
        ground_truth,
        boxes,
        folder.read_label_map(),
        exclusions=read_exclusions(split),
        protocol=options.protocol or folder.file.evaluation.protocol,
        threshold=options.threshold,
        partly_labelled=options.partly_labelled,
        unlisted_are_empty=options.unlisted_are_empty,
    )


def _write(result: BoxReport, path: Path, options: argparse.Namespace) -> None:
    from detection.files import write_text
    from detection.formats.json_text import json_text
    from detection.reports import boxes_text
    from detection.reports.boxes_page import draw_boxes, page
    from detection.reports.figures import write_png

    if options.json:
        content = {"boxes": str(path), "split": options.split, **boxes_text.as_json(result)}
        write_text(options.json, json_text(content))
    if options.html:
        files = [f"boxes: {path}", f"ground truth: {options.dataset}, split {options.split}"]
        write_text(options.html, page(result, title=f"Person boxes {path.name}", files=files))
    if options.png:
        write_png(options.png, draw_boxes(result, title=path.name))
    for path in (options.json, options.html, options.png):
        if path:
            print(printable(f"wrote {path}"))


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("report_boxes", __doc__, EXAMPLE)
    add = parser.add_argument
    parser.shared("--dataset")
    parser.shared("--split", help="split whose ground truth the boxes are compared with")
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--boxes", type=Path, metavar="CSV", help="a file of person boxes")
    which.add_argument("--name", help="boxes that dataset.yaml names in the split")
    add("--threshold", type=share, default=0.8, metavar="S",
        help="lowest score of boxes in use (default %(default)s)")  # fmt: skip
    add("--protocol", metavar="NAME", help="rules of the ceiling (default: the data set's)")
    add("--partly-labelled", action="store_true",
        help="some people have no ground truth (JHMDB): precision is a lower bound")  # fmt: skip
    add("--unlisted-are-empty", action="store_true",
        help="keyframes that the ground truth does not list have no person (AVA)")  # fmt: skip
    parser.shared("--json", "--html")
    add("--png", type=Path, metavar="FILE", help="write the curves as an image")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    run_command(main)
