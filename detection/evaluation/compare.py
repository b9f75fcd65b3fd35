"""Compare two systems on the same ground truth: AP difference per class, with bootstrap intervals.

Whole videos are resampled, since keyframes of one video are correlated; with few videos, stretches
of neighbouring keyframes. Both systems are scored on the same draws.

Legend: A classes, U units that are resampled, R draws, J distinct scores of true positives, N
detections. Time and memory grow with N, whatever the number of units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.frame_map import ScoredRows, mean_without_nan
from detection.evaluation.progress import progress_bar

FEWEST_VIDEOS = 20
STRETCHES = 200
# Draws scored at a time, and an upper bound of detections times draws: this bounds the memory.
_MOST_DRAWS = 250
_MOST_CELLS = 4_000_000


@dataclass(frozen=True)
class Comparison:
    """AP of two systems, their difference (second minus first) and the middle 95 % of the draws.

    per_class: class name to (first, second, difference, low, high).
    mean: the same five numbers for mean AP.
    names: of the two systems, such as the files of their detections.
    num_units: units resampled.
    unit: their name in words.
    """

    per_class: dict[str, tuple[float, float, float, float, float]]
    mean: tuple[float, float, float, float, float]
    names: tuple[str, str]
    num_draws: int
    num_units: int
    unit: str


def compare(
    first: ScoredRows,
    second: ScoredRows,
    *,
    names: tuple[str, str] = ("first", "second"),
    num_draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Compare two scorings of the same ground truth under the same protocol."""
    if first.protocol.name != second.protocol.name:
        raise ValueError(f"{first.protocol.name} and {second.protocol.name} do not compare")
    units = _Units(first, second)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=num_draws)
    weights = drawn.T.astype(np.int32)
    draws = [
        _drawn_ap(scored, units.of_keys(scored), weights, progress=progress)
        for scored in (first, second)
    ]
    averages = [scored.per_class_ap() for scored in (first, second)]
    difference = averages[1] - averages[0]
    low, high = _middle(draws[1] - draws[0])
    rows = zip(*(a.tolist() for a in (*averages, difference, low, high)), strict=True)
    means = [mean_without_nan(average) for average in averages]
    mean_low, mean_high = _middle((_mean(draws[1]) - _mean(draws[0]))[None])
    return Comparison(
        per_class=dict(zip(first.label_map.names, rows, strict=True)),
        mean=(means[0], means[1], means[1] - means[0], float(mean_low[0]), float(mean_high[0])),
        names=names,
        num_draws=num_draws,
        num_units=len(units),
        unit=units.name,
    )


class _Units:
    """The resampled units: videos, or stretches of them, over the keyframes of both systems."""

    def __init__(self, *systems: ScoredRows) -> None:
        self._span: dict[str, tuple[float, float]] = {}
        for scored in systems:
            for video, time_s in map(scored.keys.keyframe, range(len(scored.keys))):
                low, high = self._span.get(video, (time_s, time_s))
                self._span[video] = (min(low, time_s), max(high, time_s))
        self._number = {video: number for number, video in enumerate(sorted(self._span))}
        few = len(self._span) < FEWEST_VIDEOS
        self._each = -(-STRETCHES // len(self._span)) if few else 1
        self.name = "stretches of keyframes" if few else "videos"

    def __len__(self) -> int:
        return len(self._span) * self._each

    def of_keys(self, scored: ScoredRows) -> NDArray[np.int64]:
        """Return the unit (K,) of every keyframe of a scored system."""
        out = np.empty(len(scored.keys), np.int64)
        for key in range(len(scored.keys)):
            video, time_s = scored.keys.keyframe(key)
            start, end = self._span[video]
            part = int(self._each * (time_s - start) / (end - start + 1e-9))
            out[key] = self._number[video] * self._each + part
        return out


def _drawn_ap(
    scored: ScoredRows,
    unit_of_key: NDArray[np.int64],
    weights: NDArray[np.int32],
    *,
    progress: bool,
) -> NDArray[np.float64]:
    """Return AP (A, R) when unit u counts weights[u, r] times; NaN without ground truth."""
    units, draws = weights.shape
    classes = len(scored.label_map)
    out = np.full((classes, draws), np.nan)
    gt_unit = unit_of_key[scored.gt_key]
    by_class = progress_bar(scored.by_class, what="bootstrap", unit="class", shown=progress)
    for column, members in enumerate(by_class):
        mine = gt_unit[scored.gt_class == column]
        counts = np.bincount(mine, minlength=units) @ weights
        if not len(mine) or (not len(members) and not scored.protocol.unpredicted_is_zero):
            continue
        true, unit = scored.matched[members] >= 0, unit_of_key[scored.key[members]]
        unit, true, ends = _in_steps_of_recall(scored.score[members], true, unit)
        together = max(1, min(_MOST_DRAWS, _MOST_CELLS // max(1, len(unit))))
        for start in range(0, draws, together):
            now = slice(start, start + together)
            area = _drawn_area(np.ascontiguousarray(weights[:, now]), unit, true, ends)
            with np.errstate(invalid="ignore", divide="ignore"):
                out[column, now] = np.where(counts[now] > 0, area / counts[now], np.nan)
    return out


def _in_steps_of_recall(
    score: NDArray[np.floating], true: NDArray[np.bool_], unit: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Sort detections into steps of recall, one per distinct score of a true positive.

    Returns units (N,), a mask of true positives (N,) and the last position of each step (J,).
    Detections below the last true positive change nothing and are left out.
    """
    levels = np.unique(score[true])  # ascending
    step = len(levels) - np.searchsorted(levels, score, side="right")
    order = np.argsort(step, kind="stable")
    order = order[step[order] < len(levels)]
    ends = np.searchsorted(step[order], np.arange(len(levels)), side="right") - 1
    return unit[order], true[order], ends


def _drawn_area(
    weights: NDArray[np.int32],
    unit: NDArray[np.int64],
    true: NDArray[np.bool_],
    ends: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return the area (D,) under precision over number of true positives, for D draws (U, D)."""
    drawn = weights[unit]
    right = np.cumsum(drawn * true[:, None], axis=0, dtype=np.int32)[ends]
    total = np.cumsum(drawn, axis=0, dtype=np.int32)[ends]
    precision = right / np.maximum(total, 1)
    precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    steps = np.diff(right, axis=0, prepend=0)
    return np.asarray((precision * steps).sum(axis=0))


def _middle(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5th and 97.5th percentile of each row, NaN for a row of NaN."""
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for row, drawn in enumerate(values):
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            low[row], high[row] = np.percentile(drawn, [2.5, 97.5])
    return low, high


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    count = (~np.isnan(values)).sum(axis=0)
    return np.asarray(np.nansum(values, axis=0) / np.maximum(count, 1))
