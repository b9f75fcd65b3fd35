"""Transforms of a frame and the boxes of its people, for training people detectors. No torch.

Legend: h w pixels of a decoded frame, H W pixels of the transformed frame, N people.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.boxes import areas, clipped

Rgb = NDArray[np.uint8]
Boxes = NDArray[np.float32]
PADDING_RGB = (124, 116, 104)  # the mean that torchvision's networks subtract


class PeopleEvalTransform:
    """Scales frames down to the detector's size; keeps all people; nothing is random.

    Smaller frames are not enlarged: detectors do that themselves.
    """

    largest_scale = 1.0

    def __init__(self, *, short_side: int, long_side: int) -> None:
        self._sides = short_side, long_side

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return (H, W): reduced to the limits of both sides."""
        height_px, width_px = fitted_size(width, height, *self._sides)
        return min(height, height_px), min(width, width_px)

    def __call__(
        self, frame: Rgb, size: tuple[int, int], boxes_01: Boxes, generator: np.random.Generator
    ) -> tuple[Rgb, Boxes]:
        """frame: (h, w, 3) of any size."""
        return _resized(frame, *size), boxes_01 * _sides_of(size)


class PeopleTrainTransform:
    """Random scale (cropped or padded to a fixed size), horizontal flip and colours.

    Scale jitter on a fixed canvas as in G. Ghiasi et al., "Simple Copy-Paste" (2021).
    scale: (least, most).  min_visible: boxes with a smaller fraction inside are dropped.
    """

    def __init__(
        self,
        *,
        short_side: int,
        long_side: int,
        scale: tuple[float, float],
        flip: float,
        color_jitter: float,
        min_visible: float,
    ) -> None:
        self._sides = short_side, long_side
        self._scale = scale
        self._flip = flip
        self._jitter = color_jitter
        self._min_visible = min_visible
        self.largest_scale = scale[1]

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the (H, W) of the canvas."""
        return fitted_size(width, height, *self._sides)

    def __call__(
        self, frame: Rgb, size: tuple[int, int], boxes_01: Boxes, generator: np.random.Generator
    ) -> tuple[Rgb, Boxes]:
        """frame: (h, w, 3) of any size."""
        low, high = self._scale
        scale = math.exp(generator.uniform(math.log(low), math.log(high)))
        scaled = (max(1, round(size[0] * scale)), max(1, round(size[1] * scale)))
        offset = [_offset(generator.random(), scaled[i], size[i]) for i in (0, 1)]
        frame = _on_canvas(_resized(frame, *scaled), size, offset)
        boxes = boxes_01 * _sides_of(scaled)
        whole = areas(clipped(boxes, width=scaled[1], height=scaled[0]))
        boxes = boxes + np.asarray([offset[1], offset[0]] * 2, np.float32)
        boxes = clipped(boxes, width=size[1], height=size[0])
        visible = areas(boxes)
        boxes = boxes[(visible > 1) & (visible >= self._min_visible * whole)]
        if generator.random() < self._flip:
            frame = frame[:, ::-1]
            boxes[:, [0, 2]] = size[1] - boxes[:, [2, 0]]
        return _recolored(frame, self._jitter, generator), boxes.astype(np.float32)


PeopleTransform = PeopleEvalTransform | PeopleTrainTransform


def fitted_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Return the (H, W) at which the short or the long side meets its limit first."""
    scale = min(short_side / min(width, height), long_side / max(width, height))
    return max(1, round(height * scale)), max(1, round(width * scale))


def _resized(frame: Rgb, height: int, width: int) -> Rgb:
    if frame.shape[:2] == (height, width):
        return frame
    smaller = height < frame.shape[0]
    how = cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=how), np.uint8)


def _on_canvas(frame: Rgb, size: tuple[int, int], offset: Sequence[int]) -> Rgb:
    """Return (H, W, 3) with the frame at (top, left), which may be outside."""
    if frame.shape[:2] == size:
        return frame
    canvas = np.empty((*size, 3), np.uint8)
    canvas[:] = PADDING_RGB
    put, take = [], []
    for place, length, room in zip(offset, frame.shape[:2], size, strict=True):
        first, end = max(0, place), min(room, place + length)
        put.append(slice(first, end))
        take.append(slice(first - place, end - place))
    canvas[tuple(put)] = frame[tuple(take)]
    return canvas


def _offset(fraction: float, length: int, room: int) -> int:
    """Return where a line of `length` begins in `room`, inside it or covering all of it."""
    low, high = sorted((0, room - length))
    return low + min(high - low, int(fraction * (high - low + 1)))


def _recolored(frame: Rgb, strength: float, generator: np.random.Generator) -> Rgb:
    """Change brightness, contrast (about the mean grey) and saturation in one pass."""
    if not strength:
        return frame
    brightness, contrast, saturation = generator.uniform(1 - strength, 1 + strength, 3)
    grey = np.asarray([0.299, 0.587, 0.114])
    mix = brightness * contrast * (saturation * np.eye(3) + (1 - saturation) * grey[None])
    shift = brightness * (1 - contrast) * float(frame.reshape(-1, 3).mean(axis=0) @ grey)
    matrix = np.concatenate([mix, np.full((3, 1), shift)], axis=1)
    return np.asarray(cv2.transform(np.ascontiguousarray(frame), matrix), np.uint8)


def _sides_of(size: tuple[int, int]) -> Boxes:
    height, width = size
    return np.asarray([width, height, width, height], np.float32)
