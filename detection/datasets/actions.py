"""Keyframes of a data set in AVA's form as samples: decode, transform, label.

Legend: T frames, H W pixels, N actors, A action classes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset
from tqdm import tqdm

from detection.datasets.actor_table import ActorTable
from detection.datasets.actor_tracks import ActorTracks
from detection.datasets.joined_tables import JoinedTables, JoinedTracks
from detection.datasets.open_video import SURE_S, FrameSource, keyframe_outside
from detection.datasets.transforms import ClipTransform, TransformParams
from detection.datasets.workers import SampleIndex, too_many_unreadable
from detection.errors import UserError
from detection.structures import ClipSampling, Keyframe, Sample
from detection.video.frames import scaled_size


class AvaDataset(Dataset[Sample]):
    """One sample per keyframe of a table, or of several that are read together.

    open_video: gives the frames of a video id.  sampling: which frames a clip holds.  tracks: of
    the table's actors, where samples have their boxes in each frame; None: the keyframe's alone.
    seed: of the transform's random choices.
    """

    def __init__(
        self,
        table: ActorTable | JoinedTables,
        *,
        open_video: Callable[[str], FrameSource],
        transform: ClipTransform,
        sampling: ClipSampling,
        tracks: ActorTracks | JoinedTracks | None = None,
        seed: int = 0,
    ) -> None:
        self.table = table
        self.tracks = tracks
        self._open_video = open_video
        self._transform = transform
        self._sampling = sampling
        self._seed = seed
        self.unreadable_videos: dict[str, str] = {}
        self._frame_sizes: dict[str, tuple[int, int]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int | SampleIndex) -> Sample:
        """Return the sample at a position, as epoch 0 or as the epoch of (epoch, position) has it.

        Raises `UserError` with file and line of the keyframe whose video cannot give it.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int | SampleIndex]) -> list[Sample]:
        """Return many samples; those of one video at one size are decoded in one pass."""
        pairs = [(0, i) if isinstance(i, int | np.integer) else i for i in indices]
        params_of = [self._params(pair) for pair in pairs]
        together: dict[tuple[int, int], list[int]] = defaultdict(list)
        for place, ((_, position), params) in enumerate(zip(pairs, params_of, strict=True)):
            together[int(self.table.video_index[position]), params.short_side].append(place)
        samples: dict[int, Sample] = {}
        for places in together.values():
            positions = [pairs[place][1] for place in places]
            clips = self._read(positions, params_of[places[0]].short_side)
            for place, position, clip in zip(places, positions, clips, strict=True):
                samples[place] = self._sample(position, clip, params_of[place])
        return [samples[place] for place in range(len(pairs))]

    def output_size(self, position: int) -> tuple[int, int]:
        """Return (height, width) of a sample of a transform that only resizes.

        (0, 0) of a video that `check_videos` could not open.
        """
        video_id = self.table.keyframe(position).video_id
        if video_id in self.unreadable_videos:
            return 0, 0
        if video_id not in self._frame_sizes:
            with self._open_video(video_id) as video:
                self._frame_sizes[video_id] = video.frame_size()
        short_side = self._params((0, position)).short_side
        width, height = scaled_size(*self._frame_sizes[video_id], short_side)
        return height, width

    def check_videos(
        self, *, show_progress: bool = False, most_unreadable: float = 0.0
    ) -> dict[str, str]:
        """Open every video and see that its keyframes lie within it.

        As its header tells, and where that is close, as its frames do.
        A run that would fail after hours fails at once. Raises `UserError` with file and line for
        a keyframe outside its video, and where more than `most_unreadable` of the keyframes (a
        share) are of videos that cannot be opened. Returns those, with a line each.
        """
        table = self.table
        firsts = np.flatnonzero(np.diff(table.video_index, prepend=-1))
        ends = np.append(firsts[1:], len(table)) - 1
        lost = 0
        pairs = list(zip(firsts.tolist(), ends.tolist(), strict=True))
        for first, last in tqdm(
            pairs, desc="checking videos", unit="video", disable=not show_progress
        ):
            video_id = table.keyframe(first).video_id
            try:
                with self._open_video(video_id) as video:
                    self._frame_sizes[video_id] = video.frame_size()
                    positions = sorted({first, last})
                    times_s = [table.keyframe(position).time_s for position in positions]
                    outside = keyframe_outside(video, video_id, times_s)
            except UserError as error:
                problem = table.row_error(first, str(error))
                self.unreadable_videos[video_id] = str(problem)
                lost += last + 1 - first
                if lost > most_unreadable * len(table):
                    count = len(self.unreadable_videos)
                    what = f"{count} videos with {lost} of {len(self)} keyframes"
                    raise too_many_unreadable(problem, count, what, most_unreadable) from error
                continue
            if outside is not None:
                position, message = outside
                raise table.row_error(positions[position], message)
        return self.unreadable_videos

    def adopt_checks(self, other: AvaDataset) -> None:
        """Take over what `check_videos` found of another data set of the same videos."""
        self.unreadable_videos |= other.unreadable_videos
        self._frame_sizes |= other._frame_sizes

    def _params(self, index: SampleIndex) -> TransformParams:
        return self._transform.make_params(np.random.default_rng((self._seed, *index)))

    def _read(self, positions: Sequence[int], short_side: int) -> list[_ReadClip]:
        """Return the clips of keyframes of one video."""
        keys = [self.table.keyframe(position) for position in positions]
        try:
            with self._open_video(keys[0].video_id) as video:
                read = self._required(video, keys)
                clip = video.read(
                    np.concatenate([times_s for times_s, _ in read]),
                    short_side=short_side,
                    keyframes_s=[key.time_s for key in keys],
                )
        except UserError as error:
            raise self._blame(positions, error) from error
        size = self._sampling.frames_read
        frames = clip.frames.split(size)  # type: ignore[no-untyped-call]
        shown = [tuple(times_s) for times_s in clip.times_s.reshape(-1, size).tolist()]
        return [
            _ReadClip(images, times_s, weights, (keys[0].video_id, *shown_s))
            for images, (times_s, weights), shown_s in zip(frames, read, shown, strict=True)
        ]

    def _required(
        self, video: FrameSource, keys: Sequence[Keyframe]
    ) -> list[tuple[NDArray[np.float64], torch.Tensor | None]]:
        """Return the (T,) times of the frames of each keyframe's clip, and of streams weights."""
        within_s = self._within_s(video, keys)
        found = []
        for key in keys:
            weights = self._sampling.weights(key.time_s, within_s=within_s)
            times_s = self._sampling.times_s(key.time_s, within_s=within_s)
            found.append((times_s, None if weights is None else torch.from_numpy(weights)))
        return found

    def _within_s(self, video: FrameSource, keys: Sequence[Keyframe]) -> tuple[float, float] | None:
        """Return the times between which clips are to stay; None where they do by themselves."""
        if self._sampling.at_ends == "repeat":
            return None
        start_s, end_s = video.span_s()  # as the header has it: `ends_s` has to look
        every_s = np.concatenate([self._sampling.times_s(key.time_s) for key in keys])
        if start_s + SURE_S <= every_s.min() and every_s.max() <= end_s - SURE_S:
            return None
        return video.ends_s()

    def _blame(self, positions: Sequence[int], error: UserError) -> UserError:
        """Name the row of the keyframe that the message is about, else of the first one."""
        for position in positions:
            if f"{self.table.keyframe(position).time_s:.6f} s" in str(error):
                return self.table.row_error(position, str(error))
        return self.table.row_error(positions[0], str(error))

    def _sample(self, position: int, clip: _ReadClip, params: TransformParams) -> Sample:
        boxes, paths_01 = self.table.boxes(position), None
        if self.tracks is not None:
            paths_01 = self.tracks.boxes_at(position, clip.times_s)
        done = self._transform.apply(clip.frames, boxes.xyxy_01, params, paths_01=paths_01)
        return Sample(
            keyframe=self.table.keyframe(position),
            frames=done.frames,
            boxes_px=done.boxes_px,
            boxes=boxes.select(done.kept),
            labels=torch.from_numpy(self.table.labels(position)[done.kept]),
            weights=clip.weights,
            same_clip=None if clip.weights is not None else (clip.shown, params),
        )


@dataclass(frozen=True)
class _ReadClip:
    """What was decoded for a keyframe.

    frames: (T, 3, H, W).  times_s: (T,) that were asked for.  weights: of streams.  shown: the
    video, and the times of the frames themselves.
    """

    frames: torch.Tensor
    times_s: NDArray[np.float64]
    weights: torch.Tensor | None
    shown: tuple[str | float, ...]
