"""The interface of people detectors, and what its adapters share."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor, nn

from detection.errors import UserError
from detection.structures import ActorBoxes


class PeopleDetector(Protocol):
    """Detects people (or other classes that are the actors) in frames."""

    @property
    def name(self) -> str:
        """Name of the network, for reports."""

    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
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


def check_frame(image: Tensor) -> None:
    """Raise `ValueError` unless `image` is a (3, H, W) uint8 frame with pixels."""
    if image.ndim != 3 or image.shape[0] != 3 or image.dtype != torch.uint8:
        raise ValueError(f"frames must be (3, H, W) uint8, got {tuple(image.shape)} {image.dtype}")
    if not image.numel():
        raise ValueError(f"a frame without pixels: {tuple(image.shape)}")


def find_classes(
    names: Sequence[str], required: Sequence[str], *, source: str, numbered: bool = False
) -> list[int]:
    """Return the places in `names` (from 0) of the classes `required`.

    source: the file, for errors.  numbered: a class may be given by its place too, counted from 1.
    """
    shown = [name for name in names if name != "N/A"]
    known = f"it knows {', '.join(shown[:8])}" + (", ..." if len(shown) > 8 else "")
    if not required:
        raise UserError(f"{source}: no actor class named; {known}")
    places = []
    for name in required:
        if name in names:
            places.append(names.index(name))
        elif numbered and name.isdigit() and 1 <= int(name) <= len(names):
            places.append(int(name) - 1)
        else:
            close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
            hint = f"did you mean {' or '.join(close)}?" if close else known
            raise UserError(f"{source}: no class '{name}' among its {len(names)}; {hint}")
    return places


class NetworkDetector:
    """What detectors of one network share.

    classes: the numbers of the network's classes that are actors; boxes of several classes are
        suppressed across classes (at nms_iou).
    half_precision: float16, on a GPU only.
    max_people: per frame at most.
    best_score: score from which boxes are people, as the weights' file tells it.
    notes: sentences on what was guessed when the weights were opened.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        name: str,
        classes: Sequence[int],
        nms_iou: float,
        device: torch.device | str,
        half_precision: bool,
        max_people: int,
        best_score: float | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        self.device = torch.device(device)
        if half_precision and self.device.type != "cuda":
            raise UserError("half precision of the people detector needs a GPU")
        self.name = name
        self.best_score = best_score
        self.notes = tuple(notes)
        self.network = network.to(self.device).eval()
        self._classes = torch.tensor(sorted(set(classes)), device=self.device)
        self._nms_iou = nms_iou if len(self._classes) > 1 else None
        self._half = half_precision
        self._max_people = max_people

    def _actors(
        self, boxes: Tensor, scores: Tensor, classes: Tensor, *, size_px: tuple[int, int]
    ) -> ActorBoxes:
        is_actor = torch.isin(classes, self._classes)
        return actor_boxes(
            boxes[is_actor],
            scores[is_actor],
            size_px=size_px,
            nms_iou=self._nms_iou,
            max_people=self._max_people,
        )


def person_threshold(detector: PeopleDetector) -> float | None:
    """Return the score from which a detector's boxes are people; None where it tells none.

    It is the detector's `best_score`, which one of your own may have too.

    Of a checkpoint of `train_people`: the score of the highest F1 that its run has measured. Of
    COCO's weights: a constant (`detection.people.coco.COCO_SCORES`), which was not measured.
    """
    score: float | None = getattr(detector, "best_score", None)
    return score


def actor_boxes(
    boxes: Tensor,
    scores: Tensor,
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
        from torchvision.ops import batched_nms  # takes long to import

        kept = batched_nms(boxes, scores, torch.zeros_like(scores), nms_iou)
        boxes, scores = boxes[kept], scores[kept]
    xyxy = (boxes / boxes.new_tensor([*size_px, *size_px])).clamp(0, 1).cpu().numpy()
    score = scores.clamp(0, 1).cpu().numpy().astype(np.float32)
    has_area = (xyxy[:, 2] > xyxy[:, 0]) & (xyxy[:, 3] > xyxy[:, 1])
    order = np.argsort(-score, kind="stable")
    found = ActorBoxes(xyxy.astype(np.float32), score)
    return found.select(order[has_area[order]][:max_people])
