"""Opening a checkpoint file of anybody's: plain values and tensors come out, nothing of it is run.

A file is judged by its contents, never by its name. Zip archives (torch.save's form) are held
against their own checksums first, since torch itself does not look at them. The only importer of
the safetensors package.
"""

from __future__ import annotations

import json
import os
import pickle
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detection.checkpoints.weights import shown
from detection.errors import UserError, printable
from detection.files import replacing

HOW_TO_INSTALL = "pip install safetensors"
METADATA_KEY = "x3d_action_detection"  # of what stands beside the weights in safetensors
_RESAVE = (
    "where you trust the file, let its own program save the weights alone: "
    "torch.save(model.state_dict(), FILE)"
)


def find_checkpoint(file_or_run: str | Path, *, what: str = "checkpoint file") -> Path:
    """Return the checkpoint file that a path names: itself, or a run folder's last one."""
    path = Path(file_or_run)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            last = path / "checkpoints" / "last.pt"
            if not last.is_file():
                raise UserError(f"{path}: no checkpoints/last.pt in this folder, it is not a run")
            return last
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: no such {what} or run folder") from error
    except (OSError, ValueError) as error:  # a name too long, links in a circle, a NUL byte
        raise UserError(f"{_short(path)}: cannot be opened ({_reason(error)})") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: no regular file, a {what} is required")
    return path


def read_plain(path: Path) -> Any:
    """Return what a checkpoint file holds without running anything that stands in it.

    Raises `UserError` for a file that is missing, damaged (also where a member of the archive does
    not match its checksum), of another kind, larger than the memory, or that asks for code.
    """
    path = find_checkpoint(path, what="file")
    try:
        with path.open("rb") as opened:
            start = opened.read(16)
        if is_safetensors(start):
            return read_safetensors(path)
        if not start.startswith((b"PK\x03\x04", b"\x80")):
            kind = "an empty file" if not start else "not a checkpoint"
            raise UserError(f"{path}: {kind}; wanted a file of torch.save or safetensors")
        if start.startswith(b"PK"):
            check_archive(path)
        return _load(path)
    except MemoryError as error:
        raise UserError(f"{path}: not enough memory to read it") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({_reason(error)})") from error


def check_archive(path: Path) -> None:
    """Hold every member of a zip archive against its checksum; raise `UserError` where one is bad.

    Refused too: TorchScript programs, and archives in another form than torch.save's, whose members
    are stored as they are, each once (packed ones could be larger than any memory).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            names = {member.filename for member in members}
            if any(name.endswith("/constants.pkl") or "/code/" in name for name in names):
                raise UserError(
                    f"{path}: a TorchScript program (torch.jit.save), which would have to be run; "
                    "save its weights alone: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
                )
            packed = any(m.compress_type != zipfile.ZIP_STORED or m.flag_bits & 1 for m in members)
            size = sum(member.file_size for member in members)
            if packed or len(names) < len(members) or size > path.stat().st_size:
                raise UserError(
                    f"{path}: not in torch.save's form (members that are packed, encrypted or "
                    f"stand one upon another); {_RESAVE}"
                )
            broken = archive.testzip()
    except (
        zipfile.BadZipFile,
        zlib.error,
        struct.error,
        EOFError,
        ValueError,
        OverflowError,
        RuntimeError,  # NotImplementedError too: of a later version of the form
    ) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: truncated or damaged ({_reason(error)})") from error
    if broken is not None:
        raise UserError(
            f"{path}: truncated or damaged: its part {shown(broken)} does not match its checksum"
        )


def is_safetensors(start: bytes) -> bool:
    """Say whether a file that begins so is safetensors: eight bytes of length, then JSON."""
    return len(start) >= 9 and start[8:9] == b"{" and int.from_bytes(start[:8], "little") < 1 << 30


def read_safetensors(path: Path) -> dict[str, Any]:
    """Return the tensors under `model_state`, and whatever `write_safetensors` put beside them."""
    package = load_safetensors()
    try:
        with package.safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            state = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        values = json.loads(metadata.get(METADATA_KEY, "{}"))
    except RecursionError as error:
        raise UserError(f"{path}: damaged safetensors: its metadata is nested too deep") from error
    except (package.SafetensorError, ValueError, TypeError, RuntimeError) as error:
        reason = shown(str(error), 200)
        raise UserError(f"{path}: truncated or damaged safetensors ({reason})") from error
    if not isinstance(values, dict):
        raise UserError(f"{path}: its metadata is not an object")
    return {**values, "model_state": state}


def write_safetensors(
    path: str | Path, state: Mapping[str, Tensor], values: Mapping[str, Any]
) -> None:
    """Write tensors and, as JSON in the metadata, `values` (plain types)."""
    load_safetensors()
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    content = save(tensors, metadata={METADATA_KEY: json.dumps(dict(values))})
    with replacing(path) as temporary:  # the package's own writer hides what the disk says
        temporary.write_bytes(content)


def load_safetensors() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"safetensors files need a package: {HOW_TO_INSTALL}") from error
    return safetensors


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory could not be had, in Python's words or PyTorch's."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    words = ("DefaultCPUAllocator", "not enough memory", "t allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(INERT):  # type: ignore[arg-type]
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        found = re.search(r"GLOBAL ([\w.]+)", str(error))
        if found is None:
            raise UserError(
                f"{path}: damaged, or not a checkpoint of weights; nothing of it was run"
            ) from error
        raise UserError(
            f"{path}: refused: it asks for {shown(found[1])}, which a file of weights has no need "
            f"of; nothing of it was run; {_RESAVE}"
        ) from error
    except Exception as error:
        # A damaged file ends in almost any exception inside the unpickler: IndexError, KeyError,
        # EOFError, RuntimeError, UnicodeDecodeError, ... All of them say the same to a user.
        if is_out_of_memory(error):
            raise UserError(f"{path}: not enough memory to read it") from error
        raise UserError(f"{path}: truncated or damaged ({_reason(error)})") from error


def _reason(error: BaseException) -> str:
    words = getattr(error, "strerror", None) or re.split(r"\n|\. ", str(error))[0]
    return shown(words or type(error).__name__, 200)


def _short(path: Path) -> str:
    return shown(printable(os.fspath(path)), 100)


class Unread:
    """Stands for an object of a checkpoint that is of no use here; it keeps and runs nothing."""

    def __new__(cls, *args: object) -> Unread:
        """Take and forget any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        """Take and forget any arguments."""

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


_DICTIONARIES = (
    "yacs.config.CfgNode",
    "fvcore.common.config.CfgNode",
    "lightning_fabric.utilities.data.AttributeDict",
    "lightning.fabric.utilities.data.AttributeDict",
    "pytorch_lightning.utilities.parsing.AttributeDict",
)
_OMEGACONF = (
    *("dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata"),
    *(
        f"nodes.{kind}Node"
        for kind in ("Any", "Boolean", "Bytes", "Enum", "Float", "Integer", "Path", "String")
    ),
)
# What other trainers put beside the weights. The names are replaced by harmless stand-ins, so the
# real classes are neither imported nor run.
INERT: list[tuple[type, str]] = [
    *((OrderedDict, name) for name in _DICTIONARIES),
    *((Unread, f"omegaconf.{name}") for name in _OMEGACONF),
    *(  # the types that omegaconf's nodes name
        (Unread, f"{module}.{name}")
        for module in ("__builtin__", "builtins")
        for name in ("bool", "dict", "float", "int", "list", "long", "str", "tuple")
    ),
    *(
        (Unread, name)
        for name in (
            "mmengine.logging.history_buffer.HistoryBuffer",
            "mmengine.config.config.ConfigDict",
            "numpy.core.multiarray._reconstruct",
            "numpy._core.multiarray._reconstruct",
            "numpy.core.multiarray.scalar",
            "numpy._core.multiarray.scalar",
            "numpy.ndarray",
            "numpy.dtype",
            "argparse.Namespace",
            "pathlib.PosixPath",
            "typing.Any",
            "collections.defaultdict",
        )
    ),
]
