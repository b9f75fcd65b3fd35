"""Action scores of the people of keyframes, by each kind of network.

Legend: N people of a keyframe, A classes asked for, K classes of the network, T frames, H W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from detection.datasets.person_crops import crop_people
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.models.action_detector import ActionDetector
from detection.models.classifier import X3DClassifier
from detection.models.soundness import largest_logit

# Square clips that go through the network at a time: bounds its memory, whatever the people.
_CLIPS_AT_A_TIME = 8


@dataclass(frozen=True)
class KeyframeClip:
    """A keyframe's clip and its N people.

    time_s: of the keyframe.
    frames: T frames (H, W, 3) uint8 RGB.
    boxes_01: (N, 4) at the keyframe.
    paths_01: (N, T, 4) in each frame of the clip; None where people are not followed.
    """

    time_s: float
    frames: Sequence[NDArray[np.uint8]]
    boxes_01: NDArray[np.float32]
    paths_01: NDArray[np.float64] | None = None


@dataclass(frozen=True)
class RoiScorer:
    """Independent action probabilities by RoIAlign over the map of each keyframe's whole clip.

    model: on `device`.
    columns: (A,) classes asked for among the model's.
    short_side_px: of clips.
    half_precision: compute in float16.
    largest: the largest absolute logit so far.
    """

    model: ActionDetector
    columns: NDArray[np.int64]
    short_side_px: int
    device: torch.device
    half_precision: bool
    largest: list[float] = field(default_factory=lambda: [0.0])

    @torch.inference_mode()
    def score(self, keyframes: Sequence[KeyframeClip]) -> list[NDArray[np.float32]]:
        """Return the (N, A) scores of each keyframe, all of which have people."""
        transform = EvalTransform(short_side=self.short_side_px)
        params = transform.make_params(np.random.default_rng(0))
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        clips, rois = [], []
        for position, keyframe in enumerate(keyframes):
            frames = torch.from_numpy(np.stack(keyframe.frames))
            clip = transform.apply(frames.permute(0, 3, 1, 2), keyframe.boxes_01, params)
            by_size[tuple(clip.frames.shape)].append(position)
            clips.append(clip.frames)
            rois.append(clip.boxes_px)
        scores: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(clips)
        for positions in by_size.values():  # padding to another's size would change results
            rois_px = torch.cat(
                [
                    torch.nn.functional.pad(rois[position], (1, 0), value=float(number))
                    for number, position in enumerate(positions)
                ]
            )
            logits = self._logits(torch.stack([clips[p] for p in positions]), rois_px)
            self.largest[0] = max(self.largest[0], largest_logit(logits))
            parts = torch.split(logits, [len(rois[position]) for position in positions])
            for position, part in zip(positions, parts, strict=True):
                _check_finite(part, keyframes[position].time_s)
                scores[position] = part.sigmoid().numpy()[:, self.columns].astype(np.float32)
        return scores

    def _logits(self, frames: torch.Tensor, rois_px: torch.Tensor) -> torch.Tensor:
        with _autocast(self.device, self.half_precision):
            logits: torch.Tensor = self.model(frames.to(self.device), rois_px.to(self.device))
        return logits.float().cpu()


@dataclass(frozen=True)
class SquareScorer:
    """Probabilities of a network that classifies whole clips, from one square clip per person.

    model: on `device`.
    gather: (K, A) 0 or 1; the probabilities of a class asked for are the sum of its column.
    side_px: of square clips.
    independent: sigmoids in place of the softmax.
    half_precision: compute in float16.
    """

    model: X3DClassifier
    gather: NDArray[np.float32]
    side_px: int
    independent: bool
    device: torch.device
    half_precision: bool

    @torch.inference_mode()
    def score(self, keyframes: Sequence[KeyframeClip]) -> list[NDArray[np.float32]]:
        """Return the (N, A) scores of each keyframe."""
        return [self._score(keyframe) for keyframe in keyframes]

    def _score(self, keyframe: KeyframeClip) -> NDArray[np.float32]:
        assert keyframe.paths_01 is not None
        frames = np.stack(keyframe.frames)
        scores = [np.zeros((0, self.gather.shape[1]), np.float32)]
        for paths_01 in _pieces(keyframe.paths_01):
            clips = crop_people(frames, paths_01, self.side_px).to(self.device)
            with _autocast(self.device, self.half_precision):
                found = self.model.probabilities(clips, independent=self.independent)
            found = found.float().cpu()
            _check_finite(found, keyframe.time_s)
            scores.append(np.minimum(found.numpy() @ self.gather, 1))
        return np.concatenate(scores)


ActionScorer = RoiScorer | SquareScorer


def _pieces(paths_01: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(paths_01), _CLIPS_AT_A_TIME):
        yield paths_01[start : start + _CLIPS_AT_A_TIME]


def _autocast(device: torch.device, half_precision: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.float16) if half_precision else nullcontext()


def _check_finite(scores: torch.Tensor, time_s: float) -> None:
    if not scores.isfinite().all():
        raise UserError(
            f"the action network's scores at {time_s:.3f} s are not finite; its weights are "
            "damaged, or half precision is too little for them (--no-half)"
        )
