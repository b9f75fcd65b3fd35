"""Relevance fitted on a training split: which of a detector's boxes are of people with labels.

Legend: R boxes of all keyframes, F features.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from detection import build
from detection.config import RunConfig
from detection.datasets.actor_table import ActorTable, read_actor_table
from detection.datasets.folder import DatasetFolder
from detection.engine.probe import fit_linear
from detection.errors import UserError
from detection.relevance import FEATURES, BoxOrigin, Relevance, are_labelled, stack_features
from detection.structures import LabelMap

# Chosen by folds over source videos (benchmarks/relevance_folds.py): from 1e-5 to 1e-2 all is one.
RELEVANCE_L2 = 1e-3
# Features that vary by less are left out; scaled to the others they would be noise.
_LEAST_SPREAD = 1e-5


@dataclass(frozen=True)
class RelevanceRows:
    """What relevance is fitted to.

    features: (R, F).  labelled: (R,) of labelled people.  videos: (R,) numbers.
    keyframes, annotated: with boxes and ground truth both, of those with ground truth.
    """

    features: NDArray[np.float64]
    labelled: NDArray[np.bool_]
    videos: NDArray[np.int64]
    keyframes: int
    annotated: int


@dataclass(frozen=True)
class FittedRelevance:
    """A relevance just fitted, and the keyframes it was fitted at; see `RelevanceRows`."""

    relevance: Relevance
    keyframes: int
    annotated: int

    def __str__(self) -> str:
        return f"{self.relevance}, at {self.keyframes:,} of {self.annotated:,} annotated keyframes"


def fit_on_training_split(
    config: RunConfig, folder: DatasetFolder, label_map: LabelMap
) -> FittedRelevance:
    """Fit relevance to the training split's boxes of `data.val_boxes`.

    Raises `UserError` where there are none, and where boxes of one kind alone are.
    """
    data = config.data
    origin = build.find_relevance_boxes(config, folder)
    labelled = read_actor_table(
        folder,
        data.train_split,
        label_map,
        skip_unknown_labels=data.skip_unknown_labels,
        keep_empty=True,
    )
    detected = read_actor_table(
        folder,
        data.train_split,
        label_map,
        boxes=data.val_boxes,
        score_threshold=data.box_score_threshold,
    )
    rows = relevance_rows(detected, labelled)
    relevance = fit_relevance(
        rows,
        origin=origin,
        least_score=data.box_score_threshold,
        source=f"{detected.path} beside {labelled.path}",
    )
    return FittedRelevance(relevance, rows.keyframes, rows.annotated)


def relevance_rows(detected: ActorTable, labelled: ActorTable) -> RelevanceRows:
    """Return the boxes of keyframes that both tables have, in order."""
    annotated = {
        (labelled.video_names[video], time): position
        for position, (video, time) in enumerate(
            zip(labelled.video_index.tolist(), labelled.time_us.tolist(), strict=True)
        )
    }
    keyframes, right, videos = [], [np.zeros(0, bool)], []
    for position, (video, time) in enumerate(
        zip(detected.video_index.tolist(), detected.time_us.tolist(), strict=True)
    ):
        place = annotated.get((detected.video_names[video], time))
        if place is not None:
            boxes = detected.boxes(position)
            keyframes.append(boxes)
            right.append(are_labelled(boxes, labelled.boxes(place)))
            videos += [video] * len(boxes)
    return RelevanceRows(
        stack_features(keyframes),
        np.concatenate(right),
        np.array(videos, np.int64),
        keyframes=len(keyframes),
        annotated=len(labelled),
    )


def fit_relevance(
    rows: RelevanceRows, *, origin: BoxOrigin, least_score: float, source: str
) -> Relevance:
    """Fit the logistic regression of `detection.engine.probe` to features of equal spread.

    source: the files, for the `UserError` where boxes of one kind alone are.
    """
    found = int(rows.labelled.sum())
    if not 0 < found < len(rows.labelled):
        raise UserError(
            f"{source}: {found:,} of {len(rows.labelled):,} boxes from score {least_score:g} on, "
            f"at {rows.keyframes:,} annotated keyframes, are of labelled people; relevance needs "
            "some of both kinds (people.relevance=none does without)"
        )
    weights, bias = fit_weights(rows.features, rows.labelled)
    return Relevance(
        FEATURES,
        weights,
        bias,
        origin=origin,
        least_score=least_score,
        num_boxes=len(rows.labelled),
        num_labelled=found,
        num_videos=len(np.unique(rows.videos)),
    )


def fit_weights(
    features: NDArray[np.float64], labelled: NDArray[np.bool_], *, l2: float = RELEVANCE_L2
) -> tuple[NDArray[np.float64], float]:
    """Return (F,) weights and the bias for (R, F) features; 0 for features that do not vary."""
    varies = np.flatnonzero(features.std(0) > _LEAST_SPREAD)
    weights = np.zeros(features.shape[1])
    if not len(varies):
        return weights, float(np.log(labelled.mean() / (1 - labelled.mean())))
    # Centred before they are float32: the fit then tells small differences of large numbers.
    centre = features.mean(0)
    fitted, bias = fit_linear(
        torch.from_numpy((features - centre)[:, varies]).float(),
        torch.from_numpy(labelled[:, None]).float(),
        parts=[1] * len(varies),
        l2=l2,
    )
    weights[varies] = fitted[0].double().numpy()
    return weights, float(bias[0]) - float(weights @ centre)
