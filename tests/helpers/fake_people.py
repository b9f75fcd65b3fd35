"""A detector for tests: what it finds depends on the frame alone, and on no network."""

from __future__ import annotations

import time

import numpy as np

from detection.structures import ActorBoxes


class FakeDetector:
    """Finds the red and the blue squares of `tiny_data`, roughly, with odd float32 scores.

    empty_below: frames darker than this hold no person.  delay_s: slept per call.
    """

    name = "fake"

    def __init__(self, *, delay_s: float = 0.0, empty_below: float = 0.0) -> None:
        self.delay_s = delay_s
        self.empty_below = empty_below
        self.frames = 0
        self.sizes: list[tuple[int, ...]] = []

    def detect(self, images):
        time.sleep(self.delay_s)
        self.frames += len(images)
        self.sizes += [tuple(image.shape) for image in images]
        return [self._find(image.numpy().astype(np.int64)) for image in images]

    def _find(self, frame):
        if frame.mean() < self.empty_below:
            return ActorBoxes.empty()
        _, height, width = frame.shape
        red, _, blue = frame
        boxes, scores = [], []
        for strong, weak in ((red, blue), (blue, red)):
            rows, columns = np.nonzero(strong - weak > 120)
            if not len(rows):
                continue
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            boxes.append(np.array(box) / (width, height, width, height))
            scores.append(1 / (1 + frame.sum() % 97))
        if not boxes:
            return ActorBoxes.empty()
        order = np.argsort(-np.array(scores))
        return ActorBoxes(np.array(boxes)[order], np.array(scores)[order])
