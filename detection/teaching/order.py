"""Who is to be labelled next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suggest_order(
    scores: NDArray[np.floating], labelled_counts: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks, the first to be labelled first.

    scores: (T, A) probabilities of undecided tracks.  labelled_counts: (A,) examples so far.

    Likely classes come in turns, the one with the fewest examples first: each track counts as an
    example of its likely class once it is in the order, so that ten tracks are not ten of one kind.
    Within a class the least certain is first, by the margin of its two best probabilities (of one
    class alone, the nearest to a half). Tracks that are alike keep their order.

    Frame-mAP on source videos held out after 20, 40, 80, 160, 320 clips, mean of two starts and
    three seeds (`benchmarks/teach_order.py`, docs/results.md): 0.41 0.56 0.70 0.77 0.79; random
    order 0.42 0.55 0.67 0.75 0.77; nearest to a half and rarest, class by class, 0.28 0.34 0.45
    0.65 0.76.
    """
    probabilities: NDArray[np.float64] = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.shape[1:] != np.shape(labelled_counts) or not scores.shape[1]:
        raise ValueError(
            f"scores {scores.shape} and counts {np.shape(labelled_counts)} of the same classes, "
            "one at least, are required"
        )
    likely = probabilities.argmax(1)
    ranked = np.argsort(_sureness(probabilities), kind="stable")
    turn = np.zeros(len(probabilities), np.int64)
    for column in np.unique(likely).tolist():
        members = ranked[likely[ranked] == column]
        turn[members] = labelled_counts[column] + np.arange(len(members))
    return ranked[np.argsort(turn[ranked], kind="stable")]


def least_like_order(
    features: NDArray[np.floating], labelled: NDArray[np.floating], *, most: int = 50
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks, each the one least like all that are known before it.

    features: (T, F) of undecided tracks.  labelled: (L, F) of those that have labels.  Alike are
    those of a large cosine. After the first `most` come the rest, the least like those first.

    As above: 0.43 0.59 0.68 0.76 0.80 after 20 to 320 clips, the best mean of the orders measured.
    """
    unit, known = (_of_length_1(np.asarray(rows, np.float64)) for rows in (features, labelled))
    nearest = (unit @ known.T).max(1, initial=-1.0)
    chosen = np.zeros(len(unit), bool)
    order: list[int] = []
    for _ in range(min(most, len(unit))):
        place = int(np.where(chosen, np.inf, nearest).argmin())
        order.append(place)
        chosen[place] = True
        nearest = np.maximum(nearest, unit @ unit[place])
    rest = np.flatnonzero(~chosen)
    return np.array(order + rest[np.argsort(nearest[rest], kind="stable")].tolist(), np.int64)


def _of_length_1(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    lengths: NDArray[np.float64] = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: NDArray[np.float64] = rows / np.maximum(lengths, 1e-12)
    return unit


def _sureness(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (T,) how far the best class is from the next one."""
    if scores.shape[1] == 1:
        return np.abs(2 * scores[:, 0] - 1)
    best = np.partition(scores, -2, axis=1)
    return best[:, -1] - best[:, -2]
