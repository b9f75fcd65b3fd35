"""Seconds of video a second, by stage, and how well the pipeline fills two cores.

    python benchmarks/pipeline_speed.py --video film.mp4 --checkpoint RUN --people runs/people

The limit, in the same run: with all stages busy on two cores, wall time is half of the stages'
processor time; the command is to stay within 1.15 times that. Processor time that no stage counts
(threads that wait, Python between them) is printed too, so that the sum hides nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from detection.engine.environment import keep_malloc_memory
from detection.pipeline import ActionDetectorPipeline, PipelineOptions

ALLOWED = 1.15
CORES = 2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--video", required=True)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--people", required=True)
    parser.add_argument("--every", type=float, default=0.5, metavar="S")
    parser.add_argument("--threshold", type=float, default=0.5)
    parser.add_argument("--person-score", type=float, metavar="S")
    parser.add_argument("--seconds", type=float, default=60.0, help="of video")
    options = parser.parse_args()
    keep_malloc_memory()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    torch.set_num_threads(CORES)
    choices = PipelineOptions(
        keyframe_interval_s=options.every,
        threshold=options.threshold,
        person_score=options.person_score,
    )
    for film in (False, True):
        detector = ActionDetectorPipeline.from_checkpoint(
            options.checkpoint, people=options.people, options=choices, device="cpu"
        )
        list(detector.run(options.video, end_s=2.0))  # first calls are slow
        with tempfile.TemporaryDirectory() as folder:
            before_s = time.process_time()
            events = list(
                detector.run(
                    options.video, out=Path(folder) / "out", end_s=options.seconds, film=film
                )
            )
            process_s = time.process_time() - before_s
        report, clock = detector.report, detector.report.clock
        stages_s = sum(clock.seconds.values())
        ideal_s = stages_s / CORES
        print(f"\n{'with' if film else 'without'} film, keyframes every {options.every:g} s")
        print(f"{report.keyframes} keyframes, {report.people} people, {len(events)} events")
        print(clock.table(report.end_s))
        print(f"processor time of the process: {process_s:.2f} s, of its stages {stages_s:.2f} s")
        ratio = clock.wall_s / ideal_s
        verdict = "within" if ratio <= ALLOWED else "beyond"
        print(f"wall time / (stages / {CORES}) = {ratio:.3f}, {verdict} {ALLOWED}")


if __name__ == "__main__":
    main()
