"""Pictures with the boxes of their people: keyframes of a data set in AVA's form.

Legend: B pictures of a batch, H W pixels, N people of a picture. Boxes in pixels are of the picture
as it leaves; what people do is not looked at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from detection.data.actor_table import ActorTable
from detection.data.video_source import FrameSource
from detection.errors import UserError
from detection.people.picture_transforms import PictureTransform
from detection.structures import Keyframe

# (epoch, position in the table): the pair decides every random choice about a picture.
PictureIndex = tuple[int, int]


@dataclass(frozen=True)
class Picture:
    """One keyframe. image: (3, H, W) uint8 RGB.  boxes_px: (N, 4) float32."""

    keyframe: Keyframe
    image: torch.Tensor
    boxes_px: torch.Tensor


@dataclass(frozen=True)
class PictureBatch:
    """Pictures, each of its own size."""

    pictures: Sequence[Picture]

    def pin_memory(self) -> PictureBatch:
        """Return the batch in page-locked memory (called by DataLoader)."""
        return PictureBatch(
            [
                Picture(p.keyframe, p.image.pin_memory(), p.boxes_px.pin_memory())
                for p in self.pictures
            ]
        )


class PeopleFrames(Dataset[Picture]):
    """One picture per keyframe of a table.

    open_video: gives the frames of a video id.  transform: what happens to pictures and boxes.
    keep_mb: decoded pictures are kept, until so many megabytes are full, for the next epochs.
    """

    def __init__(
        self,
        table: ActorTable,
        *,
        open_video: Callable[[str], FrameSource],
        transform: PictureTransform,
        seed: int = 0,
        keep_mb: int = 0,
    ) -> None:
        self.table = table
        self._open_video = open_video
        self._transform = transform
        self._seed = seed
        self._room = keep_mb << 20
        self._kept: dict[int, tuple[NDArray[np.uint8], tuple[int, int]]] = {}

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: PictureIndex) -> Picture:
        """Return the picture at (epoch, position).

        Raises `UserError` with file and line of the keyframe whose video cannot give it.
        """
        position = index[1]
        frame, size = self._kept.get(position) or self._read(position)
        generator = np.random.default_rng((self._seed, *index))
        image, boxes_px = self._transform(
            frame, size, self.table.boxes(position).xyxy_01, generator
        )
        return Picture(
            self.table.keyframe(position),
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            torch.from_numpy(boxes_px),
        )

    def _read(self, position: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return the (h, w, 3) frame, decoded no larger than wanted, and the wanted (H, W)."""
        key = self.table.keyframe(position)
        try:
            with self._open_video(key.video_id) as video:
                width, height = video.frame_size()
                size = self._transform.size(width, height)
                largest = math.ceil(min(size) * self._transform.largest_scale)
                clip = video.read(
                    [key.time_s],
                    short_side=min(largest, width, height),
                    keyframes_s=[key.time_s],
                )
        except UserError as error:
            raise self.table.row_error(position, str(error)) from error
        frame = np.ascontiguousarray(clip.frames[0].numpy().transpose(1, 2, 0))
        if frame.nbytes <= self._room:
            self._room -= frame.nbytes
            self._kept[position] = frame, size
        return frame, size


class InOrder:
    """Pictures at the given positions in batches, as epoch 0 has them."""

    def __init__(self, positions: Sequence[int], *, batch_size: int) -> None:
        self._positions = positions
        self._batch_size = batch_size

    def __iter__(self) -> Iterator[list[PictureIndex]]:
        for start in range(0, len(self._positions), self._batch_size):
            yield [(0, int(p)) for p in self._positions[start : start + self._batch_size]]

    def __len__(self) -> int:
        return -(-len(self._positions) // self._batch_size)


class PictureOrder(Protocol):
    """Which pictures make which batch."""

    def __iter__(self) -> Iterator[list[PictureIndex]]:
        """Yield the indices of each batch."""

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""


class PictureLoader:
    """Yields batches in the given order, read by worker processes (0: in this one).

    What a user can mend is raised here as the same one-line `UserError` that the worker met.
    """

    def __init__(
        self,
        dataset: PeopleFrames,
        order: PictureOrder,
        *,
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self._order = order
        self._loader: DataLoader[object] = DataLoader(
            _Guarded(dataset),
            batch_sampler=_AsSampler(order),
            num_workers=workers,
            collate_fn=_as_it_is,
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its draws must not move the network's random numbers
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self._order)

    def __iter__(self) -> Iterator[PictureBatch]:
        for batch in self._loader:
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            assert isinstance(batch, PictureBatch)
            yield batch


@dataclass(frozen=True)
class _Failure:
    """Carries a user's error out of a worker, where torch would bury it under a traceback."""

    message: str


class _Guarded(Dataset[object]):
    def __init__(self, dataset: PeopleFrames) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[PictureIndex]) -> PictureBatch | _Failure:
        try:
            return PictureBatch([self._dataset[index] for index in indices])
        except UserError as error:
            return _Failure(str(error))


class _AsSampler(Sampler[list[PictureIndex]]):
    def __init__(self, order: PictureOrder) -> None:
        self._order = order

    def __iter__(self) -> Iterator[list[PictureIndex]]:
        return iter(self._order)

    def __len__(self) -> int:
        return len(self._order)


def _as_it_is(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """One thread a worker: the network has the other cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
