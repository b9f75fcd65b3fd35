"""Kills a run with SIGKILL again and again, resumes it, and compares it with one never killed.

PYTHONPATH=. python tests/engine/kill_runs.py --data FOLDER --out FOLDER --kills 30

Every life of the run is a process of its own (forked, so that torch is loaded once). Most are
killed at a random time after a checkpoint of theirs, the others after their start. A
checkpoint is written after every update; after each kill all checkpoint files are read. Prints one
JSON object.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

import torch

import train_ava
from detection.checkpoints.file import read_checkpoint
from detection.engine import runs  # noqa: F401 (loaded before forking, not in every life)
from detection.errors import UserError

SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64, color_jitter: 0.1}
model: {variant: x2d, head_width: 32, dropout: 0.3}
evaluation: {every_epochs: 3}
checkpoint_minutes: 1.0e-9
checkpoints_kept: 2
workers: 0
threads: 1
device: cpu
"""
LONGEST_LIFE_S = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a data set folder")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    args.out.mkdir(parents=True)
    cfg = args.out / "killed.yaml"
    optim = f"{{epochs: {args.kills + 4}, batch_size: 2, accumulate: 2, lr: 0.1, ema_decay: 0.9}}"
    cfg.write_text(f"data: {{root: '{args.data}'}}\noptim: {optim}\n{SETTINGS}")
    whole, killed = args.out / "whole", args.out / "killed"
    assert wait(live(["--cfg", str(cfg), f"output={whole}"])) == 0
    found = kill_and_resume(cfg, killed, args.kills, random.Random(args.seed))
    ours, theirs = (
        torch.load(run / "checkpoints/last.pt", weights_only=True) for run in (whole, killed)
    )
    found["updates"] = ours["training"]["progress"]["update"]
    found["weights_equal"] = equal(ours["model_state"], theirs["model_state"])
    found["followed_weights_equal"] = equal(
        ours["training"]["followed_weights"], theirs["training"]["followed_weights"]
    )
    scores = [
        json.loads((run / "metrics.json").read_text())["per_class"] for run in (whole, killed)
    ]
    found["scores_equal"] = scores[0] == scores[1]
    print(json.dumps(found))


def kill_and_resume(cfg: Path, run: Path, kills: int, draw: random.Random) -> dict:
    """Run to the end through so many kills; return what was seen."""
    found: dict = {
        "kills": 0,
        "before_first_checkpoint": 0,
        "left_half_written": 0,
        "unreadable": [],
    }
    updates_at_kill = []
    while True:
        last = run / "checkpoints" / "last.pt"
        fresh = ["--cfg", str(cfg), f"output={run}", "--overwrite"]
        life = live(["--resume", str(run)] if last.is_file() else fresh)
        if found["kills"] == kills:
            assert wait(life) == 0
            found["updates_at_kills"] = updates_at_kill
            return found
        log = run / "log.jsonl"
        if draw.random() < 0.8:  # after a checkpoint of this life
            seen = written_at(last)
            deadline = time.monotonic() + LONGEST_LIFE_S
            while written_at(last) == seen and time.monotonic() < deadline:
                time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.5))
        os.kill(life, signal.SIGKILL)
        code = wait(life)
        assert code == -signal.SIGKILL, f"a life ended by itself with {code}: too few updates"
        found["kills"] += 1
        found["before_first_checkpoint"] += not last.is_file()
        found["left_half_written"] += bool(list(run.glob("checkpoints/.writing-*")))
        updates_at_kill.append(count_updates(log))
        for path in run.glob("checkpoints/[!.]*.pt"):
            try:
                read_checkpoint(path)
            except UserError as error:
                found["unreadable"].append(str(error))


def live(arguments: Sequence[str]) -> int:
    """Start train_ava.py in a process of its own; return its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
        code = train_ava.main(list(arguments))
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(child: int) -> int:
    """Return the exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns if path.is_file() else 0


def count_updates(log: Path) -> int:
    return log.read_text(errors="replace").count('"event": "update"') if log.is_file() else 0


def equal(ours: dict, theirs: dict) -> bool:
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


if __name__ == "__main__":
    sys.exit(main())
