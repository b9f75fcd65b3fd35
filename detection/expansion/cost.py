"""What a network costs: multiply-adds, parameters, or milliseconds on this machine.

Every cost is that of the network itself, built anew by `build`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch

from detection.expansion.axes import Cost
from detection.models.action_detector import ActionDetector
from detection.models.counting import count_macs, count_parameters
from detection.models.network import Network
from detection.models.timing import time_and_memory
from detection.models.x3d import X3DDescription

Build = Callable[[X3DDescription], Network]


def macs_cost(build: Build) -> Cost:
    """Count multiply-adds of one clip at the train crop, as the paper does.

    With an actor head one person is in the clip.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            model = build(description).eval()
        inputs = _inputs(model, description, "meta")
        return float(sum(count_macs(model, lambda: model(*inputs)).values()))

    return cost


def parameter_cost(build: Build) -> Cost:
    """Count parameters without those of BatchNorm, as the paper does."""

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            return float(count_parameters(build(description)).without_norm)

    return cost


def milliseconds_cost(build: Build, *, device: torch.device, repeats: int = 7) -> Cost:
    """Measure the median milliseconds of one clip at the train crop on this machine, as it is now.

    Every network is measured once; noise of the machine goes into the answer.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        model = build(description).eval().to(device)
        inputs = [part.to(device) for part in _inputs(model, description, "cpu")]

        @torch.inference_mode()
        def run() -> None:
            model(*inputs)

        return 1e3 * time_and_memory(run, device=device, repeats=repeats)[0]

    return cost


def _inputs(model: Network, description: X3DDescription, device: str) -> list[torch.Tensor]:
    side = description.train_crop
    shape = (1, 3, description.num_frames, side, side)
    frames = torch.zeros(shape, dtype=torch.uint8, device=device)
    if not isinstance(model, ActionDetector):
        return [frames]
    return [frames, torch.tensor([[0.0, 0.0, 0.0, side, side]], device=device)]
