"""Which detector made a box file: what is noted beside it is what a detector in use is told by."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from tiny_data import make_dataset
from tiny_people import save_tiny_people

from ava_tools import detect_people
from detection.errors import UserError
from detection.people.box_origin import origin_of_detector, origin_of_table
from detection.relevance import BoxOrigin

CPU = torch.device("cpu")


def noted(table: Path, **options: object) -> BoxOrigin:
    usual = {"weights": "ab", "network": None, "detectron2_config": None, "actor_classes": None}
    content = json.dumps({"options": {**usual, "short_side": None, "half": False, **options}})
    table.with_suffix(".made_by.json").write_text(content)
    return origin_of_table(table, "small")


def test_boxes_without_a_note_have_their_name_alone(tmp_path: Path) -> None:
    assert origin_of_table(tmp_path / "boxes.csv", "small") == BoxOrigin("small")


@pytest.mark.parametrize(
    ("options", "detector"),
    [
        ({}, "weights ab"),
        ({"half": True, "runtime": "openvino", "score_floor": 0.3}, "weights ab"),
        ({"weights": "coco", "network": "mobile_320"}, "coco:mobile_320"),
        ({"network": "mobile"}, "weights ab, network mobile"),
        ({"actor_classes": "pig,cow"}, "weights ab, classes pig,cow"),
        ({"short_side": 256}, "weights ab, short side 256 px"),
        ({"weights": "coco", "detectron2_config": "x"}, "weights coco, configuration x"),
        ({"weights": None}, None),
    ],
)
def test_what_decides_boxes_is_told_by_the_note(
    tmp_path: Path, options: dict[str, object], detector: str | None
) -> None:
    assert noted(tmp_path / "boxes.csv", **options) == BoxOrigin("small", detector)


@pytest.mark.parametrize("text", ["{}", '{"options": 3}'])
def test_notes_of_something_else_tell_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "boxes.made_by.json").write_text(text)
    assert origin_of_table(tmp_path / "boxes.csv", "small") == BoxOrigin("small")


def test_a_damaged_note_is_named(tmp_path: Path) -> None:
    (tmp_path / "boxes.made_by.json").write_text("{")
    with pytest.raises(UserError, match="boxes.made_by.json"):
        origin_of_table(tmp_path / "boxes.csv", "small")


def test_a_detector_in_use_is_the_one_that_a_table_notes(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", train=1, val=1)
    weights = save_tiny_people(tmp_path / "people.pt")
    out = data / "annotations" / "boxes.csv"
    line = ["--dataset", str(data), "--split", "val", "--weights", str(weights), "--out", str(out)]
    assert detect_people.main([*line, "--workers", "0", "--device", "cpu", "--quiet"]) == 0
    table, in_use = origin_of_table(out, "tiny"), origin_of_detector(weights, CPU)
    assert table.detector is not None and in_use.is_same(table)
    other = save_tiny_people(tmp_path / "other.pt", seed=5)
    assert not origin_of_detector(other, CPU).is_same(table)


def test_torchvisions_weights_are_known_by_their_network(tmp_path: Path) -> None:
    expected = noted(tmp_path / "boxes.csv", weights="coco", network="mobile_320")
    assert origin_of_detector("coco", CPU).is_same(expected)
    assert not origin_of_detector("coco:resnet50_v2", CPU).is_same(expected)


def test_of_an_opened_detector_only_the_name_is_known() -> None:
    class Opened:
        name = "mine"

    assert origin_of_detector(Opened(), CPU) == BoxOrigin("mine")  # type: ignore[arg-type]
