"""What a run scores, refuses and carries over a stop: rules that no other test would miss."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny_data import make_dataset
from torch import nn

import train_ava
from detection.config import load_config
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import ClipLoader, TrainBatches
from detection.engine import loop, runs
from detection.engine.distributed import ALONE
from detection.engine.inference import detect
from detection.engine.metrics_log import Stopwatch
from detection.engine.tasks.action_scoring import Scorer
from detection.engine.tasks.base import BatchLoss
from detection.engine.update import NotFinite, Updater
from detection.errors import ProcessLostError, UserError
from detection.files import replacing
from detection.structures import ActorBoxes, Batch, Detections, Keyframe

SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 2, batch_size: 2, lr: 0.1}
evaluation: {every_epochs: 9}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture
def data(tmp_path):
    return make_dataset(tmp_path / "data", train=3, val=2)


@pytest.fixture
def cfg(tmp_path, data):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"data: {{root: '{data}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    return path


def exclude(data: Path, split: str, rows: str) -> None:
    (data / f"annotations/out_{split}.csv").write_text(rows)
    text = (data / "dataset.yaml").read_text()
    entry = f"annotations: annotations/{split}.csv"
    assert text.count(entry) == 1
    more = f"exclusions: annotations/out_{split}.csv"
    (data / "dataset.yaml").write_text(text.replace(entry, f"{entry}\n    {more}"))


def test_excluded_keyframes_are_neither_scored_nor_learned(tmp_path, data, cfg):
    exclude(data, "val", "val_0,0001\n")
    exclude(data, "train", "train_1,0002\n")
    folder, config = DatasetFolder.open(data), load_config(cfg)
    task = runs.open_task(config)
    task.prepare_scoring(device=torch.device("cpu"), processes=ALONE)
    loader, order = task.training_batches(device=torch.device("cpu"), processes=ALONE)
    assert order.num_samples == 5
    scorer: Scorer = task._scorer
    assert scorer._evaluator.exclusions == {Keyframe("val_0", 1.0)}
    # What is given for an excluded keyframe, and its ground truth, count for nothing.
    boxes = ActorBoxes([[0.1, 0.1, 0.5, 0.5]], [1])
    scores = np.ones((1, 3), np.float32)
    scorer._evaluator.update([Detections(Keyframe("val_0", 1.0), boxes, scores)])
    result = scorer._evaluator.compute()
    assert sum(result.num_ground_truth.values()) == 6 and result.num_keyframes == 3
    assert folder.split("val").exclusions is not None


def test_minutes_between_checkpoints_are_minutes(tmp_path, cfg, monkeypatch):
    """By this clock 10 s go by between two looks at it, of which an update takes two."""
    now = iter(range(0, 10**6, 10))
    clock = SimpleNamespace(monotonic=lambda: float(next(now)))
    monkeypatch.setattr(loop, "time", clock)
    saved = []
    real = runs.save_checkpoint

    def note(path, **options):
        saved.append((Path(path).stem, options["progress"].update))
        real(path, **options)

    monkeypatch.setattr(runs, "save_checkpoint", note)
    train_ava.main(["--cfg", str(cfg), "checkpoint_minutes=1000", "optim.epochs=1"])
    assert saved == [("last", 3)]
    saved.clear()
    train_ava.main(["--cfg", str(cfg), "checkpoint_minutes=0.1", "--overwrite", "optim.epochs=1"])
    assert [update for _, update in saved] == [1, 2, 3, 3]
    saved.clear()
    train_ava.main(["--cfg", str(cfg), "checkpoint_minutes=0.45", "--overwrite", "optim.epochs=1"])
    assert [update for _, update in saved] == [2, 3]


def test_data_reach_the_disk_before_the_name_changes(tmp_path, monkeypatch):
    order, real_sync, real_replace = [], os.fsync, Path.replace
    path = tmp_path / "result.csv"

    def sync(handle):
        order.append(("sync", os.fstat(handle).st_ino))
        real_sync(handle)

    def replace(self, target):
        order.append(("rename", self.stat().st_ino))
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(Path, "replace", replace)
    with replacing(path) as temporary:
        temporary.write_text("all of it")
        assert order == []
    number = path.stat().st_ino
    assert order[:2] == [("sync", number), ("rename", number)]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm, self.last = nn.BatchNorm1d(2), nn.Linear(2, 2)

    def forward(self, frames):
        return self.last(self.norm(frames))


@dataclass
class Rows:
    frames: torch.Tensor
    labels: torch.Tensor
    keys: str


def updater_of(model: nn.Module) -> Updater:
    def loss(module, batch, **_):
        logits = module(batch.frames)
        return BatchLoss((logits - batch.labels).square().sum(), logits.numel())

    groups = [{"params": list(model.parameters()), "lr_factor": 1.0}]
    return Updater(model, torch.optim.SGD(groups, lr=0.1), loss, device=torch.device("cpu"))


@pytest.mark.parametrize("how", ["not finite", "undone"])
def test_an_update_that_is_not_made_changes_nothing(how):
    model = Net()
    updater = updater_of(model)
    updater.begin_epoch()
    frames, labels = torch.randn(4, 2), torch.zeros(4, 2)
    updater.learn(Rows(frames, labels, "ab"), last=True, watch=Stopwatch())
    updater.step(0.1)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    frames, labels = torch.randn(4, 2), torch.zeros(4, 2)
    torch.set_rng_state(state)
    updater.learn(Rows(frames, labels, "cd"), last=False, watch=Stopwatch())
    torch.rand(3)
    if how == "not finite":
        bad = Rows(frames, labels * float("nan"), "ef")
        updater.learn(bad, last=True, watch=Stopwatch())
        with pytest.raises(NotFinite):
            updater.step(0.1)
    else:
        assert updater.undo() and not updater.undo()
    after = model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert torch.equal(torch.get_rng_state(), state)


def test_scores_that_are_not_finite_name_video_and_keyframe():
    class Broken(nn.Module):
        def forward(self, frames, rois_px):
            logits = torch.zeros(len(rois_px), 2)
            logits[1, 1] = value
            return logits

    batch = Batch(
        frames=torch.zeros(2, 3, 1, 4, 4, dtype=torch.uint8),
        rois_px=torch.zeros(2, 5),
        labels=torch.zeros(2, 2),
        boxes=[ActorBoxes([[0, 0, 1, 1]], [1])] * 2,
        keyframes=[Keyframe("v", 1.0), Keyframe("w", 2.0)],
    )
    for value in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(UserError, match=f"w at 2.000 s: the network's score is {value}"):
            list(detect(Broken(), [batch], device=torch.device("cpu")))
    value = 3.0
    assert len(list(detect(Broken(), [batch], device=torch.device("cpu")))) == 2


def test_a_checkpoint_of_nan_is_not_scored(tmp_path, cfg):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    path = tmp_path / "run/checkpoints/last.pt"
    file = torch.load(path, weights_only=True)
    file["model_state"]["head.classes.bias"].fill_(float("nan"))
    torch.save(file, path)
    (tmp_path / "run/metrics.json").unlink()
    with pytest.raises(UserError, match="finite"):
        train_ava.main(["--eval-only", "--checkpoint", str(path)])
    assert not (tmp_path / "run/metrics.json").exists()


def test_damaged_validation_videos_never_cost_the_scores_of_the_rest(tmp_path, data, cfg, capsys):
    video = data / "videos/val_1.mp4"
    video.write_bytes(video.read_bytes()[: int(0.7 * video.stat().st_size)])
    assert train_ava.main(["--cfg", str(cfg), "optim.epochs=1"]) == 0
    metrics = json.loads((tmp_path / "run/metrics.json").read_text())
    assert 0 < metrics["unreadable_keyframes"] == len(metrics["unreadable"]) < 4
    assert all("val_1.mp4" in line for line in metrics["unreadable"])
    assert "could not be read and count as missed: " in capsys.readouterr().out


def test_a_keyframe_past_the_last_frame_is_refused_before_the_run(tmp_path, data, cfg):
    """The last frame of 3 s at 10 a second is shown at 2.9 s; headers are sure to 0.5 s alone."""
    rows = (data / "annotations/val.csv").read_text()
    (data / "annotations/val.csv").write_text(rows + "val_0,3.2,0.1,0.1,0.5,0.5,9,0\n")
    with pytest.raises(UserError, match=r"val\.csv:\d+: .*keyframe at 3\.200000 s"):
        train_ava.main(["--cfg", str(cfg)])
    assert not (tmp_path / "run").exists()
    (data / "annotations/val.csv").write_text(rows + "val_0,2.94,0.1,0.1,0.5,0.5,9,0\n")
    assert train_ava.main(["--cfg", str(cfg), "optim.epochs=1"]) == 0


def test_data_may_move_and_not_change(tmp_path, data, cfg, capsys):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    run, moved = tmp_path / "run", tmp_path / "elsewhere"
    data.rename(moved)
    with pytest.raises(
        UserError, match=r"dataset\.yaml: file not found.*where the data moved, add data.root=NEW"
    ):
        train_ava.main(["--resume", str(run)])
    assert train_ava.main(["--resume", str(run), f"data.root={moved}"]) == 0
    assert train_ava.main(["--resume", str(run)]) == 0, "remembered"
    rows = moved / "annotations/train.csv"
    rows.write_text(rows.read_text().replace("train_0,", "train_1,", 1))
    with pytest.raises(UserError, match=r"last\.pt: .*annotations of 'train' changed"):
        train_ava.main(["--resume", str(run)])
    path = run / "checkpoints/last.pt"
    file = torch.load(path, weights_only=True)
    del file["training"]["data"]
    torch.save(file, path)
    capsys.readouterr()
    assert train_ava.main(["--resume", str(run)]) == 0
    assert "does not say what its annotations were" in capsys.readouterr().out


def test_excluded_keyframes_may_not_change_either(tmp_path, data, cfg):
    exclude(data, "val", "val_0,0002\n")
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    (data / "annotations/out_val.csv").write_text("val_1,0002\n")
    with pytest.raises(UserError, match=r"last\.pt: .*exclusions of 'val' changed"):
        train_ava.main(["--resume", str(tmp_path / "run")])


class Bad:
    """Samples of which every third cannot be read."""

    def __len__(self):
        return 30

    def __getitems__(self, indices):
        if any(position % 3 == 0 for _, position in indices):
            raise UserError("bad")
        return list(indices)


@pytest.mark.parametrize("start", [0, 3, 7])
def test_the_tolerance_is_the_same_wherever_an_epoch_is_gone_on_with(start):
    def batches(begin: int, before: int, most: float):
        keyframes = [Keyframe("v", float(time_s)) for time_s in range(30)]
        order = TrainBatches(keyframes, batch_size=4)
        loader = ClipLoader(
            Bad(), order, collate=list, on_unreadable="replace", most_unreadable=most
        )
        loader.report_unreadable = lambda _: None
        epochs = runs.EpochBatches(loader, order)
        epochs.go_on([before], rank=0)
        for _ in epochs.epoch(0, start=begin):
            yield epochs.num_unreadable

    before = list(batches(0, 0, 0.99))
    assert before[-1] == 10
    done = before[start - 1] if start else 0
    assert list(batches(start, done, 0.34)) == before[start:]
    with pytest.raises(UserError, match="10 of 30 samples of an epoch"):
        list(batches(start, done, 0.32))


def test_an_epoch_that_begins_anew_takes_over_no_unreadable_samples():
    """Not those of the epoch before, nor those of a checkpoint that was saved at an epoch's end."""
    order = TrainBatches([Keyframe("v", float(time_s)) for time_s in range(30)], batch_size=4)
    loader = ClipLoader(Bad(), order, collate=list, on_unreadable="replace", most_unreadable=0.99)
    loader.report_unreadable = lambda _: None
    epochs = runs.EpochBatches(loader, order)
    epochs.go_on([7], rank=0)
    for epoch in (1, 2):
        for _ in epochs.epoch(epoch):
            pass
        assert epochs.num_unreadable == 10
    epochs.go_on([7], rank=0)
    epochs.epoch(3, start=2)
    assert loader.unreadable_before == 7
    epochs.epoch(4, start=2)
    assert loader.unreadable_before == 0


def test_a_killed_reader_ends_the_run_saved_with_75_and_it_goes_on(tmp_path, cfg, monkeypatch):
    options = ["workers=1", "optim.epochs=2", "optim.accumulate=2"]
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'whole'}", *options])
    real = Updater.learn
    passes = iter(range(100))

    def learn(self, *arguments, **given):
        if next(passes) == 4:  # in the second epoch, the loader having read ahead
            for worker in multiprocessing.active_children():
                os.kill(worker.pid, signal.SIGKILL)
                worker.join()
        return real(self, *arguments, **given)

    monkeypatch.setattr(Updater, "learn", learn)
    try:
        train_ava.main(["--cfg", str(cfg), *options])
    except ProcessLostError as error:
        assert error.exit_code == 75
        assert "saved, go on with: python train_ava.py --resume" in str(error)
    else:
        pytest.fail("no error named the missing reader")
    monkeypatch.setattr(Updater, "learn", real)
    assert train_ava.main(["--resume", str(tmp_path / "run")]) == 0
    ours, theirs = (
        torch.load(tmp_path / name / "checkpoints/last.pt", weights_only=True)["model_state"]
        for name in ("run", "whole")
    )
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize(("option", "most"), [("workers", 256), ("threads", 1024)])
def test_a_slip_of_a_number_is_refused(cfg, option, most):
    with pytest.raises(UserError, match=f"{option}: .*{most}"):
        train_ava.main(["--cfg", str(cfg), f"{option}=1000000"])


ORPHAN = """
import os, signal, sys, time
from torch.utils.data import DataLoader
from detection.datasets.workers import ManagedLoader
from detection.datasets.workers import start_worker

def start(number):
    if {slow_start}:
        print(os.getpid(), flush=True)
        time.sleep(2)
    start_worker(number)

class Slow:
    def __len__(self): return 8
    def __getitem__(self, index):
        print(os.getpid(), flush=True)
        time.sleep(600)

loader = DataLoader(Slow(), num_workers=2, worker_init_fn=start, persistent_workers=True)
readers = ManagedLoader(loader)
next(iter(readers))
"""


@pytest.mark.parametrize("slow_start", [False, True], ids=["reading", "starting"])
def test_readers_of_a_killed_program_end_within_seconds(slow_start):
    program = subprocess.Popen(
        [sys.executable, "-c", ORPHAN.format(slow_start=slow_start)],
        cwd=Path(__file__).resolve().parents[2],
        stdout=subprocess.PIPE,
        text=True,
    )
    readers = {int(program.stdout.readline()) for _ in range(2)}
    program.kill()
    program.wait()
    deadline = time.monotonic() + 10
    while any(is_alive(reader) for reader in readers) and time.monotonic() < deadline:
        time.sleep(0.1)
    left = [reader for reader in readers if is_alive(reader)]
    for reader in left:
        os.kill(reader, signal.SIGKILL)
    assert left == []


def is_alive(process: int) -> bool:
    stat = Path(f"/proc/{process}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"
