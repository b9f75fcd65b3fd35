"""Label files: what a label page or a review page exports, one JSON for all its videos.

Legend: n keyframes of a video, K of one person, A classes. Times are whole microseconds, boxes
fractions of the frame.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.bounds import LARGEST_WHOLE, MOST_CLASSES, MOST_LABELS, MOST_VALUES
from detection.datasets.ava_csv_rows import MAX_TIME_S, check_box
from detection.datasets.plain_names import check_class_name, check_video_id
from detection.errors import UserError, at_row, first_few, printable
from detection.files import read_text, write_text
from detection.formats.json_text import json_text, read_json_object
from detection.structures import LabelMap

FORMAT, VERSION = "x3d-action-detection labels", 1
_KEYS = (
    "format", "version", "page", "annotator", "exported", "title", "classes", "exclusive",
    "videos", "videos_count", "people_count",
)  # fmt: skip
_VIDEO_KEYS = ("id", "keyframes", "undecided", "people", "nobody")
_OLD_EXPORT = re.compile(r"[^{\[]+,\s*\d+(\.\d+)?\s*(,.*)?")
_MAX_TIME_US = int(MAX_TIME_S * 1_000_000)
_LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class LabelledPerson:
    """One person, or boxes that are none.

    person_id: None where the page knows none.  times_us: (K,) int64, ascending.  boxes_01: (K, 4)
    float64.  labels: (K, A) bool.
    """

    person_id: int | None
    times_us: NDArray[np.int64]
    boxes_01: NDArray[np.float64]
    labels: NDArray[np.bool_]


@dataclass(frozen=True)
class LabelledVideo:
    """What was decided in one video.

    keyframes_us: (n,) int64, ascending, those with a decision.  undecided: (n,) int64 people there
    without one.  nobody: boxes that are no person.
    """

    video_id: str
    keyframes_us: NDArray[np.int64]
    undecided: NDArray[np.int64]
    people: tuple[LabelledPerson, ...]
    nobody: tuple[LabelledPerson, ...] = ()


@dataclass(frozen=True)
class LabelFile:
    """One export.

    page: key of the page.  annotator: random name of a browser.  exported: in UTC, as
    `2026-11-29T05:00:00Z`.  classes: all of the page, with the groups that exclude each other.
    """

    path: str
    page: str
    annotator: str
    exported: str
    title: str
    classes: LabelMap
    videos: tuple[LabelledVideo, ...]


@dataclass(frozen=True)
class JoinedLabels:
    """Several exports as one.  paths: the files that count.  notes: a line each, for the user."""

    classes: LabelMap
    videos: tuple[LabelledVideo, ...]
    paths: tuple[str, ...]
    notes: tuple[str, ...] = ()


def read_label_file(path: str | Path) -> LabelFile:
    """Read an export; raises `UserError` naming the file and the place for whatever is wrong."""
    try:
        values = read_json_object(path)
    except UserError as error:
        if Path(path).is_file() and _is_old_export(path):
            raise UserError(
                f"{path}: the CSV of an older page; make the page again: it exports one labels.json"
            ) from error
        raise
    return _label_file(path, values)


def write_label_file(path: str | Path, file: LabelFile) -> None:
    """Write an export as a page does; raises `UserError` for what could not be read again."""
    values = _values(file)
    _label_file(path, values)
    write_text(path, json_text(values, indent=None, ensure_ascii=False))


def _is_old_export(path: str | Path) -> bool:
    text = read_text(path, what="label file")
    return _OLD_EXPORT.fullmatch(text.lstrip().partition("\n")[0][:1000].strip()) is not None


def _values(file: LabelFile) -> dict[str, Any]:
    names, ids = file.classes.names, file.classes.ids
    videos = []
    for video in file.videos:
        place = {time: index for index, time in enumerate(video.keyframes_us.tolist())}
        entries: dict[str, list[dict[str, Any]]] = {"people": [], "nobody": []}
        for key, persons in (("people", video.people), ("nobody", video.nobody)):
            for person in persons:
                entry: dict[str, Any] = {
                    "id": person.person_id,
                    "k": [place.get(time, -1) for time in person.times_us.tolist()],
                    "b": person.boxes_01.reshape(-1).tolist(),
                }
                if key == "people":
                    rows = person.labels
                    entry["l"] = [[ids[c] for c in np.flatnonzero(row).tolist()] for row in rows]
                entries[key].append(entry)
        head = {"id": video.video_id, "keyframes": video.keyframes_us.tolist()}
        videos.append({**head, "undecided": video.undecided.tolist(), **entries})
    return {
        "format": FORMAT,
        "version": VERSION,
        "page": file.page,
        "annotator": file.annotator,
        "exported": file.exported,
        "title": file.title,
        "classes": [{"id": i, "name": name} for i, name in zip(ids, names, strict=True)],
        "exclusive": {g: [names[c] for c in cols] for g, cols in file.classes.exclusive.items()},
        "videos": videos,
        "videos_count": len(videos),
        "people_count": sum(len(video.people) for video in file.videos),
    }


def _label_file(path: str | Path, values: Mapping[str, Any]) -> LabelFile:
    if values.get("format") != FORMAT:
        raise UserError(f"{path}: no label file: its 'format' must be '{FORMAT}'")
    version = values.get("version")
    if type(version) is not int or version != VERSION:
        shown = printable(repr(version)[:40])
        raise UserError(f"{path}: a label file of version {shown}; version {VERSION} is required")
    _check_keys(path, "", values, _KEYS)
    for key in ("page", "annotator"):
        if not re.fullmatch(r"[0-9A-Za-z_-]{1,64}", _text(path, key, values[key])):
            raise at_row(path, key, "letters and digits (1 to 64) are required")
    exported = _text(path, "exported", values["exported"])
    try:
        datetime.strptime(exported, "%Y-%m-%dT%H:%M:%SZ")
        if len(exported) != 20:
            raise ValueError
    except ValueError:
        raise at_row(path, "exported", "a time such as 2026-11-29T05:00:00Z is required") from None
    title = _text(path, "title", values["title"])
    classes = _classes(path, values["classes"], values["exclusive"])
    videos: dict[str, LabelledVideo] = {}
    for number, entry in enumerate(_list(path, "videos", values["videos"])):
        video = _video(path, f"videos[{number}]", entry, classes)
        if video.video_id in videos:
            raise at_row(path, f"videos[{number}]", f"video '{video.video_id}' is there twice")
        videos[video.video_id] = video
    found = {"videos": len(videos), "people": sum(len(v.people) for v in videos.values())}
    for what, count in found.items():
        stated = _whole(path, f"{what}_count", values[f"{what}_count"], 0, LARGEST_WHOLE)
        if stated != count:
            raise at_row(path, f"{what}_count", f"{stated} stated, {count} found: cut or edited?")
    page, annotator = values["page"], values["annotator"]
    return LabelFile(str(path), page, annotator, exported, title, classes, tuple(videos.values()))


def _classes(path: str | Path, values: Any, groups: Any) -> LabelMap:
    ids: dict[int, str] = {}
    columns: dict[str, int] = {}
    for number, entry in enumerate(_list(path, "classes", values, most=MOST_CLASSES)):
        place = f"classes[{number}]"
        _check_keys(path, place, entry, ("id", "name"))
        class_id = _whole(path, f"{place}.id", entry["id"], 1, _LARGEST_ID)
        name = _text(path, f"{place}.name", entry["name"])
        try:
            check_class_name(name)
        except ValueError as error:
            raise at_row(path, f"{place}.name", str(error)) from error
        if name in columns or class_id in ids:
            what = f"'{name}'" if name in columns else str(class_id)
            raise at_row(path, place, f"class {what} is there twice")
        ids[class_id] = name
        columns[name] = number
    if not ids:
        raise at_row(path, "classes", "at least one class is required")
    if not isinstance(groups, dict):
        raise at_row(path, "exclusive", "an object {group: [names]} is required")
    exclusive: dict[str, tuple[int, ...]] = {}
    seen: set[str] = set()
    for group, names in groups.items():
        place = f"exclusive.{printable(group[:40])}"
        for name in _list(path, place, names):
            if _text(path, place, name) not in columns:
                raise at_row(path, place, f"'{printable(name[:60])}' is no class of this file")
            if name in seen:
                raise at_row(path, place, f"class '{name}' is there twice")
            seen.add(name)
        if len(names) < 2:
            raise at_row(path, place, "at least two classes are required")
        exclusive[group] = tuple(columns[name] for name in names)
    return LabelMap(tuple(columns), tuple(ids), None, exclusive)


def _video(path: str | Path, place: str, values: Any, classes: LabelMap) -> LabelledVideo:
    _check_keys(path, place, values, _VIDEO_KEYS)
    video_id = _text(path, f"{place}.id", values["id"])
    try:
        if check_video_id(video_id) != video_id or "/" in video_id:
            raise ValueError(f"{video_id[:60]!r} cannot be a video id: it would be a path")
    except ValueError as error:
        raise at_row(path, f"{place}.id", str(error)) from error
    times = _wholes(path, f"{place}.keyframes", values["keyframes"], 0, _MAX_TIME_US)
    _check_ascending(path, f"{place}.keyframes", times)
    undecided = _wholes(path, f"{place}.undecided", values["undecided"], 0, MOST_VALUES)
    if len(undecided) != len(times):
        message = f"{len(undecided)} numbers for {len(times)} keyframes: one each is required"
        raise at_row(path, f"{place}.undecided", message)
    found: dict[str, tuple[LabelledPerson, ...]] = {}
    rows = 0
    for key in ("people", "nobody"):
        persons, ids = [], set()
        for number, entry in enumerate(_list(path, f"{place}.{key}", values[key])):
            where = f"{place}.{key}[{number}]"
            person = _person(path, where, entry, times, classes, labelled=key == "people")
            if person.person_id is not None and person.person_id in ids:
                raise at_row(path, where, f"id {person.person_id} is there twice")
            ids.add(person.person_id)
            rows += len(person.times_us)
            if rows * len(classes) > MOST_LABELS:
                raise at_row(path, where, f"more than {MOST_LABELS} labels in one video")
            persons.append(person)
        found[key] = tuple(persons)
    video = LabelledVideo(video_id, times, undecided, found["people"], found["nobody"])
    there, _ = _cells(video.people)
    for key in _cells(video.nobody)[0]:
        if key in there:
            message = f"one box at {key[0] / 1e6:.3f} s is a person and nobody"
            raise at_row(path, f"{place}.nobody", message)
    return video


def _person(
    path: str | Path,
    place: str,
    values: Any,
    times: NDArray[np.int64],
    classes: LabelMap,
    *,
    labelled: bool,
) -> LabelledPerson:
    _check_keys(path, place, values, ("id", "k", "b", "l") if labelled else ("id", "k", "b"))
    person_id = values["id"]
    if person_id is not None:
        person_id = _whole(path, f"{place}.id", person_id, 0, LARGEST_WHOLE)
    index = _wholes(path, f"{place}.k", values["k"], 0, len(times) - 1)
    _check_ascending(path, f"{place}.k", index)
    if not len(index):
        raise at_row(path, f"{place}.k", "at least one keyframe is required")
    numbers = _list(path, f"{place}.b", values["b"], most=4 * MOST_VALUES)
    if len(numbers) != 4 * len(index):
        message = f"{len(numbers)} numbers for {len(index)} keyframes: four each are required"
        raise at_row(path, f"{place}.b", message)
    for number, value in enumerate(numbers):
        if type(value) not in (int, float) or not -1 <= value <= 2:
            shown = printable(repr(value)[:40])
            raise at_row(
                path, f"{place}.b[{number}]", f"a number from 0 to 1 required, not {shown}"
            )
    boxes = np.array(numbers, np.float64).reshape(-1, 4)
    for row, box in enumerate(boxes.tolist()):
        try:
            check_box(*box)
        except ValueError as error:
            raise at_row(path, f"{place}.b[{4 * row}]", str(error)) from error
    labels = np.zeros((len(index), len(classes)), bool)
    if labelled:
        _set_labels(path, f"{place}.l", values["l"], labels, classes)
    return LabelledPerson(person_id, times[index], boxes, labels)


def _set_labels(
    path: str | Path, place: str, values: Any, labels: NDArray[np.bool_], classes: LabelMap
) -> None:
    """Set what each keyframe's list of class ids names."""
    if len(_list(path, place, values)) != len(labels):
        message = f"{len(values)} lists for {len(labels)} keyframes: one each is required"
        raise at_row(path, place, message)
    for row, ids in enumerate(values):
        for number in _list(path, f"{place}[{row}]", ids):
            class_id = _whole(path, f"{place}[{row}]", number, 1, _LARGEST_ID)
            column = classes.index_by_id.get(class_id)
            if column is None:
                raise at_row(path, f"{place}[{row}]", f"class {class_id} is not in 'classes'")
            if labels[row, column]:
                raise at_row(path, f"{place}[{row}]", f"class {class_id} is there twice")
            labels[row, column] = True
        for group, columns in classes.exclusive.items():
            names = [classes.names[c] for c in columns if labels[row, c]]
            if len(names) > 1:
                message = (
                    f"'{names[0]}' and '{names[1]}' of '{printable(group)}' exclude each other"
                )
                raise at_row(path, f"{place}[{row}]", message)


def _check_keys(path: str | Path, place: str, values: Any, keys: Sequence[str]) -> None:
    if not isinstance(values, dict):
        raise at_row(path, place, "an object {...} is required")
    for key in keys:
        if key not in values:
            raise at_row(path, place or None, f"key '{key}' is missing")
    for key in values:
        if key not in keys:
            raise at_row(path, place or None, f"unknown key '{printable(key[:60])}'")


def _text(path: str | Path, place: str, value: Any) -> str:
    if not isinstance(value, str):
        raise at_row(path, place, f"a text is required, not {printable(repr(value)[:40])}")
    return value


def _list(path: str | Path, place: str, value: Any, most: int = MOST_VALUES) -> list[Any]:
    if not isinstance(value, list):
        raise at_row(path, place, f"a list is required, not {printable(repr(value)[:40])}")
    if len(value) > most:
        raise at_row(path, place, f"{len(value)} entries, at most {most} are allowed")
    return value


def _whole(path: str | Path, place: str, value: Any, low: int, high: int) -> int:
    if type(value) is not int or not low <= value <= high:
        shown = printable(repr(value)[:40])
        raise at_row(path, place, f"a whole number from {low} to {high} is required, not {shown}")
    return value


def _wholes(path: str | Path, place: str, values: Any, low: int, high: int) -> NDArray[np.int64]:
    for number, value in enumerate(_list(path, place, values)):
        _whole(path, f"{place}[{number}]", value, low, high)
    return np.array(values, np.int64)


def _check_ascending(path: str | Path, place: str, values: NDArray[np.int64]) -> None:
    if bad := np.flatnonzero(np.diff(values) <= 0).tolist():
        raise at_row(path, f"{place}[{bad[0] + 1}]", "must be more than the one before")


# A box at a keyframe: time, box in millionths, and which one of as many equal boxes.
_Cell = tuple[int, tuple[int, ...], int]
# The person and its row.
_Row = tuple[LabelledPerson, int]


def _cells(people: Sequence[LabelledPerson]) -> tuple[dict[_Cell, _Row], dict[_Cell, int]]:
    """Return the row of each box, and the place of its person among `people`."""
    rows: dict[_Cell, _Row] = {}
    places: dict[_Cell, int] = {}
    for place, person in enumerate(people):
        boxes = np.round(person.boxes_01 * 1e6).astype(np.int64).tolist()
        for row, (time, box) in enumerate(zip(person.times_us.tolist(), boxes, strict=True)):
            nth = 0
            while (key := (time, tuple(box), nth)) in rows:
                nth += 1
            rows[key], places[key] = (person, row), place
    return rows, places


def join_label_files(
    files: Sequence[LabelFile], *, prefer: str | Path | None = None
) -> JoinedLabels:
    """Return several exports as one: of an annotator's exports of a page the last counts."""
    last: dict[tuple[str, str], LabelFile] = {}
    for file in sorted(files, key=lambda one: one.exported):
        last[file.page, file.annotator] = file
    videos = [video for file in last.values() for video in file.videos]
    ids = [video.video_id for video in videos]
    if twice := [video_id for video_id in ids if ids.count(video_id) > 1]:
        raise UserError(f"video '{twice[0]}' is in the files of two annotators")
    paths = tuple(file.path for file in last.values())
    return JoinedLabels(files[0].classes, tuple(videos), paths)
