"""Workers that are actors of Ray, on this machine or on a cluster. The only importer of ray.

A cluster runs them where every machine has this package (the same version, with the same Python and
Ray) and finds the files that pieces name under the same paths. The command itself runs on a machine
of the cluster, too. Ray on this machine alone is started and ended with the workers.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from detection.cores import usable_cores
from detection.errors import ProcessLostError, UserError
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
from detection.jobs.ray_actor import WorkerActor
from detection.jobs.ray_connection import QUIET, connected

HOW_TO_INSTALL = 'pip install "x3d-action-detection[ray]"'

_TELL_EVERY_S = 0.5
_ROOM_EVERY_S = 5.0


@dataclass
class _Worker:
    """An actor and what it does now.

    opening: the reference of its `open`; None: it is open.
    doing: the reference of its piece, and the piece.
    telling: the reference of its answer to how much is done.
    """

    actor: Any
    opening: Any
    doing: tuple[Any, Any] | None = None
    telling: Any = None


class RayWorkers(WorkersBase[PieceT, ResultT]):
    """Actors that are made as pieces come, each with one piece at a time."""

    def __init__(
        self,
        open_: Open[PieceT, ResultT],
        *,
        workers: int | None,
        resources: Resources,
        address: str | None,
        grace_s: float | None,
    ) -> None:
        super().__init__()
        self._ray = _import_ray()
        self._open = self._ray.cloudpickle.dumps(open_)
        self._most, self._resources, self._grace_s = workers, resources, grace_s
        self._queue: deque[tuple[PieceT, bytes]] = deque()
        self._workers: list[_Worker] = []
        self._room, self._room_s, self._told_s = 0, -_ROOM_EVERY_S, 0.0
        self._alive: set[str] = set()
        self._stack = ExitStack()
        with ExitStack() as stack:
            self.dashboard = stack.enter_context(connected(self._ray, address, self._num_cores()))
            if self._fitting() < 1:
                raise UserError(
                    f"{resources.cores} cores and {resources.gpus:g} GPUs a worker: no machine "
                    f"of the Ray cluster has as many"
                )
            self._machine = self._ray.get_runtime_context().get_node_id()
            self._stack = stack.pop_all()
        self._actor = self._ray.remote(
            num_cpus=resources.cores,
            num_gpus=resources.gpus,
            max_restarts=0,
            concurrency_groups={"control": 1},
        )(WorkerActor)

    @property
    def count(self) -> int:
        """How many workers there can be at once, as the cluster is now."""
        room = max(1, self._fitting(), len(self._workers))
        return room if self._most is None else min(self._most, room)

    @property
    def pending(self) -> int:
        """How many pieces are submitted and not ended."""
        busy = sum(worker.doing is not None for worker in self._workers)
        return len(self._queue) + busy + len(self._ended)

    def submit(self, piece: PieceT) -> None:
        """Queue a piece, pickled as it is now."""
        self._queue.append((piece, self._ray.cloudpickle.dumps(piece)))

    def wait(self, timeout_s: float) -> list[Ended[PieceT, ResultT]]:
        """Return the pieces that ended since the last call (see `Workers`)."""
        end_s = time.monotonic() + timeout_s
        while self.pending and not self._ended:
            self._check_ray()
            self._hand_out()
            self._ask_progress()
            references = [one for worker in self._workers for one in _references(worker)]
            remaining_s = max(0.0, min(_TELL_EVERY_S, end_s - time.monotonic()))
            ready, _ = self._ray.wait(references, timeout=remaining_s)
            if ready:  # and the others that are ready too
                ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
            for worker in list(self._workers):
                self._hear(worker, set(ready))
            if not ready and time.monotonic() >= end_s:
                break
        self._hand_out()
        return self._take_ended()

    def _hand_out(self) -> None:
        """Give pieces to actors that are free, and make actors for the others."""
        free = [one for one in self._workers if one.opening is None and one.doing is None]
        for worker in free[: len(self._queue)]:
            piece, content = self._queue.popleft()
            worker.doing = (worker.actor.do.remote(content), piece)
        coming = sum(one.opening is not None for one in self._workers)
        most = self.count if self._most is None else self._most
        for _ in range(min(len(self._queue) - coming, most - len(self._workers))):
            actor = self._actor.remote(self._resources.cores, str(Path.cwd()), sys.path)
            self._workers.append(_Worker(actor, actor.open.remote(self._open)))

    def _ask_progress(self) -> None:
        if time.monotonic() - self._told_s >= _TELL_EVERY_S:
            self._told_s = time.monotonic()
            for worker in self._workers:
                if worker.doing is not None and worker.telling is None:
                    worker.telling = _control(worker.actor.take_progress)

    def _hear(self, worker: _Worker, ready: set[Any]) -> None:
        """Take what an actor has answered, and its end where it has ended."""
        try:
            if worker.telling in ready:
                telling, worker.telling = worker.telling, None
                self._add_progress(self._ray.get(telling))
            if worker.opening in ready:
                _, error = unpickle_outcome(self._ray.get(worker.opening))
                if error is not None:
                    raise error
                worker.opening, self._deaths_in_open = None, 0
            elif worker.doing is not None and worker.doing[0] in ready:
                amount, content = self._ray.get(worker.doing[0])
                if worker.telling is not None:
                    amount += self._ray.get(worker.telling)
                (_, piece), worker.doing, worker.telling = worker.doing, None, None
                self._deaths_in_open = 0  # others work, whatever becomes of its successors
                self._ended.append(Ended(piece, *unpickle_outcome(content)))
                self._add_progress(amount)
        except self._ray.exceptions.RayError as error:
            self._lose(worker, error)

    def _lose(self, worker: _Worker, error: Exception) -> None:
        self._workers.remove(worker)
        with suppress(self._ray.exceptions.RayError):
            self._ray.kill(worker.actor)
        how = _how_it_ended(error)
        if worker.opening is not None:
            self._died_in_open(how)
        elif worker.doing is not None:
            lost = WorkerLostError(f"its Ray worker {how}")
            self._ended.append(Ended(worker.doing[1], None, lost))

    def _num_cores(self) -> int:
        """Return the cores of a Ray of our own."""
        each = self._resources.cores
        return each * (self._most or max(1, usable_cores() // each))

    def _fitting(self) -> int:
        """Return how many workers the machines of the cluster have room for now."""
        self._look_at_machines()
        return self._room

    def _check_ray(self) -> None:
        """Raise `ProcessLostError` where Ray's own program on this machine has ended.

        Nothing that waits for it would ever be told.
        """
        self._look_at_machines()
        if self._machine not in self._alive:
            raise ProcessLostError(
                "Ray's program on this machine (raylet) has ended; what was done is kept, the same "
                "command goes on"
            )

    def _look_at_machines(self) -> None:
        if time.monotonic() - self._room_s >= _ROOM_EVERY_S:
            self._room_s = time.monotonic()
            machines = [one for one in self._ray.nodes() if one["Alive"]]
            self._alive = {one["NodeID"] for one in machines}
            self._room = sum(_room_on(one["Resources"], self._resources) for one in machines)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all actors: those that are free at once, the others as their progress is told."""
        with self._stack:
            self._queue.clear()
            workers, self._workers = self._workers, []
            busy = [worker for worker in workers if worker.doing is not None]
            for worker in busy:
                _control(worker.actor.stop)
            if busy:
                references = [worker.doing[0] for worker in busy if worker.doing is not None]
                self._ray.wait(references, num_returns=len(busy), timeout=self._grace_s)
            for worker in workers:
                self._ray.kill(worker.actor)


def _references(worker: _Worker) -> list[Any]:
    doing = None if worker.doing is None else worker.doing[0]
    return [one for one in (worker.opening, doing, worker.telling) if one is not None]


def _control(method: Any) -> Any:
    """Call an actor's method beside the piece that it does."""
    return method.options(concurrency_group="control").remote()


def _how_it_ended(error: Exception) -> str:
    words = " ".join(str(error).split())
    if "node" in words and "died" in words and "OOM" not in words:
        return f"ended with its machine ({words[:200]})"
    return "was ended from outside (out of memory?)"


def _room_on(machine: dict[str, float], resources: Resources) -> int:
    """Return how many workers fit on a machine of these resources."""
    by_cores = int(machine.get("CPU", 0) // resources.cores)
    if not resources.gpus:
        return by_cores
    gpus = machine.get("GPU", 0)
    each = resources.gpus
    return min(by_cores, int(gpus) * int(1 / each) if each < 1 else int(gpus // each))


def _import_ray() -> Any:
    """Return the package, its settings in place; raise `UserError` where it is not there."""
    try:
        with variables(QUIET):
            import ray
    except ImportError as error:
        raise UserError(f"ray is not installed: {HOW_TO_INSTALL}") from error
    return ray
