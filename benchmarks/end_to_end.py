"""What `detect_actions` costs from opening a video to all its files, of one or more checkouts.

    python benchmarks/end_to_end.py --videos clips/*.mp4 --checkpoint RUN --people P \
        --checkouts ../before . .@openvino [--repeats 3]

For each video and checkout a process of its own opens the networks, runs two seconds (first calls
are slow), and then measures the video with annotated video and page, without page, and without
either, at one thread. Checkouts take turns in every round, and what is measured takes turns in
every process, so that a machine that others use favours nobody. Medians of processor time; where
others use the machine, wall time says little. The last lines are ratios to the first checkout.
--kinds leaves some of the three out. CHECKOUT@RUNTIME: the action network by that runtime; what
exporting it takes is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

KINDS = {"all": (True, True), "no page": (True, False), "neither": (False, False)}
ONE = """
import json, sys, tempfile, time
from pathlib import Path
import torch
from detection.pipeline import ActionDetectorPipeline
torch.set_num_threads(1)
video, checkpoint, people, kinds, end, runtime = json.loads(sys.argv[1])
chosen = {"runtime": runtime} if runtime else {}
found = {}
for name, (film, page) in kinds:
    detector = ActionDetectorPipeline.from_checkpoint(
        checkpoint, people=people, device="cpu", **chosen
    )
    list(detector.run(video, end_s=2.0))
    with tempfile.TemporaryDirectory() as folder:
        started, spent = time.monotonic(), time.process_time()
        how = {"out": Path(folder) / "out", "film": film, "page": page}
        events = list(detector.run(video, end_s=end or float("inf"), **how))
        found[name] = time.process_time() - spent, time.monotonic() - started
        stages = {stage: round(s, 2) for stage, s in detector.report.clock.seconds.items()}
        files = sorted(Path(folder).glob("out/*.mp4"))
        sizes = {file.name: file.stat().st_size for file in files}
    print(f"  {name}: {stages}, {len(events)} events, bytes {sizes}", file=sys.stderr)
print(json.dumps(found))
"""


def main() -> None:
    """Measure in turns; print a table for each video."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=Path, nargs="+", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--people", required=True)
    parser.add_argument("--checkouts", nargs="+", default=["."], metavar="CHECKOUT")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--kinds", nargs="+", choices=[*KINDS], default=[*KINDS])
    parser.add_argument("--seconds", type=float, help="of each video (default: all)")
    options = parser.parse_args()
    networks = [str(Path(name).resolve()) for name in (options.checkpoint, options.people)]
    options.kinds = [kind for kind in KINDS if kind in options.kinds]
    print(f"| video | checkout | {' | '.join(options.kinds)} | page of the rest | wall, all |")
    print("|---" * (len(options.kinds) + 4) + "|", flush=True)
    for video in options.videos:
        seconds: dict[str, dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))
        for number in range(options.repeats):
            for checkout in options.checkouts[:: -1 if number % 2 else 1]:
                kinds = [(kind, KINDS[kind]) for kind in options.kinds][:: -1 if number % 2 else 1]
                found = run(checkout, [str(video.resolve()), *networks, kinds, options.seconds])
                for kind, measured in found.items():
                    seconds[checkout][kind].append(measured)
        report(video, seconds, options.checkouts)


def run(checkout: str, arguments: list[object]) -> dict[str, list[float]]:
    """Return for each kind processor and wall seconds, by that checkout's code and runtime."""
    folder, _, runtime = checkout.partition("@")
    environment = {**os.environ, "PYTHONPATH": str(Path(folder).resolve()), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", ONE, json.dumps([*arguments, runtime])]
    done = subprocess.run(
        command, cwd=folder, env=environment, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def report(
    video: Path, seconds: dict[str, dict[str, list[list[float]]]], checkouts: list[str]
) -> None:
    """Print a row for each checkout, and how much less the others need than the first."""
    whole = {}
    for checkout in checkouts:
        medians = {kind: np.median(each, axis=0) for kind, each in seconds[checkout].items()}
        medians = {kind: medians[kind] for kind in KINDS if kind in medians}
        first = next(iter(medians.values()))
        whole[checkout] = first[0]
        page = "-"
        if {"all", "no page"} <= medians.keys():
            page = f"{medians['all'][0] / medians['no page'][0] - 1:+.0%}"
        spent = " | ".join(f"{each[0]:.2f}" for each in medians.values())
        print(f"| {video.name} | {checkout} | {spent} | {page} | {first[1]:.1f} |")
    for checkout in checkouts[1:]:
        print(f"{checkouts[0]} / {checkout}: {whole[checkouts[0]] / whole[checkout]:.2f}")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
