"""What a check finds, and how findings are counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from detection.errors import Problems, place_in
from detection.structures import Keyframe

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong (error) or seldom meant (warning). line: from 1, None: no line."""

    kind: str
    level: Level
    path: str
    line: int | str | None
    message: str
    keyframe: Keyframe | None = None

    def __str__(self) -> str:
        return f"{place_in(self.path, self.line)}: {self.message}"


@dataclass
class Findings:
    """All that was found; of each kind and file `kept_per_kind` in words, all of them counted."""

    kept_per_kind: int = 20
    kept: list[Finding] = field(default_factory=list)
    counts: Counter[tuple[str, Level]] = field(default_factory=Counter)
    _kept: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it while there is room."""
        self.count(finding.kind, finding.level, 1)
        if self.room(finding.kind, finding.path):
            self._kept[finding.kind, finding.path] += 1
            self.kept.append(finding)

    def count(self, kind: str, level: Level, times: int) -> None:
        """Count findings that are not put into words."""
        self.counts[kind, level] += times

    def room(self, kind: str, path: str) -> int:
        """Return how many more findings of a kind and file are kept."""
        return max(0, self.kept_per_kind - self._kept[kind, path])

    def total(self, level: Level) -> int:
        """Return how many findings of a level there are."""
        return sum(times for (_, of), times in self.counts.items() if of == level)


class BadRows(Problems):
    """Takes rows that cannot be read as findings, instead of raising."""

    def __init__(self, findings: Findings) -> None:
        super().__init__()
        self.findings = findings

    def add(self, path: str | Path, place: int | str | None, message: str) -> None:
        """Note a bad row as a finding."""
        self.findings.add(Finding("unreadable row", "error", str(path), place, message))

    def raise_if_any(self) -> None:
        """Never raises: the findings are all there is to say."""
