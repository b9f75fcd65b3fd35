"""From decided people to a last layer, and what is known about each class.

Legend: R decided people at keyframes, A classes, F features that the last layer takes.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.engine.probe import fit_linear

# Logit of a class that has no example yet: a probability of 2e-9.
NEVER = -20.0

# Keyframes of one person who goes on doing the same are near copies. So many of such a stretch are
# learned from, evenly spaced: a sleeper of ten minutes must not outweigh all who wave for a second,
# and the fit stays a matter of seconds however long the videos are.
MOST_OF_A_STRETCH = 8


def choose_learned(
    track: NDArray[np.int64], time_us: NDArray[np.int64], labels: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """Return the (R,) mask of what is learned from: some of each stretch of a track.

    track: (R,) a number for each person of each video.  labels: (R, A); a stretch is what a person
    does from one keyframe to the next without a change.
    """
    order = np.lexsort((time_us, track))
    changes = np.ones(len(order), bool)
    same_track = track[order][1:] == track[order][:-1]
    same_labels = (labels[order][1:] == labels[order][:-1]).all(1)
    changes[1:] = ~(same_track & same_labels)
    learned = np.zeros(len(order), bool)
    for stretch in np.split(order, np.flatnonzero(changes)[1:]):
        count = min(len(stretch), MOST_OF_A_STRETCH)
        places = np.rint(np.linspace(0, len(stretch) - 1, count)).astype(int)
        learned[stretch[places]] = True
    return learned


def fit_shown_classes(
    features: Tensor, labels: Tensor, *, parts: Sequence[int], l2: float
) -> tuple[Tensor, Tensor]:
    """Return weights (A, F) and biases (A,): of `fit_linear` for classes that have an example.

    The others stay at `NEVER` whatever is seen.
    """
    weights = torch.zeros(labels.shape[1], features.shape[1])
    biases = torch.full((labels.shape[1],), NEVER)
    shown = labels.any(0)
    if shown.any():
        weights[shown], biases[shown] = fit_linear(features, labels[:, shown], parts=parts, l2=l2)
    return weights, biases


def probabilities(features: NDArray[np.float32], layer: tuple[Tensor, Tensor]) -> Tensor:
    """Return the (R, A) probabilities of a last layer's classes."""
    weights, biases = layer
    return torch.sigmoid(torch.from_numpy(features) @ weights.T + biases)
