"""Labelled boxes of any source into a data set folder: what every importer ends in.

An importer reads its format into one `SourceVideo` per video and hands them to `write_dataset`,
which dates the boxes by the videos' own presentation times, checks them, and writes the folder
whole or not at all. Legend: N rows of a video, one per box, moment and action.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detection.datasets.ava_csv import AvaRows, time_us_of, write_ground_truth
from detection.datasets.folder import (
    DatasetFile,
    EvaluationPart,
    SplitPart,
    write_dataset_file,
)
from detection.datasets.label_map import LabelMap, write_label_map
from detection.datasets.new_folder import new_dataset_folder
from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, printable
from detection.files import replacing, write_text
from detection.importers.source_videos import copy_or_link_video, video_ids
from detection.structures import Keyframe
from detection.video.reader import SAME_TIME_S, FrameCounts, VideoReader
from detection.video.repairs import repair_lines

# Boxes drawn by hand reach a little over the edge; further out it is no slip of the hand.
OWN_OVERHANG_01 = 0.05
# Width to height of a stated frame size may differ so much from the video's, by rounding.
SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True)
class SourceVideo:
    """One video and its rows, as the source has them.

    name: what the source calls it.  path: its file.
    frame: (N,) int64, counted from 0 in the order of showing, or time_s: (N,) float64; not both.
    boxes: (N, 4) float64, x1, y1, x2, y2.  size: what they are divided by, (width, height); (1, 1)
    for fractions, None for the pixels of the video as displayed.
    action: (N,) column of the classes, -1 for a person who does none.  person: (N,) int64,
    None (in all videos) where the source knows no persons.
    line: (N,) of `source_file`, 0 where it has no lines.
    empty_frame, empty_time_s: moments at which nobody is there; empty_below: so are all frames
    before this one that have no row.
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
    line: NDArray[np.int64] | None = None
    empty_frame: Sequence[int] = ()
    empty_time_s: Sequence[float] = ()
    empty_below: int = 0

    def __post_init__(self) -> None:
        if (self.frame is None) == (self.time_s is None):
            raise ValueError("wanted one of frame and time_s")
        for name in ("action", "person", "frame", "time_s", "line"):
            column = getattr(self, name)
            if column is not None and len(column) != len(self.boxes):
                raise ValueError(f"{name} has {len(column)} rows, boxes {len(self.boxes)}")


@dataclass(frozen=True)
class DatasetHeader:
    """What is said about the data set as a whole. splits: video names (`SourceVideo.name`)."""

    name: str
    label_map: LabelMap
    splits: Mapping[str, Sequence[str]]
    description: str = ""
    exclusive: Mapping[str, Sequence[str]] = field(default_factory=dict)
    how_to_get: str | None = None


@dataclass(frozen=True)
class ImportRules:
    """How strictly rows are taken.

    max_overhang_01: how far a box may reach over the edge, in fractions of the frame; it is cut.
    leave_out: bad rows are left out and listed; otherwise they end the import.
    leave_out_late: rows past a video's last frame are, whatever `leave_out` says.
    decode: find the frames by decoding all of each video: a header may promise too many.
    """

    max_overhang_01: float = OWN_OVERHANG_01
    leave_out: bool = False
    leave_out_late: bool = False
    decode: bool = False


@dataclass(frozen=True)
class SkippedRow:
    """A row that did not get in. frame: from 1, None where it has a time. box: as in the source."""

    video_id: str
    source: str
    frame: int | None
    num_frames: int
    box: tuple[float, float, float, float]
    place: str
    reason: str


@dataclass(frozen=True)
class ImportReport:
    """What was written: rows by split, what was cut at the frame's edge, what was left out.

    num_frames: by `SourceVideo.name`, the frames that frame numbers were counted among.
    notes: what else the user should know, a line each.
    """

    num_videos: int
    num_rows: Mapping[str, int]
    left_out: tuple[SkippedRow, ...]
    num_clipped: int = 0
    num_frames: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Dated:
    """Rows that got in, in the form of the data set."""

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

    link: hard links to the source's videos in place of copies. Rows that were left out are listed
    in `left_out.csv`, and what each video was called in `video_sources.csv`. Raises `UserError`
    naming what is wrong, by file and line where there are lines; then `out` stays as it was.
    """
    _check_classes(header.label_map)
    ids = video_ids([video.name for video in videos])
    dated: dict[str, _Dated] = {}
    _check_splits(header, ids)
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        problems = Problems()
        for video in tqdm(videos, desc="reading videos", unit="video", disable=not show_progress):
            dated[video.name] = _date(video, ids[video.name], rules, problems)
        problems.raise_if_any()  # before gigabytes are copied
        (folder / "videos").mkdir()
        for video in tqdm(videos, desc="placing videos", unit="video", disable=not show_progress):
            copy_or_link_video(video.path, folder / "videos", ids[video.name], link=link)
        num_rows = _write_splits(folder, header, ids, dated)
        left_out = tuple(row for name in sorted(dated) for row in dated[name].left_out)
        _write_tables(folder, ids, left_out)
        whole = all(not (rows.time_us % 1_000_000).any() for rows in dated.values())
        _write_header(folder, header, whole_seconds=whole)
    return ImportReport(
        len(ids),
        num_rows,
        left_out,
        sum(rows.num_clipped for rows in dated.values()),
        {name: rows.frames.decodable for name, rows in dated.items()},
        (
            *_frame_notes(dated),
            *_pixel_notes(videos, dated),
            *(f"note: {line}" for line in repair_lines({n: d.repairs for n, d in dated.items()})),
        ),
    )


def _frame_notes(dated: Mapping[str, _Dated]) -> list[str]:
    """Say where a file holds packets of which no frame comes, and which numbers were used."""
    cases = []
    for name, rows in dated.items():
        packets, decodable = rows.frames.packets, rows.frames.decodable
        if packets == decodable or rows.last_frame is None:
            continue
        case = f"{printable(name)}: {packets} packets, {decodable} frames"
        if rows.last_frame >= decodable:
            case += f", but the last annotated frame is {rows.last_frame} (from 0)"
        elif rows.last_frame == packets - 1:
            case += f", the last annotated frame is {rows.last_frame} (from 0)"
        cases.append(case)
    if not cases:
        return []
    more = f"; and {len(cases) - 3} more" if len(cases) > 3 else ""
    return [
        f"warning: {len(cases)} videos hold packets of which no frame can be decoded; frame "
        f"numbers count the frames that are shown, as players do: {'; '.join(cases[:3])}{more}"
    ]


def _pixel_notes(videos: Sequence[SourceVideo], dated: Mapping[str, _Dated]) -> list[str]:
    odd = [
        f"{printable(video.name)} ({shape.numerator}:{shape.denominator})"
        for video in videos
        if video.size is None and (shape := dated[video.name].pixel_shape) is not None
    ]
    if not odd:
        return []
    more = f"; and {len(odd) - 3} more" if len(odd) > 3 else ""
    return [
        f"warning: pixels of {len(odd)} videos are not square; boxes are taken in the pixels that "
        f"the file stores, not those of a player's window: {'; '.join(odd[:3])}{more}"
    ]


def fractions_of(
    video: SourceVideo, size_px: tuple[int, int], max_overhang_01: float
) -> tuple[NDArray[np.float64], NDArray[np.bool_], dict[int, str]]:
    """Return (N, 4) boxes within the frame, (N,) which were cut, and what is wrong by row."""
    width, height = video.size or size_px
    boxes = video.boxes / np.array([width, height, width, height], np.float64)
    finite: NDArray[np.bool_] = np.asarray(np.isfinite(boxes).all(axis=1))
    boxes = np.where(finite[:, None], boxes, 0.0)
    overhang = np.maximum(-boxes.min(axis=1, initial=0), boxes.max(axis=1, initial=1) - 1)
    inside = np.clip(boxes, 0, 1)
    upright: NDArray[np.bool_] = (boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])
    area: NDArray[np.bool_] = (inside[:, 0] < inside[:, 2]) & (inside[:, 1] < inside[:, 3])
    wrong = {}
    for row in np.flatnonzero(~(finite & upright & area & (overhang <= max_overhang_01))).tolist():
        shown = ", ".join(f"{edge:g}" for edge in video.boxes[row].tolist())
        reason = "the box reaches far out of the frame"
        if not finite[row]:
            reason = "the box has an edge that is no finite number"
        elif not upright[row]:
            reason = "the box is inside out or has no area"
        elif not area[row]:
            reason = "the box lies outside the frame"
        of = "fractions" if (width, height) == (1, 1) else f"a frame of {width:g}x{height:g}"
        wrong[row] = f"{reason}: x1, y1, x2, y2 = {shown} in {of}"
    return inside, (overhang > 0) & finite, wrong


def _date(video: SourceVideo, video_id: str, rules: ImportRules, problems: Problems) -> _Dated:
    """Give every row its time and its box in fractions; sort out those that cannot have them."""
    with VideoReader(video.path) as reader:
        times_s = reader.decoded_times_s() if rules.decode else reader.frame_times_s()
        size_px = reader.frame_size()
        pixel_shape = reader.pixel_shape
        counts = reader.frame_counts() if not rules.decode else None
        repairs = reader.repairs()
        if counts is not None and video.frame is not None:
            repairs = replace(repairs, opening_packets=0)  # told with the numbers of the rows
    _check_shape(video, size_px, pixel_shape, problems)
    boxes_01, cut, wrong = fractions_of(video, size_px, rules.max_overhang_01)
    late: set[int] = set()
    row_times_s, bad_times = _row_times_s(video, times_s)
    for row in bad_times.tolist():
        late.add(row)
        wrong[row] = _outside_reason(video, row, times_s)
    left_out = []
    for row in sorted(wrong):
        line = 0 if video.line is None else int(video.line[row])
        if rules.leave_out or (row in late and rules.leave_out_late):
            place = f"{video.source_file}:{line}" if line else video.source_file
            frame = None if video.frame is None else int(video.frame[row]) + 1
            x1, y1, x2, y2 = video.boxes[row].tolist()
            left_out.append(
                SkippedRow(
                    video_id, video.name, frame, len(times_s), (x1, y1, x2, y2), place, wrong[row]
                )
            )
        else:
            problems.add(video.source_file, line or None, f"{video.name}: {wrong[row]}")
    kept = np.ones(len(boxes_01), bool)
    kept[list(wrong)] = False
    time_of = {time_s: time_us_of(time_s) for time_s in np.unique(row_times_s[kept]).tolist()}
    empty_s = [float(times_s[f]) for f in video.empty_frame if 0 <= f < len(times_s)]
    empty_s += times_s[: video.empty_below].tolist()  # less those with rows, when written
    early = [time_us for time_us in time_of.values() if time_us < 0]
    early += [
        time_us for time_us in map(time_us_of, [*empty_s, *video.empty_time_s]) if time_us < 0
    ]
    if early:
        problems.add(
            video.path,
            None,
            f"time {min(early) / 1e6:.6f} s: annotations hold times from 0 s on; a video whose "
            "clock begins at 0 is required (ffmpeg -i IN -c copy OUT.mp4 makes one)",
        )
    return _Dated(
        np.array([time_of[time_s] for time_s in row_times_s[kept].tolist()], np.int64),
        boxes_01[kept],
        video.action[kept],
        None if video.person is None else video.person[kept],
        sorted({time_us_of(time_s) for time_s in [*empty_s, *video.empty_time_s]}),
        left_out,
        int((cut & kept).sum()),
        counts or FrameCounts(len(times_s), len(times_s)),
        None
        if video.frame is None
        else max([*video.frame.tolist(), *video.empty_frame], default=0),
        pixel_shape,
        repairs.descriptions(),
    )


def is_of_shape(
    stated: tuple[float, float], size_px: tuple[int, int], pixel_shape: Fraction | None
) -> bool:
    """Say whether a stated frame size (width, height) is of a video's shape, but for rounding.

    size_px: of a frame as stored.  pixel_shape: width to height of a pixel, None for squares. A
    source may state the stored shape or the displayed one: both scale evenly to the frame.
    """
    stored = size_px[0] / size_px[1]
    shapes = [stored, stored * float(pixel_shape)] if pixel_shape else [stored]
    slack = SHAPE_TOLERANCE + 1 / max(1.0, min(stated))
    return any(abs(stated[0] / stated[1] / shape - 1) <= slack for shape in shapes)


def _check_shape(
    video: SourceVideo,
    size_px: tuple[int, int],
    pixel_shape: Fraction | None,
    problems: Problems,
) -> None:
    """Refuse a stated frame size of another shape than the video's, stored or displayed."""
    if video.size in (None, (1, 1)) or not len(video.boxes):
        return
    assert video.size is not None
    width, height = video.size
    if not is_of_shape(video.size, size_px, pixel_shape):
        line = 0 if video.line is None else int(video.line[0])
        problems.add(
            video.source_file,
            line or None,
            f"{video.name}: frames of {width:g}x{height:g} are stated, the video's are "
            f"{size_px[0]}x{size_px[1]}: the same shape is required",
        )


def _row_times_s(
    video: SourceVideo, times_s: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return (N,) seconds of every row, and the rows that lie outside the video."""
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
        f"time {float(video.time_s[row]):g} s, the video shows {times_s[0]:.3f} to "
        f"{times_s[-1]:.3f} s"
    )


def _check_classes(label_map: LabelMap) -> None:
    """Refuse names that a label map cannot hold: none, marks of control, half a character."""
    for name in label_map.names:
        try:
            check_class_name(name)
        except ValueError as error:
            raise UserError(str(error)) from error


def _check_splits(header: DatasetHeader, ids: Mapping[str, str]) -> None:
    for split, names in header.splits.items():
        for name in names:
            if name not in ids:
                raise UserError(f"split '{split}' names video '{name}', which is not there")


def _write_splits(
    folder: Path, header: DatasetHeader, ids: Mapping[str, str], dated: Mapping[str, _Dated]
) -> dict[str, int]:
    """Write one annotation file per split; return their numbers of rows."""
    num_rows = {}
    class_ids = np.array([*header.label_map.ids, -1], np.int32)  # column -1 is the last
    for split, names in header.splits.items():
        parts = [dated[name] for name in names]
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
                for time_us in sorted(set(dated[name].empty_us) - set(dated[name].time_us.tolist()))
            ),
        )
        write_ground_truth(folder / "annotations" / f"{split}.csv", rows)
        if names:
            list_path = folder / "annotations" / f"{split}_videos.txt"
            write_text(list_path, "".join(f"{ids[name]}\n" for name in names))
        num_rows[split] = len(rows)
    return num_rows


def _joined(arrays: Sequence[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return (
        np.concatenate([np.zeros((0, *arrays[0].shape[1:]), dtype), *arrays])
        if arrays
        else (np.zeros(0, dtype))
    )


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


def _write_tables(folder: Path, ids: Mapping[str, str], left_out: tuple[SkippedRow, ...]) -> None:
    """Write `left_out.csv` and `video_sources.csv`, for people to look at."""
    with replacing(folder / "left_out.csv") as path, _open_table(path) as file:
        table = csv.writer(file)
        table.writerow(
            ["video_id", "source", "frame", "frames_in_clip", "x1", "y1", "x2", "y2"]
            + ["place", "reason"]
        )
        for row in left_out:
            frame = "" if row.frame is None else row.frame
            table.writerow(
                [row.video_id, row.source, frame, row.num_frames, *row.box, row.place, row.reason]
            )
    with replacing(folder / "video_sources.csv") as path, _open_table(path) as file:
        table = csv.writer(file)
        table.writerow(["video_id", "source"])
        table.writerows((ids[name], name) for name in sorted(ids))


def _open_table(path: Path) -> TextIO:
    """Open a table; names of files that are no text keep their bytes."""
    return path.open("w", encoding="utf-8", errors="surrogateescape", newline="")
