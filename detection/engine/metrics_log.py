"""The run's log: one JSON object a line, and where the time goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from detection.errors import UserError


class Board(Protocol):
    """Draws what the log is told."""

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Take one event."""

    def picture(self, name: str, path: str | Path) -> None:
        """Show a picture file."""


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
        line = {"event": event, "time": round(time.time(), 3)}
        line.update({name: _plain(value) for name, value in values.items()})
        try:
            if not self._begun:
                self._cut_broken_line()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(line, allow_nan=False) + "\n")
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _cut_broken_line(self) -> None:
        """Take away a last line that a killed run did not finish."""
        self._begun = True
        if self.path.is_file():
            with self.path.open("rb+") as file:
                content = file.read()
                file.truncate(content.rfind(b"\n") + 1)


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value


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
        total = sum(self.seconds.values()) or 1.0
        return {name: round(value / total, 3) for name, value in self.seconds.items()}
