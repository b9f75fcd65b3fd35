"""One run over an archive: what is given, the workers, and what stands at the end."""

from __future__ import annotations

import functools
import hashlib
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from detection.archive.done import DoneCheck
from detection.archive.driver import ArchiveProgress, Driver
from detection.archive.ending import write_ending
from detection.archive.opening import open_worker
from detection.archive.pieces import SPANS_NAME, WorkOptions
from detection.archive.sources import read_sources
from detection.archive.status import StatusWriter
from detection.archive.table_files import UNFINISHED
from detection.archive.watching import ProgressLine
from detection.errors import EXIT_SOME_FAILED, EXIT_STOPPED, UserError, first_few, printable
from detection.jobs.base import Engine, Resources
from detection.jobs.open import open_workers
from detection.people.shards import Shard
from detection.pipeline.folder_index import check_index
from detection.pipeline.video_folders import (
    ARCHIVE_NAMES,
    INDEX_NAMES,
    VideoFolder,
    name_folders,
)
from detection.transfer.places import check_addresses, is_remote

_MANY = 1000  # videos, of which index and tables take a while


@dataclass(frozen=True)
class ArchiveOptions:
    """How an archive is worked through.

    work: what is made of each video.
    engine, workers, resources, address: as for `open_workers`.
    retries: how often a video that failed is attempted again.
    shard: which of the videos, by a stable hash of their names, so that machines that know nothing
    of each other share them.
    quiet: without the line of progress.
    """

    work: WorkOptions
    engine: Engine
    workers: int | None = None
    resources: Resources = Resources()
    address: str | None = None
    retries: int = 2
    shard: Shard = Shard()
    quiet: bool = False


def run_archive(
    sources: Sequence[str], options: ArchiveOptions, *, should_stop: Callable[[], bool]
) -> int:
    """Run all videos; return the exit code: some failed, stopped, or 0.

    Raises `UserError` for what concerns all videos.
    """
    root = options.work.root
    videos = find_archive(sources, root)
    own = [video for video in videos if is_of_shard(video.name, options.shard)]
    _say_first(videos, own, options)
    workers = open_workers(
        options.engine,
        functools.partial(open_worker, options.work),
        workers=options.workers,
        resources=options.resources,
        address=options.address,
    )
    share = f"{options.shard.index + 1}-of-{options.shard.count}" if options.shard.count > 1 else ""
    with (
        ProgressLine(len(own), quiet=options.quiet) as line,
        StatusWriter(root, share=share) as status,
    ):

        def on_change(progress: ArchiveProgress) -> None:
            line.show(progress)
            status.write(progress)

        with workers:
            if workers.dashboard:
                line.write(f"Ray's dashboard: {workers.dashboard}")
            driver = Driver(
                workers,
                DoneCheck(root).is_done,
                retries=options.retries,
                should_stop=should_stop,
                on_change=on_change,
                on_note=lambda text: line.write(f"note: {printable(text)}"),
            )
            progress = driver.run(own, count=len(own))
        on_change(progress)
    return _end(root, videos, own, progress)


def find_archive(sources: Sequence[str], root: str) -> list[VideoFolder]:
    """Return the videos, in order of their names, each with the folder of its results.

    folder: below a local `root`; for an address relative to it.  Raises `UserError`.
    """
    found = read_sources(sources, root)
    check_addresses([root, *(video.source for video in found)])
    _check_names([video.name for video in found])
    if is_remote(root):
        folders = name_folders(None, [video.name for video in found])
        return [VideoFolder(v.name, v.source, Path(folders[v.name])) for v in found]
    if Path(root).exists() and not Path(root).is_dir():
        raise UserError(f"{printable(root)}: a file, a folder for the results is required")
    check_index(Path(root))
    folders = name_folders(Path(root), [video.name for video in found])
    return [VideoFolder(v.name, v.source, Path(root) / folders[v.name]) for v in found]


def _check_names(names: Sequence[str]) -> None:
    """Raise `UserError` for videos whose results would stand in the place of a run's own files."""
    ours = {name.casefold() for name in (*INDEX_NAMES, *ARCHIVE_NAMES, SPANS_NAME, UNFINISHED)}
    if bad := [name for name in names if name.partition("/")[0].casefold() in ours]:
        raise UserError(
            f"{printable(first_few(bad))}: results have files of their own of that name; a list "
            "with a column 'name' calls the video otherwise"
        )


def is_of_shard(name: str, shard: Shard) -> bool:
    """Tell whether a video is of a shard, whatever other videos there are."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    return int.from_bytes(digest[:8], "big") % shard.count == shard.index


def _say_first(
    videos: Sequence[VideoFolder], own: Sequence[VideoFolder], options: ArchiveOptions
) -> None:
    share = f", {len(own):,} of them in shard {options.shard}" if options.shard.count > 1 else ""
    print(f"{len(videos):,} videos{share} -> {printable(options.work.root)}", file=sys.stderr)


def _end(
    root: str, videos: Sequence[VideoFolder], own: Sequence[VideoFolder], progress: ArchiveProgress
) -> int:
    """Write what stands at the end; return the exit code.

    A run that is stopped ends at once: what the index and the tables of thousands of videos hold is
    in the videos' folders, for the run that goes on.
    """
    if progress.stopped:
        print(
            f"stopped: {progress.done:,} of {len(own):,} videos done; the same command goes on and "
            "writes index and tables at its end",
            file=sys.stderr,
        )
        return EXIT_STOPPED
    if len(videos) >= _MANY:
        print("writing index and tables", file=sys.stderr)
    print(write_ending(root, videos, own, progress), file=sys.stderr)
    for failure in progress.failures[:3]:
        print(f"failed: {printable(f'{failure.video}: {failure.error}')}", file=sys.stderr)
    if (more := len(progress.failures) - 3) > 0:
        print(f"and {more:,} more, see failed.csv", file=sys.stderr)
    return EXIT_SOME_FAILED if progress.failures else 0
