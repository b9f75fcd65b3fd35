"""Processor time of `detect_actions` with a clip for each keyframe and with shared clips, one film.

    PYTHONPATH=. python benchmarks/stream_pipeline.py --cfg FILE --video FILE [--every 0.25 0.5]

Two people who stand still are found in every frame at no cost, so that what is left is decoding,
scaling and the action network of the configuration, with random weights. The two are alternated;
printed are medians over the rounds, of the whole and of the stage `actions`, one thread and one
worker. No annotated video, no page.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from detection.build import build_model
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.config import RunConfig, load_config
from detection.engine.environment import keep_malloc_memory
from detection.models.timing import describe_device
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.structures import ActorBoxes, LabelMap

CLASSES = 21
BOXES = [[0.2, 0.2, 0.4, 0.9], [0.5, 0.3, 0.7, 0.8]]


class TwoPeople:
    """Finds the same two people in every frame."""

    name = "two people"

    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
        """Return the two, for each image."""
        boxes, score = np.array(BOXES, np.float32), np.array([0.9, 0.8], np.float32)
        return [ActorBoxes(boxes, score) for _ in images]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cfg", required=True)
    parser.add_argument("--video", required=True)
    parser.add_argument("--every", type=float, nargs="+", default=[0.25, 0.5])
    parser.add_argument("--seconds", type=float, default=8.0, help="of the film (8)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("overrides", nargs="*", help="options that replace the file's")
    options = parser.parse_intermixed_args()
    config = load_config(options.cfg, options.overrides)
    torch.set_num_threads(1)
    keep_malloc_memory()
    print(describe_device(torch.device("cpu")))
    with tempfile.TemporaryDirectory() as folder:
        runs = {shared: write_run(config, Path(folder), shared) for shared in (False, True)}
        for every_s in options.every:
            spent: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
            for number in range(options.rounds + 1):
                for shared, run in runs.items():
                    found = time_run(run, options.video, every_s, options.seconds)
                    if number:  # first calls are slow
                        spent[shared].append(found)
            for part, name in enumerate(("all", "actions")):
                own, shared_s = (statistics.median(s[part] for s in spent[b]) for b in runs)
                print(
                    f"every {every_s:g} s, {name}: {own:.2f} s with a clip each, "
                    f"{shared_s:.2f} s with shared clips ({shared_s / own:.2f})",
                    flush=True,
                )


def write_run(config: RunConfig, folder: Path, shared: bool) -> Path:
    """Write a run of random weights, the same ones for both."""
    torch.manual_seed(0)
    model = build_model(config, num_classes=CLASSES)
    sampling = dataclasses.replace(config.clip.sampling, at_ends="inside", stream=shared)
    save_model_file(
        folder / str(shared) / "checkpoints" / "last.pt",
        model.state_dict(),
        network=describe_network(model),
        classes=LabelMap(tuple(f"action {i}" for i in range(CLASSES)), tuple(range(CLASSES))),
        sampling=sampling,
        short_side_px=config.clip.test_short_side_px,
    )
    return folder / str(shared)


def time_run(run: Path, video: str, every_s: float, seconds: float) -> tuple[float, float]:
    """Return processor seconds of all of a run, and of its action network."""
    detector = ActionDetectorPipeline.from_checkpoint(
        run,
        people=TwoPeople(),
        options=PipelineOptions(keyframe_interval_s=every_s, workers=1),
        device="cpu",
    )
    began_s = time.process_time()
    list(detector.run(video, end_s=seconds))
    return time.process_time() - began_s, detector.report.clock.seconds["actions"]


if __name__ == "__main__":
    main()
