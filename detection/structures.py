"""The values that flow between the parts, checked where they are made.

Legend: B clips, T frames, H W pixels, N actors in a clip, R actors in a batch, A action classes.
Boxes are always x1, y1, x2, y2: `_01` in fractions of the full frame, `_px` in pixels of the
transformed clip. Zero actors is a legal value everywhere. This file does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

# What a clip does that would reach past its video's first or last frame: repeat that frame, or stay
# inside (`detection.datasets.sampling.clip_times_s`).
AtEnds = Literal["repeat", "inside"]


class Keyframe(NamedTuple):
    """One moment of one video; sorts by video, then time.

    `time_s` is in seconds on the video's own clock (its presentation times): AVA's whole seconds
    and AVA-Kinetics' fractions alike.
    """

    video_id: str
    time_s: float

    def __str__(self) -> str:
        return f"{self.video_id} at {self.time_s:.3f} s"


@dataclass(frozen=True)
class Clip:
    """Decoded frames and when each of them is shown.

    frames: (T, 3, H, W) uint8 RGB tensor.  times_s: (T,) float64 presentation times in seconds.
    """

    frames: torch.Tensor
    times_s: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[1] != 3:
            raise ValueError(f"frames must be (T, 3, H, W), got {tuple(self.frames.shape)}")
        if len(self.times_s) != len(self.frames):
            raise ValueError(f"{len(self.frames)} frames but {len(self.times_s)} times")


@dataclass(frozen=True)
class ActorBoxes:
    """People (or other actors) of one keyframe.

    xyxy_01: (N, 4) float32, fractions of the full frame.  score: (N,) float32, the detector's
    confidence, 1 for ground truth.
    """

    xyxy_01: NDArray[np.float32]
    score: NDArray[np.float32]

    def __post_init__(self) -> None:
        boxes = np.asarray(self.xyxy_01, dtype=np.float32).reshape(-1, 4)
        score = np.asarray(self.score, dtype=np.float32).reshape(-1)
        if len(boxes) != len(score):
            raise ValueError(f"{len(boxes)} boxes but {len(score)} scores")
        object.__setattr__(self, "xyxy_01", boxes)
        object.__setattr__(self, "score", score)

    def __len__(self) -> int:
        return len(self.score)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> ActorBoxes:
        """Return the actors that `index` (a mask or positions) names."""
        return ActorBoxes(self.xyxy_01[index], self.score[index])

    @classmethod
    def empty(cls) -> ActorBoxes:
        """Return boxes of nobody."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Sample:
    """One keyframe, ready to be batched.

    frames: (3, T, H, W) uint8 RGB, after resize, crop and flip.  boxes_px: (N, 4) float32 in pixels
    of those frames.  boxes: the same N actors as they were in the full frame, so that nobody has
    to invert a crop.  labels: (N, A) float32 of 0 and 1.
    """

    keyframe: Keyframe
    frames: torch.Tensor
    boxes_px: torch.Tensor
    boxes: ActorBoxes
    labels: torch.Tensor

    def __post_init__(self) -> None:
        if self.frames.ndim != 4 or self.frames.shape[0] != 3:
            raise ValueError(f"frames must be (3, T, H, W), got {tuple(self.frames.shape)}")
        if not len(self.boxes_px) == len(self.boxes) == len(self.labels):
            raise ValueError(
                f"{len(self.boxes_px)} boxes_px, {len(self.boxes)} boxes and "
                f"{len(self.labels)} label rows must be as many"
            )


@dataclass(frozen=True)
class Batch:
    """Clips of one size with their actors.

    frames: (B, 3, T, H, W) uint8.  rois_px: (R, 5) float32 = clip index, x1, y1, x2, y2.
    labels: (R, A) float32.  boxes and keyframes: one entry a clip, in the order of the clips.
    """

    frames: torch.Tensor
    rois_px: torch.Tensor
    labels: torch.Tensor
    boxes: Sequence[ActorBoxes]
    keyframes: Sequence[Keyframe]

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, T, H, W), got {tuple(self.frames.shape)}")
        actors = sum(len(boxes) for boxes in self.boxes)
        if not len(self.rois_px) == len(self.labels) == actors:
            raise ValueError(
                f"{len(self.rois_px)} rois, {len(self.labels)} label rows and {actors} boxes "
                "must be as many"
            )
        if not len(self.frames) == len(self.boxes) == len(self.keyframes):
            raise ValueError(
                f"{len(self.frames)} clips, {len(self.boxes)} box sets and "
                f"{len(self.keyframes)} keyframes must be as many"
            )

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What the network is called with."""
        return self.frames, self.rois_px

    @property
    def keys(self) -> list[str]:
        """What messages call each clip."""
        return [str(keyframe) for keyframe in self.keyframes]

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (called by DataLoader)."""
        return Batch(
            self.frames.pin_memory(),
            self.rois_px.pin_memory(),
            self.labels.pin_memory(),
            self.boxes,
            self.keyframes,
        )


@dataclass(frozen=True)
class Detections:
    """What was found at one keyframe.

    action_scores: (N, A) float32 probabilities, the network's alone; column j is the label map's
    j-th class. Multiplying them by `boxes.score` is a named step of evaluation, never done here.
    """

    keyframe: Keyframe
    boxes: ActorBoxes
    action_scores: NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.action_scores.ndim != 2 or len(self.action_scores) != len(self.boxes):
            raise ValueError(
                f"action_scores must be ({len(self.boxes)}, A), got {self.action_scores.shape}"
            )


@dataclass(frozen=True)
class FrameMap:
    """A frame-mAP with all that is needed to compare it with another one.

    mean_ap: mean over the classes that have ground truth, a fraction; NaN when none has.
    per_class: AP by class name in label-map order, NaN where there is no ground truth.
    num_ground_truth: boxes by class name.  protocol: the name of the rules.
    """

    protocol: str
    mean_ap: float
    per_class: Mapping[str, float]
    num_ground_truth: Mapping[str, int]
    num_detections: Mapping[str, int]
    num_keyframes: int
    iou_threshold: float
