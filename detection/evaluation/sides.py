"""Mismatches between the ids and times of ground truth, detections, exclusions and label map.

Each is reported whatever the mean: rows without a counterpart are silently missed or wrong, and the
mean over the rest looks plausible.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, time_us_of
from detection.evaluation.frame_map import ScoredRows
from detection.joins import Mismatch, compare_ids, compare_times
from detection.structures import LabelMap


def mismatches(scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows) -> list[Mismatch]:
    """Return all mismatches of videos, keyframes, excluded videos and class ids."""
    keys, label_map = scored.keys, scored.label_map
    truth_name, found_name = "the ground truth", "the detections"
    found_mask = np.isin(np.arange(len(keys)), keys.detections)
    # Keyframes without people need no detection.
    with_people = np.isin(np.arange(len(keys)), keys.ground_truth)
    ours = keys.times_by_video(keys.annotated & (with_people | found_mask))
    theirs = keys.times_by_video(found_mask & ~keys.excluded)
    for key in detections.empty_keyframes:
        theirs.setdefault(key.video_id, []).append(time_us_of(key.time_s))
    known = keys.times_by_video(keys.in_ground_truth_file)
    joins = [
        compare_ids(ours.keys(), theirs.keys(), left_name=truth_name, right_name=found_name),
        compare_times(ours, theirs, left_name=truth_name, right_name=found_name),
        compare_ids(
            {key.video_id for key in scored.exclusions}, known.keys(),
            left_name="the exclusions", right_name=truth_name, what="excluded videos", must="left",
        ),
        _class_ids(ground_truth, label_map, truth_name),
        _class_ids(detections, label_map, found_name),
    ]  # fmt: skip
    return [join for join in joins if join is not None]


def _class_ids(rows: AvaRows, label_map: LabelMap, name: str) -> Mismatch | None:
    there: NDArray[np.int32] = np.unique(rows.action_id)
    unknown = [i for i in there.tolist() if i >= 0 and i not in label_map.index_by_id]
    if not unknown:
        return None
    count = int(np.isin(rows.action_id, unknown).sum())
    return Mismatch(
        "class ids", name, "the label map", int((there >= 0).sum()), len(label_map),
        len(unknown), 0, tuple(map(str, unknown[:3])), (),
        f"another label map or one of fewer classes ({count:,} of {len(rows):,} rows do not count)",
    )  # fmt: skip
