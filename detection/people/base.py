"""What every people detector promises, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
import torch

from detection.errors import UserError
from detection.structures import ActorBoxes


class PeopleDetector(Protocol):
    """Finds people, or whichever classes of a detector are the actors, in pictures."""

    @property
    def name(self) -> str:
        """Say in a few words which network this is, for reports."""

    def detect(self, images: Sequence[torch.Tensor]) -> list[ActorBoxes]:
        """Return the actors of each picture, best score first.

        images: (3, H, W) uint8 RGB, each of its own size. Boxes are fractions of the picture,
            inside it and of positive area; scores lie in 0 to 1. A picture with nobody in it gives
            `ActorBoxes.empty()`, no pictures give an empty list.
        """


def check_finite(boxes: ActorBoxes, where: str) -> None:
    """Raise `UserError` where a box or a score is no number. where: opens the message."""
    if not (np.isfinite(boxes.xyxy_01).all() and np.isfinite(boxes.score).all()):
        raise UserError(
            f"{where}: a person's box or score is not finite; the detector's weights are damaged, "
            "or half precision is too little for them (--no-half)"
        )
