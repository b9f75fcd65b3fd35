"""Many pieces through workers, few of them on their way at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence

from detection.errors import UserError
from detection.jobs.base import (
    Ended,
    Engine,
    OnProgress,
    Open,
    PieceT,
    ResultT,
    WorkerLostError,
    Workers,
)
from detection.jobs.open import open_workers

_PROGRESS_EVERY_S = 0.5


def another_worker_may(error: Exception) -> bool:
    """Tell whether a piece is worth another attempt: not after a `UserError` of its own."""
    return isinstance(error, WorkerLostError) or not isinstance(error, UserError)


def run_all(
    workers: Workers[PieceT, ResultT],
    pieces: Iterable[PieceT],
    *,
    retries: int = 0,
    retry_if: Callable[[Exception], bool] = another_worker_may,
    most_waiting: int | None = None,
    on_progress: OnProgress = lambda amount: None,
) -> Iterator[Ended[PieceT, ResultT]]:
    """Yield each piece with its result or error, as they end, in any order.

    pieces: read only as far as they can be given out.
    retries: how often a piece that failed is attempted again, where `retry_if` says so of its
        error; only its last error is yielded.
    most_waiting: how many pieces may be submitted and not ended (None: two for each worker).
    on_progress: called in this process with the amount done since the last call, twice a second
        (here: as the piece tells it); what it raises ends all.
    Raises what `Workers.wait` raises. The workers stay open.
    """
    workers.on_progress = on_progress
    source = iter(pieces)
    is_read = False
    left: dict[int, list[int]] = defaultdict(list)  # retries of the pieces on their way, by id()
    while True:
        while not is_read and workers.pending < (most_waiting or 2 * workers.count):
            try:
                piece = next(source)
            except StopIteration:
                is_read = True
                break
            left[id(piece)].append(retries)
            workers.submit(piece)
        if is_read and not workers.pending:
            return
        for ended in workers.wait(_PROGRESS_EVERY_S):
            remaining = left[id(ended.piece)].pop()
            if not left[id(ended.piece)]:
                del left[id(ended.piece)]
            if ended.error is not None and remaining > 0 and retry_if(ended.error):
                left[id(ended.piece)].append(remaining - 1)
                workers.submit(ended.piece)
            else:
                yield ended
        on_progress(workers.take_progress())


def run_list(
    pieces: Sequence[PieceT],
    open_: Open[PieceT, ResultT],
    *,
    engine: Engine,
    workers: int | None,
    address: str | None = None,
    retries: int = 1,
    on_progress: OnProgress = lambda amount: None,
) -> Iterator[Ended[PieceT, ResultT]]:
    """Yield each of some pieces as `run_all` does, by workers of one core that are opened for them.

    Where one process is enough it is this one. engine, workers, address: see `open_workers`.
    """
    if not pieces:
        return
    if engine == "processes" and (workers == 1 or len(pieces) == 1):
        engine = "here"
    if workers is not None:
        workers = min(workers, len(pieces))
    with open_workers(engine, open_, workers=workers, address=address) as opened:
        yield from run_all(opened, pieces, retries=retries, on_progress=on_progress)
