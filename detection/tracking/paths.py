"""Where a tracked person is between the times at which they were boxed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Over longer gaps a box is not moved: who was gone for seconds did not walk a straight line.
LONGEST_WALK_S = 2.0


def boxes_along(
    times_s: NDArray[np.float64], known_s: NDArray[np.float64], boxes_01: NDArray[np.floating]
) -> NDArray[np.float64]:
    """Return a person's (T, 4) boxes at times, of (K, 4) boxes at K known times, 1 at least.

    known_s: ascending. Between two boxes at most `LONGEST_WALK_S` apart the box moves evenly;
    elsewhere, and before the first and after the last, it is the nearest one (of two as near, the
    earlier).
    """
    if not len(known_s) or len(known_s) != len(boxes_01):
        raise ValueError(f"{len(known_s)} times and {len(boxes_01)} boxes, one at least of each")
    after = np.clip(np.searchsorted(known_s, times_s), 1, max(1, len(known_s) - 1))
    before = after - 1
    after = np.minimum(after, len(known_s) - 1)
    gap_s = known_s[after] - known_s[before]
    share = np.divide(times_s - known_s[before], gap_s, out=np.zeros(len(times_s)), where=gap_s > 0)
    share = np.clip(share, 0, 1)
    share = np.where(gap_s > LONGEST_WALK_S + 1e-9, share > 0.5, share)[:, None]
    first, second = np.asarray(boxes_01, np.float64)[before], np.asarray(boxes_01)[after]
    return np.asarray(first + share * (second - first), np.float64)
