"""The convolutions of X3D are `nn.Conv3d`, in value and in gradient."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.models.convolutions import (
    DepthwiseConv3d,
    PointwiseConv3d,
    SpatialConv3d,
    TemporalConv3d,
    convolve_and_normalise,
    gated_swish,
)


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


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (4, 5), (7, 6)])
@pytest.mark.parametrize("channels_last", [False, True])
def test_1x1x1_and_1x3x3_equal_the_stock_convolution(stride, size, channels_last):
    pointwise = PointwiseConv3d(5, 7, stride=stride)
    compare(pointwise, (2, 5, 3, *size), channels_last=channels_last)
    compare(SpatialConv3d(3, 4), (2, 3, 3, *size), channels_last=channels_last)


@pytest.mark.parametrize(
    "layer",
    [PointwiseConv3d(4, 4, stride=2), SpatialConv3d(4, 4), TemporalConv3d(4), DepthwiseConv3d(4)],
    ids=lambda layer: type(layer).__name__,
)
def test_fixed_statistics_go_into_the_weights_and_gradients_stay_right(layer):
    norm = nn.BatchNorm3d(4).double()
    for value in (norm.weight, norm.bias, norm.running_mean):
        nn.init.normal_(value)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    layer = layer.double()
    features = torch.randn(2, 4, 3, 6, 5, dtype=torch.float64)
    results = []
    for run in (convolve_and_normalise, lambda layer, norm, x: norm(layer(x))):
        norm.eval()
        for parameter in (*layer.parameters(), *norm.parameters()):
            parameter.grad = None
        given = features.clone().requires_grad_()
        out = run(layer, norm, given)
        (out**2).sum().backward()
        results.append([out, given.grad, layer.weight.grad, norm.weight.grad, norm.bias.grad])
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)
    norm.train()
    before = norm.running_mean.clone()
    convolve_and_normalise(layer, norm, features)
    assert not torch.equal(norm.running_mean, before)  # statistics still move while training


@pytest.mark.parametrize("clips", [0, 1, 3])
def test_a_gated_swish_has_autograds_gradients_and_keeps_its_inputs_alone(clips):
    features = torch.randn(clips, 4, 2, 3, 5, dtype=torch.float64)
    gate = torch.rand(clips, 4, 1, 1, 1, dtype=torch.float64)
    weights = torch.randn_like(features)
    results = []
    for run in (gated_swish, lambda x, g: nn.functional.silu(x * g)):
        kept: list[torch.Tensor] = []

        def note(tensor, kept=kept):
            kept.append(tensor)
            return tensor

        inputs = [features.clone().requires_grad_(), gate.clone().requires_grad_()]
        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            out = run(*inputs)
        (out * weights).sum().backward()
        results.append([out.detach(), *(each.grad for each in inputs)])
        if run is gated_swish:
            assert [t.data_ptr() for t in kept] == [t.data_ptr() for t in inputs]
    for mine, theirs in zip(*results, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-12)


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


@pytest.mark.parametrize("stride", [1, 2])
def test_bf16_training_follows_fp32(stride):
    """Under autocast a block's output and gradients stay within bf16's 8 bits of the fp32 ones."""
    torch.manual_seed(0)
    layers = torch.nn.Sequential(
        PointwiseConv3d(8, 16), DepthwiseConv3d(16, stride=stride), PointwiseConv3d(16, 8)
    )
    features = torch.randn(2, 8, 4, 9, 9)
    found = {}
    for dtype in (torch.float32, torch.bfloat16):
        layers.zero_grad()
        given = features.clone().requires_grad_()
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            out = layers(given)
        assert out.dtype == dtype
        (out.float() ** 2).mean().backward()
        gradients = [given.grad, *(layer.weight.grad for layer in layers)]
        assert all(gradient.dtype == torch.float32 for gradient in gradients)
        found[dtype] = [out.detach().float(), *gradients]
    for ours, exact in zip(found[torch.bfloat16], found[torch.float32], strict=True):
        assert (ours - exact).norm() < 0.03 * exact.norm()
