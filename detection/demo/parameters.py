"""Parameters of the synthetic data set; cheap to import, for the command's --help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detection.bounds import LARGEST_SEED
from detection.errors import UserError

MOST_VIDEOS = 10_000  # of a split: half a day of drawing
FIRST_S = 1  # the first keyframe; the last one is a second before the video's end


@dataclass(frozen=True)
class DemoParameters:
    """Parameters that determine the data set.

    keyframes: annotated seconds per video, the first at 1 s; a video ends one second after the
        last.
    width, height: pixels.
    """

    seed: int = 0
    num_train: int = 200
    num_val: int = 48
    keyframes: int = 6
    width: int = 288
    height: int = 240
    fps: int = 15

    def __post_init__(self) -> None:
        for name, least, most in (
            ("seed", 0, LARGEST_SEED), ("num_train", 1, MOST_VIDEOS), ("num_val", 1, MOST_VIDEOS),
            ("keyframes", 1, 3600), ("width", 64, 4096), ("height", 64, 4096), ("fps", 5, 240),
        ):  # fmt: skip
            if not least <= getattr(self, name) <= most:
                found = getattr(self, name)
                raise UserError(f"{name} is {found}, {least:,} to {most:,} is required")
        if not 1.0 <= self.width / self.height <= 2.0:
            raise UserError(f"{self.width} x {self.height}: width must be 1 to 2 times the height")

    @property
    def duration_s(self) -> int:
        """Length of every video."""
        return FIRST_S + self.keyframes

    def count(self, split: Literal["train", "val"]) -> int:
        """Return the number of videos of a split."""
        return self.num_train if split == "train" else self.num_val
