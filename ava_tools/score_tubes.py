"""Score tubes as UCF101-24's and MultiSports' scripts do: frame-mAP, video-mAP, errors."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import command_parser, number, run_command, whole_number
from detection.errors import UserError

if TYPE_CHECKING:
    from detection.evaluation.tube_files import TubeTruth
    from detection.evaluation.tube_scores import TubeMap

EXAMPLE = """examples:
  python -m ava_tools.score_tubes --ground-truth UCF101v2-GT.pkl --protocol act \\
      --frames frame_detections.pkl --tubes video_detections.pkl
  python -m ava_tools.score_tubes --ground-truth multisports_GT.pkl --protocol multisports \\
      --tubes video_detections.pkl --errors --json result.json

protocols: act (ACT's script, as MOC-Detector has it), 3d-retinanet, realtime (frames alone),
multisports. docs/evaluation.md has the rules and the files' form.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, score them, print and write what was asked for."""
    options = _options(arguments)
    from detection.evaluation.tube_files import read_tube_truth

    truth = read_tube_truth(options.ground_truth, split=options.split)
    if not truth.tubes:
        raise UserError(f"{options.ground_truth}: no tube in the test videos of the split")
    out: dict[str, Any] = {"protocol": options.protocol, "split": options.split}
    if options.frames:
        out |= _score_frames(truth, options)
    if options.tubes:
        out |= _score_tubes(truth, options)
    if options.json:
        from detection.files import write_text
        from detection.formats.json_text import json_text

        write_text(options.json, json_text(out))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("score_tubes", __doc__, EXAMPLE)
    add = parser.add_argument
    add("--ground-truth", type=Path, required=True, metavar="PKL", help="annotation file of tubes")
    add("--split", type=whole_number(1, 1000), default=1, metavar="N",
        help="whose test videos (default 1)")  # fmt: skip
    add("--frames", type=Path, metavar="PKL", help="frame_detections.pkl: scored boxes of frames")
    add("--tubes", type=Path, metavar="PKL", help="video_detections.pkl: scored tubes")
    add("--protocol", required=True, metavar="NAME", help="the rules, by name; see below")
    add("--iou", type=number(0, 1, above=True), default=0.5,
        help="IoU of a true positive in frames and of --errors (default 0.5)")  # fmt: skip
    add("--errors", action="store_true",
        help="split the errors: of tubes as MultiSports does, of frames as ACT does")  # fmt: skip
    parser.shared("--json")
    options = parser.parse_args(arguments)
    from detection.evaluation.tube_protocols import tube_protocol_named

    tube_protocol_named(options.protocol, tubes=options.tubes is not None)
    if options.frames is None and options.tubes is None:
        raise UserError("--frames or --tubes is required: there is nothing to score")
    return options


def _score_frames(truth: TubeTruth, options: argparse.Namespace) -> dict[str, Any]:
    from detection.evaluation.tube_errors import frame_errors
    from detection.evaluation.tube_files import read_frame_boxes
    from detection.evaluation.tube_scores import frame_map_of_tubes
    from detection.reports.tubes_text import errors_text, maps_text

    found = read_frame_boxes(options.frames, truth)
    result = frame_map_of_tubes(
        truth.tubes, found, truth.names, protocol=options.protocol, iou=options.iou
    )
    print(maps_text("frame", [result]))
    out: dict[str, Any] = {"frame_map": _as_json(result)}
    if options.errors:
        split = frame_errors(truth.tubes, found, truth.names, iou=options.iou)
        print(errors_text("frames", split))
        out["frame_errors"] = asdict(split)
    return out


def _score_tubes(truth: TubeTruth, options: argparse.Namespace) -> dict[str, Any]:
    from detection.evaluation.tube_errors import tube_errors
    from detection.evaluation.tube_files import read_found_tubes
    from detection.evaluation.tube_scores import USUAL_IOUS, mean_of_maps, video_maps
    from detection.reports.tubes_text import errors_text, maps_text

    found = read_found_tubes(options.tubes, truth)
    results = video_maps(truth.tubes, found, truth.names, protocol=options.protocol)
    usual, strict = results[: len(USUAL_IOUS)], results[len(USUAL_IOUS) :]
    mean = mean_of_maps(strict)
    print(maps_text("video", usual, mean))
    out: dict[str, Any] = {
        "video_map": {f"{one.iou_threshold:g}": _as_json(one) for one in usual}
        | {"0.5:0.95": {"mean_ap": mean.mean_ap, "per_class": dict(mean.per_class)}}
    }
    if options.errors:
        if options.protocol != "multisports":
            print("errors of tubes: by multisports' rules of overlap", file=sys.stderr)
        split = tube_errors(truth.tubes, found, truth.names, iou=options.iou)
        print(errors_text("tubes", split))
        out["tube_errors"] = asdict(split)
    return out


def _as_json(result: TubeMap) -> dict[str, Any]:
    return asdict(result)


if __name__ == "__main__":
    run_command(main)
