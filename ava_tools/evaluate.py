"""Score a detections CSV against a ground-truth CSV: frame-mAP under a named protocol."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ava_tools.cli import command_parser, number, run_command, seconds_above_0, warn, whole_number
from detection.errors import UserError, printable

if TYPE_CHECKING:
    from detection.datasets.ava_csv import AvaRows
    from detection.evaluation.compare import Comparison
    from detection.evaluation.frame_map import AvaFrameMap, ScoredRows
    from detection.structures import Keyframe, LabelMap
    from detection.tracking.scoring import TrackScoring

FILLS = ("none", "between", "whole-video")  # `structures.FillMisses`, which takes numpy to import
EXAMPLE = """examples:
  python -m ava_tools.evaluate --ground-truth val.csv --detections detections.csv \\
      --label-map label_map.pbtxt --exclusions excluded_val.csv --json result.json
  python -m ava_tools.evaluate --run runs/first --compare runs/second --html both.html

protocols: activitynet-2018 (what SlowFast's and X3D's papers report; the default where all times
are whole seconds), activitynet-2019, activitynet-2020 (today's script), pyslowfast, mmaction2,
frame-map (the default for fractional times), all (side by side). docs/evaluation.md has the rules.
"""


@dataclass(frozen=True)
class _Files:
    ground_truth: AvaRows
    detections: AvaRows
    label_map: LabelMap
    exclusions: frozenset[Keyframe]
    names: tuple[str, ...]  # what was read, for the page

    def score(self, detections: AvaRows, protocol: str | None, iou: float) -> ScoredRows:
        from detection.evaluation.frame_map import Rules, score_rows, why_no_ground_truth

        rules: Rules = {"exclusions": self.exclusions, "protocol": protocol, "iou_threshold": iou}
        scored = score_rows(self.ground_truth, detections, self.label_map, **rules)
        if not len(scored.gt_row):
            raise UserError(why_no_ground_truth(self.ground_truth, self.label_map))
        return scored


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the files, score them, print and write what was asked for."""
    options = _options(arguments)
    files = _read_run(options) if options.run else _read_files(options)
    warn(files.ground_truth, files.detections)
    files = replace(files, detections=_along_tracks(files.detections, files, options))
    if options.protocol == "all":
        _all_protocols(files, options)
        return 0

    from detection.reports import evaluation_text

    scored = files.score(files.detections, options.protocol, options.iou)
    warnings = _tell_mismatches(files, files.detections, scored)
    result = scored.frame_map()
    out: dict[str, Any] = evaluation_text.as_json(result)
    print(evaluation_text.table(result, files.label_map))
    if (tracks := _track_scoring(options)) is not None:
        out["scores"] = str(tracks)
        print(f"scores: {tracks}")
    if warnings:
        out["warnings"] = warnings
    causes = _causes(files, scored, result.mean_ap, seen=bool(warnings))
    if causes:
        out["causes"] = causes
    diagnosis = None
    if options.diagnose or options.html:
        from detection.evaluation.diagnosis import diagnose

        diagnosis = diagnose(scored, files.ground_truth, files.detections)
        out["diagnosis"] = evaluation_text.diagnosis_json(diagnosis)
        print(evaluation_text.diagnosis_text(diagnosis))
    comparison = None
    if options.compare:
        comparison = _compare(files, scored, options)
        out["comparison"] = evaluation_text.comparison_json(comparison)
        print(evaluation_text.comparison_text(comparison))
    if options.video_map:
        from detection.evaluation.video_map import video_map

        tubes = video_map(
            files.ground_truth, files.detections, files.label_map,
            least_frames=options.least_frames, progress=sys.stderr.isatty(),
        )  # fmt: skip
        out["video_map"] = asdict(tubes)
        print(evaluation_text.video_map_text(tubes))
    if options.html:
        _write_page(files, scored, options, diagnosis, comparison, [*warnings, *causes])
    _write(options, out, [result])
    print(evaluation_text.summary(result))
    for cause in causes:
        print(printable(f"likely cause: {cause}"))
    return 0


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = command_parser("evaluate", __doc__, EXAMPLE)
    add = parser.add_argument
    add("--ground-truth", type=Path, metavar="CSV")
    add("--detections", type=Path, metavar="CSV")
    add("--label-map", type=Path, metavar="PBTXT")
    add("--run", type=Path, help="a run folder, in place of files: what it detected on its "
        "validation split, by that data set's rules")  # fmt: skip
    add("--data", type=Path, metavar="DIR", help="with --run: the data set folder, if it moved")
    add("--exclusions", type=Path, metavar="CSV", help="keyframes (video_id,time) to leave out")
    add("--protocol", metavar="NAME", help="the rules, by name; see below")
    above_0 = number(0, 1, above=True)
    add("--iou", type=above_0, default=0.5, help="IoU of a true positive (default 0.5)")
    parser.shared("--json", "--html")
    add("--csv", type=Path, metavar="FILE", help="write AP and counts by class as CSV")
    add("--track-reach", type=seconds_above_0, metavar="SECONDS",
        help="average scores along each person's track (of track_id, else boxes are linked), with "
        "weights that fall to 0 so many seconds away (1e6: the mean of the track)")  # fmt: skip
    add("--fill-misses", choices=FILLS, default="none",
        help="with --track-reach: keyframes that get a box of a track that has none there: those "
        "between two of its boxes, or all of the video (short clips of one action)")  # fmt: skip
    add("--diagnose", action="store_true", help="explain where AP is lost")
    add("--compare", type=Path, metavar="CSV_OR_RUN",
        help="other detections, a file or a run's: the difference by class")  # fmt: skip
    add("--draws", type=whole_number(1, 100_000), default=1000,
        help="bootstrap draws of --compare (default 1000)")  # fmt: skip
    add("--video-map", action="store_true", help="score tubes too (JHMDB, UCF101-24)")
    add("--least-frames", type=int, default=15, metavar="N",
        help="shortest tube that linking keeps (default 15, ACT's)")  # fmt: skip
    options = parser.parse_args(arguments)
    files = (options.ground_truth, options.detections, options.label_map)
    if options.run is None and None in files:
        parser.error("--ground-truth, --detections and --label-map are required, or --run RUN")
    if options.run is not None and any((*files, options.exclusions)):
        parser.error("--run RUN names ground truth, detections, classes and exclusions by itself")
    if options.data is not None and options.run is None:
        parser.error("--data goes with --run")
    options.compare = options.compare and _detections_of(options.compare)
    if options.fill_misses != "none" and options.track_reach is None:
        raise UserError("--fill-misses needs --track-reach, whose scores filled boxes have")
    if options.protocol == "all":
        for name in ("html", "diagnose", "compare", "video_map"):
            if getattr(options, name):
                flag = "--" + name.replace("_", "-")
                raise UserError(f"{flag} needs one protocol, not --protocol all")
    elif options.protocol is not None:
        from detection.evaluation.protocols import protocol_named

        protocol_named(options.protocol)
    return options


def _read_files(options: argparse.Namespace) -> _Files:
    from detection.datasets.ava_csv import read_detections, read_ground_truth, read_keyframe_list
    from detection.datasets.label_map import read_label_map

    names = {
        "ground truth": options.ground_truth, "detections": options.detections,
        "label map": options.label_map, "exclusions": options.exclusions,
    }  # fmt: skip
    return _Files(
        label_map=read_label_map(options.label_map),
        exclusions=read_keyframe_list(options.exclusions) if options.exclusions else frozenset(),
        ground_truth=read_ground_truth(options.ground_truth),
        detections=read_detections(options.detections),
        names=tuple(f"{what}: {path}" for what, path in names.items() if path),
    )


def _read_run(options: argparse.Namespace) -> _Files:
    """Read what a run detected, and the split that it was scored on; take over its protocol."""
    from detection.config import load_config
    from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows
    from detection.datasets.ava_csv import read_detections
    from detection.datasets.folder import DatasetFolder

    options.detections = _detections_of(options.run)
    config = load_config(options.run / "config.yaml")
    if config.task == "classification":
        raise UserError(f"{options.run}: classifies whole clips, a run that finds actions of "
                        "persons is required")  # fmt: skip
    folder = DatasetFolder.open(options.data or config.data.root)
    split = folder.split(config.data.val_split)
    if options.protocol is None:
        options.protocol = config.evaluation.protocol or folder.file.evaluation.protocol
    return _Files(
        label_map=folder.read_label_map(),
        exclusions=read_exclusions(split),
        ground_truth=read_ground_truth_rows(split),
        detections=read_detections(options.detections),
        names=(
            f"ground truth: {split.annotations}, split {split.name} of {folder.name}",
            f"detections: {options.detections}",
        ),
    )


def _detections_of(source: Path) -> Path:
    """Return the file of detections itself, or that of a run folder."""
    if not source.is_dir():
        return source
    path = source / "detections.csv"
    if not path.is_file():
        raise UserError(
            f"{path}: file not found; the folder of a run that was scored is required, which "
            f"python train_ava.py --eval-only --checkpoint {source} makes of a run (of a model "
            "folder with data.root=DIR output=FOLDER)"
        )
    return path


def _along_tracks(detections: AvaRows, files: _Files, options: argparse.Namespace) -> AvaRows:
    """Return the detections scored along tracks, where that was asked for."""
    how = _track_scoring(options)
    if how is None:
        return detections
    from detection.evaluation.along_tracks import rows_along_tracks

    keyframes = files.ground_truth.keyframes()
    return rows_along_tracks(detections, files.label_map, how, keyframes=keyframes)


def _track_scoring(options: argparse.Namespace) -> TrackScoring | None:
    from detection.tracking.scoring import TrackScoring

    if options.track_reach is None:
        return None
    return TrackScoring(reach_s=options.track_reach, fill=options.fill_misses)


def _tell_mismatches(files: _Files, detections: AvaRows, scored: ScoredRows) -> list[str]:
    """Say which videos, keyframes and class ids have no partner, whatever the mean."""
    from detection.evaluation.sides import mismatches

    found = mismatches(scored, files.ground_truth, detections)
    for mismatch in found:
        print(printable(f"warning: {mismatch}"), file=sys.stderr)
    return [str(mismatch) for mismatch in found]


def _causes(files: _Files, scored: ScoredRows, mean_ap: float, *, seen: bool) -> list[str]:
    """Look for the usual mistakes: everywhere where the mean or the recall is hardly honest.

    seen: whether ids or times were named already, which may be all that is wrong.
    """
    from detection.evaluation import explain_low_map
    from detection.evaluation.people import pair_people

    recall = pair_people(scored, files.ground_truth, files.detections).recall(scored.iou_threshold)
    honest = mean_ap >= explain_low_map.LOW_MEAN and recall >= explain_low_map.LOW_RECALL
    found = explain_low_map.find_causes(
        scored, files.ground_truth, files.detections,
        most_keyframes=explain_low_map.MOST_KEYFRAMES if honest else None,
    )  # fmt: skip
    if found or honest or seen:
        return found
    return [
        f"none of the usual ones (the boxes find {recall:.1%} of the people): ids, keys and boxes "
        "look as they should"
    ]


def _all_protocols(files: _Files, options: argparse.Namespace) -> None:
    from detection.evaluation.protocols import PROTOCOLS
    from detection.reports import evaluation_text

    results: list[AvaFrameMap] = []
    refusals = []
    for name in PROTOCOLS:
        try:
            scored = files.score(files.detections, name, options.iou)
        except UserError as error:
            if not PROTOCOLS[name].whole_seconds or "whole seconds" not in str(error):
                raise
            refusals.append(f"{name}: refused, {error}")
            continue
        if not results:
            _tell_mismatches(files, files.detections, scored)
        results.append(scored.frame_map())
    print(evaluation_text.side_by_side(results))
    print("\n".join(refusals), end="\n" if refusals else "")
    if (tracks := _track_scoring(options)) is not None:
        print(f"scores: {tracks}")
    _write(options, [evaluation_text.as_json(result) for result in results], results)


def _compare(files: _Files, scored: ScoredRows, options: argparse.Namespace) -> Comparison:
    from detection.datasets.ava_csv import read_detections
    from detection.evaluation.compare import compare

    other = read_detections(options.compare)
    warn(other)
    other = _along_tracks(other, files, options)
    second = files.score(other, scored.protocol.name, options.iou)
    _tell_mismatches(files, other, second)
    return compare(
        scored, second, names=(str(options.detections), str(options.compare)),
        num_draws=options.draws, progress=sys.stderr.isatty(),
    )  # fmt: skip


def _write_page(
    files: _Files, scored: ScoredRows, options: argparse.Namespace, diagnosis: Any,
    comparison: Comparison | None, causes: Sequence[str],
) -> None:  # fmt: skip
    from detection.files import write_text
    from detection.reports.evaluation_page import page

    remarks = [*files.detections.warnings, *(f"Look here first: {cause}" for cause in causes)]
    text = page(
        scored, scored.frame_map(), title="Action detection", files=files.names,
        diagnosis=diagnosis, comparison=comparison, remarks=remarks,
    )  # fmt: skip
    write_text(options.html, text)
    print(f"wrote {options.html}")


def _write(options: argparse.Namespace, out: Any, results: Sequence[Any]) -> None:
    from detection.files import write_text
    from detection.formats.json_text import json_text
    from detection.reports import evaluation_text

    if options.json:
        write_text(options.json, json_text(out))
    if options.csv:
        write_text(options.csv, evaluation_text.as_csv(results))


if __name__ == "__main__":
    run_command(main)
