"""Small video problems by rule; `golden_video_ap.json` holds what ACT's released code gives.

People walk, cross and swap places; every person has a box in every frame, with noise and a score
per class, among boxes on nothing. How the answers were made: docs/evaluation.md.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

NUM_CASES = 60
CLASSES = (1, 2)


@dataclass(frozen=True)
class VideoCase:
    """Rows of ground truth (video, frame, box, class, person) and detections (..., class, score).

    Frames count from 0, boxes are fractions.
    """

    frames: dict[str, int]
    truth: list[tuple[str, int, tuple[float, ...], int, int]]
    found: list[tuple[str, int, tuple[float, ...], int, float]]


def video_case(seed: int) -> VideoCase:
    """Return one problem of two videos."""
    dice = random.Random(seed)

    def spread(width: float) -> float:
        return (dice.random() - 0.5) * width

    frames, truth, found = {}, [], []
    for video in ("a", "b"):
        length = frames[video] = 15 + int(dice.random() * 8)
        people = 1 + int(dice.random() * 3)
        for person in range(people):
            action = CLASSES[int(dice.random() * 2)]
            x, y, dx = dice.random() * 0.6, 0.2 + spread(0.3), spread(0.06)
            likely = 0.3 + 0.6 * dice.random()
            noise = 0.02 + 0.08 * dice.random()
            for frame in range(length):
                left = x + dx * frame
                box = (left, y, left + 0.2, y + 0.45)
                truth.append((video, frame, box, action, person))
                moved = tuple(v + spread(noise) for v in box)
                for one in CLASSES:
                    score = likely if one == action else 0.6 * likely
                    score = round(min(max(score + spread(0.3), 0.001), 0.999), 9)
                    found.append((video, frame, moved, one, score))
        for frame in range(length):
            if dice.random() < 0.3:
                left, top = dice.random() * 0.7, dice.random() * 0.5
                box = (left, top, left + 0.2, top + 0.3)
                for one in CLASSES:
                    found.append((video, frame, box, one, round(0.4 * dice.random(), 9)))
    return VideoCase(frames, truth, found)
