"""The check and the CSV reader at the size of AVA's training set: 1.6 million rows, limit 5 s.

python benchmarks/check_speed.py [--rows 1600000] [--real FOLDER_WITH_AVA_CSV]

Rows are made up in AVA's form (235 videos, 3 rows to a box, three decimals), with one row in a
thousand spoilt in a known way; --real repeats published rows under other ids up to that size.
Prints seconds (by the clock, and of processors) of the bare reader, of the check in the process,
and of the whole command, each as a ratio to the limit; ends with 1 where the command is over it.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from detection.checks.dataset import check_dataset
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.structures import LabelMap

LIMIT_S = 5.0


def make_rows(count: int, *, spoilt: bool, seed: int = 0) -> str:
    """Return rows of AVA's form; spoilt: one in a thousand is outside, flat, doubled or unknown."""
    rng = np.random.default_rng(seed)
    boxes = -(-count // 3)
    corners = rng.uniform(0, 0.6, (boxes, 2))
    edges = np.concatenate([corners, corners + rng.uniform(0.05, 0.39, (boxes, 2))], axis=1)
    rows = []
    for box in range(boxes):
        key = box // 2
        x1, y1, x2, y2 = edges[box]
        head = f"video{key % 235:04d}______,{902 + key // 235 % 897:04d},"
        person = box % 2 + 2 * (key // 235 // 897)
        for action in rng.choice(80, 3, replace=False) + 1:
            if spoilt and rng.random() < 1e-3:
                kind = rng.integers(4)
                x2, action = (x2 + 1, action) if kind == 0 else (x2, action)
                x2, action = (x1, action) if kind == 1 else (x2, 99 if kind == 2 else action)
                rows += [f"{head}{x1:.3f},{y1:.3f},{x2:.3f},{y2:.3f},{action},{person}\n"] * (
                    1 + (kind == 3)
                )
            rows.append(f"{head}{x1:.3f},{y1:.3f},{x2:.3f},{y2:.3f},{action},{person}\n")
    return "".join(rows[:count])


def repeat_real(folder: Path, count: int) -> str:
    """Return published rows again and again, each time under other video ids."""
    lines = (folder / "ava_sub23_train_v2.2.csv").read_text().splitlines()
    rounds = -(-count // len(lines))
    return "".join(f"{n:02d}{line}\n" for n in range(rounds) for line in lines)


def time_it(folder: Path, text: str, name: str) -> float:
    """Print the times of one file; returns those of the whole command."""
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "videos").mkdir(exist_ok=True)
    path = folder / "annotations" / "train.csv"
    path.write_text(text)
    write_label_map(
        folder / "annotations" / "label_map.pbtxt",
        LabelMap(tuple(f"class {i}" for i in range(1, 81)), tuple(range(1, 81))),
    )
    split = SplitPart(annotations="annotations/train.csv")
    write_dataset_file(folder, DatasetFile(name=name, videos="videos", splits={"train": split}))
    times, used = {}, {}
    began, cpu = time.perf_counter(), time.process_time()
    try:
        num_rows = len(read_ground_truth(path))
    except ValueError:
        num_rows = 0
    times["reader"], used["reader"] = time.perf_counter() - began, time.process_time() - cpu
    began, cpu = time.perf_counter(), time.process_time()
    check = check_dataset(DatasetFolder.open(folder), videos=False)
    times["check"], used["check"] = time.perf_counter() - began, time.process_time() - cpu
    command = [sys.executable, "-m", "ava_tools.check", str(folder), "--no-videos"]
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=False, capture_output=True)
    times["command"] = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used["command"] = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    rows = check.statistics["train"].num_rows
    counts = {kind: n for (kind, _), n in check.findings.counts.items()}
    print(f"{name}: {rows:,} rows ({path.stat().st_size / 1e6:.0f} MB), findings {counts}")
    for what, seconds in times.items():
        note = " (ends at the bad rows)" if what == "reader" and not num_rows else ""
        print(
            f"  {what:8} {seconds:6.2f} s, {seconds / LIMIT_S:.2f} of the limit "
            f"({used[what]:.2f} s of processors){note}"
        )
    return times["command"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", type=int, default=1_600_000)
    parser.add_argument("--real", type=Path, help="folder of ava_sub23_train_v2.2.csv")
    options = parser.parse_args()
    slowest = 0.0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean = make_rows(options.rows, spoilt=False)
        slowest = max(slowest, time_it(folder, clean, "made up, clean"))
        spoilt = make_rows(options.rows, spoilt=True)
        slowest = max(slowest, time_it(folder, spoilt, "made up, spoilt"))
        if options.real:
            real = repeat_real(options.real, options.rows)
            slowest = max(slowest, time_it(folder, real, "published rows, repeated"))
    return 1 if slowest > LIMIT_S else 0


if __name__ == "__main__":
    sys.exit(main())
