"""The same work on many videos, one process a video at a time.

Processes rather than threads: Python takes part in every frame. They end with the one that started
them, also where that is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from detection.errors import UserError

Job = TypeVar("Job")
Result = TypeVar("Result")
Told = Callable[[float], None]

_TOLD_EVERY_S = 0.5


def work_through(
    work: Callable[[Job, Told], Result],
    jobs: Sequence[Job],
    *,
    processes: int,
    told: Told = lambda amount: None,
) -> Iterator[tuple[Job, Result | UserError]]:
    """Yield each job with its result, or with the `UserError` it ended in, as they are done.

    work: a function of a module, given a job and whom to tell how much is done. told: called here
    with the amount done since the last call. Raises `UserError` where a process was ended from
    outside. Whoever stops taking results stops the work.
    """
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _tried(work, job, told)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    done_amount, stop = context.Value("d", 0.0), context.Event()
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), context, initializer=_start, initargs=(done_amount, stop)
    )
    waiting: dict[Future[Result | UserError], Job] = {
        pool.submit(_tried, work, job): job for job in jobs
    }
    told_amount = 0.0
    try:
        while waiting:
            done, _ = wait(waiting, timeout=_TOLD_EVERY_S, return_when=FIRST_COMPLETED)
            amount = done_amount.value
            told(amount - told_amount)
            told_amount = amount
            for future in done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "a process that works on videos was ended from outside (was there enough memory? "
            "--jobs makes it fewer); the same command goes on"
        ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)


def _tried(
    work: Callable[[Job, Told], Result], job: Job, told: Told | None = None
) -> Result | UserError:
    try:
        return work(job, _tell_parent if told is None else told)
    except UserError as error:
        return error


class _StoppedError(Exception):
    """The process that started this one wants no more."""


_shared: dict[str, Any] = {}


def _start(done_amount: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells this one to stop
    _shared.update(done_amount=done_amount, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _tell_parent(amount: float) -> None:
    if _shared["stop"].is_set():
        raise _StoppedError
    with _shared["done_amount"].get_lock():
        _shared["done_amount"].value += amount
