"""A plain table of boxes and actions: one row per person, moment and action, named columns.

Columns, in any order: `video`; `time` (seconds) or `frame`; `x1, y1, x2, y2` or `x, y, width,
height`; `action` (several: `a; b`; empty: none); and, where known, `person` and `split`. A row
whose box is empty is a moment with nobody in it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

from detection.data.own_data import OwnBox, OwnVideo
from detection.data.source_videos import find_video
from detection.errors import Problems, UserError, at_row

Unit = Literal["auto", "pixels", "fractions"]
_NAMES = {
    "video": ("video", "video_id", "file", "filename"),
    "time": ("time", "time_s", "timestamp", "seconds"),
    "frame": ("frame", "frame_id", "frame_number"),
    "x1": ("x1", "xmin", "left"),
    "y1": ("y1", "ymin", "top"),
    "x2": ("x2", "xmax", "right"),
    "y2": ("y2", "ymax", "bottom"),
    "x": ("x",),
    "y": ("y",),
    "width": ("width", "w"),
    "height": ("height", "h"),
    "action": ("action", "actions", "label", "class"),
    "person": ("person", "person_id", "track", "track_id", "instance_id"),
    "split": ("split", "subset"),
}
_CORNERS, _EXTENT = ("x1", "y1", "x2", "y2"), ("x", "y", "width", "height")
WANTED = "video, time or frame, x1, y1, x2, y2 (or x, y, width, height), action[, person][, split]"
# Rounding may push an edge this far over 1.
_FRACTION_LIMIT = 1.05


def read_own_csv(
    path: str | Path, videos: str | Path, *, unit: Unit = "auto", first_frame: int = 0
) -> list[OwnVideo]:
    """Read a table with a header line; `,`, `;` or tab between the columns.

    videos: folder of the videos that the table names.  unit: of the boxes; auto: fractions where no
    number of the whole file exceeds 1, else pixels.  first_frame: number of the first frame.
    Raises `UserError` naming file and line.
    """
    path, videos = Path(path), Path(videos)
    rows = list(_rows(path))
    if not rows:
        raise UserError(f"{path}: a header line and no rows")
    by_frame = "frame" in rows[0][1]
    problems = Problems()
    boxes = []
    for line, row in rows:
        try:
            boxes.append((line, row, _box(row), _moment(row, first_frame)))
        except ValueError as error:
            problems.add(path, line, str(error))
    problems.raise_if_any()
    fractions = unit == "fractions" or (
        unit == "auto"
        and all(edge <= _FRACTION_LIMIT for _, _, box, _ in boxes if box for edge in box)
    )
    found: dict[str, OwnVideo] = {}
    names: dict[str, str] = {}
    for line, row, box, moment in boxes:
        try:
            video = _video_of(row["video"], names, found, videos, path)
            video.by_frame, video.size = by_frame, (1.0, 1.0) if fractions else None
            _set_split(video, row.get("split", ""))
        except ValueError as error:
            problems.add(path, line, str(error))
            continue
        if box is None:
            video.empty.append(moment)
            continue
        actions = tuple(a.strip() for a in row.get("action", "").split(";") if a.strip())
        video.boxes.append(OwnBox(moment, box, actions, row.get("person") or None, line))
    problems.raise_if_any()
    return list(found.values())


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, cells by column) of every row that is not blank."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise at_row(path, line, f"not UTF-8 text ({error.reason}); save it as UTF-8") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise at_row(path, line, "not a text file of comma-separated values")
    head = text.split("\n", 1)[0]
    delimiter = max(",;\t", key=head.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    columns: dict[str, int] = {}
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise at_row(path, start, f"not a row of separated values ({error})") from error
        if cells is None:
            break
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
        raise UserError(f"{path}: empty; a header line is wanted: {WANTED}")


def _columns(path: Path, line: int, cells: list[str]) -> dict[str, int]:
    """Return the position of each column that is known by one of its names."""
    found: dict[str, int] = {}
    for position, cell in enumerate(cells):
        word = cell.strip().lower().replace(" ", "_")
        for name, words in _NAMES.items():
            if word in words:
                if name in found:
                    raise at_row(path, line, f"two columns say {name}: {', '.join(cells)}")
                found[name] = position
    missing = [name for name in ("video", "action") if name not in found]
    if not (set(_CORNERS) <= set(found) or set(_EXTENT) <= set(found)):
        missing.append("x1, y1, x2, y2")
    if ("time" in found) == ("frame" in found):
        missing.append("one of time and frame")
    if missing:
        raise at_row(path, line, f"the header line lacks {' and '.join(missing)}; wanted: {WANTED}")
    return found


def _box(row: Mapping[str, str]) -> tuple[float, float, float, float] | None:
    """Return the corners, None for an empty box; raises ValueError."""
    names = _CORNERS if all(name in row for name in _CORNERS) else _EXTENT
    if not any(row[name] for name in names):
        if row["action"]:
            raise ValueError(f"action {row['action'][:40]!r} without a box")
        return None
    a, b, c, d = (_number(row[name], name) for name in names)
    return (a, b, c, d) if names is _CORNERS else (a, b, a + c, b + d)


def _moment(row: Mapping[str, str], first_frame: int) -> float:
    if "time" in row:
        return _number(row["time"], "time")
    frame = _number(row["frame"], "frame")
    if frame != int(frame) or frame < first_frame:
        raise ValueError(f"frame must be a whole number from {first_frame}, found {row['frame']!r}")
    return frame - first_frame


def _number(text: str, name: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, found {text[:40]!r}") from None
    if not math.isfinite(value) or abs(value) > 1e9:
        raise ValueError(f"{name} must be a finite number, found {text[:40]!r}")
    return value


def _video_of(
    name: str, names: dict[str, str], found: dict[str, OwnVideo], folder: Path, path: Path
) -> OwnVideo:
    """Return the video of a name; two names of one file are one video."""
    if name not in names:
        file = find_video(folder, name)
        key = file.relative_to(folder).as_posix()
        found.setdefault(key, OwnVideo(key, file, str(path), False, None))
        names[name] = key
    return found[names[name]]


def _set_split(video: OwnVideo, text: str) -> None:
    split = {"validation": "val", "test": "val", "training": "train"}.get(
        text.lower(), text.lower()
    )
    if not split:
        return
    if split not in ("train", "val"):
        raise ValueError(f"split must be train or val, found {text[:40]!r}")
    if video.split not in (None, split):
        raise ValueError(
            f"video '{video.name}' is in {video.split} above and in {split} here: a video is in one"
        )
    video.split = split
