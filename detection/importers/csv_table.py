"""Imports a table of boxes and actions: one row per person, frame and action, named columns.

Columns, in any order: `video`; `time` (seconds) or `frame`; `x1, y1, x2, y2` or `x, y, width,
height`; `action` (several: `a; b`; empty: none); and, optionally, `person` and `split`. A row
without a box is a frame without persons.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, at_row
from detection.files import read_text
from detection.formats.csv_rows import csv_rows, finite_number
from detection.importers.class_names import split_names
from detection.importers.custom import AnnotatedBox, AnnotatedVideo
from detection.importers.source_videos import find_video

Unit = Literal["auto", "pixels", "fractions"]
_NAMES = {
    "video": ("video", "video_id", "file", "filename"),
    "time": ("time", "time_s", "timestamp", "seconds"),
    "frame": ("frame", "frame_id", "frame_number", "frame_index"),
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
    "x": ("x",),
    "y": ("y",),
    "width": ("width", "w"),
    "height": ("height", "h"),
    "frame_width": ("frame_width", "image_width", "img_width", "video_width"),
    "frame_height": ("frame_height", "image_height", "img_height", "video_height"),
    "action": ("action", "actions", "label", "class"),
    "person": ("person", "person_id", "track", "track_id", "instance_id"),
    "split": ("split", "subset"),
}
_CORNERS, _EXTENT = ("x1", "y1", "x2", "y2"), ("x", "y", "width", "height")
REQUIRED_COLUMNS = (
    "video, time or frame, x1, y1, x2, y2 (or x, y, width, height), action[, person][, split]"
)
# Rounding may move an edge up to here.
_FRACTION_LIMIT = 1.05


def read_csv_table(
    path: str | Path,
    videos: str | Path,
    *,
    unit: Unit = "auto",
    first_frame: int = 0,
    separators: str = "",
) -> list[AnnotatedVideo]:
    """Read a table with a header line; `,`, `;` or tab between the columns.

    videos: folder of the videos that the table names.  unit: of the boxes; auto: fractions where no
    number of the whole file exceeds 1, else pixels.  first_frame: number of the first frame.
    separators: marks between several actions, in addition to `;`. Where the table states the size
    of its frames (`frame_width, frame_height`, or `width, height` beside corners), pixels are
    divided by that. Raises `UserError` naming file and line.
    """
    path, videos = Path(path), Path(videos)
    rows = list(_rows(path))
    if not rows:
        raise UserError(f"{path}: a header line and no rows")
    problems = Problems()
    boxes = []
    for line, row in rows:
        try:
            boxes.append((line, row, _box(row), _frame_or_time(row, first_frame)))
        except ValueError as error:
            problems.add(path, line, str(error))
    problems.raise_if_any()
    sizes = {} if unit == "fractions" else _frame_sizes(path, rows)
    if unit == "fractions" or (
        unit == "auto"
        and all(edge <= _FRACTION_LIMIT for _, _, box, _ in boxes if box for edge in box)
    ):
        sizes = {line: (1.0, 1.0) for line, _, _, _ in boxes}
    found: dict[str, AnnotatedVideo] = {}
    names: dict[str, str] = {}
    for line, row, box, when in boxes:
        try:
            video = _video_of(row["video"], names, found, videos, path)
            video.by_frame = "frame" in row
            if line in sizes:
                video.set_size(sizes[line])
            _set_split(video, row.get("split", ""))
            if box is None:
                video.empty.append(when)
                continue
            actions = tuple(split_names(row.get("action", ""), ";" + separators))
            for action in actions:
                check_class_name(action)
            person = row.get("person") or None
            video.boxes.append(AnnotatedBox(when, box, actions, person, line))
        except ValueError as error:
            problems.add(path, line, str(error))
    problems.raise_if_any()
    return list(found.values())


def _frame_sizes(
    path: Path, rows: list[tuple[int, dict[str, str]]]
) -> dict[int, tuple[float, float]]:
    """Return the frame size by line, where the table states it.

    `width` and `height` beside corners are the frame's, unless they equal the size of every box.
    A row that fits neither is an error.
    """
    first = rows[0][1]
    names = ("frame_width", "frame_height")
    corners = set(_CORNERS) <= set(first)
    if not set(names) <= set(first):
        names = ("width", "height")
        if not corners or not set(names) <= set(first):
            return {}
    stated, boxes = {}, {}
    problems = Problems()
    for line, row in rows:
        if not row[names[0]] and not row[names[1]]:
            continue
        try:
            width, height = (_number(row[name], name) for name in names)
            if width <= 0 or height <= 0:
                size = f"{width:g}, {height:g}"
                raise ValueError(f"{' and '.join(names)} must be above 0, found {size}")
        except ValueError as error:
            problems.add(path, line, str(error))
            continue
        stated[line], boxes[line] = (width, height), _box(row)
    problems.raise_if_any()
    drawn = {line: box for line, box in boxes.items() if box is not None}
    if (
        names == ("width", "height")
        and drawn
        and all(
            abs(b[2] - b[0] - stated[line][0]) <= 1 and abs(b[3] - b[1] - stated[line][1]) <= 1
            for line, b in drawn.items()
        )
    ):
        return {}
    for line, b in drawn.items():
        width, height = stated[line]
        if b[2] > width * _FRACTION_LIMIT or b[3] > height * _FRACTION_LIMIT:
            box = f"a box to {b[2]:g}, {b[3]:g} in a frame of {width:g}x{height:g}"
            message = f"{box}: {names[0]}, {names[1]} are read as the frame's size"
            raise at_row(path, line, message)
    return stated


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, cells by column) of every row that is not blank."""
    text = read_text(path, what="table with a header line")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    columns: dict[str, int] = {}
    for start, cells in csv_rows(path, io.StringIO(text, newline=""), delimiter=delimiter):
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            columns = _columns(path, start, cells)
            width = len(cells)
            continue
        if len(cells) != width:
            raise at_row(path, start, f"{len(cells)} cells, the header has {width}")
        yield start, {name: cells[position].strip() for name, position in columns.items()}
    if not columns:
        raise UserError(f"{path}: empty; a header line is required: {REQUIRED_COLUMNS}")


def _columns(path: Path, line: int, cells: list[str]) -> dict[str, int]:
    """Return the position of each known column."""
    found: dict[str, int] = {}
    for position, cell in enumerate(cells):
        word = cell.strip().lower().replace(" ", "_")
        for name, words in _NAMES.items():
            if word in words:
                if name in found:
                    raise at_row(path, line, f"two columns mean {name}: {', '.join(cells)}")
                found[name] = position
    missing = [name for name in ("video", "action") if name not in found]
    if not (set(_CORNERS) <= set(found) or set(_EXTENT) <= set(found)):
        missing.append("x1, y1, x2, y2")
    if ("time" in found) == ("frame" in found):
        missing.append("one of time and frame")
    if missing:
        lacks = f"the header line lacks {' and '.join(missing)}"
        raise at_row(path, line, f"{lacks}; required: {REQUIRED_COLUMNS}")
    return found


def _box(row: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """Return x1, y1, x2, y2, None for an empty box; raises ValueError."""
    names = _CORNERS if all(name in row for name in _CORNERS) else _EXTENT
    if not any(row[name] for name in names):
        if row["action"]:
            raise ValueError(f"action {row['action'][:40]!r} without a box")
        return None
    a, b, c, d = (_number(row[name], name) for name in names)
    return (a, b, c, d) if names is _CORNERS else (a, b, a + c, b + d)


def _frame_or_time(row: Mapping[str, str], first_frame: int) -> float:
    if "time" in row:
        return _number(row["time"], "time")
    frame = _number(row["frame"], "frame")
    if frame != int(frame) or frame < first_frame:
        raise ValueError(f"frame must be a whole number from {first_frame}, found {row['frame']!r}")
    return frame - first_frame


def _number(text: str, name: str) -> float:
    return finite_number(text, name, most=1e9)


def _video_of(
    name: str, names: dict[str, str], found: dict[str, AnnotatedVideo], folder: Path, path: Path
) -> AnnotatedVideo:
    """Return the video with a name; two names of one file are one video."""
    if name not in names:
        file = find_video(folder, name)
        key = file.relative_to(folder).as_posix()
        found.setdefault(key, AnnotatedVideo(key, file, str(path), False, None))
        names[name] = key
    return found[names[name]]


def _set_split(video: AnnotatedVideo, text: str) -> None:
    split = text.lower()
    split = {"validation": "val", "test": "val", "training": "train"}.get(split, split)
    if not split:
        return
    if split not in ("train", "val"):
        raise ValueError(f"split must be train or val, found {text[:40]!r}")
    if video.split not in (None, split):
        raise ValueError(
            f"video '{video.name}' is in {video.split} above and in {split} here: one is required"
        )
    video.split = split
