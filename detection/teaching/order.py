"""Who is to be labelled next."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

# Where so many of the labelled people do none of the actions, finding examples comes first.
MANY_DO_NONE = 0.1


def suggest_order(
    scores: NDArray[np.floating],
    labelled_counts: NDArray[np.integer],
    *,
    num_none: int,
    num_labelled: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks, the first to be labelled first.

    scores: (T, A) probabilities of undecided tracks.  labelled_counts: (A,) examples so far.
    num_none: labelled people who do none of the actions, of num_labelled.  seed: of random turns.

    Where everybody does something it is `likely_order`. Where `MANY_DO_NONE`, that order would ask
    about those who do nothing, whose probabilities are all alike: there `doubtful_order`, which
    finds examples, and random order, which finds actions without any, come by turns; while no
    action has an example the order is random.

    Both were chosen by a simulated annotator (`benchmarks/teach_order.py`, docs/results.md).
    """
    if num_none <= MANY_DO_NONE * num_labelled:
        return likely_order(scores, labelled_counts)
    shuffled = np.random.default_rng(seed).permutation(len(scores))
    if not np.any(labelled_counts):
        return shuffled
    by_turns = np.stack([doubtful_order(scores, labelled_counts), shuffled], axis=1).reshape(-1)
    _, first = np.unique(by_turns, return_index=True)
    return by_turns[np.sort(first)]


def likely_order(
    scores: NDArray[np.floating], labelled_counts: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks that takes likely actions in turns, the least certain first.

    The turn is that of the action with the fewest examples: each track counts as an example of its
    likely action once it is in the order, so that ten tracks are not ten of one kind. Within an
    action the order is by the margin of the two best probabilities (of one action alone, the
    nearest to a half). Tracks that are alike keep their order.
    """
    probabilities = _checked(scores, labelled_counts)
    likely = probabilities.argmax(1)
    ranked = np.argsort(_sureness(probabilities), kind="stable")
    turn = np.zeros(len(probabilities), np.int64)
    for column in np.unique(likely).tolist():
        members = ranked[likely[ranked] == column]
        turn[members] = labelled_counts[column] + np.arange(len(members))
    return ranked[np.argsort(turn[ranked], kind="stable")]


def doubtful_order(
    scores: NDArray[np.floating], labelled_counts: NDArray[np.integer]
) -> NDArray[np.int64]:
    """Return the (T,) order of tracks that takes actions in turns, each where it is in doubt.

    The turn is that of the action with the fewest examples, those in the order counted in; it takes
    the track whose probability of it is nearest to a half. While an action is hardly known that is
    where it is likeliest. Actions without an example have no turn: without any, tracks keep their
    order.
    """
    probabilities = _checked(scores, labelled_counts)
    shown = np.flatnonzero(labelled_counts)
    if not len(shown):
        return np.arange(len(probabilities))
    nearest = np.argsort(np.abs(probabilities[:, shown] - 0.5), axis=0, kind="stable")
    counts = [int(labelled_counts[column]) for column in shown]
    queues = [iter(column.tolist()) for column in nearest.T]
    taken: set[int] = set()
    order: list[int] = []
    for _ in range(len(probabilities)):
        turn = counts.index(min(counts))
        place = next(place for place in queues[turn] if place not in taken)
        counts[turn] += 1
        taken.add(place)
        order.append(place)
    return np.array(order, np.int64)


def _checked(
    scores: NDArray[np.floating], labelled_counts: NDArray[np.integer]
) -> NDArray[np.float64]:
    probabilities: NDArray[np.float64] = np.asarray(scores, np.float64)
    if scores.ndim != 2 or scores.shape[1:] != np.shape(labelled_counts) or not scores.shape[1]:
        raise ValueError(
            f"scores {scores.shape} and counts {np.shape(labelled_counts)} of the same classes, "
            "one at least, are required"
        )
    return probabilities


def _sureness(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (T,) how far the best class is from the next one."""
    if scores.shape[1] == 1:
        return np.abs(2 * scores[:, 0] - 1)
    best = np.partition(scores, -2, axis=1)
    return best[:, -1] - best[:, -2]
