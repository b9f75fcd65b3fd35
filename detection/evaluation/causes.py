"""The usual reasons for a mean of nearly nothing, each tested on the files themselves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.data.ava_files import AvaRows
from detection.data.label_map import LabelMap
from detection.evaluation.frame_map import ScoredRows, score_rows
from detection.evaluation.keys import SharedKeys
from detection.evaluation.people import distinct, pair
from detection.structures import Keyframe

# When to look: below these, chance or an honest but weak detector is an unlikely reason.
LOW_MEAN, LOW_RECALL = 0.01, 0.1


def find_causes(
    ground_truth: AvaRows,
    detections: AvaRows,
    label_map: LabelMap,
    scored: ScoredRows,
    *,
    exclusions: frozenset[Keyframe] = frozenset(),
) -> list[str]:
    """Return one sentence per mistake that explains a low mean; empty when none is found."""
    causes = list(_keys(scored.keys, ground_truth, detections))
    causes += _boxes(scored, ground_truth, detections)
    causes += _labels(ground_truth, detections, label_map, scored, exclusions)
    score = detections.score
    if score is not None and len(score) > 1 and score.min() == score.max():
        causes.append(f"every score is {score[0]:g}: nothing ranks the detections")
    return causes


def _keys(keys: SharedKeys, ground_truth: AvaRows, detections: AvaRows) -> Iterator[str]:
    """Compare videos, then times."""
    theirs, ours = _videos(ground_truth), _videos(detections)
    common = theirs & ours
    if not common:
        yield (
            f"no video of the detections is in the ground truth: {_some(ours)} there, "
            f"{_some(theirs)} here{_same_but_for(ours, theirs)}"
        )
        return
    for missing, what in (
        (theirs - ours, "videos of the ground truth have no detections"),
        (ours - theirs, "videos of the detections are not in the ground truth"),
    ):
        if missing:
            total = len(theirs if missing <= theirs else ours)
            yield f"{len(missing)} of {total} {what}: {_some(missing)}"
    of_both = keys.of_videos(common)
    found = np.zeros(len(keys), bool)
    found[keys.detections] = True
    annotated, found = keys.in_ground_truth_file & of_both, found & of_both
    shared = int((annotated & found).sum())
    if shared < 0.1 * min(annotated.sum(), found.sum()):
        spans = [_seconds(rows, common) for rows in (ground_truth, detections)]
        yield (
            f"keyframes do not match: {shared} of {annotated.sum()} keyframes of the ground truth "
            f"have detections; its times are {spans[0]}, those of the detections {spans[1]}"
        )


def _boxes(scored: ScoredRows, ground_truth: AvaRows, detections: AvaRows) -> Iterator[str]:
    """Try what people do to boxes and see whether more people are found."""
    boxes = detections.boxes_01
    if not len(boxes):
        return
    outside = float((boxes > 2).any(axis=1).mean())
    if outside > 0.5:
        yield (
            f"the boxes are pixels, not fractions of the frame ({outside:.0%} have a coordinate "
            f"over 2, the largest is {boxes.max():g}): divide by width and height"
        )
        return
    people = distinct(scored.gt_key, ground_truth.boxes_01[scored.gt_row])
    given = distinct(scored.keys.detections, boxes)
    x1, y1, x2, y2 = given.xyxy_01.T
    forms: dict[str, tuple[NDArray[np.float64], ...]] = {
        "": (x1, y1, x2, y2),
        "x and y are swapped (y1, x1, y2, x2 where x1, y1, x2, y2 is expected)": (y1, x1, y2, x2),
        "the boxes are x, y, width, height where x1, y1, x2, y2 is expected": (
            x1, y1, x1 + x2, y1 + y2,
        ),
        "the boxes are centre, width, height where x1, y1, x2, y2 is expected": (
            x1 - x2 / 2, y1 - y2 / 2, x1 + x2 / 2, y1 + y2 / 2,
        ),
    }  # fmt: skip
    recalls = {
        name: pair(people, replace(given, xyxy_01=np.stack(form, axis=1))).recall(
            scored.iou_threshold
        )
        for name, form in forms.items()
    }
    as_given = recalls.pop("")
    best = max(recalls, key=lambda name: recalls[name])
    if recalls[best] > 2 * as_given + 0.05:
        yield (
            f"{best}: read that way, boxes find {recalls[best]:.1%} of the people instead of "
            f"{as_given:.1%}"
        )


def _labels(
    ground_truth: AvaRows,
    detections: AvaRows,
    label_map: LabelMap,
    scored: ScoredRows,
    exclusions: frozenset[Keyframe],
) -> Iterator[str]:
    """Try class ids one higher and one lower."""
    known = np.isin(detections.action_id, label_map.ids)
    if len(known) and not known.any():
        ids = sorted(set(detections.action_id.tolist()))
        yield (
            f"no class id of the detections is in the label map: {_some(map(str, ids))} there, "
            f"{_some(map(str, label_map.ids))} here"
        )
    mean = scored.frame_map().mean_ap
    for shift in (1, -1):
        moved = replace(detections, action_id=(detections.action_id + shift).astype(np.int32))
        other = score_rows(
            ground_truth,
            moved,
            label_map,
            exclusions=exclusions,
            protocol=scored.protocol.name,
            iou_threshold=scored.iou_threshold,
        ).frame_map()
        if other.mean_ap > 2 * mean + 0.01:
            small = "small" if shift == 1 else "large"
            yield (
                f"class ids are off by one: with {shift:+d} added to those of the detections "
                f"(now one too {small}) the mean is {other.mean_ap:.4f} instead of {mean:.4f}"
            )


def _videos(rows: AvaRows) -> set[str]:
    with_rows = {rows.video_names[i] for i in np.unique(rows.video_index).tolist()}
    return with_rows | {key.video_id for key in rows.empty_keyframes}


def _seconds(rows: AvaRows, videos: set[str]) -> str:
    inside = np.array([name in videos for name in rows.video_names])[rows.video_index]
    times = rows.time_us[inside] / 1e6
    return f"from {times.min():g} to {times.max():g} s"


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def _same_but_for(ours: set[str], theirs: set[str]) -> str:
    """Say when the names differ by a folder or an ending alone."""

    def bare(name: str) -> str:
        return name.replace("\\", "/").rsplit("/", 1)[-1].rsplit(".", 1)[0].lower()

    if {bare(name) for name in ours} & {bare(name) for name in theirs}:
        return " (they agree without folder, ending and case)"
    return ""
