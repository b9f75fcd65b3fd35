"""A Faster R-CNN for inference alone: BatchNorm in the weights, activations in place.

On a CPU the small networks' maps take an eighth less time so (`benchmarks/people_speed.py`).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.ops import FrozenBatchNorm2d

_NORMS = (nn.BatchNorm2d, FrozenBatchNorm2d)


def fold_for_inference(network: FasterRCNN) -> FasterRCNN:
    """Return a copy of a network that detects the same, but for rounding, in less time.

    The copy stands for the weights as they are now. It is in eval mode, cannot be trained and takes
    no other weights. A norm whose convolution is not known stays as it is.
    """
    with torch.inference_mode(False), torch.no_grad():
        folded = copy.deepcopy(network).eval().requires_grad_(False)
        for module in list(folded.modules()):
            for convolution, name in _pairs(module):
                norm = module.get_submodule(name)
                assert isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d)
                _fold(convolution, norm)
                setattr(module, name, nn.Identity())
            if isinstance(module, nn.ReLU | nn.Hardswish):
                module.inplace = True
        return folded.to(memory_format=torch.channels_last)


def _pairs(module: nn.Module) -> Iterator[tuple[nn.Conv2d, str]]:
    """Yield the convolutions right inside a module with the names of the norms of their outputs."""
    children = list(module.named_children())
    following = list(zip(children, children[1:], strict=False))
    if isinstance(module, BasicBlock | Bottleneck):  # their order is that of `forward`
        following = [pair for pair in following if pair[1][0] == f"bn{pair[0][0][-1]}"]
    elif not isinstance(module, nn.Sequential | nn.ModuleDict):
        return
    for (_, convolution), (name, norm) in following:
        if type(convolution) is nn.Conv2d and isinstance(norm, _NORMS):
            yield convolution, name


def _fold(convolution: nn.Conv2d, norm: nn.BatchNorm2d | FrozenBatchNorm2d) -> None:
    mean, variance = norm.running_mean, norm.running_var
    assert isinstance(mean, Tensor) and isinstance(variance, Tensor)
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    bias = norm.bias - mean * scale
    if convolution.bias is not None:
        bias = bias + convolution.bias * scale
    weight = convolution.weight * scale[:, None, None, None]
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    convolution.bias = nn.Parameter(bias, requires_grad=False)
