"""One table of all videos, from the folders of their results.

Four steps, so that processes of any number write the same bytes: a plan says which videos a part
holds, each part is written on its own, all are put in place together, and the list of videos is
written. A part is a function of its videos' results alone.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detection.archive.csv_files import CsvWriter
from detection.archive.parquet_files import ParquetWriter, has_pyarrow
from detection.archive.table_columns import EVENT_COLUMNS, VIDEO_COLUMNS, TableName
from detection.archive.table_files import (
    IN_PARTS,
    MANIFEST_NAME,
    UNFINISHED,
    check_tables,
    join_parts,
    new_file,
    remove_other_tables,
    replace_parts,
)
from detection.archive.table_rows import (
    FoundVideo,
    PeopleRows,
    VideoRow,
    look_up_video,
    read_classes,
    read_common,
    read_video_tables,
)
from detection.errors import UserError, printable
from detection.people.shards import differences
from detection.tracking.events import ActionEvent
from detection.transfer.places import exists, is_remote, local_path, remove, shown_address

# A part is full with as many rows of people, or videos: each has row groups of its own.
MOST_ROWS, MOST_VIDEOS = 1_000_000, 2_000
_ASKED_AT_ONCE = 32  # of a bucket, which takes its time for each

TableFormat = Literal["parquet", "csv"]
Classes = tuple[tuple[int, str], ...]
"""(id, name) of each class, in the order of score columns."""


@dataclass(frozen=True)
class TablePart:
    """What a process is told to write one part.

    root: path or address of the tables. classes: that every video must have.
    videos: (name, folder below `root`) of finished ones, in order.
    """

    number: int
    root: str
    format: TableFormat
    classes: Classes
    videos: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TablesPlan:
    """The parts of the tables, and what is known of every video, by name."""

    root: str
    format: TableFormat
    classes: Classes
    parts: tuple[TablePart, ...]
    videos: tuple[VideoRow, ...]


def plan_tables(
    root: str | Path,
    folders: Mapping[str, str],
    *,
    failed: Collection[str] = (),
    table_format: TableFormat | None = None,
) -> TablesPlan:
    """Look at every video's folder and divide the finished ones into parts.

    root: path or address. folders: by the name of each video that of its results below `root`.
    failed: names of videos that failed. table_format: None: Parquet where pyarrow is installed.
    Raises `UserError` where something else stands in the place of a table, and where results were
    made by different options or weights.
    """
    root = str(root)
    chosen: TableFormat = table_format or ("parquet" if has_pyarrow() else "csv")
    check_tables(root)
    if not is_remote(root):
        shutil.rmtree(local_path(root) / UNFINISHED, ignore_errors=True)
    failures = frozenset(failed)

    def look_up(video: str) -> FoundVideo:
        return look_up_video(root, video, folders[video], failed=video in failures)

    with ThreadPoolExecutor(_ASKED_AT_ONCE if is_remote(root) else 1) as pool:
        found = list(pool.map(look_up, sorted(folders)))
    done = [each for each in found if each.row.state == "done"]
    classes: Classes = ()
    if done:
        _check_common(root, done)
        label_map = read_classes(root, done[0].row.folder)
        classes = tuple(zip(label_map.ids, label_map.names, strict=True))
    parts = [
        TablePart(number, root, chosen, classes, tuple((row.video, row.folder) for row in videos))
        for number, videos in enumerate(_divided(done))
    ]
    return TablesPlan(root, chosen, classes, tuple(parts), tuple(each.row for each in found))


def _check_common(root: str, done: Sequence[FoundVideo]) -> None:
    """Raise `UserError` for results that were not made by the options and weights of most."""
    (most, _), *_ = Counter(each.common for each in done).most_common(1)
    first = next(each for each in done if each.common == most)
    others = [each for each in done if each.common != first.common]
    if not others:
        return
    base = read_common(root, first.row.folder)
    named = []
    for each in others[:3]:
        own = read_common(root, each.row.folder)
        what = [differences(own[part], base[part]) for part in ("options", "inputs")]
        named.append(f"{each.row.video} ({'; '.join(filter(None, what))})")
    more = f", and {len(others) - 3:,} more" if len(others) > 3 else ""
    raise UserError(
        printable(
            f"{shown_address(root)}: {len(others):,} of {len(done):,} videos have results of other "
            f"options or weights than {first.row.video}: {', '.join(named)}{more}; run them again"
        )
    )


def _divided(videos: Sequence[FoundVideo]) -> Iterator[list[VideoRow]]:
    """Yield the videos of each part; one at least, so that an empty table has its columns."""
    part: list[VideoRow] = []
    rows = 0
    for video in videos:
        if part and (rows >= MOST_ROWS or len(part) >= MOST_VIDEOS):
            yield part
            part, rows = [], 0
        part.append(video.row)
        rows += video.rows
    yield part


def write_part(part: TablePart) -> None:
    """Write one part of the people and of the events, whole or not at all.

    One video at a time is in memory. Raises `UserError` for a video whose results are damaged or
    have other classes.
    """
    with ExitStack() as stack:
        writers: dict[TableName, ParquetWriter | CsvWriter] = {}
        for table in IN_PARTS:
            name = _part_name(table, part.format, part.number)
            path = stack.enter_context(new_file(f"{_parts_place(part)}/{name}"))
            writer = _writer(path, table, part)
            stack.callback(writer.close)
            writers[table] = writer
        for video, folder in part.videos:
            label_map, rows, events = read_video_tables(part.root, video, folder)
            if tuple(zip(label_map.ids, label_map.names, strict=True)) != part.classes:
                shown = shown_address(f"{part.root}/{folder}")
                raise UserError(
                    f"{shown}: has other classes than the videos before; results of one network "
                    "are required in a table: another folder, or run it again"
                )
            writers["keyframes"].write(_keyframe_columns(video, rows))
            writers["events"].write(_event_columns(events))


def finish_tables(plan: TablesPlan) -> list[str]:
    """Put the parts in place and write the list of videos; return the names of all files, sorted.

    Tables of an earlier run are replaced, in the other format too. Raises `UserError` where a part
    is missing.
    """
    place, base = _parts_place(plan), plan.root.rstrip("/")
    numbers = range(len(plan.parts))
    names = {table: [_part_name(table, plan.format, n) for n in numbers] for table in IN_PARTS}
    for name in (name for table in IN_PARTS for name in names[table]):
        if not exists(f"{place}/{name}"):
            raise UserError(f"{shown_address(place)}/{name}: not found; this part is not written")
    remove(f"{base}/{MANIFEST_NAME}")  # which would tell of the tables before
    kept = {f"videos.{plan.format}"}
    for table in IN_PARTS:
        if plan.format == "csv":
            join_parts(plan.root, table, [f"{place}/{name}" for name in names[table]])
            kept.add(f"{table}.csv")
        else:
            kept |= set(names[table])
            if not is_remote(plan.root):
                replace_parts(local_path(plan.root), f"{table}.parquet")
    names_of = [column.name for column in VIDEO_COLUMNS]
    with (
        new_file(f"{base}/videos.{plan.format}") as path,
        closing(_writer(path, "videos", plan)) as writer,
    ):
        writer.write({name: [getattr(row, name) for row in plan.videos] for name in names_of})
    remove_other_tables(plan.root, kept)
    return sorted(kept)


def _parts_place(plan: TablesPlan | TablePart) -> str:
    """Return where parts are written: beside what is there, but for what a bucket cannot rename."""
    base = plan.root.rstrip("/")
    return base if is_remote(base) and plan.format == "parquet" else f"{base}/{UNFINISHED}"


def _part_name(table: TableName, table_format: TableFormat, number: int) -> str:
    return f"{table}.{table_format}/part-{number:05d}.{table_format}"


def _writer(
    path: Path, table: TableName, plan: TablesPlan | TablePart
) -> ParquetWriter | CsvWriter:
    if plan.format == "csv":
        return CsvWriter(path, table, has_head=table not in IN_PARTS)
    return ParquetWriter(path, table, plan.classes)


def _keyframe_columns(video: str, rows: PeopleRows) -> dict[str, Any]:
    boxes = {name: rows.boxes_01[:, column] for column, name in enumerate(("x1", "y1", "x2", "y2"))}
    return {
        "video": [video] * len(rows),
        "time_s": rows.time_s,
        "track": rows.track,
        **boxes,
        "person_score": rows.person_score,
        "seen": rows.seen,
        "scores": rows.scores,
        "doing": rows.doing,
    }


def _event_columns(events: Sequence[ActionEvent]) -> dict[str, Any]:
    columns = {"video": [event.video_id for event in events]}
    names = [column.name for column in EVENT_COLUMNS if column.name != "video"]
    return columns | {name: [getattr(event, name) for event in events] for name in names}
