"""Reads batches in DataLoader workers: reports unreadable samples, shuts workers down.

Used by every loader of this project, with worker processes and without.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Generic, Literal, Protocol, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from detection.errors import ProcessLostError, UserError

T = TypeVar("T")

# (epoch, position in the data set): the pair decides every random choice about a sample, so that
# runs repeat and resume whatever the number of workers.
SampleIndex = tuple[int, int]

# What to do about unreadable samples: raise; read another sample in its place (chosen by its index
# alone); return a smaller batch.
OnUnreadable = Literal["end", "replace", "leave out"]

_WATCH_S = 0.5  # how often a worker checks that its parent is alive
_ATTEMPTS = 10  # at replacements, before raising


class FixedBatches:
    """Batches of samples in a fixed order, as epoch 0 has them.

    groups: positions in the data set that may share a batch.
    share: (rank, processes); this process gets every n-th batch.
    """

    def __init__(
        self,
        groups: Iterable[Sequence[int] | NDArray[np.int64]],
        *,
        batch_size: int,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        self._batches = [
            [(0, int(position)) for position in group[start : start + batch_size]]
            for group in groups
            for start in range(0, len(group), batch_size)
        ][share[0] :: share[1]]

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def num_samples(self) -> int:
        """Number of this process's samples."""
        return sum(map(len, self._batches))


class Samples(Protocol):
    """A data set that is read one batch at a time."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[Any]:
        """Return the samples of a batch, by (epoch, position)."""


def too_many_unreadable(problem: UserError, count: int, what: str, most: float) -> UserError:
    """Return the last problem of `count` videos, and of several `what` cannot be read."""
    may = f"data.max_unreadable={most:g} of them may be"
    return problem if count == 1 else UserError(f"{problem} ({what} cannot be read, {may})")


@dataclass(frozen=True)
class ReadFailure:
    """A `UserError` of a worker; torch would wrap a raised one in its traceback."""

    message: str


@dataclass(frozen=True)
class ReadResult:
    """The result of a worker.

    content: the samples, or their batch.
    unreadable: a line for each sample that could not be read.
    """

    content: Any
    unreadable: tuple[str, ...] = ()

    def pin_memory(self) -> ReadResult:
        """Return the batch in page-locked memory (called by DataLoader)."""
        if self.content is None:
            return self
        return ReadResult(self.content.pin_memory(), self.unreadable)


class GuardedReader(Dataset[object]):
    """Reads batches; returns `UserError`s as values; other exceptions are raised."""

    def __init__(self, dataset: Samples, *, on_unreadable: OnUnreadable) -> None:
        self._dataset = dataset
        self._on_unreadable = on_unreadable

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[SampleIndex]) -> ReadResult | ReadFailure:
        """Return the samples of a batch, read together; one by one where that fails."""
        try:
            return ReadResult(self._dataset.__getitems__(indices))
        except UserError as error:
            if self._on_unreadable == "end":
                return ReadFailure(str(error))
        samples, unreadable = [], []
        for index in indices:
            sample, reason = self._read_one(index)
            if reason is not None:
                unreadable.append(reason)
                if self._on_unreadable == "replace":
                    for attempt in range(_ATTEMPTS):
                        sample, again = self._read_one(self._other(index, attempt))
                        if again is None:
                            break
                    else:
                        return ReadFailure(f"{reason} (and {_ATTEMPTS} replacements)")
            if sample is not None:
                samples.append(sample)
        return ReadResult(samples, tuple(unreadable))

    def _read_one(self, index: SampleIndex) -> tuple[Any, str | None]:
        try:
            return self._dataset.__getitems__([index])[0], None
        except UserError as error:
            return None, " ".join(str(error).split())

    def _other(self, index: SampleIndex, attempt: int) -> SampleIndex:
        generator = np.random.default_rng((*index, attempt))
        return index[0], int(generator.integers(len(self._dataset)))


@dataclass(frozen=True)
class CollateResults:
    """Collates the samples of `GuardedReader` to a batch, None where there are no samples."""

    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, part: Any) -> ReadResult | ReadFailure:
        """Collate the samples of a result."""
        if isinstance(part, ReadFailure):
            return part
        assert isinstance(part, ReadResult)
        content = self.collate(part.content) if part.content else None
        return ReadResult(content, part.unreadable)


def start_worker(_: int) -> None:
    """Initialize a worker process: one thread (the network uses the other cores), no signals.

    Ctrl-C and a scheduler's SIGTERM are sent to the workers too, but the main process still needs
    their samples to finish its step, and then shuts them down.
    """
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def end_with_parent() -> None:
    """Make this `multiprocessing` process exit soon after its parent, even a killed one.

    Also while it reads, waits for a lock or blocks on a full pipe: torch checks only between reads.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    own = multiprocessing.current_process()
    how = getattr(own, "_start_method", None) or multiprocessing.get_start_method()
    # `is_alive` stays true while forked siblings hold the parent's sentinel: compare process ids.
    has_parent_id = how != "forkserver"

    def is_gone() -> bool:
        return not parent.is_alive() or (has_parent_id and os.getppid() != parent.pid)

    def watch() -> None:
        while not is_gone():
            time.sleep(_WATCH_S)
        os._exit(1)

    if is_gone():
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def worker_death(error: BaseException) -> ProcessLostError | None:
    """Return the error for a worker that was killed; None for any other error of a loader."""
    text = str(error).split("\n")[0]
    return _lost_worker(text.strip().rstrip(".")) if "DataLoader worker" in text else None


def _lost_worker(reason: str) -> ProcessLostError:
    return ProcessLostError(
        f"a process that reads samples is gone ({reason}): often memory ran out; "
        "fewer `workers` or smaller batches are required"
    )


class ManagedLoader(Generic[T]):
    """Iterates over a `DataLoader`; its worker processes shut down with this object.

    torch shuts workers down by a message through a queue, which is lost where the cycle collector
    closes the queue first (an error's traceback makes such cycles). `start_worker` makes workers
    ignore SIGTERM, and multiprocessing would then wait for them at exit for ever.

    A loader with workers must have `persistent_workers`: they then belong to the loader and not to
    its iterator.
    """

    def __init__(self, loader: DataLoader[T]) -> None:
        if loader.num_workers and not loader.persistent_workers:
            raise ValueError("a managed loader's workers must be persistent")
        self._loader = loader
        self._owner = os.getpid()
        # The finalizer keeps the loader, and so its queues, until the workers are shut down.
        weakref.finalize(self, _end_workers, loader, self._owner).atexit = False
        _alive.add(self)

    def __iter__(self) -> Iterator[T]:
        """Yield the loader's batches; raises `ProcessLostError` where a worker was killed.

        It is raised only here, between two batches; torch's own signal handler would raise it
        anywhere, for example in the middle of an update of the weights.
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
            if lost is None and not isinstance(error, RuntimeError) and _has_lost_worker(source):
                lost = _lost_worker(str(error) or type(error).__name__)
            if lost is None:
                raise
            raise lost from error

    def close(self) -> None:
        """Shut the worker processes down; iterating again starts new ones."""
        _end_workers(self._loader, self._owner)


@contextmanager
def _unchanged_handler(number: signal.Signals) -> Iterator[None]:
    """Restore a signal's handler on leaving the block, where it was changed."""
    before = signal.getsignal(number)
    yield
    if signal.getsignal(number) is not before:
        signal.signal(number, before)


def _has_lost_worker(source: Iterator[Any]) -> bool:
    """Return whether a worker has exited; wait a little, as its last message may fail earlier."""
    if not isinstance(source, _MultiProcessingDataLoaderIter):
        return False
    for worker in source._workers:
        worker.join(0.2)
    return not all(worker.is_alive() for worker in source._workers)


_alive: weakref.WeakSet[ManagedLoader[Any]] = weakref.WeakSet()


# Registered after multiprocessing's and torch's handlers, which wait for workers: runs first.
@atexit.register
def _end_all() -> None:
    for loader in list(_alive):
        loader.close()


def _end_workers(loader: DataLoader[Any], owner: int) -> None:
    if os.getpid() != owner:  # a forked copy of the object; the workers are its parent's
        return
    iterator, loader._iterator = loader._iterator, None
    if not isinstance(iterator, _MultiProcessingDataLoaderIter):
        return
    iterator._shutdown_workers()
    for worker in iterator._workers:
        if worker.is_alive():  # in the middle of a long read
            worker.kill()
            worker.join()
