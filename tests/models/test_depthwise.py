"""The fast depthwise convolutions are `nn.Conv3d`, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.models.depthwise import DepthwiseConv3d, TemporalConv3d


def compare(ours: nn.Conv3d, shape: tuple[int, ...], *, channels_last: bool) -> None:
    stock = nn.Conv3d(
        ours.in_channels,
        ours.out_channels,
        ours.kernel_size,
        stride=ours.stride,
        padding=ours.padding,
        groups=ours.groups,
        bias=False,
        dtype=torch.float64,
    )
    ours = ours.double()
    stock.load_state_dict(ours.state_dict())
    generator = torch.Generator().manual_seed(0)
    results = []
    for layer in (ours, stock):
        features = torch.randn(shape, generator=generator.manual_seed(1), dtype=torch.float64)
        if channels_last:
            features = features.contiguous(memory_format=torch.channels_last_3d)
        features.requires_grad_()
        out = layer(features)
        weights = torch.randn(out.shape, generator=generator.manual_seed(2), dtype=torch.float64)
        (out * weights).sum().backward()
        results.append((out.detach(), features.grad, layer.weight.grad))
    for mine, theirs in zip(*results, strict=True):
        assert mine.shape == theirs.shape
        torch.testing.assert_close(mine, theirs, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("frames", [1, 2, 3, 5])
@pytest.mark.parametrize("size", [(1, 1), (1, 2), (4, 4), (5, 6), (7, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_3x3x3_equals_the_stock_convolution(stride, frames, size, channels_last):
    layer = DepthwiseConv3d(6, stride=stride)
    compare(layer, (2, 6, frames, *size), channels_last=channels_last)


@pytest.mark.parametrize("frames", [1, 2, 7])
@pytest.mark.parametrize("size", [(1, 1), (4, 5)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_5x1x1_equals_the_stock_convolution(frames, size, channels_last):
    compare(TemporalConv3d(4), (3, 4, frames, *size), channels_last=channels_last)


def test_a_batch_of_no_clips_and_gradients_for_one_side_only():
    layer = DepthwiseConv3d(3, stride=2)
    assert layer(torch.zeros(0, 3, 2, 8, 8)).shape == (0, 3, 2, 4, 4)
    layer.weight.requires_grad_(False)
    features = torch.randn(1, 3, 2, 8, 8, requires_grad=True)
    layer(features).sum().backward()
    assert features.grad is not None and layer.weight.grad is None
    layer.weight.requires_grad_(True)
    layer(features.detach()).sum().backward()
    assert layer.weight.grad is not None


def test_only_the_strides_of_x3d_are_taken():
    with pytest.raises(ValueError, match="stride must be 1 or 2, got 3"):
        DepthwiseConv3d(3, stride=3)
