"""Two baselines for the search: other ways from the same basis to the same cost."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import Any

from detection.errors import UserError
from detection.expansion.axes import (
    AXES,
    NO_LIMITS,
    TOLERANCE,
    Axis,
    Cost,
    DataLimits,
    Grown,
    contract,
    expand_all,
    grow_to,
)
from detection.expansion.report import Finalist
from detection.expansion.scheduler import Scheduler
from detection.expansion.search import Search, TrainingRequest
from detection.models.x3d import X3DDescription

# Frames have the coarsest rungs, so they come first and the finer axes compensate.
_COARSE_FIRST: tuple[Axis, ...] = (
    "frames",
    "frame_rate",
    "resolution",
    "depth",
    "width",
    "bottleneck",
)


def grow_all_together(
    basis: X3DDescription,
    *,
    cost: Cost,
    target: float,
    axes: Sequence[Axis] = AXES,
    limits: DataLimits = NO_LIMITS,
) -> X3DDescription:
    """Grow every axis by an equal share of the cost, as in compound scaling.

    An axis that is limited by the data or by rounding passes its share on. The network costs at
    most `target`.
    """
    current, start = basis, cost(basis)
    order = [axis for axis in _COARSE_FIRST if axis in axes]
    last: tuple[Grown, X3DDescription] | None = None
    for number, axis in enumerate(order, start=1):
        asked = start * (target / start) ** (number / len(order))
        if asked <= cost(current):
            continue
        result = grow_to(current, axis, cost=cost, asked=asked, limits=limits, tolerance=math.inf)
        if isinstance(result, Grown):
            last = (result, current)
            current = result.description
    if last is not None and cost(current) > target:
        current = contract(*last, cost=cost, target=target).description
    return current


def grow_at_random(
    basis: X3DDescription,
    *,
    cost: Cost,
    target: float,
    seed: int,
    factor: float = 2.0,
    axes: Sequence[Axis] = AXES,
    limits: DataLimits = NO_LIMITS,
    tolerance: float = TOLERANCE,
) -> tuple[X3DDescription, tuple[Axis, ...]]:
    """Take the search's steps along random axes; return network and path.

    Axes are drawn among those that can take the step; the last one is contracted to fit `target`.
    """
    draw = random.Random(seed)
    current, path = basis, []
    while cost(current) < target:
        grown, _ = expand_all(
            current,
            axes,
            cost=cost,
            target=target,
            factor=factor,
            limits=limits,
            tolerance=tolerance,
        )
        if not grown:
            raise UserError(f"no axis can grow any further, at {cost(current):g} of {target:g}")
        chosen = draw.choice(grown)
        path.append(chosen.axis)
        if chosen.cost > target:
            chosen = contract(chosen, current, cost=cost, target=target)
            return chosen.description, tuple(path)
        current = chosen.description
    return current, tuple(path)


def train_finalists(
    search: Search, scheduler: Scheduler, *, draws: int, seeds: Sequence[int]
) -> list[Finalist]:
    """Train the network of a finished search and the baselines again, from random weights.

    draws: number of random paths.
    seeds: of training; others than the search's, for which its network was selected.
    """
    bounds: dict[str, Any] = {
        "cost": search.cost,
        "target": search.target,
        "axes": search.axes,
        "limits": search.limits,
    }
    ways = [("the search", search.current.description)]
    ways.append(("all axes together", grow_all_together(search.basis, **bounds)))
    for draw in range(draws):
        network, path = grow_at_random(
            search.basis,
            seed=draw,
            factor=search.factor,
            tolerance=search.tolerance,
            **bounds,
        )
        ways.append((f"random draw {draw} ({', '.join(path)})", network))
    again = dataclasses.replace(
        scheduler, folder=scheduler.folder.parent / "finalists", seeds=seeds, initial=None
    )
    outcomes = again([TrainingRequest(network) for _, network in ways])
    return [
        Finalist(way, network, search.cost(network), outcome)
        for (way, network), outcome in zip(ways, outcomes, strict=True)
    ]
