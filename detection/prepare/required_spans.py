"""Which spans of which videos a data set requires: around the keyframes of labels and boxes.

No torch. AVA's keyframes lie between 902 and 1798 s; with clips of 14 s around them the required
span is 895 to 1805 s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import read_exclusions, read_ground_truth_rows, read_video_list
from detection.datasets.ava_csv import AvaRows, read_person_boxes, time_us_of
from detection.datasets.folder import DatasetFolder, Split
from detection.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class KeyframeRow:
    """A keyframe's time and the row that names it.

    time_s: seconds on the video's own clock.
    where: `FILE:LINE`, or the file alone for a keyframe without people.
    """

    time_s: float
    where: str


@dataclass(frozen=True)
class VideoKeyframes:
    """One video's keyframes in one file.

    video_id: the video.
    path: the file.
    times_s: (K,) ascending, K >= 1.
    line: (K,) first line of each keyframe, 0 for one without people.
    """

    video_id: str
    path: str
    times_s: NDArray[np.float64]
    line: NDArray[np.int64]

    def row(self, position: int) -> KeyframeRow:
        """Return the k-th keyframe and its row."""
        line = int(self.line[position])
        where = f"{self.path}:{line}" if line else self.path
        return KeyframeRow(float(self.times_s[position]), where)


@dataclass
class RequiredVideo:
    """A video with its keyframes.

    video_id: the video.
    tables: its keyframes in each file that has any.
    """

    video_id: str
    tables: list[VideoKeyframes] = field(default_factory=list)

    @property
    def first(self) -> KeyframeRow:
        """The earliest keyframe."""
        return min((table.row(0) for table in self.tables), key=lambda row: row.time_s)

    @property
    def last(self) -> KeyframeRow:
        """The latest keyframe."""
        return max((table.row(-1) for table in self.tables), key=lambda row: row.time_s)

    def window_s(self, clip_span_s: float) -> tuple[float, float]:
        """Return when the first clip of that length around a keyframe begins, the last ends."""
        return max(0.0, self.first.time_s - clip_span_s / 2), self.last.time_s + clip_span_s / 2


def required_videos(
    folder: DatasetFolder,
    splits: Iterable[str] | None = None,
    *,
    on_error: Callable[[str, UserError | OSError], object] | None = None,
) -> list[RequiredVideo]:
    """Return the videos of the splits (None: all), sorted by id.

    Excluded keyframes and videos that a split does not list are not required.
    on_error: called with a split and what is wrong with its files; None: raises `UserError` naming
        the file that is missing or malformed, and its row.
    """
    found: dict[str, RequiredVideo] = {}
    for name in folder.file.splits if splits is None else splits:
        try:
            for table in split_keyframes(folder, folder.split(name)):
                found.setdefault(table.video_id, RequiredVideo(table.video_id)).tables.append(table)
        except (UserError, OSError) as error:
            if on_error is None:
                raise
            on_error(name, error)
    return [found[video_id] for video_id in sorted(found)]


def only_named(known: Mapping[str, T], only: Sequence[str], *, missing: str) -> list[T]:
    """Return the videos named in `only`; all of them where it is empty.

    missing: what to say of an id that is not known. Raises `UserError` for it.
    """
    for video_id in only:
        if video_id not in known:
            some = ", ".join(sorted(known)[:3])
            raise UserError(f"--only {video_id}: {missing} (ids look like {some})")
    return [known[video_id] for video_id in dict.fromkeys(only or known)]


def split_keyframes(folder: DatasetFolder, split: Split) -> Iterator[VideoKeyframes]:
    """Yield the keyframes of a split's ground truth and of each of its box files, by video."""
    excluded: dict[str, list[int]] = {}
    for key in read_exclusions(split):
        excluded.setdefault(key.video_id, []).append(time_us_of(key.time_s))
    listed = read_video_list(split)
    tables = [read_ground_truth_rows(split)]
    tables += [read_person_boxes(folder.boxes_path(split, boxes)) for boxes in split.boxes]
    for rows in tables:
        for video_id, time_us, line in _by_video(rows):
            kept = ~np.isin(time_us, excluded.get(video_id, []))
            if kept.any() and (listed is None or video_id in listed):
                yield VideoKeyframes(video_id, rows.path, time_us[kept] / 1e6, line[kept])


def _by_video(rows: AvaRows) -> Iterator[tuple[str, NDArray[np.int64], NDArray[np.int64]]]:
    """Yield each video with its distinct times in microseconds and their first lines."""
    names = list(dict.fromkeys([*rows.video_names, *(k.video_id for k in rows.empty_keyframes)]))
    index_of = {name: index for index, name in enumerate(names)}
    empty = [(index_of[key.video_id], time_us_of(key.time_s), 0) for key in rows.empty_keyframes]
    place = np.asarray([index_of[name] for name in rows.video_names], np.int64)
    listed = np.column_stack([place[rows.video_index], rows.time_us, rows.line])
    table = np.concatenate([listed, np.asarray(empty, np.int64).reshape(-1, 3)])
    table = table[np.lexsort(table.T[::-1])]  # by video, time, line
    new = np.ones(len(table), dtype=bool)
    new[1:] = (table[1:, :2] != table[:-1, :2]).any(axis=1)
    video, time_us, line = table[new].T
    bounds = np.searchsorted(video, np.arange(len(names) + 1)).tolist()
    for name, start, end in zip(names, bounds, bounds[1:], strict=False):
        yield name, time_us[start:end], line[start:end]
