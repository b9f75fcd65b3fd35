"""Scores of tubes and kinds of their errors as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from detection.evaluation.tube_errors import ErrorSplit
from detection.evaluation.tube_scores import TubeMap
from detection.reports.evaluation_text import columns, fraction


def maps_text(what: str, results: Sequence[TubeMap], strict: TubeMap | None = None) -> str:
    """Return AP by class at each IoU and the means, with what they were computed from.

    what: `frame` or `video`. strict: the mean over 0.5 to 0.95.
    """
    first = results[0]
    shown = [*results, *([strict] if strict else [])]
    heads = [f"{one.iou_threshold:g}" for one in results] + (["0.5:0.95"] if strict else [])
    rows = [
        (name, *(fraction(one.per_class[name]) for one in shown), f"{count:,}")
        for name, count in first.num_ground_truth.items()
    ]
    rows.append(("mean", *(fraction(one.mean_ap) for one in shown), ""))
    scored = sum(not math.isnan(ap) for ap in first.per_class.values())
    unit = "boxes" if what == "frame" else "tubes"
    means = ", ".join(
        f"{fraction(one.mean_ap)} at IoU {head}" for one, head in zip(shown, heads, strict=True)
    )
    return (
        f"{columns((f'{what}-AP at IoU', *heads, unit), rows)}\n"
        f"{what}-mAP {means} ({first.protocol}: {scored} of {len(first.per_class)} classes, "
        f"{sum(first.num_ground_truth.values()):,} {unit}, "
        f"{sum(first.num_detections.values()):,} detected)"
    )


def errors_text(what: str, split: ErrorSplit) -> str:
    """Return the kinds of errors by class, as areas."""
    heads = list(split.mean)
    rows = [
        (name, *(fraction(values[head]) for head in heads))
        for name, values in split.per_class.items()
    ]
    rows.append(("mean", *(fraction(split.mean[head]) for head in heads)))
    return (
        f"errors of {what} ({split.protocol}'s split at IoU {split.iou_threshold:g})\n"
        f"{columns(('class', *heads), rows)}"
    )
