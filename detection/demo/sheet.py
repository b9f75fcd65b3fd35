"""A contact sheet: keyframes of a data set folder with their boxes and labels."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np

from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.files import replacing
from detection.structures import Keyframe, LabelMap
from detection.video.reader import VideoReader

_BOX, _TEXT, _PLATE = (255, 214, 64), (255, 255, 255), (20, 20, 20)
_ENLARGED, _LINE_PX = 2, 19


def write_demo_sheet(
    root: str | Path, path: str | Path, *, split: str = "val", rows: int = 6, columns: int = 4
) -> None:
    """Write an image of `rows` videos with `columns` keyframes each, with boxes and labels."""
    folder = DatasetFolder.open(root)
    names = folder.read_label_map()
    actors = _actors(folder, split, names)
    by_video: dict[str, list[Keyframe]] = defaultdict(list)
    for key in sorted(actors):
        by_video[key.video_id].append(key)
    lines = []
    for video_id, keys in list(by_video.items())[:rows]:
        chosen = (keys * columns)[:columns]
        with VideoReader(folder.video_path(video_id)) as video:
            clip = video.read([key.time_s for key in sorted(set(chosen))])
        frames = dict(zip(sorted(set(chosen)), clip.frames.numpy(), strict=True))
        lines.append(np.hstack([_tile(frames[key], actors[key]) for key in chosen]))
    suffix = ".jpg" if Path(path).suffix.lower() in (".jpg", ".jpeg") else ".png"
    done, data = cv2.imencode(suffix, np.vstack(lines)[..., ::-1])
    assert done, f"cv2 cannot encode {suffix}"
    with replacing(path) as temporary:
        temporary.write_bytes(data.tobytes())


def _actors(
    folder: DatasetFolder, split: str, names: LabelMap
) -> dict[Keyframe, dict[tuple[float, ...], list[str]]]:
    truth = read_ground_truth(folder.split(split).annotations)
    actors: dict[Keyframe, dict[tuple[float, ...], list[str]]] = defaultdict(dict)
    for row in range(len(truth)):
        name = names.names[names.index_by_id[int(truth.action_id[row])]]
        box = tuple(truth.boxes_01[row].tolist())
        actors[truth.keyframe(row)].setdefault(box, []).append(name.split(" (")[0])
    return actors


def _tile(frame: np.ndarray, boxes: dict[tuple[float, ...], list[str]]) -> np.ndarray:
    """Return a frame, enlarged so that labels on plates are legible, with its boxes."""
    image = cv2.resize(
        np.ascontiguousarray(frame.transpose(1, 2, 0)), None, fx=_ENLARGED, fy=_ENLARGED,
        interpolation=cv2.INTER_CUBIC,
    )  # fmt: skip
    height, width = image.shape[:2]
    for (x1, y1, x2, y2), labels in boxes.items():
        start = (round(x1 * width), round(y1 * height))
        cv2.rectangle(image, start, (round(x2 * width), round(y2 * height)), _BOX, 2, cv2.LINE_AA)
        above = start[1] - _LINE_PX * len(labels)  # of the box, where there is room
        top = above if above >= 0 else start[1]
        for line, text in enumerate(labels):
            _label(image, text, start[0], top + _LINE_PX * line)
    return image


def _label(image: np.ndarray, text: str, x: int, y: int) -> None:
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5
    (wide, _), _ = cv2.getTextSize(text, font, scale, 1)
    x = max(0, min(x, image.shape[1] - wide - 8))
    y = min(y, image.shape[0] - _LINE_PX)
    cv2.rectangle(image, (x, y), (x + wide + 8, y + _LINE_PX), _PLATE, cv2.FILLED)
    cv2.putText(image, text, (x + 4, y + 14), font, scale, _TEXT, 1, cv2.LINE_AA)
