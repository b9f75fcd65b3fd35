"""Against the real SlowFast and pytorchvideo networks; `make_golden.py` says how they were run.

Every variant is compared at a small size, XS, S and M at their own sizes too. L and XL at their own
sizes cost 127 GMAC and run where X3D_GOLDEN=all is set.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import golden_rule as rule
import make_golden
import numpy as np
import pytest
import torch

from detection.checkpoints.load import load_pretrained
from detection.checkpoints.weights import Naming, to_their_names
from detection.models.classifier import X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS, X3DDescription

FULL = ["xs", "s", "m", "l", "xl"]
SMALL = [("xs", "slowfast"), ("xs", "pytorchvideo"), ("l", "slowfast"), ("l", "pytorchvideo")]
SMALL += [("xl", "slowfast"), ("xl", "pytorchvideo")]


def golden(variant: str, kind: str, tag: str) -> dict[str, np.ndarray]:
    """The reference's numbers of one case."""
    with np.load(Path(__file__).parent / "golden" / f"x3d_{variant}.npz") as arrays:
        start = f"{kind}/{tag}"
        return {
            name.removeprefix(start).lstrip("/"): arrays[name]
            for name in arrays.files
            if name.startswith(start)
        }


def description_of(variant: str, kind: str, tag: str) -> X3DDescription:
    description = VARIANTS[variant]
    if tag == "small":
        description = dataclasses.replace(description, **make_golden.SMALL)
    if variant == "xl" and kind == "slowfast":
        description = dataclasses.replace(description, width_divisor=1)
    return description


def loaded(variant: str, kind: Naming, tag: str, folder: Path) -> X3DClassifier:
    """Our network from a file with the reference's names, through the loader users have."""
    network = build_classifier(description_of(variant, kind, tag))
    state = rule.weights({name: v.shape for name, v in network.state_dict().items()})
    if kind == "pytorchvideo":
        state = {k: v for k, v in state.items() if not k.startswith(make_golden.SHORTCUT)}
    torch.save({"model_state": to_their_names(state, kind)}, folder / "weights.pyth")
    report = load_pretrained(network, folder / "weights.pyth")
    assert not report.missing
    return network.eval()


def check_outputs(network: X3DClassifier, variant: str, kind: str, tag: str) -> None:
    expected = golden(variant, kind, tag)
    description = network.trunk.description
    kept = make_golden.KEPT_CLASSES
    for place, side in (("train", description.train_crop), ("test", description.test_crop)):
        size = (description.num_frames, side, side)
        frames = rule.clip(tag, size, clips=2 if tag == "small" else 1)
        with torch.no_grad():
            features = network.trunk(network.pixels(frames))
            logits = network.head(features)
        assert rule.relative(logits[..., :kept], expected[f"{place}_logits"]) < 1e-5
        if kind == "slowfast":
            found = logits.softmax(-1).mean(1)[:, :kept]
            assert rule.relative(found, expected[f"{place}_probabilities"]) < 1e-5
        else:
            found = logits.mean(1)[:, :kept]
            assert rule.relative(found, expected[f"{place}_mean_logits"]) < 1e-5
        if f"{place}_features" in expected:
            sums = make_golden.feature_sums(features)
            assert rule.relative(sums, expected[f"{place}_features"]) < 1e-5
    if tag == "small":
        with torch.no_grad():
            frames = rule.clip("odd", (3, 50, 77))
            sums = make_golden.feature_sums(network.trunk(network.pixels(frames)))
        assert rule.relative(sums, expected["odd_features"]) < 1e-5


@pytest.mark.parametrize(("variant", "kind"), SMALL)
def test_small_clips_give_the_references_numbers(
    variant: str, kind: Naming, tmp_path: Path
) -> None:
    check_outputs(loaded(variant, kind, "small", tmp_path), variant, kind, "small")


@pytest.mark.parametrize("variant", FULL)
def test_full_clips_give_the_references_numbers(variant: str, tmp_path: Path) -> None:
    if variant in ("l", "xl") and os.environ.get("X3D_GOLDEN") != "all":
        pytest.skip("127 GMAC: set X3D_GOLDEN=all")
    kind: Naming = "pytorchvideo" if variant == "xl" else "slowfast"
    check_outputs(loaded(variant, kind, "full", tmp_path), variant, kind, "full")


@pytest.mark.parametrize(("variant", "kind"), SMALL)
@pytest.mark.parametrize("mode", ["eval", "training"])
def test_gradients_are_the_references(
    variant: str, kind: Naming, mode: str, tmp_path: Path
) -> None:
    if mode == "training" and kind == "pytorchvideo":
        pytest.skip("the BatchNorm that pytorchvideo lacks is no identity in training")
    network = loaded(variant, kind, "small", tmp_path).train(mode == "training")
    network.head.dropout.p = 0.0
    clips = rule.normalised(rule.clip("gradient", (4, 64, 64), clips=2))
    expected = golden(variant, kind, f"gradients_{mode}")[""]

    def apart(dtype: torch.dtype) -> np.ndarray:
        """Difference per parameter of the sum with a fixed tensor."""
        network.zero_grad()
        network.to(dtype)
        make_golden.loss_of(network.head(network.trunk(clips.to(dtype)))).backward()
        named = {
            name: parameter.grad
            for name, parameter in network.named_parameters()
            if kind == "slowfast" or not name.startswith(make_golden.SHORTCUT)
        }
        return np.abs(make_golden.gradients(named) - expected)[:, 1]

    if mode == "eval":
        # The fixed tensors have variance 1 / 3: this estimates |difference| / |gradient|. A ReLU
        # that rounding tips over moves single parameters further than that.
        overall = np.sqrt(3 * np.sum(apart(torch.float32) ** 2) / np.sum(expected[:, 0] ** 2))
        assert overall < 1e-4
    # In double precision nothing tips over, and each parameter is held to it by itself.
    assert (apart(torch.float64) / expected[:, 0]).max() < 1e-6


def test_dropping_the_shortcut_norm_would_be_seen(tmp_path: Path) -> None:
    """The comparison has teeth: one wrong layer out of hundreds moves the numbers."""
    network = loaded("xs", "slowfast", "small", tmp_path)
    with torch.no_grad():
        network.trunk.stages[3][6].project_norm.bias[0] += 0.01
    with pytest.raises(AssertionError):
        check_outputs(network, "xs", "slowfast", "small")
