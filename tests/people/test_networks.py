"""Torchvision's networks as people detectors; the contract of both adapters has its own test."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from detection.errors import UserError
from detection.people.small_rcnn import SmallBackbone
from detection.people.torchvision_rcnn import (
    NETWORKS,
    TorchvisionDetector,
    build_people_network,
    count_classes,
)


class Transform:
    min_size, max_size = (240,), 320


class Heads:
    nms_thresh = 0.5


class Fixed(nn.Module):
    """Finds the same boxes, in pixels, in every frame; keeps the sizes it was shown."""

    def __init__(self, boxes, labels, scores):
        super().__init__()
        self.transform, self.roi_heads = Transform(), Heads()
        self.found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.tensor(labels),
            "scores": torch.tensor(scores),
        }
        self.shapes = []

    def forward(self, images):
        self.shapes += [tuple(image.shape) for image in images]
        return [dict(self.found) for _ in images]


def frame(height=240, width=320, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_builds_with_its_classes(name):
    network = build_people_network(name, num_classes=2, short_side_px=64, long_side_px=96)
    assert count_classes(network) == 3
    assert network.roi_heads.box_predictor.bbox_pred.out_features == 12
    detector = TorchvisionDetector(network, name=name, actor_labels=[1], score_floor=0.0)
    assert detector.sides_px == (64, 96)
    (found,) = detector.detect([frame(48, 64)])
    assert len(found) <= 100
    assert ((found.xyxy_01 >= 0) & (found.xyxy_01 <= 1)).all()
    assert (found.xyxy_01[:, 2:] > found.xyxy_01[:, :2]).all()
    assert (np.diff(found.score) <= 0).all()


def test_small_network_is_the_same_for_the_same_seed():
    def weights(seed):
        torch.manual_seed(seed)
        return build_people_network("small", num_classes=1).state_dict()["backbone.stem.0.0.weight"]

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


@pytest.mark.parametrize(("height", "width"), [(64, 96), (72, 104), (8, 8)])
def test_small_backbone_has_stride_8_at_any_multiple_of_8(height, width):
    maps = SmallBackbone(width=4, out_channels=6)(torch.zeros(2, 3, height, width))
    assert maps.shape == (2, 6, height // 8, width // 8)


def test_result_does_not_depend_on_the_company():
    torch.manual_seed(0)
    network = build_people_network("small", num_classes=1, short_side_px=64)
    detector = TorchvisionDetector(network, name="small", actor_labels=[1], score_floor=0.0)
    frames = [frame(60, 80, 1), frame(90, 70, 2), frame(60, 80, 3), frame(64, 128, 4)]
    together = detector.detect(frames)
    for one, expected in zip(frames, together, strict=True):
        (alone,) = detector.detect([one])
        np.testing.assert_allclose(alone.xyxy_01, expected.xyxy_01, atol=1e-4)
        np.testing.assert_allclose(alone.score, expected.score, atol=1e-4)


def test_boxes_are_clipped_sorted_and_have_area():
    network = Fixed(
        [[-40, 20, 160, 120], [100, 60, 900, 700], [350, 0, 400, 50], [30, 30, 30, 90]],
        [1, 1, 1, 1],
        [0.3, 0.8, 0.9, 0.7],
    )
    (found,) = TorchvisionDetector(network, name="fixed", actor_labels=[1]).detect([frame()])
    np.testing.assert_allclose(
        found.xyxy_01, [[100 / 320, 0.25, 1, 1], [0, 20 / 240, 0.5, 0.5]], atol=1e-6
    )
    np.testing.assert_allclose(found.score, [0.8, 0.3])


def test_only_actor_classes_and_one_box_per_being():
    """A pig that is also taken for a mouse is one actor; an other class is none."""
    boxes = [[0, 0, 100, 100], [2, 2, 101, 101], [200, 100, 300, 200], [50, 50, 90, 90]]
    network = Fixed(boxes, [2, 3, 3, 1], [0.9, 0.6, 0.5, 0.99])
    (pigs,) = TorchvisionDetector(network, name="f", actor_labels=[2]).detect([frame()])
    np.testing.assert_allclose(pigs.score, [0.9])
    (both,) = TorchvisionDetector(network, name="f", actor_labels=[2, 3]).detect([frame()])
    np.testing.assert_allclose(both.score, [0.9, 0.5])


def test_at_most_so_many():
    network = Fixed([[i, 0, i + 9, 9] for i in range(40)], [1] * 40, [i / 40 for i in range(40)])
    detector = TorchvisionDetector(network, name="f", actor_labels=[1], max_people=3)
    np.testing.assert_allclose(detector.detect([frame()])[0].score, [39 / 40, 38 / 40, 37 / 40])


def test_large_frames_are_reduced_small_ones_left_alone():
    network = Fixed([], [], [])
    detector = TorchvisionDetector(network, name="f", actor_labels=[1])
    assert [len(found) for found in detector.detect([frame(720, 1280), frame(48, 64)])] == [
        0,
        0,
    ]
    assert network.shapes == [(3, 180, 320), (3, 48, 64)]
    assert detector.detect([]) == []


def test_bad_frames_and_options():
    network = Fixed([], [], [])
    detector = TorchvisionDetector(network, name="f", actor_labels=[1])
    for bad in (torch.zeros(3, 8, 8), torch.zeros(4, 8, 8, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            detector.detect([bad])
    with pytest.raises(ValueError, match="without pixels"):
        detector.detect([torch.zeros(3, 0, 8, dtype=torch.uint8)])
    with pytest.raises(ValueError, match="start at 1"):
        TorchvisionDetector(network, name="f", actor_labels=[0])
    with pytest.raises(UserError, match="needs a GPU"):
        TorchvisionDetector(network, name="f", actor_labels=[1], half_precision=True)
