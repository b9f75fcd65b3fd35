"""The paper's path from X2D to X3D-XL, step by step, with the cost of each network.

The order of the steps was reconstructed from the paper's figures; the costs confirm that each step
about doubles the cost.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from detection.expansion.axes import Axis, Cost, with_crop
from detection.models.x3d import VARIANTS, X3DDescription


@dataclass(frozen=True)
class PaperStep:
    """One row.  number: of the step, from 0; a contraction has that of the step it takes back.

    changes: fields of the description that the step sets.
    start: step whose network it changes.
    name: the published variant that it reaches, where it does.
    """

    number: int
    axis: Axis | None
    changes: Mapping[str, Any]
    start: int
    name: str = ""
    contraction: bool = False


PAPER_PATH: tuple[PaperStep, ...] = (
    PaperStep(0, None, {}, 0, "X2D"),
    PaperStep(1, "bottleneck", {"bottleneck_factor": 2.25}, 0),
    PaperStep(2, "frames", {"num_frames": 2}, 1),
    PaperStep(3, "resolution", {"train_crop": 160}, 2),
    PaperStep(4, "depth", {"depth_factor": 2.2}, 3),
    PaperStep(5, "frames", {"num_frames": 4}, 4, "X3D-XS"),
    PaperStep(6, "frames", {"num_frames": 8}, 5),
    PaperStep(7, "frames", {"num_frames": 16}, 6),
    PaperStep(7, "frames", {"num_frames": 13}, 7, "X3D-S", contraction=True),
    PaperStep(8, "resolution", {"train_crop": 224}, 7, "X3D-M"),
    PaperStep(9, "resolution", {"train_crop": 312}, 8),
    PaperStep(10, "depth", {"depth_factor": 5.0}, 9, "X3D-L"),
    PaperStep(11, "width", {"width_factor": 2.9}, 10, "X3D-XL"),
)


@dataclass(frozen=True)
class Replayed:
    """A step, the network after it, its cost, and the growth of the cost in this step."""

    step: PaperStep
    description: X3DDescription
    cost: float
    growth: float


def replay(cost: Cost, path: tuple[PaperStep, ...] = PAPER_PATH) -> Iterator[Replayed]:
    """Yield the network after every step of a path, with its cost."""
    after: dict[int, X3DDescription] = {path[0].number: VARIANTS["x2d"]}
    for step in path:
        start = after[step.start]
        description = start
        for name, value in step.changes.items():
            if name == "train_crop":
                description = with_crop(description, int(value))
            else:
                changed: dict[str, Any] = {name: value}
                description = dataclasses.replace(description, **changed)
        if not step.contraction:
            after[step.number] = description
        reached = cost(description)
        yield Replayed(step, description, reached, reached / cost(start))
