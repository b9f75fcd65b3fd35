"""Batches of samples: order, collation and loading by worker processes.

Legend: B clips, T frames, H W pixels, N actors of a clip, R actors of a batch.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm import tqdm

from detection.datasets.actions import AvaDataset
from detection.datasets.workers import (
    CollateResults,
    FixedBatches,
    GuardedReader,
    ManagedLoader,
    OnUnreadable,
    ReadFailure,
    ReadResult,
    SampleIndex,
    Samples,
    start_worker,
)
from detection.errors import UserError
from detection.structures import Batch, Keyframe, Sample

BatchT = TypeVar("BatchT")


class ClipLoader(Generic[BatchT]):
    """Yields batches, in the order of `batches`, read by worker processes.

    A `UserError` of a worker is raised here unchanged.

    collate: makes a batch of the data set's samples.
    workers: number of processes; 0 reads in this process.
    on_unreadable: "replace" or "leave out" continue without an unreadable sample, and call
    `report_unreadable` with its error.
    most_unreadable: raise where more than this share of an epoch's samples is unreadable.
    unreadable: the errors of the current epoch.
    unreadable_before: number of unreadable samples earlier in the epoch, before a run was resumed.
    """

    def __init__(
        self,
        dataset: Samples,
        batches: BatchOrder,
        *,
        collate: Callable[[Sequence[Any]], BatchT],
        workers: int = 0,
        pin_memory: bool = False,
        on_unreadable: OnUnreadable = "end",
        most_unreadable: float = 0.0,
    ) -> None:
        self.batches = batches
        self.unreadable: list[str] = []
        self.unreadable_before = 0
        self.report_unreadable: Callable[[str], None] = print_unreadable
        self._most_unreadable = most_unreadable
        loader: DataLoader[object] = DataLoader(
            GuardedReader(dataset, on_unreadable=on_unreadable if most_unreadable else "end"),
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=CollateResults(collate),
            worker_init_fn=start_worker,
            persistent_workers=workers > 0,
            pin_memory=pin_memory,
            generator=torch.Generator(),  # its draws must not move the network's random numbers
        )
        self._loader = ManagedLoader(loader)

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return len(self.batches)

    def __iter__(self) -> Iterator[BatchT]:
        self.unreadable = []
        for part in self._loader:
            if isinstance(part, ReadFailure):
                raise UserError(part.message)
            assert isinstance(part, ReadResult)
            self._count(part.unreadable)
            if part.content is not None:
                yield cast(BatchT, part.content)

    def _count(self, unreadable: Sequence[str]) -> None:
        """Count unreadable samples; raise where there are too many."""
        if not unreadable:
            return
        for line in unreadable:
            self.report_unreadable(line)
        self.unreadable += unreadable
        count, samples = self.unreadable_before + len(self.unreadable), self.batches.num_samples
        if count > self._most_unreadable * samples:
            raise UserError(
                f"{count} of {samples} samples of an epoch cannot be read, "
                f"data.max_unreadable={self._most_unreadable:g} of them may be; the last one: "
                f"{unreadable[-1]}"
            )


def print_unreadable(line: str) -> None:
    """Print the error of an unreadable sample, above a progress bar."""
    tqdm.write(f"cannot be read: {line}", file=sys.stderr)


def choose_keyframes(
    keyframes: Sequence[Keyframe],
    *,
    every: int = 1,
    per_video: int | None = None,
    seed: int = 0,
    epoch: int = 0,
) -> NDArray[np.int64]:
    """Return the positions of the keyframes that one epoch visits, ascending.

    every: take each n-th keyframe of a video, in order of time; the first one taken moves with the
    epoch, so that n epochs see them all. per_video: of those, at most so many per video, drawn anew
    for each (seed, epoch). Videos whose frames are all annotated repeat themselves otherwise.
    """
    if every < 1 or (per_video is not None and per_video < 1):
        raise ValueError(f"every and per_video must be at least 1, got {every} and {per_video}")
    by_video: dict[str, list[int]] = {}
    for position in sorted(range(len(keyframes)), key=lambda i: keyframes[i]):
        by_video.setdefault(keyframes[position].video_id, []).append(position)
    generator = np.random.default_rng((seed, epoch))
    chosen: list[int] = []
    for positions in by_video.values():
        start = epoch % min(every, len(positions))
        taken = positions[start::every]
        if per_video is not None and per_video < len(taken):
            picks = generator.choice(len(taken), size=per_video, replace=False)
            taken = [taken[pick] for pick in sorted(picks)]
        chosen.extend(taken)
    return np.asarray(sorted(chosen), dtype=np.int64)


class TrainBatches:
    """Shuffled batches, determined by (seed, epoch), so that a run can be resumed at any batch.

    The last batch of an epoch may be smaller.

    per_video: number of random keyframes of each video per epoch; None: all.
    share: (rank, processes), this process's part of each batch. Parts are equally large: the last
    batch is padded with the first samples of the epoch.
    """

    def __init__(
        self,
        keyframes: Sequence[Keyframe],
        *,
        batch_size: int,
        seed: int = 0,
        per_video: int | None = None,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1 or batch_size % share[1]:
            raise ValueError(f"batch size {batch_size} cannot be shared by {share[1]} processes")
        self._keyframes = keyframes
        self._share = share
        self._batch_size = batch_size
        self._seed = seed
        self._per_video = per_video
        self.set_epoch(0)

    def set_epoch(self, epoch: int, *, start_batch: int = 0) -> None:
        """Choose the epoch to iterate next, and its first batch (for resuming)."""
        chosen = choose_keyframes(
            self._keyframes, per_video=self._per_video, seed=self._seed, epoch=epoch
        )
        self._order = np.random.default_rng((self._seed, epoch, 1)).permutation(chosen)
        self._epoch = epoch
        self._start_batch = start_batch

    def __iter__(self) -> Iterator[list[SampleIndex]]:
        size = self._batch_size
        for start in range(self._start_batch * size, len(self._order), size):
            taken = self._order[start : start + size]
            rank, count = self._share
            taken = np.concatenate([taken, np.resize(self._order, -len(taken) % count)])
            yield [(self._epoch, int(position)) for position in taken[rank::count]]

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch."""
        return -(-len(self._order) // self._batch_size)

    @property
    def num_samples(self) -> int:
        """Number of this process's samples of a whole epoch, with padding."""
        whole, rest = divmod(len(self._order), self._batch_size)
        count = self._share[1]
        return whole * (self._batch_size // count) + -(-rest // count)


class EvalBatches(FixedBatches):
    """Every keyframe once (or some of each video), in order, clips of one size together.

    Frames are never padded: squeeze-and-excitation averages over the whole map, so padding would
    change results. Keyframes that are close in time share a batch, and so one pass of decoding.

    every: use each n-th keyframe of a video.
    per_video: number of keyframes of each video, drawn by `seed`.
    share: (rank, processes); this process gets every n-th batch.
    """

    def __init__(
        self,
        dataset: AvaDataset,
        *,
        batch_size: int,
        every: int = 1,
        per_video: int | None = None,
        seed: int = 0,
        share: tuple[int, int] = (0, 1),
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch size must be at least 1, got {batch_size}")
        keyframes = dataset.table.keyframes()
        by_size: dict[tuple[int, int], list[int]] = defaultdict(list)
        for position in choose_keyframes(keyframes, every=every, per_video=per_video, seed=seed):
            by_size[dataset.output_size(int(position))].append(int(position))
        super().__init__(by_size.values(), batch_size=batch_size, share=share)


BatchOrder = TrainBatches | FixedBatches


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack clips of one size, each once; raises `ValueError` for clips of different sizes."""
    sizes = {tuple(sample.frames.shape) for sample in samples}
    if len(sizes) != 1:
        raise ValueError(f"clips of one batch must have one size, got {sorted(sizes)}")
    first_of: dict[Hashable, int] = {}
    clips: list[Sample] = []
    rois = []
    for number, sample in enumerate(samples):
        key = number if sample.same_clip is None else sample.same_clip
        if key not in first_of:
            first_of[key] = len(clips)
            clips.append(sample)
        rois.append(torch.nn.functional.pad(sample.boxes_px, (1, 0), value=float(first_of[key])))
    weights = [clip.weights for clip in clips if clip.weights is not None]
    return Batch(
        frames=torch.stack([clip.frames for clip in clips]),
        rois_px=torch.cat(rois),
        labels=torch.cat([sample.labels for sample in samples]),
        boxes=[sample.boxes for sample in samples],
        keyframes=[sample.keyframe for sample in samples],
        weights=torch.stack(weights) if weights else None,
    )
