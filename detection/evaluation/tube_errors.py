"""Which kinds of errors detections make: MultiSports' split of tubes, ACT's split of frames.

Each false positive gets one kind; a kind's figure is the area under its share of all detections so
far, along recall, as AP is the area under precision. What is never found is `missed`, one less the
last recall. Turns and ties are those of `tube_scores`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.frame_map import mean_without_nan
from detection.evaluation.tube_protocols import (
    TUBE_PROTOCOLS,
    TubeProtocol,
    area,
    match_in_order,
    spatial_iou,
    temporal_iou,
)
from detection.evaluation.tube_scores import (
    FoundTubes,
    FrameBoxes,
    check_tubes_finite,
    frame_ious,
    in_turn,
    overlaps_of,
    rows_by_frame,
    rows_by_video,
    truth_by_frame,
)
from detection.evaluation.tubes import Tube, Tubes

# MultiSports' kinds: E_R, E_N, E_L, E_C, E_T and the mixed ones.
TUBE_ERRORS = (
    "repeat", "extra", "location", "class", "time",
    "class and time", "class and location", "time and location", "class, time and location",
)  # fmt: skip
FRAME_ERRORS = ("location", "class", "time", "other")
_TRUE = -1


@dataclass(frozen=True)
class ErrorSplit:
    """Kinds of errors, each as an area.

    mean: `AP`, the kinds, `missed`: the mean of each over the classes.
    per_class: the same by class name; NaN where the protocol leaves the class out.
    counts: detections of each kind by class name; `AP` counts the true positives.
    """

    protocol: str
    iou_threshold: float
    mean: Mapping[str, float]
    per_class: Mapping[str, Mapping[str, float]]
    counts: Mapping[str, Mapping[str, int]]


def tube_errors(
    truth: Tubes, found: FoundTubes, names: Sequence[str], *, iou: float = 0.5
) -> ErrorSplit:
    """Split the errors of tubes as MultiSports does (`videoAP_error` of its script).

    In this order a tube is: right; a repeat (of its class, matched already); of the wrong class
    (overlaps a tube of another class by the threshold); else what falls short at the tube it
    overlaps most: location, time, both (each under the root of the threshold), with the class where
    that is another one; extra, where it overlaps nothing.
    """
    rules = TUBE_PROTOCOLS["multisports"]
    check_tubes_finite(found)
    kinds, totals = {}, {}
    for column in range(len(names)):
        tubes = in_turn(found.get(column, ()), rules)
        kinds[column] = np.zeros(len(tubes), np.int64)
        for video, rows in rows_by_video(tubes).items():
            mine = [tubes[row][1] for row in rows]
            kinds[column][rows] = _kinds_of_tubes(truth, column, video, mine, rules, iou)
        totals[column] = sum(len(goal) for (one, _), goal in truth.items() if one == column)
    return _split(kinds, totals, names, TUBE_ERRORS, rules, iou)


def _kinds_of_tubes(
    truth: Tubes, column: int, video: int, tubes: list[Tube], rules: TubeProtocol, iou: float
) -> list[int]:
    """Return the kind of each tube of a class in a video, by falling score."""
    goal = truth.get((column, video), [])
    others = [tube for (one, v), members in truth.items() if v == video and one != column
              for tube in members]  # fmt: skip
    everything = [(one, tube) for (one, v), members in truth.items() if v == video
                  for tube in members]  # fmt: skip
    own = overlaps_of(tubes, goal, rules)
    matched = match_in_order(own, iou, among_unmatched=False)
    out = []
    for tube, overlaps, hit in zip(tubes, own, matched, strict=True):
        if hit >= 0:
            out.append(_TRUE)
        elif overlaps.max(initial=0.0) >= iou:
            out.append(TUBE_ERRORS.index("repeat"))
        elif overlaps_of([tube], others, rules).max(initial=0.0) >= iou:
            out.append(TUBE_ERRORS.index("class"))
        else:
            out.append(TUBE_ERRORS.index(_what_falls_short(tube, column, everything, rules, iou)))
    return out


def _what_falls_short(
    tube: Tube, column: int, everything: list[tuple[int, Tube]], rules: TubeProtocol, iou: float
) -> str:
    overlaps = overlaps_of([tube], [other for _, other in everything], rules)[0]
    if overlaps.max(initial=0.0) <= 0:
        return "extra"
    other_column, other = everything[int(np.argmax(overlaps))]
    enough = math.sqrt(iou)
    if temporal_iou(other, tube, rules) >= enough:
        kind = "location"
    elif spatial_iou(other, tube, rules) >= enough:
        kind = "time"
    else:
        kind = "time and location"
    if other_column == column:
        return kind
    return "class, time and location" if kind == "time and location" else f"class and {kind}"


def frame_errors(
    truth: Tubes, found: FrameBoxes, names: Sequence[str], *, iou: float = 0.5
) -> ErrorSplit:
    """Split the errors of frames as ACT does (`frameAP_error` of its script, as MOC has it).

    location: the frame has its class. class: it has not, and overlaps another one by the threshold.
    time: the frame has no action and the video has its class. other: all else.
    """
    rules = TUBE_PROTOCOLS["act"]
    kinds, totals = {}, {}
    for column in range(len(names)):
        mine = np.flatnonzero(found.column == column)
        order = mine[np.argsort(-found.score[mine], kind="stable")]
        own = truth_by_frame(truth, lambda one, column=column: one == column)  # type: ignore[misc]
        others = truth_by_frame(truth, lambda one, column=column: one != column)  # type: ignore[misc]
        videos = {video for (one, video), members in truth.items() if one == column and members}
        kinds[column] = np.full(len(order), FRAME_ERRORS.index("other"), np.int64)
        for cell, rows in rows_by_frame(found, order).items():
            boxes_px = found.boxes_px[order[rows]]
            if cell in own:
                ious = frame_ious(boxes_px, own[cell], rules)
                hit = match_in_order(ious, iou, among_unmatched=True) >= 0
                kinds[column][rows] = np.where(hit, _TRUE, FRAME_ERRORS.index("location"))
            elif cell in others:
                near = frame_ious(boxes_px, others[cell], rules).max(axis=1) >= iou
                kinds[column][rows[near]] = FRAME_ERRORS.index("class")
            elif cell[0] in videos:
                kinds[column][rows] = FRAME_ERRORS.index("time")
        totals[column] = sum(map(len, own.values()))
    return _split(kinds, totals, names, FRAME_ERRORS, rules, iou)


def _split(
    kinds: Mapping[int, NDArray[np.int64]],
    totals: Mapping[int, int],
    names: Sequence[str],
    errors: Sequence[str],
    rules: TubeProtocol,
    iou: float,
) -> ErrorSplit:
    heads = ("AP", *errors, "missed")
    per_class, counts = {}, {}
    for column, name in enumerate(names):
        kind = kinds[column]
        counts[name] = {"AP": int((kind == _TRUE).sum())} | {
            error: int((kind == number).sum()) for number, error in enumerate(errors)
        }
        values = [math.nan] * len(heads)
        if name not in rules.unscored:
            values = _areas(kind, totals[column], len(errors), rules)
        per_class[name] = dict(zip(heads, values, strict=True))
    mean = {
        head: mean_without_nan(np.array([values[head] for values in per_class.values()]))
        for head in heads
    }
    return ErrorSplit(rules.name, iou, mean, per_class, counts)


def _areas(
    kind: NDArray[np.int64], total: int, num_errors: int, rules: TubeProtocol
) -> list[float]:
    """Return the area of precision, those of the errors' shares, and what is missed.

    Both scripts hold all shares as float32.
    """
    true = kind == _TRUE
    position = np.arange(1, len(kind) + 1)
    shares = [true, *(kind == number for number in range(num_errors))]
    curves = [(np.cumsum(one) / position).astype(np.float32).astype(np.float64) for one in shares]
    recall = (np.cumsum(true) / max(total, 1)).astype(np.float32).astype(np.float64)
    found = float(recall[-1]) if len(recall) else 0.0
    areas = [
        area(curve, recall, rules, first=1.0 if number == 0 else 0.0)
        for number, curve in enumerate(curves)
    ]
    return [*areas, 1.0 - found]
