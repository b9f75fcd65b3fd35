"""Waits for label files: new or changed ones in the data set's folder, exports in another one."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detection.datasets.label_file import read_label_file
from detection.errors import UserError, printable
from detection.files import replacing

POLL_S = 1.0
LABEL_FOLDER = "labels"
_EXPORTS = "labels*.json"  # what browsers call a page's exports, "labels (1).json" among them

# (bytes, modified ns) of files by path: what tells a changed file.
Facts = dict[Path, tuple[int, int]]


def label_files(folder: Path) -> list[Path]:
    """Return the label files of a data set's `labels` folder, sorted; none where it is absent."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder}: is a file, a folder of label files is required")
    return sorted(path for path in folder.glob("*.json") if not path.name.startswith("."))


def file_facts(paths: Sequence[Path]) -> Facts:
    """Return what tells a changed file, of those that are there."""
    facts = {}
    for path in paths:
        try:
            status = path.stat()
        except OSError:  # gone since it was listed
            continue
        facts[path] = status.st_size, status.st_mtime_ns
    return facts


def wait_for_change(
    find: Callable[[], Sequence[Path]], before: Facts, *, poll_s: float = POLL_S
) -> Facts:
    """Return the files' facts once they differ from `before` and have been still for a poll."""
    last: Facts | None = None
    while True:
        now = file_facts(find())
        if now != before and now == last:
            return now
        last = now
        time.sleep(poll_s)


@dataclass
class Inbox:
    """A folder such as a browser's downloads, from which exports of one page are copied.

    folder: looked at; nothing in it is changed.  into: the data set's label folder.  page: key.
    """

    folder: Path
    into: Path
    page: str
    _last: Facts = field(default_factory=dict, init=False)
    _done: Facts = field(default_factory=dict, init=False)

    def collect(self) -> list[Path]:
        """Copy exports of the page that have been still since the last look; return the copies.

        Others are left alone; a file that cannot be read is named on stderr, once.
        """
        now = file_facts(sorted(self.folder.glob(_EXPORTS)))
        copied = []
        for path, facts in now.items():
            if self._last.get(path) == facts and self._done.get(path) != facts:
                self._done[path] = facts
                copied += self._copy(path)
        self._last = now
        return copied

    def _copy(self, path: Path) -> list[Path]:
        try:
            file = read_label_file(path)
        except UserError as error:
            print(printable(f"left alone: {error}"), file=sys.stderr)
            return []
        if file.page != self.page:
            return []
        when = re.sub(r"[^0-9A-Za-z-]", "", str(file.exported).replace(":", "-"))
        place = self.into / f"{re.sub('[^0-9A-Za-z]', '', file.annotator)[:32]}_{when}.json"
        content = path.read_bytes()
        if place.is_file() and place.read_bytes() == content:
            return []
        with replacing(place) as temporary:
            temporary.write_bytes(content)
        return [place]
