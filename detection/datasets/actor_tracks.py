"""Which boxes of a table are one person's, and where that person is in between.

Legend: M actors of a table, N of a keyframe, T frames of its clip.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import ActorTable
from detection.errors import at_row
from detection.tracking.paths import boxes_along
from detection.tracking.tracker import Tracker, link_boxes


@dataclass(frozen=True)
class ActorTracks:
    """Boxes by person, as flat arrays: worker processes share them.

    track: (M,) of each actor of the table, a number that no other video has.
    order: (M,) actors by track and time.
    start: first of each track in `order`, and M at the end.
    time_s: (M,) of each actor's keyframe.
    """

    table: ActorTable
    track: NDArray[np.int64]
    order: NDArray[np.int64]
    start: NDArray[np.int64]
    time_s: NDArray[np.float64]

    def boxes_at(self, position: int, times_s: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the (N, T, 4) boxes of a keyframe's actors at T times, see `boxes_along`."""
        actors = self.table.actors(position)
        paths = [self._path(track, times_s) for track in self.track[actors].tolist()]
        return np.array(paths, np.float32).reshape(len(paths), len(times_s), 4)

    def _path(self, track: int, times_s: NDArray[np.float64]) -> NDArray[np.float64]:
        mine = self.order[self.start[track] : self.start[track + 1]]
        return boxes_along(times_s, self.time_s[mine], self.table.boxes_01[mine])


def track_actors(table: ActorTable) -> ActorTracks:
    """Return the tracks of a table: by person ids where it has them, else boxes are linked.

    Raises `UserError` with file and line where a person id has two boxes at a keyframe.
    """
    keyframe = np.repeat(np.arange(len(table)), np.diff(table.first_actor))
    person = _linked(table) if table.person is None else table.person
    video = table.video_index[keyframe]
    order = np.lexsort((keyframe, person, video))
    same = (np.diff(video[order]) == 0) & (np.diff(person[order]) == 0)
    twice = np.flatnonzero(same & (np.diff(keyframe[order]) == 0))
    if len(twice):
        actor = order[twice[0] + 1]
        where = table.keyframe(int(keyframe[actor]))
        message = f"{where}: person {person[actor]} has two boxes there, a person has one"
        raise at_row(table.path, int(table.line[actor]) or None, message)
    number = np.concatenate([np.zeros(len(order[:1]), np.int64), np.cumsum(~same)])
    track = np.empty(len(order), np.int64)
    track[order] = number
    start = np.searchsorted(number, np.arange(len(np.unique(number)) + 1))
    return ActorTracks(table, track, order, start, table.time_us[keyframe] / 1e6)


def _linked(table: ActorTable) -> NDArray[np.int64]:
    """Return (M,) track numbers of boxes that are linked video by video, whatever their scores."""
    numbers = [np.zeros(0, np.int64)]
    for video in np.unique(table.video_index).tolist():
        positions = np.flatnonzero(table.video_index == video).tolist()
        frames = [
            (table.keyframe(position).time_s, table.boxes(position)) for position in positions
        ]
        numbers += link_boxes(frames, Tracker(start_score=-np.inf))
    return np.concatenate(numbers)
