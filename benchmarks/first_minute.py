"""What the first minute costs: imports, the first labelled frame, seconds of video a second.

    python benchmarks/first_minute.py --video video.mp4 [--weights x3d_s_kinetics400] [--people 3]

The people detector is torchvision's mobile_320 with random weights, whose work is done and whose
boxes are replaced by as many standing boxes as `--people` says: three people at all times. Without
the published weights at hand, `--weights` takes any file of an X3D-S (or XS: the same shapes); its
values do not change the time. Processor times of a fresh process; the run uses two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

from detection.checkpoints.hub import DEFAULT_NETWORK  # noqa: E402
from detection.engine.environment import keep_malloc_memory  # noqa: E402
from detection.people.torchvision_rcnn import (  # noqa: E402
    TorchvisionDetector,
    build_people_network,
)
from detection.pipeline import ActionDetectorPipeline, PipelineOptions  # noqa: E402
from detection.structures import ActorBoxes  # noqa: E402

CORES = 2


class StandingPeople(TorchvisionDetector):
    """Does the work of a network, and finds people who stand side by side."""

    def __init__(self, count: int, *, device: str = "cpu") -> None:
        torch.manual_seed(0)
        network = build_people_network("mobile_320", num_classes=90)
        name = f"{count} standing"
        super().__init__(network.eval(), name=name, actor_labels=[1], device=device)
        left = np.arange(count) / count
        boxes = np.stack([left, np.full(count, 0.3), left + 0.8 / count, np.full(count, 0.9)], -1)
        self.found = ActorBoxes(boxes.astype(np.float32), np.full(count, 0.9, np.float32))

    def detect(self, images: Sequence[torch.Tensor]) -> list[ActorBoxes]:
        """Run the network; return the standing people in each image."""
        super().detect(images)
        return [self.found] * len(images)


def open_detector(options: argparse.Namespace) -> ActionDetectorPipeline:
    """Open the networks; events at any score, so that labels are drawn."""
    return ActionDetectorPipeline.from_checkpoint(
        options.weights,
        people=StandingPeople(options.people),
        options=PipelineOptions(threshold=0.05),
        device="cpu",
    )


def first_label(options: argparse.Namespace) -> None:
    """Print the processor time of this process until the first keyframe has its labels."""
    keyframe = next(iter(open_detector(options).keyframes(options.video)))
    print(f"{time.process_time():.2f} {len(keyframe.tracks)}")


def in_a_process(*arguments: str) -> tuple[float, str]:
    """Return the processor seconds of a fresh process and its threads, and its output."""
    before = os.times()
    done = subprocess.run(
        [sys.executable, *arguments], check=True, capture_output=True, text=True, cwd=REPOSITORY
    )
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system, done.stdout.strip()


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--video", required=True)
    parser.add_argument("--weights", default=DEFAULT_NETWORK)
    parser.add_argument("--people", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=30.0, help="of video")
    parser.add_argument("--first-label", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    keep_malloc_memory()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:CORES])
    if options.first_label:
        first_label(options)
        return
    imported_s = min(in_a_process("-c", "import detection.pipeline")[0] for _ in range(3))
    print(f"import detection.pipeline: {imported_s:.2f} s of processor time (limit 3)")
    same = ["--video", options.video, "--weights", options.weights, "--people", str(options.people)]
    started = [in_a_process(__file__, *same, "--first-label")[1] for _ in range(3)]
    print(f"to the first labelled keyframe: {min(map(float, (s.split()[0] for s in started)))} s "
          "of processor time (limit 15)")  # fmt: skip
    for files in (False, True):
        detector = open_detector(options)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "out" if files else None
            list(detector.run(options.video, out=out, end_s=options.seconds))
        report, clock = detector.report, detector.report.clock
        print(f"\n{'with annotated video and page' if files else 'without files'}: "
              f"{report.keyframes} keyframes, {report.people} detections of people")  # fmt: skip
        print(clock.table(report.end_s))
        scored_ms = 1000 * clock.seconds["actions"] / max(1, report.people)
        print(f"{scored_ms:.0f} ms of processor time a person and keyframe")


if __name__ == "__main__":
    main()
