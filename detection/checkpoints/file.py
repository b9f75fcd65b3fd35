"""Checkpoint files: this project's own, and the weights inside anybody's X3D file.

A given file is judged by its contents, never by its name, and never runs code: everything goes
through `weights_only=True`. Own files hold plain types only and say all that is needed to run:
the network's numbers, its classes, and how frames are to be sampled and normalised.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from detection.bounds import LARGEST_SIDE_PX, LARGEST_WHOLE, MOST_PIXELS, between
from detection.checkpoints.model_folder import ACTION_FORMAT, read_saved_content
from detection.checkpoints.plain_file import (
    SavedValues,
    brief,
    checked_config,
    find_checkpoint,
    read_plain,
    write_safetensors,
)
from detection.checkpoints.relevance_part import plain_relevance, read_relevance
from detection.checkpoints.weights import (
    Naming,
    check_weights,
    find_state,
    recognise_wrapped,
    shown,
    to_own_names,
    unwrap,
)
from detection.errors import UserError, printable
from detection.files import replacing
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription
from detection.models.x3d import X3DDescription
from detection.relevance import Relevance
from detection.structures import GROUND_TRUTH_BOXES, ClassThresholds, ClipSampling, LabelMap

Task = Literal["actions", "classification"]
FORMAT = ACTION_FORMAT
FORMAT_VERSION = 1
CLASS_WEIGHT = "head.classes.weight"


@dataclass(frozen=True)
class NetworkDescription:
    """The numbers that make a network: `detection.checkpoints.load.build_network` takes them.

    trunk: of the X3D trunk.
    head: of the actor head, or of the clip classification head; tells the task.
    res5_stride: spatial stride of res5 (action detectors).
    pixel_mean: of RGB scaled to [0, 1], every channel alike.
    pixel_std: likewise.
    """

    trunk: X3DDescription
    head: HeadDescription
    res5_stride: Literal[1, 2] = 2
    pixel_mean: float = between(-10, 10, 0.45)
    pixel_std: float = between(1e-6, 1e6, 0.225)

    @property
    def task(self) -> Task:
        """What the network is for."""
        return "actions" if isinstance(self.head, ActorHeadDescription) else "classification"

    def numbers(self) -> dict[str, Any]:
        """Return plain numbers by the keys of a checkpoint's `network`."""
        numbers: dict[str, Any] = {
            "task": self.task,
            "x3d": dataclasses.asdict(self.trunk)
            | {"train_short_side": list(self.trunk.train_short_side)},
            "num_classes": self.head.num_classes,
            "hidden": self.head.hidden,
            "dropout": self.head.dropout,
            "pixel_mean": self.pixel_mean,
            "pixel_std": self.pixel_std,
        }
        if self.task == "actions":
            numbers |= {"res5_stride": self.res5_stride} | dataclasses.asdict(self.head)
        return numbers


@dataclass(frozen=True)
class ModelFile:
    """What a checkpoint file says, under our names, checked.

    path: the file, for messages.
    state: weights by name.
    naming: whose names the file has.
    unknown: keys that are no weights of an X3D network.
    network: the numbers of the network; None in files of other projects.
    classes: what the columns of scores stand for; None where the file does not say.
    sampling: which frames a clip holds; None where the file does not say.
    short_side_px: of frames at test time; None where `sampling` is.
    config: the run's configuration as saved, which its own reader checks; None where there is none.
    training: what the trainer keeps, for `detection.engine` to check (own files).
    thresholds: the score from which each class is taken to be done; None where none were learned.
    relevance: which detected boxes are of people who are labelled; None where it was not fitted.
    notes: sentences on how the weights were found.
    """

    path: str
    state: dict[str, Tensor]
    naming: Naming
    unknown: tuple[str, ...] = ()
    network: NetworkDescription | None = None
    classes: LabelMap | None = None
    sampling: ClipSampling | None = None
    short_side_px: int | None = None
    config: dict[str, Any] | None = None
    training: dict[str, Any] = field(default_factory=dict)
    thresholds: ClassThresholds | None = None
    relevance: Relevance | None = None
    notes: tuple[str, ...] = ()

    @property
    def num_classes(self) -> int | None:
        """Rows of the class layer; None where the file has no class layer."""
        weight = self.state.get(CLASS_WEIGHT)
        return None if weight is None or not weight.ndim else len(weight)

    def box_score_threshold(self, *, default: float) -> float:
        """Return the confidence above which the run took detected boxes, by its configuration.

        default: of a run that took none: its configuration's number was never used.
        """
        data = SavedValues(self.path, dict(self.config or {}), "config").within("data", {})
        given = data.raw("val_boxes", GROUND_TRUTH_BOXES), data.raw("train_boxes", None)
        if given == (GROUND_TRUTH_BOXES, None):
            return default
        return data.number("box_score_threshold", 0, 1, default)

    @property
    def is_multi_label(self) -> bool:
        """Whether the run's clips have any number of classes, by its configuration."""
        config = SavedValues(self.path, dict(self.config or {}), "config")
        labels = config.within("classification", {}).one_of("labels", ("single", "multi"), "single")
        return bool(labels == "multi")


def save_model_file(
    path: str | Path,
    state: Mapping[str, Tensor],
    *,
    network: NetworkDescription | None,
    classes: LabelMap | None,
    sampling: ClipSampling | None,
    short_side_px: int | None = None,
    config: Mapping[str, Any] | None = None,
    training: Mapping[str, Any] | None = None,
    thresholds: ClassThresholds | None = None,
    relevance: Relevance | None = None,
    safetensors: bool = False,
) -> None:
    """Write a checkpoint of this project, whole or not at all.

    state: a network's state dict.  short_side_px: goes with `sampling`.  training: state of
    optimiser, schedule and random generators in plain types and tensors. Anything that
    `weights_only=True` could not read back is refused here.  thresholds: one for each of `classes`.
    safetensors: in that form, all but `training` as JSON in the metadata.
    """
    if classes is not None:
        check_class_layer(str(path), state, len(classes))
    form = {"format": FORMAT, "version": FORMAT_VERSION}
    facts = plain_facts(
        network=network,
        classes=classes,
        sampling=sampling,
        short_side_px=short_side_px,
        config=config,
        thresholds=thresholds,
        relevance=relevance,
    )
    if safetensors:
        write_safetensors(path, state, form | facts)
        return
    weights = {key: value.detach().cpu() for key, value in state.items()}
    values = form | {"model_state": weights} | facts | {"training": dict(training or {})}
    save_plain(path, values)


def plain_facts(
    *,
    network: NetworkDescription | None,
    classes: LabelMap | None,
    sampling: ClipSampling | None,
    short_side_px: int | None = None,
    config: Mapping[str, Any] | None = None,
    thresholds: ClassThresholds | None = None,
    relevance: Relevance | None = None,
) -> dict[str, Any]:
    """Return in plain types what is needed to run a network beside its weights.

    The arguments are those of `save_model_file`; `read_plain_facts` reads them back.
    """
    if thresholds is not None and (classes is None or len(thresholds) != len(classes)):
        raise ValueError(f"{len(thresholds)} thresholds do not fit the classes")
    facts: dict[str, Any] = {
        "network": None if network is None else network.numbers(),
        "label_map": None if classes is None else _plain_classes(classes),
        "sampling": None if sampling is None else _plain_sampling(sampling, short_side_px, network),
        "config": None if config is None else dict(config),
    }
    if thresholds is not None:
        facts["thresholds"] = _plain_thresholds(thresholds)
    if relevance is not None:
        facts["relevance"] = plain_relevance(relevance)
    return facts


def write_thresholds(path: str | Path, thresholds: ClassThresholds) -> None:
    """Put thresholds into a checkpoint of this project; the rest of the file stays as it is.

    Raises `UserError` for other files, safetensors among them.
    """
    content = read_plain(Path(path))
    if not isinstance(content, dict) or "training" not in content:
        raise UserError(f"{path}: not a run's checkpoint, thresholds can only be stored in one")
    classes = read_own(str(path), content, weights_only=True).classes
    if classes is None or len(classes) != len(thresholds):
        raise UserError(f"{path}: its classes are not the {len(thresholds)} of the thresholds")
    save_plain(path, {**content, "thresholds": _plain_thresholds(thresholds)})


def _plain_thresholds(thresholds: ClassThresholds) -> dict[str, Any]:
    def numbers(values: Sequence[float]) -> list[float | None]:
        return [None if math.isnan(value) else float(value) for value in values]

    return {
        "score": numbers(thresholds.score.tolist()),
        "precision": numbers(thresholds.precision.tolist()),
        "recall": numbers(thresholds.recall.tolist()),
        "examples": thresholds.examples.tolist(),
        "common": bool(thresholds.common),
        "times_person_score": bool(thresholds.times_person_score),
        "source": str(thresholds.source),
    }


def _plain_classes(classes: LabelMap) -> dict[str, Any]:
    return {
        "names": list(classes.names),
        "ids": [int(number) for number in classes.ids],
        "groups": None if classes.groups is None else list(classes.groups),
        "exclusive": {name: list(map(int, group)) for name, group in classes.exclusive.items()},
    }


def _plain_sampling(
    sampling: ClipSampling, short_side_px: int | None, network: NetworkDescription | None
) -> dict[str, Any]:
    assert short_side_px is not None, "a short side goes with the sampling"
    return {
        "num_frames": sampling.num_frames,
        "step": sampling.step,
        "short_side_px": short_side_px,
        "pixel_mean": 0.45 if network is None else network.pixel_mean,
        "pixel_std": 0.225 if network is None else network.pixel_std,
        "at_ends": sampling.at_ends,
        **({"stream": True} if sampling.stream else {}),  # else the file of before
    }


def save_plain(path: str | Path, values: Mapping[str, Any]) -> None:
    """Write with torch.save, whole or not at all; TypeError for what could not be read back."""
    _refuse_other_types(values, "checkpoint")
    # Through an open file: torch's own writer refuses some file names.
    with replacing(path) as temporary, temporary.open("wb") as opened:
        torch.save(dict(values), opened)


def read_model_file(path: str | Path, *, weights_only: bool = False) -> ModelFile:
    """Read a checkpoint of ours, SlowFast's, pytorchvideo's or mmaction2's (or safetensors).

    path: the file, a run folder (its last checkpoint), or a model folder (`model_folder.py`).
    `weights_only` drops the trainer's part.
    Raises `UserError` for whatever is not such a file, and for weights that are not finite.
    """
    path = find_checkpoint(path, what="file")
    content, notes = read_saved_content(path)
    if isinstance(content, dict) and content.get("format") == FORMAT:
        own = read_own(str(path), content, weights_only=weights_only)
        return dataclasses.replace(own, notes=own.notes + notes)
    found = find_state(str(path), content)
    unwrapped = unwrap(str(path), found.state)
    state, naming = recognise_wrapped(unwrapped.state)
    if naming is None:
        first = ", ".join(shown(name) for name in list(state)[:3])
        raise UserError(
            f"{path}: not an X3D network: its {len(state)} weights are called {first}, ...; names "
            "of this project, SlowFast, pytorchvideo or mmaction2 are required"
        )
    ours, unknown = to_own_names(state, naming)
    return ModelFile(str(path), ours, naming, unknown, notes=found.notes + unwrapped.notes)


def read_own(path: str, content: Mapping[str, Any], *, weights_only: bool) -> ModelFile:
    """Check and unpack a file that says it is of this project's format."""
    check_version(path, content, FORMAT_VERSION)
    said = SavedValues(path, content)
    unwrapped = unwrap(path, read_state(path, said))
    training = None if weights_only else said.raw("training", None)
    return dataclasses.replace(
        read_plain_facts(path, content, state=unwrapped.state),
        training={} if training is None else dict(said.within("training").items()),
        notes=unwrapped.notes,
    )


def read_plain_facts(
    path: str, content: Mapping[str, Any], *, state: Mapping[str, Tensor]
) -> ModelFile:
    """Check what `plain_facts` returned, and hold it against the weights, if any."""
    said = SavedValues(path, content)
    network, labels, sampling = (said.raw(key) for key in ("network", "label_map", "sampling"))
    clip, short_side_px = (None, None) if sampling is None else _sampling(path, sampling)
    classes = None if labels is None else _classes(path, labels, state)
    return ModelFile(
        path,
        state=dict(state),
        naming="own",
        network=None if network is None else read_network(path, network),
        classes=classes,
        sampling=clip,
        short_side_px=short_side_px,
        config=checked_config(path, said.raw("config")),
        thresholds=_thresholds(said, classes),
        relevance=read_relevance(path, said),
    )


def check_version(path: str, content: Mapping[str, Any], known: int) -> None:
    """Raise `UserError` for a file of this project's in a version other than the known one."""
    version = content.get("version")
    if type(version) is not int or version != known:
        raise UserError(f"{path}: format version {brief(version)}, this program reads {known}")


def read_network(path: str, values: Any) -> NetworkDescription:
    """Return the numbers of a network as a file states them; `UserError` names what is wrong."""
    said = SavedValues(path, values, "network")
    kind = ActorHeadDescription if said.one_of("task", get_args(Task)) == "actions" else None
    trunk, head = said.within("x3d"), kind or HeadDescription
    trunk.refuse_others([field.name for field in dataclasses.fields(X3DDescription)])
    try:
        network = NetworkDescription(
            X3DDescription(**trunk.fields(X3DDescription)),
            head(**said.fields(head)),
            **said.fields(NetworkDescription),
        )
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{path}: the network's numbers make no network ({error})") from error
    said.refuse_others(network.numbers())
    return network


def _sampling(path: str, values: Any) -> tuple[ClipSampling, int]:
    """Return which frames a clip holds, and their short side in pixels."""
    said = SavedValues(path, values, "sampling")
    fields = said.fields(ClipSampling)
    try:
        sampling = ClipSampling(**fields)
    except ValueError as error:
        raise UserError(f"{path}: a damaged checkpoint: {error}") from error
    side = said.whole("short_side_px", 1, LARGEST_SIDE_PX)
    said.number("pixel_mean", -10, 10, 0.45)  # stated once more in `network`, which counts
    said.number("pixel_std", 1e-6, 1e6, 0.225)
    said.refuse_others(
        ("num_frames", "step", "at_ends", "stream", "short_side_px", "pixel_mean", "pixel_std")
    )
    if sampling.num_frames * side**2 > MOST_PIXELS:
        raise UserError(
            f"{path}: a damaged checkpoint: sampling asks for {sampling.num_frames} frames of "
            f"{side} x {side} pixels, at most {MOST_PIXELS:,} pixels in all are required"
        )
    return sampling, side


def _classes(path: str, values: Any, state: Mapping[str, Tensor]) -> LabelMap:
    """Return the classes that a file states, as many as its class layer has rows."""
    said = SavedValues(path, values, "label_map")
    names = said.texts("names")
    ids = said.wholes("ids", 0, LARGEST_WHOLE)
    groups = None if said.raw("groups", None) is None else said.texts("groups")
    exclusive = {}
    if said.raw("exclusive", None) is not None:
        by_name = said.within("exclusive")
        exclusive = {name: by_name.wholes(name, 0, len(names) - 1) for name in by_name.names()}
    said.refuse_others(("names", "ids", "groups", "exclusive"))
    for what, listed in (("names", names), ("ids", ids)):
        first = {value: len(listed) - 1 - i for i, value in enumerate(reversed(listed))}
        for index, value in enumerate(listed):
            if first[value] < index:
                said.refuse(f"{what}[{index}]", value, "one that no class before has is")
    if groups is not None and len(groups) != len(names):
        said.refuse("groups", groups, f"a group for each of the {len(names)} classes is")
    members = [column for group in exclusive.values() for column in group]
    if len(set(members)) < len(members):
        said.refuse("exclusive", exclusive, "each column once in exclusive groups is")
    check_class_layer(path, state, len(names))
    try:
        return LabelMap(names, ids, groups, exclusive)
    except ValueError as error:
        raise UserError(f"{path}: a damaged checkpoint: label_map: {error}") from error


def _thresholds(whole: SavedValues, classes: LabelMap | None) -> ClassThresholds | None:
    """Return the thresholds that a file states, one for each of its classes."""
    if whole.raw("thresholds", None) is None:
        return None
    said = whole.within("thresholds")
    parts = ("score", "precision", "recall", "examples")
    said.refuse_others((*parts, "common", "times_person_score", "source"))
    numbers: dict[str, list[float]] = {}
    for name in parts:
        values = said.listed(name)
        if classes is None or len(values) != len(classes):
            required = f"a number for each of the {0 if classes is None else len(classes)} classes"
            said.refuse(name, values, f"{required} is")
        if name == "examples":
            numbers[name] = list(said.wholes(name, 0, LARGEST_WHOLE))
            continue
        numbers[name] = [math.nan if value is None else value for value in values]
        for index, value in enumerate(values):
            unmeasured = value is None and name != "score"
            if not unmeasured and not (type(value) in (int, float) and 0 <= value <= 1):
                said.refuse(f"{name}[{index}]", value, "a number from 0 to 1 is")
    source = said.raw("source")
    if type(source) is not str:
        said.refuse("source", source, "a text is")
    score, precision, recall, examples = (np.array(numbers[name]) for name in parts)
    return ClassThresholds(
        score,
        precision,
        recall,
        examples,
        common=said.flag("common"),
        times_person_score=said.flag("times_person_score"),
        source=printable(source),
    )


def read_checkpoint(file_or_run: str | Path, *, weights_only: bool = False) -> ModelFile:
    """Read a checkpoint of this project that holds a network, its classes and its sampling."""
    file = read_model_file(find_checkpoint(file_or_run), weights_only=weights_only)
    if file.network is None or file.classes is None or file.sampling is None:
        raise UserError(
            f"{file.path}: holds weights ({file.naming} names) but no network, classes and "
            "sampling; start a run from it with model.pretrained instead"
        )
    return file


def read_state(path: str, said: SavedValues, name: str = "model_state") -> dict[str, Tensor]:
    """Return the weights under a key of a file of this project's, checked."""
    state = dict(said.within(name).items())
    for key, value in state.items():
        if not isinstance(value, Tensor):
            said.refuse(f"{name}.{key}", value, "a tensor is")
    check_weights(path, state)
    return state


def check_class_layer(path: str, state: Mapping[str, Tensor], num_classes: int) -> None:
    """Raise `UserError` when a label map has another number of classes than the class layer."""
    weight = state.get(CLASS_WEIGHT)
    if weight is None:
        return
    if weight.ndim != 2:
        raise UserError(f"{path}: its class layer is no matrix")
    if num_classes != len(weight):
        raise UserError(
            f"{path}: the label map has {num_classes} classes, the network {len(weight)}"
        )


def _refuse_other_types(value: Any, place: str) -> None:
    """Raise TypeError where a value is no plain type: such a file could not be opened safely."""
    if value is None or type(value) in (bool, int, float, str, bytes, torch.dtype):
        return
    if isinstance(value, Tensor):
        return
    if isinstance(value, Mapping) and type(value) in (dict, OrderedDict):
        for key, item in value.items():
            _refuse_other_types(key, f"{place} (a key)")
            _refuse_other_types(item, f"{place}[{key!r}]")
    elif isinstance(value, Sequence) and type(value) in (list, tuple):
        for index, item in enumerate(value):
            _refuse_other_types(item, f"{place}[{index}]")
    else:
        raise TypeError(f"{place} is a {type(value).__name__}; checkpoints hold plain types only")
