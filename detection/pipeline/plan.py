"""What is to be done with one video, and what happened."""

from __future__ import annotations

from dataclasses import dataclass, field

from detection.pipeline.clip_buffer import Sampling
from detection.pipeline.timing import Latency, StageClock
from detection.video.stream import Gap


@dataclass(frozen=True)
class Plan:
    """What is done with one video. window_s: the stretch that kept frames may span."""

    video_id: str
    sampling: Sampling
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


@dataclass
class Report:
    """What happened.

    end_s: time of the last keyframe judged.  dropped: live keyframes left out.  notes: what the
    files written do not show as it is, a line each.
    """

    clock: StageClock = field(default_factory=StageClock)
    latency: Latency = field(default_factory=Latency)
    holes: list[Gap] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    keyframes: int = 0
    people: int = 0
    events: int = 0
    dropped: int = 0
    resumed_s: float = 0.0
    end_s: float = 0.0
    stopped: bool = False
    already_complete: bool = False
