"""Which videos a data set needs, and from when to when: what its annotations and boxes ask for.

No torch. AVA's films are asked for from 902 to 1798 s; with clips of 14 s around those moments the
part needed is 895 to 1805 s.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detection.data.actor_table import read_exclusions, read_ground_truth_rows, read_video_list
from detection.data.ava_files import AvaRows, read_person_boxes, time_us_of
from detection.data.dataset_folder import DatasetFolder
from detection.structures import Keyframe


@dataclass(frozen=True)
class Moment:
    """A keyframe's time in seconds and the row that asks for it (`FILE:LINE`)."""

    time_s: float
    where: str


@dataclass(frozen=True)
class NeededVideo:
    """A video and the first and last of its keyframes, over all splits and box files."""

    video_id: str
    first: Moment
    last: Moment

    def window_s(self, clip_span_s: float) -> tuple[float, float]:
        """Return from when to when clips of that length around the keyframes reach."""
        return max(0.0, self.first.time_s - clip_span_s / 2), self.last.time_s + clip_span_s / 2


def needed_videos(folder: DatasetFolder, splits: Iterable[str] | None = None) -> list[NeededVideo]:
    """Return what the splits (None: all) ask for, sorted by id.

    Excluded keyframes and videos that a split does not list ask for nothing. Raises `UserError`
    naming the file that is missing or malformed, and its row.
    """
    found: dict[str, tuple[Moment, Moment]] = {}
    for name in folder.file.splits if splits is None else splits:
        split = folder.split(name)
        excluded = {(key.video_id, time_us_of(key.time_s)) for key in read_exclusions(split)}
        listed = read_video_list(split)
        tables = [read_ground_truth_rows(split)]
        tables += [read_person_boxes(folder.boxes_path(split, boxes)) for boxes in split.boxes]
        for rows in tables:
            for video_id, first, last in _ends(rows, excluded):
                if listed is None or video_id in listed:
                    _widen(found, video_id, first, last)
    return [NeededVideo(video_id, *found[video_id]) for video_id in sorted(found)]


def _ends(rows: AvaRows, excluded: set[tuple[str, int]]) -> Iterable[tuple[str, Moment, Moment]]:
    """Yield each video's first and last keyframe that is not excluded."""
    order = np.lexsort((rows.time_us, rows.video_index))
    bounds = np.searchsorted(rows.video_index[order], np.arange(len(rows.video_names) + 1))
    for index, video_id in enumerate(rows.video_names):
        low, high = int(bounds[index]), int(bounds[index + 1]) - 1
        while low <= high and (video_id, int(rows.time_us[order[low]])) in excluded:
            low += 1
        while low <= high and (video_id, int(rows.time_us[order[high]])) in excluded:
            high -= 1
        if low <= high:
            first, last = (
                Moment(float(rows.time_us[row] / 1e6), f"{rows.path}:{rows.line[row]}")
                for row in (order[low], order[high])
            )
            yield video_id, first, last
    yield from _empty_ends(rows.path, rows.empty_keyframes, excluded)


def _empty_ends(
    path: str | Path, keyframes: Iterable[Keyframe], excluded: set[tuple[str, int]]
) -> Iterable[tuple[str, Moment, Moment]]:
    for key in keyframes:
        if (key.video_id, time_us_of(key.time_s)) not in excluded:
            moment = Moment(key.time_s, str(path))
            yield key.video_id, moment, moment


def _widen(
    found: dict[str, tuple[Moment, Moment]], video_id: str, first: Moment, last: Moment
) -> None:
    if video_id in found:
        earlier, later = found[video_id]
        first = earlier if earlier.time_s <= first.time_s else first
        last = later if later.time_s >= last.time_s else last
    found[video_id] = first, last
