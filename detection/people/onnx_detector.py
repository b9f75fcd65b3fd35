"""People detectors that others have exported to ONNX, run by ONNX Runtime on the CPU.

Two layouts are known, and everything is checked when a file is opened:

* YOLOX's (Megvii, "YOLOX: Exceeding YOLO Series in 2021", its own export): a BGR frame in
  0 to 255 of a fixed size, scaled into the upper left and padded with 114; one row for each place
  of the grids of strides 8, 16 and 32: centre, size, whether anything is there, classes. Centres
  and sizes are decoded here or in the file (`--decode_in_inference`), which its answer to a grey
  frame tells.
* torchvision's: an RGB frame in 0 to 1; outputs `boxes` in its pixels, `labels` and `scores`, after
  suppression.

Legend: H W pixels of a frame, M rows, C classes, N boxes.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.errors import UserError, printable
from detection.export.onnx_runtime import open_onnx, run_onnx
from detection.people.base import actor_boxes, check_frame, find_classes
from detection.people.coco import coco_classes
from detection.structures import ActorBoxes

_STRIDES = (8, 16, 32)
_GREY = 114
_NMS_IOU = 0.5  # of YOLOX's rows; the other layout has been suppressed
_NO_CLASS = "N/A"
_SUPPORTED = (
    "supported: YOLOX's (one output, (1, rows, 5 + classes) for a fixed (1, 3, H, W) input) and "
    "torchvision's (outputs boxes, labels, scores)"
)


@dataclass(frozen=True)
class _Asked:
    """Names of classes in the file (None: it has none), and what `load_onnx_detector` was given."""

    names: Sequence[str] | None
    actor_classes: Sequence[str] | None
    score_floor: float
    max_people: int


def is_onnx(weights: str | Path) -> bool:
    """Say whether weights are an ONNX file, by name."""
    return str(weights).lower().endswith(".onnx")


def load_onnx_detector(
    path: str | Path,
    *,
    actor_classes: Sequence[str] | None = None,
    score_floor: float = 0.05,
    max_people: int = 100,
) -> YoloxDetector | BoxesDetector:
    """Open an ONNX file as a `PeopleDetector`.

    actor_classes: by name, or by number from 1 on, as text; None: "person". Names are the file's
    own (metadata `names`), else COCO's where the number of classes is COCO's.
    Raises `UserError`, one line, for a file that is missing, no ONNX, or of another layout, and for
    unknown classes.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: file not found")
    session = open_onnx(path, threads=torch.get_num_threads())
    given, outputs = session.get_inputs(), session.get_outputs()
    names = _names_in_file(path, session.get_modelmeta().custom_metadata_map)
    asked = _Asked(names, actor_classes, score_floor, max_people)
    if len(given) == 1 and {"boxes", "labels", "scores"} <= {one.name for one in outputs}:
        return BoxesDetector(path, session, asked)
    shape = list(given[0].shape) if len(given) == 1 else []
    if len(outputs) == 1 and len(shape) == 4 and shape[1] == 3 and len(outputs[0].shape) == 3:
        return YoloxDetector(path, session, asked)
    raise _other_layout(path, given, outputs)


def _other_layout(path: Path, given: Sequence[Any], outputs: Sequence[Any]) -> UserError:
    def words(parts: Sequence[Any]) -> str:
        return ", ".join(f"{part.name} {list(part.shape)}" for part in parts[:4])

    found = printable(f"inputs {words(given)}, outputs {words(outputs)}")
    return UserError(f"{path}: a detector of another layout: {found}; {_SUPPORTED}")


def _names_in_file(path: Path, metadata: dict[str, str]) -> list[str] | None:
    """Return the classes that a file names: a list, or a dictionary by number, as text."""
    if "names" not in metadata:
        return None
    try:
        value = ast.literal_eval(metadata["names"])
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if isinstance(value, dict) and sorted(value) == list(range(len(value))):
        value = [value[number] for number in range(len(value))]
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise UserError(f"{path}: its metadata `names` is no list of class names")
    return value


class _OneByOne:
    """A `PeopleDetector` whose network takes one frame at a time."""

    best_score: float | None = None  # the file tells none

    def detect(self, images: Sequence[Tensor]) -> list[ActorBoxes]:
        """Return the actors of each (3, H, W) uint8 RGB frame, best score first."""
        found = []
        for image in images:
            check_frame(image)
            found.append(self._detect(image.permute(1, 2, 0).cpu().numpy()))
        return found

    def _detect(self, rgb: NDArray[np.uint8]) -> ActorBoxes:
        raise NotImplementedError


class YoloxDetector(_OneByOne):
    """A network of YOLOX's layout; a `PeopleDetector`."""

    def __init__(self, path: Path, session: Any, asked: _Asked) -> None:
        self._path, self._session = path, session
        (given,), (output,) = session.get_inputs(), session.get_outputs()
        self._input = given.name
        height, width = given.shape[2:]
        if not all(isinstance(side, int) and side % _STRIDES[-1] == 0 for side in (height, width)):
            raise _other_layout(path, [given], [output])
        self._size = height, width
        self._cells, self._strides = _grids(height, width)
        grey = run_onnx(session, path, {given.name: self._framed(_grey_frame(height, width))})[0]
        if grey.shape[1] != len(self._cells) or grey.shape[2] < 6:
            raise _other_layout(path, [given], [output])
        self._decoded = _is_decoded(grey[0], self._cells, self._strides)
        self._classes = _places(path, asked.names, asked.actor_classes, grey.shape[2] - 5)
        self._check_scores(grey[0])
        self._floor, self._most = asked.score_floor, asked.max_people
        self.name = f"YOLOX ({path.name})"
        self.sides_px = min(height, width), max(height, width)
        self.notes: tuple[str, ...] = ()
        if asked.names is None:
            self.notes = (f"{path}: names no classes, COCO's are taken",)

    def _detect(self, rgb: NDArray[np.uint8]) -> ActorBoxes:
        height, width = rgb.shape[:2]
        scale = _scale_into(self._size, height, width)
        (rows,) = run_onnx(self._session, self._path, {self._input: self._framed(rgb)})[0]
        self._check_scores(rows)
        centre, size = rows[:, :2], rows[:, 2:4]
        if not self._decoded:
            centre, size = (centre + self._cells) * self._strides, np.exp(size) * self._strides
        boxes = np.concatenate([centre - size / 2, centre + size / 2], axis=1) / scale
        scores = rows[:, 4] * rows[:, 5:][:, self._classes].max(axis=1)
        kept = scores >= self._floor
        _refuse_not_finite(self._path, boxes[kept])
        return actor_boxes(
            torch.from_numpy(boxes[kept]),
            torch.from_numpy(scores[kept]),
            size_px=(width, height),
            nms_iou=_NMS_IOU,
            max_people=self._most,
        )

    def _framed(self, rgb: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return (1, 3, h, w) BGR: the frame scaled into the upper left, the rest grey."""
        height, width = rgb.shape[:2]
        scale = _scale_into(self._size, height, width)
        small = max(1, int(width * scale)), max(1, int(height * scale))
        framed = np.full((*self._size, 3), _GREY, np.uint8)
        scaled = cv2.resize(rgb, small, interpolation=cv2.INTER_LINEAR)
        framed[: small[1], : small[0]] = scaled[..., ::-1]
        return np.ascontiguousarray(framed.transpose(2, 0, 1)[None], np.float32)

    def _check_scores(self, rows: NDArray[np.floating]) -> None:
        """Refuse rows whose scores are no probabilities."""
        scores = rows[:, 4:]
        _refuse_not_finite(self._path, scores)
        low, high = float(scores.min(initial=0)), float(scores.max(initial=0))
        _refuse_scores(self._path, low, high)


class BoxesDetector(_OneByOne):
    """A network whose outputs are boxes, labels from 1 on and scores; a `PeopleDetector`."""

    def __init__(self, path: Path, session: Any, asked: _Asked) -> None:
        self._path, self._session = path, session
        (given,) = session.get_inputs()
        self._input, shape = given.name, list(given.shape)
        if len(shape) not in (3, 4) or shape[-3] != 3 or "float" not in given.type:
            raise _other_layout(path, [given], session.get_outputs())
        self._batched = len(shape) == 4
        self._fixed = tuple(side for side in shape[-2:] if isinstance(side, int))
        if len(self._fixed) == 1:
            raise _other_layout(path, [given], session.get_outputs())
        known = coco_classes() if asked.names is None else tuple(asked.names)
        places = _places(path, known, asked.actor_classes, len(known))
        self._labels = np.array(places) + 1  # 0 is the background
        self._outputs = [one.name for one in session.get_outputs()]
        self._floor, self._most = asked.score_floor, asked.max_people
        self.name = f"boxes, labels, scores ({path.name})"
        self.sides_px = (min(self._fixed), max(self._fixed)) if self._fixed else (800, 1333)
        self.notes: tuple[str, ...] = ()
        if asked.names is None:
            self.notes = (f"{path}: names no classes, its labels are taken for COCO's",)

    def _detect(self, rgb: NDArray[np.uint8]) -> ActorBoxes:
        size = self._fixed or rgb.shape[:2]
        scaled = cv2.resize(rgb, size[::-1], interpolation=cv2.INTER_LINEAR)
        height, width = size
        frame = np.ascontiguousarray(scaled.transpose(2, 0, 1), np.float32) / np.float32(255)
        given = {self._input: frame[None] if self._batched else frame}
        values = run_onnx(self._session, self._path, given)
        named = dict(zip(self._outputs, values, strict=True))
        boxes, labels = named["boxes"].reshape(-1, 4), named["labels"].reshape(-1)
        scores = named["scores"].reshape(-1)
        if not len(boxes) == len(labels) == len(scores):
            counts = f"{len(boxes)} boxes, {len(labels)} labels and {len(scores)} scores"
            raise UserError(f"{self._path}: {counts}, as many are required")
        _refuse_not_finite(self._path, scores)
        _refuse_scores(self._path, float(scores.min(initial=0)), float(scores.max(initial=0)))
        kept = np.isin(labels, self._labels) & (scores >= self._floor)
        _refuse_not_finite(self._path, boxes[kept])
        return actor_boxes(
            torch.from_numpy(boxes[kept].astype(np.float32)),
            torch.from_numpy(scores[kept].astype(np.float32)),
            size_px=(width, height),
            nms_iou=_NMS_IOU if len(self._labels) > 1 else None,
            max_people=self._most,
        )


def _places(
    path: Path, names: Sequence[str] | None, actor_classes: Sequence[str] | None, num_classes: int
) -> list[int]:
    """Return the columns of the classes asked for."""
    coco = [name for name in coco_classes() if name != _NO_CLASS]
    if names is None:
        names = coco if num_classes == len(coco) else [str(n + 1) for n in range(num_classes)]
    if len(names) != num_classes:
        raise UserError(f"{path}: names {len(names)} classes, its output has {num_classes}")
    if actor_classes is None and "person" not in names and num_classes > 1:
        raise UserError(f"{path}: none of its {num_classes} classes is named person; name one")
    asked = actor_classes or (["person"] if "person" in names else [names[0]])
    return find_classes(names, asked, source=str(path), numbered=True)


def _refuse_not_finite(path: Path, values: NDArray[Any]) -> None:
    if not np.isfinite(values).all():
        raise UserError(f"{path}: a box or score is not finite; the file is damaged")


def _refuse_scores(path: Path, low: float, high: float) -> None:
    if not (low >= -1e-4 and high <= 1 + 1e-4):
        kind = "per cent" if low >= 0 and high <= 100.01 else "logits"
        raise UserError(
            f"{path}: scores from {low:.3g} to {high:.3g}, which look like {kind}: probabilities "
            "are required"
        )


def _scale_into(size: tuple[int, int], height: int, width: int) -> float:
    return min(size[0] / height, size[1] / width)


def _grey_frame(height: int, width: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), _GREY, np.uint8)


def _grids(height: int, width: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return for each row the cell (M, 2), column first, and the stride (M, 1)."""
    cells, strides = [], []
    for stride in _STRIDES:
        y, x = np.mgrid[: height // stride, : width // stride]
        cells.append(np.stack([x, y], axis=-1).reshape(-1, 2))
        strides.append(np.full((len(cells[-1]), 1), stride))
    return np.concatenate(cells).astype(np.float32), np.concatenate(strides).astype(np.float32)


def _is_decoded(
    rows: NDArray[np.floating], cells: NDArray[np.float32], strides: NDArray[np.float32]
) -> bool:
    """Say whether centres are pixels already: nearer to their cells' centres than to nothing."""
    expected = (cells + 0.5) * strides
    off = np.abs(rows[:, :2] - expected) / strides
    return bool(np.median(off) < np.median(np.abs(rows[:, :2] - 0.5)))
