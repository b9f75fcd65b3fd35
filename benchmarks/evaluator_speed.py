"""Time and memory of the evaluator at the size of AVA val, and the official script's beside it.

python benchmarks/evaluator_speed.py --files FOLDER [--official SCRIPT] [--fraction 1.0]

SCRIPT is a `get_ava_performance.py` of ActivityNet made to run on this numpy (docs/evaluation.md
says how); its 2018 and 2019 revisions take minutes at full size. Seconds are medians of `--repeats`
fresh processes for ours and one run for the script. CPU seconds are less disturbed by what else
the machine does.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).parent))
import evaluator_files

OURS = """
import json, resource, sys, time
from detection.datasets.ava_csv import read_detections, read_ground_truth
from detection.datasets.label_map import read_label_map
from detection.evaluation.frame_map import frame_map
def now(): return time.perf_counter(), time.process_time()
gt_path, det_path, map_path, protocol = sys.argv[1:]
a = now(); gt, det = read_ground_truth(gt_path), read_detections(det_path)
b = now(); result = frame_map(gt, det, read_label_map(map_path), protocol=protocol)
c = now()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
print(json.dumps(dict(read=b[0]-a[0], read_cpu=b[1]-a[1], score=c[0]-b[0], score_cpu=c[1]-b[1],
                      peak_gb=peak, mean_ap=result.mean_ap, rows=len(gt)+len(det))))
"""
TARGETS = {"score": 2.0, "read": 4.0, "peak_gb": 1.2}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=Path, required=True, help="where the CSVs are (or go)")
    parser.add_argument("--official", type=Path, help="get_ava_performance.py, made to run")
    parser.add_argument("--protocol", default="activitynet-2018")
    parser.add_argument("--fraction", type=float, default=1.0)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    files = evaluator_files.write(options.files, fraction=options.fraction)
    paths = [str(p) for p in (files.ground_truth, files.detections, files.label_map)]

    def ours() -> dict[str, float]:
        command = [sys.executable, "-c", OURS, *paths, options.protocol]
        said = subprocess.run(command, check=True, capture_output=True).stdout
        figures: dict[str, float] = json.loads(said)
        return figures

    half = -(-options.repeats // 2)
    runs = [ours() for _ in range(half)]
    script = official(options.official, paths) if options.official else None
    runs += [ours() for _ in range(options.repeats - half)]
    mine = {name: median(run[name] for run in runs) for name in runs[0]}
    spread = {name: (min(r[name] for r in runs), max(r[name] for r in runs)) for name in mine}

    print(f"{int(mine['rows']):,} rows, protocol {options.protocol}, {len(runs)} runs")
    print(f"{'':<22}{'median':>9}{'least':>9}{'most':>9}{'target':>9}")
    for name, unit in (
        ("read", "s"), ("score", "s"), ("read_cpu", "s CPU"), ("score_cpu", "s CPU"),
        ("peak_gb", "GB"),
    ):  # fmt: skip
        target = f"{TARGETS[name]:>9.1f}" if name in TARGETS and options.fraction == 1 else ""
        low, high = spread[name]
        print(f"{name + ', ' + unit:<22}{mine[name]:>9.2f}{low:>9.2f}{high:>9.2f}{target}")
    print(f"mean_ap {mine['mean_ap']:.12f}")
    if script:
        print(f"\nofficial: {options.official}")
        print(f"read {script['read']:.1f} s, score {script['score']:.1f} s, all in all "
              f"{script['cpu']:.1f} s CPU, peak {script['peak_gb']:.2f} GB")  # fmt: skip
        print(f"mean_ap {script['mean_ap']:.12f}")
        both, mine_both = script["read"] + script["score"], mine["read"] + mine["score"]
        mine_cpu = mine["read_cpu"] + mine["score_cpu"]
        print(f"ratio: scoring {script['score'] / mine['score']:.0f}, reading "
              f"{script['read'] / mine['read']:.1f}, both {both / mine_both:.0f}, "
              f"both in CPU time {script['cpu'] / mine_cpu:.0f}")  # fmt: skip


def official(script: Path, paths: list[str]) -> dict[str, float]:
    """Run the script once; its log says what each step took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    command = [sys.executable, "-O", script.name, "-g", paths[0], "-d", paths[1], "-l", paths[2]]
    done = subprocess.run(command, cwd=script.parent, capture_output=True, text=True, check=True)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    steps = re.findall(r"==> ([0-9.e+-]+) seconds to (.*)", done.stderr)
    read = sum(float(seconds) for seconds, step in steps if step.startswith("read file"))
    score = sum(float(seconds) for seconds, step in steps if not step.startswith("read file"))
    mean = re.search(r"Precision/mAP@0.5IOU': (?:np\.float64\()?([0-9.e-]+)", done.stdout)
    assert mean is not None, done.stdout[-2000:]
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "read": read, "score": score, "wall": wall, "cpu": cpu, "mean_ap": float(mean.group(1)),
        "peak_gb": after.ru_maxrss * 1024 / 1e9,
    }  # fmt: skip


if __name__ == "__main__":
    main()
