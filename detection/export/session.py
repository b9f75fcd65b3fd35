"""What every runtime has in common: a program that is opened once and run often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable

Precision = Literal["f32", "bf16"]
_LONGEST_REASON = 300


@dataclass(frozen=True)
class Threads:
    """How a runtime uses the processor.

    total: CPU threads in all.
    callers: threads of this program that run the network at a time.
    """

    total: int = 1
    callers: int = 1

    @property
    def each(self) -> int:
        """CPU threads for one call."""
        return max(1, self.total // self.callers)


class RuntimeSession(Protocol):
    """A program opened by a runtime."""

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the program's one output; `UserError` where the runtime fails."""

    def run_all(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return all outputs of a program that may have several; errors as `run`."""


def short_reason(error: BaseException) -> str:
    """Return what a runtime said, on one line and no longer than a line."""
    lines = [line.strip() for line in str(error).split("\n") if line.strip()]
    told = [line for line in lines if not line.startswith("Exception from ")] or lines
    reason = printable(" ".join(told) or type(error).__name__)
    return reason if len(reason) <= _LONGEST_REASON else reason[:_LONGEST_REASON] + "..."
