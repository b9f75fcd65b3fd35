"""Worker processes that end when they should: with who reads through them, and with the program.

Two things come together where they would otherwise stay: `start_worker` makes a worker deaf to
SIGTERM, and torch's own way of ending it, a message through a queue, is lost where the iterator is
found by the cycle collector (an error's traceback makes such cycles), since the queue is closed
first. multiprocessing then waits for the worker at the end of the program, for ever.
"""

from __future__ import annotations

import atexit
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Generic, TypeVar

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from detection.datasets.workers import lost_reader, worker_death
from detection.errors import UserError

T = TypeVar("T")


class Readers(Generic[T]):
    """What a `DataLoader` yields, as often as asked; its worker processes end with this object.

    The loader must have been made with `persistent_workers` if it has workers: they belong to it
    then, not to whoever iterates.
    """

    def __init__(self, loader: DataLoader[T]) -> None:
        if loader.num_workers and not loader.persistent_workers:
            raise ValueError("the workers of a loader that is to end them must be persistent")
        self._loader = loader
        self._owner = os.getpid()
        # It holds the loader, and so the queues, until the workers have been told.
        weakref.finalize(self, _end_workers, loader, self._owner).atexit = False
        _alive.add(self)

    def __iter__(self) -> Iterator[T]:
        """Yield what the loader does; `ProcessLostError` where a worker was ended from outside.

        It is met here alone, between two batches: torch would have it interrupt whatever the
        program is doing, in the middle of an update of the weights say.
        """
        try:
            with _unchanged_handler(signal.SIGCHLD):
                source = iter(self._loader)
        except OSError as error:
            raise UserError(
                f"{self._loader.num_workers} processes that read samples cannot be started "
                f"({error.strerror}): fewer `workers` are required"
            ) from error
        try:
            yield from source
        except (RuntimeError, OSError, EOFError) as error:
            lost = worker_death(error)
            if lost is None and not isinstance(error, RuntimeError) and _has_lost(source):
                lost = lost_reader(str(error) or type(error).__name__)
            if lost is None:
                raise
            raise lost from error

    def close(self) -> None:
        """End the worker processes; iterating again starts new ones."""
        _end_workers(self._loader, self._owner)


@contextmanager
def _unchanged_handler(number: signal.Signals) -> Iterator[None]:
    """Put a signal's handler back as it was, where this thread may."""
    before = signal.getsignal(number)
    yield
    if signal.getsignal(number) is not before:
        signal.signal(number, before)


def _has_lost(source: Iterator[Any]) -> bool:
    """Tell whether a worker has ended; what it sent last may fail before that is known."""
    if not isinstance(source, _MultiProcessingDataLoaderIter):
        return False
    for worker in source._workers:
        worker.join(0.2)
    return not all(worker.is_alive() for worker in source._workers)


_alive: weakref.WeakSet[Readers[Any]] = weakref.WeakSet()


# Registered after multiprocessing's and torch's own, which wait for workers, and so called before.
@atexit.register
def _end_all() -> None:
    for readers in list(_alive):
        readers.close()


def _end_workers(loader: DataLoader[Any], owner: int) -> None:
    if os.getpid() != owner:  # a forked process has the object, not the workers
        return
    iterator, loader._iterator = loader._iterator, None
    if not isinstance(iterator, _MultiProcessingDataLoaderIter):
        return
    iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():  # in the middle of a long read
            worker.kill()
            worker.join()
