"""A detector that was folded for inference finds the same, and the one it was made of stays."""

from __future__ import annotations

import pytest
import torch
from tiny_people import frame, tiny_people
from torch import nn
from torchvision.ops import FrozenBatchNorm2d

from detection.people.export_card import boxes_apart
from detection.people.folded import fold_for_inference
from detection.people.torchvision_rcnn import NETWORKS, TorchvisionDetector


def norms_of(network):
    kinds = (nn.BatchNorm2d, FrozenBatchNorm2d)
    return [module for module in network.modules() if isinstance(module, kinds)]


@pytest.mark.parametrize("name", [each for each in NETWORKS if each != "mobile"])
def test_boxes_stay_and_no_norm_is_left(name):
    network = tiny_people(name)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    folded = fold_for_inference(network)
    assert norms_of(network) and not norms_of(folded)
    assert not folded.training and not any(each.requires_grad for each in folded.parameters())
    detectors = [
        TorchvisionDetector(each, name=name, actor_labels=[1], score_floor=0.05)
        for each in (network, folded)
    ]
    for height, width in ((48, 64), (33, 91)):
        image = frame(height, width)
        (expected,), (found,) = (each.detect([image]) for each in detectors)
        assert len(expected) == len(found)
        px, score = boxes_apart(expected, found, size_px=(width, height))
        assert px < 1e-2 and score < 1e-4  # rounding: random weights let maps grow
    for key, value in network.state_dict().items():
        assert torch.equal(value, before[key]), key


def test_frozen_norms_are_folded_too():
    network = tiny_people()
    first = network.backbone.stem[0]
    frozen = FrozenBatchNorm2d(first[1].num_features)
    frozen.load_state_dict(first[1].state_dict())
    expected = network.backbone(torch.ones(1, 3, 64, 64))
    first[1] = frozen
    folded = fold_for_inference(network)
    assert not norms_of(folded)
    found = folded.backbone(torch.ones(1, 3, 64, 64))
    assert torch.allclose(found, expected, atol=1e-4, rtol=1e-4)


def test_a_norm_without_a_convolution_stays():
    network = tiny_people()
    network.backbone.smooth = nn.Sequential(nn.BatchNorm2d(64), nn.ReLU())
    assert len(norms_of(fold_for_inference(network))) == 1


def test_channels_last_weights():
    folded = fold_for_inference(tiny_people())
    weight = folded.backbone.stage8[0].first[0].weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
