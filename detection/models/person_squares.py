"""Squares that follow people through a clip, cut from its frames on the device.

Legend: B clips, T frames, H W pixels, R people in the batch, S side of a square as it is seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from detection.boxes import SQUARE_SCALE


def cut_squares(
    frames: Tensor, rois_px: Tensor, *, side_px: int, scale: float = SQUARE_SCALE
) -> Tensor:
    """Cut a square clip for each person; returns (R, 3, T, S, S).

    frames: (B, 3, T, H, W) float.
    rois_px: (R, T, 5), the clip's number and the person's box in each frame, in pixels.
    side_px: S.
    scale: side of the square in longest sides of the person's boxes.

    A person's square keeps its size, is centred on the box of each frame and moved inside the frame
    at borders, and is never larger than the frame's shorter side, so that nothing is padded or
    stretched (as `detection.datasets.person_crops` does with frames at their full size).
    """
    from torchvision.ops import roi_align  # takes long to import

    _, _, num, height, width = frames.shape
    boxes_px = rois_px[..., 1:].float()
    longest = (boxes_px[..., 2:] - boxes_px[..., :2]).amax((1, 2))  # (R,)
    sides_px = (scale * longest).clamp(min=1).clamp(max=height).clamp(max=width)[:, None]
    middles = (boxes_px[..., :2] + boxes_px[..., 2:]) / 2  # (R, T, 2)
    left = torch.minimum((middles[..., 0] - sides_px / 2).clamp(min=0), width - sides_px)
    top = torch.minimum((middles[..., 1] - sides_px / 2).clamp(min=0), height - sides_px)
    number = rois_px[..., 0].float() * num + torch.arange(num, device=frames.device)
    squares = torch.stack([number, left, top, left + sides_px, top + sides_px], dim=2)  # (R, T, 5)
    images = frames.transpose(1, 2).flatten(0, 1)  # (B * T, 3, H, W)
    cut: Tensor = roi_align(images, squares.flatten(0, 1), side_px, sampling_ratio=0, aligned=True)
    clips = cut.reshape(-1, num, *cut.shape[1:])  # (R, T, 3, S, S)
    return clips.transpose(1, 2)
