"""The written rule that fills networks and clips for the golden data: nothing but names and shapes.

Each number comes from PCG64's raw bits, whose stream numpy guarantees, seeded by the SHA-256 of a
name. Scales keep activations alive through 55 blocks in eval mode.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping

import numpy as np
import torch


def uniform(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers in [-1, 1), float64, decided by `name` alone."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "little")
    count = math.prod(shape)
    raw = np.random.PCG64(seed).random_raw(max(count, 1))[:count]
    return (raw.astype(np.float64) / 2.0**63 - 1.0).reshape(shape)


def weights(shapes: Mapping[str, torch.Size]) -> dict[str, torch.Tensor]:
    """A state dict for our names and shapes."""
    return {name: torch.from_numpy(_values(name, tuple(shape))) for name, shape in shapes.items()}


def _values(name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    values = uniform(name, shape)
    layer, leaf = name.split(".")[-2:]
    if leaf == "running_var":
        values = np.exp(0.3 * values)
    elif leaf == "running_mean" or (leaf == "bias" and layer.endswith("norm")):
        values = 0.2 * values
    elif layer.endswith("norm"):
        values = (0.3 if layer == "project_norm" else 1.0) * (1.0 + 0.2 * values)
    elif leaf == "bias":
        values = 0.1 * values
    else:  # He: variance 2 / fan in; a uniform number has variance 1 / 3
        values = values * math.sqrt(6.0 / math.prod(shape[1:]))
        if layer == "classes":  # logits that no single class wins
            values = 0.2 * values
    return values.astype(np.float32)


def clip(name: str, size: tuple[int, int, int], *, clips: int = 1) -> torch.Tensor:
    """(clips, 3, T, H, W) uint8 noise for `size` = (T, H, W)."""
    noise = uniform(f"clip/{name}/{size}", (clips, 3, *size))
    return torch.from_numpy(((noise + 1.0) * 128.0).astype(np.uint8))


def projection(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    """A fixed float32 tensor to sum something with."""
    return torch.from_numpy(uniform(f"projection/{name}", shape).astype(np.float32))


def normalised(frames: torch.Tensor) -> torch.Tensor:
    """What the reference networks are given for these bytes."""
    return frames.float().div(255).sub(0.45).div(0.225)


def relative(found: torch.Tensor | np.ndarray, expected: torch.Tensor | np.ndarray) -> float:
    """Largest difference as a share of the largest expected number."""
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return float(np.abs(found - expected).max() / np.abs(expected).max())
