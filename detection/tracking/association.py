"""Which box of now continues which box of before: the best one-to-one assignment. Pure numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray


def assign(similarity: ArrayLike, *, minimum: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return (rows, columns) of the one-to-one pairs that exceed `minimum` by most in all.

    similarity: (N, M), the larger the likelier, finite. Pairs at or below `minimum` are never made.
    Rows ascend. Exact: the Hungarian method.
    """
    values = np.asarray(similarity, dtype=np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError(f"similarity must be finite and (N, M), got shape {values.shape}")
    gain = np.maximum(values - minimum, 0.0)
    # Rows and columns without any possible pair would only cost time.
    rows, columns = np.flatnonzero(gain.any(axis=1)), np.flatnonzero(gain.any(axis=0))
    gain = gain[np.ix_(rows, columns)]
    if len(rows) <= len(columns):
        first, second = np.arange(len(rows)), _cheapest(-gain)
    else:
        second = np.arange(len(columns))
        first = _cheapest(-gain.T)
        order = np.argsort(first)
        first, second = first[order], second[order]
    real = gain[first, second] > 0
    return rows[first[real]], columns[second[real]]


def _cheapest(cost: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return for each of N rows its column, N <= M, so that the costs' sum is least.

    The Hungarian method with potentials (H. Kuhn 1955; shortest augmenting paths), O(N^2 M).
    """
    count, width = cost.shape
    row_potential, column_potential = np.zeros(count), np.zeros(width + 1)
    row_of = np.full(width + 1, -1)  # the last column is where a new row starts from
    for row in range(count):
        row_of[width] = row
        column = width
        least = np.full(width, np.inf)
        came_from = np.full(width, width)
        done = np.zeros(width + 1, bool)
        while row_of[column] >= 0:
            done[column] = True
            here = row_of[column]
            slack = cost[here] - row_potential[here] - column_potential[:width]
            closer = ~done[:width] & (slack < least)
            least[closer], came_from[closer] = slack[closer], column
            column = int(np.where(done[:width], np.inf, least).argmin())
            step = least[column]
            row_potential[row_of[done]] += step
            column_potential[done] -= step
            least[~done[:width]] -= step
        while column != width:
            before = int(came_from[column])
            row_of[column] = row_of[before]
            column = before
    chosen = np.zeros(count, np.int64)
    taken = np.flatnonzero(row_of[:width] >= 0)
    chosen[row_of[taken]] = taken
    return chosen
