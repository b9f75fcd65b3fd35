"""Learned thresholds as a table, a line and JSON."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.reports.evaluation_text import columns
from detection.structures import ClassThresholds, LabelMap

_MOST_NAMED = 12  # classes of a line


def thresholds_table(thresholds: ClassThresholds, label_map: LabelMap) -> str:
    """Return each class with its threshold, precision, recall and examples, and what they mean."""
    rows = [
        (name, f"{score:.2f}", _share(precision), _share(recall), f"{examples:,}")
        for name, score, precision, recall, examples in zip(
            label_map.names,
            thresholds.score.tolist(),
            thresholds.precision.tolist(),
            thresholds.recall.tolist(),
            thresholds.examples.tolist(),
            strict=True,
        )
    ]
    lines = [columns(("class", "threshold", "precision", "recall", "examples"), rows)]
    lines.append(f"thresholds of highest F1 on {thresholds.source}{_remarks(thresholds)}")
    return "\n".join(lines)


def thresholds_line(
    thresholds: ClassThresholds,
    label_map: LabelMap,
    used: NDArray[np.float64] | None = None,
) -> str:
    """Return in a line where thresholds come from and what they are.

    used: (A,) those in use, where some were replaced.
    """
    scores = thresholds.score if used is None else used
    each = [f"{name} {score:.2f}" for name, score in zip(label_map.names, scores, strict=True)]
    if thresholds.common and bool(np.ptp(scores) == 0):
        each = [f"{scores[0]:.2f} for every class"]
    rest = len(each) - _MOST_NAMED
    named = ", ".join(each[:_MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
    replaced = int((scores != thresholds.score).sum())
    asked = f"; {replaced} of them as asked for" if replaced else ""
    return f"thresholds learned on {thresholds.source}{_remarks(thresholds)}: {named}{asked}"


def thresholds_json(thresholds: ClassThresholds, label_map: LabelMap) -> dict[str, Any]:
    """Return them by class name; None where nothing was measured."""
    by_class = {}
    for column, name in enumerate(label_map.names):
        figures = (thresholds.score, thresholds.precision, thresholds.recall)
        score, precision, recall = (_plain(float(values[column])) for values in figures)
        by_class[name] = {
            "threshold": score,
            "precision": precision,
            "recall": recall,
            "examples": int(thresholds.examples[column]),
        }
    return {
        "source": thresholds.source,
        "common": thresholds.common,
        "times_person_score": thresholds.times_person_score,
        "classes": by_class,
    }


def _remarks(thresholds: ClassThresholds) -> str:
    words = ""
    if thresholds.common:
        words += ", one for all classes (too few examples for one each)"
    if thresholds.times_person_score:
        words += ", for scores multiplied by the confidence in the person"
    return words


def _share(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.2f}"


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
