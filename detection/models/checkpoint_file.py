"""Checkpoint files: this project's own, and the weights inside anybody's X3D file.

A given file is judged by its contents, never by its name, and never runs code: everything goes
through `weights_only=True`. Own files hold plain types only and say all that is needed to run:
the network's numbers, its classes, and how frames are to be sampled and normalised.
"""

from __future__ import annotations

import dataclasses
import pickle
import re
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from detection.errors import UserError
from detection.files import replacing
from detection.models import safetensors_file
from detection.models.key_names import Naming, recognise, strip_wrappers, to_own_names
from detection.structures import AtEnds

FORMAT = "x3d-action-detection"
FORMAT_VERSION = 1
CLASS_WEIGHT = "head.classes.weight"
STATE_KEYS = ("model_state", "state_dict", "model_state_dict", "model")


class ClassLabels(Protocol):
    """What is asked of a label map: `detection.data.label_map.LabelMap` has it."""

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in column order."""

    @property
    def ids(self) -> tuple[int, ...]:
        """Class ids in column order."""

    @property
    def groups(self) -> tuple[str, ...] | None:
        """A group per class, or None."""


@dataclass(frozen=True)
class ClassList:
    """The classes that a checkpoint's columns stand for.

    exclusive: groups of columns of which the data set's people do at most one at a time, by name.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    groups: tuple[str, ...] | None = None
    exclusive: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class FrameSampling:
    """How the frames of a clip are chosen, sized and normalised.

    num_frames: T.  step: spacing in 1/30 s.  short_side_px: at test time.  pixel_mean, pixel_std:
    of RGB scaled to [0, 1], every channel alike.  at_ends: of a clip that would reach past its
    video's first or last frame, "repeat" or "inside" (`detection.data.sampling.clip_times_s`).
    """

    num_frames: int
    step: float
    short_side_px: int
    pixel_mean: float = 0.45
    pixel_std: float = 0.225
    at_ends: AtEnds = "repeat"

    def __post_init__(self) -> None:
        if self.at_ends not in get_args(AtEnds):
            raise ValueError(f"at_ends must be 'repeat' or 'inside', got {self.at_ends!r}")


@dataclass(frozen=True)
class ModelFile:
    """What a checkpoint file holds, under our names.

    state: weights.  naming: whose file it is.  unknown: keys that are no weights of an X3D network.
    network: the numbers that `detection.models.network.build_network` takes (own files; None
    elsewhere).  classes, sampling, config: as saved, None where the file has none.  training:
    whatever the trainer keeps (own files).
    """

    path: str
    state: dict[str, Tensor]
    naming: Naming
    unknown: tuple[str, ...] = ()
    network: dict[str, Any] | None = None
    classes: ClassList | None = None
    sampling: FrameSampling | None = None
    config: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)

    @property
    def num_classes(self) -> int | None:
        """Rows of the class layer; None where the file has no class layer."""
        weight = self.state.get(CLASS_WEIGHT)
        return None if weight is None else len(weight)


def save_model_file(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    network: Mapping[str, Any] | None,
    classes: ClassLabels | None,
    sampling: FrameSampling | None,
    config: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
) -> None:
    """Write a checkpoint of this project, whole or not at all.

    state: a network's state dict.  training: state of optimiser, schedule and random generators in
    plain types and tensors. Anything that `weights_only=True` could not read back is refused here.
    """
    check_classes(str(path), state, classes)
    values = {
        "format": FORMAT,
        "version": FORMAT_VERSION,
        "model_state": {key: value.detach().cpu() for key, value in state.items()},
        "network": None if network is None else dict(network),
        "label_map": None if classes is None else plain_classes(classes),
        "sampling": None if sampling is None else dataclasses.asdict(sampling),
        "config": None if config is None else dict(config),
        "training": dict(training or {}),
    }
    refuse_other_types(values, "checkpoint")
    save_plain(path, values)


def save_plain(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write with torch.save, whole or not at all."""
    # Through an open file: torch's own writer refuses some file names.
    with replacing(path) as temporary, temporary.open("wb") as opened:
        torch.save(dict(values), opened)


def read_model_file(path: str | Path, *, weights_only: bool = False) -> ModelFile:
    """Read a checkpoint of ours, SlowFast's, pytorchvideo's or mmaction2's (or safetensors).

    `weights_only` drops the trainer's part. Raises `UserError` for whatever is not such a file.
    """
    path = Path(path)
    content = read_plain(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return read_own(str(path), content, weights_only=weights_only)
    state = strip_wrappers(find_state(str(path), content))
    naming = recognise(state)
    if naming is None:
        first = ", ".join(list(state)[:3])
        raise UserError(
            f"{path}: not an X3D network: its {len(state)} weights are called {first}, ...; wanted "
            "names of this project, SlowFast, pytorchvideo or mmaction2"
        )
    ours, unknown = to_own_names(state, naming)
    return ModelFile(str(path), ours, naming, unknown)


def read_own(path: str, content: Mapping[str, Any], *, weights_only: bool) -> ModelFile:
    """Check and unpack a file that says it is of this project's format."""
    version = content.get("version")
    if version != FORMAT_VERSION:
        raise UserError(f"{path}: format version {version!r}, this program reads {FORMAT_VERSION}")
    try:
        labels, sampling = content["label_map"], content["sampling"]
        classes = None
        if labels is not None:
            groups = labels["groups"]
            classes = ClassList(
                tuple(str(name) for name in labels["names"]),
                tuple(int(number) for number in labels["ids"]),
                None if groups is None else tuple(str(group) for group in groups),
                _exclusive(labels.get("exclusive") or {}, len(labels["names"])),
            )
        file = ModelFile(
            path,
            state=strip_wrappers(content["model_state"]),
            naming="own",
            network=content["network"],
            classes=classes,
            sampling=None if sampling is None else FrameSampling(**sampling),
            config=content["config"],
            training={} if weights_only else dict(content.get("training") or {}),
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UserError(f"{path}: a damaged checkpoint of this project ({error!r})") from error
    check_classes(path, file.state, file.classes)
    return file


def read_plain(path: Path) -> Any:
    """Return what a checkpoint file holds without running anything that stands in it."""
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    with path.open("rb") as opened:
        start = opened.read(16)
    if safetensors_file.recognise(start):
        return safetensors_file.read(path)
    if not start.startswith((b"PK\x03\x04", b"\x80")):
        what = "an empty file" if not start else "not a checkpoint"
        raise UserError(f"{path}: {what}; wanted a file of torch.save or safetensors")
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
            f"{path}: refused: it asks for {found[1]}, which a file of weights has no need of; "
            "nothing of it was run"
        ) from error
    except MemoryError:
        raise
    except Exception as error:
        # A damaged file ends in almost any exception inside the unpickler: IndexError, KeyError,
        # EOFError, RuntimeError, UnicodeDecodeError, ... All of them say the same to a user.
        reason = re.split(r"\n|\. ", str(error))[0] or type(error).__name__
        raise UserError(f"{path}: truncated or damaged ({reason})") from error


def find_state(path: str, content: Any) -> dict[str, Tensor]:
    """Find the weights in a file of another project."""
    candidates = [content]
    if isinstance(content, Mapping):
        candidates = [content[key] for key in STATE_KEYS if key in content] + [content]
    for candidate in candidates:
        if isinstance(candidate, Mapping):
            state = {
                key: value
                for key, value in candidate.items()
                if isinstance(key, str) and isinstance(value, Tensor)
            }
            if state:
                return state
    raise UserError(f"{path}: holds no weights ({type(content).__name__} without tensors)")


def check_classes(path: str, state: Mapping[str, Tensor], classes: ClassLabels | None) -> None:
    """Raise `UserError` when a label map has another number of classes than the class layer."""
    weight = state.get(CLASS_WEIGHT)
    if classes is None or weight is None:
        return
    if len(classes.names) != len(weight):
        raise UserError(
            f"{path}: the label map has {len(classes.names)} classes, the network {len(weight)}"
        )
    if len(classes.ids) != len(classes.names):
        raise UserError(f"{path}: {len(classes.names)} class names but {len(classes.ids)} ids")


def _exclusive(groups: Mapping[str, Any], classes: int) -> dict[str, tuple[int, ...]]:
    """Check groups of columns; files from before they were kept have none."""
    found = {str(name): tuple(int(column) for column in group) for name, group in groups.items()}
    members = [column for group in found.values() for column in group]
    if len(set(members)) < len(members) or not set(members) <= set(range(classes)):
        raise ValueError(f"exclusive groups {found} of {classes} classes")
    return found


def plain_classes(classes: ClassLabels) -> dict[str, Any]:
    """Return a label map as plain lists."""
    exclusive = classes.exclusive if isinstance(classes, ClassList) else {}
    return {
        "names": list(classes.names),
        "ids": [int(number) for number in classes.ids],
        "groups": None if classes.groups is None else list(classes.groups),
        "exclusive": {name: list(map(int, group)) for name, group in exclusive.items()},
    }


def refuse_other_types(value: Any, place: str) -> None:
    """Raise TypeError where a value is no plain type: such a file could not be opened safely."""
    if value is None or type(value) in (bool, int, float, str, bytes, torch.dtype):
        return
    if isinstance(value, Tensor):
        return
    if isinstance(value, Mapping) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            refuse_other_types(key, f"{place} (a key)")
            refuse_other_types(item, f"{place}[{key!r}]")
    elif isinstance(value, Sequence) and type(value) in (list, tuple):
        for index, item in enumerate(value):
            refuse_other_types(item, f"{place}[{index}]")
    else:
        raise TypeError(f"{place} is a {type(value).__name__}; checkpoints hold plain types only")


class Unread:
    """Stands for an object of a checkpoint that is of no use here; it keeps and runs nothing."""

    def __new__(cls, *args: object) -> Unread:
        """Take and forget any arguments."""
        return super().__new__(cls)

    def __init__(self, *args: object) -> None:
        """Take and forget any arguments."""

    def __setstate__(self, state: object) -> None:
        """Forget the state."""


# What other trainers put beside the weights. The names are replaced by harmless stand-ins, so the
# real classes are neither imported nor run.
INERT: list[tuple[type, str]] = [
    *((OrderedDict, f"{module}.CfgNode") for module in ("yacs.config", "fvcore.common.config")),
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
        )
    ),
]
