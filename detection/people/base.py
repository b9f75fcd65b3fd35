"""The interface of people detectors, and what its adapters share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torchvision.ops import batched_nms

from detection.errors import UserError
from detection.structures import ActorBoxes


class PeopleDetector(Protocol):
    """Detects people (or other classes that are the actors) in frames."""

    @property
    def name(self) -> str:
        """Name of the network, for reports."""

    def detect(self, images: Sequence[torch.Tensor]) -> list[ActorBoxes]:
        """Return the actors of each frame, best score first.

        images: (3, H, W) uint8 RGB frames, each of its own size.

        Boxes are fractions of the frame, inside it and of positive area; scores are in 0 to 1. A
        frame without people gives `ActorBoxes.empty()`, no frames give an empty list.
        """


def check_finite(boxes: ActorBoxes, where: str) -> None:
    """Raise `UserError` for boxes or scores that are not finite. where: opens the message."""
    if not (np.isfinite(boxes.xyxy_01).all() and np.isfinite(boxes.score).all()):
        raise UserError(
            f"{where}: a person's box or score is not finite; the detector's weights are damaged, "
            "or half precision is too little for them (--no-half)"
        )


def check_frame(image: torch.Tensor) -> None:
    """Raise `ValueError` unless `image` is a (3, H, W) uint8 frame with pixels."""
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise ValueError(f"frames must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
    if not image.numel():
        raise ValueError(f"a frame without pixels: {tuple(image.shape)}")


def check_half_precision(half_precision: bool, device: torch.device) -> None:
    """Raise `UserError` for half precision without a GPU."""
    if half_precision and device.type != "cuda":
        raise UserError("half precision of the people detector needs a GPU")


def actor_boxes(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    *,
    size_px: tuple[int, int],
    nms_iou: float | None,
    max_people: int,
) -> ActorBoxes:
    """Return the best `max_people` boxes that have area, best first, as fractions of the frame.

    boxes, scores: (N, 4) in pixels and (N,), of actors.
    size_px: (width, height) of the frame.
    nms_iou: suppress overlapping boxes, whatever their classes (None: not).
    """
    if nms_iou is not None:
        kept = batched_nms(boxes, scores, torch.zeros_like(scores), nms_iou)
        boxes, scores = boxes[kept], scores[kept]
    xyxy = (boxes / boxes.new_tensor([*size_px, *size_px])).clamp(0, 1).cpu().numpy()
    score = scores.clamp(0, 1).cpu().numpy().astype(np.float32)
    has_area = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    order = np.argsort(-score, kind="stable")
    found = ActorBoxes(xyxy.astype(np.float32), score)
    return found.select(order[has_area[order]][:max_people])
