"""Tiny networks of every option that changes their program, exported once for all tests."""

from __future__ import annotations

import functools
import importlib.util
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from detection.checkpoints.file import ModelFile, read_model_file, save_model_file
from detection.checkpoints.load import describe_network, load_network
from detection.export.artefact import Artefact, Form, place_beside
from detection.export.make import export_network
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import X3DDescription
from detection.structures import ClipSampling, LabelMap

LABELS = LabelMap(("be red", "be <b>blue</b>", "be here"), (3, 7, 9), None)
PACKAGES = {"onnx": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",), "torch": ()}
# Two blocks with a window of 2 x 2 positions: traced and converted in seconds.
TRUNK = X3DDescription(
    4, 6, 64, (64, 72), 64, width_factor=0.5, depth_factor=0.2, bottleneck_factor=1.5
)
HEADS: dict[str, dict[str, Any]] = {
    "plain": {},
    "context": {
        "context": "frame", "unit_features": True, "exclusive": True, "roi_pool": "mean",
        "time_parts": 3,
    },
    "tube": {"actor_input": "tube", "time_parts": 2, "context": "frame"},
    "squares": {"actor_input": "tube+crop", "crop_px": 48, "unit_features": True},
}  # fmt: skip


def need(form: str) -> None:
    """Skip the test where a package of a form is not installed."""
    for package in PACKAGES[form]:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


def tiny_network(kind: str) -> nn.Module:
    """Return a network whose layers all do something.

    kind: "plain", "context", "tube", "squares" or "classifier".
    """
    torch.manual_seed(2)
    if kind == "classifier":
        model: nn.Module = build_classifier(TRUNK, HeadDescription(3, hidden=16))
    else:
        head = ActorHeadDescription(3, hidden=16, **HEADS[kind])
        model = build_detector(TRUNK, head)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm3d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    nn.init.normal_(model.head.classes.weight, std=1.0)
    return model.eval()


def save_run(folder: Path, kind: str = "plain", *, short_side_px: int = 64) -> ModelFile:
    """Write a run folder and read its checkpoint."""
    model = tiny_network(kind)
    path = folder / "checkpoints" / "last.pt"
    save_model_file(
        path,
        model.state_dict(),
        network=describe_network(model),
        classes=LABELS,
        sampling=ClipSampling(4, 6),
        short_side_px=short_side_px,
        config=None,
    )
    return read_model_file(path)


def exported(form: Form, kind: str = "plain") -> tuple[nn.Module, Artefact]:
    """Return a tiny network and its export, which all tests share and none may change."""
    need(form)
    return _exported(form, kind)


@functools.cache
def _exported(form: Form, kind: str) -> tuple[nn.Module, Artefact]:
    folder = Path(tempfile.mkdtemp(prefix="exported_"))
    file = save_run(folder, kind)
    return load_network(file), export_network(file, place_beside(file.path, form), form)
