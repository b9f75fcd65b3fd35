"""The convolutions of X3D, with the layouts and gradients that are fast on CPUs.

Weights, names and results are those of `nn.Conv3d`; on other devices its kernels are used. On CPUs

* a 1x1x1 convolution is a matrix product over positions, as channels lie last in memory. The stock
  3D kernel leaves that layout when it has one thread, and then everything after it is slow too;
* a convolution in space or in time alone is a 2D problem, a well-trodden path;
* the gradient of a depthwise 3x3x3 convolution takes, in stock kernels, longer than all the rest
  together. Here the gradient of the input is itself a forward convolution (the kernel turned round;
  for stride 2, of the gradient with zeros at the positions that were skipped), and that of the
  weights is one 2D depthwise problem for each tap in time.

Legend: B clips, C channels, T frames, H W map size; layout is channels_last_3d.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, conv3d, linear, silu

_backward = torch.ops.aten.convolution_backward


class Convolution(nn.Conv3d):
    """A 3D convolution whose weights and bias can be replaced for one call."""

    def forward(
        self, features: Tensor, weight: Tensor | None = None, bias: Tensor | None = None
    ) -> Tensor:
        """(B, C, T, H, W) -> (B, C', T, ceil(H / stride), ceil(W / stride)).

        weight, bias: used instead of the layer's own, for this call.
        """
        weight = self.weight if weight is None else weight
        bias = self.bias if bias is None else bias
        if features.device.type == "cpu" and not is_traced():
            return self.on_cpu(features, weight, bias)
        return self.stock(features, weight, bias)

    def stock(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve by PyTorch's own kernel, with these weights and this bias (C',), if any."""
        return conv3d(
            features, weight, bias, stride=self.stride, padding=self.padding, groups=self.groups
        )

    def on_cpu(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Do the same by what is fast on a CPU."""
        return self.stock(features, weight, bias)


class PointwiseConv3d(Convolution):
    """A 1x1x1 convolution."""

    def __init__(
        self, in_channels: int, out_channels: int, *, stride: int = 1, bias: bool = False
    ) -> None:
        super().__init__(in_channels, out_channels, 1, stride=(1, stride, stride), bias=bias)

    def on_cpu(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Multiply every position by the weights."""
        if self.stride[1] != 1:
            features = _Subsampled.apply(features, self.stride[1])
        out = linear(features.permute(0, 2, 3, 4, 1), weight.flatten(1), bias)
        return out.permute(0, 4, 1, 2, 3)


class SpatialConv3d(Convolution):
    """A 1x3x3 convolution of stride 2, padded by 1: the first layer."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            in_channels, out_channels, (1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1), bias=False
        )

    def on_cpu(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve every frame by itself."""
        clips, frames = features.shape[0], features.shape[2]
        images = features.transpose(1, 2).flatten(0, 1)  # (B * T, C, H, W)
        images = images.contiguous(memory_format=torch.channels_last)
        out = conv2d(images, weight.squeeze(2), bias, stride=2, padding=1)
        result: Tensor = out.unflatten(0, (clips, frames)).transpose(1, 2)  # type: ignore[no-untyped-call]
        return result


class TemporalConv3d(Convolution):
    """A 5x1x1 depthwise convolution, padded by 2 in time."""

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False
        )

    def on_cpu(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve every position by itself."""
        features = features.contiguous(memory_format=torch.channels_last_3d)
        return _convolve_in_time(features, weight, bias)


class DepthwiseConv3d(Convolution):
    """A 3x3x3 depthwise convolution, padded by 1, with spatial stride 1 or 2."""

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        strides = (1, stride, stride)
        super().__init__(
            channels, channels, 3, stride=strides, padding=1, groups=channels, bias=False
        )

    def on_cpu(self, features: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Convolve every channel by itself."""
        if torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad):
            result: Tensor = _Depthwise3x3x3.apply(features, weight, bias, self.stride[1])
            return result
        return self.stock(features, weight, bias)


def is_traced() -> bool:
    """Say whether a call is recorded for another program, which is best given the stock layers."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]


def convolve_and_normalise(
    convolution: Convolution, norm: nn.BatchNorm3d, features: Tensor
) -> Tensor:
    """Return norm(convolution(features)), in one step where the norm's statistics are fixed.

    In eval mode (and where BatchNorm is frozen) normalising is a factor and an addend per channel:
    they go into the weights, which saves a pass over the map.
    """
    if norm.training or norm.running_mean is None or norm.running_var is None:
        result: Tensor = norm(convolution(features))
        return result
    result = convolution(features, *fold_norm(convolution, norm))
    return result


def fold_norm(convolution: Convolution, norm: nn.BatchNorm3d) -> tuple[Tensor, Tensor]:
    """Return the weight and the bias (C',) of a convolution that normalises its output too.

    Raises `ValueError` where the norm keeps no statistics.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError("a BatchNorm without stored statistics cannot be folded into weights")
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    bias = norm.bias - norm.running_mean * scale
    return convolution.weight * scale[:, None, None, None, None], bias


def relu(features: Tensor) -> Tensor:
    """Cut off below zero, in place where no gradient will be asked for.

    The results above are views; autograd would copy a view that is changed in place, three times.
    """
    return torch.relu(features) if torch.is_grad_enabled() else torch.relu_(features)


def gated_swish(features: Tensor, gate: Tensor) -> Tensor:
    """Return swish(features * gate), keeping nothing but these two for the way back.

    features: (B, C, T, H, W).  gate: (B, C, 1, 1, 1).
    """
    if torch.is_grad_enabled() and not is_traced():
        result: Tensor = _GatedSwish.apply(features, gate)
        return result
    return silu(features * gate)


class _GatedSwish(torch.autograd.Function):
    """Autograd would keep the product too, the largest map of a block; it is computed again."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, gate: Tensor) -> Tensor:
        ctx.save_for_backward(features, gate)
        return silu(features * gate, inplace=True)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        features, gate = ctx.saved_tensors
        of_product = torch.ops.aten.silu_backward(gradient, features * gate)
        of_gate = (of_product * features).sum((2, 3, 4), keepdim=True)
        return of_product.mul_(gate), of_gate


def _convolve_in_time(features: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Convolve (B, C, T, H, W) with (C, 1, taps, 1, 1) as images of T x HW, a well-trodden path."""
    taps = weight.shape[2]
    images = features.flatten(3)  # (B, C, T, H * W), still channels last
    out = conv2d(images, weight.squeeze(4), bias, padding=(taps // 2, 0), groups=len(weight))
    result: Tensor = out.unflatten(3, features.shape[3:])  # type: ignore[no-untyped-call]
    return result


class _Subsampled(torch.autograd.Function):
    """Every `stride`-th row and column; a slice's own gradient would leave channels-last layout."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, stride: int) -> Tensor:
        ctx.shape, ctx.stride = features.shape, stride
        taken = features[:, :, :, ::stride, ::stride]
        return taken.contiguous(memory_format=torch.channels_last_3d)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _spread(gradient, ctx.shape, ctx.stride), None


def _spread(gradient: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Return a map of zeros, channels last, with the gradient at every `stride`-th position."""
    clips, channels, *sizes = shape
    spread = gradient.new_zeros(clips, *sizes, channels).permute(0, 4, 1, 2, 3)
    spread[:, :, :, ::stride, ::stride] = gradient
    return spread


class _Depthwise3x3x3(torch.autograd.Function):
    # Under autocast everything here is of one type, in the backward pass too.
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu", cast_inputs=torch.bfloat16)  # type: ignore[untyped-decorator]
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, bias: Tensor | None, stride: int
    ) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last_3d)
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        return conv3d(
            features, weight, bias, stride=(1, stride, stride), padding=1, groups=len(weight)
        )

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # type: ignore[untyped-decorator]
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        of_features = of_weight = of_bias = None
        if ctx.needs_input_grad[0]:
            of_features = _input_gradient(gradient, weight, features, ctx.stride)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, weight, features, ctx.stride)
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum((0, 2, 3, 4))
        return of_features, of_weight, of_bias, None


def _input_gradient(gradient: Tensor, weight: Tensor, features: Tensor, stride: int) -> Tensor:
    if stride != 1:  # the gradient of stride 1 if it were zero at all positions that are skipped
        gradient = _spread(gradient, features.shape, stride)
    return conv3d(gradient, weight.flip(2, 3, 4), padding=1, groups=len(weight))


def _weight_gradient(gradient: Tensor, weight: Tensor, features: Tensor, stride: int) -> Tensor:
    """One 2D problem for each tap in time.

    All clips lie in one row of frames, where a tap in time is a shift by one frame. What that
    shift carries from one clip into the next is computed by itself and taken away, which is less
    work than a copy of both maps with a frame of zeros behind each clip.
    """
    length = features.shape[2]
    frames_in, frames_out = _row_of_frames(features), _row_of_frames(gradient)

    def of_tap(outputs: Tensor, inputs: Tensor, tap: int) -> Tensor:
        kernel = weight[:, :, tap].contiguous()
        pad = [1, 1]
        _, of_kernel, _ = _backward(
            outputs, inputs, kernel, None, [stride, stride], pad, [1, 1], False, [0, 0],
            len(weight), [False, True, False],
        )  # fmt: skip
        assert isinstance(of_kernel, Tensor)
        return of_kernel

    before = of_tap(frames_out[1:], frames_in[:-1], 0)
    after = of_tap(frames_out[:-1], frames_in[1:], 2)
    if len(features) > 1:
        firsts, lasts = slice(length, None, length), slice(length - 1, -1, length)
        before = before - of_tap(frames_out[firsts], frames_in[lasts], 0)
        after = after - of_tap(frames_out[lasts], frames_in[firsts], 2)
    return torch.stack([before, of_tap(frames_out, frames_in, 1), after], dim=2)


def _row_of_frames(features: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * T, C, H, W), the same memory."""
    return features.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)
