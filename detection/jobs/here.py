"""Pieces done in this process, one after the other, while it waits for them."""

from __future__ import annotations

from collections import deque
from types import TracebackType
from typing import Self

from detection.jobs.base import (
    Do,
    Ended,
    Open,
    PieceT,
    ResultT,
    WorkersBase,
    as_piece_error,
    attempt,
)


class HereWorkers(WorkersBase[PieceT, ResultT]):
    """One worker that is this process; each `wait` does one piece, whatever its timeout."""

    count = 1

    def __init__(self, open_: Open[PieceT, ResultT]) -> None:
        super().__init__()
        self._open = open_
        self._do: Do[PieceT, ResultT] | None = None
        self._queue: deque[PieceT] = deque()

    @property
    def pending(self) -> int:
        """How many pieces are submitted and not ended."""
        return len(self._queue)

    def submit(self, piece: PieceT) -> None:
        """Queue a piece."""
        self._queue.append(piece)

    def wait(self, timeout_s: float) -> list[Ended[PieceT, ResultT]]:
        """Do the next piece and return it; an empty list where there is none."""
        if not self._queue:
            return []
        if self._do is None:
            try:
                self._do = self._open()
            except Exception as error:
                raise as_piece_error(error) from error
        piece = self._queue.popleft()
        return [Ended(piece, *attempt(self._do, piece, self._add_progress))]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._do = None
        self._queue.clear()
