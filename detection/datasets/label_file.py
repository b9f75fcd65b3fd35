"""Label files: what a label page or a review page exports, one JSON for all its videos.

Legend: n keyframes of a video, K of one person, A classes. Times are whole microseconds, boxes
fractions of the frame.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    without one.  nobody: the boxes that are no person.
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
    for cell in _cells(video.nobody)[0]:
        if cell in there:
            message = f"one box at {cell[0] / 1e6:.3f} s is a person and no person"
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
    """Return several exports as one; what two files agree on is there once.

    Of one annotator's exports of one page the last counts. prefer: the file that decides where
    others disagree about a box at a keyframe. Raises `UserError` for no file, for files of
    different classes, and for disagreement that no file decides, naming the first five.
    """
    if not files:
        raise UserError("no label file: at least one is required")
    for file in files[1:]:
        _check_same_classes(files[0], file)
    counted, notes = _last_exports(files)
    preferred = None
    if prefer is not None:
        place = Path(prefer).resolve()
        names = [place == Path(file.path).resolve() for file in counted]
        if not any(names):
            known = first_few([file.path for file in counted], most=5, separator=", ")
            raise UserError(f"--prefer {prefer}: not one of the files that count: {known}")
        preferred = names.index(True)
    disputes: list[str] = []
    decided = [0]
    ids = dict.fromkeys(video.video_id for file in counted for video in file.videos)
    joined = tuple(_JoinedVideo(name, counted, preferred).join(disputes, decided) for name in ids)
    if disputes:
        many = f"{len(disputes):,} disagreement{'s' * (len(disputes) > 1)} between label files"
        shown = first_few(disputes, most=5)
        raise UserError(f"{many}; --prefer FILE names the one that decides: {shown}")
    if decided[0]:
        notes.append(f"{decided[0]:,} disagreements decided by {prefer}")
    return JoinedLabels(files[0].classes, joined, tuple(f.path for f in counted), tuple(notes))


def _check_same_classes(first: LabelFile, other: LabelFile) -> None:
    ours = set(zip(first.classes.names, first.classes.ids, strict=True))
    theirs = set(zip(other.classes.names, other.classes.ids, strict=True))
    for odd, has, lacks in ((theirs - ours, other, first), (ours - theirs, first, other)):
        if odd:
            name, class_id = min(odd)
            raise UserError(f"{has.path}: class '{name}' ({class_id}) is not in {lacks.path}")
    if first.classes != other.classes:
        raise UserError(f"{other.path}: classes in another order or other groups than {first.path}")


def _last_exports(files: Sequence[LabelFile]) -> tuple[list[LabelFile], list[str]]:
    """Return the last export of each annotator and page, and a note for each other one."""
    last: dict[tuple[str, str], LabelFile] = {}
    notes = []
    for file in sorted(files, key=lambda one: one.exported):
        key = (file.annotator, file.page)
        if (before := last.get(key)) is not None and before.path != file.path:
            which = "a later" if before.exported < file.exported else "as late an"
            notes.append(f"{before.path}: passed over, {file.path} is {which} export of that page")
        last[key] = file
    return [file for file in files if last.get((file.annotator, file.page)) is file], notes


class _JoinedVideo:
    """One video of several files.  preferred: place of the file that decides."""

    def __init__(self, video_id: str, files: Sequence[LabelFile], preferred: int | None) -> None:
        self.video_id = video_id
        self.preferred = preferred
        self.parts = [
            (place, file, video)
            for place, file in enumerate(files)
            for video in file.videos
            if video.video_id == video_id
        ]

    def join(self, disputes: list[str], decided: list[int]) -> LabelledVideo:
        """Return what the files say together.

        disputes: takes what they disagree on.  decided: [count] of what the preferred one decided.
        """
        rows: dict[_Cell, dict[int, tuple[str, int, _Row]]] = {}
        for number, (_, _, video) in enumerate(self.parts):
            for kind, people in (("people", video.people), ("nobody", video.nobody)):
                found, persons = _cells(people)
                for cell, row in found.items():
                    rows.setdefault(cell, {})[number] = (kind, persons[cell], row)
        chosen: dict[tuple[str, int, int], list[_Row]] = {}
        kept: dict[int, int] = {}
        for cell in sorted(rows):
            by_file = rows[cell]
            place: int | None = min(by_file)
            if dispute := self._dispute(cell, by_file):
                place = self._decisive(cell, by_file)
                if place is None:
                    disputes.append(dispute)
                    continue
                decided[0] += 1
            if place is not None and place in by_file:
                kind, person, row = by_file[place]
                chosen.setdefault((kind, place, person), []).append(row)
                kept[cell[0]] = kept.get(cell[0], 0) + 1
        people, none = (self._people(chosen, kind) for kind in ("people", "nobody"))
        times, undecided = self._undecided(kept)
        return LabelledVideo(self.video_id, times, undecided, people, none)

    def _said(self, cell: _Cell, by_file: dict[int, tuple[str, int, _Row]]) -> dict[int, str]:
        """Return in words what each file says of a box; without those that say nothing."""
        said = {}
        for place, (kind, _, (person, row)) in by_file.items():
            names = self.parts[place][1].classes.names
            labels = [
                f"'{names[column]}'" for column in np.flatnonzero(person.labels[row]).tolist()
            ]
            said[place] = "nobody" if kind == "nobody" else ", ".join(labels) or "no class"
        pages = {self.parts[place][1].page for place in by_file}
        for place, (_, file, video) in enumerate(self.parts):
            at = np.flatnonzero(video.keyframes_us == cell[0])
            if place not in said and file.page in pages and len(at) and not video.undecided[at[0]]:
                said[place] = "no box there"
        return said

    def _dispute(self, cell: _Cell, by_file: dict[int, tuple[str, int, _Row]]) -> str:
        """Return two different values of a box in words, "" where the files agree."""
        said = self._said(cell, by_file)
        first = min(said)
        other = next((place for place in sorted(said) if said[place] != said[first]), None)
        if other is None:
            return ""
        person = next(iter(by_file.values()))[2][0]
        who = "a person" if person.person_id is None else f"person {person.person_id}"
        box = ", ".join(f"{edge / 1e6:g}" for edge in cell[1])
        values = [f"{said[place]} in {self.parts[place][1].path}" for place in (first, other)]
        where = f"video '{self.video_id}' at {cell[0] / 1e6:.3f} s, {who} ({box})"
        return f"{where}: {values[0]}, {values[1]}"

    def _decisive(self, cell: _Cell, by_file: dict[int, tuple[str, int, _Row]]) -> int | None:
        """Return the place of the preferred file, None where it says nothing of this box."""
        said = self._said(cell, by_file)
        return next((place for place in said if self.parts[place][0] == self.preferred), None)

    def _people(
        self, chosen: dict[tuple[str, int, int], list[_Row]], kind: str
    ) -> tuple[LabelledPerson, ...]:
        """Put each person's rows together: an id of one page is one person, in whatever file."""
        by_person: dict[tuple[object, ...], list[_Row]] = {}
        for (of_kind, place, number), rows in chosen.items():
            person_id = rows[0][0].person_id
            page = self.parts[place][1].page
            key = (place, number) if person_id is None else (page, person_id)
            if of_kind == kind:
                by_person.setdefault(key, []).extend(rows)
        people: list[LabelledPerson] = []
        taken: set[int] = set()
        for rows in by_person.values():
            for part in _in_time(rows):
                person_id = part[0][0].person_id
                if person_id in taken:  # of another page: another person
                    person_id = None
                elif person_id is not None:
                    taken.add(person_id)
                people.append(
                    LabelledPerson(
                        person_id,
                        np.array([person.times_us[row] for person, row in part], np.int64),
                        np.stack([person.boxes_01[row] for person, row in part]),
                        np.stack([person.labels[row] for person, row in part]),
                    )
                )
        return tuple(people)

    def _undecided(self, kept: dict[int, int]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return all keyframes, and how many people no file decides there."""
        total: dict[int, int] = {}
        for _, _, video in self.parts:
            here = dict.fromkeys(video.keyframes_us.tolist(), 0)
            for person in (*video.people, *video.nobody):
                for time in person.times_us.tolist():
                    here[time] += 1
            for time, count in zip(here, video.undecided.tolist(), strict=True):
                if count:
                    total[time] = max(total.get(time, 0), here[time] + count)
                else:
                    total.setdefault(time, 0)
        times = sorted(total)
        left = [max(0, total[time] - kept.get(time, 0)) for time in times]
        return np.array(times, np.int64), np.array(left, np.int64)


def _in_time(rows: Sequence[_Row]) -> list[list[_Row]]:
    """Return rows sorted by time; a second box at one time begins another person."""
    parts: list[list[_Row]] = []
    for row in sorted(rows, key=lambda one: int(one[0].times_us[one[1]])):
        time = row[0].times_us[row[1]]
        for part in parts:
            if part[-1][0].times_us[part[-1][1]] < time:
                part.append(row)
                break
        else:
            parts.append([row])
    return parts
