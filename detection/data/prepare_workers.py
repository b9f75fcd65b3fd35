"""Many videos prepared at once, one process a video.

Processes rather than threads: Python takes part in every frame. They end with the one that started
them, also where that is killed.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from detection.data.prepare_video import CannotWriteError, PrepareJob, prepare_video
from detection.errors import UserError

_TOLD_EVERY_S = 0.5


def prepare_all(
    jobs: Sequence[PrepareJob],
    *,
    processes: int,
    told: Callable[[float], None] = lambda seconds: None,
) -> dict[str, str]:
    """Prepare every video, the longest first; return why by the id of each that failed.

    told: called with seconds of film done since the last call. Raises `CannotWriteError` for an
    output that cannot be written, `UserError` where a process was ended from outside.
    """
    jobs = sorted(jobs, key=_length_s, reverse=True)
    if processes <= 1 or len(jobs) <= 1:
        return _one_by_one(jobs, told)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([prepare_video.__module__])
    done_s, stop = context.Value("d", 0.0), context.Event()
    failed: dict[str, str] = {}
    pool = ProcessPoolExecutor(
        min(processes, len(jobs)), context, initializer=_start_worker, initargs=(done_s, stop)
    )
    waiting: dict[Future[None], PrepareJob] = {pool.submit(_work, job): job for job in jobs}
    told_s = 0.0
    try:
        while waiting:
            done, _ = wait(waiting, timeout=_TOLD_EVERY_S, return_when=FIRST_COMPLETED)
            told(done_s.value - told_s)
            told_s = done_s.value
            for future in done:
                job = waiting.pop(future)
                try:
                    future.result()
                except CannotWriteError:
                    raise
                except UserError as error:
                    failed[job.video_id] = str(error)
                except BrokenProcessPool as error:
                    raise UserError(
                        "a process that prepares videos was ended from outside (was there enough "
                        "memory? --jobs makes it fewer); the same command goes on"
                    ) from error
    finally:
        stop.set()
        pool.shutdown(wait=True, cancel_futures=True)
    return failed


def _one_by_one(jobs: Sequence[PrepareJob], told: Callable[[float], None]) -> dict[str, str]:
    failed: dict[str, str] = {}
    for job in jobs:
        try:
            prepare_video(job, told=told)
        except CannotWriteError:
            raise
        except UserError as error:
            failed[job.video_id] = str(error)
    return failed


def _length_s(job: PrepareJob) -> float:
    return job.last.time_s - job.first.time_s


class _StoppedError(Exception):
    """The process that started this one wants no more."""


_shared: dict[str, Any] = {}


def _start_worker(done_s: Any, stop: Any) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells this one to stop
    _shared.update(done_s=done_s, stop=stop)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(job: PrepareJob) -> None:
    def told(seconds: float) -> None:
        if _shared["stop"].is_set():
            raise _StoppedError
        with _shared["done_s"].get_lock():
            _shared["done_s"].value += seconds

    prepare_video(job, told=told)
