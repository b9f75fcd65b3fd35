"""People who run so fast that a box that stands still misses them: a data set drawn by a program.

Two people run along the upper and the lower lane, to and fro. At every keyframe both are grey;
between keyframes one is red and the other blue, which is what they do. Where a person is at a
keyframe no colour is ever seen, and the whole frame always holds one of each: only who follows a
person learns their action.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detection.datasets.ava_csv import AvaRows, write_ground_truth
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.structures import ActorBoxes, Keyframe, LabelMap
from detection.video.writer import VideoWriter

LABELS = LabelMap(("be red", "be blue"), (1, 2))
WIDTH, HEIGHT, FPS, SIDE = 512, 96, 30, 32
REACH = WIDTH - SIDE - 32  # pixels from turn to turn, in 0.6 s
KEYFRAMES_S = tuple(round(0.2 * i, 3) for i in range(1, 12))  # turns are at keyframes
SECONDS = 2.4
RED, BLUE, GREY = (230, 30, 30), (30, 30, 230), (210, 210, 210)


def place_px(time_s: float, lane: int, phase: int) -> tuple[int, int]:
    """Return left and top of the person in a lane (0 or 1)."""
    run = (time_s / 0.6 + phase) % 2
    left = 16 + REACH * (run if run <= 1 else 2 - run)
    return round(left), 64 * lane


def make_dataset(root: Path, *, train: int = 8, val: int = 4, person_ids: bool = True) -> Path:
    """Write the data set folder; half of the videos have red above."""
    (root / "annotations").mkdir(parents=True)
    (root / "videos").mkdir()
    write_label_map(root / "annotations" / "label_map.pbtxt", LABELS)
    random, splits = np.random.default_rng(0), {}
    for split, count in (("train", train), ("val", val)):
        keys, boxes, actions, people = [], [], [], []
        for number in range(count):
            name, above = f"{split}_{number}", number % 2
            phases = random.integers(0, 2, 2).tolist()
            _write_video(root / "videos" / f"{name}.mp4", above, phases, random)
            for time_s in KEYFRAMES_S:
                for lane in (0, 1):
                    left, top = place_px(time_s, lane, phases[lane])
                    keys.append(Keyframe(name, time_s))
                    edges = np.array([left, top, left + SIDE, top + SIDE])
                    boxes.append(edges / [WIDTH, HEIGHT, WIDTH, HEIGHT])
                    actions.append(1 + (lane + above) % 2)
                    people.append(lane)
        path = f"annotations/{split}.csv"
        rows = AvaRows.from_rows(
            keys, boxes_01=boxes, action_id=actions, person_id=people if person_ids else None
        )
        write_ground_truth(root / path, rows)
        splits[split] = SplitPart(annotations=path)
    write_dataset_file(root, DatasetFile(name="fast", videos="videos", splits=splits, made_up=True))
    return root


def _write_video(path, above, phases, random):
    background = np.kron(random.integers(20, 90, (12, 64, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=FPS, crf=10) as writer:
        for number in range(round(SECONDS * FPS)):
            frame = background.copy()
            for lane in (0, 1):
                left, top = place_px(number / FPS, lane, phases[lane])
                color = (RED, BLUE)[(lane + above) % 2] if number % 6 else GREY
                frame[top : top + SIDE, left : left + SIDE] = color
            writer.write(frame)


class LaneDetector:
    """Finds the bright person of each lane, whatever their colour."""

    name = "lanes"

    def detect(self, images):
        return [self._find(image.numpy()) for image in images]

    def _find(self, frame):
        _, height, width = frame.shape
        boxes = []
        for top, bottom in ((0, height // 2), (height // 2, height)):
            rows, columns = np.nonzero(frame[:, top:bottom].max(0) > 160)
            if len(rows):
                box = columns.min(), top + rows.min(), columns.max() + 1, top + rows.max() + 1
                boxes.append(np.array(box) / (width, height, width, height))
        return ActorBoxes(np.array(boxes).reshape(-1, 4), np.full(len(boxes), 0.9))
