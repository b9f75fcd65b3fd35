"""Rows of text into columns, many at once, for `ava_csv`.

Reads well-formed files; returns None for all others, which `ava_csv_rows` then reads row by row:
it alone words the errors. Both give the same bits (tested).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv_rows import (
    EDGE_TOLERANCE,
    MAX_TIME_S,
    AvaRows,
    Form,
    note_bad_rows,
    parse_time_us,
)
from detection.datasets.plain_names import check_video_id
from detection.errors import Problems, UserError
from detection.formats.csv_words import Fields, OddFile, changes, chunks, decimals, split
from detection.structures import Keyframe

# NumPy lets go of the interpreter in long operations, so that a second thread helps.
THREADS = 2
# Of so many chunks with something odd in them rows are read one by one (a second for ten).
MOST_ODD_CHUNKS = 20


def read_rows_bulk(path: Path, form: Form, *, name_bad_rows: bool = False) -> AvaRows | None:
    """Read a file of one form, or return None where a row needs a closer look.

    name_bad_rows: raise `UserError` naming each malformed row, where a chunk is enough to tell.
    """
    if not path.is_file():  # missing, or a pipe that never ends: the other reader says so
        return None
    parts: list[_Part] = []
    try:
        for part in _parts(path, form):
            parts.append(part)
        return _joined(path, parts, form)
    except (OddFile, UnicodeDecodeError):
        if name_bad_rows:
            _name_bad_rows(path, form, fine=len(parts))
        return None


def _name_bad_rows(path: Path, form: Form, *, fine: int) -> None:
    """Raise `UserError` naming each malformed row, read row by row in the chunks that hold one.

    One bad row among millions is so found in the time of reading. Returns where it takes the whole
    file to tell what is malformed, or nothing is.  fine: how many chunks have none.
    """
    problems, first_line, odd = Problems(), 1, 0
    try:
        for number, chunk in enumerate(_whole_lines(path)):
            plain = chunk.replace(b"\r\n", b"\n")
            if any(mark in plain for mark in (b'"', b"\0", b"\r")):
                return
            try:
                if number >= fine:
                    _parse(chunk, form)
            except OddFile:
                odd += 1
                if odd > MOST_ODD_CHUNKS:
                    return
                lines = plain.decode().removesuffix("\n").split("\n")
                ended = (line + "\n" for line in lines)
                note_bad_rows(path, ended, form, problems, first_line=first_line)
            first_line += plain.count(b"\n")
    except (OSError, OddFile, UnicodeDecodeError, UserError):
        return
    problems.raise_if_any()


@dataclass
class _Part:
    """The columns of one chunk; `line` counts from 0 within the chunk."""

    num_lines: int
    width: int = 0  # columns of the rows that are not empty keyframes
    videos: tuple[str, ...] = ()
    empty: tuple[tuple[str, int], ...] = ()
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)


def _parts(path: Path, form: Form) -> Iterator[_Part]:
    """Yield the parsed chunks of a file in order, a few of them ahead."""
    ahead: deque[Future[_Part]] = deque()
    with ThreadPoolExecutor(THREADS) as pool:
        for chunk in _whole_lines(path):
            ahead.append(pool.submit(_parse, chunk, form))
            if len(ahead) > THREADS:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _whole_lines(path: Path) -> Iterator[bytes]:
    """Yield the chunks of a file, the first without its byte-order mark."""
    for number, chunk in enumerate(chunks(path)):
        yield chunk if number else chunk.removeprefix(b"\xef\xbb\xbf")


def _parse(chunk: bytes, form: Form) -> _Part:
    """Parse whole lines; raises `OddFile` where one of them is not plainly right."""
    if not chunk:
        return _Part(0)
    fields_by_width, lines_by_width = split(chunk)
    part = _Part(sum(map(len, lines_by_width.values())))
    for width, fields in fields_by_width.items():
        if width not in form.columns or (width > 2 and part.width):
            raise OddFile  # wrong, or rows with and without the last columns
        if width == 2:
            times = enumerate(_times_us(fields).tolist())
            part.empty = tuple((_video(fields.text(0, row)), time) for row, time in times)
        else:
            part.width = width
            part.videos, part.arrays = _columns(fields, width, form)
            part.arrays["line"] = lines_by_width[width].astype(np.int32)
    return part


def _columns(
    fields: Fields, width: int, form: Form
) -> tuple[tuple[str, ...], dict[str, NDArray[Any]]]:
    # A box with many classes is as many rows that begin alike: parse the beginning once.
    starts = changes(fields, 0, 5)
    boxes = fields.rows(starts)
    times = np.diff(starts, append=len(fields))
    videos, index = _videos(boxes)
    corners = np.stack([_floats(boxes, column) for column in range(2, 6)], axis=1)
    _check_boxes(corners, form)
    arrays: dict[str, NDArray[Any]] = {
        "video": np.repeat(index.astype(np.int32), times),
        "time_us": np.repeat(_times_us(boxes), times),
        "boxes": np.repeat(corners, times, axis=0),
        "action": _integers(fields, 6, missing=form.action_may_miss).astype(np.int32),
    }
    if form.last == "score":
        arrays["score"] = _floats(fields, 7)
    elif width == 8:
        arrays["person"] = _integers(fields, 7)
    if width == 9:
        arrays["track"] = _integers(fields, 8)
    return videos, arrays


def _joined(path: Path, parts: Sequence[_Part], form: Form) -> AvaRows:
    """Join the chunks of a file; raises `OddFile` where it has no row, or rows of two widths."""
    widths = {part.width for part in parts} - {0}
    if len(widths) > 1 or not any(part.width or part.empty for part in parts):
        raise OddFile
    videos: dict[str, int] = {}
    first_line = 1
    for part in parts:
        if part.arrays:
            numbers = [videos.setdefault(name, len(videos)) for name in part.videos]
            part.arrays["video"] = np.array(numbers, np.int32)[part.arrays["video"]]
            part.arrays["line"] += np.int32(first_line)
        first_line += part.num_lines

    has_person = form.last == "person_id" and widths == {8}

    def column(name: str, dtype: type, *shape: int) -> NDArray[Any]:
        found = [part.arrays.pop(name) for part in parts if part.arrays]
        return np.concatenate([np.zeros((0, *shape), dtype), *found], dtype=dtype)

    return AvaRows(
        path=str(path),
        video_names=tuple(videos),
        video_index=column("video", np.int32),
        time_us=column("time_us", np.int64),
        boxes_01=column("boxes", np.float64, 4),
        action_id=column("action", np.int32),
        person_id=column("person", np.int64) if has_person else None,
        score=column("score", np.float64) if form.last == "score" else None,
        track_id=column("track", np.int64) if widths == {9} else None,
        line=column("line", np.int32),
        empty_keyframes=tuple(Keyframe(v, us / 1e6) for part in parts for v, us in part.empty),
    )


def _videos(fields: Fields) -> tuple[tuple[str, ...], NDArray[np.int64]]:
    """Return the distinct names of column 0 and the position in them (R,) of each row."""
    starts = changes(fields, 0, 0)
    names: dict[str, int] = {}
    numbers = [names.setdefault(_video(fields.text(0, row)), len(names)) for row in starts.tolist()]
    lengths = np.diff(starts, append=len(fields))
    return tuple(names), np.repeat(np.array(numbers, np.int64), lengths)


def _video(text: str) -> str:
    return _plainly(check_video_id, text)  # type: ignore[no-any-return]


def _times_us(fields: Fields) -> NDArray[np.int64]:
    numbers = decimals(fields, 1)
    fine = numbers.decimals <= 6
    time_us = numbers.mantissa.astype(np.int64) * 10 ** np.where(fine, 6 - numbers.decimals, 0)
    too_late = numbers.as_float() > MAX_TIME_S
    time_us[too_late] = 0
    for row in {*numbers.odd.tolist(), *np.flatnonzero(~fine | too_late).tolist()}:
        time_us[row] = _plainly(parse_time_us, fields.text(1, row))
    return np.asarray(time_us, np.int64)


def _floats(fields: Fields, column: int) -> NDArray[np.float64]:
    numbers = decimals(fields, column)
    values = numbers.as_float()
    if len(numbers.odd):
        texts = [fields.text(column, row) for row in numbers.odd.tolist()]
        values[numbers.odd] = [_plainly(float, text) for text in texts]
        if not np.isfinite(values[numbers.odd]).all():
            raise OddFile
    return values


def _integers(fields: Fields, column: int, *, missing: bool = False) -> NDArray[np.int64]:
    """Read whole numbers from 0; -1 for an empty field or "-1" where one may be missing."""
    numbers = decimals(fields, column)
    values = numbers.mantissa.astype(np.int64)
    if numbers.decimals.any() or (values >= 2**31).any():
        raise OddFile
    for row in numbers.odd.tolist():
        if not missing or fields.text(column, row).strip() not in ("", "-1"):
            raise OddFile
        values[row] = -1
    return values


def _check_boxes(boxes: NDArray[np.float64], form: Form) -> None:
    if form.in_frame and len(boxes):
        inside = boxes.min() >= -EDGE_TOLERANCE and boxes.max() <= 1 + EDGE_TOLERANCE
        upright = (boxes[:, 0] <= boxes[:, 2]).all() and (boxes[:, 1] <= boxes[:, 3]).all()
        if not inside or not upright:
            raise OddFile


def _plainly(parse: Callable[[str], Any], text: str) -> Any:
    try:
        return parse(text)
    except ValueError:
        raise OddFile from None
