"""Frames with the boxes of their people: keyframes of a data set in AVA's form.

Legend: H W pixels, N people of a frame. Boxes in pixels are of the transformed frame; actions are
not read.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from detection.datasets.actor_table import ActorTable
from detection.datasets.open_video import FrameSource
from detection.datasets.people_transforms import PeopleTransform
from detection.datasets.workers import SampleIndex
from detection.errors import UserError
from detection.structures import Keyframe


@dataclass(frozen=True)
class PeopleSample:
    """One keyframe. image: (3, H, W) uint8 RGB.  boxes_px: (N, 4) float32."""

    keyframe: Keyframe
    image: torch.Tensor
    boxes_px: torch.Tensor


@dataclass(frozen=True)
class PeopleBatch:
    """Frames, each of its own size."""

    frames: Sequence[PeopleSample]

    @property
    def keys(self) -> list[str]:
        """What messages call each frame."""
        return [str(frame.keyframe) for frame in self.frames]

    def pin_memory(self) -> PeopleBatch:
        """Return the batch in page-locked memory (called by DataLoader)."""
        pinned = ((p, p.image.pin_memory(), p.boxes_px.pin_memory()) for p in self.frames)
        return PeopleBatch([PeopleSample(p.keyframe, image, boxes) for p, image, boxes in pinned])


class PeopleFrames(Dataset[PeopleSample]):
    """One frame per keyframe of a table.

    open_video: gives the frames of a video id.  transform: what happens to frames and boxes.
    keep_mb: megabytes of decoded frames to keep for the next epochs.
    """

    def __init__(
        self,
        table: ActorTable,
        *,
        open_video: Callable[[str], FrameSource],
        transform: PeopleTransform,
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

    def __getitem__(self, index: SampleIndex) -> PeopleSample:
        """Return the frame at (epoch, position).

        Raises `UserError` with file and line of the keyframe whose video cannot give it.
        """
        position = index[1]
        frame, size = self._kept.get(position) or self._read(position)
        generator = np.random.default_rng((self._seed, *index))
        boxes_01 = self.table.boxes(position).xyxy_01
        image, boxes_px = self._transform(frame, size, boxes_01, generator)
        return PeopleSample(
            self.table.keyframe(position),
            torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))),
            torch.from_numpy(boxes_px),
        )

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[PeopleSample]:
        """Return many frames."""
        return [self[index] for index in indices]

    def _read(self, position: int) -> tuple[NDArray[np.uint8], tuple[int, int]]:
        """Return the (h, w, 3) frame, decoded no larger than required, and the required (H, W)."""
        key = self.table.keyframe(position)
        try:
            with self._open_video(key.video_id) as video:
                width, height = video.frame_size()
                size = self._transform.size(width, height)
                largest = math.ceil(min(size) * self._transform.largest_scale)
                clip = video.read(
                    [key.time_s], short_side=min(largest, width, height), keyframes_s=[key.time_s]
                )
        except UserError as error:
            raise self.table.row_error(position, str(error)) from error
        frame = np.ascontiguousarray(clip.frames[0].numpy().transpose(1, 2, 0))
        if frame.nbytes <= self._room:
            self._room -= frame.nbytes
            self._kept[position] = frame, size
        return frame, size
