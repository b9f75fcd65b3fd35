"""A small Faster R-CNN of torchvision's parts, which a CPU can train from scratch.

Legend: B frames, C channels, H W pixels. One feature map at stride 8 serves people of all sizes:
the coarser stages are added to it, as in the finest level of a feature pyramid (T. Lin et al.,
"Feature Pyramid Networks", 2017).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.rpn import RPNHead
from torchvision.ops import MultiScaleRoIAlign

STRIDE = 8
# Anchor sizes as shares of the short side, and aspect ratios for standing and sitting people.
ANCHOR_SHARES = (0.15, 0.25, 0.4, 0.6, 0.85)
HEIGHT_TO_WIDTH = (1.0, 2.2)
SAMPLING = {
    "rpn_pre_nms_top_n_train": 200,
    "rpn_post_nms_top_n_train": 64,
    "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_test": 64,
    "rpn_batch_size_per_image": 64,
    "box_batch_size_per_image": 24,
    "box_positive_fraction": 0.5,
}


def small_rcnn(
    *,
    num_classes: int,
    min_size: int,
    width: int = 16,
    map_channels: int = 64,
    roi_size: tuple[int, int] = (7, 5),
    head_width: int = 256,
    **options: Any,
) -> FasterRCNN:
    """Build the network with random weights.

    num_classes: without the background.
    min_size: short side in pixels, to which the anchors are fitted.
    width: channels of the first stage. options: of torchvision's `FasterRCNN`.
    """
    backbone = SmallBackbone(width=width, out_channels=map_channels)
    sizes = tuple(round(share * min_size) for share in ANCHOR_SHARES)
    anchors = AnchorGenerator((sizes,), (HEIGHT_TO_WIDTH,))
    return FasterRCNN(
        backbone,
        min_size=min_size,
        rpn_anchor_generator=anchors,
        rpn_head=RPNHead(map_channels, anchors.num_anchors_per_location()[0]),
        box_roi_pool=MultiScaleRoIAlign(["0"], output_size=roi_size, sampling_ratio=1),
        box_head=TwoMLPHead(map_channels * roi_size[0] * roi_size[1], head_width),
        box_predictor=FastRCNNPredictor(head_width, num_classes + 1),
        size_divisible=STRIDE,
        **{**SAMPLING, **options},
    )


class SmallBackbone(nn.Module):
    """(B, 3, H, W) -> (B, out_channels, H / 8, W / 8), for H and W divisible by 8."""

    def __init__(self, *, width: int, out_channels: int) -> None:
        super().__init__()
        self.out_channels = out_channels
        self.stem = nn.Sequential(
            ConvNorm(3, width, stride=2), nn.ReLU(), ConvNorm(width, 2 * width, stride=2), nn.ReLU()
        )
        self.stage8 = nn.Sequential(
            Residual(2 * width, 4 * width, stride=2), Residual(4 * width, 4 * width)
        )
        self.stage16 = nn.Sequential(
            Residual(4 * width, 8 * width, stride=2), Residual(8 * width, 8 * width)
        )
        self.stage32 = Residual(8 * width, 12 * width, stride=2)
        self.lateral8 = nn.Conv2d(4 * width, out_channels, 1)
        self.lateral16 = nn.Conv2d(8 * width, out_channels, 1)
        self.lateral32 = nn.Conv2d(12 * width, out_channels, 1)
        self.smooth = nn.Sequential(ConvNorm(out_channels, out_channels), nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Return one feature map at stride 8."""
        at8 = self.stage8(self.stem(images.contiguous(memory_format=torch.channels_last)))
        at16 = self.stage16(at8)
        at32 = self.stage32(at16)
        top = self.lateral16(at16) + functional.interpolate(self.lateral32(at32), at16.shape[-2:])
        result: Tensor = self.smooth(
            self.lateral8(at8) + functional.interpolate(top, at8.shape[-2:])
        )
        return result


class ConvNorm(nn.Sequential):
    """A 3x3 convolution with BatchNorm."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        conv = nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        super().__init__(conv, nn.BatchNorm2d(out_channels))


class Residual(nn.Module):
    """Two 3x3 convolutions beside a shortcut (K. He et al., "Deep Residual Learning", 2016)."""

    def __init__(self, in_channels: int, out_channels: int, *, stride: int = 1) -> None:
        super().__init__()
        self.first = ConvNorm(in_channels, out_channels, stride=stride)
        self.second = ConvNorm(out_channels, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, maps: Tensor) -> Tensor:
        """Return (B, out_channels, ceil(H / stride), ceil(W / stride))."""
        inner = self.second(functional.relu(self.first(maps)))
        return functional.relu(inner + self.shortcut(maps))
