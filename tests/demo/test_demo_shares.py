"""What the data set of `make demo` holds, at its full size, told without drawing its videos."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from detection.datasets.ava_csv import read_ground_truth, write_ground_truth
from detection.demo import CLASSES, MOTION_ONLY
from detection.demo.annotate import (
    BOX_HEIGHTS,
    PersonNote,
    ground_truth,
    is_excluded,
    notes_of,
    tell_stories,
)
from detection.demo.looks import Split
from detection.demo.parameters import DemoParameters

PARAMETERS = DemoParameters()
SPLITS: tuple[Split, ...] = ("train", "val")


@pytest.fixture(scope="module")
def keyframes() -> dict[Split, list[list[PersonNote]]]:
    """The people of every annotated keyframe of the default data set, by split."""
    size = (PARAMETERS.width, PARAMETERS.height)
    told: dict[Split, list[list[PersonNote]]] = {}
    for split in SPLITS:
        stories = tell_stories(
            split,
            PARAMETERS.count(split),
            seed=0,
            slots=PARAMETERS.keyframes,
            aspect=PARAMETERS.width / PARAMETERS.height,
        )
        told[split] = [
            people
            for story in stories
            for people in notes_of(story, slots=PARAMETERS.keyframes, size_px=size)
        ]
    return told


def kept(keyframes: list[list[PersonNote]]) -> list[list[PersonNote]]:
    return [people for people in keyframes if not is_excluded(people)]


def people_of(keyframes: list[list[PersonNote]]) -> list[PersonNote]:
    return [note for people in kept(keyframes) for note in people]


def test_at_least_twelve_classes_most_of_them_a_matter_of_motion() -> None:
    assert len(CLASSES) >= 12
    assert set(MOTION_ONLY) < {action.name for action in CLASSES}
    assert len(MOTION_ONLY) > len(CLASSES) / 2


@pytest.mark.parametrize("split", SPLITS)
def test_every_class_has_3_to_50_percent_of_the_boxes(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    people = people_of(keyframes[split])
    counts = Counter(action.name for note in people for action in note.labels)
    shares = {action.name: counts[action.name] / len(people) for action in CLASSES}
    assert min(shares.values()) >= 0.03, shares
    assert max(shares.values()) <= 0.50, shares


@pytest.mark.parametrize("split", SPLITS)
def test_a_fifth_of_the_people_is_more_than_30_percent_hidden(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    hidden = [note.visible < 0.7 for note in people_of(keyframes[split])]
    assert 0.20 <= np.mean(hidden) <= 0.45


@pytest.mark.parametrize("split", SPLITS)
def test_many_keyframes_hold_three_people_or_more(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    several = [len(people) >= 3 for people in kept(keyframes[split])]
    assert np.mean(several) >= 0.30


@pytest.mark.parametrize("split", SPLITS)
def test_people_are_15_to_90_percent_of_the_frame_high_and_vary(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    heights = np.array([note.box_height for note in people_of(keyframes[split])])
    assert heights.min() >= BOX_HEIGHTS[0] == 0.15
    assert heights.max() <= BOX_HEIGHTS[1] == 0.90
    assert np.percentile(heights, 5) < 0.25
    assert np.percentile(heights, 95) > 0.6


@pytest.mark.parametrize("split", SPLITS)
def test_people_do_several_things_at_once(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    several = [len(note.labels) > 1 for note in people_of(keyframes[split])]
    assert np.mean(several) >= 0.2
    assert max(len(note.labels) for note in people_of(keyframes[split])) >= 3


@pytest.mark.parametrize("split", SPLITS)
def test_few_keyframes_are_excluded(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    assert len(kept(keyframes[split])) >= 0.92 * len(keyframes[split])


@pytest.mark.parametrize("split", SPLITS)
def test_statues_are_about_as_many_as_those_who_move(keyframes, split: Split) -> None:  # type: ignore[no-untyped-def]
    # Otherwise the pose alone would tell the class.
    names = Counter(note.doing.name for note in people_of(keyframes[split]))
    for moving, statue in (
        ("run", "statue of running"),
        ("walk", "statue of walking"),
        ("stand, wave", "statue of waving"),
    ):
        assert 0.4 * names[moving] <= names[statue] <= 2.5 * names[moving], (moving, names)


@pytest.mark.parametrize("split", SPLITS)
def test_the_file_says_the_same(keyframes, split: Split, tmp_path) -> None:  # type: ignore[no-untyped-def]
    people = people_of(keyframes[split])
    write_ground_truth(tmp_path / "x.csv", ground_truth(people))
    rows = read_ground_truth(tmp_path / "x.csv")
    assert len(rows) == sum(len(note.labels) for note in people)
    assert (rows.time_us % 1_000_000 == 0).all()
    assert rows.boxes_01.min() >= 0 and rows.boxes_01.max() <= 1
    assert (rows.boxes_01[:, 2:] > rows.boxes_01[:, :2]).all()
    assert set(rows.action_id.tolist()) == {action.action_id for action in CLASSES}
    keys = {(key.video_id, key.time_s) for key in rows.keyframes()}
    assert keys == {(note.keyframe.video_id, note.keyframe.time_s) for note in people}


def test_no_person_makes_an_empty_table() -> None:
    assert len(ground_truth([])) == 0


def test_names_and_ids_are_avas(real_data) -> None:  # type: ignore[no-untyped-def]
    from detection.datasets.label_map import read_label_map

    ava = read_label_map(real_data / "ava" / "ava_action_list_v2.2.pbtxt")
    for action in CLASSES:
        column = ava.index_by_id[action.action_id]
        assert ava.names[column] == action.name
        assert ava.groups is not None and ava.groups[column] == action.group
