"""Action scores of the people of keyframes, by each kind of network.

Legend: N people of a keyframe, A classes asked for, K classes of the network, T frames, H W pixels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from detection.datasets.person_crops import crop_people
from detection.datasets.transforms import EvalTransform, TransformedClip
from detection.errors import UserError
from detection.export.networks import ExportedDetector
from detection.models.action_detector import ActionDetector, weighted_mean
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import ClipClassifier
from detection.models.soundness import largest_logit
from detection.pipeline.shared_clips import SharedMaps

# Square clips that go through the network at a time: bounds its memory, whatever the people.
CLIPS_AT_A_TIME = 8


@dataclass(frozen=True)
class KeyframeClip:
    """A keyframe's clip and its N people.

    time_s: of the keyframe.
    frames: T frames (H, W, 3) uint8 RGB.
    boxes_01: (N, 4) at the keyframe.
    paths_01: (N, T, 4) in each frame of the clip; None where people are not followed.
    weights: (T,) of the frames where they are two passes of a stream; else None.
    """

    time_s: float
    frames: Sequence[NDArray[np.uint8]]
    boxes_01: NDArray[np.float32]
    paths_01: NDArray[np.float64] | None = None
    weights: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class RoiScorer:
    """Independent action probabilities by RoIAlign over the map of each keyframe's whole clip.

    model: on `device`.
    columns: (A,) classes asked for among the model's.
    short_side_px: of clips.
    half_precision: compute in float16.
    damage: what says that the weights are broken; None for sound ones.
    largest: the largest absolute logit so far.
    maps: of the passes of a stream, which keyframes share; None where each has a clip of its own.
    """

    model: ActionDetector | ExportedDetector
    columns: NDArray[np.int64]
    short_side_px: int
    device: torch.device
    half_precision: bool
    damage: str | None = None
    largest: list[float] = field(default_factory=lambda: [0.0])
    maps: SharedMaps | None = None

    @property
    def follows_people(self) -> bool:
        """Whether the network takes each person's box in each frame of the clip."""
        model, head = self.model, None
        if isinstance(model, ExportedDetector):
            head = model.description.head
        elif isinstance(model, ActionDetector):
            head = model.head.description
        return isinstance(head, ActorHeadDescription) and head.follows

    @torch.inference_mode()
    def score(self, keyframes: Sequence[KeyframeClip]) -> list[NDArray[np.float32]]:
        """Return the (N, A) scores of each keyframe, all of which have people.

        Keyframes with the same frames (the same arrays) share a clip.
        """
        if self.maps is not None:
            return [self._score_in_stream(keyframe, self.maps) for keyframe in keyframes]
        by_size: dict[tuple[int, ...], list[int]] = defaultdict(list)
        clips = []
        for position, keyframe in enumerate(keyframes):
            paths_01 = np.asarray(keyframe.paths_01, np.float32) if self.follows_people else None
            clip = self._transformed(keyframe.frames, keyframe.boxes_01, paths_01)
            by_size[tuple(clip.frames.shape)].append(position)
            clips.append(clip)
        scores: list[NDArray[np.float32]] = [np.zeros((0, 0), np.float32)] * len(clips)
        for positions in by_size.values():  # padding to another's size would change results
            number_of: dict[tuple[int, ...], int] = {}
            different: list[torch.Tensor] = []
            rois = []
            for position in positions:
                key = tuple(id(frame) for frame in keyframes[position].frames)
                if key not in number_of:
                    number_of[key] = len(different)
                    different.append(clips[position].frames)
                boxes_px, number = clips[position].boxes_px, float(number_of[key])
                rois.append(torch.nn.functional.pad(boxes_px, (1, 0), value=number))
            logits = self._logits(torch.stack(different), torch.cat(rois))
            parts = torch.split(logits, [len(part) for part in rois])
            for position, part in zip(positions, parts, strict=True):
                scores[position] = self._probabilities(part, keyframes[position].time_s)
        return scores

    def _score_in_stream(self, keyframe: KeyframeClip, maps: SharedMaps) -> NDArray[np.float32]:
        """Return (N, A) scores; the map of a pass is computed where it is not there yet."""
        model = self.model
        assert isinstance(model, ActionDetector) and keyframe.weights is not None
        size = len(keyframe.frames) // 2
        with _autocast(self.device, self.half_precision):
            mean: torch.Tensor | None = None
            for first in (0, size):
                frames = keyframe.frames[first : first + size]
                weights = torch.from_numpy(keyframe.weights[first : first + size])
                if weights.any():
                    found = maps.of(frames, lambda frames=frames: self._map(frames))  # type: ignore[misc]
                    part = weighted_mean(found, weights.to(self.device)[None])
                    mean = part if mean is None else mean + part
            assert mean is not None, "weights add up to 1"
            boxes_px = self._transformed(keyframe.frames[:1], keyframe.boxes_01).boxes_px
            rois_px = torch.nn.functional.pad(boxes_px, (1, 0)).to(self.device)
            logits = model.head(mean, rois_px)
        return self._probabilities(logits.float().cpu(), keyframe.time_s)

    def _map(self, frames: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Return the (1, C, T, h, w) map of T frames."""
        assert isinstance(self.model, ActionDetector)
        clip = self._transformed(frames, np.zeros((0, 4), np.float32))
        pixels = self.model.pixels(clip.frames[None].to(self.device))
        found: torch.Tensor = self.model.trunk(pixels)
        return found

    def _transformed(
        self,
        frames: Sequence[NDArray[np.uint8]],
        boxes_01: NDArray[np.float32],
        paths_01: NDArray[np.float32] | None = None,
    ) -> TransformedClip:
        return scaled_clip(frames, self.short_side_px, boxes_01, paths_01)

    def _probabilities(self, logits: torch.Tensor, time_s: float) -> NDArray[np.float32]:
        """(N, K) logits of a keyframe -> (N, A)."""
        self.largest[0] = max(self.largest[0], largest_logit(logits))
        _check_finite(logits, time_s)
        return logits.sigmoid().numpy()[:, self.columns].astype(np.float32)

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
    whole_frames: the clip as it is, scaled, in place of squares: people's boxes are the frame.
    """

    follows_people: ClassVar[bool] = True
    model: ClipClassifier
    gather: NDArray[np.float32]
    side_px: int
    independent: bool
    device: torch.device
    half_precision: bool
    whole_frames: bool = False

    @torch.inference_mode()
    def score(self, keyframes: Sequence[KeyframeClip]) -> list[NDArray[np.float32]]:
        """Return the (N, A) scores of each keyframe."""
        return [self._score(keyframe) for keyframe in keyframes]

    def _score(self, keyframe: KeyframeClip) -> NDArray[np.float32]:
        assert keyframe.paths_01 is not None
        frames = np.stack(keyframe.frames)
        scores = [np.zeros((0, self.gather.shape[1]), np.float32)]
        for paths_01 in _pieces(keyframe.paths_01):
            if self.whole_frames:
                clips = scaled_clip(keyframe.frames, self.side_px).frames[None]
            else:
                clips = crop_people(frames, paths_01, self.side_px)
            clips = clips.to(self.device)
            with _autocast(self.device, self.half_precision):
                found = self.model.probabilities(clips, independent=self.independent)
            found = found.float().cpu()
            _check_finite(found, keyframe.time_s)
            scores.append(np.minimum(found.numpy() @ self.gather, 1))
        return np.concatenate(scores)


def scaled_clip(
    frames: Sequence[NDArray[np.uint8]],
    short_side_px: int,
    boxes_01: NDArray[np.float32] | None = None,
    paths_01: NDArray[np.float32] | None = None,
) -> TransformedClip:
    """Return T frames (H, W, 3) and boxes as the networks take them, scaled and not cropped."""
    boxes_01 = np.zeros((0, 4), np.float32) if boxes_01 is None else boxes_01
    transform = EvalTransform(short_side=short_side_px)
    images = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
    params = transform.make_params(np.random.default_rng(0))
    return transform.apply(images, boxes_01, params, paths_01=paths_01)


ActionScorer = RoiScorer | SquareScorer


def _pieces(paths_01: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
    for start in range(0, len(paths_01), CLIPS_AT_A_TIME):
        yield paths_01[start : start + CLIPS_AT_A_TIME]


def _autocast(device: torch.device, half_precision: bool) -> AbstractContextManager[object]:
    return torch.autocast(device.type, torch.float16) if half_precision else nullcontext()


def _check_finite(scores: torch.Tensor, time_s: float) -> None:
    if not scores.isfinite().all():
        raise UserError(
            f"the action network's scores at {time_s:.3f} s are not finite; its weights are "
            "damaged, or half precision is too little for them (--no-half)"
        )
