"""Labels as `supervision.Detections`, a value a frame, both ways.

https://supervision.roboflow.com/latest/detection/core/: `xyxy` in pixels, `tracker_id` the person,
`class_id` the column of the first action (-1: none), `data["class_name"]` its name ("": none), and
`data["actions"]` (N, A) all of them.  What `detect_actions` found: `VideoResults.to_supervision`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.custom import AnnotatedBox, AnnotatedVideo
from detection.importers.cvat_actions import NO_ACTION
from detection.importers.labels_out import frames_of, nearest_frame_numbers, read_split_labels
from detection.importers.optional import optional_package

if TYPE_CHECKING:
    import supervision

_NO_PERSON = -1


@dataclass(frozen=True, eq=False)
class SupervisionFrame:
    """The labels of a keyframe.

    frame: number of the nearest frame, from 0.  time_s: the keyframe's own time.
    """

    video_id: str
    frame: int
    time_s: float
    detections: supervision.Detections


def write_supervision(folder: DatasetFolder, split: str) -> Iterator[SupervisionFrame]:
    """Yield the labels of each keyframe of a split, those without persons too.

    Raises `UserError` where the package is absent, and what reading the split raises.
    """
    package = optional_package("supervision")
    labels = read_split_labels(folder, split)
    names = labels.label_map.names
    for video in labels.videos:
        shown_s, (width, height) = frames_of(folder, video)
        when_s = sorted({*video.empty_s, *(box.time_s for box in video.boxes)})
        numbers, _ = nearest_frame_numbers(shown_s, when_s)
        for time_s, frame in zip(when_s, numbers, strict=True):
            people = [box for box in video.boxes if box.time_s == time_s]
            actions = np.zeros((len(people), len(names)), bool)
            for row, box in enumerate(people):
                actions[row, list(box.actions)] = True
            first = [box.actions[0] if box.actions else -1 for box in people]
            persons = [_NO_PERSON if box.person is None else box.person for box in people]
            boxes_01 = np.array([box.box_01 for box in people], np.float64).reshape(-1, 4)
            yield SupervisionFrame(video.video_id, frame, time_s, package.Detections(
                xyxy=boxes_01 * np.array([width, height, width, height]),
                class_id=np.array(first, np.int64),
                tracker_id=np.array(persons, np.int64),
                data={
                    "class_name": np.array([names[c] if c >= 0 else "" for c in first], np.str_),
                    "actions": actions,
                },
            ))  # fmt: skip


def read_supervision(
    path: str | Path,
    frames: Iterable[tuple[int, Any]],
    names: Sequence[str],
    *,
    split: str | None = None,
) -> AnnotatedVideo:
    """Return a video with labels for `import_annotations`, of (frame from 0, `Detections`).

    path: of the video.  names: of the classes, by `class_id` and by column of `actions`; where
    there are neither, persons do nothing.  A frame without rows is a keyframe without persons.
    Raises `UserError` naming frame and row.
    """
    path = Path(path)
    video = AnnotatedVideo(path.name, path, str(path), by_frame=True, size=None, split=split)
    seen: set[int] = set()
    for frame, detections in frames:
        if isinstance(frame, bool) or int(frame) != frame or frame < 0 or int(frame) in seen:
            raise UserError(f"{path}: frame {frame}: different whole numbers from 0 are required")
        seen.add(int(frame))
        boxes = _boxes(f"{path}: frame {frame}", int(frame), detections, names)
        video.boxes += boxes
        if not boxes:
            video.empty.append(int(frame))
    return video


def _boxes(place: str, frame: int, detections: Any, names: Sequence[str]) -> list[AnnotatedBox]:
    edges = np.asarray(detections.xyxy, np.float64).reshape(-1, 4)
    if not np.isfinite(edges).all():
        raise UserError(f"{place}: a box that is not finite")
    persons = detections.tracker_id
    out = []
    for row, (x1, y1, x2, y2) in enumerate(edges.tolist()):
        actions = _actions(f"{place}, row {row}", row, detections, names)
        person = None if persons is None or int(persons[row]) < 0 else str(int(persons[row]))
        out.append(AnnotatedBox(frame, (x1, y1, x2, y2), actions, person, f"frame {frame}"))
    return out


def _actions(place: str, row: int, detections: Any, names: Sequence[str]) -> tuple[str, ...]:
    data = detections.data or {}
    if "actions" in data:
        does = np.asarray(data["actions"][row]).reshape(-1)
        if len(does) != len(names):
            raise UserError(f"{place}: {len(does)} actions, {len(names)} classes")
        return tuple(name for name, done in zip(names, does.tolist(), strict=True) if done)
    if "class_name" in data:
        name = str(data["class_name"][row])
        return () if name.lower() in NO_ACTION else (name,)
    if detections.class_id is None or int(detections.class_id[row]) < 0:
        return ()
    column = int(detections.class_id[row])
    if column >= len(names):
        raise UserError(f"{place}: class {column} of {len(names)}")
    return (names[column],)
