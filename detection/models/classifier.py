"""Clip classification with X3D: what the Kinetics weights were trained for.

Legend: B clips, T frames, H W pixels, h w map size, P window positions, C channels, K classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from detection.bounds import MOST_CLASSES, MOST_WIDTH, between
from detection.models.pixels import PixelNorm
from detection.models.x3d import X3DDescription, X3DTrunk


@dataclass(frozen=True)
class HeadDescription:
    """The numbers that make the layers after the trunk.

    num_classes: K or A.
    hidden: width of fc1.
    dropout: share of fc1's output that is dropped in training, before fc2.
    """

    num_classes: int = between(1, MOST_CLASSES)
    hidden: int = between(1, MOST_WIDTH, 2048)
    dropout: float = between(0, 1, 0.5)


KINETICS_HEAD = HeadDescription(num_classes=400)


class ClipClassifier(nn.Module):
    """What every classifier of clips makes of its logits at window positions."""

    def position_logits(self, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, P, K) logits of P window positions, T then h then w."""
        raise NotImplementedError

    def forward(self, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, K) logits, averaged over positions (train crop: one)."""
        return self.position_logits(frames).mean(1)

    def probabilities(self, frames: Tensor, *, independent: bool = False) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, K), softmax first, then the mean over positions.

        independent: sigmoids in place of the softmax, for clips of several classes.
        """
        logits = self.position_logits(frames)
        return (logits.sigmoid() if independent else logits.softmax(-1)).mean(1)


class X3DClassifier(ClipClassifier):
    """Clip classification: trunk and head share everything up to conv5 with `ActionDetector`.

    Its `position_logits` at test sizes above the train crop come from a window that slides over
    the map; `probabilities` averages their softmax, as the published accuracies do.
    """

    def __init__(
        self,
        trunk: X3DTrunk,
        head: ClassificationHead,
        *,
        pixel_mean: float = 0.45,
        pixel_std: float = 0.225,
    ) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = head
        self.pixels = PixelNorm(pixel_mean, pixel_std)

    def position_logits(self, frames: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB -> (B, P, K) logits of P window positions, T then h then w."""
        result: Tensor = self.head(self.trunk(self.pixels(frames)))
        return result


class ClassificationHead(nn.Module):
    """pool5, fc1, fc2: average over a window of `pool` = (T, h, w), then two linear layers.

    A map smaller than the window is averaged whole.
    """

    def __init__(
        self, in_channels: int, description: HeadDescription, *, pool: tuple[int, int, int]
    ) -> None:
        super().__init__()
        self.description = description
        self.pool = pool
        self.hidden = nn.Linear(in_channels, description.hidden, bias=False)
        self.dropout = nn.Dropout(description.dropout)
        self.classes = nn.Linear(description.hidden, description.num_classes)
        initialise_linear(self.hidden, self.classes)

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, T, h, w) -> (B, P, K) logits before softmax, one row per window position."""
        sizes = features.shape[2:]
        window = [min(side, size) for side, size in zip(self.pool, sizes, strict=True)]
        pooled = nn.functional.avg_pool3d(features, window, stride=1)
        pooled = pooled.flatten(2).transpose(1, 2)  # (B, P, C)
        result: Tensor = self.classes(self.dropout(torch.relu(self.hidden(pooled))))
        return result


def build_classifier(
    description: X3DDescription,
    head: HeadDescription = KINETICS_HEAD,
    *,
    pixel_mean: float = 0.45,
    pixel_std: float = 0.225,
) -> X3DClassifier:
    """Build the classification network whose window is the description's train crop."""
    trunk = X3DTrunk(description)
    side = math.ceil(description.train_crop / trunk.spatial_stride)
    pool = (description.num_frames, side, side)
    built = ClassificationHead(trunk.out_channels, head, pool=pool)
    return X3DClassifier(trunk, built, pixel_mean=pixel_mean, pixel_std=pixel_std)


def initialise_linear(hidden: nn.Linear, classes: nn.Linear) -> None:
    """fc1 by He's rule (it stands for a convolution), fc2 from N(0, 0.01), no bias at first."""
    nn.init.kaiming_normal_(hidden.weight, mode="fan_out", nonlinearity="relu")
    nn.init.normal_(classes.weight, std=0.01)
    nn.init.zeros_(classes.bias)
