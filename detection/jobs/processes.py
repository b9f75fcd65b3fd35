"""Workers that are processes of this machine, each at the end of its own pipe.

Processes rather than threads, for Python takes part in every frame. One that dies takes its piece
with it and no other; all end with the process that started them, also where that is killed.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.connection
import os
import pickle
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerProcess
from types import TracebackType
from typing import Any, Self

from detection.cores import usable_cores
from detection.errors import UserError
from detection.jobs.base import (
    Ended,
    Open,
    PieceT,
    Resources,
    ResultT,
    WorkerLostError,
    WorkersBase,
    unpickle_outcome,
)
from detection.jobs.environment import variables
from detection.jobs.process_main import ENDED, FAILED, OPENED, TOLD, work

_KILL_AFTER_S = 2.0  # after SIGTERM


@dataclass
class _Worker:
    """A process and the end of its pipe that is ours.

    slot: its number, which says which GPU is its own; the process that replaces it has the same.
    is_open: whether it can be given a piece.
    piece: what it does now, in a tuple; None: nothing.
    """

    process: ForkServerProcess
    pipe: Connection
    slot: int
    is_open: bool = False
    piece: tuple[Any] | None = None


class ProcessWorkers(WorkersBase[PieceT, ResultT]):
    """Processes that are started as pieces come, at most `count`."""

    def __init__(
        self,
        open_: Open[PieceT, ResultT],
        *,
        workers: int | None,
        resources: Resources,
        grace_s: float | None,
    ) -> None:
        super().__init__()
        self._open = pickle.dumps(open_)
        self._resources, self._grace_s = resources, grace_s
        self._gpus = _gpu_names() if resources.gpus else []
        self.count = _room(workers, resources, self._gpus)
        self._queue: deque[tuple[PieceT, bytes]] = deque()
        self._workers: list[_Worker] = []
        self._context = multiprocessing.get_context("forkserver")
        module = getattr(getattr(open_, "func", open_), "__module__", None)
        if module:  # imported once, before processes are forked
            self._context.set_forkserver_preload([module])

    @property
    def pending(self) -> int:
        """How many pieces are submitted and not ended."""
        busy = sum(worker.piece is not None for worker in self._workers)
        return len(self._queue) + busy + len(self._ended)

    def submit(self, piece: PieceT) -> None:
        """Queue a piece, pickled as it is now."""
        self._queue.append((piece, pickle.dumps(piece)))

    def wait(self, timeout_s: float) -> list[Ended[PieceT, ResultT]]:
        """Return the pieces that ended since the last call (see `Workers`)."""
        end_s = time.monotonic() + timeout_s
        while self.pending and not self._ended:
            self._hand_out()
            by_handle: dict[Any, _Worker] = {}
            for worker in self._workers:
                by_handle[worker.pipe] = by_handle[worker.process.sentinel] = worker
            remaining_s = max(0.0, end_s - time.monotonic())
            ready = multiprocessing.connection.wait(list(by_handle), remaining_s)
            for worker in {id(one): one for one in map(by_handle.__getitem__, ready)}.values():
                self._hear(worker)
            if not ready and time.monotonic() >= end_s:
                break
        self._hand_out()
        return self._take_ended()

    def _hand_out(self) -> None:
        """Give pieces to workers that are free, and start workers for the others."""
        free = [one for one in self._workers if one.is_open and one.piece is None]
        for worker in free[: len(self._queue)]:
            piece, content = self._queue.popleft()
            worker.piece = (piece,)
            with suppress(OSError):  # it has just died, as its sentinel says next
                worker.pipe.send_bytes(content)
        coming = sum(not one.is_open for one in self._workers)
        missing = min(len(self._queue) - coming, self.count - len(self._workers))
        for _ in range(missing):
            self._start()

    def _start(self) -> None:
        taken = {one.slot for one in self._workers}
        slot = next(number for number in range(self.count) if number not in taken)
        gpus = _gpus_of(slot, self._resources.gpus, self._gpus)
        ours, theirs = self._context.Pipe()
        process = self._context.Process(
            target=work, args=(theirs, self._resources.cores, gpus), name=f"worker {slot}"
        )
        if not self._workers:
            atexit.register(self._end)  # before multiprocessing waits for processes that stay
        with variables({"OMP_NUM_THREADS": str(self._resources.cores)}):
            process.start()
        theirs.close()
        self._workers.append(_Worker(process, ours, slot))
        with suppress(OSError):  # it has just died, as its sentinel says next
            ours.send_bytes(self._open)

    def _hear(self, worker: _Worker) -> None:
        """Take what a worker has sent, and its end where it has ended."""
        has_ended = not worker.process.is_alive()  # asked first, so that nothing comes after it
        try:
            while worker.pipe.poll():
                self._take(worker, *pickle.loads(worker.pipe.recv_bytes()))
        except (EOFError, OSError):  # its main thread has ended; others may keep it alive
            worker.process.join(_KILL_AFTER_S)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
            has_ended = True
        if has_ended:
            self._lose(worker)

    def _take(self, worker: _Worker, what: str, amount: float, content: bytes) -> None:
        if amount:
            self._add_progress(amount)
        if what == FAILED:
            _, error = unpickle_outcome(content)
            assert error is not None
            raise error
        if what == OPENED:
            worker.is_open = True
            self._deaths_in_open = 0
        elif what == ENDED:
            assert worker.piece is not None
            (piece,), worker.piece = worker.piece, None
            self._deaths_in_open = 0  # others work, whatever becomes of this one's successors
            self._ended.append(Ended(piece, *unpickle_outcome(content)))
        else:
            assert what == TOLD, what

    def _lose(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        worker.pipe.close()
        how = _how_it_ended(worker.process.exitcode)
        worker.process.close()
        if not worker.is_open:
            self._died_in_open(how)
        elif worker.piece is not None:
            self._ended.append(Ended(worker.piece[0], None, WorkerLostError(f"its process {how}")))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def _end(self) -> None:
        """End all workers: those that are free at once, the others as their progress is told."""
        atexit.unregister(self._end)
        self._queue.clear()
        workers, self._workers = self._workers, []
        for worker in workers:
            worker.pipe.close()
        _join(workers, self._grace_s)
        for end in (ForkServerProcess.terminate, ForkServerProcess.kill):
            for worker in workers:
                if worker.process.is_alive():
                    end(worker.process)
            _join(workers, _KILL_AFTER_S)
        for worker in workers:
            worker.process.join()
            worker.process.close()


def _join(workers: Sequence[_Worker], timeout_s: float | None) -> None:
    """Wait until all processes have ended, no longer than `timeout_s` (None: as it takes)."""
    begun_s = time.monotonic()
    for worker in workers:
        remaining_s = None if timeout_s is None else begun_s + timeout_s - time.monotonic()
        worker.process.join(remaining_s if remaining_s is None else max(0.0, remaining_s))


def _how_it_ended(code: int | None) -> str:
    if code is not None and code < 0:
        return f"ended by signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"ended with exit code {code}"


def _room(workers: int | None, resources: Resources, gpus: Sequence[str]) -> int:
    """Return how many workers there can be; raise `UserError` where their GPUs are not there."""
    if resources.gpus:
        each = resources.gpus
        room = len(gpus) * int(1 / each) if each < 1 else int(len(gpus) / each)
        if not room:
            found = f"{len(gpus) or 'no'} GPU{'s' * (len(gpus) > 1)}"
            raise UserError(f"{each:g} GPUs a worker: PyTorch finds {found}")
        return room if workers is None else min(workers, room)
    return max(1, usable_cores() // resources.cores) if workers is None else workers


def _gpus_of(slot: int, each: float, gpus: Sequence[str]) -> str | None:
    """Return the CUDA_VISIBLE_DEVICES of a worker's slot; None: as it is."""
    if not each:
        return None
    if each < 1:
        return gpus[slot // int(1 / each)]
    return ",".join(gpus[int(slot * each) : int((slot + 1) * each)])


def _gpu_names() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES calls the GPUs that this process may use."""
    import torch

    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return named[:count] if len(named) >= count else [str(number) for number in range(count)]
