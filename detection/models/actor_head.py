"""From a feature map and people's boxes to one logit per person and action.

Legend: B clips, T frames, h w map size, R actors in the batch, C channels, A action classes, P
stretches of time (`time_parts`).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from detection.bounds import LARGEST_SIDE_PX, MOST_FRAMES, between
from detection.models.classifier import HeadDescription, initialise_linear

RoiPool = Literal["max", "mean"]
Context = Literal["none", "frame"]
ActorInput = Literal["roi", "tube", "tube+crop"]


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
    actor_input: "roi": the keyframe's box on the mean over time. "tube": the person's own box in
    each frame, so that whoever moves is not left behind. "tube+crop": also one more pass of the
    trunk a person, over a square that follows them.
    crop_px: side at which that square is seen.
    time_parts: the clip's frames in so many stretches of equal length (to a frame): features of
    each, side by side, instead of their mean, which knows no order (standing up is sitting down).
    """

    roi_size: int = between(1, 64, 7)
    roi_pool: RoiPool = "max"
    context: Context = "none"
    unit_features: bool = False
    exclusive: bool = False
    actor_input: ActorInput = "roi"
    crop_px: int = between(32, LARGEST_SIDE_PX, 160)
    time_parts: int = between(1, MOST_FRAMES, 1)

    @property
    def follows(self) -> bool:
        """Whether a person has a box in each frame of the clip, instead of the keyframe's alone."""
        return self.actor_input != "roi"

    def standing(self, rois_px: Tensor, num_frames: int) -> Tensor:
        """Return (R, 5) RoIs that stand still in the form the head takes: so, or (R, T, 5)."""
        return rois_px[:, None].repeat(1, num_frames, 1) if self.follows else rois_px

    def __post_init__(self) -> None:
        if self.roi_pool not in get_args(RoiPool):
            raise ValueError(f"roi_pool must be 'max' or 'mean', got {self.roi_pool!r}")
        if self.context not in get_args(Context):
            raise ValueError(f"context must be 'none' or 'frame', got {self.context!r}")
        if self.actor_input not in get_args(ActorInput):
            raise ValueError(
                f"actor_input must be 'roi', 'tube' or 'tube+crop', got {self.actor_input!r}"
            )
        if self.time_parts < 1 or self.crop_px < 1:
            raise ValueError(
                f"time_parts and crop_px must be at least 1, got {self.time_parts} and "
                f"{self.crop_px}"
            )
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

    def forward(self, features: Tensor, rois_px: Tensor, crops: Tensor | None = None) -> Tensor:
        """(B, C, T, h, w) and (R, 5) = clip index, x1, y1, x2, y2 in pixels -> (R, A) logits.

        Where the head follows people, `rois_px` is (R, T, 5), a person's box in each frame.
        crops: (R, C, T), where it takes a square of each person: the spatial means of its map.
        """
        return self.logits(self.dropout(self.actor_features(features, rois_px, crops)))

    def logits(self, actor_features: Tensor) -> Tensor:
        """Return (R, A) logits of what `actor_features` returned."""
        logits = self.classes(actor_features)
        return exclusive_logits(logits) if self.description.exclusive else logits

    @property
    def feature_parts(self) -> tuple[int, ...]:
        """Widths of the kinds of features that fc2 takes.

        The person's region, the whole frame, the person's square, as far as the head has them; each
        once for every stretch of time.
        """
        asked = self.description
        kinds = 1 + (asked.context == "frame") + (asked.actor_input == "tube+crop")
        return (asked.hidden,) * (kinds * asked.time_parts)

    def actor_features(
        self, features: Tensor, rois_px: Tensor, crops: Tensor | None = None
    ) -> Tensor:
        """Take what `forward` takes; return what fc2 sees but for dropout: (R, F).

        F is the sum of `feature_parts`. Raises `ValueError` for boxes or crops of another form than
        the head takes, and for fewer frames than stretches of time.
        """
        asked = self.description
        if rois_px.ndim != (3 if asked.follows else 2):
            form = "(R, T, 5)" if asked.follows else "(R, 5)"
            raise ValueError(f"rois_px must be {form} here, got {tuple(rois_px.shape)}")
        if (crops is not None) != (asked.actor_input == "tube+crop"):
            raise ValueError(f"actor_input {asked.actor_input!r} and crops do not go together")
        if features.shape[2] < asked.time_parts:
            raise ValueError(
                f"{asked.time_parts} time_parts need as many frames, got {features.shape[2]}"
            )
        maps = features.float()  # RoIAlign knows no half precision on a CPU
        regions = self._followed(maps, rois_px) if asked.follows else self._still(maps, rois_px)
        pooled = regions.amax((3, 4)) if asked.roi_pool == "max" else regions.mean((3, 4))
        kinds = [self._hidden_features(pooled)]
        if asked.context == "frame":
            frames = self._hidden_features(self._parts(maps).mean((3, 4)))
            of_keyframe = rois_px[:, 0] if asked.follows else rois_px
            kinds.append(frames[of_keyframe[:, 0].long()])
        if crops is not None:
            kinds.append(self._hidden_features(self._parts(crops.float())))
        return torch.cat(kinds, dim=1)

    def _parts(self, values: Tensor) -> Tensor:
        """(N, C, T, ...) -> (N, P, C, ...), the means over stretches of time.

        Where they cannot be of equal length, the first are a frame longer.
        """
        num = self.description.time_parts
        length, longer = divmod(int(values.shape[2]), num)
        ends = [length * part + min(part, longer) for part in range(num + 1)]
        parts = [values[:, :, first:end] for first, end in itertools.pairwise(ends)]
        return torch.stack([part.mean(2) for part in parts], dim=1)

    def _still(self, maps: Tensor, rois_px: Tensor) -> Tensor:
        """Return (R, P, C, roi_size, roi_size) regions of the keyframe's boxes, (R, 5)."""
        means = self._parts(maps)  # (B, P, C, h, w)
        num = means.shape[1]
        number = rois_px[:, :1] * num + torch.arange(num, device=rois_px.device)  # (R, P)
        boxes = rois_px[:, None, 1:].expand(-1, num, -1)
        return self._regions(means.flatten(0, 1), torch.cat([number[..., None], boxes], dim=2))

    def _followed(self, maps: Tensor, rois_px: Tensor) -> Tensor:
        """Return (R, P, C, roi_size, roi_size) regions of boxes that move, (R, T, 5).

        The mean over time comes after RoIAlign; where a box stands still that is the same number.
        """
        frames = maps.transpose(1, 2)  # (B, T, C, h, w)
        num = frames.shape[1]
        number = rois_px[..., 0] * num + torch.arange(num, device=rois_px.device)  # (R, T)
        numbered = torch.cat([number[..., None], rois_px[..., 1:]], dim=2)
        regions = self._regions(frames.flatten(0, 1), numbered)  # (R, T, C, s, s)
        return self._parts(regions.transpose(1, 2))

    def _regions(self, maps: Tensor, rois_px: Tensor) -> Tensor:
        """(N, C, h, w) and (R, K, 5) of maps' numbers and boxes -> (R, K, C, s, s)."""
        from torchvision.ops import roi_align  # takes long to import

        regions: Tensor = roi_align(
            maps,
            rois_px.flatten(0, 1).to(maps.dtype),
            output_size=self.description.roi_size,
            spatial_scale=1.0 / self.spatial_stride,
            sampling_ratio=0,  # adaptive
            aligned=True,
        )
        return regions.reshape(*rois_px.shape[:2], *regions.shape[1:])

    def _hidden_features(self, pooled: Tensor) -> Tensor:
        """(N, P, C) -> (N, P * hidden)."""
        features = torch.relu(self.hidden(pooled))
        if self.description.unit_features:
            features = normalize(features, dim=2)
        return features.flatten(1)


def exclusive_logits(logits: Tensor) -> Tensor:
    """Return (R, A) logits whose sigmoids are the softmax of (R, A) logits, for A of 2 or more.

    log(p / (1 - p)) of a softmax is a logit less the log-sum-exp of the others, taken over the
    others themselves: near p = 1 nothing is left of a difference of sums.
    """
    own = torch.eye(logits.shape[1], dtype=torch.bool, device=logits.device)
    others = logits.float().unsqueeze(1).masked_fill(own, -torch.inf)  # (R, A, A)
    return logits - others.logsumexp(2)
