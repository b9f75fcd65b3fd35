"""AVA's CSV files: the only place that knows their text.

Columns, without a header: `video_id, time, x1, y1, x2, y2` and then
ground truth `action_id, person_id`; detections `action_id, score[, track_id]`; person boxes (FAIR's
form) `label or empty, score`. Boxes are fractions of the frame, times are seconds. A row of two
columns is a keyframe with nobody in it (AVA-Kinetics).

The text key of a keyframe is its time with six decimals: `time_us` holds exactly that, as a whole
number of microseconds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets import ava_csv_bulk, ava_csv_rows
from detection.datasets.ava_csv_rows import DETECTIONS, GROUND_TRUTH, PERSON_BOXES, Form, RawRows
from detection.errors import Problems, UserError
from detection.files import replacing, write_text
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap


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
        for name in ("time_us", "boxes_01", "action_id", "person_id", "score", "line", "track_id"):
            column = getattr(self, name)
            if column is not None and len(column) != rows:
                raise ValueError(f"{name} has {len(column)} rows, video_index {rows}")

    def __len__(self) -> int:
        return len(self.video_index)

    def keyframe(self, row: int) -> Keyframe:
        """Return the keyframe of one row."""
        return Keyframe(self.video_names[self.video_index[row]], float(self.time_us[row] / 1e6))

    def keyframes(self) -> list[Keyframe]:
        """Return every keyframe once, sorted; those with nobody in them too."""
        both = np.stack([self.video_index.astype(np.int64), self.time_us], axis=1)
        rows = [(self.video_names[v], t / 1e6) for v, t in np.unique(both, axis=0).tolist()]
        return sorted({Keyframe(*row) for row in rows} | set(self.empty_keyframes))

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> AvaRows:
        """Return the rows that `index` (a mask or positions) names."""

        def chosen(column: NDArray[Any] | None) -> Any:
            return None if column is None else column[index]

        return replace(
            self,
            video_index=chosen(self.video_index),
            time_us=chosen(self.time_us),
            boxes_01=chosen(self.boxes_01),
            action_id=chosen(self.action_id),
            person_id=chosen(self.person_id),
            score=chosen(self.score),
            line=chosen(self.line),
            track_id=chosen(self.track_id),
        )

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


def format_time(time_s: float) -> str:
    """Return AVA's text of a time: `0902` when whole, else six decimals.

    Raises `UserError` for a time that AVA's files cannot hold (below 0, above 1e9 s).
    """
    return _format_time_us(time_us_of(time_s))


def read_ground_truth(path: str | Path) -> AvaRows:
    """Read labelled boxes: 8 columns, 7 without person ids, 2 for a keyframe with nobody in it.

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
    raw = ava_csv_bulk.read_rows(path, form) or ava_csv_rows.read_rows(path, form, problems)
    return _as_rows(path, form, raw)


def read_detections(path: str | Path) -> AvaRows:
    """Read scored boxes: 8 columns, or 9 with a track id.

    Scores outside [0, 1] and boxes outside the frame are warnings, as the official scripts take
    them; raises `UserError` naming each malformed row (at most ten, then a count).
    """
    return _read(Path(path), DETECTIONS)


def read_person_boxes(path: str | Path) -> AvaRows:
    """Read a person detector's boxes in FAIR's form; `action_id` is -1 where the label is empty."""
    return _read(Path(path), PERSON_BOXES)


def read_keyframe_list(path: str | Path) -> frozenset[Keyframe]:
    """Read `video_id,time` rows, such as a list of excluded keyframes; it may be empty."""
    times = ava_csv_rows.read_keyframes(Path(path))
    return frozenset(Keyframe(video, time_us / 1e6) for video, time_us in times)


def write_ground_truth(path: str | Path, rows: AvaRows) -> None:
    """Write labelled boxes, and keyframes with nobody as rows of two columns."""
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
) -> None:
    """Write one row per (box, class), scores as the shortest text that gives the same float32.

    multiply_person_score: write action score times the person's score.
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
                texts = map(_number, row)
                file.writelines(
                    f"{head}{i},{text}\n" for i, text in zip(label_map.ids, texts, strict=True)
                )


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
    raw = ava_csv_bulk.read_rows(path, form, name_bad_rows=True)
    if raw is None and form.in_frame:
        _name_bad_boxes(path, form)
    return _as_rows(path, form, raw or ava_csv_rows.read_rows(path, form))


def _name_bad_boxes(path: Path, form: Form) -> None:
    """Raise `UserError` where nothing but boxes is wrong: sooner than by reading row by row."""
    raw = ava_csv_bulk.read_rows(path, replace(form, in_frame=False))
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


def _as_rows(path: Path, form: Form, raw: RawRows) -> AvaRows:
    return AvaRows(
        path=str(path),
        video_names=raw.video_names,
        video_index=raw.video_index,
        time_us=raw.time_us,
        boxes_01=raw.boxes_01,
        action_id=raw.action_id,
        person_id=raw.person_id,
        score=raw.score,
        line=raw.line,
        empty_keyframes=tuple(Keyframe(video, us / 1e6) for video, us in raw.empty_keyframes),
        track_id=raw.track_id,
        warnings=tuple(ava_csv_rows.oddities(raw, form)),
    )


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
