"""Bytes to normalised floats, on the device the network runs on."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class PixelNorm(nn.Module):
    """(x / 255 - mean) / std on every channel alike.

    Frames travel as bytes (a quarter of the traffic) and become floats here. Holds no parameters
    and no buffers, so it leaves a state dict as it is.
    """

    def __init__(self, mean: float = 0.45, std: float = 0.225) -> None:
        super().__init__()
        if not std > 0:
            raise ValueError(f"pixel_std must be above 0, got {std}")
        self.mean = mean
        self.std = std

    def forward(self, frames: Tensor) -> Tensor:
        """Any shape of uint8 -> float32 of the same shape."""
        if frames.dtype != torch.uint8:
            raise TypeError(f"frames must be uint8 RGB, got {frames.dtype}")
        return frames.float().div_(255).sub_(self.mean).div_(self.std)
