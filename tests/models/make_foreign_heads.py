"""Run the reference networks with heads for other classes once, and keep their logits.

    python tests/models/make_foreign_heads.py --slowfast SlowFast --pytorchvideo pytorchvideo

Sources, packages and rule are those of `make_golden.py`. Not a test: it writes
golden/foreign_heads.npz, with which `test_foreign_heads.py` compares this project's networks.
"""

from __future__ import annotations

import argparse
import sys
import types
from pathlib import Path

import golden_rule as rule
import numpy as np
import torch
from torch import Tensor, nn

from detection.checkpoints.weights import to_their_names
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import VARIANTS

GOLDEN = Path(__file__).parent / "golden"
CLASSES, SIZE = 8, (4, 160, 160)
HIDDEN = {"slowfast": 1024, "pytorchvideo": 512}  # 2048 where nothing is asked for
SHORTCUT = "trunk.stages.0.0.shortcut_norm."


def their_state(kind: str) -> dict[str, Tensor]:
    """Return the rule's weights under a project's names."""
    with torch.device("meta"):
        ours = build_classifier(VARIANTS["xs"], HeadDescription(CLASSES, HIDDEN[kind]))
    state = rule.weights({name: value.shape for name, value in ours.state_dict().items()})
    if kind == "pytorchvideo":  # it lacks this layer
        state = {k: v for k, v in state.items() if not k.startswith(SHORTCUT)}
    return to_their_names(state, kind)


def frames() -> Tensor:
    """Return the clip that was run."""
    return rule.clip("foreign heads", SIZE)


def _build(kind: str) -> nn.Module:
    xs = VARIANTS["xs"]
    if kind == "pytorchvideo":
        from pytorchvideo.models.x3d import create_x3d

        return create_x3d(
            input_clip_length=4, input_crop_size=160, model_num_class=CLASSES,
            head_dim_out=HIDDEN[kind], width_factor=xs.width_factor, depth_factor=xs.depth_factor,
            bottleneck_factor=xs.bottleneck_factor,
        )  # fmt: skip
    from slowfast.config.defaults import get_cfg
    from slowfast.models.video_model_builder import X3D

    cfg = get_cfg()
    cfg.MODEL.ARCH, cfg.MODEL.MODEL_NAME, cfg.MODEL.NUM_CLASSES = "x3d", "X3D", CLASSES
    cfg.X3D.WIDTH_FACTOR, cfg.X3D.DEPTH_FACTOR = xs.width_factor, xs.depth_factor
    cfg.X3D.BOTTLENECK_FACTOR, cfg.X3D.DIM_C5, cfg.X3D.DIM_C1 = (
        xs.bottleneck_factor,
        HIDDEN[kind],
        12,
    )
    cfg.RESNET.TRANS_FUNC, cfg.RESNET.STRIDE_1X1 = "x3d_transform", False
    cfg.DATA.NUM_FRAMES, cfg.DATA.TRAIN_CROP_SIZE, cfg.DATA.INPUT_CHANNEL_NUM = 4, 160, [3]
    return X3D(cfg)


def main() -> None:
    """Run both and write their (P, K) logits."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slowfast", type=Path, required=True)
    parser.add_argument("--pytorchvideo", type=Path, required=True)
    args = parser.parse_args()
    sys.path[:0] = [str(args.slowfast), str(args.pytorchvideo)]
    for name in ("detectron2", "detectron2.layers"):
        sys.modules[name] = types.ModuleType(name)
    sys.modules["detectron2.layers"].ROIAlign = None
    found: dict[str, np.ndarray] = {}
    for kind in HIDDEN:
        network = _build(kind).eval()
        network.load_state_dict(their_state(kind), strict=True)
        layer = network.head.projection if kind == "slowfast" else network.blocks[5].proj
        seen: list[Tensor] = []
        layer.register_forward_hook(lambda m, i, out, seen=seen: seen.append(out))
        clip = rule.normalised(frames())
        with torch.no_grad():
            network([clip] if kind == "slowfast" else clip)
        found[kind] = seen[0].flatten(1, 3)[0].numpy()
    np.savez_compressed(GOLDEN / "foreign_heads.npz", **found)


if __name__ == "__main__":
    main()
