"""From a feature map and people's boxes to one logit per person and action.

Legend: B clips, T frames, h w map size, R actors in the batch, C channels, A action classes.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.ops import roi_align

from detection.models.classifier import initialise_linear


class ActorHead(nn.Module):
    """Mean over time, RoIAlign, spatial maximum, fc1, ReLU, dropout, fc2 (the X3D paper's head).

    RoIs are scaled by 1 / `spatial_stride`, which must be the stride of the map that is given
    (32 for X3D; 16 where res5 keeps its resolution).
    """

    def __init__(
        self,
        in_channels: int = 432,
        *,
        hidden: int = 2048,
        num_classes: int = 80,
        roi_size: int = 7,
        spatial_stride: int = 32,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        self.roi_size = roi_size
        self.spatial_stride = spatial_stride
        self.hidden = nn.Linear(in_channels, hidden, bias=False)
        self.dropout = nn.Dropout(dropout)
        self.classes = nn.Linear(hidden, num_classes)
        initialise_linear(self.hidden, self.classes)

    def forward(self, features: Tensor, rois_px: Tensor) -> Tensor:
        """(B, C, T, h, w) and (R, 5) = clip index, x1, y1, x2, y2 in pixels -> (R, A) logits."""
        return self.classes(self.dropout(self.actor_features(features, rois_px)))

    def actor_features(self, features: Tensor, rois_px: Tensor) -> Tensor:
        """Return (R, hidden) features of the actors, what fc2 sees but for dropout."""
        maps = features.mean(2).float()  # (B, C, h, w); RoIAlign knows no half precision on CPU
        regions = roi_align(
            maps,
            rois_px.to(maps.dtype),
            output_size=self.roi_size,
            spatial_scale=1.0 / self.spatial_stride,
            sampling_ratio=0,  # adaptive
            aligned=True,
        )  # (R, C, roi_size, roi_size)
        return torch.relu(self.hidden(regions.amax((2, 3))))
