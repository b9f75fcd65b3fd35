"""Pieces for workers: what they do, by name, and what becomes of their processes."""

from __future__ import annotations

import functools
import os
import signal
import threading
import time
from pathlib import Path

from detection.errors import UserError
from detection.jobs.base import WorkStopped


class TwoPartError(UserError):
    """An error that cannot be unpickled."""

    def __init__(self, file, line):
        super().__init__(f"{file}:{line}")


def open_work(factor=1):
    return functools.partial(do, factor)


def open_that_refuses():
    raise UserError("weights.pt: file not found")


def open_that_breaks():
    raise ZeroDivisionError("in the open")


def open_that_dies():
    os.kill(os.getpid(), signal.SIGKILL)


def open_that_dies_at(path, attempts):
    """Die at these attempts, the first being 1; they are noted in a file."""
    with Path(path).open("a") as file:
        file.write("x")
    if len(Path(path).read_text()) in attempts:
        open_that_dies()
    return open_work()


def do(factor, piece, on_progress):
    what, value = piece
    return globals()[f"_{what}"](value, on_progress, factor)


def _times(value, on_progress, factor):
    on_progress(value)
    return value * factor


def _fail(value, on_progress, factor):
    raise value


def _fail_in_two_parts(value, on_progress, factor):
    raise TwoPartError(value, 3)


def _divide(value, on_progress, factor):
    return 1 / value


def _unpicklable(value, on_progress, factor):
    return threading.Lock()


def _pid(value, on_progress, factor):
    return os.getpid(), os.environ.get("OMP_NUM_THREADS"), os.environ.get("CUDA_VISIBLE_DEVICES")


def _kill(value, on_progress, factor):
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_once(path, on_progress, factor):
    if Path(path).exists():
        return "done"
    Path(path).touch()
    os.kill(os.getpid(), signal.SIGKILL)


def _fail_once(path, on_progress, factor):
    if not Path(path).exists():
        Path(path).touch()
        raise OSError("a disk that was away")
    return "done"


def _until_stopped(path, on_progress, factor):
    """Work until the callback says stop; say so in a file."""
    Path(path).write_text(str(os.getpid()))
    try:
        while True:
            on_progress(0.0)
            time.sleep(0.02)
    except WorkStopped:
        Path(f"{path}.stopped").touch()
        raise


def _heedless(path, on_progress, factor):
    Path(path).write_text(str(os.getpid()))
    time.sleep(600)


def is_gone(pid):
    """Tell whether a process has ended; one that was not waited for counts as ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"


def descendants(pid):
    """Return the ids of a process's children, of their children, and so on."""
    children = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        children.setdefault(parent, []).append(int(path.parent.name))
    found, todo = [], [pid]
    while todo:
        more = children.get(todo.pop(), [])
        found += more
        todo += more
    return found


def until(is_so, seconds=30.0):
    """Wait until something is so; fail if it is not in time."""
    end_s = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end_s, "not in time"
        time.sleep(0.05)
