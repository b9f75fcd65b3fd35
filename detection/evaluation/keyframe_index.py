"""Keyframes and classes of two files as small integers."""

from __future__ import annotations

from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, time_us_of
from detection.errors import UserError
from detection.structures import Keyframe, LabelMap

# Class ids are 32-bit numbers; larger ones than _LARGEST_TABLE are searched, not tabulated.
_LARGEST_ID, _LARGEST_TABLE = 2**31 - 1, 1 << 20


class SharedKeys:
    """Numbers the keyframes of ground truth, detections and exclusions alike, from 0 to K - 1.

    ground_truth, detections: (rows,) int32, the number of each row's keyframe.
    excluded, in_ground_truth_file: (K,) bool.
    """

    def __init__(
        self, ground_truth: AvaRows, detections: AvaRows, exclusions: frozenset[Keyframe]
    ) -> None:
        names: dict[str, int] = {}
        times = max(_latest_us(ground_truth), _latest_us(detections))
        times = max([times, *(time_us_of(key.time_s) for key in exclusions)])
        self._span = times + 1

        parts = [_runs(rows, names) for rows in (ground_truth, detections)]
        for keyframes in (ground_truth.empty_keyframes, exclusions):
            video = np.array([_number(k.video_id, names) for k in keyframes], np.int64)
            time = np.array([time_us_of(k.time_s) for k in keyframes], np.int64)
            parts.append((video, time, np.ones(len(video), np.int64)))
        if len(names) * self._span >= 2**63:
            raise UserError(
                f"{detections.path}: times up to {times / 1e6:g} s in {len(names):,} videos are "
                "too many to tell apart: seconds of each video's own clock are required"
            )
        codes = [video * self._span + time for video, time, _ in parts]
        self._codes, inverse = np.unique(np.concatenate(codes), return_inverse=True)
        ends = np.cumsum([len(code) for code in codes])
        of_part = np.split(inverse.astype(np.int32), ends[:-1])
        self._names = tuple(names)

        self.ground_truth = np.repeat(of_part[0], parts[0][2])
        self.detections = np.repeat(of_part[1], parts[1][2])
        self.in_ground_truth_file = self._mask(of_part[0], of_part[2])
        self.excluded = self._mask(of_part[3])

    def __len__(self) -> int:
        return len(self._codes)

    def keyframe(self, key: int) -> Keyframe:
        """Return the keyframe of a number."""
        video, time_us = divmod(int(self._codes[key]), self._span)
        return Keyframe(self._names[video], time_us / 1e6)

    @cached_property
    def video_of_key(self) -> NDArray[np.int64]:
        """The number (K,) of the video of each keyframe."""
        return self._codes // self._span

    def times_by_video(self, mask: NDArray[np.bool_]) -> dict[str, list[int]]:
        """Return the times (microseconds) of the keyframes of a mask (K,), by video id."""
        times: dict[str, list[int]] = {}
        videos, codes = self.video_of_key[mask].tolist(), self._codes[mask] % self._span
        for video, time_us in zip(videos, codes.tolist(), strict=True):
            times.setdefault(self._names[video], []).append(time_us)
        return times

    @cached_property
    def annotated(self) -> NDArray[np.bool_]:
        """A mask (K,) of the keyframes of the ground-truth file that are not excluded."""
        return self.in_ground_truth_file & ~self.excluded

    @cached_property
    def all_whole_seconds(self) -> bool:
        """Whether every time of the files and the exclusions is a whole second."""
        return not (self._codes % self._span % 1_000_000).any()

    def _mask(self, *members: NDArray[np.int32]) -> NDArray[np.bool_]:
        mask = np.zeros(len(self._codes), bool)
        for keys in members:
            mask[keys] = True
        return mask


class ClassColumns:
    """Maps class ids to columns of a label map."""

    def __init__(self, label_map: LabelMap) -> None:
        column = {i: c for i, c in label_map.index_by_id.items() if i <= _LARGEST_ID}
        self._number = np.int16 if len(label_map) < 2**15 else np.int32
        self._largest = max(column, default=0)
        self._table: NDArray[np.signedinteger] | None = None
        self._ids = np.array(sorted(column), np.int32)
        self._columns = np.array([column[i] for i in sorted(column)], self._number)
        if self._largest < _LARGEST_TABLE:
            self._table = np.full(self._largest + 2, -1, self._number)
            self._table[self._ids] = self._columns

    def of(self, action_id: NDArray[np.int32]) -> NDArray[np.signedinteger]:
        """Return the column of each id, -1 for ids outside the label map."""
        if self._table is not None:
            # The last entry is -1, for ids above the largest and (as [-1]) for none.
            clipped = np.clip(action_id, -1, self._largest + 1)
            column: NDArray[np.signedinteger] = np.take(self._table, clipped)
            return column
        place = np.minimum(np.searchsorted(self._ids, action_id), len(self._ids) - 1)
        known = self._ids[place] == action_id
        return np.asarray(np.where(known, self._columns[place], self._number(-1)))


def cells(
    key: NDArray[np.integer], column: NDArray[np.integer], num_columns: int, num_keys: int
) -> NDArray[np.integer]:
    """Return numbers of (keyframe, class) pairs, in 32 bits where they fit."""
    wide = np.int64 if num_keys * num_columns >= 2**31 else np.int32
    cell = key.astype(wide, copy=False) * num_columns
    return np.asarray(cell + column.astype(wide, copy=False))


def _runs(
    rows: AvaRows, names: dict[str, int]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return (video number, time, length) of every run of rows that share a keyframe."""
    number = np.array([_number(name, names) for name in rows.video_names], np.int64)
    changed = np.diff(rows.video_index, prepend=np.int32(-1)) != 0
    changed[1:] |= rows.time_us[1:] != rows.time_us[:-1]
    starts = np.flatnonzero(changed)
    lengths = np.diff(np.append(starts, len(rows)))
    return number[rows.video_index[starts]], rows.time_us[starts], lengths


def _number(name: str, names: dict[str, int]) -> int:
    return names.setdefault(name, len(names))


def _latest_us(rows: AvaRows) -> int:
    latest = int(rows.time_us.max()) if len(rows) else 0
    return max([latest, *(time_us_of(key.time_s) for key in rows.empty_keyframes)])
