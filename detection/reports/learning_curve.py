"""How a run learned, from its log: the loss of every update, and the scores on the way."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.files import text_lines
from detection.reports.figures import Curve, curve_panels

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SCORES = ("evaluation", "held_out", "final")
_SHARE = 0.05  # of the updates, over which the drawn mean runs


@dataclass(frozen=True)
class LearningCurve:
    """What a log says.

    losses: (update, loss), each update once, as it was last done.
    scores: (update, score) of the evaluations in between and of the last one.
    metric: the key of these scores in the log, such as mean_ap.
    """

    losses: tuple[tuple[int, float], ...]
    scores: tuple[tuple[int, float], ...]
    metric: str


def read_learning_curve(log: str | Path, *, metric: str) -> LearningCurve:
    """Read log.jsonl; a run that went on from a checkpoint did some updates again.

    Raises `UserError` for what is no text.
    """
    losses: dict[int, float] = {}
    scores: dict[int, float] = {}
    update = 0
    for event in _events(text_lines(log)):
        kind = event.get("event")
        if kind == "update":
            update = int(event["update"])
            losses[update] = float(event["loss"])
        elif kind == "resume":
            update = int(event.get("update", update))
            losses = {number: loss for number, loss in losses.items() if number <= update}
            scores = {number: score for number, score in scores.items() if number <= update}
        elif kind in _SCORES and isinstance(event.get(metric), int | float):
            scores[update] = float(event[metric])
    return LearningCurve(tuple(sorted(losses.items())), tuple(sorted(scores.items())), metric)


def draw_learning_curve(curve: LearningCurve) -> Figure | None:
    """Return the figure; None where no update was done, as of a probe that is fitted at once."""
    if not curve.losses:
        return None
    updates = [float(number) for number, _ in curve.losses]
    losses = [loss for _, loss in curve.losses]
    panels = [
        [
            Curve("loss", updates, losses, faint=True),
            Curve("its mean over updates around", updates, _means(losses)),
        ]
    ]
    if curve.scores:
        numbers = [float(number) for number, _ in curve.scores]
        panels.append([Curve(curve.metric, numbers, [s for _, s in curve.scores], marked=True)])
    return curve_panels(panels, x_name="update")


def _events(lines: Iterable[str]) -> Iterable[dict[str, Any]]:
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:
            continue  # cut short by a kill; the run went on behind it
        if isinstance(event, dict):
            yield event


def _means(values: Sequence[float]) -> list[float]:
    """Return the mean of the finite values around each; NaN where there is none."""
    reach = max(1, math.ceil(_SHARE * len(values) / 2))
    array = np.asarray(values, np.float64)
    known = np.isfinite(array)
    sums = np.concatenate([[0.0], np.cumsum(np.where(known, array, 0.0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    places = np.arange(len(array))
    first, end = np.maximum(places - reach, 0), np.minimum(places + reach + 1, len(array))
    number = counts[end] - counts[first]
    means = np.full(len(array), math.nan)
    np.divide(sums[end] - sums[first], number, out=means, where=number > 0)
    return means.tolist()
