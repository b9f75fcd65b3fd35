"""Signs of a broken network: what its scores say is not to be trusted, and why."""

from __future__ import annotations

import torch
from torch import nn

# A logit of 50 says that something is certain but for one case in 10^21.
LARGEST_LOGIT = 50.0
# How often a channel of a BatchNorm is multiplied at most: 1 where it was folded into weights, 12
# in a network trained on the demo, 316 where the variance is nothing beside BatchNorm's 1e-5.
LARGEST_GAIN = 100.0

_WHAT_TO_DO = (
    "its scores are not to be trusted; train again from sound weights with "
    "model.freeze_batch_norm=true"
)


def broken_signs(module: nn.Module, largest: float) -> tuple[str, ...]:
    """Return a line for each sign in a network and in the largest absolute logit it gave."""
    signs = (describe_thin_norm(module), describe_large_logits(largest))
    return tuple(line for line in signs if line is not None)


def describe_thin_norm(module: nn.Module) -> str | None:
    """Name the BatchNorm3d whose running variance is nearest to 0; None where none is too near.

    Dividing by nothing, such a layer multiplies every small difference: statistics of few clips, or
    a BatchNorm that was folded into weights and then trained as if it were live.
    """
    worst: tuple[float, float, str] | None = None
    for name, child in module.named_modules():
        if not isinstance(child, nn.BatchNorm3d) or child.running_var is None:
            continue
        gain = child.weight.detach().abs() / (child.running_var + child.eps).sqrt()
        place = int(gain.argmax())
        if worst is None or float(gain[place]) > worst[0]:
            worst = float(gain[place]), float(child.running_var[place]), name
    if worst is None or worst[0] <= LARGEST_GAIN:
        return None
    gain_there, variance, name = worst
    return (
        f"the network looks broken: the running variance of {name} is {variance:.1e}, near 0, so "
        f"that it multiplies a channel by {gain_there:.0f}; {_WHAT_TO_DO}"
    )


def describe_large_logits(largest: float) -> str | None:
    """Say that the largest absolute logit that was seen is beyond any sound one; else None."""
    if largest <= LARGEST_LOGIT:
        return None
    return (
        f"the network looks broken: its last layer, head.classes, gave a logit of {largest:.0f} "
        f"(sound ones stay within {LARGEST_LOGIT:.0f}): training diverged, or BatchNorm's "
        f"statistics are not those of its inputs; {_WHAT_TO_DO}, or with a smaller optim.lr"
    )


def largest_logit(logits: torch.Tensor) -> float:
    """Return the largest absolute value of (R, A) logits; 0 for none."""
    return float(logits.detach().abs().max()) if logits.numel() else 0.0
