"""What runs a network: PyTorch itself, or a runtime to which it is exported."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch

from detection.errors import UserError
from detection.export import onnx_runtime, openvino_runtime, torch_program
from detection.export.artefact import Form
from detection.export.program import Program
from detection.export.session import Precision, RuntimeSession, Threads

Runtime = Literal["torch", "onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = get_args(Runtime)
AUTO = "auto"
# The form that each runtime opens. Of a checkpoint PyTorch runs the network itself.
FORM_OF: dict[Runtime, Form] = {"onnxruntime": "onnx", "openvino": "openvino", "torch": "torch"}
RUNTIME_OF: dict[Form, Runtime] = {form: runtime for runtime, form in FORM_OF.items()}
_VERSIONS: dict[Form, Callable[[], str]] = {
    "onnx": onnx_runtime.onnx_version,
    "openvino": openvino_runtime.openvino_version,
    "torch": torch_program.torch_version,
}
_WRITERS: dict[Form, Callable[..., list[str]]] = {
    "onnx": onnx_runtime.write_onnx,
    "openvino": openvino_runtime.write_openvino,
    "torch": torch_program.write_torch,
}
_SESSIONS: dict[Form, Callable[..., RuntimeSession]] = {
    "onnx": onnx_runtime.OnnxSession,
    "openvino": openvino_runtime.OpenVinoSession,
    "torch": torch_program.TorchSession,
}


@dataclass(frozen=True)
class RuntimeChoice:
    """Which runtime is asked for, and how.

    asked: as `choose_runtime` takes it.
    may_fall_back: PyTorch runs what it cannot, and `on_note` is told so.
    threads: of the runtime.
    on_note: told a line about long work.
    """

    asked: str | None = None
    may_fall_back: bool = False
    threads: Threads = Threads()
    on_note: Callable[[str], object] = lambda note: None


class Exported(Protocol):
    """An exported network on disk, of actions or of people."""

    @property
    def folder(self) -> Path:
        """Where it lies."""

    @property
    def form(self) -> Form:
        """Of its programs."""


def choose_runtime(
    asked: str | None, device: torch.device, *, artefact: Exported | None = None
) -> tuple[Runtime, str]:
    """Return what runs a network, and why where it was not asked for.

    asked: a runtime; `AUTO`: that of `artefact` where one is given; else OpenVINO where it is
    installed and the device is a CPU, else PyTorch; None: that of `artefact`, else PyTorch.
    Raises `UserError` for a runtime that is not installed, that cannot run the artefact, or where
    a device is asked for that it does not use.
    """
    if asked is not None and asked != AUTO and asked not in RUNTIMES:
        raise UserError(f"runtime '{asked}': one of {', '.join((AUTO, *RUNTIMES))} is required")
    runtime: str | None = asked if asked in RUNTIMES else None
    why = ""
    if artefact is not None:
        own = RUNTIME_OF[artefact.form]
        if runtime not in (None, own):
            raise UserError(f"{artefact.folder}: exported for {own}, {asked} cannot run it")
        runtime = own
    elif asked is None:
        runtime = "torch"
    elif runtime is None:
        if device.type != "cpu":
            runtime, why = "torch", f"on {device.type}"
        elif find_spec("openvino") is None:
            runtime, why = "torch", "openvino is not installed"
        else:
            runtime, why = "openvino", "as it is installed"
    if device.type != "cpu" and (runtime != "torch" or artefact is not None):
        raise UserError(f"{runtime} runs exported networks on a CPU here, the device is {device}")
    chosen = next(name for name in RUNTIMES if name == runtime)
    if chosen != "torch":
        version_of(FORM_OF[chosen])
    return chosen, why


def version_of(form: Form) -> str:
    """Return the version of a form's runtime; `UserError` says how to install one that is not."""
    return _VERSIONS[form]()


def describe_runtime(form: Form, precision: Precision) -> str:
    """Return a runtime with its version and precision, as "openvino 2026.4.1, float32"."""
    exported = "exported program, " if form == "torch" else ""
    width = {"f32": "float32", "bf16": "bfloat16"}[precision]
    return f"{exported}{RUNTIME_OF[form]} {version_of(form)}, {width}"


def has_bfloat16(form: Form) -> bool:
    """Say whether a form's runtime computes in bfloat16 on this processor."""
    return form == "openvino" and openvino_runtime.processor_has_bfloat16()


def write_program(program: Program, folder: Path, form: Form, name: str = "network") -> list[str]:
    """Write a traced network in a form; return its files' names, the one to open first.

    program: traced for that form.  name: of its files, without suffix.
    Raises `UserError` where a package is not installed and where the form lacks an operator.
    """
    return _WRITERS[form](program, folder, name)


def open_session(
    program: Path, form: Form, *, threads: Threads, precision: Precision = "f32"
) -> RuntimeSession:
    """Open a program's file by its form's runtime; errors as `open_exported`."""
    return _SESSIONS[form](program, threads=threads, precision=precision)
