"""Reads detectron2's weight files without executing code in them.

Formats: `.pth` of detectron2's trainer, `.pkl` of its model zoo (pickled arrays), and `.pkl` of
Detectron 1 and Caffe2. detectron2's own reader unpickles them, which can run any code; here a
pickle may hold plain containers and arrays of numbers only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from detection.checkpoints.plain_file import read_plain
from detection.checkpoints.weights import check_weights, find_state
from detection.errors import UserError
from detection.formats.safe_pickle import read_plain_pickle

_MAX_BYTES = 16 << 30  # the largest published detectors have 3 GB


@dataclass(frozen=True)
class Detectron2Weights:
    """Weights by the file's names.

    match_names: names must be matched to the network's by detectron2's heuristics.
    caffe2_names: names are Caffe2's, to be converted first.
    """

    path: str
    state: dict[str, Tensor]
    match_names: bool = False
    caffe2_names: bool = False


def read_detectron2_weights(path: str | Path) -> Detectron2Weights:
    """Read a weights file; raises `UserError` if it is missing, damaged or without weights."""
    path = Path(path)
    # torch.save writes zip archives, also under the name .pkl.
    if path.suffix.lower() == ".pkl" and path.is_file() and not _is_zip(path):
        return _of_pickle(str(path), read_plain_pickle(path, limit_bytes=_MAX_BYTES))
    content = read_plain(path)
    state = {k.removeprefix("module."): v for k, v in find_state(str(path), content).state.items()}
    match_names = isinstance(content, Mapping) and bool(content.get("matching_heuristics", False))
    return Detectron2Weights(str(path), state, match_names=match_names)


def _is_zip(path: Path) -> bool:
    with path.open("rb") as opened:
        return opened.read(4) == b"PK\x03\x04"


def _of_pickle(path: str, content: Any) -> Detectron2Weights:
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no weights (a {type(content).__name__})")
    if "model" in content and "__author__" in content:  # detectron2's model zoo
        return Detectron2Weights(
            path,
            _tensors(path, content["model"]),
            match_names=bool(content.get("matching_heuristics", False)),
            caffe2_names=content["__author__"] == "Caffe2",
        )
    arrays = content.get("blobs", content)  # Detectron 1: detectors have "blobs", backbones do not
    if isinstance(arrays, Mapping):
        arrays = {k: v for k, v in arrays.items() if not str(k).endswith("_momentum")}
    return Detectron2Weights(path, _tensors(path, arrays), match_names=True, caffe2_names=True)


def _tensors(path: str, arrays: Any) -> dict[str, Tensor]:
    """Return copies of the arrays as tensors, without other entries.

    Raises `UserError` for values that are not finite, and without arrays.
    """
    found = arrays.items() if isinstance(arrays, Mapping) else ()
    state = {
        str(key): torch.from_numpy(np.array(value))
        for key, value in found
        if isinstance(value, (np.ndarray, np.number))
    }
    if not state:
        raise UserError(f"{path}: holds no weights")
    check_weights(path, state)
    return state
