"""The network of this project: what each person in a clip is doing.

Legend: B clips, T frames, H W pixels, R actors in the batch, A action classes.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from detection.models.actor_head import AVA_HEAD, ActorHead, ActorHeadDescription
from detection.models.pixels import PixelNorm
from detection.models.x3d import X3DDescription, X3DTrunk


class ActionDetector(nn.Module):
    """A trunk and an actor head; bytes become normalised floats here, on the device."""

    def __init__(
        self,
        trunk: X3DTrunk,
        head: ActorHead,
        *,
        pixel_mean: float = 0.45,
        pixel_std: float = 0.225,
    ) -> None:
        super().__init__()
        if trunk.spatial_stride != head.spatial_stride:
            raise ValueError(
                f"the trunk's stride is {trunk.spatial_stride}, "
                f"the head expects {head.spatial_stride}"
            )
        if trunk.out_channels != head.hidden.in_features:
            raise ValueError(
                f"the trunk gives {trunk.out_channels} channels, "
                f"the head takes {head.hidden.in_features}"
            )
        self.trunk = trunk
        self.head = head
        self.pixels = PixelNorm(pixel_mean, pixel_std)

    def forward(self, frames: Tensor, rois_px: Tensor) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB and (R, 5) = clip index, x1, y1, x2, y2 -> (R, A) logits.

        Boxes are in pixels of `frames`. R = 0 gives (0, A).
        """
        result: Tensor = self.head(self.trunk(self.pixels(frames)), rois_px)
        return result

    def actor_features(self, frames: Tensor, rois_px: Tensor) -> Tensor:
        """Take what `forward` takes; return (R, F), what the last layer sees but for dropout."""
        return self.head.actor_features(self.trunk(self.pixels(frames)), rois_px)


def build_detector(
    description: X3DDescription,
    head: ActorHeadDescription = AVA_HEAD,
    *,
    res5_stride: Literal[1, 2] = 2,
    pixel_mean: float = 0.45,
    pixel_std: float = 0.225,
) -> ActionDetector:
    """Build trunk and head that fit each other."""
    trunk = X3DTrunk(description, res5_stride=res5_stride)
    built = ActorHead(trunk.out_channels, head, spatial_stride=trunk.spatial_stride)
    return ActionDetector(trunk, built, pixel_mean=pixel_mean, pixel_std=pixel_std)
