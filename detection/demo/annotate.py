"""Annotations of a story: boxes, actions and visibility of its people at the keyframes.

A keyframe with a person who is less than 20 % visible, less than 60 % within the frame, or whose
box is not 15 to 90 % of the frame's height is excluded from evaluation.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detection.datasets.ava_csv import AvaRows, format_time
from detection.demo.actions import ActionClass
from detection.demo.casting import Story, cast
from detection.demo.looks import Split
from detection.demo.parameters import FIRST_S
from detection.demo.scene import StoryScene
from detection.demo.story import Decks, Doing
from detection.structures import Keyframe

LEAST_VISIBLE, LEAST_INSIDE = 0.2, 0.6
BOX_HEIGHTS = (0.15, 0.90)
PEOPLE_COLUMNS = (
    "video_id", "time", "person_id", "doing", "standing_height", "box_height", "visible", "inside",
)  # fmt: skip
_SPLIT_NUMBER: dict[Split, int] = {"train": 0, "val": 1}


@dataclass(frozen=True)
class PersonNote:
    """One person at one keyframe.

    box_01: of the whole figure, with hidden parts, within the frame.
    visible, inside: shares (see StoryScene.people_seen).
    standing_height: in frame heights.
    """

    keyframe: Keyframe
    person_id: int
    doing: Doing
    box_01: tuple[float, float, float, float]
    standing_height: float
    visible: float
    inside: float

    @property
    def labels(self) -> tuple[ActionClass, ...]:
        """The actions of the person here, by ascending id."""
        return tuple(sorted(self.doing.labels, key=lambda action: action.action_id))

    @property
    def box_height(self) -> float:
        """Height of the box in frame heights."""
        return self.box_01[3] - self.box_01[1]

    @property
    def fair(self) -> bool:
        """Whether the person can be evaluated."""
        low, high = BOX_HEIGHTS
        return (
            self.visible >= LEAST_VISIBLE
            and self.inside >= LEAST_INSIDE
            and low <= self.box_height <= high
        )

    def row(self) -> str:
        """Return the line of `people.csv` (PEOPLE_COLUMNS)."""
        key = self.keyframe
        numbers = (self.standing_height, self.box_height, self.visible, self.inside)
        fields = [key.video_id, format_time(key.time_s), str(self.person_id)]
        fields += [f'"{self.doing.name}"', *(f"{number:.4f}" for number in numbers)]
        return ",".join(fields)


def tell_stories(
    split: Split, count: int, *, seed: int, slots: int, aspect: float
) -> Iterable[Story]:
    """Yield the stories of a split in order; each has `slots` keyframes."""
    decks = Decks()
    for index in range(count):
        rng = np.random.default_rng([seed, _SPLIT_NUMBER[split], index])
        yield cast(split, index, slots=slots, aspect=aspect, decks=decks, rng=rng)


def notes_of(story: Story, *, slots: int, size_px: tuple[int, int]) -> list[list[PersonNote]]:
    """Return the people at each keyframe of a story."""
    times = np.arange(FIRST_S, FIRST_S + slots, dtype=np.float64)
    scene = StoryScene(story, times, size_px=size_px)
    scale = np.array([*size_px, *size_px], np.float64)
    notes = []
    for index, time_s in enumerate(times.tolist()):
        boxes = scene.boxes_px(index) / scale
        visible, inside = scene.people_seen(index)
        notes.append(
            [
                PersonNote(
                    Keyframe(story.video_id, time_s),
                    person.person_id,
                    person.doing_at(time_s),
                    tuple(np.round(boxes[number], 4).tolist()),
                    person.height,
                    float(visible[number]),
                    float(inside[number]),
                )
                for number, person in enumerate(story.people)
            ]
        )
    return notes


def is_excluded(people: Sequence[PersonNote]) -> bool:
    """Whether a keyframe goes to the exclusion file."""
    return not all(note.fair for note in people)


def ground_truth(notes: Sequence[PersonNote]) -> AvaRows:
    """Return AVA rows: one for every action of every note."""
    pairs = [(note, action) for note in notes for action in note.labels]
    return AvaRows.from_rows(
        [note.keyframe for note, _ in pairs],
        boxes_01=[note.box_01 for note, _ in pairs],
        action_id=[action.action_id for _, action in pairs],
        person_id=[note.person_id for note, _ in pairs],
        path="made up",
    )
