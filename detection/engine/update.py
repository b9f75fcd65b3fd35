"""One update of the weights: the passes over its batches, then the optimiser's step.

The loss of an update is the sum over all terms (actors times classes, say) of all its batches in
all processes, divided by their number, at least 1. Gradients are of exactly that, so that neither
the number of processes nor that of accumulated passes changes what is learned, also where some of
the batches hold no actor (dropout and BatchNorm's own statistics apart).
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from detection.engine.distributed import ALONE, Processes, without_exchange
from detection.engine.ema import WeightAverage
from detection.engine.metrics_log import Stopwatch
from detection.engine.optim import set_learning_rate
from detection.engine.tasks.base import BatchLoss, TrainingBatch


class LossOf(Protocol):
    """See `detection.engine.tasks.base.Task.loss`."""

    def __call__(
        self, module: nn.Module, batch: Any, *, update: int, num_updates: int
    ) -> BatchLoss:
        """Return the loss of a batch."""


# Sums are divided by this on their way back, about the terms of a batch, so that half precision has
# numbers of the usual size; a power of two loses nothing.
_UNIT = 1024.0


@dataclass(frozen=True)
class Update:
    """What an update did, alike in all processes.

    loss: its mean over all terms.
    grad_norm: of all gradients, before clipping.
    flags: for each flag given, whether any process had it set.
    parts: means of the loss's parts, by name.
    """

    loss: float
    grad_norm: float
    flags: tuple[bool, ...]
    parts: Mapping[str, float] = field(default_factory=dict)


class NotFinite(Exception):
    """A loss or a gradient that is no number; the weights have not moved."""

    def __init__(self, loss: float, grad_norm: float, keys: Sequence[str]) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm}")
        self.loss, self.grad_norm, self.keys = loss, grad_norm, keys


class Updater:
    """Network, optimiser and loss, and how their arithmetic is done.

    model: the module that `loss_of` calls.
    precision: of the passes; float16 scales the loss (GradScaler).
    clip_grad_norm: the largest norm of all gradients together.
    average: the exponential moving average (EMA) of the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: LossOf,
        *,
        device: torch.device,
        precision: torch.dtype = torch.float32,
        clip_grad_norm: float | None = None,
        average: WeightAverage | None = None,
        processes: Processes = ALONE,
    ) -> None:
        self.model = model
        self.optimizer = optimizer
        self.device = device
        self.processes = processes
        self.average = average
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == torch.float16)
        self._loss_of = loss_of
        self._clip_grad_norm = clip_grad_norm
        self._begin()

    @property
    def on_gpu(self) -> bool:
        """Whether work is queued on a GPU, to be waited for where time is taken."""
        return self.device.type == "cuda"

    def begin_epoch(self) -> None:
        """Get ready to learn, after scoring say."""
        self.model.train()
        self.optimizer.zero_grad(set_to_none=True)
        self._snapshot = Snapshot(self.model)
        self._begin()

    def learn(
        self,
        batch: TrainingBatch,
        *,
        last: bool,
        watch: Stopwatch,
        update: int = 0,
        num_updates: int = 1,
    ) -> None:
        """Pass a batch forward and back; `last` of its update, or more are to come.

        update: the number of this one, from 0, of the run's `num_updates`.
        """
        if not self._losses:
            self._snapshot.take()
        with without_exchange(self.model, last=last):
            with watch.measure("forward"):
                loss = self._loss_of(self.model, batch, update=update, num_updates=num_updates)
            with watch.measure("backward"):
                self.scaler.scale(loss.total / _UNIT).backward()  # type: ignore[no-untyped-call]
        self._losses.append(loss.total.detach())
        for name, part in loss.parts.items():
            self._parts.setdefault(name, []).append(part)
        self._terms += loss.terms
        self._keys += batch.keys

    def step(self, lr: float, *, flags: Sequence[bool] = ()) -> Update:
        """Move the weights, all processes together; `NotFinite` in all of them where they cannot.

        After `NotFinite` the network, and the random states, are as they were before the update.
        """
        parts = [sum(torch.stack(values).tolist()) for values in self._parts.values()]
        total, terms, *others = self.processes.sum(
            [sum(torch.stack(self._losses).tolist()), float(self._terms), *map(float, flags)]
            + parts
        )
        raised, sums = others[: len(flags)], others[len(flags) :]
        loss = total / max(1.0, terms)
        means = {n: value / max(1.0, terms) for n, value in zip(self._parts, sums, strict=True)}
        set_learning_rate(self.optimizer, lr)
        norm = self._prepare_gradients(_UNIT * self.processes.count / max(1.0, terms))
        # Half precision overflows now and then: the scaler leaves such a step out and scales down.
        if not (math.isfinite(loss) and (math.isfinite(norm) or self.scaler.is_enabled())):
            self._snapshot.undo()
            gathered = self.processes.gather(list(self._keys))
            raise NotFinite(loss, norm, [key for keys in gathered for key in keys])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        self._begin()
        return Update(loss, norm, tuple(count > 0 for count in raised), means)

    def undo(self) -> bool:
        """Undo the passes of an update under way; return whether there were any."""
        begun = bool(self._losses)
        if begun:
            self._snapshot.undo()
            self.optimizer.zero_grad(set_to_none=True)
            self._begin()
        return begun

    def _begin(self) -> None:
        self._losses: list[Tensor] = []
        self._parts: dict[str, list[Tensor]] = {}
        self._terms = 0
        self._keys: list[str] = []

    @torch.no_grad()
    def _prepare_gradients(self, factor: float) -> float:
        """Turn gradients of sums into those of the mean and clip them; return their norm before."""
        self.scaler.unscale_(self.optimizer)
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return 0.0
        torch._foreach_mul_(gradients, factor)
        norm = get_total_norm(gradients)
        if self._clip_grad_norm is not None:
            clip_grads_with_norm_(parameters, self._clip_grad_norm, norm)
        return float(norm)


class Snapshot:
    """What a forward pass changes, kept so that an update can be undone.

    BatchNorm's statistics and the random states; weights move only after the losses and gradients
    of an update have been looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[Tensor] = [
            buffer
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.training
            for buffer in module.buffers()
        ]
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._random: dict[str, Any] = random_state()

    def take(self) -> None:
        """Keep the present state."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)
        self._random = random_state()

    @torch.no_grad()
    def undo(self) -> None:
        """Restore the state that was last kept."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)
        restore_random_state(self._random)


def random_state() -> dict[str, Any]:
    """Return the state of this process's random generators, in plain types."""
    version, internal, gauss = random.getstate()
    states: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()  # of this process's GPU alone
    return states


def restore_random_state(states: Mapping[str, Any]) -> None:
    """Put the generators back as `random_state` found them."""
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
