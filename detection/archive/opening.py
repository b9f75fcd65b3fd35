"""Opens a worker where it is to work: what gives work out loads no network."""

from __future__ import annotations

from collections.abc import Callable

from detection.archive.pieces import Piece, Result, WorkOptions
from detection.jobs.base import OnProgress


def open_worker(options: WorkOptions) -> Callable[[Piece, OnProgress], Result]:
    """Open the networks; return what does a piece. Raises `UserError` where they cannot be."""
    from detection.archive.work import Worker  # torch and all

    return Worker.open(options)
