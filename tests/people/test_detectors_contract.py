"""Both adapters, torchvision's and detectron2's, are held to the same promises.

Their networks have random weights, with a last layer that is set so that the answer is known.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import small_detectron2
import torch
from torchvision.ops import box_iou

from detection.errors import UserError
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, load_people_detector, save_people_file

CLASSES = ("pig", "mouse", "person")
SIZES = [(96, 128), (128, 96), (64, 64), (97, 131), (7, 5), (1, 40), (300, 20), (1, 1)]
SHORT_SIDE_PX = 96


@dataclass(frozen=True)
class Farm:
    """A network that tells pigs, mice and persons apart, and how it is to be opened.

    shares: probability of the background and of each class, for every region.  spread: how much
    the logits of regions differ.  only_red: the network sees the red channel alone.
    """

    library: str
    folder: Path
    shares: tuple[float, ...] = (0.1, 0.5, 0.3, 0.1)
    spread: float = 0.0
    only_red: bool = False

    def open(self, **options: Any):
        """Open the detector the way commands do."""
        torch.manual_seed(3)
        if self.library == "torchvision":
            return load_people_detector(self._write_torchvision(), **options)
        config, weights = self._write_detectron2()
        return load_people_detector(weights, detectron2_config=config, **options)

    def _write_torchvision(self) -> Path:
        sides = {"short_side_px": SHORT_SIDE_PX, "long_side_px": 2 * SHORT_SIDE_PX}
        network = build_people_network("small", num_classes=len(CLASSES), **sides)
        self._set_classes(network.roi_heads.box_predictor.cls_score, list(self.shares))
        if self.only_red:
            first_convolution(network).weight.data[:, 1:] = 0
        path = self.folder / "people.pt"
        numbers = PeopleNetworkNumbers("small", **sides)
        save_people_file(path, network, numbers=numbers, classes=CLASSES)
        return path

    def _write_detectron2(self) -> tuple[str, str]:
        from detectron2.data import MetadataCatalog

        MetadataCatalog.get("contract_farm").set(thing_classes=list(CLASSES))
        cfg = small_detectron2.small_config(len(CLASSES))
        cfg.DATASETS.TEST = ("contract_farm",)
        cfg.INPUT.FORMAT = "RGB" if self.library == "detectron2 RGB" else "BGR"
        network = small_detectron2.build(cfg)
        background, *classes = self.shares
        self._set_classes(network.roi_heads.box_predictor.cls_score, [*classes, background])
        if self.only_red:
            others = slice(1, 3) if cfg.INPUT.FORMAT == "RGB" else slice(0, 2)
            first_convolution(network).weight.data[:, others] = 0
        return small_detectron2.write(self.folder, cfg, network)

    def _set_classes(self, layer: torch.nn.Linear, shares: list[float]) -> None:
        layer.weight.data.normal_(std=max(self.spread, 1e-8))
        layer.bias.data = torch.tensor([math.log(share) for share in shares])


def first_convolution(network: torch.nn.Module) -> torch.nn.Conv2d:
    layers = (layer for layer in network.modules() if isinstance(layer, torch.nn.Conv2d))
    return next(layer for layer in layers if layer.in_channels == 3)


@pytest.fixture(
    params=[
        "torchvision",
        pytest.param("detectron2 BGR", marks=pytest.mark.detectron2),
        pytest.param("detectron2 RGB", marks=pytest.mark.detectron2),
    ]
)
def farm(request, tmp_path) -> Farm:
    if request.param.startswith("detectron2"):
        pytest.importorskip("detectron2", reason="detectron2 is not installed (docs/people.md)")
    return Farm(request.param, tmp_path)


def frames(sizes=SIZES, seed=0) -> list[torch.Tensor]:
    """Return coarse random colours, one frame a size."""
    generator = torch.Generator().manual_seed(seed)
    coarse = [torch.rand(1, 3, 4, 5, generator=generator) * 255 for _ in sizes]
    return [
        torch.nn.functional.interpolate(colours, size, mode="bilinear")[0].to(torch.uint8)
        for colours, size in zip(coarse, sizes, strict=True)
    ]


def assert_same(first, second, atol):
    np.testing.assert_allclose(first.xyxy_01, second.xyxy_01, rtol=0, atol=atol)
    np.testing.assert_allclose(first.score, second.score, rtol=0, atol=atol)


def test_no_frames(farm):
    assert farm.open().detect([]) == []


def test_it_has_a_name(farm):
    assert "\n" not in farm.open().name
    assert farm.open().name.strip()


def test_a_frame_without_people(farm):
    no_person = replace(farm, shares=(0.97, 0.01, 0.01, 0.01)).open(actor_classes=CLASSES)
    for boxes in no_person.detect(frames()):
        assert boxes.xyxy_01.shape == (0, 4)
        assert boxes.score.shape == (0,)


def test_boxes_are_fractions_of_the_frame_best_first(farm):
    detector = replace(farm, spread=0.5).open(actor_classes=("pig",))
    results = detector.detect(frames())
    assert len(results) == len(SIZES)
    for size, boxes in zip(SIZES, results, strict=True):
        assert boxes.xyxy_01.dtype == boxes.score.dtype == np.float32
        assert (boxes.xyxy_01 >= 0).all()
        assert (boxes.xyxy_01 <= 1).all()
        assert (boxes.xyxy_01[:, 2:] > boxes.xyxy_01[:, :2]).all()
        assert (np.diff(boxes.score) <= 0).all()
        assert (boxes.score <= 1).all()
        if min(size) > 50:
            assert len(boxes) > 3, size
            assert len(np.unique(boxes.score)) > 3, size


def test_boxes_reach_the_far_edges(farm):
    """Fractions are of the frame that was given, whatever size the network looks at."""
    boxes = farm.open(actor_classes=("pig",)).detect(frames([(300, 450)]))[0].xyxy_01
    assert boxes[:, 2:].max(axis=0).tolist() == pytest.approx([1, 1], abs=0.15)
    assert boxes[:, :2].min(axis=0).tolist() == pytest.approx([0, 0], abs=0.15)


def test_a_frame_does_not_depend_on_the_others(farm):
    detector = replace(farm, spread=0.5).open(actor_classes=("pig",))
    images = frames(SIZES + SIZES[::-1])
    together = detector.detect(images)
    for image, boxes in zip(images, together, strict=True):
        assert_same(detector.detect([image])[0], boxes, atol=1e-4)
    backwards = detector.detect(images[::-1])[::-1]
    for first, second in zip(together, backwards, strict=True):
        assert_same(first, second, atol=1e-4)


def test_frames_are_red_green_blue(farm):
    """A network that sees only red is blind to the other two channels."""
    detector = replace(farm, spread=0.5, only_red=True).open(actor_classes=("pig",))
    frame, other = frames([(96, 128), (96, 128)])
    expected = detector.detect([frame])[0]
    repainted = torch.cat([frame[:1], other[1:]])
    assert_same(detector.detect([repainted])[0], expected, atol=1e-6)
    reddened = torch.cat([other[:1], frame[1:]])
    changed = detector.detect([reddened])[0]
    assert len(changed) != len(expected) or np.abs(changed.score - expected.score).max() > 1e-4


@pytest.mark.parametrize(("name", "share"), [("pig", 0.5), ("mouse", 0.3), ("person", 0.1)])
def test_any_class_can_be_the_actor(farm, name, share):
    found = farm.open(actor_classes=(name,)).detect(frames([(96, 128)]))[0]
    assert len(found) > 3
    assert found.score == pytest.approx(share, abs=0.01)


def test_the_actor_is_a_person_unless_said_otherwise(farm):
    found = farm.open().detect(frames([(96, 128)]))[0]
    assert found.score == pytest.approx(0.1, abs=0.01)


def test_one_being_under_two_names_is_one_actor(farm):
    image = frames([(96, 128)])
    both = farm.open(actor_classes=("mouse", "pig")).detect(image)[0]
    pigs = farm.open(actor_classes=("pig",)).detect(image)[0]
    assert both.score[0] == pytest.approx(0.5, abs=0.01)
    overlap = box_iou(*[torch.from_numpy(both.xyxy_01 * [[128, 96, 128, 96]])] * 2)
    assert overlap.fill_diagonal_(0).max() <= 0.51
    assert len(pigs) <= len(both) < 2 * len(pigs)


def test_other_classes_do_not_crowd_out_the_actors(farm):
    """Pigs and mice are ten times as sure here, and more than a frame's usual hundred boxes."""
    image = frames([(96, 128)])
    rare = replace(farm, shares=(0.1, 0.42, 0.42, 0.06))
    common = replace(farm, shares=(0.1, 0.06, 0.06, 0.78))
    persons = rare.open(actor_classes=("person",)).detect(image)[0]
    assert len(persons) == len(common.open(actor_classes=("person",)).detect(image)[0])


def test_an_unknown_class_is_named_with_what_is_near(farm):
    with pytest.raises(UserError, match=r"no class 'mouze' among its 3.*mouse"):
        farm.open(actor_classes=("pig", "mouze"))
    with pytest.raises(UserError, match="no actor class"):
        farm.open(actor_classes=())


def test_boxes_below_the_floor_are_not_returned(farm):
    image = frames([(96, 128)])
    assert len(farm.open(actor_classes=("pig",), score_floor=0.4).detect(image)[0]) > 3
    assert len(farm.open(actor_classes=("mouse",), score_floor=0.4).detect(image)[0]) == 0


def test_at_most_so_many_actors_and_the_best_of_them(farm):
    image = frames([(96, 128)])
    farm = replace(farm, spread=0.5)
    all_found = farm.open(actor_classes=("pig",)).detect(image)[0]
    best = farm.open(actor_classes=("pig",), max_people=3).detect(image)[0]
    assert_same(best, all_found.select(np.arange(3)), atol=1e-6)


def test_frames_of_another_form_are_a_fault_of_the_caller(farm):
    detector = farm.open()
    for wrong in (
        torch.zeros(3, 8, 8),
        torch.zeros(8, 8, 3, dtype=torch.uint8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.zeros(3, 0, 8, dtype=torch.uint8),
    ):
        with pytest.raises(ValueError, match="frame"):
            detector.detect([wrong])


def test_half_precision_needs_a_gpu(farm):
    with pytest.raises(UserError, match="needs a GPU"):
        farm.open(half_precision=True)


def test_weights_that_are_not_there(farm, tmp_path):
    config = farm._write_detectron2()[0] if farm.library != "torchvision" else None
    with pytest.raises(UserError, match="not found"):
        load_people_detector(tmp_path / "none.pth", detectron2_config=config)
