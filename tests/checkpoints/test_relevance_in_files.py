"""Relevance in checkpoints: written, read back, and refused where it is damaged."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_pipeline import save_tiny_run

from ava_tools import convert, inspect_model
from detection.checkpoints.file import read_model_file
from detection.checkpoints.plain_file import SavedValues
from detection.checkpoints.relevance_part import plain_relevance, read_relevance
from detection.errors import UserError
from detection.relevance import FEATURES, BoxOrigin, Relevance

WEIGHTS = np.linspace(-2, 3.3, len(FEATURES))
FITTED = Relevance(FEATURES, WEIGHTS, -0.7, BoxOrigin("small", "weights 12"), 0.05, 900, 300, 20)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a checkpoint that holds the relevance."""
    path = save_tiny_run(tmp_path / "run") / "checkpoints" / "last.pt"
    torch.save({**content_of(path), "relevance": plain_relevance(FITTED)}, path)
    return path


def content_of(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def assert_same(found: Relevance | None, expected: Relevance) -> None:
    assert found is not None
    assert plain_relevance(found) == plain_relevance(expected)


def test_a_file_without_relevance_has_none(tmp_path: Path) -> None:
    path = save_tiny_run(tmp_path / "run") / "checkpoints" / "last.pt"
    assert "relevance" not in content_of(path)
    assert read_model_file(path).relevance is None


@pytest.mark.parametrize("origin", [BoxOrigin("small"), BoxOrigin("x", "coco:mobile_320")])
def test_what_is_written_is_read_back(origin: BoxOrigin) -> None:
    fitted = Relevance(FEATURES, WEIGHTS / 3, 1e-9, origin, 0.3, 7, 2, 1)
    found = read_relevance("a", SavedValues("a", {"relevance": plain_relevance(fitted)}))
    assert_same(found, fitted)
    assert found is not None and found.origin == origin
    np.testing.assert_array_equal(found.weights, fitted.weights)


@pytest.mark.parametrize("form", ["own", "safetensors"])
def test_convert_keeps_it_and_inspect_model_shows_it(
    path: Path, tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "converted"
    assert convert.main(["--checkpoint", str(path), "--to", form, "--out", str(out)]) == 0
    assert_same(read_model_file(out).relevance, FITTED)
    inspect_model.main(["--checkpoint", str(out), "--no-timing"])
    assert "900 boxes of 20 videos" in capsys.readouterr().out


def test_convert_says_that_the_form_of_others_has_none(
    path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    convert.main(["--checkpoint", str(path), "--to", "slowfast", "--out", str(tmp_path / "a.pth")])
    assert "relevance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("features", ["width"], "this version's 18 features"),
        ("features", "width", "a list"),
        ("features", [*FEATURES[:-1], "mood"], "this version's 18 features"),
        ("weights", [1.0], "1 weights for 18 features"),
        ("weights", [*WEIGHTS[:-1].tolist(), float("nan")], "a finite number"),
        ("weights", [*WEIGHTS[:-1].tolist(), "x"], "a finite number"),
        ("weights", None, "a list"),
        ("bias", float("inf"), "a number"),
        ("bias", "x", "a number"),
        ("origin", "small", "names with values"),
        ("origin", {"boxes": "", "detector": None}, "a text"),
        ("origin", {"boxes": "a", "detector": 3}, "a text"),
        ("origin", {"boxes": "a", "detector": None, "x": 1}, "an unknown name"),
        ("origin", {"boxes": "a"}, "detector is missing"),
        ("least_score", 1.5, "a number from 0 to 1"),
        ("num_boxes", 0, "a whole number"),
        ("num_labelled", 900, "both kinds"),
        ("num_videos", 901, "both kinds"),
        ("more", 1, "an unknown name"),
    ],
)
def test_damaged_relevance_is_named(path: Path, key: str, value: object, said: str) -> None:
    content = content_of(path)
    content["relevance"][key] = value
    torch.save(content, path)
    with pytest.raises(UserError, match=f"relevance.*{said}") as refused:
        read_model_file(path)
    assert "\n" not in str(refused.value) and str(refused.value).startswith(str(path))


def test_a_key_that_is_gone_is_named(path: Path) -> None:
    whole = content_of(path)
    for key in whole["relevance"]:
        content = copy.deepcopy(whole)
        del content["relevance"][key]
        torch.save(content, path.with_name("less.pt"))
        with pytest.raises(UserError, match=rf"relevance\.{key} is missing"):
            read_model_file(path.with_name("less.pt"))
