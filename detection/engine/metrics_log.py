"""The run's log: one JSON object a line, drawn by TensorBoard if asked, and where time goes."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2

from detection.errors import UserError
from detection.files import naming
from detection.formats.json_text import json_text


class MetricsLog:
    """Appends to `log.jsonl`; every line has `event` and `time` (seconds since the epoch).

    silent: write nothing (of several processes one writes).  board: is told the same.
    """

    def __init__(
        self, path: str | Path, *, silent: bool = False, board: TensorBoard | None = None
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


class TensorBoard:
    """Draws what `MetricsLog` is told: curves by update, speed, scores, AP by class, figures."""

    def __init__(self, folder: str | Path) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            message = "tensorboard=true needs the tensorboard package: pip install tensorboard"
            raise UserError(message) from error
        self._make_writer = functools.partial(SummaryWriter, str(folder))
        self._update = 0

    @functools.cached_property
    def _writer(self) -> Any:
        return self._make_writer()  # makes files, so not before there is something to say

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Draw one event of the log; those without numbers are left out."""
        self._update = int(values.get("update", self._update))
        if event == "update":
            for name, value in values.items():
                if name in ("lr", "grad_norm") or name.startswith("loss"):
                    self._number(f"train/{name}", value)
        elif event in ("throughput", "epoch"):
            self._number("speed/clips_per_second", values.get("clips_per_second"))
            for name, share in values.get("shares", {}).items():
                self._number(f"speed/share_of_time_{name}", share)
        elif event in ("evaluation", "held_out", "final"):
            for name, value in values.items():
                if isinstance(value, float):
                    self._number(f"{event}/{name}", value)
            for name, value in values.get("per_class", {}).items():
                self._number(f"ap_by_class/{name}", value)
            self._writer.flush()

    def image(self, name: str, path: str | Path) -> None:
        """Show an image file."""
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        if image is None:
            raise UserError(f"{path}: not an image that can be read")
        self._writer.add_image(name, image, self._update, dataformats="HWC")
        self._writer.flush()

    def _number(self, name: str, value: Any) -> None:
        if isinstance(value, int | float):
            self._writer.add_scalar(name, value, self._update)


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
