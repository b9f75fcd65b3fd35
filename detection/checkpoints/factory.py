"""A network as plain numbers and back, so that a checkpoint alone is enough to build it."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from detection.checkpoints.file import CLASS_WEIGHT, FrameSampling, ModelFile
from detection.checkpoints.load import load_state
from detection.checkpoints.saved_values import checked_network
from detection.errors import UserError
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.classifier import X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS, X3DDescription

Network = ActionDetector | X3DClassifier
MOST_PARAMETERS = 200_000_000  # the largest X3D has 11 million


def network_numbers(model: Network) -> dict[str, Any]:
    """Return the plain numbers that `build_network` makes the same network from."""
    description = dataclasses.asdict(model.trunk.description)
    description["train_short_side"] = list(description["train_short_side"])
    numbers = {
        "task": "actions" if isinstance(model, ActionDetector) else "classification",
        "x3d": description,
        "num_classes": model.head.classes.out_features,
        "hidden": model.head.hidden.out_features,
        "dropout": model.head.dropout.p,
        "pixel_mean": model.pixels.mean,
        "pixel_std": model.pixels.std,
    }
    if isinstance(model, ActionDetector):
        numbers["res5_stride"] = model.trunk.res5_stride
        numbers["roi_size"] = model.head.roi_size
        numbers["roi_pool"] = model.head.roi_pool
        numbers["context"] = model.head.context
        numbers["unit_features"] = model.head.unit_features
        numbers["exclusive"] = model.head.exclusive
    return numbers


def build_network(numbers: Mapping[str, Any], *, source: str) -> Network:
    """Build a network from what `network_numbers` returned; `source` is named in errors.

    Raises `UserError` for numbers that make no network, or one of more than `MOST_PARAMETERS`.
    """
    values = checked_network(source, numbers)
    task = values.pop("task")
    shape = values.pop("x3d")
    low, high = shape.pop("train_short_side")
    build: Callable[..., Network] = build_detector if task == "actions" else build_classifier
    try:
        description = X3DDescription(**shape, train_short_side=(low, high))
        with torch.device("meta"):
            size = sum(p.numel() for p in build(description, **values).parameters())
    except (ValueError, RuntimeError) as error:
        raise UserError(f"{source}: the network's numbers make no network ({error})") from error
    if size > MOST_PARAMETERS:
        raise UserError(
            f"{source}: the network's numbers make one of {size:,} parameters, at most "
            f"{MOST_PARAMETERS:,} are built"
        )
    return build(description, **values)


def load_network(
    file: ModelFile, *, variant: str | None = None, allow_unused: bool = False
) -> Network:
    """Build the network of a checkpoint and fill it, in eval mode, every weight matched.

    Files of other projects hold no numbers: their classification network is told by its shapes;
    `variant` says which of XS, S and M is meant, as these have the same shapes (default: M).
    allow_unused: weights that the network has no place for are left out.
    """
    numbers = file.network
    if numbers is None:
        name = variant or guess_variant(file)
        description = VARIANTS[name]
        if has_slowfast_widths(file.state):
            description = dataclasses.replace(description, width_divisor=1)
        rows = file.num_classes
        if rows is None:
            raise UserError(f"{file.path}: holds no class layer (head.classes)")
        if file.state[CLASS_WEIGHT].ndim != 2:
            raise UserError(f"{file.path}: its class layer is no matrix")
        numbers = {
            **network_numbers(_on_meta(description)),
            "num_classes": rows,
            "hidden": file.state[CLASS_WEIGHT].shape[1],
        }
    model = build_network(numbers, source=file.path)
    names = None if file.classes is None else file.classes.names
    report = load_state(model, file, class_names=names, allow_unused=allow_unused)
    if report.missing:
        raise UserError(f"{file.path}: holds no {report.missing[0]}")
    return model.eval()


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


def default_sampling(model: Network) -> FrameSampling:
    """Return how the network's description says that frames are to be taken."""
    description = model.trunk.description
    return FrameSampling(
        num_frames=description.num_frames,
        step=description.step,
        short_side_px=description.test_crop,
        pixel_mean=model.pixels.mean,
        pixel_std=model.pixels.std,
    )


def _on_meta(description: X3DDescription) -> X3DClassifier:
    with torch.device("meta"):
        return build_classifier(description)
