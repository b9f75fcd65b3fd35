"""What a fit says of itself: a line a class, and the same in `teach.json`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable
from detection.structures import ClassThresholds, LabelMap

# Fewer people with an example, or fewer without: figures say little, and the table says so.
_FEW_PEOPLE = 5


@dataclass(frozen=True)
class ClassReport:
    """One class.  examples: people at keyframes.  people: tracks.  videos: that have an example.

    threshold, precision, recall: on videos that were held out; NaN where not measured.
    """

    name: str
    examples: int
    people: int
    videos: int
    threshold: float
    precision: float
    recall: float

    @property
    def remark(self) -> str:
        """What is to be known about the figures, "" where they stand for themselves."""
        if not self.examples:
            return "no example yet: never found"
        if self.videos < 2:
            only = "1 example" if self.examples == 1 else "examples in 1 video alone"
            return f"{only}: learned, cannot be measured"
        if math.isnan(self.precision):
            return "not measured"
        if self.people < _FEW_PEOPLE:
            return f"{self.people} people: a rough figure"
        return ""


def class_reports(
    label_map: LabelMap,
    labels: NDArray[np.bool_],
    *,
    video: NDArray[np.int64],
    track: NDArray[np.int64],
    thresholds: ClassThresholds | None,
) -> list[ClassReport]:
    """Return a report for each class.  labels: (R, A).  video, track: (R,)."""
    unmeasured = np.full(len(label_map), np.nan)
    arrays = [unmeasured] * 3
    if thresholds is not None:
        arrays = [thresholds.score, thresholds.precision, thresholds.recall]
    reports = []
    for column, name in enumerate(label_map.names):
        has_it = labels[:, column]
        reports.append(
            ClassReport(
                name,
                int(has_it.sum()),
                len(np.unique(track[has_it])),
                len(np.unique(video[has_it])),
                *(float(array[column]) for array in arrays),
            )
        )
    return reports


def report_lines(reports: Sequence[ClassReport]) -> list[str]:
    """Return a table, one line a class."""
    names = [printable(report.name) for report in reports]
    width = max(5, *map(len, names))
    head = f"{'class':<{width}}  examples  people  videos  threshold  precision  recall"
    lines = [head]
    for name, one in zip(names, reports, strict=True):
        figures = (_figure(one.threshold, 9), _figure(one.precision, 9), _figure(one.recall, 6))
        line = f"{name:<{width}}  {one.examples:>8}  {one.people:>6}  {one.videos:>6}  "
        lines.append(f"{line}{'  '.join(figures)}  {one.remark}".rstrip())
    return lines


def class_json(reports: Sequence[ClassReport]) -> list[dict[str, Any]]:
    """Return the reports as plain values."""
    return [dict(vars(report)) | {"remark": report.remark} for report in reports]


def _figure(value: float, width: int) -> str:
    return f"{'-' if math.isnan(value) else f'{value:.2f}':>{width}}"
