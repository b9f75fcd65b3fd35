"""Two systems on the same ground truth: the difference per class, with a bootstrap interval.

What is drawn again and again is whole videos, since keyframes of one video are alike; where there
are few videos, stretches of neighbouring keyframes. Both systems are scored on the same draws.

Legend: A classes, U units that are drawn, R draws, J true positives with distinct scores.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.frame_map import ScoredRows, mean_without_nan
from detection.evaluation.progress import progress_bar

FEWEST_VIDEOS = 20
STRETCHES = 200
_DRAWS_AT_ONCE = 250


@dataclass(frozen=True)
class Comparison:
    """AP of two systems, `difference` = second less first, and the middle 95 % of the draws.

    per_class: name to (first, second, difference, low, high); mean: the same five numbers.
    """

    per_class: dict[str, tuple[float, float, float, float, float]]
    mean: tuple[float, float, float, float, float]
    num_draws: int
    num_units: int
    unit: str


def compare(
    first: ScoredRows,
    second: ScoredRows,
    *,
    num_draws: int = 1000,
    seed: int = 0,
    progress: bool = False,
) -> Comparison:
    """Compare two scorings of the same ground truth under the same protocol."""
    if first.protocol.name != second.protocol.name:
        raise ValueError(f"{first.protocol.name} and {second.protocol.name} do not compare")
    units = _Units(first, second)
    rng = np.random.default_rng(seed)
    weights = rng.multinomial(len(units), np.full(len(units), 1 / len(units)), size=num_draws).T
    draws = [
        _drawn_ap(scored, units.of_keys(scored), weights.astype(np.float32), progress=progress)
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
        num_draws=num_draws,
        num_units=len(units),
        unit=units.name,
    )


class _Units:
    """What is drawn: videos, or stretches of them, over the keyframes of both systems."""

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
        """Return the unit (K,) of every keyframe of a scoring."""
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
    weights: NDArray[np.float32],
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
        counts = np.bincount(mine, minlength=units).astype(np.float32) @ weights
        if not len(mine) or (not len(members) and not scored.protocol.unpredicted_is_zero):
            continue
        score, unit = scored.score[members], unit_of_key[scored.key[members]]
        true = scored.matched[members] >= 0
        found, right = _counts_by_unit(score, true, unit, units)
        for start in range(0, draws, _DRAWS_AT_ONCE):
            now = slice(start, start + _DRAWS_AT_ONCE)
            steps = right @ weights[:, now]
            total = np.cumsum(found @ weights[:, now], axis=0)
            precision = np.cumsum(steps, axis=0) / np.maximum(total, 1)
            precision = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
            area = (precision * steps).sum(axis=0, dtype=np.float64)
            with np.errstate(invalid="ignore", divide="ignore"):
                out[column, now] = np.where(counts[now] > 0, area / counts[now], np.nan)
    return out


def _counts_by_unit(
    score: NDArray[np.floating],
    true: NDArray[np.bool_],
    unit: NDArray[np.int64],
    units: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Count all detections, and true positives, per step of recall and unit: two (J, U)."""
    levels = np.unique(score[true])  # ascending
    step = len(levels) - np.searchsorted(levels, score, side="right")
    inside = step < len(levels)
    shape = (len(levels), units)
    found, right = (
        np.bincount(step[chosen] * units + unit[chosen], minlength=shape[0] * units)
        for chosen in (inside, true)
    )
    return found.reshape(shape).astype(np.float32), right.reshape(shape).astype(np.float32)


def _middle(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the 2.5th and 97.5th percentile of each row, NaN where a row has no number."""
    low, high = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for row, drawn in enumerate(values):
        drawn = drawn[~np.isnan(drawn)]
        if len(drawn):
            low[row], high[row] = np.percentile(drawn, [2.5, 97.5])
    return low, high


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean over classes (R,), without those that have no number."""
    count = (~np.isnan(values)).sum(axis=0)
    return np.nansum(values, axis=0) / np.maximum(count, 1)
