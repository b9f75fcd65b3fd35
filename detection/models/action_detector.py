"""The network of this project: what each person in a clip is doing.

Legend: B clips, T frames, H W pixels, R actors in the batch, A action classes.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from detection.models.actor_head import AVA_HEAD, ActorHead, ActorHeadDescription
from detection.models.person_squares import cut_squares
from detection.models.pixels import PixelNorm
from detection.models.x3d import X3DDescription, X3DTrunk

# Squares that go through the trunk at a time: bounds memory, whatever the people.
SQUARES_AT_A_TIME = 8


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

    def forward(self, frames: Tensor, rois_px: Tensor, weights: Tensor | None = None) -> Tensor:
        """(B, 3, T, H, W) uint8 RGB and (R, 5) = clip index, x1, y1, x2, y2 -> (R, A) logits.

        Boxes are in pixels of `frames`; (R, T, 5), one in each frame, where the head follows people
        (`ActorHeadDescription.actor_input`). R = 0 gives (0, A).  weights: (B, T) float where a
        clip is two passes of a stream of T / 2 frames: what the mean over their maps gives each.
        """
        result: Tensor = self.head(*self._seen(frames, rois_px, weights))
        return result

    def actor_features(
        self, frames: Tensor, rois_px: Tensor, weights: Tensor | None = None
    ) -> Tensor:
        """Take what `forward` takes; return (R, F), what the last layer sees but for dropout."""
        return self.head.actor_features(*self._seen(frames, rois_px, weights))

    def _seen(
        self, frames: Tensor, rois_px: Tensor, weights: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """Return what the head takes: maps, boxes, and means of the squares that follow people."""
        crops = None
        if self.head.description.actor_input == "tube+crop":
            crops = self._square_means(self.pixels(frames), rois_px)
        return self._maps(frames, weights), rois_px, crops

    def _square_means(self, pixels: Tensor, rois_px: Tensor) -> Tensor:
        """Return (R, C, T) means over the map of each person's square clip."""
        if _is_traced():
            return self._means_of(pixels, rois_px)
        if not len(rois_px):
            return pixels.new_zeros(0, self.trunk.out_channels, pixels.shape[2])
        at_a_time = len(rois_px) if self.training else SQUARES_AT_A_TIME
        parts = torch.split(rois_px, at_a_time)
        return torch.cat([self._means_of(pixels, part) for part in parts])

    def _means_of(self, pixels: Tensor, rois_px: Tensor) -> Tensor:
        squares = cut_squares(pixels, rois_px, side_px=self.head.description.crop_px)
        means: Tensor = self.trunk(squares).mean((3, 4))
        return means

    def _maps(self, frames: Tensor, weights: Tensor | None) -> Tensor:
        """Return (B, C, T, h, w) maps of clips; (B, C, 1, h, w) weighted means of streams."""
        pixels = self.pixels(frames)
        if weights is None:
            maps: Tensor = self.trunk(pixels)
            return maps
        first, second = pixels.chunk(2, dim=2)
        first, second = self.trunk(torch.cat([first, second])).chunk(2)
        return weighted_mean(torch.cat([first, second], dim=2), weights)


def _is_traced() -> bool:
    """Whether the program of a network is being written, for any number of people."""
    tracing: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return tracing or torch.compiler.is_compiling()


def weighted_mean(maps: Tensor, weights: Tensor) -> Tensor:
    """(B, C, T, h, w) and (B, T), adding up to 1 -> (B, C, 1, h, w)."""
    return torch.einsum("bcthw,bt->bchw", maps, weights.to(maps.dtype))[:, :, None]


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
