"""What stands at the end of a run: the index, the tables of all videos, failures and a manifest."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.archive.driver import Progress
from detection.archive.failures import write_failures
from detection.archive.manifest import write_manifest
from detection.archive.tables import write_tables
from detection.pipeline.folder_index import READ_NAMES, IndexRow, index_line, write_index
from detection.pipeline.video_folders import INDEX_NAMES, VideoFolder
from detection.transfer import places


def write_ending(root: str, videos: Sequence[VideoFolder], progress: Progress) -> str:
    """Write all of it into `root`, a folder or an address; return a line about it.

    videos: of the whole archive, other shards' included: who ends last has all.
    """
    errors = {failure.video: failure.error for failure in progress.failures}
    rows, folders = _write_index(root, videos, errors)
    failed = [row.name for row in rows if row.state == "failed"]
    files = write_tables(root, folders, failed=failed)
    write_failures(root, progress.failures)
    write_manifest(root, folders, files)
    return index_line(Path(root), rows)
