"""What a check finds, and how findings are counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows
from detection.errors import Problems, UserError, place_in
from detection.structures import Keyframe

Level = Literal["error", "warning", "note"]
OUTSIDE = "time outside the video"


@dataclass(frozen=True)
class Finding:
    """One thing that a check found.

    kind: findings are counted by it.
    level: an error stops a training run or spoils its result, a warning is seldom meant, a note is
        worth knowing.
    path: the file that it is about.
    line: of the file, from 1; None where it is about the whole file.
    message: what was found and what is required.
    keyframe: where it is about one keyframe.
    video_id: where it is about a whole video.
    advice: what to do; empty where the message says it.
    """

    kind: str
    level: Level
    path: str
    line: int | str | None
    message: str
    keyframe: Keyframe | None = None
    video_id: str = ""
    advice: str = ""

    @property
    def subject(self) -> str:
        """The video, or else the file."""
        return self.video_id or self.path

    def __str__(self) -> str:
        return f"{place_in(self.subject, self.line)}: {self.message}" + (
            f"; {self.advice}" if self.advice else ""
        )

    def to_json(self) -> dict[str, Any]:
        """Return the finding as plain values."""
        return {
            "kind": self.kind,
            "level": self.level,
            "file": self.path,
            "line": self.line,
            "message": self.message,
            "video_id": self.keyframe.video_id if self.keyframe else self.video_id or None,
            "time_s": self.keyframe.time_s if self.keyframe else None,
            "advice": self.advice,
        }


@dataclass
class Findings:
    """All findings.

    kept_per_kind: so many findings of each kind and file are kept, the others are counted only.
    kept: the findings that are kept.
    counts: number of findings by kind and level.
    """

    kept_per_kind: int = 20
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, Level]] = field(default_factory=Counter)
    _kept: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.counts[finding.kind, finding.level] += 1
        if self._room(finding.kind, finding.path):
            self._kept[finding.kind, finding.path] += 1
            self.kept.append(finding)

    def extend(self, findings: Iterable[Finding]) -> None:
        """Add several findings."""
        for finding in findings:
            self.add(finding)

    def error(self, kind: str, path: str, message: str, *, line: int | str | None = None) -> None:
        """Add an error."""
        self.add(Finding(kind, "error", path, line, message))

    def warning(self, kind: str, path: str, message: str, *, line: int | None = None) -> None:
        """Add a warning."""
        self.add(Finding(kind, "warning", path, line, message))

    def add_rows(
        self,
        kind: str,
        level: Level,
        rows: AvaRows,
        bad: NDArray[np.bool_] | NDArray[np.int64],
        message: Callable[[int], str],
    ) -> None:
        """Add a finding for each bad row; those that are not kept get no message.

        bad: (N,) mask, or positions of rows.
        """
        places = np.flatnonzero(bad) if bad.dtype == np.bool_ else np.sort(bad)
        room = self._room(kind, rows.path)
        for row in places[:room].tolist():
            line, keyframe = int(rows.line[row]), rows.keyframe(row)
            self.add(Finding(kind, level, rows.path, line, message(row), keyframe))
        if len(places) > room:
            self.counts[kind, level] += len(places) - room

    @contextmanager
    def catching(self, kind: str) -> Iterator[None]:
        """Turn a `UserError` or `OSError` of the block into a finding."""
        try:
            yield
        except OSError as error:
            self.error(kind, str(error.filename or ""), error.strerror or str(error))
        except UserError as error:
            text = str(error)
            match = re.match(r"(?P<path>.+?)(:(?P<line>\d+))?: (?P<message>.*)", text, re.S)
            path, line, message = match.group("path", "line", "message") if match else ("", 0, text)
            self.error(kind, path, message, line=int(line) if line else None)

    def total(self, level: Level) -> int:
        """Return how many findings of a level there are."""
        return sum(times for (_, of), times in self.counts.items() if of == level)

    def _room(self, kind: str, path: str) -> int:
        return max(0, self.kept_per_kind - self._kept[kind, path])


class BadRows(Problems):
    """Adds rows that cannot be read to the findings, instead of raising."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self._findings = findings

    def add(self, path: str | Path, place: int | str | None, message: str) -> None:
        """Add a bad row as a finding."""
        self._findings.error("unreadable row", str(path), message, line=place)

    def raise_if_any(self) -> None:
        """Never raises: the findings are all there is to say."""
