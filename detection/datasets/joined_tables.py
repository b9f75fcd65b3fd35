"""Several tables of one split, ground truth and box files, whose actors are read in one pass.

Legend: K keyframes, S tables, N actors of a keyframe, T frames, A action classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.datasets.actor_table import ActorTable, KeyframeRows
from detection.datasets.actor_tracks import ActorTracks
from detection.errors import UserError
from detection.structures import ActorBoxes, Keyframe


@dataclass(frozen=True)
class JoinedTables(KeyframeRows):
    """The keyframes of all tables, each with the actors of the first table, then of the second.

    Used as an `ActorTable` where samples are read.
    tables: S of them.
    position: (K, S) of the keyframe in each table; -1: it is not there.
    """

    tables: Sequence[ActorTable]
    video_names: tuple[str, ...]
    video_index: NDArray[np.int32]
    time_us: NDArray[np.int64]
    position: NDArray[np.int64]

    def boxes(self, position: int) -> ActorBoxes:
        """Return the (N, 4) actors of the k-th keyframe."""
        parts = [table.boxes(place) for table, place in self.at(position)]
        corners = np.concatenate([part.xyxy_01 for part in parts])
        return ActorBoxes(corners, np.concatenate([part.score for part in parts]))

    def labels(self, position: int) -> NDArray[np.float32]:
        """Return the (N, A) labels of the k-th keyframe's actors; those of box files have none."""
        return np.concatenate([table.labels(place) for table, place in self.at(position)])

    def row_error(self, position: int, message: str) -> UserError:
        """Make an error for the k-th keyframe, with file and line of its first table."""
        table, place = self.at(position)[0]
        return table.row_error(place, message)

    def at(self, position: int) -> list[tuple[ActorTable, int]]:
        """Return the tables that have the k-th keyframe, with its position in each."""
        pairs = zip(self.tables, self.position[position].tolist(), strict=True)
        return [(table, place) for table, place in pairs if place >= 0]


@dataclass(frozen=True)
class JoinedTracks:
    """The tracks of several tables; people of one are never linked with people of another."""

    table: JoinedTables
    tracks: Sequence[ActorTracks]

    def boxes_at(self, position: int, times_s: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the (N, T, 4) boxes of a keyframe's actors at T times."""
        places = self.table.position[position].tolist()
        found = [
            tracks.boxes_at(place, times_s)
            for tracks, place in zip(self.tracks, places, strict=True)
            if place >= 0
        ]
        return np.concatenate(found)


def join_tables(tables: Sequence[ActorTable]) -> JoinedTables:
    """Return the tables as one, by video and time; one at least."""
    places = [
        {(key.video_id, time): place for place, (key, time) in enumerate(_keys(table))}
        for table in tables
    ]
    keys = sorted({key for of_table in places for key in of_table})
    names = tuple(sorted({name for name, _ in keys}))
    number = {name: index for index, name in enumerate(names)}
    return JoinedTables(
        tables,
        names,
        np.array([number[name] for name, _ in keys], np.int32),
        np.array([time for _, time in keys], np.int64),
        np.array([[of.get(key, -1) for of in places] for key in keys], np.int64).reshape(
            len(keys), len(tables)
        ),
    )


def _keys(table: ActorTable) -> list[tuple[Keyframe, int]]:
    return list(zip(table.keyframes(), table.time_us.tolist(), strict=True))
