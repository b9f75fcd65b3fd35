"""Small problems of tubes by rule; `golden_tube_maps.npz` holds what the published scripts give.

Three classes of which the last has ground truth in some cases alone; people walk, tubes are shifted
in time and space, have another class, are there twice, or lie on nothing. No two scores are equal.
How the figures were made: docs/evaluation.md.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np

NUM_CASES = 200
CLASSES = ("jump", "throw", "stand")


@dataclass(frozen=True)
class TubeCase:
    """Tubes (F, 5) of frame, x1, y1, x2, y2 in pixels.

    truth: (class, tubes) by video, each class that occurs.
    tubes: (class, video, score, tube); boxes: (video, frame, class, score, x1, y1, x2, y2).
    """

    videos: tuple[str, ...]
    truth: dict[str, dict[int, list[np.ndarray]]]
    tubes: list[tuple[int, str, float, np.ndarray]]
    boxes: np.ndarray


def tube_case(seed: int) -> TubeCase:
    """Return one problem of up to three videos."""
    dice = random.Random(seed)
    videos = tuple(f"g/v{number}" for number in range(1 + int(dice.random() * 3)))
    scores = iter(_scores(dice))
    whole = dice.random() < 0.3  # pixels of whole numbers
    num_classes = 2 + int(dice.random() * 1.3)
    truth: dict[str, dict[int, list[np.ndarray]]] = {}
    tubes, boxes = [], []
    for number, video in enumerate(videos):
        truth[video] = {}
        people = [_walk(dice, whole) for _ in range(1 + int(dice.random() * 3))]
        for tube in people:
            truth[video].setdefault(int(dice.random() * num_classes), []).append(tube)
        for label, members in list(truth[video].items()):
            for tube in members:
                for _ in range(int(dice.random() * 4)):
                    wrong = dice.random() < 0.3
                    one = int(dice.random() * num_classes) if wrong else label
                    found = _moved(dice, tube, whole)
                    tubes.append((one, video, next(scores), found))
                    for row in found:
                        if dice.random() < 0.8:
                            boxes.append((number, row[0], one, next(scores), *row[1:]))
        for _ in range(int(dice.random() * 3)):
            tubes.append(
                (int(dice.random() * num_classes), video, next(scores), _walk(dice, whole))
            )
            one = int(dice.random() * num_classes)
            boxes += [(number, row[0], one, next(scores), *row[1:]) for row in _walk(dice, whole)]
    labelled = {label for by_class in truth.values() for label in by_class}
    tubes = [one for one in tubes if one[0] in labelled]  # some scripts divide by zero
    boxes = [one for one in boxes if one[2] in labelled]
    return TubeCase(videos, truth, tubes, np.array(boxes, np.float64).reshape(-1, 8))


def _scores(dice: random.Random) -> list[float]:
    ranks = list(range(1, 2001))
    dice.shuffle(ranks)
    return [rank / 2003 for rank in ranks]


def _walk(dice: random.Random, whole: bool) -> np.ndarray:
    first, length = 1 + int(dice.random() * 6), 2 + int(dice.random() * 9)
    x, y = dice.random() * 200, dice.random() * 120
    width, height = 30 + dice.random() * 50, 50 + dice.random() * 60
    step = (dice.random() - 0.5) * 8
    rows = [(first + n, x + n * step, y, x + n * step + width, y + height) for n in range(length)]
    return np.round(rows) if whole else np.array(rows)


def _moved(dice: random.Random, tube: np.ndarray, whole: bool) -> np.ndarray:
    noise = dice.random() * 25
    moved = tube.copy()
    moved[:, 1:3] += [[(dice.random() - 0.5) * noise for _ in range(2)] for _ in tube]
    moved[:, 3:5] += [[(dice.random() - 0.5) * noise for _ in range(2)] for _ in tube]
    kind = dice.random()
    if kind < 0.4:
        start = int(dice.random() * (len(tube) - 1))
        moved = moved[start : start + 1 + int(dice.random() * len(tube))]
    elif kind < 0.6:
        moved[:, 0] += int(dice.random() * 6)
    return np.round(moved) if whole else moved
