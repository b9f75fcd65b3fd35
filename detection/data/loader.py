"""Samples into batches: which ones, in which order, by which worker processes.

Legend: B clips, T frames, H W pixels, N actors of a clip, R actors of a batch.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, cast

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from detection.data.ava_dataset import AvaDataset, SampleIndex
from detection.data.sampling import choose_keyframes
from detection.errors import UserError
from detection.structures import Batch, Keyframe, Sample

BatchT = TypeVar("BatchT")


class Samples(Protocol):
    """A data set of clips: of `AvaDataset`, say."""

    def __len__(self) -> int: ...

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[Any]:
        """Return the samples of a batch, by (epoch, position)."""


class ClipLoader(Generic[BatchT]):
    """Yields batches, in the order of `batches`, read by worker processes.

    collate: makes a batch of the data set's samples.  workers: 0 reads in this process. What a user
    can mend is raised here as the same one-line `UserError` that the worker met.
    """

    def __init__(
        self,
        dataset: Samples,
        batches: BatchOrder,
        *,
        collate: Callable[[Sequence[Any]], BatchT],
        workers: int = 0,
        pin_memory: bool = False,
    ) -> None:
        self.batches = batches
        self._loader: DataLoader[object] = DataLoader(
            _Guarded(dataset),
            batch_sampler=_AsSampler(batches),
            num_workers=workers,
            collate_fn=_CollateOrFail(collate),
            worker_init_fn=_start_worker,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its draws must not move the network's random numbers
        )

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchT]:
        for batch in self._loader:
            if isinstance(batch, _Failure):
                raise UserError(batch.message)
            yield cast(BatchT, batch)


class BatchOrder(Protocol):
    """Which samples make which batch."""

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        """Yield the sample indices of each batch."""

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""


class TrainBatches:
    """Shuffled batches; (seed, epoch) decides all, so that a run can be resumed at any batch.

    per_video: random keyframes of each video an epoch, None for all of them; every: only each n-th
    keyframe of a video. The last batch of an epoch may be smaller. share: (rank, processes), this
    process's part of each batch; parts are equally large, so a last batch that does not divide is
    filled up with samples that the epoch began with.
    """

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        *,
        batch_size: int,
        seed: int = 0,
        per_video: int | None = None,
        every: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or batch_size % share[1]:
            raise ValueError(f"batch size {batch_size} cannot be shared by {share[1]} processes")
        self._keyframes = keyframes
        self._share = share
        self._batch_size = batch_size
        self._seed = seed
        self._per_video = per_video
        self._every = every
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch to iterate next, and the batch to begin with (for resuming)."""
        chosen = choose_keyframes(
            self._keyframes,
            every=self._every,
            per_video=self._per_video,
            seed=self._seed,
            epoch=epoch,
        )
        order = np.random.default_rng((self._seed, epoch, 1)).permutation(chosen)
        self._epoch = epoch
        self._start_batch = start_batch
        self._order = order

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        for start in range(
            self._start_batch * self._batch_size, len(self._order), self._batch_size
        ):
            taken = self._order[start : start + self._batch_size]
            rank, count = self._share
            taken = np.concatenate([taken, np.resize(self._order, -len(taken) % count)])
            yield [(self._epoch, int(position)) for position in taken[rank::count]]

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return -(-len(self._order) // self._batch_size)


class EvalBatches:
    """Every keyframe once (or each n-th of a video), in order, clips of one size together.

    Frames are never padded: squeeze-and-excitation averages over the whole map, so padding changes
    answers. Neighbours in time share a batch, and so one pass of decoding. share: (rank,
    processes), every n-th batch is this process's.
    """

    def __init__(
        self,
        dataset: AvaDataset,
        *,
        batch_size: int,
        every: int = 1,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, got {batch_size}")
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position in choose_keyframes(dataset.table.keyframes(), every=every):
            by_size[dataset.output_size(int(position))].append(int(position))
        self._batches = [
            [(0, position) for position in positions[start : start + batch_size]]
            for positions in by_size.values()
            for start in range(0, len(positions), batch_size)
        ][share[0] :: share[1]]

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return iter(self._batches)

    def __len__(self) -> int:
        """Return the number of batches."""
        return len(self._batches)


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack clips of one size; raises `ValueError` for clips of different sizes."""
    sizes = {tuple(sample.frames.shape) for sample in samples}
    if len(sizes) != 1:
        raise ValueError(f"clips of one batch must have one size, got {sorted(sizes)}")
    rois = [
        torch.cat([torch.full((len(sample.boxes_px), 1), float(clip)), sample.boxes_px], dim=1)
        for clip, sample in enumerate(samples)
    ]
    return Batch(
        frames=torch.stack([sample.frames for sample in samples]),
        rois_px=torch.cat(rois),
        labels=torch.cat([sample.labels for sample in samples]),
        boxes=[sample.boxes for sample in samples],
        keyframes=[sample.keyframe for sample in samples],
    )


@dataclass(frozen=True)
class _Failure:
    """Carries a user's error out of a worker, where torch would bury it under a traceback."""

    message: str


class _Guarded(Dataset[object]):
    def __init__(self, dataset: Samples) -> None:
        self._dataset = dataset

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitems__(self, indices: Sequence[SampleIndex]) -> list[Any] | _Failure:
        try:
            return self._dataset.__getitems__(indices)
        except UserError as error:
            return _Failure(str(error))


class _AsSampler(Sampler[list[SampleIndex]]):
    def __init__(self, batches: BatchOrder) -> None:
        self._batches = batches

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        return iter(self._batches)

    def __len__(self) -> int:
        return len(self._batches)


@dataclass(frozen=True)
class _CollateOrFail:
    collate: Callable[[Sequence[Any]], Any]

    def __call__(self, samples: list[Any] | _Failure) -> Any:
        return samples if isinstance(samples, _Failure) else self.collate(samples)


def _start_worker(_: int) -> None:
    """One thread a worker: the network has the other cores."""
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
