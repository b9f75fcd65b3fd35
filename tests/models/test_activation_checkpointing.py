"""Recomputed blocks: the same numbers from less memory."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from detection.models.x3d import X3DDescription, X3DTrunk

TINY = X3DDescription(2, 1, 32, (32, 32), 32, width_factor=0.5, depth_factor=1.0)


def step(trunk: X3DTrunk, clips: Tensor) -> tuple[Tensor, list[Tensor], int]:
    """Return outputs, gradients and the bytes kept for the way back."""
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        features = trunk(clips)
    kept_bytes = sum(kept.values())
    features.square().mean().backward()
    gradients = [p.grad for p in trunk.parameters() if p.grad is not None]
    return features.detach(), gradients, kept_bytes


def test_recomputing_changes_neither_outputs_nor_gradients_nor_statistics():
    torch.manual_seed(0)
    plain = X3DTrunk(TINY).train()
    with torch.no_grad():
        for name, parameter in plain.named_parameters():
            if name.endswith("project_norm.weight"):
                parameter.fill_(0.5)  # at 0 the blocks would be skipped by their shortcut
    saving = copy.deepcopy(plain)
    saving.checkpoint_activations = True
    clips = torch.randn(2, 3, 2, 32, 32)
    for _ in range(2):
        one, ours, whole = step(plain, clips)
        other, theirs, less = step(saving, clips)
        assert torch.equal(one, other)
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
        assert less < 0.6 * whole
    state = saving.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(value, state[name]), name
    assert saving.stem.norm.momentum == saving.stages[0][0].expand_norm.momentum == 0.1


def test_scoring_is_not_touched():
    trunk = X3DTrunk(TINY).eval()
    clips = torch.randn(1, 3, 2, 32, 32)
    expected = trunk(clips)
    trunk.checkpoint_activations = True
    assert torch.equal(trunk(clips), expected)
