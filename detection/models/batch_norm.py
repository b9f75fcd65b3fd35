"""BatchNorm that keeps its statistics while the rest of a network trains."""

from __future__ import annotations

import torch
from torch import nn


class FrozenBatchNorm3d(nn.BatchNorm3d):
    """BatchNorm that stays in eval mode through `.train()`; same state dict as its model."""

    def train(self, mode: bool = True) -> FrozenBatchNorm3d:
        """Stay in eval mode whatever is asked."""
        return super().train(False)


def freeze_batch_norm_3d(module: nn.Module, *, freeze_affine: bool = False) -> int:
    """Make every BatchNorm3d inside `module` keep its statistics; return how many there are.

    Needed where BatchNorm was folded into the weights of a checkpoint (its statistics then mean
    nothing) and where batches are too small to estimate them. `freeze_affine` also stops training
    gamma and beta. Call it before the optimiser is made: parameters stay the same objects.
    """
    count = 0
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, nn.BatchNorm3d):
                continue
            frozen = child
            if not isinstance(child, FrozenBatchNorm3d):
                frozen = FrozenBatchNorm3d(child.num_features, eps=child.eps, device="meta")
                frozen.momentum = child.momentum
                for key, parameter in child.named_parameters():
                    frozen.register_parameter(key, parameter)
                for key, buffer in child.named_buffers():
                    frozen.register_buffer(key, buffer)
                setattr(parent, name, frozen)
            frozen.eval()
            if freeze_affine:
                frozen.requires_grad_(False)
            count += 1
    return count


def has_folded_batch_norm(module: nn.Module) -> bool:
    """Say whether every BatchNorm3d inside `module` was folded into the weights around it.

    What remains of one is a bias: gamma 1, mean 0, one variance for all channels. Its statistics
    are not those of its inputs, and estimating them anew changes the network. A fresh network,
    which has no bias either, is not folded.
    """
    norms = [child for child in module.modules() if isinstance(child, nn.BatchNorm3d)]
    return any(bool(norm.bias.any()) for norm in norms) and all(map(_is_folded, norms))


def _is_folded(norm: nn.BatchNorm3d) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None and variance is not None
    one = torch.ones_like(norm.weight)
    same = torch.full_like(variance, float(variance[0]))
    return torch.equal(norm.weight, one) and not bool(mean.any()) and torch.equal(variance, same)
