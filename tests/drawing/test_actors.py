"""Rows gathered into actors, and labels judged."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.boxes import paired_iou
from detection.datasets.ava_csv import AvaRows
from detection.drawing.actors import (
    Actor,
    ShownLabel,
    actor_iou,
    gather,
    judge,
    keep_likely,
)
from detection.structures import Keyframe, LabelMap

LABELS = LabelMap(("stand", "walk", "wave"), (12, 14, 69))
LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.5, 0.0, 0.9, 1.0)


def rows(*entries: tuple[float, tuple[float, ...], int, int], scores: list[float] | None = None):
    return AvaRows.from_rows(
        [Keyframe("clip", time_s) for time_s, *_ in entries],
        boxes_01=[box for _, box, *_ in entries],
        action_id=[action for *_, action, _ in entries],
        person_id=None if scores else [person for *_, person in entries],
        score=scores,
        empty_keyframes=[Keyframe("clip", 9.0), Keyframe("other", 8.0)],
    )


def actor(box: tuple[float, ...], *names: str, person: int | None = None) -> Actor:
    return Actor(np.array(box), tuple(ShownLabel(name) for name in names), person)


def marks(actors: tuple[Actor, ...]) -> list[dict[str, str]]:
    return [{label.name: label.mark for label in found.labels} for found in actors]


def test_rows_of_one_box_are_one_actor() -> None:
    found = gather(
        rows((1, LEFT, 12, 0), (1, RIGHT, 14, 1), (1, LEFT, 69, 0), (0.5, LEFT, 12, 0)),
        "clip",
        LABELS,
    )
    assert list(found) == [0.5, 1.0, 9.0]
    assert [[label.name for label in a.labels] for a in found[1.0]] == [["stand", "wave"], ["walk"]]
    assert [a.person_id for a in found[1.0]] == [0, 1]
    assert found[9.0] == ()


def test_two_people_with_equal_boxes_stay_two() -> None:
    found = gather(rows((1, LEFT, 12, 0), (1, LEFT, 14, 1)), "clip", LABELS)
    assert len(found[1.0]) == 2


def test_detections_are_sorted_by_score_and_unknown_classes_show_their_number() -> None:
    found = gather(
        rows((1, LEFT, 12, 0), (1, LEFT, 77, 0), (1, LEFT, 69, 0), scores=[0.2, 0.5, 0.9]),
        "clip",
        LABELS,
    )
    assert [(x.name, x.score) for x in found[1.0][0].labels] == [
        ("wave", 0.9),
        ("action 77", 0.5),
        ("stand", 0.2),
    ]


def test_a_video_that_is_not_there_is_empty() -> None:
    assert gather(rows((1, LEFT, 12, 0)), "nobody", LABELS) == {}
    nothing = AvaRows.from_rows([], boxes_01=np.zeros((0, 4)), action_id=[])
    assert gather(nothing, "clip", LABELS) == {}


def test_likely_labels_are_kept_and_their_actor_always() -> None:
    labels = (ShownLabel("a", 0.9), ShownLabel("b", 0.5), ShownLabel("c", 0.4))
    keyframes = {1.0: (Actor(np.array(LEFT), labels),)}
    kept = keep_likely(keyframes, score_threshold=0.45, top_k=1)
    assert [label.name for label in kept[1.0][0].labels] == ["a"]
    assert len(keep_likely(keyframes, score_threshold=0.45, top_k=9)[1.0][0].labels) == 2
    assert keep_likely(keyframes, score_threshold=0.95, top_k=9)[1.0][0].labels == ()


def test_of_a_group_the_likeliest_label_is_kept() -> None:
    labels = (ShownLabel("a", 0.9), ShownLabel("b", 0.8), ShownLabel("c", 0.7))
    keyframes = {1.0: (Actor(np.array(LEFT), labels),)}

    def names(**thresholds: float) -> list[str]:
        kept = keep_likely(
            keyframes,
            score_threshold=0.5,
            top_k=9,
            class_thresholds=thresholds,
            exclusive=(("b", "a"), ("c", "d")),
        )
        return [label.name for label in kept[1.0][0].labels]

    assert names() == ["a", "c"]
    assert names(a=0.95) == ["b", "c"], "a is not shown, and takes no other's place"


def test_judged_by_the_best_overlapping_person() -> None:
    truth = {1.0: (actor(LEFT, "stand", "wave"), actor(RIGHT, "walk"))}
    near_left = (0.02, 0.0, 0.42, 1.0)
    predicted = {1.0: (actor(near_left, "stand", "walk"), actor((0.0, 0.9, 0.1, 1.0), "stand"))}
    seen, found = judge(truth, predicted)
    assert marks(found[1.0]) == [{"stand": "right", "walk": "wrong"}, {"stand": "wrong"}]
    assert marks(seen[1.0]) == [{"stand": "right", "wave": "missed"}, {"walk": "missed"}]


def test_keyframes_of_one_side_only_are_not_judged() -> None:
    truth, predicted = {1.0: (actor(LEFT, "stand"),)}, {2.0: (actor(LEFT, "stand"),)}
    seen, found = judge(truth, predicted)
    assert marks(seen[1.0]) == marks(found[2.0]) == [{"stand": "none"}]


def test_a_keyframe_with_nobody_makes_every_prediction_wrong() -> None:
    _, found = judge({1.0: ()}, {1.0: (actor(LEFT, "stand"),)})
    assert marks(found[1.0]) == [{"stand": "wrong"}]
    assert judge({1.0: ()}, {1.0: ()}) == ({1.0: ()}, {1.0: ()})


@pytest.mark.parametrize(("overlap_at", "mark"), [(0.5, "right"), (0.51, "wrong")])
def test_the_threshold_of_the_overlap_belongs_to_it(overlap_at: float, mark: str) -> None:
    whole, half = (0.0, 0.0, 0.5, 1.0), (0.0, 0.0, 0.25, 1.0)
    _, found = judge(
        {1.0: (actor(whole, "stand"),)}, {1.0: (actor(half, "stand"),)}, iou_threshold=overlap_at
    )
    assert marks(found[1.0]) == [{"stand": mark}]


coordinate = st.floats(0, 1, width=32)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4),
    st.lists(st.tuples(coordinate, coordinate, coordinate, coordinate), max_size=4),
)
def test_overlap_matrix_is_the_overlap_of_each_pair(first: list, second: list) -> None:
    matrix = actor_iou([actor(box) for box in first], [actor(box) for box in second])
    assert matrix.shape == (len(first), len(second))
    for i, a in enumerate(first):
        for j, b in enumerate(second):
            assert matrix[i, j] == paired_iou(np.array([a]), np.array([b]))[0]


def test_a_predicted_actor_has_its_track_id() -> None:
    found = AvaRows.from_rows(
        [Keyframe("clip", 1.0)] * 3,
        boxes_01=[LEFT, LEFT, RIGHT],
        action_id=[12, 14, 12],
        score=[0.4, 0.9, 0.5],
        track_id=[5, 5, 2],
    )
    assert [actor.person_id for actor in gather(found, "clip", LABELS)[1.0]] == [5, 2]
