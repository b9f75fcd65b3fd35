"""Made-up people detectors in ONNX: their rows are constants, and a pixel may be a score."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE = 64
ROWS = sum((SIDE // stride) ** 2 for stride in (8, 16, 32))  # 84


def no_rows(classes: int = 80) -> np.ndarray:
    """YOLOX's rows, centres and sizes not decoded, with nobody."""
    return np.zeros((ROWS, 5 + classes), np.float32)


def decoded(rows: np.ndarray) -> np.ndarray:
    """The same rows with centres and sizes in pixels, as other exports write them."""
    rows, place = rows.copy(), 0
    for stride in (8, 16, 32):
        for y in range(SIDE // stride):
            for x in range(SIDE // stride):
                rows[place, :2] = (rows[place, :2] + (x, y)) * stride
                rows[place, 2:4] = np.exp(rows[place, 2:4]) * stride
                place += 1
    return rows


def save_yolox(
    path: Path,
    rows: np.ndarray,
    *,
    pixel: tuple[int, int, int] | None = None,
    names: str | None = None,
    size: tuple = (SIDE, SIDE),
) -> Path:
    """Write a file of YOLOX's layout.

    pixel: channel, line and column of the input whose value over 255 multiplies all scores.
    """
    nodes = [helper.make_node("Identity", ["rows"], ["output"])]
    held = [numpy_helper.from_array(rows[None], "rows")]
    if pixel is not None:
        channel, line, column = pixel
        index = np.array([0, channel, line, column], np.int64)
        factor = np.ones(rows.shape[1], np.float32)
        factor[4] = 1 / 255
        power = np.zeros(rows.shape[1], np.float32)
        power[4] = 1
        held += [
            numpy_helper.from_array(index, "index"),
            numpy_helper.from_array(factor, "factor"),
            numpy_helper.from_array(power, "power"),
        ]
        nodes = [
            helper.make_node("GatherND", ["images", "index"], ["value"]),
            helper.make_node("Pow", ["value", "power"], ["values"]),
            helper.make_node("Mul", ["values", "factor"], ["factors"]),
            helper.make_node("Mul", ["rows", "factors"], ["output"]),
        ]
    shape = [1, *rows.shape]
    return _save(path, nodes, held, [1, 3, *size], {"output": (TensorProto.FLOAT, shape)}, names)


def save_boxes(
    path: Path, boxes: list, labels: list, scores: list, *, batched: bool = False,
    size: tuple = ("h", "w"), names: str | None = None,
) -> Path:  # fmt: skip
    """Write a file of torchvision's layout, whose boxes are constants."""
    values = {
        "boxes": np.array(boxes, np.float32).reshape(-1, 4),
        "labels": np.array(labels, np.int64),
        "scores": np.array(scores, np.float32),
    }
    nodes = [helper.make_node("Identity", [f"{name}_"], [name]) for name in values]
    held = [numpy_helper.from_array(value, f"{name}_") for name, value in values.items()]
    kinds = {
        name: (helper.np_dtype_to_tensor_dtype(value.dtype), list(value.shape))
        for name, value in values.items()
    }
    shape = [*([1] if batched else []), 3, *size]
    return _save(path, nodes, held, shape, kinds, names)


def _save(path, nodes, held, shape, outputs, names):
    graph = helper.make_graph(
        nodes, "made up", [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(name, *kind) for name, kind in outputs.items()], held,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if names is not None:
        helper.set_model_props(model, {"names": names})
    onnx.save(model, str(path))
    return path
