"""Frames from memory as a stream, and what may be given as a source of frames at all."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from fractions import Fraction
from io import IOBase
from numbers import Integral, Real
from typing import TypeAlias

import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from detection.errors import UserError, printable
from detection.video.stream import Gap, StreamFrame, VideoStream
from detection.video.writer import WRITER_TIME_BASE

TimedFrames: TypeAlias = Iterable[tuple[float, NDArray[np.uint8]]]
Source: TypeAlias = str | os.PathLike[str] | int | VideoStream | TimedFrames

KINDS = (
    "a file, an address, a camera's number, an opened VideoStream or an iterator of "
    "(time_s, frame) with (H, W, 3) uint8 RGB arrays is required"
)
_LATEST_S = 1e9  # as in AVA's tables; seconds since 1970 are more
_LARGEST_CAMERA = 2**31 - 1
_END = object()


def open_source(
    source: Source, *, live: bool | None = None, reconnect_s: float = 30.0
) -> VideoStream:
    """Return the opened stream of a source; `UserError` names a kind of source that is none.

    live, reconnect_s: as for `VideoStream` (an opened one is returned as it is).
    """
    if isinstance(source, VideoStream):
        return source
    if isinstance(source, str | os.PathLike):
        return VideoStream(os.fspath(source), live=live, reconnect_s=reconnect_s)
    if isinstance(source, Integral) and not isinstance(source, bool):
        if not 0 <= int(source) <= _LARGEST_CAMERA:
            raise UserError(f"camera {int(source)}: a number from 0 on is required")
        return VideoStream(str(int(source)), live=live, reconnect_s=reconnect_s)
    no_frames = (bytes, bytearray, memoryview, Mapping, Set, IOBase)
    if isinstance(source, Iterable) and not (_is_array(source) or isinstance(source, no_frames)):
        return FrameStream(source, live=bool(live))
    raise UserError(f"source: {_kind_of(source)} is given; {KINDS}")


class FrameStream(VideoStream):
    """Frames from memory, taken from an iterator one by one; they pass only once.

    frames: pairs of a time in seconds, ascending from 0 on, and an (H, W, 3) uint8 RGB array, all
    of one size. Arrays are copied, so that the caller may write the next frame into the same one.
    live: the newest keyframes are processed and late ones dropped.

    Raises `UserError`, with number and time of the frame, for anything else, and where there is
    no frame at all.
    """

    def __init__(self, frames: TimedFrames, *, live: bool = False) -> None:
        self._items: Iterator[object] = iter(frames)
        self._number = 0
        self._last_s = -math.inf
        self._first: StreamFrame | None = None
        super().__init__("memory://frames", live=live)

    def frames(
        self, *, from_s: float | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[StreamFrame | Gap]:
        """Yield the frames; each is taken from the iterator when it is asked for."""
        assert from_s is None, "frames from memory pass only once"
        frame, self._first = self._first, None
        while frame is not None:
            yield frame
            frame = self._next()

    def close(self) -> None:
        """Let the iterator go; it is not closed, its owner may go on with it."""
        self._items, self._first = iter(()), None

    @property
    def shown_name(self) -> str:
        """Return the source's name for messages."""
        return "frames from memory"

    @property
    def video_id(self) -> str:
        """Return a short name for tables."""
        return "frames"

    def _open(self) -> None:
        self._first = self._next()
        if self._first is None:
            raise UserError(f"{self.shown_name}: none came; at least one frame is required")

    def _next(self) -> StreamFrame | None:
        item = next(self._items, _END)
        if item is _END:
            return None
        self._number += 1
        place = f"{self.shown_name}: frame {self._number}"
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise UserError(f"{place}: a pair (time_s, frame) is required, not {_kind_of(item)}")
        time_s = _checked_time(item[0], self._last_s, place)
        rgb = self._checked_frame(item[1], f"{place} at {time_s:.3f} s")
        self._last_s = time_s
        height, width = rgb.shape[:2]
        copy = VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        return StreamFrame(time_s, width, height, time.monotonic(), copy, self._convert)

    def _checked_frame(self, rgb: object, place: str) -> NDArray[np.uint8]:
        required = "(H, W, 3) uint8 RGB is required"
        if not isinstance(rgb, np.ndarray):
            raise UserError(f"{place}: {_kind_of(rgb)} found, a NumPy array of {required}")
        fits = rgb.ndim == 3 and rgb.shape[2] == 3 and rgb.dtype == np.uint8 and rgb.size
        if not fits:
            raise UserError(f"{place}: {_kind_of(rgb)} found, {required}")
        size = rgb.shape[1], rgb.shape[0]
        if self.size_px is None:
            self.size_px = size
        if size != self.size_px:
            raise UserError(
                f"{place}: {size[0]}x{size[1]} found, {self.size_px[0]}x{self.size_px[1]} as in "
                "the first frame is required"
            )
        return rgb


def _checked_time(given: object, last_s: float, place: str) -> float:
    if not isinstance(given, Real) or isinstance(given, bool | np.bool_):
        raise UserError(f"{place}: its time is {_kind_of(given)}; seconds, a number, are required")
    try:
        time_s = float(given)
    except OverflowError:
        time_s = math.inf
    if not 0 <= time_s <= _LATEST_S:
        raise UserError(
            f"{place}: its time is {time_s}; seconds from the beginning on, from 0 to "
            f"{_LATEST_S:g}, are required"
        )
    if time_s <= last_s or _ticks(time_s) <= _ticks(last_s):
        raise UserError(
            f"{place} at {time_s:.6f} s: the frame before it is at {last_s:.6f} s; times that "
            "ascend, by 1/90000 s at least, are required"
        )
    return time_s


def _ticks(time_s: float) -> float:
    """Return the time as recordings hold it."""
    return time_s if math.isinf(time_s) else round(Fraction(time_s) / WRITER_TIME_BASE)


def _is_array(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "ndim")


def _kind_of(value: object) -> str:
    """Describe a value by its kind, in a few words."""
    name = type(value).__name__
    if value is None:
        return "None"
    if _is_array(value):
        shape = tuple(getattr(value, "shape", ()))
        return f"{name} {shape} of {getattr(value, 'dtype', 'mixed types')}"
    if isinstance(value, bool | int | float | str):
        return f"{name} {printable(repr(value)[:40])}"
    return name
