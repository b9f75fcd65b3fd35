"""Two processes as `torchrun` starts them, on the CPU: the same run as one process makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from saved_weights import weights_of
from tiny_data import make_dataset

import train_ava
from ava_tools import train_people
from detection import build
from detection.config import RunConfig, load_config
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import TrainBatches
from detection.engine.distributed import Processes, joined_processes
from detection.errors import UserError
from detection.structures import Keyframe

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64, color_jitter: 0.1}
model: {variant: x2d, head_width: 32, dropout: 0, freeze_batch_norm: true}
optim: {epochs: 2, batch_size: 4, lr: 0.05, warmup_updates: 2}
evaluation: {every_epochs: 1, batch_size: 2}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def cfg(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    data = make_dataset(folder / "data", train=5, val=3)
    path = folder / "tiny.yaml"
    path.write_text(f"data: {{root: '{data}'}}\noutput: '{folder / 'run'}'\n{SETTINGS}")
    return path


def torchrun(*command, check: bool = True) -> subprocess.CompletedProcess:
    """Run a script in two processes."""
    result = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
        + [str(part) for part in command],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    if check:
        assert result.returncode == 0, result.stdout + result.stderr
    return result


def test_two_processes_compute_what_one_computes(tmp_path, cfg):
    """21 updates of 10 clips in batches of 4; the last batch of 2 has one clip for each process.

    Most actors are cropped away, so that one process's part of a batch often holds no actor.
    BatchNorm is frozen, since its statistics are each process's own.
    """
    options = ["optim.epochs=7", "clip.min_visible=0.95", "evaluation.every_epochs=4"]
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'one'}", *options])
    done = torchrun("train_ava.py", "--cfg", cfg, f"output={tmp_path / 'two'}", *options)
    one, two = (
        [json.loads(line) for line in (tmp_path / name / "log.jsonl").read_text().splitlines()]
        for name in ("one", "two")
    )
    losses, theirs = (
        [event["loss"] for event in events if event["event"] == "update"] for events in (one, two)
    )
    assert len(losses) == 21, "one process writes"
    assert theirs == pytest.approx(losses, rel=1e-5)
    assert two[0]["processes"] == 2
    alone = parts_without_actors(load_config(cfg, options))
    assert 0 < alone < 42, "in some updates a process has no actor"
    first, second = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two")
    )
    assert second["per_class"] == pytest.approx(first["per_class"], abs=1e-9)
    assert second["num_detections"] == first["num_detections"]
    assert second["num_keyframes"] == first["num_keyframes"] == 6
    assert done.stdout.count("frame-mAP") == 1, "one process speaks"


def parts_without_actors(config: RunConfig) -> int:
    """Count in how many updates one of two processes has no actor while the other has one."""
    folder = DatasetFolder.open(config.data.root)
    table = build.read_train_table(config, folder, folder.read_label_map())
    dataset = build.build_train_dataset(config, folder, table)
    orders = [build.build_train_order(config, table.keyframes(), share=(r, 2)) for r in (0, 1)]
    count = 0
    for epoch in range(config.optim.epochs):
        for order in orders:
            order.set_epoch(epoch)
        for parts in zip(*orders, strict=True):
            actors = [sum(len(s.labels) for s in dataset.__getitems__(part)) for part in parts]
            count += 0 in actors and any(actors)
    return count


def test_a_stop_of_one_process_stops_both_and_the_resumed_run_equals_one_never_stopped(
    tmp_path, cfg
):
    options = ["model.dropout=0.3", "model.freeze_batch_norm=false"]
    torchrun("train_ava.py", "--cfg", cfg, f"output={tmp_path / 'whole'}", *options)
    script = REPOSITORY / "tests/engine/interrupted_run.py"
    torchrun(script, 4, "--cfg", cfg, f"output={tmp_path / 'cut'}", *options)
    assert not (tmp_path / "cut/metrics.json").exists()
    last = json.loads((tmp_path / "cut/log.jsonl").read_text().splitlines()[-1])
    assert (last["event"], last["update"]) == ("stopped", 4)
    torchrun("train_ava.py", "--resume", tmp_path / "cut")
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)


COUNTED_NETWORKS = """
import atexit
import hashlib
from ava_tools import train_people
from ava_tools.cli import run_command
from detection.engine import runs
from detection.engine.update import Updater

atexit.register(print, "the interpreter is taken down")
real, real_learn, keys = runs.train_epochs, Updater.learn, []

def learn(self, batch, **options):
    keys.extend(batch.keys)
    real_learn(self, batch, **options)


def fit(updater, batches, **options):
    done = real(updater, batches, **options)
    digest = hashlib.sha256()
    for parameter in updater.model.parameters():
        digest.update(parameter.detach().numpy().tobytes())
    digests = updater.processes.gather(digest.hexdigest())
    learned = sum(updater.processes.gather(keys), [])
    if updater.processes.is_first:
        print("networks:", len(digests), "processes,", len(set(digests)), "different")
        print("frames:", len(learned), "learned,", len(set(learned)), "different")
    return done

runs.train_epochs, Updater.learn = fit, learn
run_command(train_people.main)
"""


def test_two_processes_train_one_people_detector(tmp_path, cfg):
    values = {
        "data": {"root": str(cfg.parent / "data"), "held_out_share": 0.2},
        "output": str(tmp_path / "run"),
        "device": "cpu",
        "workers": 0,
        "picture": {"short_side_px": 64, "long_side_px": 96},
        "model": {"freeze_batch_norm": True},
        "optim": {"epochs": 2, "batch_size": 4, "warmup_updates": 1},
    }
    people = tmp_path / "people.yaml"
    people.write_text(json.dumps(values))
    script = tmp_path / "counted.py"
    script.write_text(COUNTED_NETWORKS)
    one = tmp_path / "one"
    assert train_people.main(["--cfg", str(people), f"output={one}"]) == 0
    for command in ((script,), ("-m", "ava_tools.train_people", "--overwrite")):
        done = torchrun(*command, "--cfg", people)
        alone, shared = (
            [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
            for run in (one, tmp_path / "run")
        )
        assert [e["event"] for e in shared] == [e["event"] for e in alone], "one process writes"
        assert shared[0]["processes"] == 2
        losses, theirs = (
            [e["loss"] for e in es if e["event"] == "update"] for es in (alone, shared)
        )
        assert len(losses) == 4  # 8 keyframes in batches of 4
        assert theirs[0] == pytest.approx(losses[0], rel=0.2)  # proposals are drawn by each
        assert done.stdout.count("results in ") == 1, "one process speaks"
        scored = [json.loads((run / "metrics.json").read_text()) for run in (one, tmp_path / "run")]
        assert {part["val"]["num_pictures"] for part in scored} == {6}
        assert {part["held_out"]["num_pictures"] for part in scored} == {2}
        if command == (script,):
            assert "networks: 2 processes, 1 different" in done.stdout
            assert "frames: 16 learned, 8 different" in done.stdout, "two epochs of 8"
            assert "taken down" not in done.stdout, "gloo's threads may end it with SIGABRT then"
    refused = torchrun(
        *("-m", "ava_tools.train_people", "--cfg", people, "optim.batch_size=3"),
        f"output={tmp_path / 'other'}",
        check=False,
    )
    assert "error: optim.batch_size=3 is shared by 2 processes" in refused.stderr


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path, cfg):
    output = f"output={tmp_path / 'run'}"
    result = torchrun("train_ava.py", "--cfg", cfg, output, "optim.batch_size=3", check=False)
    assert result.returncode != 0
    assert "error: optim.batch_size=3 is shared by 2 processes" in result.stderr
    assert not (tmp_path / "run").exists()


def test_the_parts_of_a_batch_are_the_batch():
    keyframes = [Keyframe("v", float(time_s)) for time_s in range(10)]
    whole = list(TrainBatches(keyframes, batch_size=6, seed=3))
    parts = [list(TrainBatches(keyframes, batch_size=6, seed=3, share=(r, 3))) for r in range(3)]
    assert [len(part) for part in parts] == [2, 2, 2]
    assert all(len(part[0]) == 2 for part in parts)
    assert sorted(sum((part[0] for part in parts), [])) == sorted(whole[0])
    last = sum((part[1] for part in parts), [])
    assert len(last) == 6 and set(whole[1]) <= set(last), "filled up to a multiple of 3"


def test_alone_nothing_is_exchanged(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with joined_processes() as processes:
        assert (processes.rank, processes.count, processes.is_first) == (0, 1, True)
        assert processes.sum([7.0, 0.0]) == [7.0, 0.0]
        assert processes.gather("x") == ["x"] and processes.share("x") == "x"
        processes.wait()


def test_a_share_that_does_not_divide():
    assert Processes(1, 4).part_of(12, "n") == 3
    with pytest.raises(UserError, match="n=10 is shared by 4 processes: a multiple of 4"):
        Processes(1, 4).part_of(10, "n")
