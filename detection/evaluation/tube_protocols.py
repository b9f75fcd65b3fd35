"""Named rules of frame-mAP and video-mAP over tubes, as UCF101-24 and MultiSports are scored.

The field has several scripts and they differ; docs/evaluation.md has the table, and how each was
checked against its script. Boxes are pixels here, and x2, y2 name the last pixel inside, as in the
published annotation files; some scripts count that pixel in, others do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.errors import UserError
from detection.evaluation.tubes import Tube

_UNSCORED_SPORTS = (
    "aerobic kick jump",
    "aerobic off axis jump",
    "aerobic butterfly jump",
    "aerobic balance turn",
    "basketball save",
    "basketball jump ball",
)


@dataclass(frozen=True)
class TubeProtocol:
    """One set of rules.

    frame_pixel, tube_pixel: added to widths and heights of boxes of frames and of tubes: 1 where
        x2 and y2 name the last pixel inside.
    last_frame: added to durations: 1 where the last frame of a tube is one of its frames.
    among_unmatched: a detection is compared with the ground truth that is not matched yet, else
        with the one that it overlaps most.
    straight_lines: AP is the area under straight lines between the points, from recall 0 and
        precision 1 on; else under steps of precision that never rises (PASCAL VOC of 2010).
    suppress_iou: tubes of a class and video that overlap a better one by more are dropped first.
    zero_without_truth: a class without ground truth has AP 0, else it is not in the mean.
    single_precision: precision and recall are float32.
    unscored: classes that are never scored, by name.
    scores_tubes: whether the script scores tubes as well as frames.
    """

    name: str
    source: str
    frame_pixel: int = 0
    tube_pixel: int = 0
    last_frame: int = 1
    among_unmatched: bool = True
    straight_lines: bool = True
    suppress_iou: float | None = None
    zero_without_truth: bool = True
    single_precision: bool = True
    unscored: tuple[str, ...] = ()
    scores_tubes: bool = True


TUBE_PROTOCOLS: dict[str, TubeProtocol] = {
    protocol.name: protocol
    for protocol in (
        TubeProtocol(
            "act",
            "ACT's script as MOC-Detector 45c3fd0 has it",
            frame_pixel=1,
            tube_pixel=1,
            suppress_iou=0.3,
        ),
        TubeProtocol("3d-retinanet", "gurkirt/3D-RetinaNet d27e97f", tube_pixel=1),
        TubeProtocol(
            "realtime",
            "gurkirt/realtime-action-detection 9dd8e1b, its Python part: frames alone",
            straight_lines=False,
            single_precision=False,
            scores_tubes=False,
        ),
        TubeProtocol(
            "multisports",
            "MCG-NJU/MultiSports a29e291",
            last_frame=0,
            among_unmatched=False,
            straight_lines=False,
            zero_without_truth=False,
            single_precision=False,
            unscored=_UNSCORED_SPORTS,
        ),
    )
}


def tube_protocol_named(name: str, *, tubes: bool = False) -> TubeProtocol:
    """Return the rules of that name; raises `UserError` for an unknown name.

    tubes: rules of tubes are required.
    """
    if name not in TUBE_PROTOCOLS:
        raise UserError(f"no tube protocol {name!r}: choose one of {', '.join(TUBE_PROTOCOLS)}")
    protocol = TUBE_PROTOCOLS[name]
    if tubes and not protocol.scores_tubes:
        others = [one.name for one in TUBE_PROTOCOLS.values() if one.scores_tubes]
        raise UserError(f"protocol {name} scores frames alone: choose one of {', '.join(others)}")
    return protocol


def closed(boxes_px: NDArray[np.float64], pixel: int) -> NDArray[np.float64]:
    """Return boxes (..., 4) whose x2, y2 end `pixel` later."""
    moved: NDArray[np.float64] = boxes_px + np.array([0, 0, pixel, pixel])
    return moved


def temporal_iou(first: Tube, second: Tube, protocol: TubeProtocol) -> float:
    """Return common duration by joint duration; 0 where neither lasts."""
    start, end = max(first.first, second.first), min(first.last, second.last)
    joint = max(first.last, second.last) - min(first.first, second.first) + protocol.last_frame
    return (end - start + protocol.last_frame) / joint if end >= start and joint > 0 else 0.0


def spatial_iou(first: Tube, second: Tube, protocol: TubeProtocol) -> float:
    """Return the mean IoU of the boxes in common frames; 0 without a common frame."""
    start, end = max(first.first, second.first), min(first.last, second.last)
    if end < start:
        return 0.0
    mine = first.boxes[start - first.first : end - first.first + 1]
    other = second.boxes[start - second.first : end - second.first + 1]
    pixel = protocol.tube_pixel
    return float(paired_iou(closed(mine, pixel), closed(other, pixel)).mean())


def tube_iou(first: Tube, second: Tube, protocol: TubeProtocol) -> float:
    """Return the spatiotemporal IoU: spatial times temporal."""
    return spatial_iou(first, second, protocol) * temporal_iou(first, second, protocol)


def match_in_order(
    ious: NDArray[np.float64], threshold: float, *, among_unmatched: bool
) -> NDArray[np.int64]:
    """Return the ground truth (D,) that each detection matches, -1 for a false positive.

    ious: (D, G), detections in the order of their turn. Of equal overlaps the first counts.
    """
    matched = np.full(len(ious), -1, np.int64)
    if not ious.size:
        return matched
    free = np.ones(ious.shape[1], bool)
    for row, overlaps in enumerate(ious):
        candidates = np.where(free, overlaps, -1.0) if among_unmatched else overlaps
        best = int(np.argmax(candidates))
        if free[best] and overlaps[best] >= threshold:
            matched[row] = best
            free[best] = False
    return matched


def precision_recall_points(
    hits: NDArray[np.bool_], num_ground_truth: int, protocol: TubeProtocol
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return precision and recall (D,) after each detection, in the protocol's precision.

    hits: (D,) true positives by falling score. Recall is 0 without ground truth.
    """
    true = np.cumsum(hits)
    precision = true / np.arange(1, len(hits) + 1)
    recall = true / max(num_ground_truth, 1)
    return _rounded(precision, protocol), _rounded(recall, protocol)


def area(
    values: NDArray[np.float64],
    recall: NDArray[np.float64],
    protocol: TubeProtocol,
    *,
    first: float = 1.0,
) -> float:
    """Return the area under the points (D,) by the protocol's rule; 0 without points.

    first: the value at recall 0, where straight lines begin.
    """
    if protocol.straight_lines:
        number: type[np.floating] = np.float32 if protocol.single_precision else np.float64
        heights: NDArray[np.floating] = np.append(first, values).astype(number)
        places: NDArray[np.floating] = np.append(0.0, recall).astype(number)
        widths = places[1:] - places[:-1]
        return float(np.sum(widths * (heights[1:] + heights[:-1]) * 0.5))
    return _area_of_steps(values, recall)


def _area_of_steps(values: NDArray[np.float64], recall: NDArray[np.float64]) -> float:
    """Return the area under steps of values (D,) that never rise along recall (D,)."""
    places = np.concatenate([[0.0], recall, [1.0]])
    heights = np.maximum.accumulate(np.append(values, 0.0)[::-1])[::-1]
    return float(np.sum(np.diff(places) * heights))


def _rounded(values: NDArray[np.float64], protocol: TubeProtocol) -> NDArray[np.float64]:
    return values.astype(np.float32).astype(np.float64) if protocol.single_precision else values
