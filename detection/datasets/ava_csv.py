"""AVA's CSV files: the only place that knows their text.

Columns, without a header: `video_id, time, x1, y1, x2, y2` and then
ground truth `action_id, person_id`; detections `action_id, score[, track_id]`; person boxes (FAIR's
form) `label or empty, score`. Boxes are fractions of the frame, times are seconds. A row of two
columns is a keyframe without persons (AVA-Kinetics).

The text key of a keyframe is its time with six decimals: `time_us` holds exactly that, as a whole
number of microseconds.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from detection.datasets import ava_csv_bulk, ava_csv_oddities, ava_csv_rows
from detection.datasets.ava_csv_oddities import check_meets_frame as check_meets_frame
from detection.datasets.ava_csv_oddities import check_probabilities as check_probabilities
from detection.datasets.ava_csv_rows import DETECTIONS, GROUND_TRUTH, PERSON_BOXES, Form
from detection.datasets.ava_csv_rows import AvaRows as AvaRows
from detection.datasets.ava_csv_rows import time_us_of as time_us_of
from detection.errors import Problems, UserError
from detection.files import replacing, write_text
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap


def format_time(time_s: float) -> str:
    """Return AVA's text of a time: `0902` when whole, else six decimals.

    Raises `UserError` for a time that AVA's files cannot hold (below 0, above 1e9 s).
    """
    return _format_time_us(time_us_of(time_s))


def read_ground_truth(path: str | Path) -> AvaRows:
    """Read labelled boxes: 8 columns, 7 without person ids, 2 for a keyframe without persons.

    Raises `UserError` naming each malformed row (at most ten, then a count).
    """
    return _read(Path(path), GROUND_TRUTH)


def read_ground_truth_leniently(path: str | Path, problems: Problems) -> AvaRows:
    """Read as `read_ground_truth` does, but take boxes as they are and go on after bad rows.

    Boxes may lie outside the frame or be inside out. A row that cannot be read at all is told to
    `problems`, which may raise or not.
    """
    form = replace(GROUND_TRUTH, in_frame=False)
    path = Path(path)
    raw = ava_csv_bulk.read_rows_bulk(path, form) or ava_csv_rows.read_rows(path, form, problems)
    return _with_warnings(raw, form)


def read_detections(path: str | Path) -> AvaRows:
    """Read scored boxes: 8 columns, or 9 with a track id.

    Scores outside [0, 1] and boxes outside the frame are warnings, as the official scripts take
    them; raises `UserError` naming each malformed row (at most ten, then a count).
    """
    return _read(Path(path), DETECTIONS)


def read_person_boxes(path: str | Path) -> AvaRows:
    """Read a person detector's boxes in FAIR's form; `action_id` is -1 where the label is empty.

    Raises `UserError` naming malformed rows, and the first score that is no probability.
    """
    rows = _read(Path(path), PERSON_BOXES)
    check_probabilities(rows)
    return rows


def read_keyframe_list(path: str | Path) -> frozenset[Keyframe]:
    """Read `video_id,time` rows, such as a list of excluded keyframes; it may be empty."""
    times = ava_csv_rows.read_keyframes(Path(path))
    return frozenset(Keyframe(video, time_us / 1e6) for video, time_us in times)


def write_ground_truth(path: str | Path, rows: AvaRows) -> None:
    """Write labelled boxes, and keyframes without persons as rows of two columns."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for row in range(len(rows)):
            video = rows.video_names[rows.video_index[row]]
            box = ",".join(map(_number, rows.boxes_01[row].tolist()))
            action = "" if rows.action_id[row] < 0 else str(rows.action_id[row])
            person = "" if rows.person_id is None else f",{rows.person_id[row]}"
            file.write(f"{_quoted(video)},{_format_time_us(int(rows.time_us[row]))},")
            file.write(f"{box},{action}{person}\n")
        for key in rows.empty_keyframes:
            file.write(f"{_quoted(key.video_id)},{format_time(key.time_s)}\n")


def write_detections(
    path: str | Path,
    detections: Iterable[Detections],
    label_map: LabelMap,
    *,
    multiply_person_score: bool = False,
    least_score: float = 0.0,
) -> None:
    """Write one row per (box, class), scores as the shortest text that gives the same float32.

    multiply_person_score: write action score times the person's score.
    least_score: rows of lower scores are left out.
    """
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for found in detections:
            scores = np.asarray(found.action_scores, np.float32)
            if scores.shape[1] != len(label_map):
                raise ValueError(f"{scores.shape[1]} score columns, {len(label_map)} classes")
            if multiply_person_score:
                scores = scores * found.boxes.score[:, None]
            key = f"{_quoted(found.keyframe.video_id)},{format_time(found.keyframe.time_s)}"
            for box, row in zip(found.boxes.xyxy_01, scores, strict=True):
                head = f"{key},{','.join(map(_number, box))},"
                kept = (
                    np.flatnonzero(row >= least_score).tolist() if least_score else range(len(row))
                )
                file.writelines(f"{head}{label_map.ids[i]},{_number(row[i])}\n" for i in kept)


def write_person_boxes(path: str | Path, boxes: Iterable[tuple[Keyframe, ActorBoxes]]) -> None:
    """Write a person detector's boxes in FAIR's form (empty label, score last)."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        for key, actors in boxes:
            head = f"{_quoted(key.video_id)},{format_time(key.time_s)}"
            for box, score in zip(actors.xyxy_01, actors.score, strict=True):
                file.write(f"{head},{','.join(map(_number, box))},,{_number(score)}\n")


def write_keyframe_list(path: str | Path, keyframes: Iterable[Keyframe]) -> None:
    """Write `video_id,time` rows, sorted."""
    rows = (f"{_quoted(k.video_id)},{format_time(k.time_s)}\n" for k in sorted(set(keyframes)))
    write_text(path, "".join(rows))


def _read(path: Path, form: Form) -> AvaRows:
    """Read many rows at a time, or one by one where there is anything to say about them."""
    raw = ava_csv_bulk.read_rows_bulk(path, form, name_bad_rows=True)
    if raw is None and form.in_frame:
        _name_bad_boxes(path, form)
    return _with_warnings(raw or ava_csv_rows.read_rows(path, form), form)


def _name_bad_boxes(path: Path, form: Form) -> None:
    """Raise `UserError` where nothing but boxes is wrong: sooner than by reading row by row."""
    raw = ava_csv_bulk.read_rows_bulk(path, replace(form, in_frame=False))
    if raw is None:
        return
    problems = Problems()
    low, high = -ava_csv_rows.EDGE_TOLERANCE, 1 + ava_csv_rows.EDGE_TOLERANCE
    boxes = raw.boxes_01
    bad = (boxes < low).any(axis=1) | (boxes > high).any(axis=1)
    bad |= (boxes[:, 0] > boxes[:, 2]) | (boxes[:, 1] > boxes[:, 3])
    for row in np.flatnonzero(bad).tolist():
        try:
            ava_csv_rows.check_box(*boxes[row].tolist())
        except ValueError as error:
            problems.add(path, int(raw.line[row]), str(error))
    problems.raise_if_any()


def _with_warnings(rows: AvaRows, form: Form) -> AvaRows:
    return replace(rows, warnings=tuple(ava_csv_oddities.oddities(rows, form)))


def _number(value: Any) -> str:
    """Return the shortest text that reads back as this number in its own precision."""
    if abs(value) < 1e-4:
        return f"{value!s}"
    return np.format_float_positional(value, trim="-")


def _format_time_us(time_us: int) -> str:
    if not 0 <= time_us <= ava_csv_rows.MAX_TIME_S * 1_000_000:
        raise UserError(
            f"time {Decimal(time_us) / 1_000_000:.15g} s cannot be written: annotations hold "
            f"times from 0 to {ava_csv_rows.MAX_TIME_S:g} seconds"
        )
    whole, fraction = divmod(time_us, 1_000_000)
    return f"{whole}.{fraction:06d}" if fraction else f"{whole:04d}"


def _quoted(video_id: str) -> str:
    """Quote a video id that a plain CSV field cannot hold."""
    if any(mark in video_id for mark in ',"\r\n'):
        return '"' + video_id.replace('"', '""') + '"'
    return video_id
