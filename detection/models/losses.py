"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits


def action_loss(logits: Tensor, labels: Tensor, *, num_actors: float | None = None) -> Tensor:
    """Binary cross-entropy per actor and class, a mean over both; 0 with a gradient for nobody.

    logits, labels: (R, A), labels 0 or 1. `num_actors` replaces R in the mean: with several
    processes give the mean of R over them, so that averaged gradients weigh every actor alike.
    """
    if logits.shape != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} differ")
    actors = logits.shape[0] if num_actors is None else num_actors
    total = binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")
    return total / max(1.0, actors * logits.shape[1])
