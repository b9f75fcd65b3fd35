"""One update of the weights: the passes over its batches, then the optimiser's step.

The loss of an update is the sum over all terms (actors times classes, say) of all its batches in
all processes, divided by their number, at least 1. Gradients are of exactly that, so that neither
the number of processes nor that of accumulated passes changes what is learned, also where some of
the batches hold nobody (dropout and BatchNorm's own statistics apart).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from detection.engine.distributed import ALONE, Processes, without_exchange
from detection.engine.ema import WeightAverage
from detection.engine.metrics_log import Stopwatch
from detection.engine.optim import set_learning_rate
from detection.engine.rewind import Rewind

# (logits, labels) -> the summed loss, a scalar with a gradient, and the number of terms in the sum.
Loss = Callable[[Tensor, Tensor], tuple[Tensor, int]]

# Sums are divided by this on their way back, about the terms of a batch, so that half precision has
# numbers of the usual size; a power of two loses nothing.
_UNIT = 1024.0


@dataclass(frozen=True)
class Update:
    """What an update did, alike in all processes.

    loss: its mean over all terms.  grad_norm: of all gradients, before clipping.  flags: for each
    flag given, whether any process had it set.
    """

    loss: float
    grad_norm: float
    flags: tuple[bool, ...]


class NotFinite(Exception):
    """A loss or a gradient that is no number; the weights have not moved."""

    def __init__(self, loss: float, grad_norm: float, keys: Sequence[str]) -> None:
        super().__init__(f"loss {loss}, gradient norm {grad_norm}")
        self.loss, self.grad_norm, self.keys = loss, grad_norm, keys


class Updater:
    """Network, optimiser and loss, and how their arithmetic is done.

    precision: of the passes, mixed where it is not float32; float16 scales the loss (GradScaler).
    clip_grad_norm: the largest norm of all gradients together.  average: follows the weights.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        loss_of: Loss,
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
        self._precision = precision
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
        self._rewind = Rewind(self.model)
        self._begin()

    def learn(
        self,
        inputs: Sequence[Tensor],
        labels: Tensor,
        keys: Sequence[str],
        *,
        last: bool,
        watch: Stopwatch,
    ) -> None:
        """Pass a batch forward and back; `last` of its update, or more are to come."""
        if not self._losses:
            self._rewind.mark()
        mixed = torch.autocast(
            self.device.type, self._precision, enabled=self._precision != torch.float32
        )
        with without_exchange(self.model, last=last):
            with watch.measure("forward"), mixed:
                logits = self.model(*(part.to(self.device, non_blocking=True) for part in inputs))
                loss, terms = self._loss_of(logits, labels.to(self.device, non_blocking=True))
            with watch.measure("backward"):
                self.scaler.scale(loss / _UNIT).backward()
        self._losses.append(loss.detach())
        self._terms += terms
        self._keys += keys

    def step(self, lr: float, *, flags: Sequence[bool] = ()) -> Update:
        """Move the weights, all processes together; `NotFinite` in all of them where they cannot.

        After `NotFinite` the network, and the random states, are as they were before the update.
        """
        total, terms, *raised = self.processes.sum(
            [sum(torch.stack(self._losses).tolist()), float(self._terms), *map(float, flags)]
        )
        loss = total / max(1.0, terms)
        set_learning_rate(self.optimizer, lr)
        norm = self._prepare_gradients(_UNIT * self.processes.count / max(1.0, terms))
        # Half precision overflows now and then: the scaler leaves such a step out and scales down.
        if not (math.isfinite(loss) and (math.isfinite(norm) or self.scaler.is_enabled())):
            self._rewind.go_back()
            gathered = self.processes.gather(list(self._keys))
            raise NotFinite(loss, norm, [key for keys in gathered for key in keys])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)
        if self.average is not None:
            self.average.update()
        self._begin()
        return Update(loss, norm, tuple(count > 0 for count in raised))

    def take_back(self) -> bool:
        """Undo the passes of an update under way; return whether there were any."""
        begun = bool(self._losses)
        if begun:
            self._rewind.go_back()
            self.optimizer.zero_grad(set_to_none=True)
            self._begin()
        return begun

    def _begin(self) -> None:
        self._losses: list[Tensor] = []
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
