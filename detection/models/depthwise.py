"""Depthwise convolutions over time and space whose gradients are fast on CPUs.

The forward kernels for depthwise 3D convolution are good in channels-last layout, the backward ones
are not: for X3D they take longer than everything else together. Here the gradient of the input is
itself a forward convolution (with the kernel turned around; for stride 2, one small convolution for
each of the four parities of a position), and the gradient of the weights is one 2D depthwise
problem for each tap in time. The numbers are the same up to the order of summation.

Legend: B clips, C channels, T frames, H W map size; layout is channels_last_3d.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import conv2d, conv3d, pad

_backward = torch.ops.aten.convolution_backward


class DepthwiseConv3d(nn.Conv3d):
    """A 3x3x3 depthwise convolution without bias, padded by 1, with spatial stride 1 or 2.

    Weights, names and results are those of `nn.Conv3d`.
    """

    def __init__(self, channels: int, *, stride: int = 1) -> None:
        if stride not in (1, 2):
            raise ValueError(f"stride must be 1 or 2, got {stride}")
        super().__init__(
            channels,
            channels,
            3,
            stride=(1, stride, stride),
            padding=1,
            groups=channels,
            bias=False,
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, T, ceil(H / stride), ceil(W / stride))."""
        if _wants_cpu_gradients(features, self.weight):
            return _Depthwise3x3x3.apply(features, self.weight, self.stride[1])
        return super().forward(features)


class TemporalConv3d(nn.Conv3d):
    """A 5x1x1 depthwise convolution without bias, padded by 2 in time.

    Weights, names and results are those of `nn.Conv3d`.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(
            channels, channels, (5, 1, 1), padding=(2, 0, 0), groups=channels, bias=False
        )

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, T, H, W) -> the same shape."""
        if not _wants_cpu_gradients(features, self.weight):
            return super().forward(features)
        features = features.contiguous(memory_format=torch.channels_last_3d)
        return _convolve_in_time(features, self.weight)


def _wants_cpu_gradients(features: Tensor, weight: Tensor) -> bool:
    return (
        features.device.type == "cpu"
        and torch.is_grad_enabled()
        and (features.requires_grad or weight.requires_grad)
        and not torch.compiler.is_compiling()
    )


def _convolve_in_time(features: Tensor, weight: Tensor) -> Tensor:
    """Convolve (B, C, T, H, W) with (C, 1, taps, 1, 1) as images of T x HW, a well-trodden path."""
    taps = weight.shape[2]
    images = features.flatten(3)  # (B, C, T, H * W), still channels last
    out = conv2d(images, weight.squeeze(4), padding=(taps // 2, 0), groups=len(weight))
    return out.unflatten(3, features.shape[3:])


class _Depthwise3x3x3(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, stride: int) -> Tensor:
        features = features.contiguous(memory_format=torch.channels_last_3d)
        ctx.save_for_backward(features, weight)
        ctx.stride = stride
        return conv3d(features, weight, stride=(1, stride, stride), padding=1, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight = ctx.saved_tensors
        gradient = gradient.contiguous(memory_format=torch.channels_last_3d)
        of_features = of_weight = None
        if ctx.needs_input_grad[0]:
            if ctx.stride == 1:
                turned = weight.flip(2, 3, 4)
                of_features = conv3d(gradient, turned, padding=1, groups=len(weight))
            else:
                of_features = _input_gradient_stride_2(gradient, weight, features)
        if ctx.needs_input_grad[1]:
            of_weight = _weight_gradient(gradient, weight, features, ctx.stride)
        return of_features, of_weight, None


def _input_gradient_stride_2(gradient: Tensor, weight: Tensor, features: Tensor) -> Tensor:
    # An even position is reached by the middle tap alone, an odd one by the two outer taps.
    result = torch.empty_like(features, memory_format=torch.channels_last_3d)
    turned = weight.flip(2, 3, 4)
    for row_parity, rows in ((0, slice(1, 2)), (1, slice(0, 3, 2))):
        for column_parity, columns in ((0, slice(1, 2)), (1, slice(0, 3, 2))):
            kernel = turned[:, :, :, rows, columns]
            if row_parity or column_parity:
                part = conv3d(
                    gradient,
                    kernel,
                    padding=(1, row_parity, column_parity),
                    groups=len(weight),
                )[:, :, :, row_parity:, column_parity:]
            else:
                part = _convolve_in_time(gradient, kernel)
            place = result[:, :, :, row_parity::2, column_parity::2]
            place.copy_(part[:, :, :, : place.shape[3], : place.shape[4]])
    return result


def _weight_gradient(gradient: Tensor, weight: Tensor, features: Tensor, stride: int) -> Tensor:
    """One 2D problem for each tap in time.

    A frame of zeros behind every clip lets all clips lie in one row of frames, where a tap in time
    is a shift by one frame: what would reach into the next clip meets the zeros.
    """
    frames_in, frames_out = _row_of_frames(features), _row_of_frames(gradient)
    last = len(frames_in)
    taps = []
    for tap in range(3):
        shift = tap - 1  # the output frame t sees the input frame t + shift
        start, stop = max(0, -shift), last - max(0, shift)
        taps.append(
            _backward(
                frames_out[start:stop],
                frames_in[start + shift : stop + shift],
                weight[:, :, tap].contiguous(),
                None,
                [stride, stride],
                [1, 1],
                [1, 1],
                False,
                [0, 0],
                len(weight),
                [False, True, False],
            )[1]
        )
    return torch.stack(taps, dim=2)


def _row_of_frames(features: Tensor) -> Tensor:
    """(B, C, T, H, W) -> (B * (T + 1), C, H, W), a frame of zeros behind each clip."""
    rows = pad(features.permute(0, 2, 3, 4, 1), (0, 0, 0, 0, 0, 0, 0, 1))  # (B, T + 1, H, W, C)
    return rows.flatten(0, 1).permute(0, 3, 1, 2)
