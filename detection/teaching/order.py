"""Who is to be labelled next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def suggest_order(
    scores: NDArray[np.floating], labelled_counts: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks, the first to be labelled first.

    scores: (T, A) probabilities of undecided tracks.  labelled_counts: (A,) examples so far.
    """
    rarity = 1 / (1 + np.asarray(labelled_counts, np.float64))
    uncertainty = (1 - np.abs(2 * np.asarray(scores, np.float64) - 1)) * rarity
    return np.argsort(-uncertainty.max(1, initial=0.0), kind="stable")
