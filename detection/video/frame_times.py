"""From seconds to numbers of frames, as frames are chosen everywhere here: the nearest one."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from detection.errors import UserError


def nearest_frames(times_s: NDArray[np.float64], wanted_s: ArrayLike) -> NDArray[np.int64]:
    """Return for each wanted time the number, from 0, of the frame shown nearest (tie: earlier).

    times_s: (n,) ascending presentation times. Raises `UserError` where there is no frame.
    """
    wanted = np.asarray(wanted_s, np.float64).reshape(-1)
    if not len(times_s):
        raise UserError("a video without frames")
    if len(times_s) == 1:
        return np.zeros(len(wanted), np.int64)
    after = np.clip(np.searchsorted(times_s, wanted), 1, len(times_s) - 1)
    earlier = wanted - times_s[after - 1] <= times_s[after] - wanted + 1e-9
    return np.where(earlier, after - 1, after)
