"""Keyframes of a split, and their frames, read ahead by worker processes.

Legend: B keyframes of a batch, H W pixels. Batches are fixed, whichever process reads them, so that
detections do not depend on how work is distributed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows, read_video_list
from detection.datasets.ava_csv import read_keyframe_list, time_us_of
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.keyframe_times import regular_times_of
from detection.datasets.open_video import FrameSource, open_video
from detection.datasets.workers import ManagedLoader, start_worker
from detection.errors import UserError
from detection.structures import Keyframe


def annotated_keyframes(split: Split) -> list[Keyframe]:
    """Return the keyframes of the ground truth, with those without people, less excluded ones."""
    excluded = {_key(keyframe) for keyframe in read_exclusions(split)}
    keyframes = read_ground_truth_rows(split).keyframes()
    return in_order(keyframe for keyframe in keyframes if _key(keyframe) not in excluded)


def listed_keyframes(path: str | Path) -> list[Keyframe]:
    """Return the keyframes of a file of `video_id,time` rows."""
    return in_order(read_keyframe_list(path))


def regular_keyframes(
    folder: DatasetFolder, split: Split, every_s: float | None
) -> tuple[list[Keyframe], list[float]]:
    """Return the keyframes at regular times of the split's videos, and each video's interval.

    The videos are those of the split's list, else of its ground truth. every_s: seconds between
    keyframes (None: by each video's length, `keyframe_times`). Excluded keyframes are left out. A
    video that cannot be opened gets its second 0, so that reading it reports the error.
    """
    videos = read_video_list(split)
    if videos is None:
        videos = frozenset(key.video_id for key in read_ground_truth_rows(split).keyframes())
    excluded = {_key(keyframe) for keyframe in read_exclusions(split)}
    found, intervals_s = [], []
    for video_id in sorted(videos):
        try:
            with open_video(folder, video_id) as video:
                times_s, interval_s = regular_times_of(video, every_s)
        except UserError:
            found.append(Keyframe(video_id, 0.0))
            continue
        intervals_s.append(interval_s)
        found += [Keyframe(video_id, time_us_of(time_s) / 1e6) for time_s in times_s.tolist()]
    kept = in_order(keyframe for keyframe in found if _key(keyframe) not in excluded)
    return kept, intervals_s


def in_order(keyframes: Iterable[Keyframe]) -> list[Keyframe]:
    """Return the distinct keyframes (to six decimals of time), sorted by video, then time."""
    unique = {_key(keyframe): keyframe for keyframe in keyframes}
    return [unique[key] for key in sorted(unique)]


def check_any(keyframes: list[Keyframe], source: str) -> None:
    """Raise `UserError` if there are no keyframes."""
    if not keyframes:
        raise UserError(f"{source}: no keyframe to look for people at")


def _key(keyframe: Keyframe) -> tuple[str, int]:
    return keyframe.video_id, time_us_of(keyframe.time_s)


@dataclass(frozen=True)
class Unreadable:
    """A keyframe whose frame cannot be read, and why in one line."""

    keyframe: Keyframe
    reason: str


@dataclass(frozen=True)
class FrameBatch:
    """The frames of one batch.

    keyframes: those that could be read.
    runs: their frames in that order, (n, 3, H, W) uint8 RGB for n that were read together (each
        tensor sent between processes takes a file descriptor).
    unreadable: the others.
    """

    number: int
    keyframes: tuple[Keyframe, ...]
    runs: tuple[Tensor, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def images(self) -> list[Tensor]:
        """The (3, H, W) frame of each keyframe."""
        return [image for run in self.runs for image in run]


def batches_of(keyframes: Sequence[Keyframe], batch_size: int) -> list[tuple[Keyframe, ...]]:
    """Split keyframes into batches; neighbours in time share one, and are decoded in one pass."""
    return [
        tuple(keyframes[start : start + batch_size])
        for start in range(0, len(keyframes), batch_size)
    ]


def read_batches(
    folder: DatasetFolder,
    batches: Sequence[tuple[Keyframe, ...]],
    numbers: Iterable[int],
    *,
    sides_px: tuple[int, int] | None = None,
    workers: int = 0,
) -> Iterator[FrameBatch]:
    """Yield the batches of these numbers, in their order.

    sides_px: short and longest long side that frames are scaled down to while decoding (None: not
        scaled).
    workers: processes that read ahead; 0 reads in this one.
    """
    required = list(numbers)
    workers = min(workers, len(required))
    loader: DataLoader[FrameBatch] = DataLoader(
        _BatchReader(folder, batches, sides_px),
        batch_size=None,
        sampler=required,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # keeps the global random state
    )
    readers = ManagedLoader(loader)
    try:
        yield from readers
    finally:
        readers.close()


class _BatchReader(Dataset[FrameBatch]):
    def __init__(
        self,
        folder: DatasetFolder,
        batches: Sequence[tuple[Keyframe, ...]],
        sides_px: tuple[int, int] | None,
    ) -> None:
        self._batches = batches
        self._reader = FrameReader(folder, sides_px)

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> FrameBatch:
        return self._reader.read(number, self._batches[number])


class FrameReader:
    """Reads the frames of batches; sides_px: as `read_batches` takes it."""

    def __init__(self, folder: DatasetFolder, sides_px: tuple[int, int] | None) -> None:
        self._folder = folder
        self._sides_px = sides_px
        # Cached: finding the size decodes a frame.
        self._short_sides: dict[str, int | None] = {}

    def read(self, number: int, batch: Sequence[Keyframe]) -> FrameBatch:
        """Return the frames of a batch, which has this number."""
        keyframes: list[Keyframe] = []
        runs: list[Tensor] = []
        unreadable: list[Unreadable] = []

        def add(run: list[Keyframe]) -> None:
            try:
                runs.append(self._read(run))
                keyframes.extend(run)
            except UserError as error:
                if len(run) == 1:
                    unreadable.append(Unreadable(run[0], " ".join(str(error).split())))
                for keyframe in run if len(run) > 1 else ():  # the others may be readable
                    add([keyframe])

        for _, group in itertools.groupby(batch, lambda k: k.video_id):
            add(list(group))
        return FrameBatch(number, tuple(keyframes), tuple(runs), tuple(unreadable))

    def _read(self, run: Sequence[Keyframe]) -> Tensor:
        """Return (n, 3, H, W) of one video in one pass; raises `UserError` if any is unreadable."""
        video_id, times_s = run[0].video_id, [keyframe.time_s for keyframe in run]
        with open_video(self._folder, video_id) as video:
            short_side = self._short_side(video_id, video)
            return video.read(times_s, short_side=short_side, keyframes_s=times_s).frames

    def _short_side(self, video_id: str, video: FrameSource) -> int | None:
        if self._sides_px is None:
            return None
        if video_id not in self._short_sides:
            self._short_sides[video_id] = scaled_short_side(video.frame_size(), self._sides_px)
        return self._short_sides[video_id]


def scaled_short_side(size_px: tuple[int, int], sides_px: tuple[int, int]) -> int | None:
    """Return the short side that scales a frame down to `sides_px`; None if it fits.

    sides_px: limits of the short and the long side.
    """
    short, long = min(size_px), max(size_px)
    scale = min(sides_px[0] / short, sides_px[1] / long)
    return max(1, int(short * scale + 1e-6)) if scale < 1 else None


def _as_it_is(batch: Any) -> Any:
    return batch
