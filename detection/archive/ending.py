"""What stands at the end of a run: the index, the tables of all videos, failures and a manifest."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from detection.archive.driver import ArchiveProgress, Failure
from detection.archive.failures import read_failures, write_failures
from detection.archive.manifest import write_archive_manifest
from detection.archive.pieces import SPANS_NAME, spans_folder
from detection.archive.table_files import only_tables_writer
from detection.archive.tables import TableFormat, finish_tables, plan_tables, write_part
from detection.errors import printable
from detection.files import only_writer, temporary_folder
from detection.pipeline.folder_index import (
    ROW_NAMES,
    THUMBNAIL_NAME,
    IndexRow,
    failed_before,
    index_line,
    write_index,
)
from detection.pipeline.video_folders import INDEX_NAMES, VideoFolder
from detection.transfer import places


def write_ending(
    root: str, videos: Sequence[VideoFolder], own: Sequence[VideoFolder], progress: ArchiveProgress
) -> str:
    """Write all of it into `root`, a folder or an address; return a line about it.

    videos: of the whole archive, other shards' included: who ends last has all. One process writes
    at a time in a folder.  own: those of this run.  Raises `UserError`.
    """
    # A run that was stopped has not come to all of its videos: what failed before stays so.
    tried = frozenset() if progress.stopped else frozenset(video.name for video in own)
    with _alone_in(root):
        failures = _all_failures(root, videos, tried, progress)
        rows = _write_index(root, videos, tried, progress)
        folders = {row.name: row.folder for row in rows}
        failed = [row.name for row in rows if row.state == "failed"]
        write_tables(root, folders, failed=failed)
        _remove_spans(root, [row.name for row in rows if row.state == "done"])
        names = {printable(name) for name in failed}
        write_failures(root, [each for each in failures if printable(each.video) in names])
    return index_line(root, rows)


def write_tables(
    root: str | Path,
    folders: Mapping[str, str],
    *,
    failed: Collection[str] = (),
    table_format: TableFormat | None = None,
) -> list[str]:
    """Write the tables of all videos and their manifest; return the names of the tables' files.

    As for `plan_tables`, and raises what its parts raise. Another run that writes here is waited
    for.
    """
    with only_tables_writer(root):
        plan = plan_tables(root, folders, failed=failed, table_format=table_format)
        for part in plan.parts:
            write_part(part)
        names = finish_tables(plan)
        write_archive_manifest(plan, names)
    return names


def _alone_in(root: str) -> AbstractContextManager[object]:
    if places.is_remote(root):
        return nullcontext()
    # The index, tables and failures of one run, none of another between them. A folder of its own:
    # the index and the tables lock the results' own.
    lock = Path(root) / SPANS_NAME
    return only_writer(lock, busy="another process writes here", may_wait=lambda: True)


def _remove_spans(root: str, done: Sequence[str]) -> None:
    """Remove spans of finished videos: of other content, or of one that was not cut after all."""
    place = f"{root.rstrip('/')}/{SPANS_NAME}"
    if not places.exists(place):
        return
    finished = {spans_folder(name) for name in done}
    for name, address, _ in places.list_files(place):
        if f"{SPANS_NAME}/{name.partition('/')[0]}" in finished:
            places.remove(address)


def _all_failures(
    root: str, videos: Sequence[VideoFolder], tried: Set[str], progress: ArchiveProgress
) -> list[Failure]:
    """Return this run's failures, and those that runs over other videos have written down."""
    own = {printable(name) for name in (*tried, *(each.video for each in progress.failures))}
    known = {printable(video.name) for video in videos}
    others = [
        Failure(video, attempts, error)
        for video, (attempts, error) in read_failures(root).items()
        if video not in own and video in known
    ]
    return [*progress.failures, *others]


def _write_index(
    root: str, videos: Sequence[VideoFolder], tried: Set[str], progress: ArchiveProgress
) -> list[IndexRow]:
    errors = {failure.video: failure.error for failure in progress.failures}
    if not places.is_remote(root):
        mended: dict[str, str | None] = dict.fromkeys(failed_before(Path(root)) & tried)
        return write_index(Path(root), videos, mended | errors)
    address = root.rstrip("/")
    with temporary_folder() as temporary:
        here = temporary / address.rpartition("/")[2]
        _copy_facts(address, videos, here)
        copies = [VideoFolder(v.name, v.source, here / v.folder) for v in videos]
        mended = dict.fromkeys(failed_before(here) & tried)
        rows = write_index(here, copies, mended | errors)
        for name in INDEX_NAMES:
            places.put_file(here / name, f"{address}/{name}")
    return rows


def _copy_facts(address: str, videos: Sequence[VideoFolder], here: Path) -> None:
    """Copy what the index reads of each video; of what it only links there are empty files."""
    here.mkdir()
    listed = places.list_files(address) if places.exists(address) else []
    there = {name: file for name, file, _ in listed}
    if "index.json" in there:
        places.fetch(there["index.json"], here / "index.json")
    linked = {THUMBNAIL_NAME, "review.html", "annotated.mp4", "tracks.jsonl", "detections.csv"}
    for folder in {video.folder.as_posix() for video in videos}:
        for name in (*ROW_NAMES, *linked):
            if (file := there.get(f"{folder}/{name}")) is None:
                continue
            copy = here / folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            if name in linked:
                copy.touch()
            else:
                places.fetch(file, copy)
