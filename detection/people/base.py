"""What every people detector promises, whichever library it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch

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
