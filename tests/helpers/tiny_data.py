"""A data set of a few seconds for tests of whole runs: one coloured square a video, two actions."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np

from detection.datasets.ava_csv import AvaRows, write_ground_truth
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.structures import Keyframe, LabelMap
from detection.video.writer import VideoWriter

WIDTH, HEIGHT, FPS, SECONDS = 96, 72, 10, 3
LABELS = LabelMap(("be red", "be blue", "be here"), (3, 7, 9), None)


def make_dataset(root: Path, *, train: int = 5, val: int = 2) -> Path:
    """Write a data set folder; keyframes at 1 and 2 s; squares red or blue, and always 'here'."""
    (root / "annotations").mkdir(parents=True)
    (root / "videos").mkdir()
    write_label_map(root / "annotations" / "label_map.pbtxt", LABELS)
    generator = np.random.default_rng(0)
    splits = {}
    for split, count in (("train", train), ("val", val)):
        names, rows = [], []
        for number in range(count):
            name = f"{split}_{number}"
            names.append(name)
            rows += _write_video(root / "videos" / f"{name}.mp4", number, name, generator)
        path = f"annotations/{split}.csv"
        keys, boxes, actions = zip(*rows, strict=True)
        write_ground_truth(root / path, AvaRows.from_rows(keys, boxes_01=boxes, action_id=actions))
        splits[split] = SplitPart(annotations=path)
    write_dataset_file(root, DatasetFile(name="tiny", videos="videos", splits=splits, made_up=True))
    return root


def _write_video(path, number, name, generator):
    colour, action = [((220, 30, 30), 3), ((30, 30, 220), 7)][number % 2]
    size = int(generator.integers(24, 40))
    x, y = int(generator.integers(0, WIDTH - size)), int(generator.integers(0, HEIGHT - size))
    background = generator.integers(60, 200, (HEIGHT // 8, WIDTH // 8, 3))
    background = np.kron(background, np.ones((8, 8, 1))).astype(np.uint8)
    with VideoWriter(path, width=WIDTH, height=HEIGHT, fps=FPS) as writer:
        for _ in range(SECONDS * FPS):
            frame = background.copy()
            frame[y : y + size, x : x + size] = colour
            writer.write(frame)
    box = (x / WIDTH, y / HEIGHT, (x + size) / WIDTH, (y + size) / HEIGHT)
    return [(Keyframe(name, time_s), box, label) for time_s in (1, 2) for label in (action, 9)]


def turn(path: Path, degrees: int) -> Path:
    """Ask players to turn a video clockwise, as a phone does: the matrix in its track header.

    degrees: 90, 180 or 270. The frames in the file stay as they are.
    """
    one, last = 1 << 16, 1 << 30
    data = bytearray(path.read_bytes())
    place = data.index(struct.pack(">9i", one, 0, 0, 0, one, 0, 0, 0, last), data.index(b"tkhd"))
    turned = {90: (0, one, -one, 0), 180: (-one, 0, 0, -one), 270: (0, -one, one, 0)}[degrees]
    data[place : place + 36] = struct.pack(">9i", *turned[:2], 0, *turned[2:], 0, 0, 0, last)
    path.write_bytes(data)
    return path
