"""ONNX and ONNX Runtime. The only importer of onnx, onnxscript and onnxruntime."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from detection.errors import UserError
from detection.export.session import Precision, Threads, short_reason

HOW_TO_INSTALL = (
    'pip install "x3d-action-detection[export]" (or: pip install onnx onnxscript onnxruntime)'
)


def load_onnxruntime() -> Any:
    """Import onnxruntime, or say how to get it."""
    return _load("onnxruntime", "runtime onnxruntime is not installed")


def onnx_version() -> str:
    """Return the runtime's version."""
    return str(load_onnxruntime().__version__)


def write_onnx(program: ExportedProgram, folder: Path, name: str = "network") -> list[str]:
    """Convert a program and write it; return its files' names, the one to open first."""
    onnx = _load("onnx", "writing ONNX needs a package")
    _load("onnxscript", "writing ONNX needs a package")
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            converted = torch.onnx.export(program, dynamo=True, verbose=False)
    except Exception as error:  # whatever the converter meets
        reason = short_reason(_first_cause(error))
        raise UserError(f"ONNX cannot hold the network ({reason})") from error
    finally:
        logger.setLevel(level)
    assert converted is not None
    model = converted.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:  # where in whose files the layers were written
        del node.metadata_props[:]
        node.doc_string = ""
    model.doc_string = ""
    onnx.save(model, str(folder / f"{name}.onnx"))
    return [f"{name}.onnx"]


def open_onnx(path: Path, *, threads: int) -> Any:
    """Open a file in ONNX Runtime, on the CPU; raises `UserError` for what it cannot open."""
    package = load_onnxruntime()
    settings = package.SessionOptions()
    settings.intra_op_num_threads = threads
    settings.add_session_config_entry("session.intra_op.allow_spinning", "0")
    settings.log_severity_level = 3
    try:
        return package.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no common class but Exception
        reason = short_reason(error)
        raise UserError(f"{path}: onnxruntime cannot open it ({reason})") from error


def run_onnx(session: Any, path: Path, inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
    """Return all outputs of an opened file; raises `UserError` where the runtime fails."""
    try:
        return [np.asarray(value) for value in session.run(None, dict(inputs))]
    except Exception as error:
        raise UserError(f"{path}: onnxruntime failed ({short_reason(error)})") from error


class OnnxSession:
    """A program opened by ONNX Runtime on the CPU; several threads may run it at a time.

    threads: see `Threads`.  precision: "f32".
    """

    def __init__(self, path: Path, *, threads: Threads, precision: Precision) -> None:
        if precision != "f32":
            raise UserError("onnxruntime computes in float32 here (--no-half)")
        self._path = path
        self._session = open_onnx(path, threads=threads.each)
        self._names = [given.name for given in self._session.get_inputs()]

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the program's one output."""
        (found,) = self.run_all(inputs)
        return found

    def run_all(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the program's outputs."""
        named = dict(zip(self._names, inputs, strict=True))
        found = run_onnx(self._session, self._path, named)
        return [each.astype(np.float32, copy=False) for each in found]


def _first_cause(error: BaseException) -> BaseException:
    """Return what an error began with: the converter wraps it in advice of a screen's length."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _load(name: str, what: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{what}: {HOW_TO_INSTALL}") from error
