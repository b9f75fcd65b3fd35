"""What scoring along tracks is worth: a run's detections scored in every way, side by side.

    python benchmarks/track_scoring.py --run RUN --dataset DATA --split SPLIT --boxes NAME

RUN was scored on these boxes with a low `data.box_score_threshold` and without steps of its own
(`evaluation.multiply_person_score`, `evaluation.track_reach_s`): its `detections.csv` holds the
network's probabilities, and the box file the detector's. Printed for each least score of a box:
frame-mAP plain and multiplied by the person's score, of each keyframe alone, and along tracks for
each reach and each way to fill misses. With `--events` in place of that: tracks that begin at each
least score and go on from half of it, scored as `detect_actions` does (1 s), and what its decisions
are worth at the one threshold of best F1. For choosing on
training videos before test is looked at. `--relevance-split TRAIN` fits relevance to that split's
boxes of the same name, for each least score, and scores everything once more with the detector's
scores times it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.datasets.actor_table import (  # noqa: E402
    read_actor_table,
    read_exclusions,
    read_ground_truth_rows,
)
from detection.datasets.ava_csv import read_detections, read_person_boxes, time_us_of  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.engine.fit_relevance import fit_relevance, relevance_rows  # noqa: E402
from detection.errors import UserError  # noqa: E402
from detection.evaluation.along_tracks import by_keyframe  # noqa: E402
from detection.evaluation.evaluator import ActionEvaluator, rows_of  # noqa: E402
from detection.evaluation.frame_map import score_rows  # noqa: E402
from detection.evaluation.thresholds import best_cut  # noqa: E402
from detection.pipeline.options import PipelineOptions  # noqa: E402
from detection.relevance import BoxOrigin, Relevance  # noqa: E402
from detection.structures import (  # noqa: E402
    ActorBoxes,
    Detections,
    FillMisses,
    Keyframe,
    LabelMap,
)
from detection.tracking.scoring import TrackScoring, score_along_tracks  # noqa: E402
from detection.tracking.tracker import Tracker  # noqa: E402


def main() -> None:
    """Read, score, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--run", type=Path, required=True)
    add("--dataset", type=Path, required=True)
    add("--split", required=True)
    add("--boxes", required=True, help="name of the box file in dataset.yaml")
    add("--least-scores", type=float, nargs="+", default=[0.05, 0.3])
    add("--events", action="store_true", help="decisions, by the score at which a track begins")
    add("--relevance-split", help="training split that relevance is fitted on")
    add("--reaches", type=float, nargs="+", default=[0.3, 0.6, 1.0, 1e6], help="seconds")
    options = parser.parse_args()
    folder = DatasetFolder.open(options.dataset)
    split, label_map = folder.split(options.split), folder.read_label_map()
    evaluator = ActionEvaluator(
        read_ground_truth_rows(split), label_map, exclusions=read_exclusions(split),
        protocol=folder.file.evaluation.protocol,
    )  # fmt: skip
    table = folder.boxes_path(split, options.boxes)
    found = with_person_scores(options.run / "detections.csv", table, label_map)
    if options.events:
        print_decisions(found, evaluator, options.least_scores)
        return
    print("| boxes from | scores | misses filled | plain | times the person's |")
    print("|---|---|---|---|---|")
    for least in options.least_scores:
        kept = [above(one, least) for one in found]
        print_rows(evaluator, f"{least}", kept, options.reaches)
        if options.relevance_split is not None:
            relevance = fit(folder, options.relevance_split, options.boxes, least)
            weighed = [replace(one, boxes=relevance.weigh(one.boxes)) for one in kept]
            print_rows(evaluator, f"{least}, times relevance", weighed, options.reaches)


def fit(folder: DatasetFolder, split: str, boxes: str, least: float) -> Relevance:
    """Fit relevance to a training split's boxes."""
    labels = folder.read_label_map()
    rows = relevance_rows(
        read_actor_table(folder, split, labels, boxes=boxes, score_threshold=least),
        read_actor_table(folder, split, labels, keep_empty=True),
    )
    return fit_relevance(rows, origin=BoxOrigin(boxes), least_score=least, source=boxes)


def print_rows(
    evaluator: ActionEvaluator, boxes: str, found: Sequence[Detections], reaches: Sequence[float]
) -> None:
    """Score in every way; print a line of the table for each."""
    print_row(evaluator, boxes, "each keyframe alone", "none", found)
    for reach_s in reaches:
        for fill in get_args(FillMisses):
            how = TrackScoring(reach_s=reach_s, fill=fill)
            keyframes = evaluator.ground_truth.keyframes()
            scored = score_along_tracks(found, how, keyframes=keyframes)
            print_row(evaluator, boxes, f"along tracks, {reach_s:g} s", fill, scored)


def with_person_scores(path: Path, boxes: Path, label_map: LabelMap) -> list[Detections]:
    """Return a run's detections, each box with the score that the box file has of it."""
    rows = read_detections(path)
    columns = [label_map.index_by_id[number] for number in rows.action_id.tolist()]
    found, _ = by_keyframe(rows, np.array(columns, np.int64), len(label_map))
    table = read_person_boxes(boxes)
    assert table.score is not None
    places: dict[tuple[str, int], list[int]] = {}
    for row in range(len(table)):
        video = table.video_names[table.video_index[row]]
        places.setdefault((video, int(table.time_us[row])), []).append(row)
    scored = []
    for one in found:
        rows_here = places[one.keyframe.video_id, time_us_of(one.keyframe.time_s)]
        off = np.abs(table.boxes_01[rows_here] - one.boxes.xyxy_01[:, None]).max(axis=2)
        if off.min(axis=1).max() > 1e-4:
            raise UserError(f"{path}: a box at {one.keyframe} is not one of {boxes}")
        score = table.score[rows_here][off.argmin(axis=1)]
        scored.append(replace(one, boxes=ActorBoxes(one.boxes.xyxy_01, score)))
    return scored


def above(one: Detections, least: float) -> Detections:
    """Return the people whose boxes have at least a score."""
    kept = one.boxes.score >= least
    return replace(one, boxes=one.boxes.select(kept), action_scores=one.action_scores[kept])


def print_row(
    evaluator: ActionEvaluator, boxes: str, scores: str, fill: str, found: Sequence[Detections]
) -> None:
    """Score plain and multiplied; print a line of the table."""
    means = []
    for multiply in (False, True):
        evaluator.reset()
        evaluator.multiply_person_score = multiply
        evaluator.update(found)
        means.append(evaluator.compute().mean_ap)
    print(f"| {boxes} | {scores} | {fill} | {means[0]:.4f} | {means[1]:.4f} |", flush=True)


def print_decisions(
    found: Sequence[Detections], evaluator: ActionEvaluator, starts: Sequence[float]
) -> None:
    """Print what decisions at the one threshold of best F1 are worth, and boxes shown."""
    keyframes = evaluator.ground_truth.keyframes()
    print("| tracks from | filled | scores | F1 | precision | recall | boxes a keyframe |")
    print("|---|---|---|---|---|---|---|")
    for start in starts:
        kept, tracks = tracked(found, start)
        for fill in ("none", "between"):
            how = TrackScoring(reach_s=1.0, fill=fill)
            scored = score_along_tracks(kept, how, keyframes=keyframes, tracks=tracks)
            for times in (False, True):
                rows = rows_of(scored, evaluator.label_map, multiply_person_score=times)
                judged = score_rows(
                    evaluator.ground_truth, rows, evaluator.label_map, protocol="frame-map"
                )
                right = np.zeros(len(rows), bool)
                right[judged.row[judged.matched >= 0]] = True
                assert rows.score is not None
                people = int(np.sum(judged.num_ground_truth))
                decided = rows.score >= best_cut(rows.score, right, people)
                true, all_of_them = int((decided & right).sum()), int(decided.sum())
                f1 = 2 * true / (all_of_them + people)
                boxes = sum(len(one.boxes) for one in scored) / len(keyframes)
                print(
                    f"| {start} | {fill} | {'times the person' if times else 'plain'} | {f1:.3f} | "
                    f"{true / all_of_them:.3f} | {true / people:.3f} | {boxes:.2f} |",
                    flush=True,
                )


def tracked(
    found: Sequence[Detections], start: float
) -> tuple[list[Detections], dict[Keyframe, NDArray[np.int64]]]:
    """Return the people who are in a track, and their tracks, as `detect_actions` links them."""
    kept, tracks = [], {}
    ordered = sorted(found, key=lambda one: one.keyframe)
    for _, group in groupby(ordered, key=lambda one: one.keyframe.video_id):
        tracker = Tracker(start_score=start, keep_score=PipelineOptions().keep_share * start)
        for one in group:
            numbers = tracker.update(one.keyframe.time_s, one.boxes)
            rows = np.flatnonzero(numbers > 0)
            people = one.boxes.select(rows)
            kept.append(replace(one, boxes=people, action_scores=one.action_scores[rows]))
            tracks[one.keyframe] = numbers[rows]
    return kept, tracks


if __name__ == "__main__":
    main()
