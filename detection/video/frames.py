"""One decoded frame: its time, rotation and size, and its conversion to RGB.

`FrameScaler` and `VideoWriter.write_frame` copy decoded frames from one file to another without
converting them to RGB.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame as VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

from detection.video.planes import planes_of

_FINER = 1024


def retimed(
    frames: Iterable[tuple[float, VideoFrame]], time_base: Fraction
) -> Iterator[VideoFrame]:
    """Yield frames with other times (seconds), in a finer time base than their file's."""
    for time_s, frame in frames:
        frame.time_base = time_base / _FINER
        frame.pts = round(time_s * _FINER / time_base)
        yield frame


def quarter_turns(frame: VideoFrame) -> int:
    """Return how many quarter turns counterclockwise bring a frame upright."""
    return round(frame.rotation / 90) % 4


class RgbConverter:
    """Converts frames to upright (H, W, 3) RGB arrays; reuses swscale's tables between frames.

    Runs in one thread: swscale would start one per core. Scaling the planes first and converting
    the smaller frame costs a quarter of doing both in one swscale pass.
    """

    def __init__(self) -> None:
        self._scale = VideoReformatter()
        self._convert = VideoReformatter()

    def __call__(self, frame: VideoFrame, short_side: int | None = None) -> NDArray[np.uint8]:
        """Return a frame upright, its shorter edge at `short_side` pixels (None: not scaled)."""
        turns, size = quarter_turns(frame), scaled_size(frame.width, frame.height, short_side)
        if size != (frame.width, frame.height):
            frame = self._scale.reformat(
                frame, width=size[0], height=size[1], interpolation="BILINEAR", threads=1
            )
        rgb = self._convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
        upright: NDArray[np.uint8] = np.rot90(rgb, turns)
        return upright


class FrameScaler:
    """Scales frames to new upright yuv420p frames of one even size, for `VideoWriter.write_frame`.

    Colour range and matrix are kept. Enlarged frames stay sharp. Reuses swscale's tables between
    frames.

    width, height: of the frames given back, as displayed; odd ones become the next even one.
    """

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width + width % 2, height + height % 2
        self._scale = VideoReformatter()

    @classmethod
    def shrinking(cls, size: tuple[int, int], *, short_side: int) -> FrameScaler:
        """Return one that shrinks frames of (width, height), as displayed, to a shorter edge.

        Smaller frames are not enlarged.
        """
        width, height = scaled_size(*size, min(short_side, *size))
        return cls(max(2, 2 * round(width / 2)), max(2, 2 * round(height / 2)))

    def __call__(self, frame: VideoFrame) -> VideoFrame:
        """Return a new frame of `width` and `height`."""
        turns = quarter_turns(frame)
        width, height = (self.height, self.width) if turns % 2 else (self.width, self.height)
        color_range = _color_range(frame)
        scaled = self._scale.reformat(
            frame,
            width=width,
            height=height,
            format="yuv420p",
            interpolation="BICUBIC" if width > frame.width else "BILINEAR",
            src_color_range=color_range,
            dst_color_range=color_range,
            threads=1,
        )
        upright = _rotated(scaled, turns)
        if upright is frame:  # the decoder refers to it, and other threads read it
            upright = _copied(frame)
        upright.color_range = color_range
        # 2, unspecified: of RGB sources players assume what swscale has converted to.
        upright.colorspace = 2 if frame.format.is_rgb else frame.colorspace
        upright.color_trc, upright.color_primaries = frame.color_trc, frame.color_primaries
        return upright


def _color_range(frame: VideoFrame) -> ColorRange:
    if frame.color_range != ColorRange.UNSPECIFIED:
        return ColorRange(frame.color_range)
    return ColorRange.JPEG if frame.format.name.startswith("yuvj") else ColorRange.MPEG


def _copied(frame: VideoFrame) -> VideoFrame:
    copy = VideoFrame(frame.width, frame.height, "yuv420p")
    for own, theirs in zip(planes_of(copy), planes_of(frame), strict=True):
        own[:] = theirs
    return copy


def _rotated(frame: VideoFrame, turns: int) -> VideoFrame:
    """Rotate the planes of a yuv420p frame by quarter turns, counterclockwise."""
    if not turns:
        return frame
    planes, height, width = frame.to_ndarray(), frame.height, frame.width
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    luma = np.rot90(planes[:height], turns)
    rotated = [luma.reshape(-1), *(np.rot90(plane, turns).reshape(-1) for plane in chroma)]
    array = np.concatenate(rotated).reshape(luma.shape[0] * 3 // 2, luma.shape[1])
    return VideoFrame.from_ndarray(np.ascontiguousarray(array), format="yuv420p")


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Return (width, height) with the shorter edge at `short_side` pixels, same aspect ratio."""
    if short_side is None:
        return width, height
    if width <= height:
        return short_side, max(short_side, round(height * short_side / width))
    return max(short_side, round(width * short_side / height)), short_side
