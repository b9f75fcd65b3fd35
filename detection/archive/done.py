"""Which videos have whole results already, told without opening a video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.archive.copies import Copies
from detection.archive.pieces import is_complete, state_key
from detection.errors import UserError
from detection.pipeline.video_folders import VideoFolder
from detection.transfer import places


class DoneCheck:
    """Tells whether the results of a video stand whole, of the file as it is now.

    A local file is known by its size and the time of its last change; workers look at its content.

    root: folder or address of the results.
    """

    def __init__(self, root: str) -> None:
        self._copies = Copies(root)

    def is_done(self, video: VideoFolder, key: str) -> bool:
        """Tell it of a video; key: the digest of what else decides the results.

        Where that cannot be told they are not: the worker that looks again says why.
        """
        try:
            state = self._copies.state(video)
        except UserError:
            return False
        if state is None or not is_complete(state) or state_key(state) != key:
            return False
        return places.is_remote(video.source) or _is_unchanged(video.source, state)


def _is_unchanged(source: str, state: Mapping[str, Any]) -> bool:
    content = state["inputs"].get("video", {}).get("content", {})
    try:
        status = Path(source).stat()
    except OSError:
        return False
    now = {"bytes": status.st_size, "modified_ns": status.st_mtime_ns}
    return all(content.get(name) == value for name, value in now.items())
