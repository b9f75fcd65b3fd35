"""A pipeline of a tiny random X3D and a made detector, and its videos: built in seconds, no data.

The networks know nothing: tests ask that the same is found whichever way a video is run.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from fake_people import FakeDetector

from detection.build import build_model
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.config import RunConfig, config_from_dict, config_to_dict
from detection.models.classifier import HeadDescription, build_classifier
from detection.structures import ClipSampling, LabelMap
from detection.video.writer import VideoWriter

LABELS = LabelMap(("be red", "be <b>blue</b>", "be here"), (3, 7, 9), None)
WIDTH, HEIGHT, FPS = 96, 72, 10


def config(model=None, **clip) -> RunConfig:
    values = {
        "data": {"root": "nowhere", "box_score_threshold": 0.01},
        "model": {
            "variant": "xs",
            "depth_factor": 1.0,
            "width_factor": 1.0,
            "head_width": 16,
            "dropout": 0.0,
            **(model or {}),
        },
        "clip": {"num_frames": 4, "step": 6, "test_short_side_px": 64, **clip},
    }
    return config_from_dict(values, "test")


def save_tiny_run(
    folder: Path,
    *,
    labels: LabelMap = LABELS,
    spread: float = 6.0,
    step: float = 6,
    at_ends: str = "repeat",
    stream: bool = False,
    actor_input: str = "roi",
) -> Path:
    """Write a run folder whose random scores are spread over 0 to 1."""
    torch.manual_seed(3)
    settings = config({"actor_input": actor_input, "crop_px": 48})
    model = build_model(settings, num_classes=len(labels)).eval()
    with torch.no_grad():
        model.head.classes.weight.mul_(spread / model.head.classes.weight.abs().mean())
    save_model_file(
        folder / "checkpoints" / "last.pt",
        model.state_dict(),
        network=describe_network(model),
        classes=LabelMap(labels.names, labels.ids, labels.groups, {"colour": (0, 1)}),
        sampling=ClipSampling(4, step, at_ends, stream),
        short_side_px=64,
        config=config_to_dict(settings),
    )
    return folder


def save_tiny_classifier(
    folder: Path, *, labels: LabelMap = LABELS, spread: float = 6.0, step: float = 6
) -> Path:
    """Write a run folder of a network that classifies whole clips, its softmax spread likewise."""
    torch.manual_seed(5)
    settings = config()
    trunk = build_model(settings, num_classes=len(labels)).trunk.description
    head = HeadDescription(len(labels), hidden=16, dropout=0.0)
    model = build_classifier(trunk, head).eval()
    with torch.no_grad():
        model.head.classes.weight.mul_(spread / model.head.classes.weight.abs().mean())
    save_model_file(
        folder / "checkpoints" / "last.pt",
        model.state_dict(),
        network=describe_network(model),
        classes=labels,
        sampling=ClipSampling(4, step),
        short_side_px=48,
        config=None,
    )
    return folder


class SquareDetector(FakeDetector):
    """Finds the squares, with scores that a crowd of thresholds accepts."""

    sides_px = (64, 128)

    def _find(self, frame):
        found = super()._find(frame)
        return type(found)(found.xyxy_01, np.linspace(0.9, 0.8, len(found)))


def use_squares(monkeypatch) -> None:
    """Let commands open `SquareDetector`, whatever weights of people they are given."""
    monkeypatch.setattr(
        "detection.people.weights.load_people_detector", lambda *_, **__: SquareDetector()
    )


def write_squares(
    path: Path,
    *,
    seconds: float = 6.0,
    fps: float = FPS,
    times_s=None,
    empty=(),
    start_s: float = 0.0,
    size=(WIDTH, HEIGHT),
    speed: float = 6.0,
) -> Path:
    """Write a red square that walks to and fro and a blue one that stays.

    empty: (start, end) seconds without either.  times_s: of the frames, in place of a steady rate.
    """
    width, height = size
    generator = np.random.default_rng(1)
    background = generator.integers(80, 160, (height // 8, width // 8, 3))
    background = np.kron(background, np.ones((8, 8, 1))).astype(np.uint8)
    if times_s is None:
        times_s = np.arange(round(seconds * fps)) / fps
    with VideoWriter(path, width=width, height=height, fps=fps, crf=10) as writer:
        for time_s in times_s:
            frame = background.copy()
            if not (empty and empty[0] <= time_s < empty[1]):
                x = 4 + int(abs((speed * time_s) % 60 - 30))
                frame[10:34, x : x + 16] = (230, 20, 20)
                frame[40:66, 60:80] = (20, 20, 230)
            writer.write(frame, start_s + float(time_s))
    return path
