"""DownloadProgress of downloads on a terminal: size, speed and time left."""

from __future__ import annotations

import sys
import threading
from pathlib import Path
from typing import Any

from detection.errors import printable
from detection.transfer.download import DownloadProgress


class BarProgress(DownloadProgress):
    """A bar for all bytes and one for each file; without a terminal, a line a file."""

    def __init__(self, sizes: dict[str, int] | None = None) -> None:
        self._sizes = dict(sizes or {})
        self._done: dict[str, int] = {}
        self._bars: dict[str, Any] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> BarProgress:
        from tqdm import tqdm

        self._new_bar = tqdm
        self._live = sys.stderr.isatty()
        self._total = self._bar("all files", sum(self._sizes.values()), leave=True)
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._bars.values(), self._total):
            bar.close()

    def _bar(self, text: str, total: int | None, *, leave: bool) -> Any:
        return self._new_bar(
            total=total or None,
            unit="B",
            unit_scale=True,
            unit_divisor=1000,
            desc=text[-28:],
            leave=leave,
            miniters=1,
            mininterval=0.2 if self._live else 10.0,
        )

    def update(self, path: str, done_bytes: int, total_bytes: int | None) -> None:
        """Move both bars to where the file is."""
        with self._lock:
            if total_bytes is not None and self._sizes.get(path) != total_bytes:
                self._sizes[path] = total_bytes
                self._total.total = sum(self._sizes.values())
            step = done_bytes - self._done.get(path, 0)
            self._done[path] = done_bytes
            self._total.update(step)
            if self._live:
                if path not in self._bars:
                    self._bars[path] = self._bar(Path(path).name, total_bytes, leave=False)
                self._bars[path].update(step)

    def wait(self, path: str, pause_s: float, reason: str) -> None:
        """Print for how long the file waits, and why."""
        with self._lock:
            self._new_bar.write(f"{path}: again in {pause_s:.0f} s ({reason})", file=sys.stderr)

    def finish(self, path: str, note: str) -> None:
        """Remove the file's bar; print what became of it."""
        with self._lock:
            if path in self._bars:
                self._bars.pop(path).close()
            if note != "was there":
                self._new_bar.write(
                    f"{size_text(self._done.get(path)):>10}  {path}: {note}", file=sys.stderr
                )


class OneFileBar(DownloadProgress):
    """A bar for the only file of a download, on a terminal; a line when it begins to come.

    words: what the line says after the file's size: from where, and to which place.
    """

    def __init__(self, words: str) -> None:
        self._words = words
        self._bar: Any = None

    def update(self, path: str, done_bytes: int, total_bytes: int | None) -> None:
        """Move the bar to where the file is."""
        if self._bar is None:
            from tqdm import tqdm

            print(printable(f"{size_text(total_bytes)} {self._words}"), file=sys.stderr)
            self._bar = tqdm(
                initial=done_bytes, unit="B", unit_scale=True, desc=path[-28:],
                leave=False, disable=None,
            )  # fmt: skip
        self._bar.total = total_bytes
        self._bar.update(done_bytes - self._bar.n)

    def wait(self, path: str, pause_s: float, reason: str) -> None:
        """Say on the bar for how long the file waits."""
        if self._bar is not None:
            self._bar.set_postfix_str(f"again in {pause_s:.0f} s")

    def finish(self, path: str, note: str) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()


def size_text(num_bytes: int | None) -> str:
    """Return a size with its unit, '?' for one that is not known."""
    if num_bytes is None:
        return "?"
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if num_bytes >= scale:
            return f"{num_bytes / scale:.1f} {unit}"
    return f"{num_bytes} B"
