"""Transforms of the frames and the boxes of a clip, before batching.

Legend: T frames, H W pixels, N actors. Frames stay uint8; boxes become pixels of the transformed
frames. Clips are decoded at their random size, so a transform first makes its random choices
(`make_params`), as torchvision's v2 transforms do, and is then applied to the frames (`apply`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detection.boxes import areas, clipped
from detection.video.frames import scaled_size


@dataclass(frozen=True)
class TransformParams:
    """The random choices for one clip.

    short_side: pixels of the shorter edge after scaling.
    top_01, left_01: position of the crop, in fractions of its range.
    flip: whether to mirror the clip.
    brightness, contrast, saturation: factors.
    box_seed: seed of the jitter of the boxes.
    """

    short_side: int
    top_01: float = 0.5
    left_01: float = 0.5
    flip: bool = False
    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0
    box_seed: int = 0


@dataclass(frozen=True)
class TransformedClip:
    """A transformed clip with K of its actors.

    frames: (3, T, H, W) uint8.
    boxes_px: (K, 4) float32; (K, T, 4) where boxes follow their people.
    kept: (K,) indices of the actors that remain.
    """

    frames: torch.Tensor
    boxes_px: torch.Tensor
    kept: NDArray[np.int64]


class TrainTransform:
    """Random short side, square crop, horizontal flip and colour jitter; drops cropped-away actors.

    crop: pixels of the square.
    short_side: (least, most) pixels, both included; at least `crop`.
    flip: probability of flipping.
    min_visible: an actor is kept if at least this fraction of its box (of the part inside the
    frame) lies inside the crop; the box is clipped to the crop. The default 0.25 is about a head
    and shoulders: a smaller part shows little of the action.
    color_jitter: largest change of brightness, contrast and saturation, as a fraction; 0: none.
    box_jitter: each edge of a box moves by up to this fraction of its width or height; below 0.5.
    """

    def __init__(
        self,
        *,
        crop: int,
        short_side: tuple[int, int],
        flip: float = 0.5,
        min_visible: float = 0.25,
        color_jitter: float = 0.0,
        box_jitter: float = 0.0,
    ) -> None:
        least, most = short_side
        if not 0 < crop <= least <= most:
            raise ValueError(f"crop <= least <= most required, got {crop}, sides {short_side}")
        if not 0 <= flip <= 1 or not 0 <= min_visible <= 1 or not 0 <= color_jitter <= 1:
            raise ValueError(
                "flip, min_visible and color_jitter must be within 0 and 1, got "
                f"{flip}, {min_visible} and {color_jitter}"
            )
        if not 0 <= box_jitter < 0.5:
            raise ValueError(f"box_jitter must be at least 0 and below 0.5, got {box_jitter}")
        self._box_jitter = box_jitter
        self._crop = crop
        self._short_side = short_side
        self._flip = flip
        self._min_visible = min_visible
        self._jitter = (1 - color_jitter, 1 + color_jitter)

    def make_params(self, generator: np.random.Generator) -> TransformParams:
        """Draw the size, crop, flip and colours of one clip."""
        least, most = self._short_side
        return TransformParams(
            short_side=int(generator.integers(least, most + 1)),
            top_01=float(generator.random()),
            left_01=float(generator.random()),
            flip=bool(generator.random() < self._flip),
            brightness=float(generator.uniform(*self._jitter)),
            contrast=float(generator.uniform(*self._jitter)),
            saturation=float(generator.uniform(*self._jitter)),
            box_seed=int(generator.integers(2**32)) if self._box_jitter else 0,
        )

    def apply(
        self,
        frames: torch.Tensor,
        boxes_01: NDArray[np.float32],
        params: TransformParams,
        *,
        paths_01: NDArray[np.float32] | None = None,
    ) -> TransformedClip:
        """Transform a clip; which actors remain is decided by their boxes at the keyframe.

        frames: (T, 3, H, W) uint8 of any size.  boxes_01: (N, 4) fractions of the frame.
        paths_01: (N, T, 4), the actors' boxes in each frame, which are then the ones returned. Of
        one that is outside the crop for a while, an edge without area is left.
        """
        clip, boxes = _resize(frames, boxes_01, params.short_side)
        paths = boxes if paths_01 is None else _in_pixels(paths_01, clip)
        if self._box_jitter:
            boxes = _jitter(boxes, self._box_jitter, params.box_seed)
            paths = _jitter(paths, self._box_jitter, params.box_seed)
        height, width = clip.shape[-2:]
        top = _place(params.top_01, height - self._crop)
        left = _place(params.left_01, width - self._crop)
        whole = areas(clipped(boxes, width=width, height=height))
        clip = clip[..., top : top + self._crop, left : left + self._crop]
        corner = np.asarray([left, top, left, top], np.float32)
        visible = areas(clipped(boxes - corner, width=self._crop, height=self._crop))
        kept = (visible > 0) & (visible >= self._min_visible * whole)
        actors = clipped(paths[kept] - corner, width=self._crop, height=self._crop)
        if params.flip:
            actors[..., [0, 2]] = self._crop - actors[..., [2, 0]]
        if self._jitter[0] < 1:
            from torchvision.transforms.v2 import functional as F  # takes long to import

            clip = F.adjust_brightness(clip, params.brightness)
            clip = F.adjust_contrast(clip, params.contrast)
            clip = F.adjust_saturation(clip, params.saturation)
        return _finish(clip, actors, kept, params.flip)


class EvalTransform:
    """Scales the whole frame to one short side in pixels; keeps all actors."""

    def __init__(self, *, short_side: int) -> None:
        if short_side < 1:
            raise ValueError(f"short side must be at least 1 pixel, got {short_side}")
        self._short_side = short_side

    def make_params(self, generator: np.random.Generator) -> TransformParams:
        """Return the size; nothing is random."""
        return TransformParams(short_side=self._short_side)

    def apply(
        self,
        frames: torch.Tensor,
        boxes_01: NDArray[np.float32],
        params: TransformParams,
        *,
        paths_01: NDArray[np.float32] | None = None,
    ) -> TransformedClip:
        """Transform a clip; the arguments are `TrainTransform.apply`'s."""
        clip, boxes = _resize(frames, boxes_01, params.short_side)
        kept = np.ones(len(boxes), bool)
        return _finish(clip, boxes if paths_01 is None else _in_pixels(paths_01, clip), kept)


ClipTransform = TrainTransform | EvalTransform


def _resize(
    frames: torch.Tensor, boxes_01: NDArray[np.float32], short_side: int
) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Scale frames to `short_side` (unless decoded at it) and boxes to its pixels."""
    height, width = frames.shape[-2:]
    new_width, new_height = scaled_size(width, height, short_side)
    if (new_width, new_height) != (width, height):
        from torchvision.transforms.v2 import functional as F  # takes long to import

        frames = F.resize(frames, [new_height, new_width], antialias=True)
    # The axes have different scales: the longer side was rounded to whole pixels.
    scale = np.asarray([new_width, new_height] * 2, np.float32)
    return frames, np.asarray(boxes_01, np.float32).reshape(-1, 4) * scale


def _in_pixels(paths_01: NDArray[np.float32], clip: torch.Tensor) -> NDArray[np.float32]:
    """(N, T, 4) fractions -> pixels of a clip's frames (T, 3, H, W)."""
    count, _, height, width = clip.shape
    paths = np.asarray(paths_01, np.float32)
    if paths.ndim != 3 or paths.shape[1:] != (count, 4):
        raise ValueError(f"paths_01 must be (N, {count}, 4), got {paths.shape}")
    return paths * np.asarray([width, height] * 2, np.float32)


def _jitter(boxes_px: NDArray[np.float32], largest: float, seed: int) -> NDArray[np.float32]:
    """Move each edge by up to `largest` of the box's width or height; (N, 4) or (N, T, 4).

    The boxes of one actor move alike.
    """
    shares = np.random.default_rng(seed).uniform(-largest, largest, (len(boxes_px), 4))
    if boxes_px.ndim == 3:
        shares = shares[:, None]
    sizes = np.tile(boxes_px[..., 2:] - boxes_px[..., :2], 2)
    return boxes_px + shares.astype(np.float32) * sizes


def _place(fraction: float, room: int) -> int:
    return min(room, int(fraction * (room + 1)))


def _finish(
    clip: torch.Tensor, boxes_px: NDArray[np.float32], kept: NDArray[np.bool_], flip: bool = False
) -> TransformedClip:
    """(T, 3, H, W) -> (3, T, H, W), flipped if `flip`, in one copy."""
    planes = clip.numpy().transpose(1, 0, 2, 3)
    frames = np.ascontiguousarray(planes[..., ::-1] if flip else planes)
    return TransformedClip(
        torch.from_numpy(frames), torch.from_numpy(boxes_px), np.flatnonzero(kept)
    )
