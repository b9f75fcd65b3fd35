"""Forward expansion by coordinate descent, then backward contraction (X3D paper, section 3.2).

The caller passes in functions that compute costs and train networks. The search is deterministic
given their results, so that a stopped one is resumed by running it again on stored results.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
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
    SkippedAxis,
    contract,
    expand,
)
from detection.models.x3d import X3DDescription


@dataclass(frozen=True)
class Outcome:
    """The result of training a network.

    scores: by seed.
    failure: why there are fewer than asked.
    """

    scores: tuple[float, ...] = ()
    failure: str | None = None

    @property
    def mean(self) -> float:
        """Mean over the seeds; minus infinity where a seed failed, so that it is never chosen."""
        if self.failure is not None or not self.scores or any(map(math.isnan, self.scores)):
            return -math.inf
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """Half of the range over the seeds; 0 where there is one seed."""
        return (max(self.scores) - min(self.scores)) / 2 if len(self.scores) > 1 else 0.0


@dataclass(frozen=True)
class TrainingRequest:
    """A network to be trained and scored.

    parent: the one it was grown from.
    """

    description: X3DDescription
    parent: X3DDescription | None = None


Train = Callable[[Sequence[TrainingRequest]], Sequence[Outcome]]


@dataclass(frozen=True)
class Candidate:
    """A network that was scored.  axis: None for the basis.  asked: the cost aimed at."""

    description: X3DDescription
    axis: Axis | None
    cost: float
    asked: float
    outcome: Outcome


@dataclass(frozen=True)
class Step:
    """One step: its candidates, the skipped axes, and the choice."""

    number: int
    candidates: tuple[Candidate, ...]
    left_out: tuple[SkippedAxis, ...] = ()
    chosen: int = 0  # of equal scores the first, in the order of the axes
    contraction: bool = False

    @property
    def choice(self) -> Candidate:
        """The candidate that became the current network."""
        return self.candidates[self.chosen]


@dataclass
class Search:
    """A search: its axes, cost and limits, and its steps so far.

    words: formats a cost in errors.
    """

    basis: X3DDescription
    cost: Cost
    target: float
    factor: float = 2.0
    axes: Sequence[Axis] = AXES
    limits: DataLimits = NO_LIMITS
    tolerance: float = TOLERANCE
    words: Callable[[float], str] = "{:g}".format
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        start = self.cost(self.basis)
        if self.target < start:
            raise UserError(
                f"the target of {self.words(self.target)} lies below the basis, which costs "
                f"{self.words(start)}"
            )

    @property
    def current(self) -> Candidate:
        """The network that the last step chose."""
        return self.steps[-1].choice

    def run(self, train: Train) -> Iterator[Step]:
        """Yield each step when it is done: the basis, expansions, and a contraction if required.

        Raises `UserError` if no axis can take a step, or if every candidate of one failed.
        """
        self.steps.clear()
        yield self._add(0, [Grown(AXES[0], self.basis, self.cost(self.basis), math.nan)], (), train)
        while self.current.cost < self.target:
            grown, left_out = self.grow(self.current.description)
            yield self._add(len(self.steps), grown, tuple(left_out), train)
        if self.current.cost > self.target:
            yield self._contract(train)

    def grow(self, network: X3DDescription) -> tuple[list[Grown], list[SkippedAxis]]:
        """Grow each axis on its own; return the grown networks and the skipped axes.

        In the step that passes the target, an axis is also skipped if contraction would end further
        than `tolerance` below it (as from two frames to one), unless there are no others. Raises
        `UserError` if no axis can take a step.
        """
        grown, coarse, left_out = [], [], []
        rules: dict[str, Any] = {"limits": self.limits, "tolerance": self.tolerance}
        for axis in self.axes:
            result = expand(network, axis, cost=self.cost, factor=self.factor, **rules)
            if isinstance(result, SkippedAxis):
                left_out.append(result)
                continue
            share = contract(result, network, cost=self.cost, target=self.target).cost / self.target
            if result.cost > self.target and share < 1 - self.tolerance:
                reason = f"rounding: contracted, it would cost {share:.2f} of the target"
                coarse.append((result, SkippedAxis(axis, reason)))
            else:
                grown.append(result)
        if grown:
            return grown, left_out + [skipped for _, skipped in coarse]
        if not coarse:
            reasons = "; ".join(f"{one.axis}: {one.reason}" for one in left_out)
            raise UserError(
                f"no axis can grow any further, at {self.words(self.cost(network))} of "
                f"{self.words(self.target)} ({reasons})"
            )
        return [result for result, _ in coarse], left_out

    def _add(
        self, number: int, grown: Sequence[Grown], left_out: tuple[SkippedAxis, ...], train: Train
    ) -> Step:
        parent = self.current.description if self.steps else None
        outcomes = train([TrainingRequest(one.description, parent) for one in grown])
        candidates = tuple(
            Candidate(one.description, one.axis if number else None, one.cost, one.asked, outcome)
            for one, outcome in zip(grown, outcomes, strict=True)
        )
        means = [candidate.outcome.mean for candidate in candidates]
        if max(means) == -math.inf:
            first = candidates[0].outcome.failure
            raise UserError(f"every candidate of step {number} failed; the first: {first}")
        self.steps.append(Step(number, candidates, left_out, means.index(max(means))))
        return self.steps[-1]

    def _contract(self, train: Train) -> Step:
        last, before = self.steps[-1].choice, self.steps[-2].choice
        assert last.axis is not None
        grown = Grown(last.axis, last.description, last.cost, last.asked)
        fitted = contract(grown, before.description, cost=self.cost, target=self.target)
        outcome = train([TrainingRequest(fitted.description, before.description)])[0]
        candidate = Candidate(fitted.description, last.axis, fitted.cost, self.target, outcome)
        self.steps.append(Step(self.steps[-1].number, (candidate,), contraction=True))
        return self.steps[-1]
