"""What is in a split: classes, people per keyframe, sizes of boxes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detection.checks.rows import Actors
from detection.datasets.ava_csv import AvaRows
from detection.structures import LabelMap

QUANTILES = (0.01, 0.25, 0.5, 0.75, 0.99)


@dataclass(frozen=True)
class SplitStatistics:
    """Counts of one split.

    num_boxes: people at keyframes.  without_action: those of them who do nothing.
    people_per_keyframe: keyframes by number of people, 0 too.  boxes_per_class: by class name.
    height_quantiles, area_quantiles: of boxes, fractions of the frame, at `QUANTILES`.
    """

    num_videos: int
    num_keyframes: int
    num_rows: int
    num_boxes: int
    num_persons: int | None
    without_action: int
    people_per_keyframe: Mapping[int, int]
    boxes_per_class: Mapping[str, int]
    height_quantiles: tuple[float, ...]
    area_quantiles: tuple[float, ...]


def statistics_of(rows: AvaRows, actors: Actors, label_map: LabelMap | None) -> SplitStatistics:
    """Count; `actors` are the rows grouped."""
    boxes = rows.boxes_01[actors.first_row]
    sides = boxes[:, 2:] - boxes[:, :2]
    people = np.bincount(np.bincount(actors.keyframe)) if len(boxes) else np.zeros(1, np.int64)
    per_keyframe = {n: int(times) for n, times in enumerate(people.tolist()) if times}
    empty = len(set(rows.empty_keyframes))
    if empty:
        per_keyframe = {0: empty, **per_keyframe}
    acting = np.zeros(len(boxes), bool)
    acting[actors.of_row[rows.action_id >= 0]] = True
    persons = None
    if rows.person_id is not None:
        pairs = np.stack([rows.video_index.astype(np.int64), rows.person_id])[:, actors.first_row]
        persons = len(np.unique(pairs[0] * (1 << 40) + pairs[1]))
    ids, counts = np.unique(rows.action_id, return_counts=True)
    count_of = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    classes = (
        {name: count_of.get(i, 0) for name, i in zip(label_map.names, label_map.ids, strict=True)}
        if label_map
        else {f"action {i}": n for i, n in count_of.items() if i >= 0}
    )
    videos = {*rows.video_names, *(key.video_id for key in rows.empty_keyframes)}
    return SplitStatistics(
        num_videos=len(videos),
        num_keyframes=len(actors.keyframe_row) + empty,
        num_rows=len(rows),
        num_boxes=len(boxes),
        num_persons=persons,
        without_action=int((~acting).sum()),
        people_per_keyframe=per_keyframe,
        boxes_per_class=classes,
        height_quantiles=_quantiles(sides[:, 1]),
        area_quantiles=_quantiles(sides[:, 0] * sides[:, 1]),
    )


def _quantiles(values: Any) -> tuple[float, ...]:
    return tuple(np.quantile(values, QUANTILES).round(4).tolist()) if len(values) else ()
