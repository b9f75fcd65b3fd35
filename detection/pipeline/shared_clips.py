"""Maps of clips that several keyframes share: passes of a stream go through the trunk once."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Frames = Sequence[NDArray[np.uint8]]


class SharedMaps:
    """The maps of the last few clips; several threads may ask at a time.

    kept: clips.  A clip is known by its frames: the same arrays, not equal ones, so that nothing is
    compared. Where they were made anew, the map is too, and is the same.
    """

    def __init__(self, kept: int = 8) -> None:
        self._kept = kept
        self._lock = threading.Lock()
        # The frames are kept beside the map: a number of a lost array may become another's.
        self._maps: OrderedDict[tuple[int, ...], tuple[Frames, Future[Tensor]]] = OrderedDict()

    def of(self, frames: Frames, compute: Callable[[], Tensor]) -> Tensor:
        """Return the map of a clip, computed by the first who asks; others wait for that."""
        key = tuple(id(frame) for frame in frames)
        with self._lock:
            known = self._maps.get(key)
            if known is None:
                future: Future[Tensor] = Future()
                self._maps[key] = (tuple(frames), future)
                while len(self._maps) > self._kept:
                    self._maps.popitem(last=False)
        if known is not None:
            return known[1].result()
        try:
            found = compute()
        except BaseException as error:
            with self._lock:
                self._maps.pop(key, None)
            future.set_exception(error)
            raise
        future.set_result(found)
        return found
