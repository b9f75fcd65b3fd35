"""Whom do annotators label? Relevance on source videos that it was not fitted to.

    python benchmarks/relevance_folds.py --dataset DATA --split SPLIT --boxes NAME [--boxes-csv CSV]

A detector's boxes at the annotated keyframes of a training split are put into parts so that no
source video is in two of them; each part is judged by a fit to the others. Printed for each l2: the
area under the ROC curve and the log-loss of "is of a labelled person", over all boxes and by part,
and person AP at IoU 0.5 against labelled people, by the detector's score, times relevance, and the
same of means along tracks. Then without one feature at a time, and with five numbers of the box's
track beside them. Needs no video and no network: for choosing before test is looked at.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from probe_folds import spread

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.config import load_people_config  # noqa: E402
from detection.datasets.actor_table import (  # noqa: E402
    ActorTable,
    build_actor_table,
    read_actor_table,
)
from detection.datasets.ava_csv import read_person_boxes  # noqa: E402
from detection.datasets.folder import DatasetFolder  # noqa: E402
from detection.engine.fit_relevance import RELEVANCE_L2, fit_weights, relevance_rows  # noqa: E402
from detection.evaluation.person_ap import person_ap  # noqa: E402
from detection.relevance import FEATURES  # noqa: E402
from detection.structures import ActorBoxes  # noqa: E402
from detection.tracking.tracker import Tracker, link_boxes  # noqa: E402

Floats = NDArray[np.float64]


def main() -> None:
    """Read, fit, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--dataset", type=Path, required=True)
    add("--split", required=True)
    add("--boxes", default="boxes", help="name of the box file in dataset.yaml")
    add("--boxes-csv", type=Path, help="a box file in its place")
    films = REPOSITORY / "configs" / "people_jhmdb.yaml"
    add("--films", default=str(films), help="people configuration with data.source_pattern")
    add("--parts", type=int, default=5)
    add("--least-score", type=float, default=0.05)
    add("--l2", type=float, nargs="+", default=[1e-5, 1e-4, 1e-3, 1e-2, 1e-1])
    options = parser.parse_args()
    pattern = load_people_config(options.films).data.source_pattern
    judged = read(options, pattern or "(.*)")
    boxes, labelled = len(judged.labelled), judged.labelled.mean()
    print(f"{boxes:,} boxes, {labelled:.3f} of them of labelled people, at {len(judged.found):,} "
          f"keyframes of {judged.num_films} source videos in {options.parts} parts")  # fmt: skip
    print(f"by score alone: AUC {auc(judged.score, judged.labelled):.4f}")
    print("| l2 | AUC | log-loss | AUC by part | AP50 by score | times relevance "
          "| means along tracks | times relevance |\n" + 8 * "|---" + "|")  # fmt: skip
    for l2 in options.l2:
        print_row(judged, judged.features, f"{l2:g}", l2)
    for column, name in enumerate(FEATURES):
        print_row(judged, np.delete(judged.features, column, axis=1), f"without {name}")
    more = np.concatenate([judged.features, judged.track_numbers()], axis=1)
    print_row(judged, more, "with track numbers")


@dataclass(frozen=True)
class Judged:
    """R boxes, in order of keyframes.

    truth, found: of each keyframe.  features: (R, F).  labelled, score, part: (R,).
    track: (R,) numbers over all videos.  shares: (R,) of its video's keyframes that a track has.
    """

    truth: Sequence[ActorBoxes]
    found: Sequence[ActorBoxes]
    features: Floats
    labelled: NDArray[np.bool_]
    score: Floats
    part: NDArray[np.int64]
    track: NDArray[np.int64]
    shares: Floats
    num_films: int

    def out_of_fold(self, features: Floats, l2: float) -> Floats:
        """Return (R,) probabilities by fits to the other parts."""
        found = np.zeros(len(self.labelled))
        for part in np.unique(self.part):
            inside = self.part == part
            weights, bias = fit_weights(features[~inside], self.labelled[~inside], l2=l2)
            found[inside] = 1 / (1 + np.exp(-np.clip(features[inside] @ weights + bias, -30, 30)))
        return found

    def along_tracks(self, values: Floats) -> Floats:
        """Return (R,) the mean of each box's track."""
        sums = np.bincount(self.track, values) / np.maximum(np.bincount(self.track), 1)
        return np.asarray(sums[self.track])

    def track_numbers(self) -> Floats:
        """Return (R, 5): share of the video, boxes, and means of score, area and share of it."""
        means = [
            self.along_tracks(self.features[:, FEATURES.index(name)])
            for name in ("score", "log_area", "of_largest")
        ]
        length = np.log(np.bincount(self.track)[self.track])
        return np.stack([self.shares, length, *means], axis=1)

    def ap50(self, scores: Floats) -> float:
        """Return the AP of labelled people at IoU 0.5."""
        ends = np.cumsum([len(boxes) for boxes in self.found])
        parts = np.split(scores, ends[:-1])
        found = [
            ActorBoxes(boxes.xyxy_01, part.astype(np.float32))
            for boxes, part in zip(self.found, parts, strict=True)
        ]
        return person_ap(self.truth, found).ap50


def read(options: argparse.Namespace, pattern: str) -> Judged:
    """Read boxes and ground truth; put source videos into parts."""
    folder = DatasetFolder.open(options.dataset)
    labels, least = folder.read_label_map(), options.least_score
    truth = read_actor_table(folder, options.split, labels, keep_empty=True)
    if options.boxes_csv is None:
        name = options.boxes
        table = read_actor_table(folder, options.split, labels, boxes=name, score_threshold=least)
    else:
        given = read_person_boxes(options.boxes_csv)
        assert given.score is not None
        table = build_actor_table(given.select(given.score >= least), labels, labelled=False)
    place = {keyframe: position for position, keyframe in enumerate(truth.keyframes())}
    both = [p for p, keyframe in enumerate(table.keyframes()) if keyframe in place]
    rows = relevance_rows(table, truth)
    matched = [re.match(pattern, name) for name in table.video_names]
    films = [
        name if m is None else m[1] for name, m in zip(table.video_names, matched, strict=True)
    ]
    counts = np.bincount(rows.videos, minlength=len(films)).astype(np.float32)
    parts = spread(films, counts[:, None], options.parts)
    track, shares = link(table, both)
    return Judged(
        truth=[truth.boxes(place[table.keyframe(p)]) for p in both],
        found=[table.boxes(p) for p in both],
        features=rows.features,
        labelled=rows.labelled,
        score=rows.features[:, FEATURES.index("score")],
        part=parts[rows.videos],
        track=track,
        shares=shares,
        num_films=len(set(films)),
    )


def link(table: ActorTable, positions: Sequence[int]) -> tuple[NDArray[np.int64], Floats]:
    """Return (R,) track numbers of the boxes of keyframes, and the share that a track covers."""
    tracks, shares, before = [np.zeros(0, np.int64)], [np.zeros(0)], 0
    for _, group in groupby(positions, key=lambda p: int(table.video_index[p])):
        video = list(group)
        frames = [(table.keyframe(p).time_s, table.boxes(p)) for p in video]
        numbers = np.concatenate(link_boxes(frames, Tracker(start_score=-np.inf)))
        shares.append(np.bincount(numbers)[numbers] / len(video))
        tracks.append(numbers + before)
        before = int(tracks[-1].max(initial=before))
    return np.concatenate(tracks), np.concatenate(shares)


def print_row(judged: Judged, features: Floats, what: str, l2: float = RELEVANCE_L2) -> None:
    """Fit out of fold; print a line of the table."""
    found = judged.out_of_fold(features, l2)
    score, truth = judged.score, judged.labelled
    by_part = [
        auc(found[judged.part == p], truth[judged.part == p]) for p in range(judged.part.max() + 1)
    ]
    sure = np.clip(np.where(truth, found, 1 - found), 1e-9, 1)
    aps = [judged.ap50(values) for values in (
        score, score * found, judged.along_tracks(score), judged.along_tracks(score * found)
    )]  # fmt: skip
    print(f"| {what} | {auc(found, truth):.4f} | {-np.log(sure).mean():.4f} | "
          f"{' '.join(f'{value:.3f}' for value in by_part)} | "
          + " | ".join(f"{ap:.4f}" for ap in aps) + " |", flush=True)  # fmt: skip


def auc(scores: Floats, right: NDArray[np.bool_]) -> float:
    """Return the share of pairs, one right and one wrong, in order; equal scores count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = (np.cumsum(counts) - (counts - 1) / 2)[place.reshape(-1)]
    positives, negatives = right.sum(), (~right).sum()
    return float((rank[right].sum() - positives * (positives + 1) / 2) / (positives * negatives))


if __name__ == "__main__":
    main()
