"""Which boxes of a data set are learned, and which are kept back for choices. No torch.

Legend: K keyframes. What people do is not looked at: a data set with boxes alone will do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from detection.datasets.actor_table import (
    ActorTable,
    build_actor_table,
    read_exclusions,
    read_ground_truth_rows,
)
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.structures import LabelMap

_ONE_CLASS = LabelMap(("actor",), (1,), None)  # rows are read without their labels


@dataclass(frozen=True)
class TrainingBoxes:
    """The keyframes of a training split in two parts that share no source video."""

    learned: ActorTable
    held_out: ActorTable
    held_out_videos: tuple[str, ...]


def read_training_boxes(
    folder: DatasetFolder,
    split_name: str,
    *,
    held_out_share: float,
    source_pattern: str | None,
    seed: int,
) -> TrainingBoxes:
    """Read a split's distinct boxes and part them by source video.

    Raises `UserError` where there is nothing to learn from.
    """
    whole = read_boxes(folder, split_name)
    names = [whole.video_names[i] for i in np.unique(whole.video_index)]
    share, pattern = held_out_share, source_pattern
    learned, held_out = split_by_source(names, share=share, pattern=pattern, seed=seed)
    table = read_boxes(folder, split_name, videos=learned)
    if not table.num_actors:
        raise UserError(f"{table.path}: no box to learn from in split '{split_name}'")
    kept_back = read_boxes(folder, split_name, videos=held_out)
    return TrainingBoxes(table, kept_back, tuple(sorted(held_out)))


def read_boxes(
    folder: DatasetFolder, split_name: str, *, videos: Collection[str] | None = None
) -> ActorTable:
    """Read a split's distinct ground-truth boxes, keyframes without persons included.

    videos: only these. Raises `UserError` where the split has no keyframe at all.
    """
    split = folder.split(split_name)
    table = build_actor_table(
        read_ground_truth_rows(split),
        _ONE_CLASS,
        excluded=read_exclusions(split),
        videos=videos,
        labelled=False,
        keep_empty=True,
    )
    if videos is None and not len(table):
        raise UserError(f"{table.path}: no keyframe in it for split '{split_name}'")
    return table


def split_by_source(
    video_names: Sequence[str], *, share: float, pattern: str | None, seed: int
) -> tuple[frozenset[str], frozenset[str]]:
    """Part videos into those to learn from and those held out, clips of one source together.

    pattern: its first group is the source in a video id; an id that it does not match is a source
    of its own.  share: of the sources, rounded; the draw depends on the seed and the names alone.
    """
    sources = {name: _source_of(name, pattern) for name in video_names}
    distinct = sorted(set(sources.values()))
    count = min(round(share * len(distinct)), len(distinct) - 1) if distinct else 0
    if share > 0 and len(distinct) > 1:
        count = max(1, count)
    drawn = np.random.default_rng((seed, 7)).permutation(len(distinct))[:count]
    held_out_sources = {distinct[i] for i in drawn}
    held_out = frozenset(name for name in video_names if sources[name] in held_out_sources)
    return frozenset(video_names) - held_out, held_out


def _source_of(name: str, pattern: str | None) -> str:
    found = re.search(pattern, name) if pattern else None
    return name if found is None or found.group(1) is None else found.group(1)
