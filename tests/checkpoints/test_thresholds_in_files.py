"""Learned thresholds in checkpoints: written, read back, and refused where they are damaged."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, save_tiny_run

from ava_tools import convert, inspect_model
from detection.checkpoints.file import read_model_file, save_model_file, write_thresholds
from detection.errors import UserError
from detection.structures import ClassThresholds

NAN = float("nan")
LEARNED = ClassThresholds(
    [0.3, 0.44, 0.25], [0.9, 0.8, NAN], [0.7, 1, NAN], [12, 7, 0], False, True, "val, boxes 'small'"
)


def assert_same(found, expected):
    for name in ("score", "precision", "recall", "examples"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    for name in ("common", "times_person_score", "source"):
        assert getattr(found, name) == getattr(expected, name)


@pytest.fixture
def path(tmp_path):
    return save_tiny_run(tmp_path / "run") / "checkpoints" / "last.pt"


def content_of(path):
    return torch.load(path, weights_only=True)


def test_a_file_without_thresholds_has_none(path):
    assert "thresholds" not in content_of(path)
    assert read_model_file(path).thresholds is None


def test_thresholds_are_put_into_a_file_whose_rest_stays(path):
    before = content_of(path)
    write_thresholds(path, LEARNED)
    after = content_of(path)
    assert_same(read_model_file(path).thresholds, LEARNED)
    stored = after.pop("thresholds")
    assert stored["precision"] == [0.9, 0.8, None] and stored["examples"] == [12, 7, 0]
    assert list(after) == list(before)
    for key in before.keys() - {"model_state"}:
        assert after[key] == before[key]
    for name, values in before["model_state"].items():
        assert torch.equal(values, after["model_state"][name])


@pytest.mark.parametrize("form", ["own", "safetensors"])
def test_convert_keeps_thresholds_and_inspect_model_shows_them(path, tmp_path, form, capsys):
    write_thresholds(path, LEARNED)
    out = tmp_path / "converted"
    assert convert.main(["--checkpoint", str(path), "--to", form, "--out", str(out)]) == 0
    assert_same(read_model_file(out).thresholds, LEARNED)
    inspect_model.main(["--checkpoint", str(out), "--no-timing"])
    said = capsys.readouterr().out
    assert "be red" in said and "0.44" in said and "val, boxes 'small'" in said
    assert "multiplied by the confidence in the person" in said


def test_convert_says_that_the_form_of_others_has_no_thresholds(path, tmp_path, capsys):
    write_thresholds(path, LEARNED)
    convert.main(["--checkpoint", str(path), "--to", "slowfast", "--out", str(tmp_path / "a.pth")])
    assert "learned thresholds" in capsys.readouterr().out


def test_inspect_model_has_no_table_where_there_are_none(path, capsys):
    inspect_model.main(["--checkpoint", str(path), "--no-timing"])
    assert "threshold" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("score", [0.3, 0.4], "a number for each of the 3 classes"),
        ("score", [0.3, 0.4, None], "from 0 to 1"),
        ("score", [0.3, 0.4, 1.5], "from 0 to 1"),
        ("score", [0.3, 0.4, NAN], "from 0 to 1"),
        ("recall", [0.3, 0.4, "x"], "from 0 to 1"),
        ("precision", "high", "a list"),
        ("examples", [1, 2, -1], "a whole number"),
        ("examples", [1, 2, None], "a whole number"),
        ("common", 1, "true or false"),
        ("times_person_score", None, "true or false"),
        ("source", 3, "a text"),
        ("more", 3, "an unknown name"),
    ],
)
def test_damaged_thresholds_are_named(path, key, value, said):
    write_thresholds(path, LEARNED)
    content = content_of(path)
    content["thresholds"][key] = value
    torch.save(content, path)
    with pytest.raises(UserError, match=f"thresholds.*{said}") as refused:
        read_model_file(path)
    assert "\n" not in str(refused.value)


def test_a_key_that_is_gone_is_named(path):
    write_thresholds(path, LEARNED)
    for key in content_of(path)["thresholds"]:
        content = copy.deepcopy(content_of(path))
        del content["thresholds"][key]
        torch.save(content, path.with_name("less.pt"))
        with pytest.raises(UserError, match=rf"thresholds\.{key} is missing"):
            read_model_file(path.with_name("less.pt"))


def test_thresholds_without_their_classes_are_refused(path):
    write_thresholds(path, LEARNED)
    content = content_of(path) | {"label_map": None}
    torch.save(content, path)
    with pytest.raises(UserError, match="0 classes"):
        read_model_file(path)


def test_thresholds_are_stored_in_a_runs_checkpoint_alone(path, tmp_path):
    with pytest.raises(UserError, match="3 of the thresholds") as refused:
        content = content_of(path)
        content["label_map"] = None
        torch.save(content, tmp_path / "a.pt")
        write_thresholds(tmp_path / "a.pt", LEARNED)
    assert "\n" not in str(refused.value)
    torch.save({"model_state": {}}, tmp_path / "b.pt")
    with pytest.raises(UserError, match="not a run's checkpoint"):
        write_thresholds(tmp_path / "b.pt", LEARNED)
    with pytest.raises(UserError, match="2 of the thresholds"):
        write_thresholds(path, LEARNED.select([0, 1]))
    with pytest.raises(ValueError, match="do not fit"):
        save_model_file(
            tmp_path / "c.pt", {}, network=None, classes=LABELS, sampling=None,
            thresholds=LEARNED.select([0]),
        )  # fmt: skip
