"""Writes labelled boxes of any source to a data set folder: the last step of every importer.

An importer reads its format into one `SourceVideo` per video and passes them to `write_dataset`,
which converts frame numbers to presentation times, checks the boxes, and writes the folder whole or
not at all. Legend: N rows of a video, one per box, keyframe and action.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detection.datasets.ava_csv import AvaRows, time_us_of, write_ground_truth
from detection.datasets.folder import DatasetFile, EvaluationPart, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, first_few, place_in, printable
from detection.files import new_dataset_folder, replacing, write_text
from detection.importers.exact_boxes import snapped
from detection.importers.source_videos import (
    copy_or_link_video,
    rename_notes,
    video_ids,
    write_video_sources,
)
from detection.structures import Keyframe, LabelMap
from detection.video.reader import SAME_TIME_S, FrameCounts, VideoReader
from detection.video.repairs import repair_lines

# Boxes drawn by hand may extend this far beyond the frame, in fractions of it.
OWN_OVERHANG_01 = 0.05
# Relative difference allowed between the aspect ratios of a stated frame size and of the video.
SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True)
class SourceVideo:
    """One video and its rows, as in the source.

    name: the source's name of the video.
    path: the video file.
    boxes: (N, 4) float64, x1, y1, x2, y2.
    action: (N,) column of the label map, -1 for a person without an action.
    person: (N,) int64 ids, None (for all videos) where the source has none.
    frame: (N,) int64 frame numbers from 0, in presentation order; None where `time_s` is given.
    time_s: (N,) float64 seconds on the video's clock; None where `frame` is given.
    size: (width, height) that boxes are relative to; (1, 1): fractions; None: the video's pixels.
    source_file: the annotation file, for messages.
    line: (N,) lines of `source_file`, 0 where it has none; or paths in JSON (`annotations[17]`).
    empty_frame: frames without persons.
    empty_time_s: times without persons.
    empty_below: all frames before this one that have no row are without persons.
    """

    name: str
    path: Path
    boxes: NDArray[np.float64]
    action: NDArray[np.int64]
    person: NDArray[np.int64] | None = None
    frame: NDArray[np.int64] | None = None
    time_s: NDArray[np.float64] | None = None
    size: tuple[float, float] | None = None
    source_file: str = ""
    line: Sequence[int | str] | None = None
    empty_frame: Sequence[int] = ()
    empty_time_s: Sequence[float] = ()
    empty_below: int = 0

    def __post_init__(self) -> None:
        if (self.frame is None) == (self.time_s is None):
            raise ValueError("either frame or time_s is required")
        for name in ("action", "person", "frame", "time_s", "line"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.boxes):
                raise ValueError(f"{name} has {len(column)} rows, boxes {len(self.boxes)}")

    def place(self, row: int) -> int | str | None:
        """Return where a row stands in `source_file`."""
        return None if self.line is None else self.line[row] or None


@dataclass(frozen=True)
class DatasetHeader:
    """Properties of the data set as a whole.

    name: of the data set.
    label_map: the classes.
    splits: video names (`SourceVideo.name`) by split.
    description: free text.
    exclusive: names of mutually exclusive classes by group.
    how_to_get: the command that makes the folder, for messages.
    """

    name: str
    label_map: LabelMap
    splits: Mapping[str, Sequence[str]]
    description: str = ""
    exclusive: Mapping[str, Sequence[str]] = field(default_factory=dict)
    how_to_get: str | None = None


@dataclass(frozen=True)
class ImportRules:
    """How to treat invalid rows.

    max_overhang_01: how far a box may extend beyond the frame, in fractions of it; it is clipped.
    leave_out: skip and list invalid rows; otherwise they are errors.
    leave_out_late: skip and list rows past the last frame, whatever `leave_out` says.
    decode: count frames by decoding each video: its header may list more than can be decoded.
    ascii_ids: ids of videos as `video_ids` makes them with `ascii_only`.
    """

    max_overhang_01: float = OWN_OVERHANG_01
    leave_out: bool = False
    leave_out_late: bool = False
    decode: bool = False
    ascii_ids: bool = False


@dataclass(frozen=True)
class SkippedRow:
    """A row that was left out.

    video_id: id in the data set.
    source: the source's name of the video.
    frame: frame number from 1, None where the row has a time.
    num_frames: frames of the video.
    box: x1, y1, x2, y2 as in the source.
    place: file and line.
    reason: what is wrong.
    """

    video_id: str
    source: str
    frame: int | None
    num_frames: int
    box: tuple[float, float, float, float]
    place: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What was written.

    num_videos: videos of the data set.
    num_rows: rows by split.
    left_out: the rows that were left out.
    num_clipped: boxes clipped to the frame.
    num_frames: frames of each video, by `SourceVideo.name`.
    notes: warnings and notes for the user, a line each.
    """

    num_videos: int
    num_rows: Mapping[str, int]
    left_out: tuple[SkippedRow, ...]
    num_clipped: int = 0
    num_frames: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _TimedRows:
    """The valid rows of a video, as they are written."""

    time_us: NDArray[np.int64]
    boxes_01: NDArray[np.float64]
    action: NDArray[np.int64]
    person: NDArray[np.int64] | None
    empty_us: list[int]
    left_out: list[SkippedRow]
    num_clipped: int
    frames: FrameCounts
    last_frame: int | None
    pixel_shape: Fraction | None
    repairs: list[str]


def write_dataset(
    out: str | Path,
    videos: Sequence[SourceVideo],
    *,
    header: DatasetHeader,
    rules: ImportRules,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out`: videos, annotations by split, label map, `dataset.yaml`.

    link: hard-link the source's videos in place of copying them. `left_out.csv` lists the rows that
    were left out, `video_sources.csv` the source's name of each video. Raises `UserError` naming
    file and line of what is wrong; then `out` stays as it was.
    """
    ids = video_ids([video.name for video in videos], ascii_only=rules.ascii_ids)
    _check_header(header, ids)
    timed: dict[str, _TimedRows] = {}
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        problems = Problems()
        for video in tqdm(videos, desc="reading videos", unit="video", disable=not show_progress):
            timed[video.name] = _time_rows(video, ids[video.name], rules, problems)
        problems.raise_if_any()  # before gigabytes are copied
        (folder / "videos").mkdir()
        for video in tqdm(videos, desc="copying videos", unit="video", disable=not show_progress):
            copy_or_link_video(video.path, folder / "videos", ids[video.name], link=link)
        num_rows = _write_splits(folder, header, ids, timed)
        left_out = tuple(row for name in sorted(timed) for row in timed[name].left_out)
        _write_left_out(folder, left_out)
        write_video_sources(folder, ids)
        whole = all(not (rows.time_us % 1_000_000).any() for rows in timed.values())
        _write_header(folder, header, whole_seconds=whole)
    return ImportReport(
        len(ids),
        num_rows,
        left_out,
        sum(rows.num_clipped for rows in timed.values()),
        {name: rows.frames.decodable for name, rows in timed.items()},
        (
            *rename_notes(ids),
            *_frame_notes(timed),
            *_pixel_notes(videos, timed),
            *(f"note: {line}" for line in repair_lines({n: d.repairs for n, d in timed.items()})),
        ),
    )


def _frame_notes(timed: Mapping[str, _TimedRows]) -> list[str]:
    """Name the videos with packets that yield no frame, and how frames were counted."""
    cases = []
    for name, rows in timed.items():
        packets, decodable = rows.frames.packets, rows.frames.decodable
        if packets == decodable or rows.last_frame is None:
            continue
        case = f"{printable(name)}: {packets} packets, {decodable} frames"
        if rows.last_frame >= decodable or rows.last_frame == packets - 1:
            but = " but" * (rows.last_frame >= decodable)
            case += f",{but} the last annotated frame is {rows.last_frame} (from 0)"
        cases.append(case)
    return [
        f"warning: {len(cases)} videos contain packets of which no frame can be decoded; frame "
        f"numbers count displayed frames, as players do: {first_few(cases)}"
    ] * bool(cases)


def _pixel_notes(videos: Sequence[SourceVideo], timed: Mapping[str, _TimedRows]) -> list[str]:
    odd = [
        f"{printable(video.name)} ({shape.numerator}:{shape.denominator})"
        for video in videos
        if video.size is None and (shape := timed[video.name].pixel_shape) is not None
    ]
    return [
        f"warning: pixels of {len(odd)} videos are not square; boxes are read in stored pixels, "
        f"not in those of a player's window: {first_few(odd)}"
    ] * bool(odd)


def fractions_of(
    video: SourceVideo, size_px: tuple[int, int], max_overhang_01: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, str]]:
    """Return (N, 4) boxes clipped to the frame, (N,) which were clipped, and errors by row."""
    width, height = video.size or size_px
    with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is named below
        boxes = snapped(video.boxes / np.array([width, height, width, height], np.float64))
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(boxes).all(axis=1))
    boxes = np.where(finite[:, None], boxes, 0.0)
    overhang = np.maximum(-boxes.min(axis=1, initial=0), boxes.max(axis=1, initial=1) - 1)
    inside = np.clip(boxes, 0, 1)
    upright: NDArray[np.bool_] = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    area: NDArray[np.bool_] = (inside[:, 0] < inside[:, 2]) & (inside[:, 1] < inside[:, 3])
    wrong = {}
    for row in np.flatnonzero(~(finite & upright & area & (overhang <= max_overhang_01))).tolist():
        shown = ", ".join(f"{edge:g}" for edge in video.boxes[row].tolist())
        reason = "the box extends too far beyond the frame"
        if not finite[row]:
            reason = "the box has an edge that is not a finite number"
        elif not upright[row]:
            reason = "the box is inside out or has no area"
        elif not area[row]:
            reason = "the box lies outside the frame"
        of = "fractions" if (width, height) == (1, 1) else f"a frame of {width:g}x{height:g}"
        wrong[row] = f"{reason}: x1, y1, x2, y2 = {shown} in {of}"
    return inside, (overhang > 0) & finite, wrong


def _time_rows(
    video: SourceVideo, video_id: str, rules: ImportRules, problems: Problems
) -> _TimedRows:
    """Find the time and the box in fractions of every row; leave out or report the invalid rows."""
    with VideoReader(video.path) as reader:
        times_s = reader.decoded_times_s() if rules.decode else reader.frame_times_s()
        size_px = reader.frame_size()
        pixel_shape = reader.pixel_shape
        counts = reader.frame_counts() if not rules.decode else None
        repairs = reader.repairs()
    if counts is not None and video.frame is not None:
        repairs = replace(repairs, opening_packets=0)  # reported by `_frame_notes`
    _check_shape(video, size_px, pixel_shape, problems)
    boxes_01, clipped, wrong = fractions_of(video, size_px, rules.max_overhang_01)
    row_times_s, late = _row_times_s(video, times_s)
    wrong |= {row: _outside_reason(video, row, times_s) for row in late.tolist()}
    left_out_rows = set(wrong) if rules.leave_out else set(late.tolist() * rules.leave_out_late)
    left_out = [
        _skipped_row(video, video_id, row, len(times_s), wrong[row])
        for row in sorted(left_out_rows)
    ]
    for row in sorted(set(wrong) - left_out_rows):
        problems.add(video.source_file, video.place(row), f"{video.name}: {wrong[row]}")
    kept = np.ones(len(boxes_01), bool)
    kept[list(wrong)] = False
    time_of = {time_s: time_us_of(time_s) for time_s in np.unique(row_times_s[kept]).tolist()}
    empty_s = [float(times_s[f]) for f in video.empty_frame if 0 <= f < len(times_s)]
    empty_s += [*times_s[: video.empty_below].tolist(), *video.empty_time_s]
    empty_us = sorted({time_us_of(time_s) for time_s in empty_s})
    earliest_us = min([*time_of.values(), *empty_us], default=0)
    if earliest_us < 0:
        message = (
            f"time {earliest_us / 1e6:.6f} s: annotations require times from 0 s on; make a video "
            "whose clock begins at 0 (ffmpeg -i IN -c copy OUT.mp4)"
        )
        problems.add(video.path, None, message)
    last = None
    if video.frame is not None:
        last = max([*video.frame.tolist(), *video.empty_frame], default=0)
    return _TimedRows(
        np.array([time_of[time_s] for time_s in row_times_s[kept].tolist()], np.int64),
        boxes_01[kept],
        video.action[kept],
        None if video.person is None else video.person[kept],
        empty_us,
        left_out,
        int((clipped & kept).sum()),
        counts or FrameCounts(len(times_s), len(times_s)),
        last,
        pixel_shape,
        repairs.descriptions(),
    )


def _skipped_row(
    video: SourceVideo, video_id: str, row: int, num_frames: int, reason: str
) -> SkippedRow:
    place = place_in(video.source_file, video.place(row))
    frame = None if video.frame is None else int(video.frame[row]) + 1
    x1, y1, x2, y2 = video.boxes[row].tolist()
    return SkippedRow(video_id, video.name, frame, num_frames, (x1, y1, x2, y2), place, reason)


def has_aspect_ratio(
    stated: tuple[float, float], size_px: tuple[int, int], pixel_shape: Fraction | None
) -> bool:
    """Return whether a stated (width, height) has a video's aspect ratio, apart from rounding.

    size_px: of a frame as stored.  pixel_shape: width to height of a pixel, None for squares. A
    source may state the stored or the displayed size: boxes of either scale to the frame.
    """
    stored = size_px[0] / size_px[1]
    shapes = [stored, stored * float(pixel_shape)] if pixel_shape else [stored]
    slack = SHAPE_TOLERANCE + 1 / max(1.0, min(stated))
    return any(abs(stated[0] / stated[1] / shape - 1) <= slack for shape in shapes)


def _check_shape(
    video: SourceVideo, size_px: tuple[int, int], pixel_shape: Fraction | None, problems: Problems
) -> None:
    """Refuse a stated frame size of another aspect ratio than the video's."""
    if video.size is None or video.size == (1, 1) or not len(video.boxes):
        return
    if not has_aspect_ratio(video.size, size_px, pixel_shape):
        stated = f"{video.name}: frames of {video.size[0]:g}x{video.size[1]:g} are stated"
        own = f"the video's are {size_px[0]}x{size_px[1]}: the same aspect ratio is required"
        problems.add(video.source_file, video.place(0), f"{stated}, {own}")


def _row_times_s(
    video: SourceVideo, times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the (N,) times of the rows in seconds, and the rows that lie outside the video."""
    if video.frame is not None:
        bad = (video.frame < 0) | (video.frame >= len(times_s))
        return times_s[np.where(bad, 0, video.frame)], np.flatnonzero(bad)
    assert video.time_s is not None
    interval_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.04
    slack_s = interval_s / 2 + SAME_TIME_S
    row_s = np.where(np.isfinite(video.time_s), video.time_s, -1e9)
    bad = (row_s < times_s[0] - slack_s) | (row_s > times_s[-1] + slack_s)
    return np.where(bad, 0.0, row_s), np.flatnonzero(bad)


def _outside_reason(video: SourceVideo, row: int, times_s: NDArray[np.float64]) -> str:
    if video.frame is not None:
        return f"frame {int(video.frame[row]) + 1} (counted from 1) of {len(times_s)}"
    assert video.time_s is not None
    return (
        f"time {float(video.time_s[row]):g} s, the video has frames from {times_s[0]:.3f} to "
        f"{times_s[-1]:.3f} s"
    )


def _check_header(header: DatasetHeader, ids: Mapping[str, str]) -> None:
    for name in header.label_map.names:
        try:
            check_class_name(name)
        except ValueError as error:
            raise UserError(str(error)) from error
    for split, names in header.splits.items():
        for name in names:
            if name not in ids:
                raise UserError(f"split '{split}': video '{name}' not found")


def _write_splits(
    folder: Path, header: DatasetHeader, ids: Mapping[str, str], timed: Mapping[str, _TimedRows]
) -> dict[str, int]:
    """Write one annotation file per split; return the number of rows of each."""
    num_rows = {}
    class_ids = np.array([*header.label_map.ids, -1], np.int32)  # column -1 is the last
    for split, names in header.splits.items():
        parts = [timed[name] for name in names]
        persons = [part.person for part in parts if part.person is not None]
        rows = AvaRows(
            path="(import)",
            video_names=tuple(ids[name] for name in names),
            video_index=np.repeat(
                np.arange(len(names), dtype=np.int32), [len(part.time_us) for part in parts]
            ),
            time_us=_joined([part.time_us for part in parts], np.int64),
            boxes_01=_joined([part.boxes_01 for part in parts], np.float64).reshape(-1, 4),
            action_id=class_ids[_joined([part.action for part in parts], np.int64)],
            person_id=_joined(persons, np.int64) if len(persons) == len(parts) else None,
            empty_keyframes=tuple(
                Keyframe(ids[name], time_us / 1e6)
                for name in names
                for time_us in sorted(set(timed[name].empty_us) - set(timed[name].time_us.tolist()))
            ),
        )
        write_ground_truth(folder / "annotations" / f"{split}.csv", rows)
        if names:
            list_path = folder / "annotations" / f"{split}_videos.txt"
            write_text(list_path, "".join(f"{ids[name]}\n" for name in names))
        num_rows[split] = len(rows)
    return num_rows


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate([np.zeros(0, dtype), *(array.reshape(-1) for array in arrays)])


def _write_header(folder: Path, header: DatasetHeader, *, whole_seconds: bool) -> None:
    write_label_map(folder / "annotations" / "label_map.pbtxt", header.label_map)
    write_dataset_file(
        folder,
        DatasetFile(
            name=header.name,
            description=header.description,
            videos="videos",
            splits={
                split: SplitPart(
                    annotations=f"annotations/{split}.csv",
                    videos=f"annotations/{split}_videos.txt" if names else None,
                )
                for split, names in header.splits.items()
            },
            evaluation=EvaluationPart(protocol=None if whole_seconds else "frame-map"),
            exclusive={group: list(names) for group, names in header.exclusive.items()},
            how_to_get=header.how_to_get,
        ),
    )


def _write_left_out(folder: Path, left_out: tuple[SkippedRow, ...]) -> None:
    """Write `left_out.csv`, for the user to read."""
    head = ["video_id", "source", "frame", "frames_in_clip", "x1", "y1", "x2", "y2"]
    rows = (
        (r.video_id, r.source, r.frame, r.num_frames, *r.box, r.place, r.reason) for r in left_out
    )
    with (
        replacing(folder / "left_out.csv") as path,
        path.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):  # file names that are not UTF-8 keep their bytes
        csv.writer(file).writerows([(*head, "place", "reason"), *rows])
