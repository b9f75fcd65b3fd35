"""What a process that reads samples does besides reading: stay alive, report, end with its parent.

Used by every loader of this project, with worker processes and without.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import cv2
import numpy as np
import torch
from torch.utils.data import Dataset

from detection.errors import ProcessLostError, UserError

# (epoch, position in the data set): the pair decides every random choice about a sample, so that
# runs repeat and resume whatever the number of workers.
SampleIndex = tuple[int, int]

# What happens to samples that cannot be read: the first one ends all; another one takes its place
# (which one depends on its index alone); the batch is smaller by it.
OnUnreadable = Literal["end", "replace", "leave out"]

_WATCH_S = 0.5  # how often a process looks whether its parent lives
_ATTEMPTS = 10  # at replacements, before it is said that nothing can be read


class Samples(Protocol):
    """A data set of samples that are read a batch at a time."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[Any]:
        """Return the samples of a batch, by (epoch, position)."""


@dataclass(frozen=True)
class ReadFailure:
    """Carries a user's error out of a worker, where torch would bury it under a traceback."""

    message: str


@dataclass(frozen=True)
class ReadResult:
    """What a worker sends: content, samples or their batch; and what could not be read, and why."""

    content: Any
    unreadable: tuple[str, ...] = ()

    def pin_memory(self) -> ReadResult:
        """Return the batch in page-locked memory (called by DataLoader)."""
        if self.content is None:
            return self
        return ReadResult(self.content.pin_memory(), self.unreadable)


class GuardedReader(Dataset[object]):
    """Reads batches; what users can mend comes out as values, faults of this project as raised."""

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
                        return ReadFailure(f"{reason} (and {_ATTEMPTS} others in its place)")
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
    """Makes batches of what `GuardedReader` returns; no batch (None) of no samples."""

    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, part: Any) -> ReadResult | ReadFailure:
        """Collate the samples of a part."""
        if isinstance(part, ReadFailure):
            return part
        assert isinstance(part, ReadResult)
        content = self.collate(part.content) if part.content else None
        return ReadResult(content, part.unreadable)


def start_worker(_: int) -> None:
    """Begin a worker process: one thread (the network has the other cores), and no signals.

    Ctrl-C and a scheduler's SIGTERM reach the workers too, but the main process finishes its step
    with what they read, and ends them.
    """
    end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    torch.set_num_threads(1)
    cv2.setNumThreads(0)


def end_with_parent() -> None:
    """See to it that this process of `multiprocessing` ends soon after the one that started it.

    Also where that was killed, before this call or while this process reads, waits for a lock, or
    writes to a pipe that nobody empties any more: torch's own watch looks only between reads.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    own = multiprocessing.current_process()
    how = getattr(own, "_start_method", None) or multiprocessing.get_start_method()
    # A sentinel tells of a parent's end once no process has its other end: forked brothers do.
    told_by_system = how != "forkserver"

    def is_gone() -> bool:
        return not parent.is_alive() or (told_by_system and os.getppid() != parent.pid)

    def watch() -> None:
        while not is_gone():
            time.sleep(_WATCH_S)
        os._exit(1)

    if is_gone():
        os._exit(1)
    threading.Thread(target=watch, daemon=True, name="end with parent").start()


def worker_death(error: BaseException) -> ProcessLostError | None:
    """Return the line for a worker that is gone; None for any other error of a loader."""
    text = str(error).split("\n")[0]
    if "DataLoader worker" not in text:
        return None
    return lost_reader(text.strip().rstrip("."))


def lost_reader(what: str) -> ProcessLostError:
    """Return the line for a worker that is gone; what: is known of it."""
    return ProcessLostError(
        f"a process that reads samples is gone ({what}): often memory ran out; "
        "fewer `workers` or smaller batches are required"
    )
