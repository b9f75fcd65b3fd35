"""Runs that are killed at random times go on to the very weights of one that never was.

KILLS=30 in the environment kills as often (a few by default).
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_data import make_dataset

from detection.errors import EXIT_STOPPED

REPOSITORY = Path(__file__).resolve().parents[2]


SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, freeze_batch_norm: true}
optim: {epochs: 200, batch_size: 4, lr: 0.01}
evaluation: {every_epochs: 1000}
workers: 1
threads: 1
device: cpu
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=str)
def test_kill_by_a_signal_that_asks_saves_and_says_so(tmp_path, number):
    data, run = make_dataset(tmp_path / "data", train=2, val=1), tmp_path / "run"
    cfg = tmp_path / "cfg.yaml"
    cfg.write_text(f"output: {run}\ndata: {{root: {data}}}\n{SETTINGS}")
    process = subprocess.Popen(
        [sys.executable, str(REPOSITORY / "train_ava.py"), "--cfg", str(cfg)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + 120
    while '"update"' not in (
        (run / "log.jsonl").read_text() if (run / "log.jsonl").is_file() else ""
    ):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, number)  # its readers too, as a terminal and a scheduler do
    printed, _ = process.communicate(timeout=60)
    assert process.returncode == EXIT_STOPPED == 75, printed
    assert "Traceback" not in printed and f"--resume {run}" in printed
    assert "batch/s" not in printed and "video/s" not in printed  # no bars of short work in a log
    last = json.loads((run / "log.jsonl").read_text().splitlines()[-1])
    assert last["event"] == "stopped"
    assert not (run / "metrics.json").exists()


def test_kill_and_resume_ends_with_the_weights_of_an_uninterrupted_run(tmp_path):
    kills = int(os.environ.get("KILLS", "2"))
    data = make_dataset(tmp_path / "data", train=4, val=2)
    script = REPOSITORY / "tests/engine/kill_runs.py"
    command = [sys.executable, str(script), "--data", str(data), "--out", str(tmp_path / "runs")]
    result = subprocess.run(
        [*command, "--kills", str(kills)],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=300 + 60 * kills,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    found = json.loads(result.stdout)
    assert found["kills"] == kills > found["before_first_checkpoint"]
    assert found["unreadable"] == []
    assert found["weights_equal"] and found["followed_weights_equal"] and found["scores_equal"]
