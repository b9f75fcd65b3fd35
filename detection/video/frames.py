"""One decoded frame: its time, its turn, its size, and its colours as RGB.

`FrameScaler` and `VideoWriter.write_frame` carry decoded frames from one file to another
without a detour over RGB.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange, VideoReformatter
from numpy.typing import NDArray

_FINER = 1024


def retimed(frame: VideoFrame, time_s: float, time_base: Fraction) -> VideoFrame:
    """Return the frame with another time, finer than its file's time base can tell."""
    frame.time_base = time_base / _FINER
    frame.pts = round(time_s * _FINER / time_base)
    return frame


def quarter_turns(frame: VideoFrame) -> int:
    """Return how many quarter turns counterclockwise bring a frame upright."""
    return round(frame.rotation / 90) % 4


class RgbConverter:
    """Makes upright (H, W, 3) RGB arrays; keeps swscale's tables from frame to frame.

    One thread, for swscale would start as many as there are cores. Scaling the planes first and
    converting the smaller picture costs a quarter of doing both in one swscale pass.
    """

    def __init__(self) -> None:
        self._scale = VideoReformatter()
        self._convert = VideoReformatter()

    def __call__(self, frame: VideoFrame, short_side: int | None) -> NDArray[np.uint8]:
        """Return the frame upright, its shorter edge at `short_side` pixels (None: as it is)."""
        turns = quarter_turns(frame)
        width, height = scaled_size(frame.width, frame.height, short_side)
        if (width, height) != (frame.width, frame.height):
            frame = self._scale.reformat(
                frame, width=width, height=height, interpolation="BILINEAR", threads=1
            )
        rgb = self._convert.reformat(frame, format="rgb24", threads=1).to_ndarray()
        upright: NDArray[np.uint8] = np.rot90(rgb, turns)
        return upright


class FrameScaler:
    """Makes upright yuv420p pictures of even size for `VideoWriter.write_frame`.

    size: (width, height) of the source's pictures as displayed; pictures of another size among them
    get the same output size. short_side: pixels of the shorter edge; smaller pictures are not
    enlarged. Range and matrix of the colours stay what they are. Keeps swscale's tables from
    picture to picture.
    """

    def __init__(self, size: tuple[int, int], *, short_side: int) -> None:
        width, height = scaled_size(*size, min(short_side, *size))
        self.width = max(2, 2 * round(width / 2))
        self.height = max(2, 2 * round(height / 2))
        self._scale = VideoReformatter()

    def __call__(self, picture: VideoFrame) -> VideoFrame:
        """Return a new picture of `width` and `height`."""
        turned = quarter_turns(picture) % 2
        width, height = (self.height, self.width) if turned else (self.width, self.height)
        colours = _colour_range(picture)
        scaled = self._scale.reformat(
            picture,
            width=width,
            height=height,
            format="yuv420p",
            interpolation="BILINEAR",
            src_color_range=colours,
            dst_color_range=colours,
            threads=1,
        )
        upright = _turned(scaled, quarter_turns(picture))
        upright.color_range = colours
        if picture.format.is_rgb:
            upright.colorspace = 2  # not told: readers take what swscale made of it
        else:
            upright.colorspace = picture.colorspace
        upright.color_trc, upright.color_primaries = picture.color_trc, picture.color_primaries
        return upright


def _colour_range(picture: VideoFrame) -> ColorRange:
    if picture.color_range != ColorRange.UNSPECIFIED:
        return ColorRange(picture.color_range)
    return ColorRange.JPEG if picture.format.name.startswith("yuvj") else ColorRange.MPEG


def _turned(picture: VideoFrame, turns: int) -> VideoFrame:
    """Turn the planes of a yuv420p picture by quarters, counterclockwise."""
    if not turns:
        return picture
    planes, height, width = picture.to_ndarray(), picture.height, picture.width
    chroma = planes[height:].reshape(2, height // 2, width // 2)
    luma = np.rot90(planes[:height], turns)
    turned = [luma.reshape(-1), *(np.rot90(plane, turns).reshape(-1) for plane in chroma)]
    array = np.concatenate(turned).reshape(luma.shape[0] * 3 // 2, luma.shape[1])
    return VideoFrame.from_ndarray(np.ascontiguousarray(array), format="yuv420p")


def scaled_size(width: int, height: int, short_side: int | None) -> tuple[int, int]:
    """Return (width, height) with the shorter edge at `short_side` pixels, the shape kept."""
    if short_side is None:
        return width, height
    if width <= height:
        return short_side, max(short_side, round(height * short_side / width))
    return max(short_side, round(width * short_side / height)), short_side
