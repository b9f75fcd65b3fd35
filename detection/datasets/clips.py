"""Whole videos as labelled clips: random ones to learn from, evenly spaced views to be scored.

Legend: B clips, T frames, H W pixels, K classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from detection.datasets.clip_list import ClipList
from detection.datasets.open_video import FrameSource
from detection.datasets.transforms import ClipTransform, TransformParams
from detection.datasets.workers import FixedBatches, SampleIndex, too_many_unreadable
from detection.errors import UserError
from detection.structures import ClipSampling

# Headers of at most so many videos are read before a run; every file must exist in any case.
MOST_CHECKED = 2000


@dataclass(frozen=True)
class ClipSample:
    """One clip of a video.

    frames: (3, T, H, W) uint8 RGB, after resize, crop and flip.  labels: (K,) float32 of 0 and 1.
    video: position in the list.  key: what messages call the clip.
    """

    frames: torch.Tensor
    labels: torch.Tensor
    video: int
    key: str


@dataclass(frozen=True)
class ClipBatch:
    """Clips of one size.

    frames: (B, 3, T, H, W) uint8.  labels: (B, K) float32.  videos: (B,) positions in the list.
    keys: what messages call each clip.
    """

    frames: torch.Tensor
    labels: torch.Tensor
    videos: NDArray[np.int64]
    keys: Sequence[str]

    @property
    def inputs(self) -> tuple[torch.Tensor, ...]:
        """What the network is called with."""
        return (self.frames,)

    def pin_memory(self) -> ClipBatch:
        """Return the batch in page-locked memory (called by DataLoader)."""
        return ClipBatch(self.frames.pin_memory(), self.labels.pin_memory(), self.videos, self.keys)


def collate_clips(samples: Sequence[ClipSample]) -> ClipBatch:
    """Stack clips of one size."""
    return ClipBatch(
        torch.stack([sample.frames for sample in samples]),
        torch.stack([sample.labels for sample in samples]),
        np.asarray([sample.video for sample in samples], np.int64),
        [sample.key for sample in samples],
    )


@dataclass(frozen=True)
class Views:
    """Which views of a video are scored: `clips` evenly spaced in time, `crops` (1 or 3) of each.

    `crops` go over the long side: the middle, or one end, the middle and the other end.
    """

    clips: int
    crops: int = 1

    def __post_init__(self) -> None:
        if self.clips < 1 or self.crops not in (1, 3):
            raise ValueError(
                f"clips >= 1 and 1 or 3 crops are required, got {self.clips}, {self.crops}"
            )

    def __len__(self) -> int:
        return self.clips * self.crops

    def start_01(self, view: int) -> float:
        """Return where the view's clip starts, as a fraction of the room it has (one: half)."""
        return 0.5 if self.clips == 1 else view // self.crops / (self.clips - 1)

    def crop_01(self, view: int) -> float:
        """Return where the view's crop lies on the long side, as a fraction of its room."""
        return 0.5 if self.crops == 1 else view % self.crops / 2


class ClipDataset:
    """One sample per video (views None: a random clip), or one per view of a video.

    Position p of a data set with V views is view p % V of video p // V.  sampling: which frames a
    clip holds; one that is longer than its video repeats the edge frames or is spread "inside".
    seed: of the random choices, which (seed, epoch, position) decides.
    """

    def __init__(
        self,
        clips: ClipList,
        *,
        open_video: Callable[[Path], FrameSource],
        transform: ClipTransform,
        sampling: ClipSampling,
        views: Views | None = None,
        seed: int = 0,
    ) -> None:
        self.clips = clips
        self.views = views
        self._open_video = open_video
        self._transform = transform
        self._sampling = sampling
        self._seed = seed

    def __len__(self) -> int:
        return len(self.clips) * self._per_video

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[ClipSample]:
        """Return many samples; those of one video at one size are decoded in one pass.

        Raises `UserError` with file and line of a video that cannot be read.
        """
        choices = [self._params(index) for index in indices]
        together: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, ((_, position), (_, params)) in enumerate(zip(indices, choices, strict=True)):
            together[position // self._per_video, params.short_side].append(place)
        samples: dict[int, ClipSample] = {}
        for (video, short_side), places in together.items():
            clips = self._read(video, short_side, [choices[place][0] for place in places])
            for place, frames in zip(places, clips, strict=True):
                nobody = np.zeros((0, 4), np.float32)
                done = self._transform.apply(frames, nobody, choices[place][1])
                labels = torch.from_numpy(self.clips.labels[video])
                samples[place] = ClipSample(done.frames, labels, video, self.clips.names[video])
        return [samples[place] for place in range(len(indices))]

    def check_videos(
        self, *, show_progress: bool = False, most_unreadable: float = 0.0
    ) -> list[str]:
        """Open every video (of long lists 2,000, evenly spaced) and read its header.

        Raises `UserError` with file and line where more than `most_unreadable` of them (a share)
        cannot be read. Returns a line for each of those.
        """
        unreadable: list[str] = []
        count = min(len(self.clips), MOST_CHECKED)
        positions = np.unique(np.linspace(0, len(self.clips) - 1, count).astype(int)).tolist()
        for position in tqdm(
            positions, desc="checking videos", unit="video", disable=not show_progress
        ):
            try:
                with self._open_video(self.clips.paths[position]) as video:
                    video.span_s()
            except UserError as error:
                problem = self.clips.row_error(position, str(error))
                unreadable.append(str(problem))
                count = len(unreadable)
                if count > most_unreadable * len(positions):
                    what = f"{count} of {len(positions)} videos"
                    raise too_many_unreadable(problem, count, what, most_unreadable) from error
        return unreadable

    @property
    def _per_video(self) -> int:
        return 1 if self.views is None else len(self.views)

    def _params(self, index: SampleIndex) -> tuple[float, TransformParams]:
        """Return where a sample's clip starts, as a fraction of its room, and how it is cut."""
        generator = np.random.default_rng((self._seed, *index))
        params = self._transform.make_params(generator)
        if self.views is None:
            return float(generator.random()), params
        view = index[1] % len(self.views)
        place = self.views.crop_01(view)
        params = TransformParams(params.short_side, top_01=place, left_01=place)
        return self.views.start_01(view), params

    def _read(
        self, video: int, short_side: int, starts_01: Sequence[float]
    ) -> Sequence[torch.Tensor]:
        """Return the (T, 3, H, W) frames of clips of one video."""
        try:
            with self._open_video(self.clips.paths[video]) as source:
                times_s = np.concatenate(self._times_s(source, starts_01))
                clip = source.read(times_s, short_side=short_side)
        except UserError as error:
            raise self.clips.row_error(video, str(error)) from error
        return clip.frames.split(self._sampling.num_frames)  # type: ignore[no-any-return, no-untyped-call]

    def _times_s(
        self, source: FrameSource, starts_01: Sequence[float]
    ) -> list[NDArray[np.float64]]:
        """Return the (T,) times of clips; those longer than the video lie around its middle."""
        sampling = self._sampling
        first_s, end_s = source.span_s()
        room_s = end_s - first_s - sampling.span_s
        if room_s < 0 and sampling.at_ends == "inside":
            spread_s = np.linspace(*source.ends_s(), sampling.num_frames)
            return [spread_s] * len(starts_01)
        starts_s = [first_s + room_s * (start if room_s > 0 else 0.5) for start in starts_01]
        return [np.asarray(start_s + sampling.offsets_s, np.float64) for start_s in starts_s]


class ViewBatches(FixedBatches):
    """Every view of every video (or of each n-th), in order.

    share: (rank, processes), every n-th batch is this process's.
    """

    def __init__(
        self,
        dataset: ClipDataset,
        *,
        batch_size: int,
        every: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        assert dataset.views is not None, "views are scored"
        per_video = len(dataset.views)
        positions = [
            video * per_video + view
            for video in range(0, len(dataset.clips), every)
            for view in range(per_video)
        ]
        super().__init__([positions], batch_size=batch_size, share=share)
