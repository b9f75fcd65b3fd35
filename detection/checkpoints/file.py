"""Checkpoint files: this project's own, and the weights inside anybody's X3D file.

A given file is judged by its contents, never by its name, and never runs code: everything goes
through `weights_only=True`. Own files hold plain types only and say all that is needed to run:
the network's numbers, its classes, and how frames are to be sampled and normalised.
"""

from __future__ import annotations

import dataclasses
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, get_args

import torch
from torch import Tensor

from detection.checkpoints.naming import Naming, recognise_wrapped, to_own_names
from detection.checkpoints.plain_file import find_checkpoint, read_plain
from detection.checkpoints.saved_values import (
    SavedValues,
    brief,
    checked_classes,
    checked_config,
    checked_network,
    checked_sampling,
)
from detection.checkpoints.unwrapping import find_noted_state, find_state, unwrap
from detection.checkpoints.weights_check import check_weights, shown
from detection.errors import UserError
from detection.files import replacing
from detection.structures import AtEnds

FORMAT = "x3d-action-detection"
FORMAT_VERSION = 1
CLASS_WEIGHT = "head.classes.weight"

__all__ = ["find_state", "read_plain"]  # made elsewhere, part of what this module offers


class ClassLabels(Protocol):
    """What is asked of a label map: `detection.datasets.label_map.LabelMap` has it."""

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
    video's first or last frame, "repeat" or "inside" (`detection.datasets.sampling.clip_times_s`).
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
    network: the numbers that `detection.checkpoints.factory.build_network` takes (own files; None
    elsewhere).  classes, sampling, config: as saved, None where the file has none.  training:
    whatever the trainer keeps (own files).  notes: sentences on how the weights were found.
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
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Rows of the class layer; None where the file has no class layer."""
        weight = self.state.get(CLASS_WEIGHT)
        return None if weight is None or not weight.ndim else len(weight)


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

    path: the file, or a run folder (its last checkpoint).  `weights_only` drops the trainer's part.
    Raises `UserError` for whatever is not such a file, and for weights that are not finite.
    """
    path = find_checkpoint(path, what="file")
    content = read_plain(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        return read_own(str(path), content, weights_only=weights_only)
    found = find_noted_state(str(path), content)
    unwrapped = unwrap(str(path), found.state)
    state, naming = recognise_wrapped(unwrapped.state)
    if naming is None:
        first = ", ".join(shown(name) for name in list(state)[:3])
        raise UserError(
            f"{path}: not an X3D network: its {len(state)} weights are called {first}, ...; wanted "
            "names of this project, SlowFast, pytorchvideo or mmaction2"
        )
    ours, unknown = to_own_names(state, naming)
    return ModelFile(str(path), ours, naming, unknown, notes=found.notes + unwrapped.notes)


def read_own(path: str, content: Mapping[str, Any], *, weights_only: bool) -> ModelFile:
    """Check and unpack a file that says it is of this project's format."""
    version = content.get("version")
    if type(version) is not int or version != FORMAT_VERSION:
        raise UserError(
            f"{path}: format version {brief(version)}, this program reads {FORMAT_VERSION}"
        )
    said = SavedValues(path, content)
    unwrapped = unwrap(path, read_state(path, said))
    network, labels, sampling = (said.raw(key) for key in ("network", "label_map", "sampling"))
    training = None if weights_only else said.raw("training", None)
    file = ModelFile(
        path,
        state=unwrapped.state,
        naming="own",
        network=None if network is None else checked_network(path, network),
        classes=None if labels is None else ClassList(**checked_classes(path, labels)),
        sampling=None if sampling is None else FrameSampling(**checked_sampling(path, sampling)),
        config=checked_config(path, said.raw("config")),
        training={} if training is None else dict(said.within("training").items()),
        notes=unwrapped.notes,
    )
    check_classes(path, file.state, file.classes)
    return file


def read_state(path: str, said: SavedValues, name: str = "model_state") -> dict[str, Tensor]:
    """Return the weights under a key of a file of this project's, checked."""
    state = dict(said.within(name).items())
    for key, value in state.items():
        if not isinstance(value, Tensor):
            said.refuse(f"{name}.{key}", value, "a tensor is")
    check_weights(path, state)
    return state


def check_classes(path: str, state: Mapping[str, Tensor], classes: ClassLabels | None) -> None:
    """Raise `UserError` when a label map has another number of classes than the class layer."""
    weight = state.get(CLASS_WEIGHT)
    if classes is None or weight is None:
        return
    if weight.ndim != 2:
        raise UserError(f"{path}: its class layer is no matrix")
    if len(classes.names) != len(weight):
        raise UserError(
            f"{path}: the label map has {len(classes.names)} classes, the network {len(weight)}"
        )
    if len(classes.ids) != len(classes.names):
        raise UserError(f"{path}: {len(classes.names)} class names but {len(classes.ids)} ids")


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
