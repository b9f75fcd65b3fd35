"""A configuration of detectron2 that a CPU runs in milliseconds, for the tests of its adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def small_config(num_classes: int, *, base: str = "COCO-Detection/faster_rcnn_R_50_FPN_1x.yaml"):
    """Return a network of the model zoo with a ResNet-18, narrow layers and few proposals."""
    import detectron2
    from detectron2.config import get_cfg

    cfg: Any = get_cfg()
    folder = Path(detectron2.__file__).parent / "model_zoo" / "configs"
    cfg.merge_from_file(str(folder / base))
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.WEIGHTS = ""
    cfg.MODEL.RESNETS.DEPTH = 18
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    cfg.MODEL.RPN.PRE_NMS_TOPK_TEST = 100
    cfg.MODEL.RPN.POST_NMS_TOPK_TEST = 40
    cfg.MODEL.ROI_HEADS.NUM_CLASSES = num_classes
    cfg.MODEL.RETINANET.NUM_CLASSES = num_classes
    cfg.MODEL.ROI_BOX_HEAD.FC_DIM = 64
    cfg.MODEL.PIXEL_MEAN = [103.5, 116.3, 123.7]
    cfg.MODEL.PIXEL_STD = [58.4, 57.1, 57.4]
    cfg.INPUT.MIN_SIZE_TEST = 96
    cfg.INPUT.MAX_SIZE_TEST = 192
    return cfg


def build(cfg: Any, *, seed: int = 0) -> torch.nn.Module:
    """Return the network of a configuration with random weights."""
    from detectron2.modeling import build_model

    torch.manual_seed(seed)
    network: torch.nn.Module = build_model(cfg)
    return network.eval()


def write(folder: Path, cfg: Any, network: torch.nn.Module) -> tuple[str, str]:
    """Write config.yaml and model_final.pth, as detectron2's trainer does; return both paths."""
    config, weights = folder / "config.yaml", folder / "model_final.pth"
    config.write_text(cfg.dump(), encoding="utf-8")
    torch.save({"model": network.state_dict(), "iteration": 0}, weights)
    return str(config), str(weights)
