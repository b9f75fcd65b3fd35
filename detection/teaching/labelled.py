"""Decisions of label files, found again among the people of a label page.

Legend: R decided people at keyframes of one video, K keyframes of a track, A classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.review.document import Decision, ReviewTrack
from detection.teaching.features import PersonKeyframes


@dataclass(frozen=True)
class Labelled:
    """What is decided in one video.

    people: (R,) at keyframes, each once.
    labels: (R, A) bool.
    no_person: (R,) boxes that are no person.
    track: (R,) the track on the page; below 0 for boxes that are on no track of it.
    person_score: (R,) the detector's confidence, 1 for boxes that are not the detector's.
    """

    people: PersonKeyframes
    labels: NDArray[np.bool_]
    no_person: NDArray[np.bool_]
    track: NDArray[np.int64]
    person_score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.people)

    def select(self, index: NDArray[np.bool_]) -> Labelled:
        """Return those that a mask names."""
        people = PersonKeyframes(self.people.time_us[index], self.people.boxes_01[index])
        return Labelled(
            people,
            self.labels[index],
            self.no_person[index],
            self.track[index],
            self.person_score[index],
        )


def idle_people(labelled: Labelled) -> int:
    """Return the number of tracks that are decided, somewhere, to do none of the actions."""
    return len(np.unique(labelled.track[~labelled.labels.any(1) & ~labelled.no_person]))


def people_of(track: ReviewTrack) -> PersonKeyframes:
    """Return a track's (K,) people at keyframes."""
    time_us = np.rint(track.times_s * 1e6).astype(np.int64)
    return PersonKeyframes(time_us, np.asarray(track.boxes_01, np.float64))


@dataclass(frozen=True)
class Decided:
    """What the label files say of one video, in their own order.

    people: (R,).  labels: (R, A) bool, columns of the data set's classes.  no_person: (R,).
    person: (R,) a number for each person of the files.
    """

    people: PersonKeyframes
    labels: NDArray[np.bool_]
    no_person: NDArray[np.bool_]
    person: NDArray[np.int64]


def find_on_page(decided: Decided, tracks: Sequence[ReviewTrack]) -> Labelled:
    """Return decisions with the tracks that their boxes are on, by time and box."""
    places: dict[bytes, tuple[int, float]] = {}
    for track in tracks:
        for key, score in zip(people_of(track).keys, track.person_score.tolist(), strict=True):
            places[key.tobytes()] = track.track_id, score
    found = [places.get(key.tobytes()) for key in decided.people.keys]
    track_ids = [
        -1 - int(person) if place is None else place[0]
        for place, person in zip(found, decided.person, strict=True)
    ]
    return Labelled(
        decided.people,
        decided.labels,
        decided.no_person,
        np.array(track_ids, np.int64),
        np.array([1.0 if place is None else place[1] for place in found], np.float64),
    )


def decisions_of(labelled: Labelled) -> list[Decision]:
    """Return what is decided about the tracks of the page, as the page takes it."""
    decisions = []
    for track_id in np.unique(labelled.track[labelled.track >= 0]).tolist():
        for no_person in (False, True):
            rows = np.flatnonzero((labelled.track == track_id) & (labelled.no_person == no_person))
            rows = rows[np.argsort(labelled.people.time_us[rows], kind="stable")]
            if len(rows):
                times_s = labelled.people.time_us[rows] / 1e6
                decisions.append(Decision(track_id, times_s, labelled.labels[rows], no_person))
    return decisions


def undecided_keyframes(track: ReviewTrack, labelled: Labelled | None) -> NDArray[np.bool_]:
    """Return the (K,) mask of a track's keyframes that are not decided yet."""
    if labelled is None:
        return np.ones(len(track.times_s), bool)
    mine = labelled.people.time_us[labelled.track == track.track_id]
    return ~np.isin(people_of(track).time_us, mine)
