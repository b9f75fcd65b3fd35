"""The values that flow between the parts, checked where they are made.

Legend: B clips, T frames, H W pixels, N actors in a clip, R actors in a batch, A action classes.
Boxes are always x1, y1, x2, y2: `_01` in fractions of the full frame, `_px` in pixels of the
transformed clip. Zero actors is a legal value everywhere. This file does not import torch.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray

from detection.bounds import LONGEST_STEP, MOST_FRAMES, between

if TYPE_CHECKING:
    import torch

# What a clip does that would reach past its video's first or last frame: repeat that frame, or stay
# inside (`ClipSampling.times_s`).
AtEnds = Literal["repeat", "inside"]

# Which keyframes without a box of a person's track get one: none, those between two of its boxes,
# or all of the video (`tracking/scoring.py`).
FillMisses = Literal["none", "between", "whole-video"]

# In place of the name of a box file: the boxes of the annotations themselves.
GROUND_TRUTH_BOXES = "ground-truth"

# X3D's `step` counts frames of 30 per second (Feichtenhofer 2020); files of any rate are read by
# time, so that a clip spans as many seconds whatever the file's rate.
STEPS_PER_SECOND = 30.0


class Keyframe(NamedTuple):
    """One time in one video; sorts by video, then time.

    `time_s` is in seconds on the video's own clock (its presentation times): AVA's whole seconds
    and AVA-Kinetics' fractions alike.
    """

    video_id: str
    time_s: float

    def __str__(self) -> str:
        return f"{self.video_id} at {self.time_s:.3f} s"


@dataclass(frozen=True)
class ClipSampling:
    """Which frames of a video a clip holds: the one home of the spacing between YAML and frames.

    num_frames: T, at least 1.
    step: spacing of the frames in 1/30 s, whatever the video's rate; 0 repeats the middle frame.
    at_ends: "repeat" the edge frame where a clip would reach past its video, or keep it "inside".
    stream: passes of T frames follow each other along the video's clock from 0 s on, whatever the
    keyframes, and a keyframe is seen in T frames around it, of one pass or of two; the frames of a
    keyframe are then 2 T, those of both passes, with a weight each (`weights`).
    """

    num_frames: int = between(1, MOST_FRAMES)
    step: float = between(0, LONGEST_STEP)
    at_ends: AtEnds = "repeat"
    stream: bool = False

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.step < 0:
            raise ValueError(
                f"a clip needs num_frames >= 1 and step >= 0, got {self.num_frames} and {self.step}"
            )
        if self.at_ends not in get_args(AtEnds):
            raise ValueError(f"at_ends must be 'repeat' or 'inside', got {self.at_ends!r}")
        if self.stream and (self.at_ends != "inside" or not self.step):
            raise ValueError(
                "a stream's clips need a step above 0 and stay inside the video (at_ends), got "
                f"{self.step:g} and {self.at_ends!r}"
            )

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.step / STEPS_PER_SECOND

    @property
    def span_s(self) -> float:
        """Seconds from the first frame to the last."""
        return (self.num_frames - 1) * self.step_s

    @property
    def before_s(self) -> float:
        """Seconds from the first frame to the keyframe, at most; no frame is further from it."""
        frames = 2 * self.num_frames if self.stream else self.num_frames // 2
        return frames * self.step_s

    @property
    def frames_read(self) -> int:
        """Frames that are read for a keyframe: T, of a stream 2 T."""
        return 2 * self.num_frames if self.stream else self.num_frames

    @property
    def offsets_s(self) -> NDArray[np.float64]:
        """(T,) seconds of the frames after the first."""
        return np.arange(self.num_frames, dtype=np.float64) * self.step_s

    def times_s(
        self, time_s: float, *, within_s: tuple[float, float] | None = None
    ) -> NDArray[np.float64]:
        """Return the (T,) times of the frames around `time_s`, in seconds, ascending.

        Frame i is required at time_s + (i - T // 2) * step / 30, so that the keyframe's own is
        always among them. Of a stream they are the (2 T,) of two passes, or of one twice.
        within_s: times of the video's first and last frame; where clips stay "inside", one that
        would reach past either moves until it no longer does, one longer than the video is spread
        over it evenly, and the time nearest to `time_s` gives way to `time_s` itself (not of a
        stream, whose keyframes share passes). None: the times are what they are, and readers repeat
        edge frames.
        """
        if self.stream:
            return self._passes(time_s, within_s)[0]
        offsets = np.arange(self.num_frames, dtype=np.float64) - self.num_frames // 2
        times_s = np.asarray(time_s + offsets * self.step_s, dtype=np.float64)
        if within_s is None or self.at_ends == "repeat":
            return times_s
        first_s, last_s = within_s
        if first_s > last_s:
            raise ValueError(
                f"the first frame, at {first_s} s, is after the last one, at {last_s} s"
            )
        if first_s <= times_s[0] and times_s[-1] <= last_s:
            return times_s
        if times_s[-1] - times_s[0] > last_s - first_s:
            times_s = np.linspace(first_s, last_s, self.num_frames)
        else:
            times_s += max(first_s - times_s[0], 0.0) + min(last_s - times_s[-1], 0.0)
        times_s[np.abs(times_s - time_s).argmin()] = time_s
        return times_s

    def weights(
        self, time_s: float, *, within_s: tuple[float, float] | None = None
    ) -> NDArray[np.float32] | None:
        """Return the (2 T,) weights of the frames of a stream, which add up to 1; else None.

        The arguments are those of `times_s`.
        """
        return self._passes(time_s, within_s)[1] if self.stream else None

    def _passes(
        self, time_s: float, within_s: tuple[float, float] | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """Return times and weights of a stream's frames: those of multiples of the step."""
        size, step_s = self.num_frames, self.step_s
        weights = np.zeros(2 * size, np.float32)
        least, most = -math.inf, math.inf  # the first frame of the first and of the last pass
        if within_s is not None:
            least = math.ceil(within_s[0] / step_s - 1e-6)
            most = math.floor(within_s[1] / step_s + 1e-6) - size + 1
            if most < least:  # the video is shorter than a pass
                weights[:size] = 1 / size
                return np.tile(np.linspace(*within_s, size), 2), weights
        nearest = math.floor(time_s / step_s + 0.5 + 1e-6)
        first = int(min(max(nearest - size // 2, least), most))
        pass_of = np.arange(first, first + size) // size
        numbers = np.array([pass_of[0], pass_of[-1]])
        starts = np.clip(numbers * size, least, most).astype(np.int64)
        inside = np.arange(first, first + size) - starts[pass_of - numbers[0]]
        weights[(pass_of - numbers[0]) * size + inside] = 1 / size
        return ((starts[:, None] + np.arange(size)).reshape(-1) * step_s), weights


@dataclass(frozen=True)
class LabelMap:
    """The classes of a data set or a network: column j of a score array is `names[j]`.

    names: class names in column order, each once.
    ids: class ids in column order, each once.
    groups: PERSON_MOVEMENT, OBJECT_MANIPULATION, PERSON_INTERACTION (or another word) per class;
    None where the file tells no groups.
    exclusive: by name, columns of which a person does at most one at a time.
    """

    names: tuple[str, ...]
    ids: tuple[int, ...]
    groups: tuple[str, ...] | None = None
    exclusive: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.names:
            raise ValueError("a label map needs at least one class")
        if len(self.names) != len(self.ids):
            raise ValueError(f"{len(self.names)} names but {len(self.ids)} ids")
        if self.groups is not None and len(self.groups) != len(self.names):
            raise ValueError(f"{len(self.names)} names but {len(self.groups)} groups")
        for what, values in (("name", self.names), ("id", self.ids)):
            if len(set(values)) != len(values):
                raise ValueError(f"a class {what} is there twice")

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def index_by_id(self) -> dict[int, int]:
        """Column by class id."""
        return {class_id: column for column, class_id in enumerate(self.ids)}

    @cached_property
    def index_by_name(self) -> dict[str, int]:
        """Column by class name."""
        return {name: column for column, name in enumerate(self.names)}

    def select(self, columns: Sequence[int]) -> LabelMap:
        """Return the classes of some columns, in that order, with what is left of the groups."""
        place = {column: position for position, column in enumerate(columns)}
        left = {
            name: tuple(place[column] for column in group if column in place)
            for name, group in self.exclusive.items()
        }
        return LabelMap(
            tuple(self.names[column] for column in columns),
            tuple(self.ids[column] for column in columns),
            None if self.groups is None else tuple(self.groups[column] for column in columns),
            {name: group for name, group in left.items() if len(group) > 1},
        )


@dataclass(frozen=True, eq=False)
class ClassThresholds:
    """The score from which a person is taken to do each action, learned on held-out data.

    score: (A,) float64, column j is the label map's j-th class.
    precision, recall: (A,) float64 at it, on the data that it was learned on; NaN where a class has
        no example there.
    examples: (A,) int64 positives there, those that no box found included.
    common: one threshold for all classes, since there were too few examples for one each.
    times_person_score: scores are multiplied by the confidence in the person before they are
        compared.
    source: the data, in words: "val, ground-truth boxes".
    """

    score: NDArray[np.float64]
    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    examples: NDArray[np.int64]
    common: bool
    times_person_score: bool
    source: str

    def __post_init__(self) -> None:
        for name in ("score", "precision", "recall"):
            object.__setattr__(self, name, np.asarray(getattr(self, name), np.float64).reshape(-1))
        object.__setattr__(self, "examples", np.asarray(self.examples, np.int64).reshape(-1))
        sizes = {len(getattr(self, n)) for n in ("score", "precision", "recall", "examples")}
        if len(sizes) > 1:
            raise ValueError(f"scores, precision, recall and examples of {sorted(sizes)} classes")
        if not bool(((self.score >= 0) & (self.score <= 1)).all()):
            raise ValueError("thresholds must be from 0 to 1")

    def __len__(self) -> int:
        return len(self.score)

    def select(self, columns: Sequence[int]) -> ClassThresholds:
        """Return those of some classes, in that order."""
        chosen = np.asarray(columns, np.int64)
        parts = ("score", "precision", "recall", "examples")
        return replace(self, **{name: getattr(self, name)[chosen] for name in parts})


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
        """Return no boxes."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32))


@dataclass(frozen=True)
class Sample:
    """One keyframe, ready to be batched.

    frames: (3, T, H, W) uint8 RGB, after resize, crop and flip.  boxes_px: (N, 4) float32 in pixels
    of those frames, or (N, T, 4), a box in each frame, where boxes follow their people.  boxes: the
    same N actors as they were in the full keyframe, so that no crop has to be inverted.  labels:
    (N, A) float32 of 0 and 1.  weights: (T,) of the frames of two passes of a stream
    (`ClipSampling.weights`); None of a clip.  same_clip: equal where the frames are; None: unknown.
    """

    keyframe: Keyframe
    frames: torch.Tensor
    boxes_px: torch.Tensor
    boxes: ActorBoxes
    labels: torch.Tensor
    weights: torch.Tensor | None = None
    same_clip: Hashable = None

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

    Keyframes whose clips hold the same frames share one: there are then fewer clips than keyframes.
    frames: (B, 3, T, H, W) uint8.  rois_px: (R, 5) float32 = clip index, x1, y1, x2, y2; (R, T, 5)
    where boxes follow their people: those five for each frame.
    labels: (R, A) float32.  boxes and keyframes: one entry a keyframe, in the order of the rois.
    weights: (B, T) float32 of the frames of streams; None of clips.
    """

    frames: torch.Tensor
    rois_px: torch.Tensor
    labels: torch.Tensor
    boxes: Sequence[ActorBoxes]
    keyframes: Sequence[Keyframe]
    weights: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.frames.ndim != 5 or self.frames.shape[1] != 3:
            raise ValueError(f"frames must be (B, 3, T, H, W), got {tuple(self.frames.shape)}")
        actors = sum(len(boxes) for boxes in self.boxes)
        if not len(self.rois_px) == len(self.labels) == actors:
            raise ValueError(
                f"{len(self.rois_px)} rois, {len(self.labels)} label rows and {actors} boxes "
                "must be as many"
            )
        if not len(self.frames) <= len(self.boxes) == len(self.keyframes):
            raise ValueError(
                f"{len(self.frames)} clips, {len(self.boxes)} box sets and "
                f"{len(self.keyframes)} keyframes: as many box sets as keyframes and no more clips "
                "are required"
            )

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What the network is called with."""
        usual = (self.frames, self.rois_px)
        return usual if self.weights is None else (*usual, self.weights)

    @property
    def keys(self) -> list[str]:
        """What messages call each keyframe's clip."""
        return [str(keyframe) for keyframe in self.keyframes]

    def pin_memory(self) -> Batch:
        """Return the batch in page-locked memory (called by DataLoader)."""
        names = ["frames", "rois_px", "labels"]
        if self.weights is not None:
            names.append("weights")
        return replace(self, **{name: getattr(self, name).pin_memory() for name in names})


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
