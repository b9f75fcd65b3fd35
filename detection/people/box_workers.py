"""Batches of keyframes as pieces of work: a worker reads frames and detects people in them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from detection.datasets.folder import DatasetFolder
from detection.jobs.base import Do, OnProgress
from detection.people.base import PeopleDetector
from detection.people.detect_batch import decoded_sides_px, detect_batch
from detection.people.keyframe_frames import FrameReader, Unreadable
from detection.structures import ActorBoxes, Keyframe


@dataclass(frozen=True)
class KeyframeBatch:
    """The keyframes of a batch, and its number."""

    number: int
    keyframes: tuple[Keyframe, ...]


@dataclass(frozen=True)
class FoundBatch:
    """What was found in a batch.

    keyframes: those that could be read.  found: who is there.  unreadable: the others.
    """

    number: int
    keyframes: tuple[Keyframe, ...]
    found: tuple[ActorBoxes, ...]
    unreadable: tuple[Unreadable, ...]


def open_box_worker(
    folder: DatasetFolder,
    open_detector: Callable[[], PeopleDetector],
    short_side_px: int | None,
) -> Do[KeyframeBatch, FoundBatch]:
    """Open the detector in a worker; return what it does with a batch.

    open_detector: a function of a module, or a `functools.partial` of one.
    short_side_px: as `make_box_table` takes it.
    """
    detector = open_detector()
    reader = FrameReader(folder, decoded_sides_px(detector, short_side_px))
    return partial(_find, detector, reader)


def _find(
    detector: PeopleDetector, reader: FrameReader, batch: KeyframeBatch, on_progress: OnProgress
) -> FoundBatch:
    on_progress(0.0)
    frames = reader.read(batch.number, batch.keyframes)
    found = tuple(detect_batch(detector, frames))
    on_progress(len(batch.keyframes))
    return FoundBatch(batch.number, frames.keyframes, found, frames.unreadable)
