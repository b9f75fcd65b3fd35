"""Which classes are taken for which: shares by hand, by a slow twin, and of what is empty."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.confusion import (
    NO_BOX,
    NO_PERSON,
    NOT_READ,
    NOTHING,
    ConfusionTable,
    action_confusion,
    clip_confusion,
    several_label_shares,
    single_label_shares,
)
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

LABEL_MAP = LabelMap(("a", "b", "c"), (2, 4, 6))
BOX, FAR = (0.1, 0.1, 0.5, 0.5), (0.6, 0.5, 0.9, 0.9)
LOOSE = (0.3, 0.1, 0.7, 0.5)  # overlaps BOX by one third
MASKS = st.tuples(st.integers(0, 8), st.integers(1, 5)).flatmap(
    lambda shape: st.tuples(arrays(bool, shape), arrays(bool, shape))
)

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def truth(*people):
    """People as (time, box, ids)."""
    rows = [(time, box, one) for time, box, ids in people for one in ids]
    return AvaRows.from_rows(
        [Keyframe("v", row[0]) for row in rows],
        boxes_01=np.reshape([row[1] for row in rows], (-1, 4)),
        action_id=[row[2] for row in rows],
    )


def found(time, *boxes):
    """Boxes as (box, scores) or (box, scores, person_score)."""
    return Detections(
        Keyframe("v", time),
        ActorBoxes([box[0] for box in boxes], [(*box, None, 0.9)[2] or 0.9 for box in boxes]),
        np.array([box[1] for box in boxes], np.float32).reshape(-1, 3),
    )


def table_of(ground_truth, detections, threshold=(0.5, 0.5, 0.5), **rules):
    return action_confusion(
        detections, ground_truth, LABEL_MAP, threshold=np.array(threshold), **rules
    )


def slow_shares(labels, above):
    size = labels.shape[1]
    out = np.full((size, size), np.nan)
    for row in range(size):
        for column in range(size):
            mine = [
                bool(said[column])
                for does, said in zip(labels, above, strict=True)
                if does[row] and (row == column or not does[column])
            ]
            if mine:
                out[row, column] = sum(mine) / len(mine)
    return out


@UNHURRIED
@given(MASKS)
def test_shares_are_those_of_a_slow_twin(masks):
    labels, above = masks
    np.testing.assert_allclose(several_label_shares(labels, above), slow_shares(labels, above))


@UNHURRIED
@given(MASKS, st.randoms())
def test_another_order_of_classes_or_people_is_another_order_of_the_table(masks, random):
    labels, above = masks
    people, classes = ([*range(size)] for size in labels.shape)
    random.shuffle(people)
    random.shuffle(classes)
    shares = several_label_shares(labels, above)
    again = several_label_shares(labels[people][:, classes], above[people][:, classes])
    np.testing.assert_allclose(again, shares[np.ix_(classes, classes)])


@UNHURRIED
@given(MASKS)
def test_what_is_scored_as_labelled_has_no_mistake(masks):
    labels, _ = masks
    shares = several_label_shares(labels, labels)
    known = np.isfinite(shares)
    assert (shares[known] == np.eye(len(shares))[known]).all()
    assert (np.isfinite(np.diagonal(shares)) == labels.any(0)).all()


@UNHURRIED
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=20))
def test_rows_of_one_label_add_up_to_one(pairs):
    label, chosen = np.array(pairs, np.int64).reshape(-1, 2).T
    shares = single_label_shares(label, chosen, num_columns=5, num_classes=4)
    assert shares.shape == (4, 5)
    for row, count in enumerate(np.bincount(label, minlength=4)):
        if not count:
            assert np.isnan(shares[row]).all()
            continue
        assert shares[row].sum() == pytest.approx(1)
        for column in range(5):
            assert shares[row, column] == pytest.approx(pairs.count((row, column)) / count)


def test_people_who_do_several_things_are_no_mistake():
    both = truth((1, BOX, (2, 4)), (1, FAR, (2,)))
    table = table_of(both, [found(1, (BOX, (0.9, 0.9, 0.0)), (FAR, (0.9, 0.9, 0.0)))])
    assert table.rows == table.columns == ("a", "b", "c")
    # b is scored for both who do a: right for one, and a mistake for the only one without b.
    assert table.share[0].tolist() == [1, 1, 0]
    assert table.share[1, 1] == 1 and np.isnan(table.share[1, 0])
    assert np.isnan(table.share[2]).all()
    assert table.examples.tolist() == [2, 1, 0]


def test_each_class_has_its_threshold_and_a_score_at_it_counts():
    one = truth((1, BOX, (2,)))
    table = table_of(one, [found(1, (BOX, (0.25, 0.5, 0.74)))], threshold=(0.25, 0.51, 0.75))
    assert table.share[0].tolist() == [1, 0, 0]


def test_missed_people_silent_ones_and_boxes_of_no_person():
    people = truth((1, BOX, (2,)), (1, FAR, (2, 4)), (2, BOX, (2,)), (3, BOX, (6,)))
    detections = [
        found(1, (BOX, (0.1, 0.2, 0.3)), (LOOSE, (0.9, 0.1, 0.9))),
        found(2, (BOX, (0.9, 0.9, 0.1))),
        found(3),
        found(4, (BOX, (0.9, 0.9, 0.9))),  # the ground-truth file has no such keyframe
    ]
    table = table_of(people, detections)
    assert table.columns == ("a", "b", "c", NOTHING, NO_BOX)
    assert table.rows == ("a", "b", "c", NO_PERSON)
    third = pytest.approx(1 / 3)
    assert table.share[0].tolist() == [third, 0.5, 0, third, third]
    assert table.share[1, [1, 3, 4]].tolist() == [0, 0, 1]
    assert table.share[2, 2:].tolist() == [0, 0, 1]
    assert table.share[3, :3].tolist() == [1, 0, 1] and np.isnan(table.share[3, 3:]).all()
    assert table.examples.tolist() == [3, 1, 1, 1]


def test_excluded_keyframes_do_not_count():
    people = truth((1, BOX, (2,)), (2, BOX, (4,)))
    detections = [found(1, (BOX, (0.9, 0, 0))), found(2, (BOX, (0.9, 0, 0)), (FAR, (0.9, 0, 0)))]
    table = table_of(people, detections, exclusions=frozenset({Keyframe("v", 2)}))
    assert table.examples.tolist() == [1, 0, 0] and table.rows == ("a", "b", "c")


def test_the_confidence_in_the_person_counts_where_thresholds_are_of_products():
    one, detections = truth((1, BOX, (2,))), [found(1, (BOX, (0.8, 0, 0), 0.5))]
    assert table_of(one, detections).share[0, 0] == 1
    assert table_of(one, detections, times_person_score=True).share[0, 0] == 0


def test_nothing_at_all():
    table = table_of(truth(), [])
    assert np.isnan(table.share).all() and not table.examples.any()
    assert not table.mistakes.any()
    empty = np.zeros((0, 2), bool)
    clips = clip_confusion(empty, empty, "xy", has_scores=np.zeros(0, bool), threshold=None)
    assert np.isnan(clips.share).all() and clips.columns == ("x", "y")


def test_videos_of_one_class_each():
    labels = np.eye(3, dtype=bool)[[0, 0, 1, 1]]
    scores = np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.6, 0.4, 0], [0, 0, 0]])
    readable = np.array([True, True, True, False])
    table = clip_confusion(labels, scores, ("x", "y", "z"), has_scores=readable, threshold=None)
    assert not table.several and table.columns == ("x", "y", "z", NOT_READ)
    assert table.share[0].tolist() == [1, 0, 0, 0], "of equal scores the first counts"
    assert table.share[1].tolist() == [0.5, 0, 0, 0.5]
    assert table.examples.tolist() == [2, 2, 0] and table.mistakes.tolist() == [0, 3, 0]


def test_videos_of_several_classes():
    labels = np.array([[1, 1], [1, 0], [0, 1]], bool)
    scores = np.array([[0.9, 0.9], [0.4, 0.5], [0.9, 0.9]])
    readable = np.array([True, True, False])
    table = clip_confusion(labels, scores, ("x", "y"), has_scores=readable, threshold=0.5)
    assert table.several and table.columns == ("x", "y", NOT_READ)
    assert table.share.tolist() == [[0.5, 1, 0], [0, 0.5, 0.5]]


def test_some_classes_keep_what_is_no_class():
    share = np.arange(20).reshape(4, 5) / 20
    table = ConfusionTable(
        ("a", "b", "c"), share, np.array([3, 2, 1, 9]), (NOTHING, NO_BOX), (NO_PERSON,)
    )
    part = table.select([2, 0])
    assert part.columns == ("c", "a", NOTHING, NO_BOX) and part.rows == ("c", "a", NO_PERSON)
    assert part.share.tolist() == share[np.ix_([2, 0, 3], [2, 0, 3, 4])].tolist()
    assert part.examples.tolist() == [1, 3, 9]
    with pytest.raises(ValueError, match="of 3 rows and 3 columns"):
        ConfusionTable(("a", "b", "c"), share, table.examples)
    with pytest.raises(ValueError, match="must be"):
        several_label_shares(np.zeros((2, 3), bool), np.zeros((3, 2), bool))
    with pytest.raises(ValueError, match="must be as many"):
        single_label_shares(np.zeros(2, int), np.zeros(3, int), 2, 2)
