"""Parameters and multiply-adds of a network, counted from the network itself.

One multiply-add counts 1, as in the papers. Convolutions and linear layers count; norms,
activations, pooling and RoIAlign do not, as in the reference tables. Works on the meta device: no
memory and no arithmetic are spent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detection.models.action_detector import ActionDetector
from detection.models.classifier import X3DClassifier


@dataclass(frozen=True)
class ParameterCount:
    """How many parameters there are.

    all: every parameter.
    without_norm: gamma and beta of BatchNorm left out, as in X3D's paper.
    """

    all: int
    without_norm: int


@dataclass(frozen=True)
class StageCount:
    """One row of a network's table.

    name: of the stage.
    blocks: in it.
    output: its shape for one clip (or all its actors).
    parameters: of the stage.
    macs: multiply-adds of one clip.
    """

    name: str
    blocks: int
    output: tuple[int, ...]
    parameters: ParameterCount
    macs: int


def count_parameters(module: nn.Module) -> ParameterCount:
    """Count parameters, with and without those of BatchNorm."""
    everything = sum(parameter.numel() for parameter in module.parameters())
    norms = sum(
        parameter.numel()
        for norm in module.modules()
        if isinstance(norm, nn.BatchNorm3d)
        for parameter in norm.parameters(recurse=False)
    )
    return ParameterCount(everything, everything - norms)


def count_macs(module: nn.Module, run: Callable[[], object]) -> dict[str, int]:
    """Run once and return multiply-adds by the name of each convolution and linear layer.

    The numbers that come out of this run mean nothing: BatchNorm, which changes no shape and costs
    most of the time on the meta device, is passed by.
    """
    macs: dict[str, int] = {}

    def add(name: str, layer: nn.Module, _: object, output: Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        per_number = weight[0].numel() if len(weight) else 0
        macs[name] = macs.get(name, 0) + output.numel() * per_number

    hooks = [
        layer.register_forward_hook(functools.partial(add, name))
        for name, layer in module.named_modules()
        if isinstance(layer, nn.Conv3d | nn.Linear)
    ]
    norms = [layer for layer in module.modules() if isinstance(layer, nn.BatchNorm3d)]
    try:
        for norm in norms:
            norm.forward = nn.Identity().forward  # type: ignore[method-assign]
        with torch.no_grad():
            run()
    finally:
        for norm in norms:
            del norm.forward
        for handle in hooks:
            handle.remove()
    return macs


def count_stages(
    model: ActionDetector | X3DClassifier,
    *,
    num_frames: int,
    size_px: int | tuple[int, int],
    actors: int = 1,
) -> list[StageCount]:
    """Return a row for the stem, res2 to res5, conv5 and the head, for one clip.

    size_px: side of a square, or (height, width).  actors: people in the clip. The model may be
    (and had better be) on the meta device.
    """
    height, width = (size_px, size_px) if isinstance(size_px, int) else size_px
    device = next(model.parameters()).device
    inputs = [torch.zeros((1, 3, num_frames, height, width), dtype=torch.uint8, device=device)]
    if isinstance(model, ActionDetector):
        rois_px = torch.zeros((actors, 5), device=device)
        inputs.append(model.head.description.standing(rois_px, num_frames))
    stages: dict[str, tuple[str, ...]] = {"stem": ("trunk.stem",)}
    stages |= {f"res{i + 2}": (f"trunk.stages.{i}",) for i in range(len(model.trunk.stages))}
    stages |= {"conv5": ("trunk.final", "trunk.final_norm"), "head": ("head",)}
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str, layer: nn.Module, _: object, output: Tensor) -> None:
        shapes[name] = tuple(output.shape[1:]) if name != "head" else tuple(output.shape)

    hooks = [
        model.get_submodule(parts[0]).register_forward_hook(functools.partial(note, name))
        for name, parts in stages.items()
    ]
    was_training = model.training
    model.eval()
    try:
        macs = count_macs(model, lambda: model(*inputs))
    finally:
        model.train(was_training)
        for handle in hooks:
            handle.remove()
    return [_stage_count(model, name, parts, shapes[name], macs) for name, parts in stages.items()]


def _stage_count(
    model: nn.Module,
    name: str,
    parts: tuple[str, ...],
    output: tuple[int, ...],
    macs: dict[str, int],
) -> StageCount:
    modules = [model.get_submodule(part) for part in parts]
    inside = tuple(f"{part}." for part in parts)
    return StageCount(
        name=name,
        blocks=len(modules[0]) if isinstance(modules[0], nn.Sequential) else 1,
        output=output,
        parameters=count_parameters(nn.ModuleList(modules)),
        macs=sum(value for layer, value in macs.items() if f"{layer}.".startswith(inside)),
    )
