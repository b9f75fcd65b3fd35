"""Label files: what a page exports, for all its videos.  (A stand-in of the reader to come.)

Legend: n keyframes of a video, K of one person, A classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError, at_row
from detection.files import write_text
from detection.formats.json_text import json_text, read_json_object
from detection.structures import LabelMap

FORMAT, VERSION = "x3d-action-detection labels", 1


@dataclass(frozen=True)
class LabelledPerson:
    """One person, or boxes that are none: keyframe (K,) index, boxes_01 (K, 4), labels (K, A)."""

    person_id: int | None
    keyframe: NDArray[np.int64]
    boxes_01: NDArray[np.float64]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class VideoLabels:
    """One video.  keyframes_us: (n,).  undecided: (n,).  no_person: boxes that are none."""

    video_id: str
    keyframes_us: NDArray[np.int64]
    undecided: NDArray[np.int64]
    people: Sequence[LabelledPerson]
    no_person: Sequence[LabelledPerson]


@dataclass(frozen=True)
class LabelFile:
    """An export."""

    path: str
    page: str
    annotator: str
    exported: str
    classes: LabelMap
    videos: Sequence[VideoLabels]


def read_label_file(path: str | Path) -> LabelFile:
    """Read an export; raises `UserError` naming the place."""
    values = read_json_object(path)
    if values.get("format") != FORMAT or values.get("version") != VERSION:
        raise UserError(f"{path}: no label file of version {VERSION}")
    try:
        classes = LabelMap(
            tuple(one["name"] for one in values["classes"]),
            tuple(one["id"] for one in values["classes"]),
        )
        videos = tuple(_video(one, classes) for one in values["videos"])
        if values["videos_count"] != len(videos):
            raise ValueError("cut short")
        page, annotator, exported = (str(values[n]) for n in ("page", "annotator", "exported"))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise at_row(path, None, f"damaged ({error})") from error
    return LabelFile(str(path), page, annotator, exported, classes, videos)


def _video(values: dict[str, Any], classes: LabelMap) -> VideoLabels:
    def person(one: dict[str, Any]) -> LabelledPerson:
        labels = np.zeros((len(one["k"]), len(classes)), bool)
        for row, ids in enumerate(one.get("l", [])):
            labels[row, [classes.index_by_id[number] for number in ids]] = True
        boxes = np.array(one["b"], np.float64).reshape(len(one["k"]), 4)
        return LabelledPerson(one["id"], np.array(one["k"], np.int64), boxes, labels)

    return VideoLabels(
        values["id"],
        np.array(values["keyframes"], np.int64),
        np.array(values["undecided"], np.int64),
        [person(one) for one in values["people"]],
        [person(one) for one in values["nobody"]],
    )


def join_label_files(files: Sequence[LabelFile], *, prefer: str | Path | None = None) -> LabelFile:
    """Return several exports as one: of an annotator's exports of a page the last counts."""
    last: dict[tuple[str, str], LabelFile] = {}
    for file in sorted(files, key=lambda one: one.exported):
        last[file.page, file.annotator] = file
    videos = [video for file in last.values() for video in file.videos]
    ids = [video.video_id for video in videos]
    twice = [video_id for video_id in ids if ids.count(video_id) > 1]
    if twice:
        raise UserError(f"video '{twice[0]}' is in the files of two annotators")
    first = files[0]
    return LabelFile(first.path, first.page, first.annotator, first.exported, first.classes, videos)


def write_label_file(path: str | Path, file: LabelFile) -> None:
    """Write an export as a page does."""

    def plain(one: LabelledPerson) -> dict[str, Any]:
        return {
            "id": one.person_id,
            "k": one.keyframe.tolist(),
            "b": one.boxes_01.reshape(-1).tolist(),
            "l": [[file.classes.ids[c] for c in np.flatnonzero(row)] for row in one.labels],
        }

    videos = [
        {
            "id": video.video_id,
            "keyframes": video.keyframes_us.tolist(),
            "undecided": video.undecided.tolist(),
            "people": [plain(one) for one in video.people],
            "nobody": [plain(one) for one in video.no_person],
        }
        for video in file.videos
    ]
    classes = zip(file.classes.ids, file.classes.names, strict=True)
    values = {
        "format": FORMAT,
        "version": VERSION,
        "page": file.page,
        "annotator": file.annotator,
        "exported": file.exported,
        "title": "",
        "classes": [{"id": number, "name": name} for number, name in classes],
        "exclusive": {},
        "videos": videos,
        "videos_count": len(videos),
        "people_count": sum(len(video["people"]) for video in videos),
    }
    write_text(path, json_text(values))
