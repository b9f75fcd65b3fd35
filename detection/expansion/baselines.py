"""Two baselines for the search: other ways from the same basis to the same cost."""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence

from detection.expansion.axes import Axis, Grown, contract, grow_to
from detection.expansion.report import Finalist
from detection.expansion.scheduler import Scheduler
from detection.expansion.search import Search, TrainingRequest
from detection.models.x3d import X3DDescription

# Frames have the coarsest rungs, so they come first and the finer axes compensate.
_COARSE_FIRST: tuple[Axis, ...] = (
    "frames", "frame_rate", "resolution", "depth", "width", "bottleneck",
)  # fmt: skip


def grow_all_together(search: Search) -> X3DDescription:
    """Grow every axis of a search by an equal share of the cost, as in compound scaling.

    An axis that is limited by the data or by rounding passes its share on. The network costs at
    most the search's target.
    """
    cost, target = search.cost, search.target
    current, start = search.basis, cost(search.basis)
    order = [axis for axis in _COARSE_FIRST if axis in search.axes]
    last: tuple[Grown, X3DDescription] | None = None
    for number, axis in enumerate(order, start=1):
        asked = start * (target / start) ** (number / len(order))
        if asked <= cost(current):
            continue
        result = grow_to(
            current, axis, cost=cost, asked=asked, limits=search.limits, tolerance=math.inf
        )
        if isinstance(result, Grown):
            last = (result, current)
            current = result.description
    if last is not None and cost(current) > target:
        current = contract(*last, cost=cost, target=target).description
    return current


def grow_at_random(search: Search, *, seed: int) -> tuple[X3DDescription, tuple[Axis, ...]]:
    """Take a search's steps along random axes; return network and path.

    Axes are drawn among those that can take the step; the last one is contracted to fit the target.
    """
    draw = random.Random(seed)
    current, path = search.basis, list[Axis]()
    while search.cost(current) < search.target:
        chosen = draw.choice(search.grow(current)[0])
        path.append(chosen.axis)
        if chosen.cost > search.target:
            fitted = contract(chosen, current, cost=search.cost, target=search.target)
            return fitted.description, tuple(path)
        current = chosen.description
    return current, tuple(path)


def train_finalists(
    search: Search, scheduler: Scheduler, *, draws: int, seeds: Sequence[int]
) -> list[Finalist]:
    """Train the network of a finished search and the baselines again, from random weights.

    draws: number of random paths.
    seeds: of training; others than the search's, for which its network was selected.
    """
    ways = [("the search", search.current.description)]
    ways.append(("all axes together", grow_all_together(search)))
    for draw in range(draws):
        network, path = grow_at_random(search, seed=draw)
        ways.append((f"random draw {draw} ({', '.join(path)})", network))
    again = dataclasses.replace(
        scheduler, folder=scheduler.folder.parent / "finalists", seeds=seeds, initial=None
    )
    outcomes = again([TrainingRequest(network) for _, network in ways])
    return [
        Finalist(way, network, search.cost(network), outcome)
        for (way, network), outcome in zip(ways, outcomes, strict=True)
    ]
