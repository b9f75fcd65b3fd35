"""The run's log: one JSON object a line, and where the time goes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class MetricsLog:
    """Appends to `log.jsonl`; every line has `event` and `time` (seconds since the epoch).

    silent: write nothing (of several processes one writes).
    """

    def __init__(self, path: str | Path, *, silent: bool = False) -> None:
        self.path = Path(path)
        self._silent = silent

    def write(self, event: str, **values: Any) -> None:
        """Append one line; numbers that JSON does not know (NaN, infinity) become null."""
        if self._silent:
            return
        line = {"event": event, "time": round(time.time(), 3)}
        line.update({name: _plain(value) for name, value in values.items()})
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line, allow_nan=False) + "\n")


def _plain(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _plain(entry) for name, entry in value.items()}
    return value


class Stopwatch:
    """Adds up wall-clock seconds by name: where a loop's time goes."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time that the block takes to `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start

    def shares(self) -> dict[str, float]:
        """Return each name's share of the measured time, rounded to 3 digits."""
        total = sum(self.seconds.values()) or 1.0
        return {name: round(value / total, 3) for name, value in self.seconds.items()}
