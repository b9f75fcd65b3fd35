"""X3D: one small network expanded along frames, resolution, width, bottleneck and depth.

Feichtenhofer, "X3D: Expanding Architectures for Efficient Video Recognition", CVPR 2020
(arXiv 2004.04730). Every variant is an `X3DDescription`: numbers, no code of its own.

Legend: B clips, T frames, H W pixels, h w = H W / 32 rounded up, C channels.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from detection.bounds import (
    LARGEST_FACTOR,
    LARGEST_SIDE_PX,
    LONGEST_STEP,
    MOST_FRAMES,
    SMALLEST_FACTOR,
    between,
)
from detection.models.convolutions import (
    DepthwiseConv3d,
    PointwiseConv3d,
    SpatialConv3d,
    TemporalConv3d,
    convolve_and_normalise,
    gated_swish,
    relu,
)
from detection.structures import ClipSampling

BASE_CHANNELS = 12
BASE_DEPTHS = (1, 2, 5, 3)
SQUEEZE_RATIO = 1 / 16


@dataclass(frozen=True)
class X3DDescription:
    """The numbers that make one X3D network.

    num_frames: T.
    step: distance between two frames, in frames of a 30 fps video.
    train_crop: side of the training crop, pixels.
    train_short_side: the crop is cut from frames whose short side is drawn from this range, pixels.
    test_crop: short side at test time, pixels, whether three squares of it cover a frame or actors
    are scored on the whole frame.
    width_factor: the paper's gamma_w.
    depth_factor: the paper's gamma_d.
    bottleneck_factor: the paper's gamma_b.
    width_divisor: channels are rounded to multiples of it; 8 is what the paper's costs need,
    SlowFast's code has 1, which matters for XL only (35, 70, 139, 278 for 32, 72, 136, 280).
    """

    num_frames: int = between(1, MOST_FRAMES)
    step: float = between(0, LONGEST_STEP)
    train_crop: int = between(1, LARGEST_SIDE_PX)
    train_short_side: tuple[int, int] = between(1, LARGEST_SIDE_PX)
    test_crop: int = between(1, LARGEST_SIDE_PX)
    width_factor: float = between(SMALLEST_FACTOR, LARGEST_FACTOR, 2.0)
    depth_factor: float = between(SMALLEST_FACTOR, LARGEST_FACTOR, 2.2)
    bottleneck_factor: float = between(SMALLEST_FACTOR, LARGEST_FACTOR, 2.25)
    width_divisor: int = between(1, 4096, 8)

    def __post_init__(self) -> None:
        sizes = (self.num_frames, self.train_crop, self.test_crop, self.width_divisor)
        if min(sizes) < 1:
            raise ValueError(f"frames, crops and divisor must be at least 1, got {self}")
        if min(self.width_factor, self.depth_factor, self.bottleneck_factor) <= 0:
            raise ValueError(f"expansion factors must be above 0, got {self}")

    @property
    def sampling(self) -> ClipSampling:
        """Which frames the network is made for."""
        return ClipSampling(self.num_frames, self.step)

    @property
    def stem_channels(self) -> int:
        """Channels after the stem."""
        return round_channels(BASE_CHANNELS * self.width_factor, self.width_divisor)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels of res2 to res5; the doubling is rounded before the factor is applied."""
        base = [BASE_CHANNELS]
        while len(base) < len(BASE_DEPTHS):
            base.append(round_channels(2 * base[-1], 8))
        return tuple(round_channels(c * self.width_factor, self.width_divisor) for c in base)

    @property
    def inner_channels(self) -> tuple[int, ...]:
        """Channels of the depthwise convolutions of res2 to res5."""
        return tuple(int(self.bottleneck_factor * c) for c in self.stage_channels)

    @property
    def stage_depths(self) -> tuple[int, ...]:
        """Blocks of res2 to res5."""
        return tuple(math.ceil(depth * self.depth_factor) for depth in BASE_DEPTHS)

    @property
    def out_channels(self) -> int:
        """Channels after conv5."""
        return self.inner_channels[-1]


VARIANTS: dict[str, X3DDescription] = {
    "xs": X3DDescription(4, 12, 160, (182, 228), 182),
    "s": X3DDescription(13, 6, 160, (182, 228), 182),
    "m": X3DDescription(16, 5, 224, (256, 320), 256),
    "l": X3DDescription(16, 5, 312, (356, 446), 356, depth_factor=5.0),
    "xl": X3DDescription(16, 5, 312, (356, 446), 356, width_factor=2.9, depth_factor=5.0),
    # Where the expansion starts: all factors of the paper are 1, which is width 2 on our base 12.
    # Its short sides and test crop are ours; the paper gives none.
    "x2d": X3DDescription(1, 1, 112, (128, 160), 128, depth_factor=1.0, bottleneck_factor=1.0),
}


class X3DTrunk(nn.Module):
    """Stem, res2 to res5 and conv5: all that classification and actor networks share.

    forward: (B, 3, T, H, W) float, normalised -> (B, out_channels, T, h, w). No stride in time.
    `res5_stride=1` keeps res5 at 1/16 of the resolution with the same weights.
    """

    def __init__(self, description: X3DDescription, *, res5_stride: Literal[1, 2] = 2) -> None:
        super().__init__()
        if res5_stride not in (1, 2):
            raise ValueError(f"res5_stride must be 1 or 2, got {res5_stride}")
        self.description = description
        self.res5_stride = res5_stride
        self.spatial_stride = 16 * res5_stride
        self.checkpoint_activations = False  # in training: keep block inputs alone
        self.out_channels = description.out_channels

        self.stem = Stem(3, description.stem_channels)
        channels = description.stem_channels
        self.stages = nn.ModuleList()
        for index, out_channels in enumerate(description.stage_channels):
            stride = res5_stride if index == len(BASE_DEPTHS) - 1 else 2
            blocks = nn.Sequential()
            for block in range(description.stage_depths[index]):
                blocks.append(
                    Block(
                        channels,
                        out_channels,
                        inner_channels=description.inner_channels[index],
                        stride=stride if block == 0 else 1,
                        squeeze=block % 2 == 0,
                    )
                )
                channels = out_channels
            self.stages.append(blocks)
        self.final = PointwiseConv3d(channels, self.out_channels)
        self.final_norm = nn.BatchNorm3d(self.out_channels)
        initialise_trunk(self)

    def forward(self, clips: Tensor) -> Tensor:
        """Return the conv5 map of normalised float clips."""
        features = self.stem(clips)
        checkpointing = self.checkpoint_activations and self.training and torch.is_grad_enabled()
        for stage in self.stages:
            if not checkpointing:
                features = stage(features)
                continue
            assert isinstance(stage, nn.Sequential)
            for block in stage:
                features = recomputed(block, features)
        return relu(convolve_and_normalise(self.final, self.final_norm, features))

    def freeze(self, stages: int) -> None:
        """Keep the weights of the first parts: 1 the stem and res2, ... 4 res5 too, 5 conv5 too.

        No gradient is computed in them, so that a training step costs less. BatchNorm's statistics
        still move in training mode (`batch_norm.freeze_batch_norm_3d` keeps those).
        """
        last = len(self.stages) + 1
        if not 0 <= stages <= last:
            raise ValueError(f"stages must be between 0 and {last}, got {stages}")
        if stages:
            parts = [self.stem, *self.stages[:stages]]
            if stages == last:
                parts += [self.final, self.final_norm]
            for part in parts:
                part.requires_grad_(False)


def recomputed(block: nn.Module, features: Tensor) -> Tensor:
    """Return block(features), keeping nothing but `features` for the way back.

    The block must hold nothing random. Outputs, gradients and BatchNorm's statistics are those of
    the plain call: the second forward pass leaves statistics alone.
    """
    result: Tensor = checkpoint(
        block,
        features,
        use_reentrant=False,
        preserve_rng_state=False,
        context_fn=lambda: (nullcontext(), _kept_statistics(block)),
    )
    return result


@contextmanager
def _kept_statistics(block: nn.Module) -> Iterator[None]:
    norms = [m for m in block.modules() if isinstance(m, _BatchNorm) and m.training]
    momenta = [norm.momentum for norm in norms]
    counts = [norm.num_batches_tracked for norm in norms]
    kept = [None if count is None else count.clone() for count in counts]
    for norm in norms:
        norm.momentum = 0.0  # running <- 1 * running + 0 * batch
    try:
        yield
    finally:
        for norm, momentum, count, value in zip(norms, momenta, counts, kept, strict=True):
            norm.momentum = momentum
            if count is not None and value is not None:
                count.copy_(value)


class Stem(nn.Module):
    """A spatial convolution, then a depthwise one in time; no norm or activation between them."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.spatial = SpatialConv3d(in_channels, out_channels)
        self.temporal = TemporalConv3d(out_channels)
        self.norm = nn.BatchNorm3d(out_channels)

    def forward(self, clips: Tensor) -> Tensor:
        """(B, 3, T, H, W) -> (B, out_channels, T, H/2, W/2)."""
        return relu(convolve_and_normalise(self.temporal, self.norm, self.spatial(clips)))


class Block(nn.Module):
    """Expand 1x1x1, depthwise 3x3x3, (squeeze and excite), project 1x1x1, and a shortcut.

    The stride is on the depthwise convolution and on the shortcut, which has weights whenever
    channels or resolution change.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        inner_channels: int,
        stride: int,
        squeeze: bool,
    ) -> None:
        super().__init__()
        self.expand = PointwiseConv3d(in_channels, inner_channels)
        self.expand_norm = nn.BatchNorm3d(inner_channels)
        self.depthwise = DepthwiseConv3d(inner_channels, stride=stride)
        self.depthwise_norm = nn.BatchNorm3d(inner_channels)
        self.squeeze = SqueezeExcite(inner_channels) if squeeze else None
        self.project = PointwiseConv3d(inner_channels, out_channels)
        self.project_norm = nn.BatchNorm3d(out_channels)
        self.shortcut: PointwiseConv3d | None = None
        self.shortcut_norm: nn.BatchNorm3d | None = None
        if stride != 1 or in_channels != out_channels:
            self.shortcut = PointwiseConv3d(in_channels, out_channels, stride=stride)
            self.shortcut_norm = nn.BatchNorm3d(out_channels)

    def forward(self, features: Tensor) -> Tensor:
        """(B, in, T, H, W) -> (B, out, T, H/stride, W/stride)."""
        inner = relu(convolve_and_normalise(self.expand, self.expand_norm, features))
        inner = convolve_and_normalise(self.depthwise, self.depthwise_norm, inner)
        if self.squeeze is None:
            inner = nn.functional.silu(inner)
        else:
            inner = gated_swish(inner, self.squeeze(inner))
        out = convolve_and_normalise(self.project, self.project_norm, inner)
        if self.shortcut is not None and self.shortcut_norm is not None:
            features = convolve_and_normalise(self.shortcut, self.shortcut_norm, features)
        return relu(out + features)


class SqueezeExcite(nn.Module):
    """The factor, between 0 and 1, that scales every channel, from the mean of the whole map.

    The mean runs over T, H and W: padding a clip changes its output, so clips are never padded.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = round_channels(channels * SQUEEZE_RATIO, 8)
        self.reduce = PointwiseConv3d(channels, squeezed, bias=True)
        self.restore = PointwiseConv3d(squeezed, channels, bias=True)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, T, H, W) -> (B, C, 1, 1, 1)."""
        mean = features.mean((2, 3, 4), keepdim=True)
        return torch.sigmoid(self.restore(torch.relu(self.reduce(mean))))


def round_channels(channels: float, divisor: int) -> int:
    """Round to a multiple of `divisor`, at least that, and never more than 10 % down."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    if rounded < 0.9 * channels:
        rounded += divisor
    return rounded


def initialise_trunk(trunk: nn.Module) -> None:
    """He's normal initialisation by fan out; every block starts as its shortcut (last gamma 0)."""
    for module in trunk.modules():
        if isinstance(module, nn.Conv3d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, Block):
            nn.init.zeros_(module.project_norm.weight)
