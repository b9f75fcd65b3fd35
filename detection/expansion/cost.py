"""What a network costs: multiply-adds, parameters, or milliseconds on this machine."""

from __future__ import annotations

import functools

import torch

from detection.expansion.axes import Cost
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.classifier import X3DClassifier, build_classifier
from detection.models.counting import count_macs, count_parameters
from detection.models.timing import time_and_memory
from detection.models.x3d import X3DDescription


def macs_cost(*, num_classes: int, actors: bool = False) -> Cost:
    """Count multiply-adds of one clip at the train crop on the network built for it, as the paper.

    actors: the actor head with one person in place of the clip head.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            model = _build(description, num_classes, actors)
        inputs = _inputs(description, actors, "meta")
        return float(sum(count_macs(model.eval(), lambda: model(*inputs)).values()))

    return cost


def parameter_cost(*, num_classes: int, actors: bool = False) -> Cost:
    """Count parameters without those of BatchNorm, as the paper does."""

    @functools.cache
    def cost(description: X3DDescription) -> float:
        with torch.device("meta"):
            model = _build(description, num_classes, actors)
        return float(count_parameters(model).without_norm)

    return cost


def milliseconds_cost(
    *, num_classes: int, actors: bool = False, device: torch.device, repeats: int = 7
) -> Cost:
    """Measure the median milliseconds of one clip at the train crop on this machine, as it is now.

    Every network is measured once; noise of the machine goes into the answer.
    """

    @functools.cache
    def cost(description: X3DDescription) -> float:
        model = _build(description, num_classes, actors).eval().to(device)
        inputs = [part.to(device) for part in _inputs(description, actors, "cpu")]

        @torch.inference_mode()
        def run() -> None:
            model(*inputs)

        return 1e3 * time_and_memory(run, device=device, repeats=repeats)[0]

    return cost


def _build(
    description: X3DDescription, num_classes: int, actors: bool
) -> ActionDetector | X3DClassifier:
    if actors:
        return build_detector(description, num_classes=num_classes)
    return build_classifier(description, num_classes=num_classes)


def _inputs(description: X3DDescription, actors: bool, device: str) -> list[torch.Tensor]:
    side = description.train_crop
    shape = (1, 3, description.num_frames, side, side)
    frames = torch.zeros(shape, dtype=torch.uint8, device=device)
    if not actors:
        return [frames]
    return [frames, torch.tensor([[0.0, 0.0, 0.0, side, side]], device=device)]
