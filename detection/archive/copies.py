"""Where a worker reads videos and writes results: in place on local disks, else by way of copies.

A copy of a remote video is kept until another is asked for, since its spans and their joining ask
for it again. Results that go to an address are made in a folder of this machine's temporary files
and sent once they are whole, the file that says so last.
"""

from __future__ import annotations

import json
import os
import shutil
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from detection.errors import NotFoundError
from detection.files import remove_dead_temporary_folders, temporary_folder
from detection.pipeline.segments import STATE_NAME
from detection.pipeline.video_folders import VideoFolder
from detection.transfer import places

_STATE_LIMIT_BYTES = 64 << 20


class Copies:
    """Sources and results as local files.

    root: folder or address of the results.  Copies are removed when the process ends; what killed
    ones have left on this machine is removed first.
    """

    def __init__(self, root: str) -> None:
        self._root = root
        self.are_remote = places.is_remote(root)
        self._temporary: Path | None = None
        self._at_end = ExitStack()
        weakref.finalize(self, self._at_end.close)
        remove_dead_temporary_folders()
        self._source: tuple[str, str] | None = None

    @property
    def _place(self) -> Path:
        """A folder of temporary files, made where there is something to copy."""
        if self._temporary is None:
            self._temporary = self._at_end.enter_context(temporary_folder())
        return self._temporary

    def source(self, video: VideoFolder) -> str:
        """Return the local path of a video, fetched where it is remote."""
        if not places.is_remote(video.source):
            return video.source
        if self._source is None or self._source[0] != video.source:
            copy = self._source_copy(video)
            shutil.rmtree(copy.parent, ignore_errors=True)
            # Two copies of one file are one input: it is known by its content alone.
            path = places.fetch(video.source, copy)
            os.utime(path, ns=(0, 0))
            self._source = video.source, str(path)
        return self._source[1]

    def state(self, video: VideoFolder) -> dict[str, Any] | None:
        """Return what run.json of a video's results holds; None where none or a damaged one is.

        Raises `UserError` where that cannot be told: a bucket that cannot be reached may hold one.
        """
        try:
            content = places.read_bytes(self._address(video, STATE_NAME), _STATE_LIMIT_BYTES)
        except NotFoundError:
            return None
        try:
            values = json.loads(content)
        except (ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None

    @contextmanager
    def naming(self, video: VideoFolder) -> Iterator[None]:
        """Say the address of a remote video in errors, not where its copy is."""
        if not places.is_remote(video.source):
            yield
            return
        with places.naming_address(self._source_copy(video), video.source):
            yield

    def _source_copy(self, video: VideoFolder) -> Path:
        return self._place / "source" / PurePosixPath(video.name).name

    @contextmanager
    def folder(self, video: VideoFolder, *, last: str) -> Iterator[Path]:
        """Yield the folder for a video's results.

        last: the file that says that they are whole. One of an earlier run is there, so that it is
        told whether they may be replaced.
        """
        if not self.are_remote:
            yield video.folder
            return
        folder = self._place / "results" / video.folder
        shutil.rmtree(folder, ignore_errors=True)
        address = self._below(video.folder.as_posix())
        try:
            with places.naming_address(folder, address):
                with suppress(NotFoundError):
                    places.fetch(f"{address}/{last}", folder / last)
                yield folder
            places.put_folder(folder, address, last)
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def has(self, name: str) -> bool:
        """Tell whether a file below the results is there, and so whole."""
        return places.exists(self._below(name))

    def writing(self, name: str) -> AbstractContextManager[Path]:
        """Return a block with the path to write a file below the results to, whole.

        It is there once the block has ended.
        """
        return places.writing(self._below(name))

    @contextmanager
    def reading(self, names: Sequence[str]) -> Iterator[list[Path]]:
        """Yield local paths of files below the results."""
        with ExitStack() as stack:
            yield [stack.enter_context(places.reading(self._below(name))) for name in names]

    def remove(self, names: Sequence[str]) -> None:
        """Remove files below the results that are not required any more, and folders of them."""
        for name in names:
            places.remove(self._below(name))
        for folder in {self._below(name).rpartition("/")[0] for name in names}:
            places.remove_empty_folder(folder)

    def _below(self, name: str) -> str:
        return f"{self._root.rstrip('/')}/{name}"

    def _address(self, video: VideoFolder, name: str) -> str:
        """Return where a file of a video's results is."""
        folder = video.folder.as_posix()  # of local ones with the root
        return f"{self._below(folder) if self.are_remote else folder}/{name}"
