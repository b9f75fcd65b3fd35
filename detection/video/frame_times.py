"""From seconds to frame numbers: the frame nearest to a time."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.errors import UserError


def nearest_frames(
    times_s: NDArray[np.float64], requested_s: ArrayLike, *, tie_s: float = 1e-9
) -> NDArray[np.int64]:
    """Return for each requested time the index of the nearest frame; a tie goes to the earlier.

    times_s: (n,) ascending presentation times.  requested_s: (T,).  tie_s: two distances that
    differ by less are equal. Raises `UserError` where there is no frame.
    """
    requested = np.asarray(requested_s, np.float64).reshape(-1)
    if not len(times_s):
        raise UserError("a video without frames")
    if len(times_s) == 1:
        return np.zeros(len(requested), np.int64)
    after = np.clip(np.searchsorted(times_s, requested), 1, len(times_s) - 1)
    is_before = requested - times_s[after - 1] <= times_s[after] - requested + tie_s
    return np.where(is_before, after - 1, after)
