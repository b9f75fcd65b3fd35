"""What stands at the end of a run: the index, the tables of all videos, failures and a manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from detection.archive.driver import ArchiveProgress, Failure
from detection.archive.failures import read_failures, write_failures
from detection.archive.manifest import write_archive_manifest
from detection.archive.pieces import SPANS_NAME, spans_folder
from detection.archive.table_files import only_tables_writer
from detection.archive.tables import finish_tables, plan_tables, write_part
from detection.pipeline.folder_index import (
    ROW_NAMES,
    THUMBNAIL_NAME,
    IndexRow,
    index_line,
    write_index,
)
from detection.pipeline.video_folders import INDEX_NAMES, VideoFolder
from detection.transfer import places


def write_ending(root: str, videos: Sequence[VideoFolder], progress: ArchiveProgress) -> str:
    """Write all of it into `root`, a folder or an address; return a line about it.

    videos: of the whole archive, other shards' included: who ends last has all. One process writes
    at a time in a folder.  Raises `UserError`.
    """
    errors = {failure.video: failure.error for failure in progress.failures}
    rows = _write_index(root, videos, errors)
    folders = {row.name: row.folder for row in rows}
    failed = {row.name for row in rows if row.state == "failed"}
    with only_tables_writer(root):
        plan = plan_tables(root, folders, failed=failed)
        for part in plan.parts:
            write_part(part)
        write_archive_manifest(plan, finish_tables(plan))
        _remove_spans(root, [row.name for row in rows if row.state == "done"])
        failures = _all_failures(root, videos, progress)
        write_failures(root, [failure for failure in failures if failure.video in failed])
    return index_line(root, rows)


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
    root: str, videos: Sequence[VideoFolder], progress: ArchiveProgress
) -> list[Failure]:
    """Return this run's failures, and those that runs over other shares have written down."""
    own = {failure.video for failure in progress.failures}
    known = {video.name for video in videos}
    others = [
        Failure(video, attempts, error)
        for video, (attempts, error) in read_failures(root).items()
        if video not in own and video in known
    ]
    return [*progress.failures, *others]


def _write_index(
    root: str, videos: Sequence[VideoFolder], errors: Mapping[str, str]
) -> list[IndexRow]:
    if not places.is_remote(root):
        return write_index(Path(root), videos, errors)
    address = root.rstrip("/")
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary) / address.rpartition("/")[2]
        _copy_facts(address, videos, here)
        copies = [VideoFolder(v.name, v.source, here / v.folder) for v in videos]
        rows = write_index(here, copies, errors)
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
