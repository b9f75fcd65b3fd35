"""Writes a split for VIA 2: images named by video and frame, rectangles in the video's pixels.

https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/CodeDoc.md. A file `.csv` gets VIA's table, any
other name its project in JSON.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.datasets.folder import DatasetFolder
from detection.files import write_text
from detection.formats.json_text import json_text
from detection.importers.exact_boxes import corner_and_size
from detection.importers.labels_out import (
    LabelledBox,
    SplitLabels,
    SplitVideo,
    check_names,
    counted_note,
    frames_of,
    nearest_frame_numbers,
    read_split_labels,
    size_note,
)
from detection.importers.via2 import COLUMNS
from detection.importers.via_attributes import attribute_names

VERSION = "2.0.10"
_UNKNOWN_SIZE = -1  # in bytes, of an image that need not be there


@dataclass
class _Counts:
    boxes: int = 0
    inexact: int = 0
    moved: int = 0


def write_via2(folder: DatasetFolder, split: str, out: Path, *, fps: float | None) -> list[str]:
    """Write `out`; return what the form does not hold, a line each.

    fps: images are numbered as if extracted at this rate from time 0 on; None: as the video's
    frames, from 0. A keyframe between two images becomes the nearest. Raises `UserError`.
    """
    labels = read_split_labels(folder, split)
    check_names(labels)
    columns, attributes = _attributes(labels)
    counts = _Counts()
    images: dict[str, list[dict[str, Any]]] = {}
    for video in labels.videos:
        numbers, size_px = _numbers(folder, video, fps, counts)
        for time_s in [*video.empty_s, *(box.time_s for box in video.boxes)]:
            images.setdefault(f"{video.video_id}_{numbers[time_s]:06d}.jpg", [])
        for box in video.boxes:
            name = f"{video.video_id}_{numbers[box.time_s]:06d}.jpg"
            images[name].append(_region(box, size_px, labels, columns, counts))
    if out.suffix.lower() == ".csv":
        write_text(out, _csv_text(images))
    else:
        project = _project(f"{folder.name} {split}", images, attributes)
        write_text(out, json_text(project, indent=None, ensure_ascii=False))
    held = "images at a rate" if fps else "the video's frames"
    return [
        f"{len(labels.videos):,} videos, {len(images):,} images, {counts.boxes:,} boxes",
        *labels.notes,
        *counted_note(
            counts.moved, labels.num_keyframes, "keyframes moved",
            f"to the nearest of {held}, at a time of its own (--fps 1 holds whole seconds)",
        ),
        *size_note(counts.inexact, counts.boxes),
    ]  # fmt: skip


def _numbers(
    folder: DatasetFolder, video: SplitVideo, fps: float | None, counts: _Counts
) -> tuple[dict[float, int], tuple[float, float]]:
    """Return the image's number by time, and the video's size in pixels."""
    shown_s, size_px = frames_of(folder, video)
    times_s = sorted({*video.empty_s, *(box.time_s for box in video.boxes)})
    if fps is None:
        numbers, moved = nearest_frame_numbers(shown_s, times_s)
    else:
        grid = np.rint(np.array(times_s) * fps)
        moved = int((np.round(grid / fps, 6) != np.round(times_s, 6)).sum())
        numbers = grid.astype(np.int64).tolist()
    counts.moved += moved
    return dict(zip(times_s, numbers, strict=True)), size_px


def _attributes(
    labels: SplitLabels,
) -> tuple[dict[int, tuple[str, str]], dict[str, Any]]:
    """Return the attribute's name and kind of each column, and VIA's definitions."""
    names = labels.label_map.names
    groups = labels.one_of()
    grouped = {column for members in groups.values() for column in members}
    parts = [("radio", columns) for columns in groups.values()]
    free = tuple(column for column in range(len(names)) if column not in grouped)
    parts += [("checkbox", free)] if free else []
    named = attribute_names([*groups, *(["action"] if free else [])])
    owner: dict[int, tuple[str, str]] = {}
    made: dict[str, Any] = {}
    for name, (kind, columns) in zip(named, parts, strict=True):
        owner |= dict.fromkeys(columns, (name, kind))
        options = {names[column]: "" for column in columns}
        made[name] = {
            "type": kind, "description": "", "options": options, "default_options": {},
        }  # fmt: skip
    made["person"] = {"type": "text", "description": "", "default_value": ""}
    return owner, made


def _region(
    box: LabelledBox,
    size_px: tuple[float, float],
    labels: SplitLabels,
    owner: dict[int, tuple[str, str]],
    counts: _Counts,
) -> dict[str, Any]:
    (x, y, width, height), exact = corner_and_size(box.box_01, size_px)
    counts.boxes += 1
    counts.inexact += not exact
    said: dict[str, Any] = {}
    for column in box.actions:
        name = labels.label_map.names[column]
        attribute, kind = owner[column]
        if kind == "radio":
            said[attribute] = name
        else:
            said.setdefault(attribute, {})[name] = True
    if box.person is not None:
        said["person"] = str(box.person)
    shape = {"name": "rect", "x": x, "y": y, "width": width, "height": height}
    return {"shape_attributes": shape, "region_attributes": said}


def _project(
    name: str, images: dict[str, list[dict[str, Any]]], attributes: dict[str, Any]
) -> dict[str, Any]:
    keys = {image: f"{image}{_UNKNOWN_SIZE}" for image in images}
    return {
        "_via_settings": {"core": {"filepath": {}, "default_filepath": ""},
                          "project": {"name": name}},
        "_via_img_metadata": {
            keys[image]: {
                "filename": image, "size": _UNKNOWN_SIZE, "regions": regions,
                "file_attributes": {},
            }
            for image, regions in images.items()
        },
        "_via_attributes": {"region": attributes, "file": {}},
        "_via_data_format_version": VERSION,
        "_via_image_id_list": list(keys.values()),
    }  # fmt: skip


def _csv_text(images: dict[str, list[dict[str, Any]]]) -> str:
    text = io.StringIO(newline="")
    table = csv.writer(text, lineterminator="\n")
    table.writerow(COLUMNS)
    for image, regions in images.items():
        if not regions:
            table.writerow([image, _UNKNOWN_SIZE, "{}", 0, 0, "{}", "{}"])
        for number, region in enumerate(regions):
            parts = [json.dumps(part, ensure_ascii=False) for part in region.values()]
            table.writerow([image, _UNKNOWN_SIZE, "{}", len(regions), number, *parts])
    return text.getvalue()
