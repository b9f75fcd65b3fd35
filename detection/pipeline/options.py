"""What a user of the pipeline may choose, what is planned for one video, and what happened."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from detection.cores import usable_cores
from detection.errors import UserError
from detection.pipeline.clip_buffer import PipelineSampling
from detection.pipeline.timing import Latency, StageClock
from detection.pipeline.workers import most_workers
from detection.structures import FillMisses
from detection.tracking.events import TrackedKeyframe
from detection.tracking.scoring import TrackScoring
from detection.video.stream import Gap

# Least probability of an event for networks that know one class from hundreds: of people who do
# nothing with a name in Kinetics one in eleven reaches it (benchmarks/zero_training.py --neutral,
# docs/results.md).
WHOLE_CLIP_THRESHOLD = 0.6


@dataclass(frozen=True)
class PipelineOptions:
    """How a video is looked at, and what counts as an event.

    keyframe_interval_s: actions are scored at its multiples on the video's clock.
    people_per_keyframe: how often people are looked for in a keyframe interval, for the tracks.
    batch_size: keyframes under way at most.
    workers: batches in the networks at a time; 0: as many as there are cores, as `batch_size` and
    the memory allow; 2 at most on a GPU and of a live source.
    smoothing_s: scores of actions and of the person are averaged along the person's track, with
    weights that fall from 1 to 0 over so much before and after; 0: not at all.
    fill_misses: "between" gives a track an interpolated box, with the track's averaged scores, at
    the keyframes between two of its boxes; "none": they stay without. Not without averaging. None:
    "between", but "none" of live sources, where a keyframe would wait for who may come back.
    multiply_person_score: an event is decided by the action's score times the person's; None: where
    the run's thresholds were learned on such scores.
    threshold: least score of an event; None: of each class as its run learned it, else the
    network's, 0.5 for one of independent actions.
    class_thresholds: by class name, where one differs.
    off_share: an event lasts while scores stay above this share of its threshold.
    classes: only these; empty: all.
    gathered_classes: file that gathers a classification network's classes under other names; see
    `gathered_classes.py`.
    class_list: file that names another project's classes, which its weights do not; see
    `detection.datasets.class_list`.
    top_k: a person does at most so many things at a time; None: no limit.
    person_score: least confidence of a new person; None: the people detector's own, where it was
    measured, else the action run's `data.box_score_threshold`.
    keep_share: a person already seen needs only this share of it.
    max_gap_s: a person away for longer comes back as a new one.
    max_people: at one time.
    relevance: multiply a person's score by the probability that the person is one whom the run's
    annotators label; only where the run was fitted so, with this people detector.
    """

    keyframe_interval_s: float = 0.5
    people_per_keyframe: int = 1
    batch_size: int = 8
    workers: int = 0
    smoothing_s: float = 1.0
    fill_misses: FillMisses | None = None
    multiply_person_score: bool | None = None
    threshold: float | None = None
    class_thresholds: Mapping[str, float] = field(default_factory=dict)
    off_share: float = 0.7
    classes: tuple[str, ...] = ()
    gathered_classes: Path | None = None
    class_list: Path | None = None
    top_k: int | None = None
    person_score: float | None = None
    keep_share: float = 0.5
    max_gap_s: float = 2.0
    max_people: int = 50
    relevance: bool = False

    def most_workers(self, threads: int) -> int:
        """Return how many batches are in the networks at a time at most, on a CPU.

        threads: of PyTorch.
        """
        return self.workers or most_workers(self.batch_size, cores=usable_cores(), threads=threads)

    @property
    def track_scoring(self) -> TrackScoring | None:
        """Return how scores are averaged along tracks; None where they are not."""
        if not self.smoothing_s:
            return None
        return TrackScoring(self.smoothing_s, self.fill_misses or "between", self.max_gap_s)

    @property
    def goes_on(self) -> float:
        """Return down to which share of its threshold an event lasts; 1 without smoothing."""
        return 1.0 if self.track_scoring is None else self.off_share

    def for_source(self, *, live: bool) -> PipelineOptions:
        """Return the options with what depends on the kind of source decided."""
        if self.fill_misses is not None:
            return self
        return replace(self, fill_misses="none" if live else "between")

    def __post_init__(self) -> None:
        for name in ("people_per_keyframe", "batch_size", "max_people", "workers", "top_k"):
            value, smallest = getattr(self, name), 0 if name == "workers" else 1
            if value is not None and value < smallest:
                raise UserError(f"{name} must be at least {smallest}, not {value}")
        if not 0.02 <= self.keyframe_interval_s <= 60:
            raise UserError(
                f"keyframe_interval_s must be from 0.02 to 60, not {self.keyframe_interval_s:g}"
            )
        for name in ("smoothing_s", "max_gap_s"):
            if not 0 <= getattr(self, name) < math.inf:
                raise UserError(f"{name} must be seconds from 0 on, not {getattr(self, name):g}")
        if self.fill_misses not in (None, "none", "between"):
            raise UserError(
                f"fill_misses must be none or between, not {self.fill_misses} (whole-video is for "
                "the scoring of short clips of one action)"
            )
        shares = {
            "threshold": 0.5 if self.threshold is None else self.threshold,
            "off_share": self.off_share,
        }
        shares |= {f"threshold of {name}": v for name, v in self.class_thresholds.items()}
        shares["person_score"] = 0.5 if self.person_score is None else self.person_score
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"{name} must be from 0 to 1, not {value:g}")


@dataclass(frozen=True)
class Plan:
    """What is done with one video.

    video_id: its name in the results.
    sampling: which of its frames the networks require.
    window_s: the stretch of time that kept frames may span.
    groups_per_segment: of keyframes, saved together.
    workers: batches in the networks at a time.
    start_s: no keyframe before.
    end_s: no keyframe from there on.
    film: whether annotated.mp4 is written.
    page: whether review.html is written.
    """

    video_id: str
    sampling: PipelineSampling
    window_s: float
    groups_per_segment: int
    workers: int
    start_s: float
    end_s: float
    film: bool
    page: bool

    @property
    def segment_s(self) -> float:
        """Return the length of a segment."""
        return self.groups_per_segment * self.sampling.group_size * self.sampling.interval_s


@dataclass(frozen=True)
class BestScore:
    """The highest score of an action, as shown (smoothed), whether or not it made an event."""

    score: float
    action: str
    track: int
    time_s: float


@dataclass
class Report:
    """What happened; counts are of the whole video, segments taken over included.

    clock: time spent in each stage.
    latency: from a frame's arrival to its scores.
    gaps: stretches that could not be read.
    notes: what the files written do not show as it is, a line each.
    keyframes: scored.
    people: found at keyframes.
    people_tracked: those of them that belong to a track.
    people_filled: boxes of tracks that were filled in, beside the people found.
    persons: tracks with a keyframe.
    best_person_score: highest confidence of a person at a keyframe; 0: none.
    best: the highest score of an action; None: no tracked person.
    events: found.
    dropped: live keyframes left out.
    resumed_s: of the video, taken over from an earlier run.
    end_s: time of the last keyframe scored.
    stopped: whether the run was ended early.
    already_complete: whether the results were all there.
    """

    clock: StageClock = field(default_factory=StageClock)
    latency: Latency = field(default_factory=Latency)
    gaps: list[Gap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keyframes: int = 0
    people: int = 0
    people_tracked: int = 0
    people_filled: int = 0
    best_person_score: float = 0.0
    best: BestScore | None = None
    events: int = 0
    dropped: int = 0
    resumed_s: float = 0.0
    end_s: float = 0.0
    stopped: bool = False
    already_complete: bool = False
    _tracks: set[int] = field(default_factory=set, repr=False)

    @property
    def persons(self) -> int:
        """Return the number of tracks with a keyframe."""
        return len(self._tracks)

    def add(self, keyframe: TrackedKeyframe, names: Sequence[str]) -> None:
        """Count the tracked people of a final keyframe; note its highest score."""
        seen = len(keyframe.track) if keyframe.seen is None else int(keyframe.seen.sum())
        self.people_tracked += seen
        self.people_filled += len(keyframe.track) - seen
        self._tracks.update(keyframe.track.tolist())
        if not keyframe.scores.size:
            return
        row, column = divmod(int(keyframe.scores.argmax()), keyframe.scores.shape[1])
        score = float(keyframe.scores[row, column])
        if self.best is None or score > self.best.score:
            track = int(keyframe.track[row])
            self.best = BestScore(score, names[column], track, keyframe.time_s)
