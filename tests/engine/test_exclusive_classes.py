"""Groups of classes that exclude each other go from a data set into checkpoints."""

from __future__ import annotations

import pytest
import torch
from tiny_data import LABELS, make_dataset

from detection.checkpoints.file import read_model_file, save_model_file
from detection.config import config_from_dict
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.engine.tasks.actions import ActionTask
from detection.errors import UserError
from detection.structures import LabelMap


def test_groups_are_columns_of_the_classes_that_are_learned(tmp_path):
    root = make_dataset(tmp_path / "data", train=1, val=1)
    assert ActionTask(config_from_dict({"data": {"root": str(root)}}, "test")).exclusive == {}
    file = DatasetFolder.open(root).file
    groups = {"colour": ["be red", "be blue"]}
    write_dataset_file(root, file.model_copy(update={"exclusive": groups}))
    task = ActionTask(config_from_dict({"data": {"root": str(root)}}, "test"))
    assert task.exclusive == {"colour": (0, 1)}
    fewer = LabelMap(("be here", "be blue", "be red"), (9, 7, 3), None)
    for label_map, expected in ((fewer, {"colour": (2, 1)}), (LabelMap(("be red",), (3,)), {})):
        write_label_map(root / "annotations" / "some.pbtxt", label_map)
        data = {"root": str(root), "label_map": "annotations/some.pbtxt"}
        assert ActionTask(config_from_dict({"data": data}, "test")).exclusive == expected


def test_a_checkpoint_keeps_them_and_old_ones_have_none(tmp_path):
    path = tmp_path / "a.pt"
    given = LabelMap(LABELS.names, LABELS.ids, None, {"colour": (0, 1)})
    save_model_file(path, {"head.classes.weight": torch.zeros(3, 4)}, network=None,
                    classes=given, sampling=None)  # fmt: skip
    assert read_model_file(path).classes == given
    content = torch.load(path, weights_only=True)
    for groups in ({"colour": [0, 3]}, {"a": [0, 1], "b": [1, 2]}, {"a": "x"}):
        content["label_map"]["exclusive"] = groups
        torch.save(content, path)
        with pytest.raises(UserError, match="damaged checkpoint"):
            read_model_file(path)
    del content["label_map"]["exclusive"]
    torch.save(content, path)
    assert read_model_file(path).classes == LabelMap(LABELS.names, LABELS.ids)
