"""Several processes that train one network together, as `torchrun` starts them; one without it.

The recipe is the same whatever their number: `optim.batch_size` counts the clips of all processes.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import torch
import torch.distributed
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detection.devices import choose_device
from detection.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Processes:
    """One process among all of a run.  rank: from 0; the 0th writes files and speaks.

    Every method that exchanges something must be called by all of them, in the same order.
    """

    rank: int = 0
    count: int = 1
    local_count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def share_of_data(self) -> tuple[int, int]:
        """Rank and number of processes, by which batches are shared out."""
        return self.rank, self.count

    def part_of(self, number: int, what: str) -> int:
        """Return each process's share of `number`; `UserError` where it does not divide."""
        if number % self.count:
            raise UserError(
                f"{what}={number} is shared by {self.count} processes: a multiple of {self.count} "
                "is required"
            )
        return number // self.count

    def check_gpus(self, device: str) -> None:
        """Refuse more processes on this machine than it has GPUs; device: as the user asked."""
        found = torch.cuda.device_count()
        if device != "cpu" and 0 < found < self.local_count:
            raise UserError(
                f"{self.local_count} processes on a machine with {found} GPUs: --nproc-per-node "
                f"{found} at most, or device=cpu, is required"
            )

    def sum(self, values: Sequence[float]) -> list[float]:
        """Return for each value its sum over the processes."""
        if self.count == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(total)
        return total.tolist()

    def gather(self, value: T) -> list[T]:
        """Return everybody's value, by rank, in the first process; elsewhere only the own one."""
        if self.count == 1:
            return [value]
        values: list[Any] | None = [None] * self.count if self.is_first else None
        torch.distributed.gather_object(value, values, dst=0)
        return [value] if values is None else values

    def share(self, value: T) -> T:
        """Return the first process's value in all of them."""
        if self.count == 1:
            return value
        box = [value]
        torch.distributed.broadcast_object_list(box, src=0)
        return box[0]

    def by_first(self, call: Callable[[], object]) -> None:
        """Call in the first process, the others wait; its `UserError` ends all of them.

        The first raises it, and so says it; the others end without a word, with its exit code.
        """
        if self.is_first:
            try:
                call()
            except UserError as error:
                self.share(error.exit_code)
                raise
        code = self.share(0)
        if code:
            raise SystemExit(code)

    def wait(self) -> None:
        """Return when all have come here."""
        self.sum([0.0])

    def wrap(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the network whose gradients are averages over the processes."""
        if self.count == 1:
            return model
        # Strides of dimensions of one, as 1 x 1 x 1 kernels have, mean nothing and differ.
        warnings.filterwarnings("ignore", message="Grad strides do not match bucket view")
        where = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(model, device_ids=where, gradient_as_bucket_view=True)


ALONE = Processes()


def without_exchange(model: nn.Module, *, last: bool) -> AbstractContextManager[Any]:
    """Keep gradients to oneself until the last forward pass of an update."""
    if last or not isinstance(model, DistributedDataParallel):
        return nullcontext()
    return model.no_sync()


@contextmanager
def joined_processes() -> Iterator[Processes]:
    """Join the processes that `torchrun` announces in the environment; alone where it does not."""
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes()
        return
    # Objects, counts and flags travel on the CPU, gradients where they are.
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(choose_device())
    torch.distributed.init_process_group(backend)
    _was_joined.set()
    try:
        local_count = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        yield Processes(torch.distributed.get_rank(), count, local_count)
    finally:
        torch.distributed.destroy_process_group()


_was_joined = threading.Event()


def leave(code: int) -> NoReturn:
    """End this process; one that was joined to others at once, its output flushed.

    PyTorch keeps the process group of a `DistributedDataParallel` network, so that gloo's threads
    outlive it (torch 2.14). Where one of them asks for Python while the interpreter is being taken
    down, the process ends with SIGABRT, its work done: "terminate called without an active
    exception".
    """
    if _was_joined.is_set():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
