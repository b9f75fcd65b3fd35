"""The part of the GPU report (gpu_report.py) that runs `detect_actions` on streams."""

from __future__ import annotations

import math
import multiprocessing
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from first_minute import StandingPeople

from detection import build
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.config import config_from_dict, config_to_dict
from detection.cores import usable_cores
from detection.models.x3d import VARIANTS, X3DDescription
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.structures import LabelMap
from detection.video.writer import VideoWriter

if TYPE_CHECKING:
    from gpu_parts import Tell
    from gpu_report import Settings

# The network of dry runs.
TINY = X3DDescription(4, 6, 32, (32, 40), 32, width_factor=1.0, depth_factor=1.0)


def streams(settings: Settings, tell: Tell) -> None:
    """Tell how many seconds of video a second some processes get through one GPU."""
    folder, tiny = Path(settings.folder), settings.dry_run
    seconds, size = (2.0, (96, 72)) if tiny else (20.0, (640, 360))
    write_video(folder / "stream.mp4", seconds=seconds, size=size, fps=10 if tiny else 30)
    save_network(folder / "stream_network.pt", tiny=tiny)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "torchvision"])
    for count in (2,) if tiny else (1, 2, 4, 8, 16):
        if count > max(2, usable_cores()):
            break
        barrier, times = context.Barrier(count), context.Queue()
        processes = [
            context.Process(target=stream, args=(settings, barrier, times)) for _ in range(count)
        ]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        if any(process.exitcode for process in processes):
            raise RuntimeError(f"of {count} processes one failed: see streams.log")
        slowest = max(times.get() for _ in processes)
        tell(
            {
                "processes": count,
                "video": f"{size[0]}x{size[1]}, three people, keyframes every 0.5 s",
                "streams in real time": count * seconds / slowest,
            }
        )


def write_video(path: Path, *, seconds: float, size: tuple[int, int], fps: int) -> None:
    """Write a video of coloured patches that move."""
    random, (width, height) = np.random.default_rng(0), size
    patches = random.integers(0, 255, (math.ceil(height / 8), math.ceil(width / 8), 3))
    frame = np.kron(patches, np.ones((8, 8, 1)))[:height, :width].astype(np.uint8)
    with VideoWriter(path, width=width, height=height, fps=fps) as writer:
        for number in range(int(seconds * fps)):
            writer.write(np.ascontiguousarray(np.roll(frame, 2 * number, axis=1)))


def save_network(path: Path, *, tiny: bool) -> None:
    """Write an action detector with random weights: X3D-S and AVA's number of classes."""
    shape = TINY if tiny else VARIANTS["s"]
    factors = {"width_factor": shape.width_factor, "depth_factor": shape.depth_factor}
    clip = {"num_frames": shape.num_frames, "step": shape.step}
    clip["test_short_side_px"] = shape.test_crop
    model = {"variant": "s", **factors}
    config = config_from_dict({"data": {"root": "none"}, "model": model, "clip": clip}, "gpu_parts")
    count = 3 if tiny else 80
    names, ids = tuple(f"action {i + 1}" for i in range(count)), tuple(range(1, count + 1))
    torch.manual_seed(0)
    network = build.build_model(config, num_classes=count).eval()
    save_model_file(
        path,
        network.state_dict(),
        network=describe_network(network),
        classes=LabelMap(names, ids),
        sampling=shape.sampling,
        short_side_px=shape.test_crop,
        config=config_to_dict(config),
    )


def stream(settings: Settings, barrier: Any, times: Any) -> None:
    """Run one stream among others; give the seconds that it took once all were ready."""
    folder = Path(settings.folder)
    try:
        detector = ActionDetectorPipeline.from_checkpoint(
            folder / "stream_network.pt",
            people=StandingPeople(3, device=settings.device),
            options=PipelineOptions(threshold=0.5),
            device=settings.device,
        )
        for _ in detector.keyframes(folder / "stream.mp4", end_s=1.0):
            pass  # the first calls are slow
    except BaseException:
        barrier.abort()  # the others would wait for ever
        raise
    barrier.wait()
    begun = time.perf_counter()
    found = sum(len(keyframe.tracks) for keyframe in detector.keyframes(folder / "stream.mp4"))
    assert found, "no one was scored"
    times.put(time.perf_counter() - begun)
