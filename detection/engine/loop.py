"""The training loop, visible from end to end."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from tqdm import tqdm

from detection.config import OptimConfig
from detection.engine.metrics_log import MetricsLog, Stopwatch
from detection.engine.optim import schedule_factor
from detection.engine.tasks.base import Evaluation, TrainingBatch
from detection.engine.update import NotFinite, Updater
from detection.errors import ProcessLostError, UserError

TELL_EVERY_S = 60.0  # how often the log says how fast a run is


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


def train_epochs(
    updater: Updater,
    batches: TrainingBatches,
    *,
    optim: OptimConfig,
    progress: Progress,
    evaluate: Callable[[], Evaluation | None],
    metric: str,
    evaluate_every: int,
    save: Callable[[str], None],
    save_every_minutes: float,
    log: MetricsLog,
    before_scoring: Callable[[], None] = lambda: None,
    should_stop: Callable[[], bool] = lambda: False,
    event: str = "evaluation",
    score_last: bool = False,
) -> bool:
    """Train from where `progress` stands to the last epoch; return False when stopped before it.

    `evaluate` is called after every `evaluate_every`-th epoch, and after the last one only with
    `score_last` (others score the finished weights); it returns a `metric` of which more is better,
    logged as `event`, or None. `before_scoring` is called before each of them, and before the last
    weights are saved. `save(name)` is called with "last" after each epoch, at least every
    `save_every_minutes`, and when stopped; with "best" after the best evaluation so far; with
    "epoch" and its number after each epoch; and with "before_not_finite" where a loss or gradient
    is not finite, which raises `UserError`. All processes of a run call this with their own
    batches; they stop and save together. Where a process that reads was ended from outside, the run
    is saved as it stood after its last update (of several processes the others cannot take part:
    what was saved before stands), and `ProcessLostError` raised.
    """
    bar = tqdm(
        total=optim.epochs * len(batches),
        initial=progress.epoch * len(batches) + progress.batch,
        desc="training",
        unit="batch",
        smoothing=0.05,
        dynamic_ncols=True,
        disable=not updater.processes.is_first or optim.epochs == 0,
    )
    with bar, _saved_if_lost(updater, optim, progress, save, log):
        while progress.epoch < optim.epochs:
            epoch = _Epoch(updater, batches, optim, progress, log, bar)
            if not epoch.learn(save, save_every_minutes, should_stop):
                save("last")
                return False
            last = progress.epoch + 1 == optim.epochs
            scored = score_last if last else (progress.epoch + 1) % evaluate_every == 0
            if scored or last:
                before_scoring()
            evaluation = evaluate() if scored else None
            if evaluation is not None and epoch.note(evaluation, metric, event):
                save("best")
            progress.epoch, progress.batch = progress.epoch + 1, 0
            save("last")
            save(f"epoch_{progress.epoch:04d}")
    return True


@contextmanager
def _saved_if_lost(
    updater: Updater,
    optim: OptimConfig,
    progress: Progress,
    save: Callable[[str], None],
    log: MetricsLog,
) -> Iterator[None]:
    try:
        yield
    except ProcessLostError as error:
        log.write("process_lost", message=str(error), **dataclasses.asdict(progress))
        if updater.processes.count == 1:
            if updater.undo():
                progress.batch -= progress.batch % optim.accumulate
            save("last")
        raise


@dataclass
class _Epoch:
    updater: Updater
    batches: TrainingBatches
    optim: OptimConfig
    progress: Progress
    log: MetricsLog
    bar: tqdm[Any]

    def __post_init__(self) -> None:
        self._updates = math.ceil(len(self.batches) / self.optim.accumulate)  # of a whole epoch
        self._first_batch = self.progress.batch
        self._clips = 0
        self._losses: list[float] = []

    def learn(
        self,
        save: Callable[[str], None],
        save_every_minutes: float,
        should_stop: Callable[[], bool],
    ) -> bool:
        """Train to the epoch's end; return False when stopped in it."""
        updater, progress, accumulate = self.updater, self.progress, self.optim.accumulate
        updater.begin_epoch()
        saved_at = told_at = time.monotonic()
        self._watch = Stopwatch(synchronize=torch.cuda.synchronize if updater.on_gpu else None)
        source = iter(self.batches.epoch(progress.epoch, start=progress.batch))
        while (batch := self._next(source)) is not None:
            done = progress.batch + 1
            end_of_update = done % accumulate == 0 or done == len(self.batches)
            updater.learn(
                batch,
                last=end_of_update,
                watch=self._watch,
                update=progress.update,
                num_updates=self.optim.epochs * self._updates,
            )
            progress.batch = done
            self._clips += len(batch.keys) * updater.processes.count
            self.bar.update()
            if not end_of_update:
                continue
            late = time.monotonic() - saved_at > 60 * save_every_minutes
            flags = should_stop(), late and updater.processes.is_first
            try:
                stopped, save_now = self._step(flags)
            except NotFinite as problem:
                progress.batch = (done - 1) // accumulate * accumulate
                save("before_not_finite")
                raise _explain(problem, progress, self.log) from problem
            if stopped:
                return False
            if save_now:
                save("last")
                saved_at = time.monotonic()
            if time.monotonic() - told_at > TELL_EVERY_S:
                told_at = time.monotonic()
                self._tell_throughput()
        self._tell_end()
        return True

    def note(self, evaluation: Evaluation, metric: str, event: str) -> bool:
        """Take an evaluation into account; return whether it is the best so far."""
        progress, score, classes = self.progress, evaluation.score, dict(evaluation.per_class)
        best = progress.note_evaluation(score, self.optim.patience)
        scores = {metric: score, "per_class": classes}
        self.log.write(event, epoch=progress.epoch, best=best, **scores)
        if self.updater.processes.is_first:
            self.bar.write(f"epoch {progress.epoch + 1}: {metric} {score:.4f}")
        return best

    def _next(self, source: Iterator[TrainingBatch]) -> TrainingBatch | None:
        with self._watch.measure("data"):
            return next(source, None)

    def _step(self, flags: Sequence[bool]) -> tuple[bool, ...]:
        optim, progress = self.optim, self.progress
        lr = optim.peak_lr * _factor(optim, progress, self._updates)
        with self._watch.measure("update"):
            update = self.updater.step(lr, flags=flags)
        self._losses.append(update.loss)
        progress.update += 1
        self.log.write(
            "update",
            update=progress.update,
            loss=update.loss,
            lr=lr,
            grad_norm=update.grad_norm,
            **{name: round(part, 5) for name, part in update.parts.items()},
        )
        epoch = f"epoch {progress.epoch + 1}/{optim.epochs}"
        self.bar.set_postfix_str(f"{epoch} loss {update.loss:.4f}", refresh=False)
        return update.flags

    def _tell_throughput(self) -> None:
        progress = self.progress
        per_batch_s = self._watch.total() / (progress.batch - self._first_batch)
        left = (self.optim.epochs - progress.epoch) * len(self.batches) - progress.batch
        self.log.write(
            "throughput",
            update=progress.update,
            hours_left=round(left * per_batch_s / 3600, 3),
            **self._speed(),
        )

    def _tell_end(self) -> None:
        self.log.write(
            "epoch",
            epoch=self.progress.epoch,
            loss=sum(self._losses) / max(1, len(self._losses)),
            seconds=round(self._watch.total(), 2),
            **self._speed(),
        )

    def _speed(self) -> dict[str, Any]:
        """Return clips (or frames) a second, and where the time goes: `data` is time waiting."""
        rate = self._clips / self._watch.total() if self._clips else 0.0
        return {"clips_per_second": round(rate, 3), "shares": self._watch.shares()}


def _explain(problem: NotFinite, progress: Progress, log: MetricsLog) -> UserError:
    log.write(
        "not_finite",
        epoch=progress.epoch,
        first_batch=progress.batch,
        update=progress.update,
        loss=str(problem.loss),
        grad_norm=str(problem.grad_norm),
        keys=list(problem.keys),
    )
    what = "loss" if not math.isfinite(problem.loss) else "norm of the gradient"
    value = problem.grad_norm if math.isfinite(problem.loss) else problem.loss
    clips = "; ".join(problem.keys[:8]) + ("; ..." if len(problem.keys) > 8 else "")
    return UserError(
        f"the {what} became {value} at update {progress.update} (clips: {clips}); the state before "
        "it is in checkpoints/before_not_finite.pt, all its clips are in log.jsonl: a lower "
        "optim.lr, optim.clip_grad_norm or a longer optim.warmup_updates is required"
    )


def _factor(optim: OptimConfig, progress: Progress, updates_per_epoch: int) -> float:
    return schedule_factor(
        progress.update,
        total_updates=optim.epochs * updates_per_epoch,
        schedule=optim.schedule,
        warmup_updates=optim.warmup_updates or round(optim.warmup_epochs * updates_per_epoch),
        warmup_start=optim.warmup_start,
        milestone_updates=tuple(epoch * updates_per_epoch for epoch in optim.milestones),
        plateau_drops=progress.plateau_drops,
    )
