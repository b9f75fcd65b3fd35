"""Square clips that follow one person each, for networks that classify whole clips.

Legend: N people, T frames of a clip, H W pixels of a frame, S pixels of a square clip's side.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from detection.boxes import SQUARE_SCALE


def crop_people(
    frames: NDArray[np.uint8],
    boxes_01: NDArray[np.floating],
    side_px: int,
    *,
    scale: float = SQUARE_SCALE,
) -> torch.Tensor:
    """Cut a square clip for each person; returns (N, 3, T, S, S) uint8.

    frames: (T, H, W, 3) uint8.
    boxes_01: (N, T, 4) fractions of the frame, a person's box in each frame of the clip.
    side_px: S.
    scale: side of the square in longer sides of the person's largest box.

    A person's square keeps its size and is centred on the box of each frame; it is moved inside the
    frame at borders, and is never larger than the frame's shorter side, so that nothing is padded
    or stretched.
    """
    count, height, width = frames.shape[:3]
    if boxes_01.ndim != 3 or boxes_01.shape[1:] != (count, 4):
        raise ValueError(f"boxes_01 must be (N, {count}, 4), got {boxes_01.shape}")
    crops = np.empty((len(boxes_01), count, side_px, side_px, 3), np.uint8)
    for person, squares in enumerate(square_places(boxes_01, width, height, scale)):
        for index, (left, top, side) in enumerate(squares.tolist()):
            square = frames[index, top : top + side, left : left + side]
            how = cv2.INTER_AREA if side > side_px else cv2.INTER_LINEAR
            cv2.resize(square, (side_px, side_px), crops[person, index], interpolation=how)
    return torch.from_numpy(crops.transpose(0, 4, 1, 2, 3))


def square_places(
    boxes_01: NDArray[np.floating], width: int, height: int, scale: float = SQUARE_SCALE
) -> NDArray[np.int64]:
    """Return (N, T, 3) left, top and side of each person's square, in pixels of the frame.

    boxes_01: (N, T, 4).
    width, height: of the frame in pixels.
    scale: as in `crop_people`.
    """
    boxes_px = np.asarray(boxes_01, np.float64) * [width, height, width, height]
    longest = (boxes_px[..., 2:] - boxes_px[..., :2]).max(axis=(1, 2), initial=0.0)
    side = np.clip(np.rint(scale * longest), 1, min(width, height))[:, None, None]  # (N, 1, 1)
    corner = np.rint((boxes_px[..., :2] + boxes_px[..., 2:] - side) / 2)
    corner = np.clip(corner, 0, np.array([width, height]) - side)
    return np.concatenate([corner, np.broadcast_to(side, (*corner.shape[:2], 1))], -1).astype(
        np.int64
    )
