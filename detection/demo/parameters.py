"""What a made data set follows from. Imports nothing heavy: the command's --help reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detection.errors import UserError

FIRST_S = 1  # the first keyframe; the last one is a second before the video's end


@dataclass(frozen=True)
class DemoParameters:
    """What a made data set follows from.

    keyframes: annotated seconds a video, the first at 1 s; a video lasts one second longer than
    its last one.  width, height: pixels.
    """

    seed: int = 0
    num_train: int = 200
    num_val: int = 48
    keyframes: int = 6
    width: int = 288
    height: int = 240
    fps: int = 15

    def __post_init__(self) -> None:
        for name, least in (
            ("seed", 0), ("num_train", 1), ("num_val", 1), ("keyframes", 1),
            ("width", 64), ("height", 64), ("fps", 5),
        ):  # fmt: skip
            if getattr(self, name) < least:
                raise UserError(f"{name} is {getattr(self, name)}, wanted {least} or more")
        if not 1.0 <= self.width / self.height <= 2.0:
            raise UserError(f"{self.width} x {self.height}: width must be 1 to 2 times the height")

    @property
    def duration_s(self) -> int:
        """Length of every video."""
        return FIRST_S + self.keyframes

    def count(self, split: Literal["train", "val"]) -> int:
        """Return the number of videos of a split."""
        return self.num_train if split == "train" else self.num_val
