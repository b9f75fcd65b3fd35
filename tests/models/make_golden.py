"""Run the real reference networks once and keep what they say as golden data.

    git clone https://github.com/facebookresearch/SlowFast        # at 287ec007
    git clone https://github.com/facebookresearch/pytorchvideo    # at f3142bb0
    python tests/models/make_golden.py --slowfast SlowFast --pytorchvideo pytorchvideo

needs fvcore, iopath, yacs and what else SlowFast imports; detectron2 is stood in for, because X3D
does not use it. Weights and clips come from `golden_rule`; float32, eval mode, CPU. The script also
compares this project's networks on the spot and prints the largest relative differences. Not a
test: nothing here runs with the suite.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import sys
import types
from pathlib import Path
from typing import Any

import golden_rule as rule
import numpy as np
import torch
from torch import Tensor, nn

from detection.checkpoints.load import identity_norm
from detection.checkpoints.weights import to_own_names, to_their_names
from detection.models.classifier import X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS, X3DDescription

GOLDEN = Path(__file__).parent / "golden"
SMALL = {"num_frames": 4, "train_crop": 64, "test_crop": 96}
KEPT_CLASSES = 100
SHORTCUT = "trunk.stages.0.0.shortcut_norm."


class Reference:
    """A reference network with the rule's weights, and what it says."""

    def __init__(self, kind: str, description: X3DDescription) -> None:
        self.kind = kind
        build = slowfast_network if kind == "slowfast" else pytorchvideo_network
        self.network = build(description).eval()
        with torch.device("meta"):
            ours = build_classifier(description).state_dict()
        state = rule.weights({name: value.shape for name, value in ours.items()})
        if kind == "pytorchvideo":  # it lacks this layer
            state = {k: v for k, v in state.items() if not k.startswith(SHORTCUT)}
        self.network.load_state_dict(to_their_names(state, kind), strict=True)
        head = self.network.head if kind == "slowfast" else self.network.blocks[5]
        conv5 = head.conv_5_relu if kind == "slowfast" else head.pool.pre_act
        projection = head.projection if kind == "slowfast" else head.proj
        self.seen: dict[str, Tensor] = {}
        conv5.register_forward_hook(lambda m, i, out: self.seen.update(features=out))
        projection.register_forward_hook(lambda m, i, out: self.seen.update(logits=out))

    def run(self, frames: Tensor) -> Tensor:
        """Return what the network returns: SlowFast probabilities, pytorchvideo mean logits."""
        return self.run_clips(rule.normalised(frames))

    def run_clips(self, clips: Tensor) -> Tensor:
        """Do it for normalised clips."""
        return self.network([clips] if self.kind == "slowfast" else clips)

    def position_logits(self) -> Tensor:
        """(B, P, K) of the last run: both networks project channels last."""
        return self.seen["logits"].flatten(1, 3)


def slowfast_network(description: X3DDescription) -> nn.Module:
    from slowfast.config.defaults import get_cfg
    from slowfast.models.video_model_builder import X3D

    cfg = get_cfg()
    cfg.MODEL.ARCH, cfg.MODEL.MODEL_NAME, cfg.MODEL.NUM_CLASSES = "x3d", "X3D", 400
    cfg.MODEL.DROPOUT_RATE = 0.5
    cfg.X3D.WIDTH_FACTOR, cfg.X3D.DEPTH_FACTOR = description.width_factor, description.depth_factor
    cfg.X3D.BOTTLENECK_FACTOR = description.bottleneck_factor
    cfg.X3D.DIM_C5, cfg.X3D.DIM_C1 = 2048, 12
    cfg.RESNET.TRANS_FUNC, cfg.RESNET.STRIDE_1X1 = "x3d_transform", False
    cfg.RESNET.ZERO_INIT_FINAL_BN = True
    cfg.DATA.INPUT_CHANNEL_NUM = [3]
    cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE = description.num_frames, description.train_crop
    return X3D(cfg)


def pytorchvideo_network(description: X3DDescription) -> nn.Module:
    from pytorchvideo.models.x3d import create_x3d

    return create_x3d(
        input_clip_length=description.num_frames,
        input_crop_size=description.train_crop,
        model_num_class=400,
        dropout_rate=0.5,
        width_factor=description.width_factor,
        depth_factor=description.depth_factor,
        bottleneck_factor=description.bottleneck_factor,
    )


def our_network(kind: str, description: X3DDescription) -> X3DClassifier:
    network = build_classifier(description).eval()
    state = rule.weights({k: v.shape for k, v in network.state_dict().items()})
    if kind == "pytorchvideo":
        state |= identity_norm(SHORTCUT, description.stage_channels[0])
    network.load_state_dict(state)
    return network


def loss_of(logits: Tensor) -> Tensor:
    """A scalar that depends on every logit."""
    return (logits * rule.projection("loss", tuple(logits.shape))).sum()


def gradients(named: dict[str, Tensor]) -> np.ndarray:
    """(parameters, 2): norm, and sum with a fixed tensor, in the order of our sorted names."""
    rows = []
    for name in sorted(named):
        gradient = named[name].double()
        fixed = rule.projection(f"gradient/{name}", tuple(gradient.shape)).double()
        rows.append((gradient.norm().item(), (gradient * fixed).sum().item()))
    return np.array(rows)


def feature_sums(features: Tensor) -> Tensor:
    """(B, C, T, h, w) -> (B, 8, T, h, w): sums over channels with fixed weights."""
    channels = features.shape[1]
    fixed = rule.projection("features", (8, channels)) / math.sqrt(channels)
    return torch.einsum("oc,bcthw->bothw", fixed, features)


@torch.no_grad()
def forward_cases(
    kind: str, tag: str, description: X3DDescription, *, clips: int
) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """Outputs at train crop and at the 3-crop size, and ours against them."""
    reference, ours = Reference(kind, description), our_network(kind, description)
    frames_number, crop, test = (
        description.num_frames,
        description.train_crop,
        description.test_crop,
    )
    kept: dict[str, np.ndarray] = {}
    apart: dict[str, float] = {}
    for place, side in (("train", crop), ("test", test)):
        frames = rule.clip(tag, (frames_number, side, side), clips=clips)
        returned = reference.run(frames)
        logits, features = reference.position_logits(), reference.seen["features"]
        mine = ours.trunk(ours.pixels(frames))
        my_logits = ours.head(mine)
        values = {
            f"{place}_logits": (my_logits, logits),
            f"{place}_features": (feature_sums(mine), feature_sums(features)),
        }
        if kind == "slowfast":
            values[f"{place}_probabilities"] = (my_logits.softmax(-1).mean(1), returned)
        else:
            values[f"{place}_mean_logits"] = (my_logits.mean(1), returned)
        apart[f"{place}_map"] = rule.relative(mine, features)
        for name, (found, expected) in values.items():
            apart[name] = rule.relative(found, expected)
            if name == "test_features" and tag == "small":
                kept[f"{kind}/{tag}/{name}"] = expected.numpy()
            elif not name.endswith("features"):
                kept[f"{kind}/{tag}/{name}"] = expected[..., :KEPT_CLASSES].numpy()
    if tag == "small":
        frames = rule.clip("odd", (3, 50, 77))
        reference_map = odd_map(reference, rule.normalised(frames))
        mine = ours.trunk(ours.pixels(frames))
        apart["odd_map"] = rule.relative(mine, reference_map)
        kept[f"{kind}/{tag}/odd_features"] = feature_sums(reference_map).numpy()
    return kept, apart


def odd_map(reference: Reference, clips: Tensor) -> Tensor:
    """conv5 map of a clip that is smaller than the pooling window: trunk and conv5 alone."""
    network: Any = reference.network
    if reference.kind == "slowfast":
        features = [clips]
        for stage in (network.s1, network.s2, network.s3, network.s4, network.s5):
            features = stage(features)
        head = network.head
        return head.conv_5_relu(head.conv_5_bn(head.conv_5(features[0])))
    for block in network.blocks[:5]:
        clips = block(clips)
    pool = network.blocks[5].pool
    return pool.pre_act(pool.pre_norm(pool.pre_conv(clips)))


def gradient_case(
    kind: str, description: X3DDescription, *, training: bool, dtype: torch.dtype
) -> tuple[np.ndarray, float, float]:
    """Gradients of every parameter, dropout off, and how far ours are apart: all, worst parameter.

    A ReLU whose input lies within rounding of zero may fall on either side of it, and then the
    gradients of the layers below jump; in training mode BatchNorm, which uses the batch, magnifies
    rounding as well. In double precision neither happens, so those numbers are the ones to keep.
    """
    reference, ours = Reference(kind, description), our_network(kind, description)
    clips = rule.normalised(rule.clip("gradient", (4, 64, 64), clips=2)).to(dtype)
    for network in (reference.network, ours):
        network.train(training).to(dtype)
        for module in network.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
    reference.run_clips(clips)
    loss_of(reference.position_logits()).backward()
    loss_of(ours.head(ours.trunk(clips))).backward()
    theirs = {name: p.grad for name, p in reference.network.named_parameters()}
    expected, _ = to_own_names(theirs, kind)
    mine = {name: p.grad for name, p in ours.named_parameters() if name in expected}
    apart = {name: (mine[name] - expected[name]).double().norm().item() for name in expected}
    norms = {name: expected[name].double().norm().item() for name in expected}
    overall = math.hypot(*apart.values()) / math.hypot(*norms.values())
    return gradients(expected), overall, max(apart[name] / norms[name] for name in expected)


def make(variant: str) -> None:
    """Write one variant's golden file and print how far apart the networks are."""
    full = VARIANTS[variant]
    small = dataclasses.replace(full, **SMALL)
    arrays: dict[str, np.ndarray] = {}
    for kind in ("slowfast", "pytorchvideo"):
        if kind == "slowfast" and variant == "xl":
            # SlowFast's own rounding: its XL is another network, kept at the small size.
            cases = [("small", dataclasses.replace(small, width_divisor=1))]
        else:
            # XS, S and M are the same network at small size.
            cases = [("full", full)] if variant in "sm" else [("small", small), ("full", full)]
        for tag, description in cases:
            kept, apart = forward_cases(kind, tag, description, clips=2 if tag == "small" else 1)
            # Both networks agree where they are the same; one of them is enough to keep.
            if kind == "slowfast" or variant == "xl" or tag == "small":
                arrays |= kept
            if tag == "small":
                # In training mode the BatchNorm that pytorchvideo lacks is no identity.
                for mode in ("eval", "training") if kind == "slowfast" else ("eval",):
                    for dtype in (torch.float32, torch.float64):
                        found, *distances = gradient_case(
                            kind, description, training=mode == "training", dtype=dtype
                        )
                        name = f"gradients_{mode}_{str(dtype)[-2:]}"
                        apart |= dict(zip((name, f"{name}_worst"), distances, strict=True))
                    arrays[f"{kind}/gradients_{mode}"] = found
            for name, value in apart.items():
                print(f"{variant:3} {kind:12} {tag:5} {name:26} {value:.2e}", flush=True)
    GOLDEN.mkdir(exist_ok=True)
    arrays = {name: values.astype(np.float32) for name, values in arrays.items()}
    np.savez_compressed(GOLDEN / f"x3d_{variant}.npz", **arrays)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slowfast", type=Path, required=True)
    parser.add_argument("--pytorchvideo", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", default=["xs", "s", "m", "l", "xl"])
    args = parser.parse_args()
    sys.path[:0] = [str(args.slowfast), str(args.pytorchvideo)]
    for name in ("detectron2", "detectron2.layers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["detectron2.layers"].ROIAlign = None
    for variant in args.variants:
        make(variant)


if __name__ == "__main__":
    main()
