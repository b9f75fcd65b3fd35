"""A linear probe: the last layer fitted to what a network already sees, before anything else moves.

Legend: R actors, A classes, F features that the last layer takes.

Logistic regressions, one a class and independent of each other, are convex: the best last layer for
given features is found, not approached by epochs of small steps from random weights. Fine-tuning
that starts from there bends good features less (Kumar et al., "Fine-Tuning can Distort Pretrained
Features and Underperform Out-of-Distribution", ICLR 2022).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from detection.errors import UserError
from detection.evaluation.thresholds import HeldOutScores
from detection.models.action_detector import ActionDetector
from detection.models.inference import prepare_for_inference
from detection.structures import Batch

FOLDS = 5  # parts of the videos; each is scored by a layer that was fitted to the other four

# A fit to the same people differs by rounding alone; to others it is another layer.
_SAME_LAYER = 0.02


@dataclass(frozen=True)
class ProbeRows:
    """What a probe was fitted to.

    features: (R, F).  labels: (R, A) of 0 and 1.  videos: (R,) ids.
    """

    features: Tensor
    labels: Tensor
    videos: Sequence[str]

    def fit(self, parts: Sequence[int], l2: float) -> tuple[Tensor, Tensor]:
        """Return the last layer, see `fit_linear`."""
        return fit_linear(self.features, self.labels, parts=parts, l2=l2)

    def scores(self, weights: Tensor, biases: Tensor) -> Tensor:
        """Return the (R, A) probabilities of a last layer."""
        return torch.sigmoid(self.features @ weights.T + biases)

    def are_of(self, model: ActionDetector, l2: float) -> bool:
        """Say whether a network's last layer is the one that is fitted to these people."""
        last = model.head.classes
        mine = self.scores(last.weight.detach().cpu(), last.bias.detach().cpu())
        fitted = self.scores(*self.fit(model.head.feature_parts, l2))
        return bool((mine - fitted).abs().max() < _SAME_LAYER)

    def held_out(self, parts: Sequence[int], l2: float, *, name: str) -> HeldOutScores | None:
        """Score each video by layers of the others; None where no class has two videos.

        name: of the data, in words.
        """
        ids, index = np.unique(np.asarray(self.videos), return_inverse=True)
        scores = scores_out_of_fold(self.features, self.labels, index.reshape(-1), parts, l2)
        if not bool(torch.isfinite(scores).any()):
            return None
        source = (
            f"{name} out of fold ({min(FOLDS, len(ids))} folds of {len(ids)} videos, "
            f"{len(scores)} people at keyframes)"
        )
        return HeldOutScores(scores.double().numpy(), self.labels.numpy() > 0, source)


@torch.no_grad()
def collect_features(
    model: ActionDetector,
    batches: Iterable[Batch],
    *,
    device: torch.device,
    videos: list[str] | None = None,
) -> tuple[Tensor, Tensor]:
    """Return (R, F) features of every actor and their (R, A) labels, on the CPU.

    videos: takes the id of each actor's video.
    Features are those of evaluation: no dropout, BatchNorm's stored statistics.
    """
    model = prepare_for_inference(model)
    features = [torch.zeros(0, model.head.classes.in_features)]
    labels = [torch.zeros(0, model.head.classes.out_features)]
    for batch in batches:
        inputs = (values.to(device, non_blocking=True) for values in batch.inputs)
        features.append(model.actor_features(*inputs).float().cpu())
        labels.append(batch.labels)
        if videos is not None:
            for keyframe, boxes in zip(batch.keyframes, batch.boxes, strict=True):
                videos += [keyframe.video_id] * len(boxes)
    return torch.cat(features), torch.cat(labels)


def fit_linear(
    features: Tensor, labels: Tensor, *, parts: Sequence[int], l2: float, iterations: int = 100
) -> tuple[Tensor, Tensor]:
    """Return weights (A, F) and biases (A,) of logistic regressions, one a class.

    features: (R, F), labels: (R, A) of 0 and 1.  parts: widths that add up to F, features of
    different kinds (a person's, the whole frame's): each is centred and brought to a mean squared
    length of 1, so that a kind with small numbers counts as much as one with large numbers; the
    weights returned are for features as they are.  l2: on the squared weights of scaled features,
    beside the loss summed over classes and averaged over actors.  iterations: most steps of L-BFGS.
    """
    if len(features) != len(labels) or sum(parts) != features.shape[1]:
        raise ValueError(
            f"features {tuple(features.shape)}, labels {tuple(labels.shape)} and parts "
            f"{tuple(parts)} do not fit"
        )
    if not len(features):
        raise UserError("a linear probe needs actors to learn from, its keyframes hold none")
    centre = features.mean(0)
    scale = torch.cat(
        [
            part.square().sum(1).mean().sqrt().clamp(min=1e-12).expand(part.shape[1])
            for part in torch.split(features - centre, list(parts), dim=1)
        ]
    )
    scaled = (features - centre) / scale
    share = labels.mean(0).clamp(1 / (len(labels) + 1), 1 - 1 / (len(labels) + 1))
    weights = torch.zeros(labels.shape[1], features.shape[1], requires_grad=True)
    biases = share.logit().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [weights, biases],
        max_iter=iterations,
        history_size=10,
        tolerance_grad=1e-6,
        line_search_fn="strong_wolfe",
    )

    def loss_with_gradient() -> float:
        optimizer.zero_grad()
        logits = scaled @ weights.T + biases
        loss = binary_cross_entropy_with_logits(logits, labels, reduction="sum") / len(labels)
        loss = loss + 0.5 * l2 * weights.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    optimizer.step(loss_with_gradient)  # type: ignore[no-untyped-call]
    weights = weights.detach() / scale
    return weights, biases.detach() - weights @ centre


def set_last_layer(model: ActionDetector, weights: Tensor, biases: Tensor) -> None:
    """Put weights (A, F) and biases (A,) into the network."""
    with torch.no_grad():
        model.head.classes.weight.copy_(weights)
        model.head.classes.bias.copy_(biases)


def scores_out_of_fold(
    features: Tensor,
    labels: Tensor,
    video_index: NDArray[np.integer],
    parts: Sequence[int],
    l2: float,
    folds: int = FOLDS,
    *,
    learned: NDArray[np.bool_] | None = None,
) -> Tensor:
    """Return (R, A) probabilities of actors by layers that were fitted to other videos alone.

    features, labels, parts, l2: as in `fit_linear`.  video_index: (R,) the video of each actor; all
    actors of a video are in one fold, and there are no more folds than videos.  learned: (R,) which
    actors are fitted to (default: all); the others are scored all the same.

    Columns of classes whose examples lie in fewer than two videos are NaN: without its videos there
    is nothing to learn such a class from. With fewer than two videos all are.
    """
    index = np.unique(np.asarray(video_index), return_inverse=True)[1].reshape(-1)
    has_class = _videos_with_class(labels.numpy() > 0, index)
    scores = torch.full(labels.shape, torch.nan)
    chosen = np.ones(len(index), bool) if learned is None else np.asarray(learned, bool)
    if len(has_class) < 2:
        return scores
    fold = _folds_of_videos(has_class, min(folds, len(has_class)))[index]
    for number in np.unique(fold).tolist():
        inside = torch.from_numpy((fold != number) & chosen)
        held_out = torch.from_numpy(fold == number)
        if inside.any():
            weights, biases = fit_linear(features[inside], labels[inside], parts=parts, l2=l2)
            scores[held_out] = torch.sigmoid(features[held_out] @ weights.T + biases)
    scores[:, torch.from_numpy(has_class.sum(0) < 2)] = torch.nan
    return scores


def _videos_with_class(
    labels: NDArray[np.bool_], video_index: NDArray[np.integer]
) -> NDArray[np.bool_]:
    """Return (V, A) whether a video has an example of a class, from (R, A) labels."""
    has_class = np.zeros((int(video_index.max(initial=-1)) + 1, labels.shape[1]), bool)
    np.logical_or.at(has_class, video_index, labels)
    return has_class


def _folds_of_videos(has_class: NDArray[np.bool_], folds: int) -> NDArray[np.int64]:
    """Return the (V,) fold of each video; the rarest classes are spread over the folds first."""
    fold = np.full(len(has_class), -1, np.int64)
    sizes = np.zeros(folds, np.int64)
    everything = np.ones((len(has_class), 1), bool)  # videos without any class come last
    spread = has_class[:, np.argsort(has_class.sum(0), kind="stable")]
    for column in np.concatenate([spread, everything], axis=1).T:
        with_class = np.bincount(fold[column & (fold >= 0)], minlength=folds)
        for video in np.flatnonzero(column & (fold < 0)).tolist():
            chosen = int(np.lexsort((sizes, with_class))[0])
            fold[video] = chosen
            with_class[chosen] += 1
            sizes[chosen] += 1
    return fold
