"""A configuration of detectron2's is known by all that it builds on."""

from __future__ import annotations

import argparse

import pytest

from ava_tools.detect_people import _detector_options
from detection.people.config_identity import config_digest


@pytest.fixture
def chain(tmp_path):
    """own.yaml builds on base/mid.yaml, that on base/root.yaml beside it."""
    (tmp_path / "base").mkdir()
    (tmp_path / "own.yaml").write_text("_BASE_: base/mid.yaml\nMODEL: {DEPTH: 1}\n")
    (tmp_path / "base" / "mid.yaml").write_text("_BASE_: root.yaml\nMODEL: {DEPTH: 2}\n")
    (tmp_path / "base" / "root.yaml").write_text("MODEL: {DEPTH: 3}\n")
    return tmp_path


@pytest.mark.parametrize("name", ["own.yaml", "base/mid.yaml", "base/root.yaml"])
def test_a_change_in_any_file_of_the_chain_is_a_change(chain, name):
    before = config_digest(chain / "own.yaml")
    assert config_digest(chain / "own.yaml") == before
    with (chain / name).open("a") as file:
        file.write("INPUT: {FORMAT: RGB}\n")
    assert config_digest(chain / "own.yaml") != before


def test_a_chain_that_moves_is_the_same_and_one_cut_short_is_not(chain, tmp_path):
    before = config_digest(chain / "own.yaml")
    (chain / "base" / "root.yaml").unlink()
    assert config_digest(chain / "own.yaml") != before


@pytest.mark.parametrize(
    "text",
    ["_BASE_: own.yaml", "_BASE_: [own.yaml, base/mid.yaml]", "_BASE_: {a: b}", "_BASE_:", "[",
     "_BASE_: https://x/y.yaml", "", "3", "_BASE_: ~unknown/x"],
)  # fmt: skip
def test_whatever_it_names_it_ends(chain, text):
    (chain / "own.yaml").write_text(text + "\n")
    assert len(config_digest(chain / "own.yaml")) == 64


def test_the_command_knows_its_boxes_by_the_chain(chain):
    options = argparse.Namespace(
        weights="coco", network=None, detectron2_config=str(chain / "own.yaml"),
        actor_class=None, score_floor=0.05, runtime=None,
    )  # fmt: skip
    before = _detector_options(options, half=False)
    (chain / "base" / "root.yaml").write_text("MODEL: {DEPTH: 4}\n")
    assert _detector_options(options, half=False) != before
