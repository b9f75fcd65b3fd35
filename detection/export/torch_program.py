"""PyTorch's own form of a traced network, a .pt2 file, for programs that have PyTorch alone.

Such a file names operators, and PyTorch would call whatever it names: one is opened here only where
all that it names are operators on tensors.
"""

from __future__ import annotations

import io
import json
import pickle
import re
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.export import ExportedProgram

from detection.checkpoints.plain_file import check_archive
from detection.errors import UserError
from detection.export.session import Precision, Threads, short_reason

_OPERATOR = re.compile(r"(torch\.ops\.(aten|torchvision)\.\w+(\.\w+)?|_operator\.\w+|)")


def torch_version() -> str:
    """Return PyTorch's version."""
    return str(torch.__version__)


def write_torch(program: ExportedProgram, folder: Path, name: str = "network") -> list[str]:
    """Write a program; return its files' names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(program, folder / f"{name}.pt2")
    return [f"{name}.pt2"]


class TorchSession:
    """A program run operator by operator by PyTorch on the CPU, by its own number of threads."""

    def __init__(self, path: Path, *, threads: Threads, precision: Precision) -> None:
        if precision != "f32":
            raise UserError("an exported program of torch computes in float32 (--no-half)")
        import torchvision  # noqa: F401  # brings RoIAlign

        check_program(path)
        self._path = path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                self._module = torch.export.load(path).module(check_guards=False)
            # `FrameLimits` are what is checked: the program's own limits take sizes of 0 and 1,
            # and what leads to them, for cases that it was not traced for.
            self._module._forward_pre_hooks.clear()
        except Exception as error:  # a damaged program ends in almost any exception
            reason = short_reason(error)
            raise UserError(f"{path}: PyTorch cannot open it ({reason})") from error

    def run(self, inputs: Sequence[NDArray[Any]]) -> NDArray[np.float32]:
        """Return the program's one output."""
        (found,) = self.run_all(inputs)
        return found

    @torch.inference_mode()
    def run_all(self, inputs: Sequence[NDArray[Any]]) -> list[NDArray[np.float32]]:
        """Return the program's outputs."""
        try:
            found = self._module(*map(torch.from_numpy, inputs))
        except RuntimeError as error:
            raise UserError(f"{self._path}: PyTorch failed ({short_reason(error)})") from error
        every = (found,) if isinstance(found, torch.Tensor) else found
        return [each.numpy() for each in every]


def check_program(path: Path) -> None:
    """Raise `UserError` for a .pt2 file that could run code when PyTorch opens or runs it."""
    check_archive(path)
    refused = f"{path}: refused: it asks for more than operators on tensors"
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            content = archive.read(name)
            if name.endswith("_config.json") and _uses_pickle(json.loads(content)):
                raise UserError(f"{refused}; nothing of it was run")
            if name.endswith(".pt"):
                try:
                    torch.load(io.BytesIO(content), weights_only=True)
                except (pickle.UnpicklingError, RuntimeError, ValueError) as error:
                    raise UserError(f"{refused}; nothing of it was run") from error
            if "/models/" in name:
                for target in _targets(json.loads(content)):
                    if not isinstance(target, str) or not _OPERATOR.fullmatch(target):
                        raise UserError(f"{refused} ({str(target)[:60]}); nothing of it was run")


def _uses_pickle(values: Any) -> bool:
    return any(value is not False for value in _values_of(values, "use_pickle"))


def _targets(values: Any) -> Iterator[Any]:
    return _values_of(values, "target")


def _values_of(values: Any, key: str) -> Iterator[Any]:
    """Yield what stands under a key, however deep in JSON."""
    waiting = [values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            if key in value:
                yield value[key]
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
