"""What a forward pass changes, kept so that a step that goes wrong can be taken back."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detection.engine.random_state import random_state, restore_random_state


class Rewind:
    """Remembers BatchNorm's statistics and the random states before an update's first pass.

    Weights need no keeping: they move only after the losses and gradients of an update have been
    looked at.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers: list[Tensor] = [
            buffer
            for module in model.modules()
            if isinstance(module, _BatchNorm) and module.training
            for buffer in module.buffers()
        ]
        self._kept = [buffer.clone() for buffer in self._buffers]
        self._random: dict[str, Any] = random_state()

    def mark(self) -> None:
        """Take note of how things are."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)
        self._random = random_state()

    @torch.no_grad()
    def go_back(self) -> None:
        """Put everything back as it was at the last mark."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)
        restore_random_state(self._random)
