"""Pieces of work and the workers that do them, whatever runs the workers.

    with open_workers("processes", functools.partial(open_prober, options), workers=4) as workers:
        for ended in run_all(workers, paths, retries=1):
            print(ended.piece, ended.error or ended.result)

A worker calls its `Open` once, which opens networks and the like, and gets the function that does
one piece. Pieces, results and the `Open` travel between processes, so they are pickled; the `Open`
is a function of a module, or a `functools.partial` of one.
"""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, Literal, Protocol, Self, TypeVar

from detection.errors import ProcessLostError, UserError

PieceT = TypeVar("PieceT")
ResultT = TypeVar("ResultT")

Engine = Literal["here", "processes", "ray"]

# Takes the amount done since the last call, 0 too. In a worker it raises `WorkStopped` where the
# work is to stop, so a piece that takes long calls it often.
OnProgress = Callable[[float], object]
Do = Callable[[PieceT, OnProgress], ResultT]
Open = Callable[[], Do[PieceT, ResultT]]

DEATHS_IN_OPEN = 3  # in a row, after which no further worker is tried


@dataclass(frozen=True)
class Resources:
    """What one worker takes.

    cores: its threads, at least 1. OMP_NUM_THREADS says so in the worker; what else the worker's
        libraries must be told (`torch.set_num_threads`) its `Open` tells them.
    gpus: 0 for none; parts of one share it.
    """

    cores: int = 1
    gpus: float = 0.0

    def __post_init__(self) -> None:
        if self.cores < 1:
            raise UserError(f"{self.cores} cores a worker: 1 or more are required")
        if not 0 <= self.gpus < float("inf") or (self.gpus > 1 and self.gpus % 1):
            raise UserError(f"{self.gpus:g} GPUs a worker: a part of one, or a whole number")


class WorkerLostError(ProcessLostError):
    """A worker ended in the midst of a piece: killed, out of memory, its machine gone."""


class PieceError(Exception):
    """Any error of a piece that is no `UserError`: its text with the worker's traceback."""


class WorkStopped(BaseException):  # no Exception: what handles errors of a piece must not take it
    """The workers are being closed: raised by the progress callback of a piece."""


@dataclass(frozen=True)
class Ended(Generic[PieceT, ResultT]):
    """A piece that was done or has failed.

    piece: the object that was submitted.
    result: None where it failed.
    error: a `UserError` as raised, a `WorkerLostError`, or a `PieceError`; None where it was done.
    """

    piece: PieceT
    result: ResultT | None
    error: Exception | None


class Workers(Protocol[PieceT, ResultT]):
    """Workers under way; a context manager that ends them when it is left.

    on_progress: where it is set it is told the amount done while `wait` runs, and
        `take_progress` has nothing left.
    dashboard: the address of a page that shows the workers; None where there is none.
    """

    on_progress: OnProgress | None
    dashboard: str | None

    @property
    def count(self) -> int:
        """How many workers there can be at once; of Ray as the cluster allows now."""

    @property
    def pending(self) -> int:
        """How many pieces are submitted and not ended."""

    def submit(self, piece: PieceT) -> None:
        """Queue a piece; it is given to a worker when one is free and `wait` runs."""

    def wait(self, timeout_s: float) -> list[Ended[PieceT, ResultT]]:
        """Return the pieces that ended since the last call, as soon as there are any.

        An empty list after `timeout_s`, and at once where nothing is pending. Raises the
        `UserError` of an `Open`, `PieceError` for another error in it, and `UserError` where
        workers die in it three times in a row, while no piece ends.
        """

    def take_progress(self) -> float:
        """Return the amount done since the last call, by all workers together."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class WorkersBase(Generic[PieceT, ResultT]):
    """What the implementations share: the queue, the pieces that ended, and progress."""

    def __init__(self) -> None:
        self.on_progress: OnProgress | None = None
        self.dashboard: str | None = None
        self._ended: list[Ended[PieceT, ResultT]] = []
        self._deaths_in_open = 0
        self._amount = 0.0

    def take_progress(self) -> float:
        """Return the amount done since the last call, by all workers together."""
        amount, self._amount = self._amount, 0.0
        return amount

    def _add_progress(self, amount: float) -> None:
        if self.on_progress is not None:
            self.on_progress(amount)
        else:
            self._amount += amount

    def _take_ended(self) -> list[Ended[PieceT, ResultT]]:
        ended, self._ended = self._ended, []
        return ended

    def _died_in_open(self, how: str) -> None:
        self._deaths_in_open += 1
        if self._deaths_in_open >= DEATHS_IN_OPEN:
            raise UserError(
                f"{DEATHS_IN_OPEN} workers in a row ended before they were ready, the last one "
                f"{how}"
            )


def attempt(
    do: Do[PieceT, ResultT], piece: PieceT, on_progress: OnProgress
) -> tuple[ResultT | None, Exception | None]:
    """Do a piece; return its result, or the error of an `Ended`."""
    try:
        return do(piece, on_progress), None
    except Exception as error:
        return None, as_piece_error(error)


def as_piece_error(error: Exception) -> Exception:
    """Return a `UserError` as it is, any other error with its traceback in a `PieceError`."""
    if isinstance(error, UserError):
        return error
    return PieceError("".join(traceback.format_exception(error)).rstrip())


def pickle_outcome(result: object, error: Exception | None) -> bytes:
    """Return the pickle of what became of a piece; what cannot be pickled is an error too."""
    try:
        if error is not None:
            pickle.loads(pickle.dumps(error))  # some errors cannot be made anew
    except Exception:
        error = UserError(str(error)) if isinstance(error, UserError) else PieceError(str(error))
    try:
        return pickle.dumps((result, error))
    except Exception as problem:
        return pickle.dumps((None, as_piece_error(problem)))


def unpickle_outcome(content: bytes) -> tuple[Any, Exception | None]:
    """Return the result and the error of `pickle_outcome`."""
    try:
        result, error = pickle.loads(content)
    except Exception as problem:  # its class is not there, say
        return None, as_piece_error(problem)
    return result, error
