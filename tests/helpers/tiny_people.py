"""Small people detectors of random weights whose layers all do something, and their files."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from detection.people.torchvision_rcnn import PeopleNetworkNumbers, build_people_network
from detection.people.weights import save_people_file

SIDES_PX = (64, 96)


def tiny_people(name: str = "small", *, seed: int = 4, num_classes: int = 1):
    """Return a network in eval mode that finds a dozen boxes of spread scores in most frames."""
    torch.manual_seed(seed)
    network = build_people_network(
        name, num_classes=num_classes, short_side_px=SIDES_PX[0], long_side_px=SIDES_PX[1]
    )
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean, std=0.2)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, std=0.2)
    for layer in (network.rpn.head.cls_logits, network.roi_heads.box_predictor.cls_score):
        nn.init.normal_(layer.weight, std=20.0 / layer.weight[0].numel() ** 0.5)
    nn.init.normal_(network.rpn.head.bbox_pred.weight, std=0.02)
    return network.eval()


def save_tiny_people(path: Path, name: str = "small", *, seed: int = 4, **more) -> Path:
    """Write a checkpoint of one; return its path."""
    numbers = PeopleNetworkNumbers(name, *SIDES_PX)
    network = tiny_people(name, seed=seed)
    save_people_file(path, network, numbers=numbers, classes=["person"], **more)
    return path


def frame(height: int, width: int, seed: int = 0) -> torch.Tensor:
    """Return a smooth random (3, H, W) uint8 frame."""
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(1, 3, 6, 8, generator=random)
    fine = nn.functional.interpolate(coarse, (height, width), mode="bilinear")[0]
    return (fine * 255).byte()
