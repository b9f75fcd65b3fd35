"""The training loop, visible from end to end."""

from __future__ import annotations

import math
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

import torch
from torch import nn
from tqdm import tqdm

from detection.config import OptimConfig
from detection.engine.averaging import WeightAverage
from detection.engine.distributed import ALONE, Processes, without_exchange
from detection.engine.metrics_log import MetricsLog, Stopwatch
from detection.engine.optim import schedule_factor, set_learning_rate
from detection.errors import UserError

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


class TrainingBatch(Protocol):
    """What the loop asks of a batch, whatever is learned."""

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What the network is called with."""

    @property
    def labels(self) -> torch.Tensor:
        """What the loss compares the network's answer with."""

    @property
    def keys(self) -> Sequence[str]:
        """What messages call each clip."""


class TrainingBatches(Protocol):
    """Batches in an order that depends on the epoch alone, so that a run can go on anywhere."""

    def __len__(self) -> int:
        """Return the batches of an epoch, the same in every epoch."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[TrainingBatch]:
        """Return the batches of `epoch` from the `start`-th on."""


@dataclass
class Progress:
    """Where a run stands; saved with its weights.

    epoch: the one under way.  batch: how many of its batches have been learned from.  update: steps
    of the optimiser so far.  best_score, best_epoch: the best evaluation so far (NaN: none).
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best_score: float = math.nan
    best_epoch: int = -1
    evaluations_since_best: int = 0
    plateau_drops: int = 0

    def note_evaluation(self, score: float, patience: int) -> bool:
        """Take an evaluation into account; return whether it is the best so far."""
        if math.isnan(self.best_score) or score > self.best_score:
            self.best_score, self.best_epoch = score, self.epoch
            self.evaluations_since_best = 0
            return True
        self.evaluations_since_best += 1
        if self.evaluations_since_best >= patience:
            self.plateau_drops += 1
            self.evaluations_since_best = 0
        return False


def fit(
    model: nn.Module,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    *,
    optim: OptimConfig,
    progress: Progress,
    device: torch.device,
    evaluate: Callable[[], float],
    metric: str,
    evaluate_every: int,
    save: Callable[[str], None],
    save_every_minutes: float,
    log: MetricsLog,
    should_stop: Callable[[], bool] = lambda: False,
    processes: Processes = ALONE,
    precision: torch.dtype = torch.float32,
    average: WeightAverage | None = None,
) -> bool:
    """Train from where `progress` stands to the last epoch; return False when stopped before it.

    `evaluate` is called after every `evaluate_every`-th epoch but the last, which the caller scores
    with the finished weights; it returns a `metric` of which more is better. `save(name)` is called
    with "last" after each epoch, at least every `save_every_minutes`, and when stopped; with "best"
    after the best evaluation so far. All `processes` of a run call this with their own batches;
    they stop and save together. precision: of the forward and backward pass (mixed where it is not
    float32).  average: follows the weights.
    """
    bar = tqdm(
        total=optim.epochs * len(batches),
        initial=progress.epoch * len(batches) + progress.batch,
        desc="training",
        unit="batch",
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not processes.is_first,
    )
    with bar:
        while progress.epoch < optim.epochs:
            finished = _train_epoch(
                model,
                batches,
                optimizer,
                loss_of,
                optim=optim,
                progress=progress,
                device=device,
                save=lambda: save("last"),
                save_every_minutes=save_every_minutes,
                log=log,
                should_stop=should_stop,
                processes=processes,
                precision=precision,
                average=average,
                bar=bar,
            )
            if not finished:
                save("last")
                return False
            if (progress.epoch + 1) % evaluate_every == 0 and progress.epoch + 1 < optim.epochs:
                score = evaluate()
                best = progress.note_evaluation(score, optim.patience)
                log.write("evaluation", epoch=progress.epoch, best=best, **{metric: score})
                if processes.is_first:
                    bar.write(f"epoch {progress.epoch + 1}: {metric} {score:.4f}")
                if best:
                    save("best")
            progress.epoch, progress.batch = progress.epoch + 1, 0
            save("last")
    return True


def _train_epoch(
    model: nn.Module,
    batches: TrainingBatches,
    optimizer: torch.optim.Optimizer,
    loss_of: Loss,
    *,
    optim: OptimConfig,
    progress: Progress,
    device: torch.device,
    save: Callable[[], None],
    save_every_minutes: float,
    log: MetricsLog,
    should_stop: Callable[[], bool],
    processes: Processes,
    precision: torch.dtype,
    average: WeightAverage | None,
    bar: tqdm,
) -> bool:
    """Learn from the rest of the epoch under way; return False when stopped in it."""
    model.train()
    watch, saved_at, loss_sum, num_losses = Stopwatch(), time.monotonic(), 0.0, 0
    updates_per_epoch = math.ceil(len(batches) / optim.accumulate)
    source = iter(batches.epoch(progress.epoch, start=progress.batch))
    optimizer.zero_grad(set_to_none=True)
    while True:
        with watch.measure("data"):
            batch = next(source, None)
        if batch is None:
            break
        group = _group_size(progress.batch, len(batches), optim.accumulate)
        done = progress.batch + 1
        end_of_group = done % optim.accumulate == 0 or done == len(batches)
        with without_exchange(model, last=end_of_group):
            with watch.measure("forward"):
                with torch.autocast(device.type, precision, enabled=precision != torch.float32):
                    logits = model(*(part.to(device, non_blocking=True) for part in batch.inputs))
                loss = loss_of(logits, batch.labels.to(device, non_blocking=True))
                loss_value = loss.item()
            _check_loss(loss_value, batch, progress)
            with watch.measure("backward"):
                (loss / group).backward()
        progress.batch = done
        loss_sum, num_losses = loss_sum + loss_value, num_losses + 1
        if end_of_group:
            with watch.measure("update"):
                lr = optim.peak_lr * _factor(optim, progress, updates_per_epoch)
                set_learning_rate(optimizer, lr)
                if optim.clip_grad_norm is not None:
                    nn.utils.clip_grad_norm_(model.parameters(), optim.clip_grad_norm)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                if average is not None:
                    average.update(getattr(model, "module", model))
            progress.update += 1
            log.write("update", update=progress.update, loss=loss_value, lr=lr)
            bar.set_postfix_str(f"epoch {progress.epoch + 1}/{optim.epochs} loss {loss_value:.4f}")
            late = time.monotonic() - saved_at > 60 * save_every_minutes
            stopped, save_now = processes.any(should_stop(), late and processes.is_first)
            if stopped:
                return False
            if save_now:
                save()
                saved_at = time.monotonic()
        bar.update()
    log.write(
        "epoch",
        epoch=progress.epoch,
        loss=loss_sum / max(1, num_losses),
        seconds=round(sum(watch.seconds.values()), 2),
        shares=watch.shares(),
    )
    return True


def _factor(optim: OptimConfig, progress: Progress, updates_per_epoch: int) -> float:
    return schedule_factor(
        progress.update,
        total_updates=optim.epochs * updates_per_epoch,
        schedule=optim.schedule,
        warmup_updates=optim.warmup_updates,
        warmup_start=optim.warmup_start,
        milestone_updates=tuple(epoch * updates_per_epoch for epoch in optim.milestones),
        plateau_drops=progress.plateau_drops,
    )


def _group_size(batch: int, num_batches: int, accumulate: int) -> int:
    """Return how many batches share the update that the `batch`-th belongs to."""
    first = batch - batch % accumulate
    return min(accumulate, num_batches - first)


def _check_loss(loss: float, batch: TrainingBatch, progress: Progress) -> None:
    if not math.isfinite(loss):
        keys = "; ".join(batch.keys)
        raise UserError(
            f"the loss became {loss} at update {progress.update} (clips: {keys}): a lower optim.lr "
            "or a longer optim.warmup_updates is wanted"
        )


@contextmanager
def stop_signals() -> Iterator[Callable[[], bool]]:
    """Yield a function that tells whether SIGINT or SIGTERM has come.

    The first signal lets the step under way end and the run be saved; a second SIGINT interrupts at
    once.
    """
    asked = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked = True

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
