"""One line of progress for all videos of a run."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Self

from tqdm import tqdm

from detection.archive.driver import ArchiveProgress
from detection.pipeline.summary import work_text

_BAR = "{percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} videos{postfix}, {remaining} left"


class ProgressLine:
    """A bar that counts videos and says how fast it goes; a context manager.

    videos: of the run.  quiet: nothing but what `write` is given is shown.
    """

    def __init__(self, videos: int, *, quiet: bool) -> None:
        self._bar = tqdm(
            total=videos, unit="video", disable=quiet, dynamic_ncols=True, smoothing=0.05,
            bar_format=_BAR,
        )  # fmt: skip
        self._began_s = time.monotonic()
        self._kept = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def show(self, progress: ArchiveProgress) -> None:
        """Show how far it is."""
        bar = self._bar
        if progress.kept > self._kept:  # found finished: it tells nothing of the speed
            self._kept = progress.kept
            bar.initial = bar.n = bar.last_print_n = progress.kept
        bar.set_postfix_str(describe(progress, time.monotonic() - self._began_s), refresh=False)
        bar.update(progress.done + len(progress.failures) - bar.n)

    def write(self, text: str) -> None:
        """Print a line above the bar."""
        self._bar.write(text, file=sys.stderr)


def describe(progress: ArchiveProgress, seconds: float) -> str:
    """Return the rest of the line: the length of video, times real time, and what is unusual."""
    parts = [f"{work_text(progress.computed_s)} of video"]
    if seconds > 0:
        parts.append(f"{progress.computed_s / seconds:.1f}x real time")
    if progress.spans:
        parts.append(f"{progress.spans_done:,}/{progress.spans:,} spans")
    if progress.failures:
        parts.append(f"{len(progress.failures):,} failed")
    if progress.busy:
        parts.append(f"{progress.busy:,} in other runs")
    return ", ".join(parts)
