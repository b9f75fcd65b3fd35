"""Results as text, JSON and CSV; `evaluation_page` makes the HTML."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from detection.errors import printable
from detection.evaluation.compare import Comparison
from detection.evaluation.diagnosis import Diagnosis
from detection.evaluation.frame_map import AvaFrameMap
from detection.evaluation.video_map import VideoMap
from detection.structures import LabelMap

GROUP_NAMES = {
    "PERSON_MOVEMENT": "pose",
    "OBJECT_MANIPULATION": "object",
    "PERSON_INTERACTION": "person interaction",
}


def summary(result: AvaFrameMap) -> str:
    """Return the mean in one line with all that another number must share to be comparable."""
    line = f"frame-mAP {fraction(result.mean_ap)} at IoU {result.iou_threshold:g} ({basis(result)})"
    if not math.isnan(result.mean_ap):
        return line
    if not any(result.num_ground_truth.values()):
        return f"{line}: no mean, since no ground truth counts"
    return f"{line}: no mean, since this protocol leaves out classes that nothing was detected of"


def basis(result: AvaFrameMap) -> str:
    """Return what a mean was computed from: protocol, classes, keyframes, boxes."""
    labels = sum(result.num_ground_truth.values())
    return (
        f"{result.protocol}: {num_scored(result)} of {len(result.per_class)} classes, "
        f"{result.num_keyframes:,} keyframes, {result.num_boxes:,} boxes with {labels:,} labels, "
        f"{sum(result.num_detections.values()):,} detections"
    )


def num_scored(result: AvaFrameMap) -> int:
    """Return how many classes are in the mean."""
    return sum(not math.isnan(ap) for ap in result.per_class.values())


def fraction(value: float) -> str:
    """Return a fraction with four decimals, or a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.4f}"


def signed(value: float) -> str:
    """Return a difference with its sign and four decimals, or a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:+.4f}"


def recalls_text(diagnosis: Diagnosis) -> str:
    """Return the share of people found, by overlap."""
    return ", ".join(
        f"{'-' if math.isnan(r) else f'{r:.1%}'} at IoU {t:g}"
        for t, r in diagnosis.box_recall.items()
    )


def table(result: AvaFrameMap, label_map: LabelMap) -> str:
    """Return AP and counts by class, then the groups and what was left out."""
    rows = [
        (
            name,
            str(class_id),
            fraction(result.per_class[name]),
            f"{result.num_ground_truth[name]:,}",
            f"{result.num_detections[name]:,}",
        )
        for name, class_id in zip(label_map.names, label_map.ids, strict=True)
    ]
    rows += [(f"mean of {name}", "", fraction(ap), "", "") for name, ap in groups(result).items()]
    lines = [columns(("class", "id", "AP", "labels", "detections"), rows)]
    lines += [f"left out: {count:,} {reason}" for reason, count in result.left_out.items()]
    return "\n".join(lines)


def side_by_side(results: Sequence[AvaFrameMap]) -> str:
    """Return AP by class under several protocols, and each mean with its basis."""
    rows = [
        (name, *(fraction(result.per_class[name]) for result in results))
        for name in results[0].per_class
    ]
    heads = ("class", *(result.protocol for result in results))
    return "\n".join([columns(heads, rows), *map(summary, results)])


def groups(result: AvaFrameMap) -> dict[str, float]:
    """Return the mean AP of each group of classes under its common name."""
    return {GROUP_NAMES.get(name, name): ap for name, ap in result.group_ap.items()}


def diagnosis_text(diagnosis: Diagnosis) -> str:
    """Return the diagnosis as a few short tables."""
    rows = [
        (kind, signed(gain), f"{diagnosis.num_rows[kind]:,}")
        for kind, gain in diagnosis.gain.items()
    ]
    recalls = recalls_text(diagnosis)
    lines = [
        columns(("error, fixed alone", "mean AP", "rows"), rows),
        f"ceiling of these boxes, with perfect scores: {fraction(diagnosis.ceiling)}",
        f"{diagnosis.num_boxes:,} boxes find, of {diagnosis.num_people:,} people: {recalls}",
    ]
    if diagnosis.confusions:
        rows = [
            (c.action, c.other, f"{c.num_confused:,} of {c.num_people:,}")
            for c in diagnosis.confusions[:10]
        ]
        lines.append(columns(("people who", "score higher on", "how many"), rows))
    return "\n".join(lines)


COMPARISON_HEADS = ("class", "first", "second", "difference", "95 % interval")


def comparison_text(comparison: Comparison) -> str:
    """Return the difference of two systems by class, and how it was drawn."""
    lines = map(printable, comparison_about(comparison))
    return "\n".join([columns(COMPARISON_HEADS, comparison_rows(comparison)), *lines])


def comparison_rows(comparison: Comparison) -> list[tuple[str, str, str, str, str]]:
    """Return a row for each class, and one for the mean at the end."""
    rows = [(name, *_differences(values)) for name, values in comparison.per_class.items()]
    return [*rows, ("mean", *_differences(comparison.mean))]


def comparison_about(comparison: Comparison) -> list[str]:
    """Return which is first and which second, how many classes changed surely, and the draws."""
    values = comparison.per_class.values()
    better = sum(low > 0 for *_, low, _ in values)
    worse = sum(high < 0 for *_, high in values)
    return [
        f"first: {comparison.names[0]}; second: {comparison.names[1]}",
        f"the interval lies above 0 in {better} of {len(values)} classes, below 0 in {worse}",
        f"interval: {comparison.num_draws:,} draws of {comparison.num_units} {comparison.unit}",
    ]


def video_map_text(result: VideoMap) -> str:
    """Return video-mAP by class, and what it was computed from."""
    names = list(result.mean_ap)
    rows = [
        (name, *(fraction(aps[key]) for key in names), f"{result.num_ground_truth[name]:,}")
        for name, aps in result.per_class.items()
    ]
    rows.append(("mean", *map(fraction, result.mean_ap.values()), ""))
    scored = sum(count > 0 for count in result.num_ground_truth.values())
    how = "boxes linked by ACT's rule" if result.linked else "tubes by track_id"
    return (
        f"{columns(('video-AP at IoU', *names, 'tubes'), rows)}\n"
        f"video-mAP {fraction(result.mean_ap['0.5'])} at IoU 0.5 ({how}: {scored} of "
        f"{len(result.per_class)} classes, {result.num_videos:,} videos, "
        f"{sum(result.num_ground_truth.values()):,} tubes, "
        f"{sum(result.num_detections.values()):,} detected tubes)"
    )


def as_json(result: AvaFrameMap) -> dict[str, Any]:
    """Return the result as plain values; NaN becomes null."""
    return {
        "protocol": result.protocol,
        "iou_threshold": result.iou_threshold,
        "mean_ap": or_none(result.mean_ap),
        "per_class": {name: or_none(ap) for name, ap in result.per_class.items()},
        "groups": {name: or_none(ap) for name, ap in groups(result).items()},
        "num_ground_truth": dict(result.num_ground_truth),
        "num_detections": dict(result.num_detections),
        "num_classes_scored": num_scored(result),
        "num_keyframes": result.num_keyframes,
        "num_annotated_keyframes": result.num_annotated_keyframes,
        "num_boxes": result.num_boxes,
        "left_out": dict(result.left_out),
    }


def diagnosis_json(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return the diagnosis as plain values."""
    return {
        "gain_in_mean_ap": {kind: or_none(gain) for kind, gain in diagnosis.gain.items()},
        "num_rows": diagnosis.num_rows,
        "ceiling": or_none(diagnosis.ceiling),
        "num_people": diagnosis.num_people,
        "num_boxes": diagnosis.num_boxes,
        "box_recall": {f"{t:g}": or_none(r) for t, r in diagnosis.box_recall.items()},
        "confusions": [vars(confusion) for confusion in diagnosis.confusions],
    }


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison as plain values."""
    keys = ("first", "second", "difference", "low", "high")

    def named(values: Sequence[float]) -> dict[str, float | None]:
        return dict(zip(keys, map(or_none, values), strict=True))

    return {
        "mean": named(comparison.mean),
        "per_class": {name: named(values) for name, values in comparison.per_class.items()},
        "num_draws": comparison.num_draws,
        "num_units": comparison.num_units,
        "unit": comparison.unit,
        "names": list(comparison.names),
    }


def as_csv(results: Sequence[AvaFrameMap]) -> str:
    """Return one row per protocol and class, with a header; empty AP where there is none."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(("protocol", "class", "ap", "num_ground_truth", "num_detections"))
    for result in results:
        for name, ap in result.per_class.items():
            counts = result.num_ground_truth[name], result.num_detections[name]
            writer.writerow((result.protocol, name, "" if math.isnan(ap) else ap, *counts))
    return out.getvalue()


def columns(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table of aligned columns: text to the left, the others to the right.

    Names come from files of others: their control characters are written out.
    """
    heads, rows = ([*map(printable, heads)], [[*map(printable, row)] for row in rows])
    aligned = []
    for i, head in enumerate(heads):
        cells = [row[i] for row in rows]
        right = i > 0 and any(cell[:1] in "0123456789+-" for cell in cells if cell)
        width = max(map(len, [head, *cells]))
        aligned.append([f"{cell:{'>' if right else '<'}{width}}" for cell in [head, *cells]])
    return "\n".join("  ".join(row).rstrip() for row in zip(*aligned, strict=True))


def or_none(value: float) -> float | None:
    """Return None for NaN and infinity, which JSON does not have."""
    return value if math.isfinite(value) else None


def _differences(values: tuple[float, float, float, float, float]) -> tuple[str, str, str, str]:
    first, second, difference, low, high = values
    if math.isnan(difference):
        return fraction(first), fraction(second), "-", "-"
    interval = "-" if math.isnan(low) else f"{low:+.4f} to {high:+.4f}"
    return fraction(first), fraction(second), f"{difference:+.4f}", interval
