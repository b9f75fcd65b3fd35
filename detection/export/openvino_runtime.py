"""OpenVINO: fast inference on Intel's and AMD's processors. The only importer of openvino."""

from __future__ import annotations

import sys
import threading
import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from detection.errors import UserError
from detection.export.session import Precision, Threads, short_reason
from detection.files import CannotWriteError

_CLIP_DIMENSIONS = 5
_MOST_SHAPES = 4  # that have a program of their own: a video has two, with its last batch
HOW_TO_INSTALL = 'pip install "x3d-action-detection[openvino]" (or: pip install openvino)'


def load_openvino() -> Any:
    """Import openvino, or say how to get it. Its usage statistics are not sent.

    The package reports imports and conversions to its makers where `openvino_telemetry` can be
    imported, so that is hidden from it while it is loaded.
    """
    hidden = "openvino_telemetry"
    before = sys.modules.get(hidden)
    sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        import openvino
    except ImportError as error:
        raise UserError(f"runtime openvino is not installed: {HOW_TO_INSTALL}") from error
    finally:
        del sys.modules[hidden]
        if before is not None:
            sys.modules[hidden] = before
    return openvino


def openvino_version() -> str:
    """Return the package's version."""
    return str(load_openvino().__version__).partition("-")[0]


@lru_cache(maxsize=1)
def _core() -> Any:
    """Return the one core of this process, which is never let go.

    Its CPU plugin gives the thread that makes it another stack for signals, which is unmapped with
    it: where another thread lets it go, the next signal (Ctrl-C) finds no stack and the process
    ends with SIGSEGV.
    """
    return load_openvino().Core()


def processor_has_bfloat16() -> bool:
    """Say whether this processor computes in bfloat16."""
    return "BF16" in _core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def write_openvino(
    program: ExportedProgram | torch.jit.ScriptModule, folder: Path, name: str = "network"
) -> list[str]:
    """Convert a program and write it; return its files' names, the one to open first."""
    openvino = load_openvino()
    path = folder / f"{name}.xml"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = openvino.convert_model(program)
    except Exception as error:  # whatever the converter meets
        raise UserError(f"openvino cannot convert the network ({short_reason(error)})") from error
    try:
        openvino.save_model(model, str(path), compress_to_fp16=False)
    except RuntimeError as error:  # no room, mostly; its own words are "iostream error"
        raise CannotWriteError(f"{path}: not written: {short_reason(error)}") from error
    return [path.name, path.with_suffix(".bin").name]


class OpenVinoSession:
    """A program opened by OpenVINO on the CPU; several threads may run it at a time.

    The first `_MOST_SHAPES` shapes of clips (B, 3, T, H, W) that come get a program of their own,
    with the memory of every layer planned: a tenth less time for a clip of X3D-XS. All other
    inputs share one that takes any.

    threads: see `Threads`; each caller's work goes to a stream of its own.
    precision: "bf16" where the processor has it; else `UserError`.
    """

    def __init__(self, path: Path, *, threads: Threads, precision: Precision) -> None:
        openvino = load_openvino()
        if precision == "bf16" and not processor_has_bfloat16():
            raise UserError("this processor does not compute in bfloat16 (--no-half)")
        self._path = path
        self._settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": max(threads.total, threads.callers),
            "NUM_STREAMS": threads.callers,
            "ENABLE_CPU_PINNING": False,
        }
        self._core = _core()
        try:
            self._model = self._core.read_model(str(path))
        except RuntimeError as error:
            reason = short_reason(error)
            raise UserError(f"{path}: openvino cannot open it ({reason})") from error
        # Asked here, before there are threads: two that ask for the first time at once may wait for
        # each other for ever, one holding the interpreter, the other the package's own lock.
        openvino.Type.f32.to_dtype()
        self._compiled: dict[tuple[int, ...], Any] = {}  # by shape of clips; (): of any
        self._one_compiles = threading.Lock()
        self._requests = threading.local()

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the program's one output."""
        (found,) = self.run_all(inputs)
        return found

    def run_all(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the program's outputs."""
        try:
            found = self._request(inputs[0].shape).infer(list(inputs), share_inputs=True)
        except RuntimeError as error:
            raise UserError(f"{self._path}: openvino failed ({short_reason(error)})") from error
        # Copies: the request's memory is used again.
        return [np.array(each, np.float32) for each in found.values()]

    def _request(self, shape: tuple[int, ...]) -> Any:
        """Return this thread's request of the program for a shape of the first input."""
        with self._one_compiles:
            is_new = shape not in self._compiled
            if len(shape) != _CLIP_DIMENSIONS or (is_new and len(self._compiled) >= _MOST_SHAPES):
                shape = ()
            if shape not in self._compiled:
                self._compiled[shape] = self._compile(shape)
            compiled = self._compiled[shape]
        requests = self._requests.__dict__.setdefault("by_shape", {})
        if shape not in requests:
            requests[shape] = compiled.create_infer_request()
        return requests[shape]

    def _compile(self, shape: tuple[int, ...]) -> Any:
        model = self._model
        if shape:
            model = model.clone()
            first, *others = model.inputs
            shapes = {other: other.get_partial_shape() for other in others}
            model.reshape({first: list(shape), **shapes})
        return self._core.compile_model(model, "CPU", self._settings)
