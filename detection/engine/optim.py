"""The learning rate as a function of the update."""

from __future__ import annotations

import math

import torch


def schedule_factor(
    update: int,
    *,
    total_updates: int,
    schedule: str,
    warmup_updates: int = 0,
    warmup_start: float = 0.1,
    milestone_updates: tuple[int, ...] = (),
    plateau_drops: int = 0,
) -> float:
    """Return the factor on the peak learning rate for the `update`-th update (from 0).

    During warm-up the factor rises linearly from `warmup_start` to 1. `cosine` falls from there to
    0 at `total_updates`; `step` is divided by 10 at each milestone; `plateau` by 10 for each drop
    so far; `constant` stays.
    """
    if update < warmup_updates:
        return warmup_start + (1.0 - warmup_start) * update / warmup_updates
    if schedule == "cosine":
        share = (update - warmup_updates) / max(1, total_updates - warmup_updates)
        return 0.5 * (1.0 + math.cos(math.pi * min(1.0, share)))
    if schedule == "step":
        return 0.1 ** sum(update >= milestone for milestone in milestone_updates)
    if schedule == "plateau":
        return 0.1**plateau_drops
    if schedule == "constant":
        return 1.0
    raise ValueError(f"schedule {schedule!r} is not one of cosine, step, plateau, constant")


def set_learning_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its learning rate: `lr` times the group's `lr_factor`."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_factor"]
