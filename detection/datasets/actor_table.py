"""Boxes and actions of the actors at every keyframe, as flat arrays; no torch.

Legend: K keyframes, M actors, L labels, N actors of one keyframe, A action classes. Worker
processes share flat arrays; the pages of lists of objects would be copied when they are read.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import (
    AvaRows,
    read_ground_truth,
    read_keyframe_list,
    read_person_boxes,
    time_us_of,
)
from detection.datasets.folder import DatasetFolder, Split
from detection.datasets.plain_names import check_video_id, without_video_suffix
from detection.errors import UserError, at_row
from detection.files import read_text
from detection.structures import ActorBoxes, Keyframe, LabelMap


class KeyframeRows:
    """Keyframes in order of video and time.

    video_names: sorted.
    video_index: (K,) index into `video_names`.
    time_us: (K,) microseconds.
    """

    video_names: tuple[str, ...]
    video_index: NDArray[np.int32]
    time_us: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.time_us)

    def keyframe(self, position: int) -> Keyframe:
        """Return the k-th keyframe."""
        name = self.video_names[self.video_index[position]]
        return Keyframe(name, float(self.time_us[position]) / 1e6)

    def keyframes(self) -> list[Keyframe]:
        """Return all keyframes in order."""
        return [self.keyframe(position) for position in range(len(self))]


@dataclass(frozen=True)
class ActorTable(KeyframeRows):
    """Keyframes, each with its actors and their labels.

    path: the file of the actors.
    num_classes: number of action classes, A.
    first_actor: (K + 1,); keyframe k has actors first_actor[k] to first_actor[k + 1].
    boxes_01: (M, 4) float32, x1, y1, x2, y2 in fractions of the frame.
    score: (M,) float32 person scores, 1 for ground truth.
    line: (M,) lines of the file.
    first_label: (M + 1,); actor m has labels first_label[m] to first_label[m + 1].
    label_column: (L,) columns of the label map.
    skipped_labels: number of rows whose action is not in the label map.
    person: (M,) ids of people, within a video; None where the file has none.
    """

    path: str
    num_classes: int
    video_names: tuple[str, ...]
    video_index: NDArray[np.int32]
    time_us: NDArray[np.int64]
    first_actor: NDArray[np.int64]
    boxes_01: NDArray[np.float32]
    score: NDArray[np.float32]
    line: NDArray[np.int32]
    first_label: NDArray[np.int64]
    label_column: NDArray[np.int32]
    skipped_labels: int = 0
    person: NDArray[np.int64] | None = None

    @property
    def num_actors(self) -> int:
        """Number of actors, M."""
        return len(self.boxes_01)

    def boxes(self, position: int) -> ActorBoxes:
        """Return the (N, 4) actors of the k-th keyframe."""
        actors = self.actors(position)
        return ActorBoxes(self.boxes_01[actors], self.score[actors])

    def labels(self, position: int) -> NDArray[np.float32]:
        """Return the (N, A) labels, 0 or 1, of the k-th keyframe's actors."""
        actors = self.actors(position)
        labels = np.zeros((actors.stop - actors.start, self.num_classes), dtype=np.float32)
        bounds = self.first_label[actors.start : actors.stop + 1]
        rows = np.repeat(np.arange(len(labels)), np.diff(bounds))
        labels[rows, self.label_column[bounds[0] : bounds[-1]]] = 1
        return labels

    def label_counts(self) -> NDArray[np.int64]:
        """Return the (A,) numbers of actors with each label."""
        return np.bincount(self.label_column, minlength=self.num_classes)

    def check_one_label(self, *, why: str) -> None:
        """Raise `UserError` with file and line where an actor has several labels.

        why: what requires a single label.
        """
        several = np.flatnonzero(np.diff(self.first_label) > 1)
        if len(several):
            line = int(self.line[several[0]]) or None
            message = f"{len(several)} boxes have more than one action, this one first; {why} "
            raise at_row(self.path, line, f"{message}requires one each")

    def row_error(self, position: int, message: str) -> UserError:
        """Make an error for the k-th keyframe, with its file and line."""
        actors = self.actors(position)
        line = int(self.line[actors.start]) if actors.stop > actors.start else None
        return at_row(self.path, line or None, message)

    def actors(self, position: int) -> slice:
        """Return which of the M actors are those of the k-th keyframe."""
        return slice(int(self.first_actor[position]), int(self.first_actor[position + 1]))


def read_actor_table(
    folder: DatasetFolder,
    split_name: str,
    label_map: LabelMap,
    *,
    boxes: str | None = None,
    score_threshold: float = 0.0,
    skip_unknown_labels: bool = False,
    keep_empty: bool = False,
) -> ActorTable:
    """Read the actors of a split, without its excluded keyframes and the videos it does not list.

    boxes: None for ground-truth boxes with their labels, each distinct box once; else the name of a
    person box file, whose boxes have no labels; those below `score_threshold` are left out.
    keep_empty: also list keyframes without persons.
    """
    split = folder.split(split_name)
    if boxes is None:
        rows = read_ground_truth_rows(split)
    else:
        rows = read_person_boxes(folder.boxes_path(split, boxes))
        if rows.score is None:
            raise UserError(f"{rows.path}: person boxes need a score in column 8")
        rows = rows.select(rows.score >= score_threshold)
    table = build_actor_table(
        rows,
        label_map,
        excluded=read_exclusions(split),
        videos=read_video_list(split),
        labelled=boxes is None,
        skip_unknown_labels=skip_unknown_labels,
        keep_empty=keep_empty,
    )
    if not len(table):
        raise UserError(f"{rows.path}: no keyframe with persons for split '{split_name}'")
    return table


def read_ground_truth_rows(split: Split) -> AvaRows:
    """Return the ground-truth rows of the videos that a split lists."""
    rows = read_ground_truth(split.annotations)
    videos = read_video_list(split)
    if videos is None:
        return rows
    listed = np.asarray([name in videos for name in rows.video_names], dtype=bool)
    kept = rows.select(listed[rows.video_index])
    empty = tuple(key for key in rows.empty_keyframes if key.video_id in videos)
    return replace(kept, empty_keyframes=empty)


def read_exclusions(split: Split) -> frozenset[Keyframe]:
    """Return the excluded keyframes of a split."""
    return read_keyframe_list(split.exclusions) if split.exclusions else frozenset()


def read_video_list(split: Split) -> frozenset[str] | None:
    """Return the video ids of a split's list; None where the split has no list.

    AVA's own lists contain file names: the suffix of a video (`.mkv`, `.MP4`) is removed. Raises
    `UserError` for an empty list and for an invalid id.
    """
    if split.videos is None:
        return None
    ids = read_video_ids(split.videos)
    if not ids:
        raise UserError(f"{split.videos}: contains no video id, one per line is required")
    return ids


def read_video_ids(path: Path) -> frozenset[str]:
    """Return the ids of a list of videos, one per line; it may be empty."""
    ids = set()
    for number, line in enumerate(read_text(path, what="list of videos").split("\n"), 1):
        if line.strip():
            try:
                ids.add(check_video_id(without_video_suffix(line.strip())))
            except ValueError as error:
                raise at_row(path, number, str(error)) from error
    return frozenset(ids)


def build_actor_table(
    rows: AvaRows,
    label_map: LabelMap,
    *,
    excluded: Collection[Keyframe] = frozenset(),
    videos: Collection[str] | None = None,
    labelled: bool = True,
    skip_unknown_labels: bool = False,
    keep_empty: bool = False,
) -> ActorTable:
    """Group rows into keyframes and distinct boxes.

    Rows are one box where keyframe, person id and all four coordinates are exactly equal; rounding
    would merge persons who are close. A row without an action adds no label.
    """
    names = tuple(sorted(set(rows.video_names) | {key.video_id for key in rows.empty_keyframes}))
    rank_of_name = {name: rank for rank, name in enumerate(names)}
    rank = np.asarray([rank_of_name[name] for name in rows.video_names], dtype=np.int32)
    video = rank[rows.video_index]
    kept = _kept(names, video, rows.time_us, excluded, videos)
    rows, video = rows.select(kept), video[kept]
    columns, skipped = _label_columns(rows, label_map, labelled, skip_unknown_labels)

    first_rows, actor_of_row = _distinct_boxes(rows, video)
    keys = np.stack([video[first_rows].astype(np.int64), rows.time_us[first_rows]], axis=1)
    if keep_empty:
        empty = _empty_keys(rows.empty_keyframes, rank_of_name, names, excluded, videos)
    else:
        empty = np.zeros((0, 2), np.int64)
    keyframes, keyframe_of_key = _unique_rows(np.concatenate([keys, empty]))
    keyframe_of_actor = keyframe_of_key[: len(keys)]

    has_label = columns >= 0
    pairs, _ = _unique_rows(np.stack([actor_of_row[has_label], columns[has_label]], axis=1))
    score = np.ones(len(rows)) if rows.score is None else rows.score
    return ActorTable(
        path=rows.path,
        num_classes=len(label_map),
        video_names=names,
        video_index=keyframes[:, 0].astype(np.int32),
        time_us=keyframes[:, 1],
        first_actor=np.searchsorted(keyframe_of_actor, np.arange(len(keyframes) + 1)),
        boxes_01=rows.boxes_01[first_rows].astype(np.float32),
        score=score[first_rows].astype(np.float32),
        line=rows.line[first_rows],
        first_label=np.searchsorted(pairs[:, 0], np.arange(len(first_rows) + 1)),
        label_column=pairs[:, 1].astype(np.int32),
        skipped_labels=skipped,
        person=None if rows.person_id is None else rows.person_id[first_rows],
    )


def _kept(
    names: tuple[str, ...],
    video: NDArray[np.int32],
    time_us: NDArray[np.int64],
    excluded: Collection[Keyframe],
    videos: Collection[str] | None,
) -> NDArray[np.bool_]:
    """Return the (rows,) mask of rows of listed videos that are not at excluded keyframes."""
    kept = np.ones(len(video), dtype=bool)
    if videos is not None:
        kept &= np.asarray([name in videos for name in names], dtype=bool)[video]
    rank = {name: index for index, name in enumerate(names)}
    for key in excluded:
        if key.video_id in rank:
            kept &= (video != rank[key.video_id]) | (time_us != time_us_of(key.time_s))
    return kept


def _label_columns(
    rows: AvaRows, label_map: LabelMap, labelled: bool, skip_unknown: bool
) -> tuple[NDArray[np.int64], int]:
    """Return the (rows,) columns of the label map, -1 for none, and the number of unknown ones."""
    columns = np.full(len(rows), -1, dtype=np.int64)
    if not labelled:
        return columns, 0
    ids, inverse = np.unique(rows.action_id, return_inverse=True)
    column_of_id = [label_map.index_by_id.get(int(i), -1) for i in ids]
    columns = np.asarray(column_of_id, dtype=np.int64)[inverse.reshape(-1)]
    unknown = np.flatnonzero((columns < 0) & (rows.action_id >= 0))
    if len(unknown) and not skip_unknown:
        row = int(unknown[0])
        message = (
            f"action id {rows.action_id[row]} is not in the label map ({len(label_map)} classes; "
            f"{len(unknown)} such rows; data.skip_unknown_labels=true leaves them out)"
        )
        raise at_row(rows.path, int(rows.line[row]), message)
    return columns, len(unknown)


def _distinct_boxes(
    rows: AvaRows, video: NDArray[np.int32]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the (M,) first row of each distinct box, and the (rows,) box of each row.

    Boxes are in order of video and time, and within a keyframe in the order of the file.
    """
    boxes = rows.boxes_01 + 0.0  # -0.0 is the same edge as 0.0
    person = np.zeros(len(rows), np.int64) if rows.person_id is None else rows.person_id
    keys: tuple[NDArray[Any], ...] = (person, *boxes.T, rows.time_us, video)
    first_rows, group_of_row = group_rows(keys)
    place_keys = (first_rows, rows.time_us[first_rows], video[first_rows])
    rearranged = np.lexsort(place_keys)
    place = np.empty(len(first_rows), dtype=np.int64)
    place[rearranged] = np.arange(len(first_rows))
    return first_rows[rearranged], place[group_of_row]


def group_rows(keys: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Group rows with equal keys, sorted by the last key first (np.unique with axis is slower).

    Returns the (groups,) first row of each, and the (rows,) group of each row.
    """
    order = np.lexsort(tuple(keys))
    starts = np.zeros(len(order), dtype=bool)
    starts[:1] = True
    for key in keys:
        starts[1:] |= key[order][1:] != key[order][:-1]
    group_of_row = np.empty(len(order), dtype=np.int64)
    group_of_row[order] = np.cumsum(starts) - 1
    return order[starts], group_of_row  # lexsort is stable: the first in the file


def _unique_rows(rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the sorted distinct rows of a (n, 2) array, and the (n,) index of each row in them."""
    first_rows, group_of_row = group_rows((rows[:, 1], rows[:, 0]))
    return rows[first_rows], group_of_row


def _empty_keys(
    keyframes: Collection[Keyframe],
    rank_of_name: dict[str, int],
    names: tuple[str, ...],
    excluded: Collection[Keyframe],
    videos: Collection[str] | None,
) -> NDArray[np.int64]:
    keys = [(rank_of_name[key.video_id], time_us_of(key.time_s)) for key in keyframes]
    array = np.asarray(keys, dtype=np.int64).reshape(-1, 2)
    return array[_kept(names, array[:, 0].astype(np.int32), array[:, 1], excluded, videos)]
