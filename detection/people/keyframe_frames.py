"""The pictures of keyframes, read by worker processes ahead of the network.

Legend: B keyframes of a batch, H W pixels. A batch is the same few keyframes whichever process
reads it, so that what is found does not depend on how the work is shared out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import FrameSource, open_video
from detection.datasets.readers import Readers
from detection.datasets.workers import start_worker
from detection.errors import UserError
from detection.structures import Keyframe


@dataclass(frozen=True)
class Unreadable:
    """A keyframe whose picture cannot be had, and why in one line."""

    keyframe: Keyframe
    reason: str


@dataclass(frozen=True)
class FrameBatch:
    """The pictures of one batch.

    keyframes: those that could be read.
    runs: their pictures in that order, (n, 3, H, W) uint8 RGB for n that were read together (a
        tensor each would be a file descriptor each between processes).
    """

    number: int
    keyframes: tuple[Keyframe, ...]
    runs: tuple[Tensor, ...]
    unreadable: tuple[Unreadable, ...]

    @property
    def images(self) -> list[Tensor]:
        """The (3, H, W) picture of each keyframe."""
        return [image for run in self.runs for image in run]


def batches_of(keyframes: Sequence[Keyframe], batch_size: int) -> list[tuple[Keyframe, ...]]:
    """Cut the keyframes into batches; neighbours in time share one, and so one pass of decoding."""
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

    sides_px: short and longest long side that pictures are scaled down to while they are decoded
        (None: as they are).
    workers: processes that read ahead; 0 reads in this one.
    """
    wanted = list(numbers)
    workers = min(workers, len(wanted))
    loader: DataLoader[FrameBatch] = DataLoader(
        _BatchReader(folder, batches, sides_px),
        batch_size=None,
        sampler=wanted,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=start_worker,
        persistent_workers=workers > 0,
        generator=torch.Generator(),  # its draws must not move anybody's random numbers
    )
    readers = Readers(loader)
    try:
        yield from readers
    finally:
        readers.close()


class _BatchReader(Dataset[FrameBatch]):
    """Reads whole batches, each run of keyframes of one video in one pass."""

    def __init__(
        self,
        folder: DatasetFolder,
        batches: Sequence[tuple[Keyframe, ...]],
        sides_px: tuple[int, int] | None,
    ) -> None:
        self._folder = folder
        self._batches = batches
        self._sides_px = sides_px
        self._short_sides: dict[str, int | None] = {}  # opening tells no size: a frame is decoded

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, number: int) -> FrameBatch:
        keyframes: list[Keyframe] = []
        runs: list[Tensor] = []
        unreadable: list[Unreadable] = []
        for video_id, group in itertools.groupby(self._batches[number], lambda k: k.video_id):
            run = list(group)
            try:
                runs.append(self._read(video_id, run))
                keyframes += run
            except UserError as error:
                for keyframe, result in self._read_one_by_one(video_id, run, error):
                    if isinstance(result, UserError):
                        unreadable.append(Unreadable(keyframe, _one_line(result)))
                    else:
                        keyframes.append(keyframe)
                        runs.append(result)
        return FrameBatch(number, tuple(keyframes), tuple(runs), tuple(unreadable))

    def _read(self, video_id: str, run: Sequence[Keyframe]) -> Tensor:
        """Return (n, 3, H, W) of one video in one pass; `UserError` where any cannot be read."""
        times_s = [keyframe.time_s for keyframe in run]
        with open_video(self._folder, video_id) as video:
            short_side = self._short_side(video_id, video)
            return video.read(times_s, short_side=short_side, keyframes_s=times_s).frames

    def _read_one_by_one(
        self, video_id: str, run: Sequence[Keyframe], error: UserError
    ) -> Iterator[tuple[Keyframe, Tensor | UserError]]:
        """Yield what each keyframe gives where they cannot all be read; reopens a damaged video."""
        if len(run) == 1:
            yield run[0], error
            return
        for keyframe in run:
            try:
                yield keyframe, self._read(video_id, [keyframe])
            except UserError as own_error:
                yield keyframe, own_error

    def _short_side(self, video_id: str, video: FrameSource) -> int | None:
        if self._sides_px is None:
            return None
        if video_id not in self._short_sides:
            self._short_sides[video_id] = scaled_short_side(video.frame_size(), self._sides_px)
        return self._short_sides[video_id]


def scaled_short_side(size_px: tuple[int, int], sides_px: tuple[int, int]) -> int | None:
    """Return the short side that fits a picture into `sides_px`, None where it does already.

    sides_px: the short side, or less where the long side would exceed its own limit.
    """
    short, long = min(size_px), max(size_px)
    scale = min(sides_px[0] / short, sides_px[1] / long)
    return max(1, int(short * scale + 1e-6)) if scale < 1 else None


def _one_line(error: UserError) -> str:
    return " ".join(str(error).split())


def _as_it_is(batch: Any) -> Any:
    return batch
