"""What a run has saved."""

from __future__ import annotations

from pathlib import Path

import torch


def weights_of(run: Path) -> dict[str, torch.Tensor]:
    """Return the weights of a run's last checkpoint."""
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model_state"]
