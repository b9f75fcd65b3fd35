"""From a checkpoint file to a network: build it from numbers, fill it from weights of anybody's.

Strict by default: a weight of the trunk or of fc1 that would stay random is an error. Only the
class layer may start fresh, because the classes of the task are usually new.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from detection.checkpoints.file import CLASS_WEIGHT, ModelFile, NetworkDescription, read_model_file
from detection.checkpoints.hub import PUBLISHED, fetch_published, told_to_fetch_again
from detection.checkpoints.huggingface import local_source
from detection.checkpoints.weights import shown
from detection.errors import UserError
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription, X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS

Network = ActionDetector | X3DClassifier
MOST_PARAMETERS = 200_000_000  # the largest X3D has 11 million
CLASS_BIAS = "head.classes.bias"
CLASS_LAYER = (CLASS_WEIGHT, CLASS_BIAS)


def load_network(
    file: ModelFile, *, variant: str | None = None, allow_unused: bool = False
) -> Network:
    """Build the network of a checkpoint and fill it, in eval mode, every weight matched.

    Files of other projects hold no numbers: their classification network is told by its shapes;
    `variant` says which of XS, S and M is meant, as these have the same shapes (default: M).
    allow_unused: weights that the network has no place for are left out.
    """
    network = file.network or describe_foreign(file, variant or guess_variant(file))
    model = build_network(network, source=file.path)
    names = None if file.classes is None else file.classes.names
    report = load_state(model, file, class_names=names, allow_unused=allow_unused)
    if report.missing:
        raise UserError(f"{file.path}: holds no {report.missing[0]}")
    if report.wrong_shape:  # of the class layer: of all others `load_state` has said so
        name, found, own = report.wrong_shape[0]
        raise UserError(
            f"{file.path}: {name} is {list(found)}, its num_classes make it {list(own)}"
        )
    return model.eval()


def build_network(network: NetworkDescription, *, source: str) -> Network:
    """Build a network of random weights; `source` is named in errors.

    Raises `UserError` for numbers that make no network, or one of more than `MOST_PARAMETERS`.
    """
    try:
        with torch.device("meta"):
            size = sum(parameter.numel() for parameter in _build(network).parameters())
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source}: the network's numbers make no network ({error})") from error
    if size > MOST_PARAMETERS:
        raise UserError(
            f"{source}: the network's numbers make one of {size:,} parameters, at most "
            f"{MOST_PARAMETERS:,} are built"
        )
    return _build(network)


def _build(network: NetworkDescription) -> Network:
    pixels = {"pixel_mean": network.pixel_mean, "pixel_std": network.pixel_std}
    if isinstance(network.head, ActorHeadDescription):
        stride = network.res5_stride
        return build_detector(network.trunk, network.head, res5_stride=stride, **pixels)
    return build_classifier(network.trunk, network.head, **pixels)


class Described(Protocol):
    """A network that runs elsewhere, and knows its numbers."""

    description: NetworkDescription


def describe_network(model: Network | Described) -> NetworkDescription:
    """Return the numbers that `build_network` makes the same network from."""
    if not isinstance(model, Network):
        return model.description
    return NetworkDescription(
        model.trunk.description,
        model.head.description,
        res5_stride=model.trunk.res5_stride,
        pixel_mean=model.pixels.mean,
        pixel_std=model.pixels.std,
    )


def describe_foreign(file: ModelFile, variant: str) -> NetworkDescription:
    """Return the numbers of another project's classification network, by its shapes."""
    trunk = VARIANTS[variant]
    if has_slowfast_widths(file.state):
        trunk = dataclasses.replace(trunk, width_divisor=1)
    rows = file.num_classes
    if rows is None:
        raise UserError(f"{file.path}: holds no class layer (head.classes)")
    if file.state[CLASS_WEIGHT].ndim != 2:
        raise UserError(f"{file.path}: its class layer is no matrix")
    return NetworkDescription(trunk, HeadDescription(rows, file.state[CLASS_WEIGHT].shape[1]))


def guess_variant(file: ModelFile) -> str:
    """Name the variant by widths and depths (XS, S, M are alike: M); `UserError` if none fits."""
    depths = [0, 0, 0, 0]
    for key in file.state:
        match = re.match(r"trunk\.stages\.([0-3])\.(\d{1,4})\.expand\.weight", key)
        if match is not None:
            depths[int(match[1])] = max(depths[int(match[1])], int(match[2]) + 1)
    stem = file.state.get("trunk.stem.spatial.weight")
    first = file.state.get("trunk.stages.0.0.expand.weight")
    if stem is not None and first is not None:
        for name in ("m", "l", "xl", "x2d"):
            for divisor in (8, 1):
                description = dataclasses.replace(VARIANTS[name], width_divisor=divisor)
                if (
                    description.stage_depths == tuple(depths)
                    and description.stem_channels == len(stem)
                    and description.inner_channels[0] == len(first)
                ):
                    return name
    width = None if stem is None else len(stem)
    raise UserError(
        f"{file.path}: no known variant has {depths} blocks on a stem of {width} channels"
    )


def has_slowfast_widths(state: Mapping[str, Tensor]) -> bool:
    """Say whether an XL was built with SlowFast's rounding of widths (35, 70, 139, 278)."""
    xl = dataclasses.replace(VARIANTS["xl"], width_divisor=1)
    stem = state.get("trunk.stem.spatial.weight")
    return stem is not None and len(stem) == xl.stem_channels


@dataclass(frozen=True)
class LoadReport:
    """What went where, in our names.

    matched: copied as they are.  missing: left as the network had them.  unexpected: in the file,
    not in the network.  wrong_shape: (name, shape in the file, shape in the network).
    notes: sentences on what was done beyond copying.
    """

    source: str
    naming: str
    matched: tuple[str, ...]
    missing: tuple[str, ...] = ()
    unexpected: tuple[str, ...] = ()
    wrong_shape: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...] = ()
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.source} ({self.naming} names): {len(self.matched)} matched, "
            f"{len(self.missing)} missing, {len(self.unexpected)} unexpected, "
            f"{len(self.wrong_shape)} of wrong shape"
        ]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  missing: {name}" for name in self.missing]
        lines += [f"  unexpected: {shown(name)}" for name in self.unexpected]
        lines += [
            f"  wrong shape: {name}: {list(found)} in the file, {list(own)} in the network"
            for name, found, own in self.wrong_shape
        ]
        return "\n".join(lines)


def load_pretrained(
    model: nn.Module,
    path_or_name: str | Path,
    *,
    allow_random: Sequence[str] = (),
    allow_unused: bool | Sequence[str] = False,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Copy weights into an `ActionDetector` or `X3DClassifier`; the network changes wholly or not.

    path_or_name: a file, a run folder, a model folder, or a name in `PUBLISHED` or `hub:user/name`
    (fetched once).  allow_random:
    prefixes of our names ("trunk.stages.3") that may stay as they are.  allow_unused: weights of
    the file that the network has no place for are no error (a deeper variant, say), or only those
    whose names have one of these prefixes.  class_names: of the network's columns; where the file
    knows its own, the class layer is taken over by name, and classes that the file does not have
    keep their random rows.

    Raises `UserError` with the first of what does not fit.
    """
    if str(path_or_name) in PUBLISHED:
        path = fetch_published(str(path_or_name))
        with told_to_fetch_again(path):
            file = read_model_file(path, weights_only=True)
    else:
        file = read_model_file(local_source(path_or_name), weights_only=True)
    return load_state(
        model,
        file,
        allow_random=allow_random,
        allow_unused=allow_unused,
        class_names=class_names,
    )


def load_state(
    model: nn.Module,
    file: ModelFile,
    *,
    allow_random: Sequence[str] = (),
    allow_unused: bool | Sequence[str] = False,
    class_names: Sequence[str] | None = None,
) -> LoadReport:
    """Do the work of `load_pretrained` with a file that has been read."""
    plan = _Plan(file, dict(model.state_dict()), notes=list(file.notes))
    plan.complete_pytorchvideo_shortcut()
    plan.rename_classes(class_names)
    plan.fill_counters()
    report = plan.compare()
    _refuse(report, file, allow_random, allow_unused)
    model.load_state_dict({name: plan.found[name] for name in report.matched}, strict=False)
    return report


@dataclass
class _Plan:
    """The weights of a file, mended step by step until they can be compared with a network's."""

    file: ModelFile
    own: dict[str, Tensor]
    notes: list[str]
    found: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        self.found = dict(self.file.state)

    def complete_pytorchvideo_shortcut(self) -> None:
        """Add the one BatchNorm that pytorchvideo leaves out, as an identity."""
        prefix = "trunk.stages.0.0.shortcut_norm."
        if self.file.naming != "pytorchvideo" or f"{prefix}weight" in self.found:
            return
        weight = self.own.get(f"{prefix}weight")
        if weight is None:
            return
        self.found |= identity_norm(prefix, len(weight))
        self.notes.append(
            "pytorchvideo has no BatchNorm on the res2 shortcut: ours starts as an identity"
        )

    def rename_classes(self, class_names: Sequence[str] | None) -> None:
        """Take the class layer over by name; drop it where neither names nor size fit."""
        theirs = self.found.get(CLASS_WEIGHT)
        ours = self.own.get(CLASS_WEIGHT)
        known = self.file.classes.names if self.file.classes is not None else None
        if theirs is None or ours is None or CLASS_BIAS not in self.found:
            return
        if theirs.ndim != 2 or theirs.shape[1] != ours.shape[1]:
            self.notes.append(  # another width of fc1, or several features side by side
                f"class layer starts fresh: it has {list(theirs.shape)} weights in the file, "
                f"{list(ours.shape)} in the network"
            )
            return
        if known is None or class_names is None:
            if len(theirs) != len(ours):
                self._drop_classes(f"{len(theirs)} classes in the file, {len(ours)} required")
            return
        if tuple(class_names) == tuple(known):
            return
        rows = {name: row for row, name in enumerate(known)}
        pairs = [(j, rows[name]) for j, name in enumerate(class_names) if name in rows]
        if not pairs:
            self._drop_classes("no class of the file has the name of one that is required")
            return
        columns = torch.tensor([ours_row for ours_row, _ in pairs])
        sources = torch.tensor([file_row for _, file_row in pairs])
        for name in CLASS_LAYER:
            taken = self.own[name].clone()
            taken[columns] = self.found[name][sources].to(taken)
            self.found[name] = taken
        fresh = [name for name in class_names if name not in rows]
        self.notes.append(
            f"class layer by name: {len(pairs)} of {len(class_names)} classes taken over"
            + (f", fresh: {', '.join(fresh)}" if fresh else "")
        )

    def _drop_classes(self, why: str) -> None:
        for name in CLASS_LAYER:
            self.found.pop(name, None)
        self.notes.append(f"class layer starts fresh: {why}")

    def fill_counters(self) -> None:
        """BatchNorm's counters of batches are of no consequence; old files lack them."""
        for name, tensor in self.own.items():
            norm = name.removesuffix("num_batches_tracked")
            if norm != name and name not in self.found and f"{norm}running_mean" in self.found:
                self.found[name] = torch.zeros_like(tensor)

    def compare(self) -> LoadReport:
        """Match names and shapes."""
        common = self.found.keys() & self.own.keys()
        wrong = {name for name in common if self.found[name].shape != self.own[name].shape}
        return LoadReport(
            source=self.file.path,
            naming=self.file.naming,
            matched=tuple(name for name in self.own if name in common - wrong),
            missing=tuple(name for name in self.own if name not in common),
            unexpected=tuple(n for n in self.found if n not in common) + self.file.unknown,
            wrong_shape=tuple(
                (name, tuple(self.found[name].shape), tuple(self.own[name].shape))
                for name in self.own
                if name in wrong
            ),
            notes=tuple(self.notes),
        )


def _refuse(
    report: LoadReport,
    file: ModelFile,
    allow_random: Sequence[str],
    allow_unused: bool | Sequence[str],
) -> None:
    """Raise `UserError` for a weight that would stay random or unused without being asked for."""
    allowed = (*CLASS_LAYER, *allow_random)

    def unasked(name: str) -> bool:
        return not any(name == prefix or name.startswith(prefix) for prefix in allowed)

    wrong = [item for item in report.wrong_shape if unasked(item[0])]
    if wrong:
        name, found, own = wrong[0]
        raise UserError(
            f"{report.source}: {len(wrong)} weights of another shape, first {name}: {list(found)} "
            f"in the file, {list(own)} in the network{_explain_width(found, name)}"
        )
    missing = [name for name in report.missing if unasked(name)]
    if missing:
        raise UserError(
            f"{report.source}: {len(missing)} weights would stay random, first {missing[0]} "
            f"({len(report.matched)} matched); is it this variant?"
        )
    if allow_unused is True:
        return
    spared = tuple(allow_unused or ())
    unused = [n for n in report.unexpected if unasked(n) and not n.startswith(spared)]
    if unused:
        raise UserError(
            f"{report.source}: {len(unused)} weights have no place in the network, first "
            f"{shown(unused[0])} ({len(report.matched)} matched); is it this variant? "
            "model.allow_unused=true (--allow-unused of convert and inspect_model) leaves them "
            "out, a list of beginnings of names leaves out those"
        )


def _explain_width(found: tuple[int, ...], name: str) -> str:
    """Say so when a file has the widths that SlowFast's rounding gives X3D-XL."""
    if name.startswith("trunk.stem.spatial") and found[0] == 35:
        return (
            " (SlowFast rounds XL's widths to 35, 70, 139, 278; build the network with "
            "width_divisor=1 for this file)"
        )
    return ""


def identity_norm(prefix: str, channels: int, *, eps: float = 1e-5) -> dict[str, Tensor]:
    """Return the state of a BatchNorm that changes nothing in eval mode."""
    return {
        f"{prefix}weight": torch.ones(channels),
        f"{prefix}bias": torch.zeros(channels),
        f"{prefix}running_mean": torch.zeros(channels),
        f"{prefix}running_var": torch.full((channels,), 1.0 - eps),
        f"{prefix}num_batches_tracked": torch.zeros((), dtype=torch.int64),
    }


def fold_pytorchvideo_shortcut(
    state: Mapping[str, Tensor], *, eps: float = 1e-5
) -> dict[str, Tensor]:
    """Return our state without the BatchNorm that pytorchvideo leaves out, same answers in eval.

    Its scale goes into the shortcut's convolution; what it adds goes into the bias of the norm
    whose output the shortcut is added to.
    """
    block, norm = "trunk.stages.0.0.", "trunk.stages.0.0.shortcut_norm."
    folded = {name: value for name, value in state.items() if not name.startswith(norm)}
    if len(folded) == len(state):
        return folded
    values = {name.removeprefix(norm): v.double() for name, v in state.items() if norm in name}
    scale = values["weight"] / torch.sqrt(values["running_var"] + eps)
    shift = values["bias"] - values["running_mean"] * scale
    weight, bias = folded[f"{block}shortcut.weight"], folded[f"{block}project_norm.bias"]
    folded[f"{block}shortcut.weight"] = (weight * scale[:, None, None, None, None]).to(weight)
    folded[f"{block}project_norm.bias"] = (bias + shift).to(bias)
    return folded
