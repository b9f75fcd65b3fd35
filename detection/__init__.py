"""Who does what, where and when in a video; docs/api.md describes the names that are given here.

Each is loaded when it is first asked for: `import detection` alone takes no time and no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from detection.checkpoints.file import read_model_file, save_model_file
    from detection.checkpoints.load import describe_network, load_network
    from detection.checkpoints.network_file import read_network_file
    from detection.config import load_config
    from detection.datasets.ava_csv import read_ground_truth
    from detection.datasets.folder import DatasetFolder
    from detection.errors import UserError
    from detection.evaluation.evaluator import ActionEvaluator
    from detection.pipeline.detector import ActionDetectorPipeline
    from detection.pipeline.options import PipelineOptions
    from detection.pipeline.video_results import KeyframeResult, VideoResults
    from detection.publishing.pretrained import from_pretrained, save_pretrained
    from detection.structures import (
        ActorBoxes,
        Batch,
        Clip,
        ClipSampling,
        Detections,
        FrameMap,
        Keyframe,
        LabelMap,
        Sample,
    )
    from detection.tracking.events import ActionEvent
    from detection.video.reader import VideoReader

__version__ = "0.1.0"  # the only place: pyproject.toml reads it
__all__ = [
    "ActionDetectorPipeline",
    "ActionEvaluator",
    "ActionEvent",
    "ActorBoxes",
    "Batch",
    "Clip",
    "ClipSampling",
    "DatasetFolder",
    "Detections",
    "FrameMap",
    "Keyframe",
    "KeyframeResult",
    "LabelMap",
    "PipelineOptions",
    "Sample",
    "UserError",
    "VideoReader",
    "VideoResults",
    "describe_network",
    "from_pretrained",
    "load_config",
    "load_network",
    "read_ground_truth",
    "read_model_file",
    "read_network_file",
    "save_model_file",
    "save_pretrained",
]
_MODULES = {  # where the names live
    "checkpoints.file": ("read_model_file", "save_model_file"),
    "checkpoints.load": ("describe_network", "load_network"),
    "checkpoints.network_file": ("read_network_file",),
    "config": ("load_config",),
    "datasets.ava_csv": ("read_ground_truth",),
    "datasets.folder": ("DatasetFolder",),
    "errors": ("UserError",),
    "evaluation.evaluator": ("ActionEvaluator",),
    "pipeline.detector": ("ActionDetectorPipeline",),
    "pipeline.options": ("PipelineOptions",),
    "pipeline.video_results": ("KeyframeResult", "VideoResults"),
    "publishing.pretrained": ("from_pretrained", "save_pretrained"),
    "structures": (
        "ActorBoxes",
        "Batch",
        "Clip",
        "ClipSampling",
        "Detections",
        "FrameMap",
        "Keyframe",
        "LabelMap",
        "Sample",
    ),
    "tracking.events": ("ActionEvent",),
    "video.reader": ("VideoReader",),
}


if not TYPE_CHECKING:  # type checkers take the imports above

    def __getattr__(name: str) -> object:
        for module, names in _MODULES.items():
            if name in names:
                value = getattr(importlib.import_module(f"detection.{module}"), name)
                globals()[name] = value  # asked for once
                return value
        raise AttributeError(f"module 'detection' has no attribute '{name}'")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
