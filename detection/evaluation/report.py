"""Results as text, JSON and CSV."""

from __future__ import annotations

import math
from typing import Any

from detection.data.label_map import LabelMap
from detection.evaluation.frame_map import AvaFrameMap

GROUP_NAMES = {
    "PERSON_MOVEMENT": "pose",
    "OBJECT_MANIPULATION": "object",
    "PERSON_INTERACTION": "person interaction",
}


def summary(result: AvaFrameMap) -> str:
    """Return the mean in one line with all that another number must share to be comparable."""
    scored = sum(not math.isnan(ap) for ap in result.per_class.values())
    labels = sum(result.num_ground_truth.values())
    return (
        f"frame-mAP {percent(result.mean_ap)} at IoU {result.iou_threshold:g} "
        f"({result.protocol}: {scored} of {len(result.per_class)} classes, "
        f"{result.num_keyframes:,} keyframes, {result.num_boxes:,} boxes with {labels:,} labels, "
        f"{sum(result.num_detections.values()):,} detections)"
    )


def percent(value: float) -> str:
    """Return a fraction with four decimals, or a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def table(result: AvaFrameMap, label_map: LabelMap) -> str:
    """Return AP and counts by class, then the groups and what was left out."""
    width = max(len(name) for name in result.per_class)
    lines = [f"{'class':<{width}}  {'AP':>6}  {'labels':>7}  {'detections':>10}"]
    for name, average in result.per_class.items():
        lines.append(
            f"{name:<{width}}  {percent(average):>6}  {result.num_ground_truth[name]:>7,}  "
            f"{result.num_detections[name]:>10,}"
        )
    for group, average in result.group_ap.items():
        lines.append(
            f"{'mean of ' + GROUP_NAMES.get(group, group):<{width}}  {percent(average):>6}"
        )
    lines += [f"left out: {count:,} {reason}" for reason, count in result.left_out.items()]
    return "\n".join(lines)


def as_json(result: AvaFrameMap) -> dict[str, Any]:
    """Return the result as plain values; NaN becomes null."""
    return {
        "protocol": result.protocol,
        "iou_threshold": result.iou_threshold,
        "mean_ap": _or_none(result.mean_ap),
        "per_class": {name: _or_none(ap) for name, ap in result.per_class.items()},
        "groups": {GROUP_NAMES.get(g, g): _or_none(ap) for g, ap in result.group_ap.items()},
        "num_ground_truth": dict(result.num_ground_truth),
        "num_detections": dict(result.num_detections),
        "num_classes_scored": sum(not math.isnan(ap) for ap in result.per_class.values()),
        "num_keyframes": result.num_keyframes,
        "num_annotated_keyframes": result.num_annotated_keyframes,
        "num_boxes": result.num_boxes,
        "left_out": dict(result.left_out),
    }


def _or_none(value: float) -> float | None:
    return None if math.isnan(value) else value
