"""Rows of text into columns, one by one, for `ava_csv`: every bad row is named."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.datasets.plain_names import check_video_id
from detection.errors import Problems, UserError
from detection.files import text_lines
from detection.formats.csv_rows import csv_rows, finite_number
from detection.structures import Keyframe

# Files carry three decimals: a rounded edge may lie this far outside the frame.
EDGE_TOLERANCE = 1e-3
MAX_TIME_S = 1e9


@dataclass(frozen=True)
class Form:
    """What one kind of file looks like. `in_frame`: a box outside the frame is an error."""

    name: str
    columns: tuple[int, ...]
    layout: str
    in_frame: bool
    action_may_miss: bool
    last: str


GROUND_TRUTH = Form(
    "ground truth", (8, 7, 2), "action_id, person_id", in_frame=True, action_may_miss=True,
    last="person_id",
)  # fmt: skip
DETECTIONS = Form(
    "detections", (8, 9, 2), "action_id, score[, track_id]", in_frame=False, action_may_miss=False,
    last="score",
)  # fmt: skip
PERSON_BOXES = Form(
    "person boxes", (8, 2), "label or empty, score", in_frame=True, action_may_miss=True,
    last="score",
)  # fmt: skip


_COLUMNS = ("time_us", "boxes_01", "action_id", "person_id", "score", "line", "track_id")


@dataclass(frozen=True)
class AvaRows:
    """The M rows of an AVA file as columns, in the order of the file.

    video_names: each video once.  video_index: (M,) int32 into it.  time_us: (M,) int64.
    boxes_01: (M, 4) float64.  action_id: (M,) int32, -1 where the file has none.
    person_id, track_id: (M,) int64 or None.  score: (M,) float64 or None.
    line: (M,) int32, from 1 (0: made in memory).  empty_keyframes: the two-column rows.
    warnings: what is odd about the file, one sentence each.
    """

    path: str
    video_names: tuple[str, ...]
    video_index: NDArray[np.int32]
    time_us: NDArray[np.int64]
    boxes_01: NDArray[np.float64]
    action_id: NDArray[np.int32]
    person_id: NDArray[np.int64] | None = None
    score: NDArray[np.float64] | None = None
    line: NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    empty_keyframes: tuple[Keyframe, ...] = ()
    track_id: NDArray[np.int64] | None = None
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        rows = len(self.video_index)
        if rows and not len(self.line):
            object.__setattr__(self, "line", np.zeros(rows, np.int32))
        for name in _COLUMNS:
            column = getattr(self, name)
            if column is not None and len(column) != rows:
                raise ValueError(f"{name} has {len(column)} rows, video_index {rows}")

    def __len__(self) -> int:
        return len(self.video_index)

    def keyframe(self, row: int) -> Keyframe:
        """Return the keyframe of one row."""
        return Keyframe(self.video_names[self.video_index[row]], float(self.time_us[row] / 1e6))

    def keyframes(self) -> list[Keyframe]:
        """Return every keyframe once, sorted; those without persons too."""
        both = np.stack([self.video_index.astype(np.int64), self.time_us], axis=1)
        rows = [(self.video_names[v], t / 1e6) for v, t in np.unique(both, axis=0).tolist()]
        return sorted({Keyframe(*row) for row in rows} | set(self.empty_keyframes))

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> AvaRows:
        """Return the rows that `index` (a mask or positions) names."""
        columns = {name: getattr(self, name) for name in ("video_index", *_COLUMNS)}
        return replace(self, **{n: col[index] for n, col in columns.items() if col is not None})

    @classmethod
    def from_rows(
        cls,
        keyframes: Sequence[Keyframe],
        *,
        boxes_01: NDArray[np.floating] | Sequence[Sequence[float]],
        action_id: NDArray[np.integer] | Sequence[int],
        person_id: NDArray[np.integer] | Sequence[int] | None = None,
        score: NDArray[np.floating] | Sequence[float] | None = None,
        track_id: NDArray[np.integer] | Sequence[int] | None = None,
        empty_keyframes: Iterable[Keyframe] = (),
        path: str = "(memory)",
    ) -> AvaRows:
        """Build from one entry per row (a box with two actions is two rows)."""
        videos: dict[str, int] = {}
        index = [videos.setdefault(key.video_id, len(videos)) for key in keyframes]
        return cls(
            path=path,
            video_names=tuple(videos),
            video_index=np.array(index, np.int32).reshape(-1),
            time_us=np.array([time_us_of(key.time_s) for key in keyframes], np.int64).reshape(-1),
            boxes_01=np.asarray(boxes_01, np.float64).reshape(-1, 4),
            action_id=np.asarray(action_id, np.int32).reshape(-1),
            person_id=None if person_id is None else np.asarray(person_id, np.int64).reshape(-1),
            score=None if score is None else np.asarray(score, np.float64).reshape(-1),
            track_id=None if track_id is None else np.asarray(track_id, np.int64).reshape(-1),
            empty_keyframes=tuple(empty_keyframes),
        )


def time_us_of(time_s: float) -> int:
    """Return the key of a time: whole microseconds, rounded as `%.6f` rounds.

    Raises `UserError` for a time that is no finite number.
    """
    if not math.isfinite(time_s):
        raise UserError(f"time {time_s} s: a finite number of seconds is required")
    return int(f"{time_s:.6f}".replace(".", ""))


def read_keyframes(path: Path) -> list[tuple[str, int]]:
    """Read rows of (video id, time); returns times in microseconds."""
    keyframes: list[tuple[str, int]] = []
    problems = Problems()
    for line, fields in _lines(path, problems):
        try:
            if len(fields) != 2:
                raise ValueError(f"expected 2 columns (video_id, time), found {len(fields)}")
            keyframes.append((check_video_id(fields[0]), parse_time_us(fields[1])))
        except ValueError as error:
            problems.add(path, line, str(error))
    problems.raise_if_any()
    return keyframes


@dataclass
class _Columns:
    """Rows as they are parsed one by one."""

    videos: dict[str, int] = field(default_factory=dict)
    video_index: list[int] = field(default_factory=list)
    time_us: list[int] = field(default_factory=list)
    boxes: list[tuple[float, float, float, float]] = field(default_factory=list)
    action: list[int] = field(default_factory=list)
    last: list[float | int | None] = field(default_factory=list)
    track: list[int | None] = field(default_factory=list)
    line: list[int] = field(default_factory=list)
    empty: list[tuple[str, int]] = field(default_factory=list)


def read_rows(path: Path, form: Form, problems: Problems | None = None) -> AvaRows:
    """Read a file of one form; raises `UserError` naming each malformed row.

    problems: takes the malformed rows (one that does not raise: they are left out).
    """
    columns, problems = _Columns(), Problems() if problems is None else problems
    _parse_rows(path, _lines(path, problems), form, columns, problems)
    problems.raise_if_any()
    if not columns.line and not columns.empty:
        raise UserError(f"{path}: no rows ({form.name} expected)")
    person = score = track = None
    if form.last == "score":
        score = np.array(columns.last, np.float64).reshape(-1)
    elif any(value is not None for value in columns.last):
        person = np.array([-1 if v is None else v for v in columns.last], np.int64)
    if any(value is not None for value in columns.track):
        track = np.array([-1 if v is None else v for v in columns.track], np.int64)
    return AvaRows(
        path=str(path),
        video_names=tuple(columns.videos),
        video_index=np.array(columns.video_index, np.int32),
        time_us=np.array(columns.time_us, np.int64),
        boxes_01=np.array(columns.boxes, np.float64).reshape(-1, 4),
        action_id=np.array(columns.action, np.int32),
        person_id=person,
        score=score,
        track_id=track,
        line=np.array(columns.line, np.int32),
        empty_keyframes=tuple(Keyframe(video, us / 1e6) for video, us in columns.empty),
    )


def note_bad_rows(
    path: Path, lines: Iterable[str], form: Form, problems: Problems, *, first_line: int
) -> None:
    """Add the malformed rows among some lines of a file to `problems`.

    first_line: the number in the file, from 1, of the first of them. Raises `UserError` for a line
    that is no row at all.
    """
    rows = _not_blank(csv_rows(path, lines, first_line=first_line))
    _parse_rows(path, rows, form, _Columns(), problems)


def _lines(path: Path, problems: Problems) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number, fields) of every row of a file that is not blank."""
    lines = text_lines(path, what="table of comma-separated rows")
    return _not_blank(csv_rows(path, lines, problems=problems))


def _not_blank(rows: Iterable[tuple[int, list[str]]]) -> Iterator[tuple[int, list[str]]]:
    for line, fields in rows:
        if fields and not (len(fields) == 1 and not fields[0].strip()):
            yield line, fields


def _parse_rows(
    path: Path,
    rows: Iterable[tuple[int, list[str]]],
    form: Form,
    columns: _Columns,
    problems: Problems,
) -> None:
    for line, fields in rows:
        try:
            _parse_row(fields, form, columns, line)
        except ValueError as error:
            problems.add(path, line, str(error))


def _parse_row(fields: list[str], form: Form, columns: _Columns, line: int) -> None:
    count = len(fields)
    if count not in form.columns:
        required = "8" if form is not DETECTIONS else "8 or 9"
        raise ValueError(
            f"expected {required} columns (video_id, time, x1, y1, x2, y2, {form.layout}), "
            f"found {count}{_other_separator(fields)}"
        )
    video, time_us = check_video_id(fields[0]), parse_time_us(fields[1])
    if count == 2:
        columns.empty.append((video, time_us))
        return
    x1, y1, x2, y2 = (
        finite_number(t, n) for t, n in zip(fields[2:6], ("x1", "y1", "x2", "y2"), strict=True)
    )
    if form.in_frame:
        check_box(x1, y1, x2, y2)
    action = _action(fields[6], form)
    read = finite_number if form.last == "score" else _whole
    last = read(fields[7], form.last) if count > 7 else None
    columns.track.append(_whole(fields[8], "track_id") if count == 9 else None)
    columns.video_index.append(columns.videos.setdefault(video, len(columns.videos)))
    columns.time_us.append(time_us)
    columns.boxes.append((x1, y1, x2, y2))
    columns.action.append(action)
    columns.last.append(last)
    columns.line.append(line)


def _other_separator(fields: list[str]) -> str:
    """Say which mark stands between the columns of a row that holds no comma."""
    for mark, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(fields) == 1 and mark in fields[0]:
            return f" (commas are required between columns, not {name})"
    return ""


def check_box(x1: float, y1: float, x2: float, y2: float) -> None:
    """Raise ValueError for a box outside the frame or inside out."""
    low, high = -EDGE_TOLERANCE, 1 + EDGE_TOLERANCE
    for name, value in (("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)):
        if not low <= value <= high:
            hint = " (pixels? divide by width and height)" if abs(value) > 2 else ""
            raise ValueError(f"{name} = {value:g} is outside [0, 1]{hint}")
    if x1 > x2 or y1 > y2:
        name = "x1 > x2" if x1 > x2 else "y1 > y2"
        raise ValueError(
            f"the box is inside out, {name}: x1, y1, x2, y2 = {x1:g}, {y1:g}, {x2:g}, {y2:g} "
            "(corners are expected, not width and height)"
        )


def parse_time_us(text: str) -> int:
    """Return a time in microseconds, rounded as `%.6f` rounds."""
    time_s = finite_number(text, "time")
    if not 0 <= time_s <= MAX_TIME_S:
        raise ValueError(f"time must be from 0 to {MAX_TIME_S:g} seconds, found {text.strip()!r}")
    return time_us_of(time_s)


def _whole(text: str, name: str) -> int:
    value = finite_number(text, name)
    if value != int(value):
        raise ValueError(f"{name} must be a whole number, found {text.strip()!r}")
    try:
        number = int(text) if len(text) < 40 else 1 << 63
    except ValueError:  # such as 1.0 or 1e3
        number = int(value) if abs(value) < 2**53 else 1 << 63
    if not -(1 << 63) <= number < 1 << 63:
        raise ValueError(
            f"{name} must be a whole number below 2**63, found {text.strip()[:40]!r}"
            f"{'...' * (len(text.strip()) > 40)}"
        )
    return number


def _action(text: str, form: Form) -> int:
    if form.action_may_miss and text.strip() in ("", "-1"):
        return -1
    action = _whole(text, "action_id")
    if not 0 <= action < 2**31:
        raise ValueError(f"action_id must be a whole number from 0, found {text.strip()!r}")
    return action
