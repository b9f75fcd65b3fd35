"""The six axes along which a network grows, one at a time (X3D paper, section 3.2).

Each axis is a ladder of discrete values (rungs): whole frames, pixels, channels, blocks. A step
grows one axis until the cost has grown by about `factor`, as nearly as the rungs allow; backward
contraction shrinks it again until the cost fits the target.
"""

from __future__ import annotations

import dataclasses
import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from detection.models.x3d import X3DDescription

Axis = Literal["frame_rate", "frames", "resolution", "width", "bottleneck", "depth"]
Cost = Callable[[X3DDescription], float]

AXES: tuple[Axis, ...] = ("frame_rate", "frames", "resolution", "width", "bottleneck", "depth")
SYMBOLS: dict[Axis, str] = {
    "frame_rate": "gamma_tau",
    "frames": "gamma_t",
    "resolution": "gamma_s",
    "width": "gamma_w",
    "bottleneck": "gamma_b",
    "depth": "gamma_d",
}
TOLERANCE = 0.15

_PIXELS = 4  # resolution is a multiple of it
_FACTOR = 0.05  # spacing of the rungs of width, bottleneck and depth
_FARTHEST = 64  # largest growth of an axis in a step


@dataclass(frozen=True)
class DataLimits:
    """Limits of the videos.

    longest_clip_s: seconds that the frames of a clip may span.
    fastest_fps: frame rate of the videos.
    largest_side_px: the short side of the videos.
    """

    longest_clip_s: float = math.inf
    fastest_fps: float = math.inf
    largest_side_px: float = math.inf

    def refusal(self, description: X3DDescription) -> str | None:
        """Return why these videos cannot feed a network; None if they can."""
        span_s = description.sampling.span_s
        if span_s > self.longest_clip_s:
            return (
                f"{description.num_frames} frames span {span_s:.2f} s, the clips last "
                f"{self.longest_clip_s:.2f} s"
            )
        if description.num_frames > 1 and 30 / description.step > self.fastest_fps * (1 + 1e-6):
            return (
                f"{30 / description.step:.2f} frames a second are required, the videos "
                f"have {self.fastest_fps:.2f}"
            )
        if description.train_crop > self.largest_side_px:
            crop_px, side_px = description.train_crop, self.largest_side_px
            return f"{crop_px} px are required, the videos have {side_px:g}"
        return None


NO_LIMITS = DataLimits()


@dataclass(frozen=True)
class Grown:
    """A network grown along one axis.

    asked: the cost that was aimed at.
    """

    axis: Axis
    description: X3DDescription
    cost: float
    asked: float


@dataclass(frozen=True)
class SkippedAxis:
    """An axis that cannot take a step, and why."""

    axis: Axis
    reason: str


def expand(
    description: X3DDescription,
    axis: Axis,
    *,
    cost: Cost,
    factor: float = 2.0,
    limits: DataLimits = NO_LIMITS,
    tolerance: float = TOLERANCE,
) -> Grown | SkippedAxis:
    """Grow one axis until `cost` is about `factor` times what it was.

    Of the two rungs around the target cost the nearer one (by ratio) is chosen. The axis is skipped
    if that is further than `tolerance` from the target cost, or beyond the limits of the videos.
    """
    if factor <= 1:
        raise ValueError(f"a step grows the cost: factor must be above 1, got {factor}")
    asked = factor * cost(description)
    return grow_to(description, axis, cost=cost, asked=asked, limits=limits, tolerance=tolerance)


def grow_to(
    description: X3DDescription,
    axis: Axis,
    *,
    cost: Cost,
    asked: float,
    limits: DataLimits = NO_LIMITS,
    tolerance: float = TOLERANCE,
) -> Grown | SkippedAxis:
    """Grow one axis until the cost is about `asked`, in the units of `cost`."""
    start, start_cost = rung(description, axis), cost(description)
    if cost(at_rung(description, axis, 2 * max(1, start))) == start_cost:
        return SkippedAxis(axis, "this axis does not change the cost")
    below, above = start, start + 1
    end = _FARTHEST * max(1, start)
    while above < end and cost(at_rung(description, axis, above)) < asked:
        below, above = above, min(end, start + 2 * (above - start))
    between = range(below + 1, above)
    below += bisect_left(between, asked, key=lambda i: cost(at_rung(description, axis, i)))
    found = [at_rung(description, axis, index) for index in (below, below + 1) if index > start]
    best = min(found, key=lambda one: abs(math.log(cost(one) / asked)))
    refusal, reached = limits.refusal(best), cost(best)
    if refusal is None and abs(reached / asked - 1) > tolerance:
        refusal = f"rounding: the nearest cost is {reached / asked:.2f} of what was asked"
    return Grown(axis, best, reached, asked) if refusal is None else SkippedAxis(axis, refusal)


def contract(grown: Grown, before: X3DDescription, *, cost: Cost, target: float) -> Grown:
    """Shrink the last expansion alone until the cost is at most `target` (backward contraction).

    before: the network before the step.
    Raises ValueError if that one costs more already.
    """
    if cost(before) > target:
        raise ValueError(f"the network before the step costs {cost(before):g}, above {target:g}")
    if grown.cost <= target:
        return grown
    axis, low = grown.axis, rung(before, grown.axis)
    between = range(low + 1, rung(grown.description, axis))
    steps = bisect_right(between, target, key=lambda i: cost(at_rung(before, axis, i)))
    found = at_rung(before, axis, low + steps) if steps else before
    return Grown(axis, found, cost(found), target)


def rung(description: X3DDescription, axis: Axis) -> int:
    """Return the rung of a network on an axis, rounded down."""
    if axis in ("frame_rate", "frames"):
        return description.num_frames
    if axis == "resolution":
        return description.train_crop // _PIXELS
    return int(getattr(description, f"{axis}_factor") / _FACTOR + 1e-6)


def at_rung(description: X3DDescription, axis: Axis, index: int) -> X3DDescription:
    """Return the network with one axis moved to a rung, all others unchanged.

    `frames`: longer clips at the same frame rate. `frame_rate`: the same duration with more frames.
    `resolution`: the crop, with the short sides of training and test in the paper's proportions
    (8/7 to 10/7 of the crop).
    """
    if axis == "frames":
        return dataclasses.replace(description, num_frames=index)
    if axis == "frame_rate":
        duration = description.num_frames * description.step
        return dataclasses.replace(description, num_frames=index, step=duration / index)
    if axis == "resolution":
        return with_crop(description, index * _PIXELS)
    changed: dict[str, Any] = {f"{axis}_factor": round(index * _FACTOR, 2)}
    return dataclasses.replace(description, **changed)


def with_crop(description: X3DDescription, crop_px: int) -> X3DDescription:
    """Return the network with another training crop and short sides in the paper's proportions."""
    return dataclasses.replace(
        description,
        train_crop=crop_px,
        train_short_side=(8 * crop_px // 7, 10 * crop_px // 7),
        test_crop=8 * crop_px // 7,
    )


def axis_value(description: X3DDescription, axis: Axis) -> str:
    """Return the value of an axis in words."""
    if axis == "frames":
        return f"{description.num_frames} frames"
    if axis == "frame_rate":
        return f"{30 / description.step:.3g} frames a second"
    if axis == "resolution":
        return f"{description.train_crop} px"
    return f"{getattr(description, f'{axis}_factor'):g}"
