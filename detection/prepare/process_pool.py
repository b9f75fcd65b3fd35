"""The same work on many videos, in several processes.

Processes rather than threads, for Python takes part in every frame. They end with the process that
started them, also where that is killed.
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
OnProgress = Callable[[float], object]

_PROGRESS_EVERY_S = 0.5


def run_jobs(
    work: Callable[[Job, OnProgress], Result],
    jobs: Sequence[Job],
    *,
    processes: int,
    on_progress: OnProgress = lambda amount: None,
) -> Iterator[tuple[Job, Result | UserError]]:
    """Yield each job with its result, or with the `UserError` it ended in, as they are done.

    work: a function of a module; takes a job and a callback for the amount done.
    on_progress: called in this process with the amount done since the last call.
    Raises `UserError` where a process was ended from outside. Closing the iterator stops the work.
    """
    if processes <= 1 or len(jobs) <= 1:
        for job in jobs:
            yield job, _attempt(work, job, on_progress)
        return
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([work.__module__])
    done_amount, stop = context.Value("d", 0.0), context.Event()
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), context, initializer=_start, initargs=(done_amount, stop)
    )
    waiting: dict[Future[Result | UserError], Job] = {
        pool.submit(_attempt, work, job): job for job in jobs
    }
    reported = 0.0
    try:
        while waiting:
            done, _ = wait(waiting, timeout=_PROGRESS_EVERY_S, return_when=FIRST_COMPLETED)
            amount = done_amount.value
            on_progress(amount - reported)
            reported = amount
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


def _attempt(
    work: Callable[[Job, OnProgress], Result], job: Job, on_progress: OnProgress | None = None
) -> Result | UserError:
    try:
        return work(job, on_progress or _report_to_parent)
    except UserError as error:
        return error


class _StoppedError(Exception):
    """The process that started this one stops the work."""


_shared: dict[str, Any] = {}


def _start(done_amount: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops this process
    _shared.update(done_amount=done_amount, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _report_to_parent(amount: float) -> None:
    if _shared["stop"].is_set():
        raise _StoppedError
    with _shared["done_amount"].get_lock():
        _shared["done_amount"].value += amount
