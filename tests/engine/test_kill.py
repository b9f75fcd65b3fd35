"""Runs that are killed at random moments go on to the very weights of one that never was.

KILLS=30 in the environment kills as often (a few by default).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tiny_data import make_dataset

REPOSITORY = Path(__file__).resolve().parents[2]


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
