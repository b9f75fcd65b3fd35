"""The run's log: one JSON object a line, drawn by other programs if asked, and where time goes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from detection.engine.boards import Board
from detection.files import naming
from detection.formats.json_text import json_text


class MetricsLog:
    """Appends to `log.jsonl`; every line has `event` and `time` (seconds since the epoch).

    silent: write nothing (of several processes one writes).  board: is told the same.
    """

    def __init__(
        self, path: str | Path, *, silent: bool = False, board: Board | None = None
    ) -> None:
        self.path = Path(path)
        self.board = None if silent else board
        self._silent = silent
        self._begun = False

    def write(self, event: str, **values: Any) -> None:
        """Append one line; numbers that JSON does not know (NaN, infinity) become null."""
        if self._silent:
            return
        if self.board is not None:
            self.board.write(event, values)
        line = {"event": event, "time": round(time.time(), 3), **values}
        with naming(self.path):
            if not self._begun:
                self._cut_broken_line()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json_text(line, indent=None))

    def _cut_broken_line(self) -> None:
        """Take away a last line that a killed run did not finish."""
        self._begun = True
        if self.path.is_file():
            with self.path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)


class Stopwatch:
    """Adds up wall-clock seconds by name: where a loop's time goes.

    synchronize: waits for what a GPU has been given, so that each block is charged its own work.
    """

    def __init__(self, *, synchronize: Callable[[], object] | None = None) -> None:
        self.seconds: dict[str, float] = {}
        self._synchronize = synchronize

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            if self._synchronize is not None:
                self._synchronize()
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def total(self) -> float:
        """Return all seconds measured so far."""
        return sum(self.seconds.values())

    def shares(self) -> dict[str, float]:
        """Return each name's share of the measured time, rounded to 3 digits."""
        total = self.total() or 1.0
        return {name: round(value / total, 3) for name, value in self.seconds.items()}
