"""A checkpoint file of anybody's, opened as plain values, and these read as what they must be.

A file is judged by its contents, never by its name, and nothing of it is run. Zip archives
(torch.save's form) are held against their own checksums first, since torch itself does not look at
them. Nothing that stands in a file is used before it went through `SavedValues`: every error is one
line that names the place in the file, what was found and what is required. The only importer of
the safetensors package.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pickle
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Collection, ItemsView, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

import torch
from torch import Tensor

from detection.bounds import DEEPEST, MOST_VALUES
from detection.checkpoints.weights import shown
from detection.errors import UserError, is_out_of_memory, printable
from detection.files import replacing

HOW_TO_INSTALL = "pip install safetensors"
METADATA_KEY = "x3d_action_detection"  # of what stands beside the weights in safetensors
# Of a model folder (`model_folder.py`).
MODEL_CONFIG, MODEL_WEIGHTS, MODEL_SUMS = "config.json", "model.safetensors", "SHA256SUMS"
_SECTIONS = ("data", "clip", "picture", "model", "optim", "probe", "people", "evaluation") + (
    "classification",
)
_REQUIRED: Any = object()
_RESAVE = (
    "where you trust the file, let its own program save the weights alone: "
    "torch.save(model.state_dict(), FILE)"
)


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
    "dictconfig.DictConfig listconfig.ListConfig base.ContainerMetadata base.Metadata "
    "nodes.AnyNode nodes.BooleanNode nodes.BytesNode nodes.EnumNode nodes.FloatNode "
    "nodes.IntegerNode nodes.PathNode nodes.StringNode"
)
_NAMED_TYPES = "bool dict float int list long str tuple"  # by omegaconf's nodes
_OTHERS = (
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
# What other trainers put beside the weights. The names are replaced by harmless stand-ins, so the
# real classes are neither imported nor run.
INERT: list[tuple[type, str]] = [
    *((OrderedDict, name) for name in _DICTIONARIES),
    *((Unread, f"omegaconf.{name}") for name in _OMEGACONF.split()),
    *((Unread, f"__builtin__.{name}") for name in _NAMED_TYPES.split()),
    *((Unread, f"builtins.{name}") for name in _NAMED_TYPES.split()),
    *((Unread, name) for name in _OTHERS),
]


def find_checkpoint(
    file_or_run: str | Path, *, what: str = "checkpoint file", names: Sequence[str] = ("last.pt",)
) -> Path:
    """Return the checkpoint file that a path names: itself, or a run folder's first of `names`.

    Of a model folder, and of the weights in one, its config.json, which has the weights' hash.
    """
    path = Path(file_or_run)
    try:
        mode = path.stat().st_mode
        if stat.S_ISDIR(mode):
            for name in names:
                if (file := path / "checkpoints" / name).is_file():
                    return file
            if is_model_folder(path):
                return path / MODEL_CONFIG
            raise UserError(
                f"{path}: no checkpoints/last.pt in this folder, it is not a run (and no "
                f"{MODEL_CONFIG}, no model folder)"
            )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise UserError(f"{path}: {what} or run folder not found") from error
    except (OSError, ValueError) as error:  # a name too long, links in a circle, a NUL byte
        raise UserError(f"{_short(path)}: cannot be opened ({_reason(error)})") from error
    if not stat.S_ISREG(mode):
        raise UserError(f"{path}: no regular file, a {what} is required")
    beside = path.parent
    if path.name == MODEL_WEIGHTS and all(
        (beside / n).is_file() for n in (MODEL_CONFIG, MODEL_SUMS)
    ):
        return beside / MODEL_CONFIG
    return path


def is_model_folder(path: str | Path) -> bool:
    """Say whether a path is meant as a model folder: one that is no run, with any of its files."""
    path = Path(path)
    if not path.is_dir() or (path / "checkpoints").is_dir():
        return False
    return any((path / name).is_file() for name in (MODEL_CONFIG, MODEL_WEIGHTS, MODEL_SUMS))


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
            raise UserError(f"{path}: {kind}; a file of torch.save or safetensors is required")
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
    path: str | Path, state: Mapping[str, Tensor], values: Mapping[str, Any] | None
) -> None:
    """Write tensors and, as JSON in the metadata, `values` (plain types; None: weights alone)."""
    load_safetensors()
    from safetensors.torch import save

    tensors = {key: value.detach().cpu().contiguous().clone() for key, value in state.items()}
    metadata = {"format": "pt"} if values is None else {METADATA_KEY: json.dumps(dict(values))}
    content = save(tensors, metadata=metadata)
    with replacing(path) as temporary:  # the package's own writer hides what the disk says
        temporary.write_bytes(content)


def load_safetensors() -> Any:
    """Import safetensors, or say how to get it."""
    try:
        import safetensors
    except ImportError as error:
        raise UserError(f"safetensors files need a package: {HOW_TO_INSTALL}") from error
    return safetensors


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


class SavedValues:
    """A mapping of a checkpoint file; every method reads one key, checked.

    path, place: the file, and where in it the mapping stands, for errors. Where a `default` is
    given the key may be absent. Methods raise `UserError`.
    """

    def __init__(self, path: str, values: Any, place: str = "") -> None:
        self._path = path
        self._place = place
        if type(values) not in (dict, OrderedDict) or not all(type(key) is str for key in values):
            self.refuse(None, values, "names with values are")
        self._values: Mapping[str, Any] = values

    def refuse_others(self, known: Collection[str]) -> None:
        """Raise for a key that is not among `known`."""
        for key in self._values:
            if key not in known:
                self.refuse(key, self._values[key], "an unknown name, none is")

    def whole(self, name: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.raw(name, default)
        if type(value) is not int or not low <= value <= high:
            self.refuse(name, value, f"a whole number from {low:,} to {high:,} is")
        return value

    def number(
        self, name: str, low: float, high: float, default: Any = _REQUIRED, *, nan: bool = False
    ) -> float:
        """Return a finite number from `low` to `high`; with `nan`, NaN too."""
        value = self.raw(name, default)
        if nan and type(value) is float and math.isnan(value):
            return value
        if type(value) not in (int, float) or not low <= value <= high:
            self.refuse(name, value, f"a number from {low:g} to {high:g} is")
        return float(value) if type(value) is float else value

    def one_of(self, name: str, choices: Collection[Any], default: Any = _REQUIRED) -> Any:
        """Return one of the texts or numbers `choices`."""
        value = self.raw(name, default)
        if type(value) not in (str, int) or value not in choices:
            self.refuse(name, value, f"one of {', '.join(map(repr, choices))} is")
        return value

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        value = self.raw(name, default)
        if type(value) is not bool:
            self.refuse(name, value, "true or false is")
        return value

    def listed(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        """Return a list, of whatever, of no absurd length."""
        value = self.raw(name, default)
        if type(value) not in (list, tuple) or len(value) > MOST_VALUES:
            self.refuse(name, value, f"a list of at most {MOST_VALUES:,} values is")
        return list(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts that are not empty."""
        values = self.listed(name)
        for index, value in enumerate(values):
            if type(value) is not str or not value:
                self.refuse(f"{name}[{index}]", value, "a text is")
        return tuple(values)

    def wholes(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of whole numbers from `low` to `high`."""
        values = self.listed(name)
        for index, value in enumerate(values):
            if type(value) is not int or not low <= value <= high:
                self.refuse(f"{name}[{index}]", value, f"a whole number from {low} to {high} is")
        return tuple(values)

    def within(self, name: str, default: Any = _REQUIRED) -> SavedValues:
        """Return the mapping under a key."""
        place = f"{self._place}.{name}" if self._place else name
        return SavedValues(self._path, self.raw(name, default), place)

    def fields(self, kind: type) -> dict[str, Any]:
        """Return the fields of a dataclass, each checked by its type and bounds (`between`).

        One with a default may be absent; one that is a dataclass itself is left out.
        """
        types = get_type_hints(kind)
        return {
            field.name: self._typed(field.name, types[field.name], field.metadata)
            for field in dataclasses.fields(kind)
            if not dataclasses.is_dataclass(types[field.name])
            and (field.name in self._values or field.default is dataclasses.MISSING)
        }

    def _typed(self, name: str, kind: Any, bounds: Mapping[str, Any]) -> Any:
        if get_origin(kind) is Literal:
            return self.one_of(name, get_args(kind))
        if kind is bool:
            return self.flag(name)
        assert bounds, f"{name}: a field of numbers states its bounds, between(low, high, default)"
        if get_origin(kind) is tuple:
            numbers = self.wholes(name, **bounds)
            if len(numbers) != len(get_args(kind)):
                self.refuse(name, numbers, "two numbers are")
            return numbers
        return (self.whole if kind is int else self.number)(name, **bounds)

    def raw(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a value as it stands, for checks of another kind."""
        if name in self._values:
            return self._values[name]
        if default is _REQUIRED:
            raise UserError(f"{self._path}: a damaged checkpoint: {self._at(name)} is missing")
        return default

    def names(self) -> tuple[str, ...]:
        """Return the keys."""
        return tuple(self._values)

    def items(self) -> ItemsView[str, Any]:
        """Return keys and values as they stand, for checks of another kind."""
        return self._values.items()

    def _at(self, name: str | None) -> str:
        parts = (self._place, None if name is None else name)
        return printable(".".join(part for part in parts if part)) or "its content"

    def refuse(self, name: str | None, value: Any, required: str) -> NoReturn:
        """Raise what every method raises: `required` reads on as "... required"."""
        raise UserError(
            f"{self._path}: a damaged checkpoint: {self._at(name)} is {brief(value)}, "
            f"{required} required"
        )


def brief(value: Any) -> str:
    """Return a value of a stranger's file for an error: on one line, short, whatever it is."""
    if type(value) is int and abs(value) > 10**30:
        return f"a whole number of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is str:
        return printable(repr(value if len(value) <= 60 else f"{value[:60]}..."))
    size = f" of {len(value)}" if type(value) in (list, tuple, dict, OrderedDict, bytes) else ""
    return f"a {type(value).__name__}{size}"


def checked_config(path: str, config: Any) -> dict[str, Any] | None:
    """Check that a saved configuration is plain values of bounded number, its sections mappings.

    What its options mean is checked by the configuration's own reader, by whoever uses it.
    """
    if config is None:
        return None
    SavedValues(path, config, "config")
    budget = [MOST_VALUES]
    plain = _plain(path, config, "config", DEEPEST, budget)
    for section in _SECTIONS:
        if section in plain:
            SavedValues(path, plain[section], f"config.{section}")
    return dict(plain)


def _plain(path: str, value: Any, place: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if depth < 0 or budget[0] < 0:
        raise UserError(
            f"{path}: a damaged checkpoint: {place.partition('.')[0]} is nested deeper than "
            f"{DEEPEST} levels or holds more than {MOST_VALUES:,} values"
        )
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(path, v, f"{place}[{i}]", depth - 1, budget) for i, v in enumerate(value)]
    SavedValues(path, value, place)
    return {k: _plain(path, v, f"{place}.{k}", depth - 1, budget) for k, v in value.items()}
