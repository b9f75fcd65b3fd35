"""What a worker's process runs: pieces out of a pipe, results and progress into it."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import signal
import threading
import time
from contextlib import suppress
from multiprocessing.connection import Connection

from detection.jobs.base import WorkStopped, as_piece_error, attempt, pickle_outcome

OPENED, FAILED, TOLD, ENDED = "opened", "failed", "told", "ended"  # what a message says

_TELL_EVERY_S = 0.2


def work(pipe: Connection, cores: int, gpus: str | None) -> None:
    """Read an `Open` and then pieces from the pipe until it is closed; send what becomes of them.

    gpus: CUDA_VISIBLE_DEVICES; None: as it is. Messages are tuples of what they say, the amount
    done since the last one, and bytes: of `pickle_outcome` where it is FAILED or ENDED.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops this process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(cores)
    if gpus is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus
    inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    progress = _Progress(pipe)
    threading.Thread(target=_read, args=(pipe, inbox, progress.stop), daemon=True).start()
    # Where the parent has closed its end there is no more to do.
    with suppress(WorkStopped, BrokenPipeError, ConnectionResetError):
        _serve(pipe, inbox, progress)


def _serve(pipe: Connection, inbox: queue.SimpleQueue[bytes | None], progress: _Progress) -> None:
    content = inbox.get()
    if content is None:
        return
    try:
        do = pickle.loads(content)()
    except Exception as error:
        _send(pipe, FAILED, 0.0, pickle_outcome(None, as_piece_error(error)))
        return
    _send(pipe, OPENED, 0.0, b"")
    while (content := inbox.get()) is not None:
        outcome = attempt(lambda content, tell: do(pickle.loads(content), tell), content, progress)
        _send(pipe, ENDED, progress.take(), pickle_outcome(*outcome))


def _send(pipe: Connection, what: str, amount: float, content: bytes) -> None:
    pipe.send_bytes(pickle.dumps((what, amount, content)))


class _Progress:
    """The callback of a worker's pieces: sums up what is done, and sends it now and then."""

    def __init__(self, pipe: Connection) -> None:
        self.stop = threading.Event()
        self._pipe = pipe
        self._amount, self._sent_s = 0.0, time.monotonic()

    def __call__(self, amount: float) -> None:
        if self.stop.is_set():
            raise WorkStopped
        self._amount += amount
        if time.monotonic() - self._sent_s >= _TELL_EVERY_S:
            _send(self._pipe, TOLD, self.take(), b"")

    def take(self) -> float:
        """Return what was not sent."""
        amount, self._amount, self._sent_s = self._amount, 0.0, time.monotonic()
        return amount


def _read(pipe: Connection, inbox: queue.SimpleQueue[bytes | None], stop: threading.Event) -> None:
    try:
        while True:
            inbox.put(pipe.recv_bytes())
    except (EOFError, OSError):
        stop.set()
        inbox.put(None)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
