"""Writes a split as a VIA 3 project: a region in pixels for each person and keyframe.

https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md. Actions are options of checkboxes,
groups that exclude each other are radio buttons; an option's id is the class's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from detection.datasets.folder import DatasetFolder
from detection.files import write_text
from detection.formats.json_text import json_text
from detection.importers.exact_boxes import corner_and_size
from detection.importers.labels_out import (
    LabelledBox,
    SplitLabels,
    check_names,
    counted_note,
    frames_of,
    read_split_labels,
    size_note,
)
from detection.importers.via3 import ANCHORS, VIDEO
from detection.importers.via_attributes import attribute_names
from detection.importers.via_shapes import RECT

VERSION = "3.1.1"
CREATOR = "VGG Image Annotator (http://www.robots.ox.ac.uk/~vgg/software/via)"
_TEXT, _CHECKBOX, _RADIO = 1, 2, 3
_LOCAL = 1


def write_via3(folder: DatasetFolder, split: str, out: Path) -> list[str]:
    """Write `out`; return what the form does not hold, a line each.

    Times are kept to the microsecond, boxes as doubles. Raises `UserError`.
    """
    labels = read_split_labels(folder, split)
    check_names(labels)
    attributes, columns = _attributes(labels)
    files, views, metadata = {}, {}, {}
    inexact = boxes = empty = 0
    for number, video in enumerate(labels.videos, 1):
        _, size_px = frames_of(folder, video)
        key = str(number)
        files[key] = {
            "fid": key, "fname": video.file_name, "type": VIDEO, "loc": _LOCAL, "src": "",
        }  # fmt: skip
        views[key] = {"fid_list": [key]}
        for place, box in enumerate(video.boxes):
            xywh_px, exact = corner_and_size(box.box_01, size_px)
            inexact += not exact
            metadata[f"{key}_{place}"] = {
                "vid": key,
                "flg": 0,
                "z": [box.time_s],
                "xy": [RECT, *xywh_px],
                "av": _values(box, labels, columns),
            }
        boxes += len(video.boxes)
        empty += len(video.empty_s)
    project = {
        **_head(f"{folder.name} {split}", list(views)),
        "attribute": attributes,
        "file": files,
        "metadata": metadata,
        "view": views,
    }
    write_text(out, json_text(project, indent=None, ensure_ascii=False))
    why = "without a person, which VIA 3 has no region for"
    return [
        f"{len(files):,} videos, {boxes:,} boxes",
        *labels.notes,
        *counted_note(empty, labels.num_keyframes, "keyframes left out", why),
        *size_note(inexact, boxes),
    ]


def _head(name: str, views: list[str]) -> dict[str, Any]:
    return {
        "project": {
            "pid": "__VIA_PROJECT_ID__",
            "rev": "__VIA_PROJECT_REV_ID__",
            "rev_timestamp": "__VIA_PROJECT_REV_TIMESTAMP__",
            "pname": name,
            "creator": CREATOR,
            "created": 0,
            "data_format_version": VERSION,
            "vid_list": views,
        },
        "config": {
            "file": {"loc_prefix": {"1": "", "2": "", "3": "", "4": ""}},
            "ui": {
                "file_content_align": "center",
                "file_metadata_editor_visible": True,
                "spatial_metadata_editor_visible": True,
                "spatial_region_label_attribute_id": "",
            },
        },
    }


def _attributes(labels: SplitLabels) -> tuple[dict[str, Any], dict[int, str]]:
    """Return VIA's attributes by id, and the id of the attribute of each column."""
    names, ids = labels.label_map.names, labels.label_map.ids
    groups = labels.one_of()
    grouped = {column for members in groups.values() for column in members}
    free = [column for column in range(len(names)) if column not in grouped]
    parts: list[tuple[str, int, tuple[int, ...] | list[int]]] = [
        *((name, _RADIO, columns) for name, columns in groups.items()),
        *([("action", _CHECKBOX, free)] if free else []),
    ]
    made: dict[str, Any] = {}
    owner: dict[int, str] = {}
    named = attribute_names([name for name, _, _ in parts])
    for number, (name, (_, kind, columns)) in enumerate(zip(named, parts, strict=True), 1):
        options = {str(ids[column]): names[column] for column in columns}
        made[str(number)] = _attribute(name, kind, options)
        owner |= dict.fromkeys(columns, str(number))
    made[str(len(parts) + 1)] = _attribute("person", _TEXT, {})
    return made, owner


def _attribute(name: str, kind: int, options: dict[str, str]) -> dict[str, Any]:
    return {
        "aname": name, "anchor_id": ANCHORS[0], "type": kind, "desc": name, "options": options,
        "default_option_id": "",
    }  # fmt: skip


def _values(box: LabelledBox, labels: SplitLabels, owner: dict[int, str]) -> dict[str, str]:
    values: dict[str, list[str]] = {}
    for column in box.actions:
        values.setdefault(owner[column], []).append(str(labels.label_map.ids[column]))
    said = {key: ",".join(ids) for key, ids in values.items()}
    if box.person is not None:
        said[str(len({*owner.values()}) + 1)] = str(box.person)
    return said
