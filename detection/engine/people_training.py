"""The training loop of people detectors, visible from end to end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN
from tqdm import tqdm

from detection.datasets.people import PictureBatch
from detection.engine.metrics_log import MetricsLog, Stopwatch
from detection.engine.optim import schedule_factor, set_learning_rate
from detection.errors import ProcessLostError, UserError
from detection.people.config import PeopleOptimConfig
from detection.people.training import detection_losses, freeze_batch_norm


class PictureBatches(Protocol):
    """Batches in an order that depends on the epoch alone, so that a run can go on anywhere."""

    def __len__(self) -> int:
        """Return the batches of an epoch, the same in every epoch."""

    def epoch(self, epoch: int, *, start: int = 0) -> Iterable[PictureBatch]:
        """Return the batches of `epoch` from the `start`-th on."""


@dataclass
class PeopleProgress:
    """Where a run stands; saved with its weights.

    epoch: the one under way.  batch: how many of its batches have been learned from.  update: steps
    of the optimiser so far.  best_ap50, best_epoch: the best scoring of the held-out part so far.
    """

    epoch: int = 0
    batch: int = 0
    update: int = 0
    best_ap50: float = math.nan
    best_epoch: int = -1

    def note_score(self, ap50: float) -> bool:
        """Take a scoring of the held-out part into account; return whether it is the best."""
        best = not math.isnan(ap50) and not ap50 <= self.best_ap50
        if best:
            self.best_ap50, self.best_epoch = ap50, self.epoch
        return best


def fit_people(
    network: FasterRCNN,
    batches: PictureBatches,
    optimizer: torch.optim.Optimizer,
    *,
    optim: PeopleOptimConfig,
    freeze_norms: bool,
    progress: PeopleProgress,
    device: torch.device,
    score_held_out: Callable[[], float],
    score_every: int,
    save: Callable[[str], None],
    save_every_minutes: float,
    log: MetricsLog,
    should_stop: Callable[[], bool] = lambda: False,
    precision: torch.dtype = torch.float32,
) -> bool:
    """Train from where `progress` stands to the last epoch; return False when stopped before it.

    `score_held_out` gives AP50 on the part that is kept back (NaN: there is none); it is called
    every `score_every` epochs and after the last. `save(name)` is called with "last" after each
    epoch, at least every `save_every_minutes`, and when stopped; with "best" after the best score.
    precision: of the forward and backward pass (mixed where it is not float32). Where a process
    that reads was ended from outside, the run is saved and `ProcessLostError` raised.
    """
    bar = tqdm(
        total=optim.epochs * len(batches),
        initial=progress.epoch * len(batches) + progress.batch,
        desc="training",
        unit="batch",
        smoothing=0.05,
        dynamic_ncols=True,
    )
    with bar, _saved_if_lost(progress, save, log):
        while progress.epoch < optim.epochs:
            network.train()
            if freeze_norms:
                freeze_batch_norm(network)
            finished = _train_epoch(
                network,
                batches,
                optimizer,
                optim=optim,
                progress=progress,
                device=device,
                save=lambda: save("last"),
                save_every_minutes=save_every_minutes,
                log=log,
                should_stop=should_stop,
                precision=precision,
                bar=bar,
            )
            if not finished:
                save("last")
                return False
            last = progress.epoch + 1 == optim.epochs
            if last or (progress.epoch + 1) % score_every == 0:
                ap50 = score_held_out()
                best = progress.note_score(ap50)
                log.write("held_out", epoch=progress.epoch, ap50=ap50, best=best)
                if best:
                    save("best")
                if not math.isnan(ap50):
                    bar.write(f"epoch {progress.epoch + 1}: AP50 {ap50:.4f} on the held-out part")
            progress.epoch, progress.batch = progress.epoch + 1, 0
            save("last")
    return True


@contextmanager
def _saved_if_lost(
    progress: PeopleProgress, save: Callable[[str], None], log: MetricsLog
) -> Iterator[None]:
    try:
        yield
    except ProcessLostError as error:
        log.write("process_lost", message=str(error), **dataclasses.asdict(progress))
        save("last")
        raise


def _train_epoch(
    network: FasterRCNN,
    batches: PictureBatches,
    optimizer: torch.optim.Optimizer,
    *,
    optim: PeopleOptimConfig,
    progress: PeopleProgress,
    device: torch.device,
    save: Callable[[], None],
    save_every_minutes: float,
    log: MetricsLog,
    should_stop: Callable[[], bool],
    precision: torch.dtype,
    bar: tqdm,
) -> bool:
    """Learn from the rest of the epoch under way; return False when stopped in it."""
    watch, saved_at = Stopwatch(), time.monotonic()
    total_updates = optim.epochs * len(batches)
    source = iter(batches.epoch(progress.epoch, start=progress.batch))
    loss_sum, num_losses = 0.0, 0
    while True:
        with watch.measure("data"):
            batch = next(source, None)
        if batch is None:
            break
        with watch.measure("forward"):
            losses = detection_losses(
                network,
                [p.image.to(device, non_blocking=True).float() / 255 for p in batch.pictures],
                [p.boxes_px.to(device, non_blocking=True) for p in batch.pictures],
                ignore_above=_ignore_above(optim, progress, total_updates),
                precision=precision,
            )
            loss = torch.stack(list(losses.values())).sum()
            parts = {name: round(value.item(), 5) for name, value in losses.items()}
        _check_finite(sum(parts.values()), "loss", batch, progress)
        with watch.measure("backward"):
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
        with watch.measure("update"):
            factor = schedule_factor(
                progress.update,
                total_updates=total_updates,
                schedule="cosine",
                warmup_updates=optim.warmup_updates,
                warmup_start=0.01,
            )
            set_learning_rate(optimizer, optim.lr * factor)
            largest = math.inf if optim.clip_grad_norm is None else optim.clip_grad_norm
            norm = nn.utils.clip_grad_norm_(network.parameters(), largest)
            _check_finite(norm.item(), "norm of the gradient", batch, progress)
            optimizer.step()
        progress.batch, progress.update = progress.batch + 1, progress.update + 1
        loss_sum, num_losses = loss_sum + sum(parts.values()), num_losses + 1
        log.write("update", update=progress.update, lr=optim.lr * factor, **parts)
        bar.set_postfix_str(f"epoch {progress.epoch + 1}/{optim.epochs} loss {loss.item():.4f}")
        bar.update()
        if should_stop():
            return False
        if time.monotonic() - saved_at > 60 * save_every_minutes:
            save()
            saved_at = time.monotonic()
    log.write(
        "epoch",
        epoch=progress.epoch,
        loss=loss_sum / max(1, num_losses),
        seconds=round(sum(watch.seconds.values()), 2),
        shares=watch.shares(),
    )
    return True


def _ignore_above(
    optim: PeopleOptimConfig, progress: PeopleProgress, total_updates: int
) -> float | None:
    """Begin to ignore once the network knows a little of what an actor is."""
    begun = progress.update >= optim.ignore_after * total_updates
    return optim.ignore_unlabelled_above if begun else None


def _check_finite(value: float, what: str, batch: PictureBatch, progress: PeopleProgress) -> None:
    if not math.isfinite(value):
        keys = "; ".join(str(picture.keyframe) for picture in batch.pictures)
        raise UserError(
            f"the {what} became {value} at update {progress.update} (pictures: {keys}): a lower "
            "optim.lr or a longer optim.warmup_updates is wanted"
        )
