"""Progress, and what the loop does around a step."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from types import MappingProxyType

import pytest
import torch
from torch import nn

from detection.config import OptimConfig
from detection.engine.loop import Progress, train_epochs
from detection.engine.metrics_log import MetricsLog
from detection.engine.tasks.base import BatchLoss, Evaluation
from detection.engine.update import Snapshot, Updater
from detection.errors import ProcessLostError, UserError
from detection.structures import ActorBoxes, Batch, Keyframe


def batch_of(actors: int, label: float = 1.0) -> Batch:
    return Batch(
        frames=torch.zeros(1, 3, 1, 4, 4, dtype=torch.uint8),
        rois_px=torch.zeros(actors, 5),
        labels=torch.full((actors, 2), label),
        boxes=[ActorBoxes([[0, 0, 1, 1]] * actors, [1] * actors)],
        keyframes=[Keyframe("v", 1.0)],
    )


class Batches:
    def __init__(self, batches):
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def epoch(self, epoch, *, start=0):
        return self.batches[start:]


class OneNumber(nn.Module):
    def __init__(self):
        super().__init__()
        self.value = nn.Parameter(torch.zeros(2))

    def forward(self, frames, rois_px):
        return self.value.expand(len(rois_px), 2)


def squared_error(logits, labels):
    return ((logits - labels) ** 2).sum(), len(labels)


def of_batches(loss):
    """Make the loss of a batch of one of logits and labels."""

    def loss_of(module, batch, *, update, num_updates):
        return BatchLoss(*loss(module(*batch.inputs), batch.labels))

    return loss_of


def run_fit(
    tmp_path,
    batches,
    *,
    loss=squared_error,
    results=(),
    should_stop=lambda: False,
    saved=None,
    updater_options=MappingProxyType({}),
    **opt,
):
    model, saved = OneNumber(), [] if saved is None else saved
    optim = OptimConfig(**{"epochs": 2, "lr": 0.1, "momentum": 0, "schedule": "constant", **opt})
    groups = [{"params": model.parameters(), "lr_factor": 1.0}]
    results = iter(results)

    progress = Progress()
    updater = Updater(
        model,
        torch.optim.SGD(groups, lr=0.1),
        of_batches(loss),
        device=torch.device("cpu"),
        **updater_options,
    )
    finished = train_epochs(
        updater,
        Batches(batches),
        optim=optim,
        progress=progress,
        evaluate=lambda: Evaluation(next(results), {}),
        metric="mean_ap",
        evaluate_every=1,
        save=saved.append,
        save_every_minutes=60,
        log=MetricsLog(tmp_path / "log.jsonl"),
        should_stop=should_stop,
    )
    return finished, model, progress, saved


def test_the_value_moves_as_computed_by_hand(tmp_path):
    # value <- value - 0.1 * 2 * (value - 1): 0.2, 0.36, 0.488, 0.5904
    finished, model, progress, saved = run_fit(
        tmp_path, [batch_of(1), batch_of(3)], results=[0.5], epochs=2
    )
    assert finished and progress.update == 4
    assert model.value.tolist() == pytest.approx([0.5904] * 2)
    assert saved == ["best", "last", "epoch_0001", "last", "epoch_0002"]


def test_accumulated_batches_share_one_update_and_the_last_group_may_be_small(tmp_path):
    batches = [batch_of(1, 1.0), batch_of(1, 0.0), batch_of(1, 1.0)]
    _, model, progress, _ = run_fit(tmp_path, batches, epochs=1, accumulate=2)
    # mean of two gradients: value 0.1; then the third alone: 0.1 + 0.2 * 0.9
    assert progress.update == 2
    assert model.value.tolist() == pytest.approx([0.28] * 2)


def test_accumulated_batches_weigh_every_term_alike(tmp_path):
    """One term that wants 1 and three that want 0 are four terms, not two halves."""
    together = run_fit(tmp_path, [batch_of(1, 1.0), batch_of(3, 0.0)], epochs=1, accumulate=2)
    # d/dv of ((v - 1)^2 + 3 v^2) / 4 at 0 is -1/2
    assert together[1].value.tolist() == pytest.approx([0.05] * 2)


def test_gradients_are_clipped_as_those_of_the_mean(tmp_path):
    _, model, _, _ = run_fit(
        tmp_path, [batch_of(2)], epochs=1, updater_options={"clip_grad_norm": 0.5}
    )
    assert model.value.norm().item() == pytest.approx(0.1 * 0.5, rel=1e-4)
    update = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[0])
    assert update["grad_norm"] == pytest.approx(2 * 2**0.5)


def test_batches_of_no_person_are_legal(tmp_path):
    finished, model, _, _ = run_fit(tmp_path, [batch_of(0)], epochs=1)
    assert finished and model.value.tolist() == [0, 0]


def test_a_stop_saves_and_says_so(tmp_path):
    finished, _, progress, saved = run_fit(
        tmp_path, [batch_of(1)] * 3, epochs=1, should_stop=lambda: True
    )
    assert not finished and saved == ["last"] and (progress.epoch, progress.batch) == (0, 1)


def test_a_loss_that_is_not_finite_names_the_clips(tmp_path):
    def broken(logits, labels):
        return logits.sum() * (math.nan if labels[0, 0] > 1 else 1), 1

    saved = []
    with pytest.raises(UserError, match=r"loss became nan at update 1 \(clips: v at 1.000 s; v at"):
        batches = [batch_of(1), batch_of(1), batch_of(1), batch_of(1, 2.0)]
        run_fit(tmp_path, batches, loss=broken, epochs=1, accumulate=2, saved=saved)
    assert saved == ["before_not_finite"]
    event = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "not_finite" and event["first_batch"] == 2
    assert event["keys"] == ["v at 1.000 s"] * 2


def test_a_gradient_that_is_not_finite_stops_before_the_weights_are_spoilt(tmp_path):
    def steep(logits, labels):
        return (logits - 0).abs().sqrt().sum(), 1  # the slope at 0 is infinite

    with pytest.raises(UserError, match="norm of the gradient became nan at update 0"):
        run_fit(tmp_path, [batch_of(1)], loss=steep, epochs=1)


def test_an_undone_step_leaves_no_trace_in_batch_norm_and_random_numbers():
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.5)).train()
    snapshot = Snapshot(model)
    model(torch.randn(4, 2))
    snapshot.take()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    first = model(torch.full((4, 2), math.nan))
    snapshot.undo()
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    again = model(torch.full((4, 2), math.nan))
    assert torch.equal(first == 0, again == 0)


def test_plateau_divides_the_rate_when_map_saturates(tmp_path):
    results = [0.3, 0.3, 0.2, 0.4, 0.1]
    _, _, progress, saved = run_fit(
        tmp_path, [batch_of(1)], results=results, epochs=6, schedule="plateau", patience=2
    )
    assert progress.plateau_drops == 1
    assert (progress.best_score, progress.best_epoch) == (0.4, 3)
    assert saved.count("best") == 2


def test_no_score_at_all_is_never_better_than_a_score():
    progress = Progress()
    assert progress.note_evaluation(math.nan, patience=5)
    assert progress.note_evaluation(0.1, patience=5)
    assert not progress.note_evaluation(math.nan, patience=5)
    assert progress.best_score == 0.1


SIGNALLED = """
import os, signal
from detection.signals import stop_signals
before = signal.getsignal(signal.SIGTERM)
with stop_signals() as should_stop:
    assert not should_stop()
    os.kill(os.getpid(), signal.SIGTERM)
    assert should_stop()
    try:
        os.kill(os.getpid(), signal.SIGINT)
        signal.pause()
    except KeyboardInterrupt:
        print("interrupted")
assert signal.getsignal(signal.SIGTERM) is before
"""


def test_signals_ask_to_stop_and_the_second_interrupt_interrupts():
    """In a process of its own: a signal that goes astray would end all tests."""
    done = subprocess.run(
        [sys.executable, "-c", SIGNALLED], capture_output=True, text=True, timeout=300
    )
    assert (done.returncode, done.stdout) == (0, "interrupted\n"), done.stderr


def test_a_lost_reader_in_the_middle_of_an_update_saves_the_state_before_it(tmp_path):
    class Lost(list):
        def __getitem__(self, places):
            yield from list(self)
            raise ProcessLostError("gone")

        def __len__(self):
            return 10

    seen = []
    progress = Progress()
    batches = Lost([batch_of(1)] * 5)
    model = OneNumber()
    groups = [{"params": model.parameters(), "lr_factor": 1.0}]
    updater = Updater(
        model,
        torch.optim.SGD(groups, lr=0.1),
        of_batches(squared_error),
        device=torch.device("cpu"),
    )
    with pytest.raises(ProcessLostError):
        train_epochs(
            updater,
            Batches(batches),
            optim=OptimConfig(epochs=1, lr=0.1, momentum=0, schedule="constant", accumulate=3),
            progress=progress,
            evaluate=lambda: Evaluation(0, {}),
            metric="mean_ap",
            evaluate_every=1,
            save=lambda name: seen.append((name, progress.batch, progress.update)),
            save_every_minutes=60,
            log=MetricsLog(tmp_path / "log.jsonl"),
        )
    assert seen == [("last", 3, 1)]
    event = json.loads((tmp_path / "log.jsonl").read_text().splitlines()[-1])
    assert event["event"] == "process_lost" and event["message"] == "gone"
