"""From a feature map and people's boxes to one logit per person and action.

Legend: B clips, T frames, h w map size, R actors in the batch, C channels, A action classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from detection.bounds import between
from detection.models.classifier import HeadDescription, initialise_linear

RoiPool = Literal["max", "mean"]
Context = Literal["none", "frame"]


@dataclass(frozen=True)
class ActorHeadDescription(HeadDescription):
    """The numbers that make an actor head; the defaults are the X3D paper's.

    An option of the head is a field here, under the same name in the configuration and in
    checkpoints (`detection.build.describe_head` lists the two names that differ).

    roi_size: RoIAlign's output is roi_size x roi_size.
    roi_pool: over a person's region: "max", or "mean", as the classifier whose fc1 the head starts
    from averages over the frame.
    context: "frame" also gives fc2 what fc1 makes of the mean over the whole frame: the scene,
    beside the person.
    unit_features: bring what fc1 makes of the person, and of the frame, to length 1 each, so that
    no clip's features outweigh another's.
    exclusive: everybody does exactly one of the classes: probabilities add up to 1. A logit is
    still that of one action's probability, so that sigmoid and loss stay as they are.
    """

    roi_size: int = between(1, 64, 7)
    roi_pool: RoiPool = "max"
    context: Context = "none"
    unit_features: bool = False
    exclusive: bool = False

    def __post_init__(self) -> None:
        if self.roi_pool not in get_args(RoiPool):
            raise ValueError(f"roi_pool must be 'max' or 'mean', got {self.roi_pool!r}")
        if self.context not in get_args(Context):
            raise ValueError(f"context must be 'none' or 'frame', got {self.context!r}")
        if self.exclusive and self.num_classes < 2:
            raise ValueError(f"exclusive actions need two classes at least, got {self.num_classes}")


AVA_HEAD = ActorHeadDescription(num_classes=80)


class ActorHead(nn.Module):
    """Mean over time, RoIAlign, spatial maximum, fc1, ReLU, dropout, fc2 (the X3D paper's head).

    RoIs are scaled by 1 / `spatial_stride`, which must be the stride of the map that is given
    (32 for X3D; 16 where res5 keeps its resolution).
    """

    def __init__(
        self,
        in_channels: int = 432,
        description: ActorHeadDescription = AVA_HEAD,
        *,
        spatial_stride: int = 32,
    ) -> None:
        super().__init__()
        self.description = description
        self.spatial_stride = spatial_stride
        self.hidden = nn.Linear(in_channels, description.hidden, bias=False)
        self.dropout = nn.Dropout(description.dropout)
        self.classes = nn.Linear(sum(self.feature_parts), description.num_classes)
        initialise_linear(self.hidden, self.classes)

    def forward(self, features: Tensor, rois_px: Tensor) -> Tensor:
        """(B, C, T, h, w) and (R, 5) = clip index, x1, y1, x2, y2 in pixels -> (R, A) logits."""
        return self.logits(self.dropout(self.actor_features(features, rois_px)))

    def logits(self, actor_features: Tensor) -> Tensor:
        """Return (R, A) logits of what `actor_features` returned."""
        logits = self.classes(actor_features)
        return exclusive_logits(logits) if self.description.exclusive else logits

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """Widths of the kinds of features that fc2 takes: the person's, and the whole frame's."""
        width = self.description.hidden
        return (width,) if self.description.context == "none" else (width, width)

    def actor_features(self, features: Tensor, rois_px: Tensor) -> Tensor:
        """Return what fc2 sees but for dropout: (R, hidden), or (R, 2 * hidden) with context."""
        from torchvision.ops import roi_align  # takes long to import

        maps = features.mean(2).float()  # (B, C, h, w); RoIAlign knows no half precision on CPU
        regions = roi_align(
            maps,
            rois_px.to(maps.dtype),
            output_size=self.description.roi_size,
            spatial_scale=1.0 / self.spatial_stride,
            sampling_ratio=0,  # adaptive
            aligned=True,
        )  # (R, C, roi_size, roi_size)
        pooled = (
            regions.amax((2, 3)) if self.description.roi_pool == "max" else regions.mean((2, 3))
        )
        actors = self._hidden_features(pooled)
        if self.description.context == "none":
            return actors
        frames = self._hidden_features(maps.mean((2, 3)))  # (B, hidden)
        return torch.cat([actors, frames[rois_px[:, 0].long()]], dim=1)

    def _hidden_features(self, pooled: Tensor) -> Tensor:
        """(N, C) -> (N, hidden)."""
        features = torch.relu(self.hidden(pooled))
        return normalize(features, dim=1) if self.description.unit_features else features


def exclusive_logits(logits: Tensor) -> Tensor:
    """Return (R, A) logits whose sigmoids are the softmax of (R, A) logits, for A of 2 or more.

    log(p / (1 - p)) of a softmax is a logit less the log-sum-exp of the others, taken over the
    others themselves: near p = 1 nothing is left of a difference of sums.
    """
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits.float().unsqueeze(1).masked_fill(own, -torch.inf)  # (R, A, A)
    return logits - others.logsumexp(2)
