"""What runs in an actor of Ray: an `Open`, and pieces one after the other."""

from __future__ import annotations

import os
import pickle
import sys
import threading
from pathlib import Path

from detection.jobs.base import WorkStopped, as_piece_error, attempt, pickle_outcome


class WorkerActor:
    """The actor. `stop` and `take_progress` have a thread beside that of pieces."""

    def __init__(self, cores: int, folder: str, paths: list[str]) -> None:
        os.environ["OMP_NUM_THREADS"] = str(cores)
        if Path(folder).is_dir():  # else paths that are relative to it are not found
            os.chdir(folder)
        sys.path += [path for path in paths if path not in sys.path]
        self._stop, self._lock, self._amount = threading.Event(), threading.Lock(), 0.0

    def open(self, content: bytes) -> bytes:
        """Call the `Open`; return `pickle_outcome` of its error."""
        try:
            self._do = pickle.loads(content)()
        except Exception as error:
            return pickle_outcome(None, as_piece_error(error))
        return pickle_outcome(None, None)

    def do(self, content: bytes) -> tuple[float, bytes]:
        """Do a piece; return the amount that was not told yet, and `pickle_outcome`."""
        try:
            outcome = attempt(
                lambda content, tell: self._do(pickle.loads(content), tell), content, self._tell
            )
        except WorkStopped:
            outcome = None, None
        return self.take_progress(), pickle_outcome(*outcome)

    def _tell(self, amount: float) -> None:
        if self._stop.is_set():
            raise WorkStopped
        with self._lock:
            self._amount += amount

    def take_progress(self) -> float:
        """Return the amount done since the last call."""
        with self._lock:
            amount, self._amount = self._amount, 0.0
        return amount

    def stop(self) -> None:
        """Let the progress callback raise."""
        self._stop.set()
