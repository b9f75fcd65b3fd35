"""Initial weights of a grown network, from the one it was grown from."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch
from torch import Tensor

from detection.checkpoints.file import read_checkpoint, save_model_file
from detection.checkpoints.load import build_network
from detection.models.x3d import X3DDescription


def write_shared_weights(description: X3DDescription, parent_run: Path, path: Path) -> None:
    """Write a checkpoint of the network, initialised from its parent's last weights.

    Of a grown tensor the first rows and columns are the parent's and the rest is random; new blocks
    are random, and start as their shortcut. Raises `UserError` for an unreadable checkpoint.
    """
    source = parent_run / "checkpoints" / "last.pt"
    file = read_checkpoint(source, weights_only=True)
    assert file.network is not None  # a run's own checkpoint
    network = dataclasses.replace(file.network, trunk=description)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        state = build_network(network, source=str(source)).state_dict()
    for name, tensor in file.state.items():
        if name in state:
            copy_shared(state[name], tensor)
    save_model_file(
        path,
        state,
        network=network,
        classes=file.classes,
        sampling=file.sampling,
        short_side_px=file.short_side_px,
    )


def copy_shared(grown: Tensor, parent: Tensor) -> None:
    """Copy the common leading part of two tensors of the same rank."""
    if grown.ndim != parent.ndim:
        raise ValueError(f"tensors of {grown.ndim} and {parent.ndim} axes share nothing")
    common = tuple(map(slice, map(min, grown.shape, parent.shape)))
    with torch.no_grad():
        grown[common] = parent[common].to(grown.dtype)
