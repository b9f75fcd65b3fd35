"""Checks that scores and boxes are finite, before they reach the evaluator.

A NaN compares as false with everything: it would be sorted to an end and counted, and the mean
would look like any other.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError, at_row


def check_values_finite(values: NDArray[np.floating], what: str) -> None:
    """Raise `UserError` (a `ValueError`) where an array holds NaN or infinity."""
    finite = np.isfinite(values)
    if not finite.all():
        bad = int(finite.size - np.count_nonzero(finite))
        first = values.reshape(-1)[int(np.argmin(finite.reshape(-1)))]
        raise UserError(f"{what}: {bad:,} of {finite.size:,} are not finite, the first is {first}")


def check_rows_finite(rows: AvaRows) -> None:
    """Raise `UserError` with file and row where a score or an edge of a box is not finite."""
    for what, values in (("score", rows.score), ("box", rows.boxes_01)):
        if values is None:
            continue
        finite = np.isfinite(values)
        if finite.all():
            continue
        bad = ~finite if finite.ndim == 1 else ~finite.all(axis=1)
        row = int(np.argmax(bad))
        shown = ", ".join(f"{value:g}" for value in np.atleast_1d(values[row]).tolist())
        message = f"the {what} is not finite ({shown}; {int(bad.sum()):,} such rows)"
        raise at_row(rows.path, int(rows.line[row]) or None, message)
