"""What training minimises."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy


def action_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Binary cross-entropy per actor and class, a mean over both; 0 with a gradient for no actors.

    logits, labels: (R, A), labels 0 or 1.
    """
    return summed_action_loss(logits, labels) / max(1, labels.numel())


def summed_action_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum where `action_loss` has the mean: (R, A) logits and labels -> scalar.

    Sums of parts can be added before they are divided by all terms; means of parts cannot.
    """
    if logits.shape != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} differ")
    return binary_cross_entropy_with_logits(logits.float(), labels.float(), reduction="sum")


def summed_clip_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum over clips of the cross-entropy: (B, K) logits and labels -> scalar.

    labels: one 1 a row, the other columns 0.
    """
    if logits.shape != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} differ")
    return cross_entropy(logits.float(), labels.float(), reduction="sum")
