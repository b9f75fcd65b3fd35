"""Weights in bare pickles go through the reader that makes nothing but plain arrays."""

import pickle

import hostile_pickles
import numpy as np
import pytest
import torch

from detection.errors import UserError
from detection.people.detectron2_weights import read_detectron2_weights


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("module", [b"numpy.core", b"numpy._core"])
def test_weights_of_every_kind_protocol_and_numpy(tmp_path, protocol, module):
    arrays = {
        "half": np.full((2, 3), 0.5, np.float16),
        "double": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "steps": np.arange(3),
        "scalar": np.float32(7),
    }
    content = pickle.dumps({"model": arrays, "__author__": "x"}, protocol)
    if protocol < 4:  # names of modules stand there without their lengths
        content = content.replace(b"numpy._core", module).replace(b"numpy.core", module)
    (tmp_path / "model.PKL").write_bytes(content)
    state = read_detectron2_weights(tmp_path / "model.PKL").state
    assert state["half"].dtype == torch.float16 and state["half"].tolist() == [[0.5] * 3] * 2
    assert state["double"].tolist() == arrays["double"].tolist() and state["scalar"] == 7


def test_hostile_weights_are_refused(tmp_path):
    for case in ("ndarray called", "object type", "product that wraps to eight", "bomb of arrays"):
        (tmp_path / "model.pkl").write_bytes(hostile_pickles.HOSTILE[case] + b".")
        with pytest.raises(UserError, match=r"model\.pkl: "):
            read_detectron2_weights(tmp_path / "model.pkl")


@pytest.mark.parametrize("form", [{"__author__": "x", "model": None}, {"blobs": None}, {}])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path, form, value):
    arrays = {"a_w": np.ones((2, 3), np.float32), "b_w": np.array([1, value], np.float32)}
    content = {key: arrays if inner is None else inner for key, inner in form.items()} or arrays
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, 2))
    with pytest.raises(UserError, match=r"model\.pkl: .*not finite.* b_w: 1 of 2"):
        read_detectron2_weights(tmp_path / "model.pkl")
    arrays["b_w"][1] = 0
    (tmp_path / "model.pkl").write_bytes(pickle.dumps(content, 2))
    assert set(read_detectron2_weights(tmp_path / "model.pkl").state) == {"a_w", "b_w"}
