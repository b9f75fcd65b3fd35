"""Thresholds of best F1, against a slow twin that tries every cut."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.thresholds import learn_from_detections, learn_thresholds, mean_f1
from detection.structures import ActorBoxes, ClassThresholds, Detections, Keyframe, LabelMap

LABELS = LabelMap(("sit", "wave"), (3, 7))
A, B = (0.1, 0.1, 0.4, 0.9), (0.6, 0.1, 0.9, 0.9)


def f1_at(threshold, scores, truth, positives):
    kept = [t for s, t in zip(scores, truth, strict=True) if s >= threshold]
    return 2 * sum(kept) / (len(kept) + positives)


def slow_cut(scores, truth, positives):
    """Try the place below every score, of the best the lowest; within the bounds."""
    values = sorted({0.0, *scores})
    cuts = [0.0] if len(values) == 1 else []
    cuts += [(low + high) / 2 for low, high in zip(values, values[1:], strict=False)]
    if 0.0 in scores:
        cuts.append(0.0)
    best = max(cuts, key=lambda cut: (f1_at(cut, scores, truth, positives), -cut))
    return min(max(best, 0.05), 0.95)


def slow_twin(scores, truth, positives):
    """Return the thresholds, by loops."""
    classes = len(positives)
    pooled = [(row[c], t[c]) for row, t in zip(scores, truth, strict=True) for c in range(classes)]
    shared = slow_cut([s for s, _ in pooled], [t for _, t in pooled], sum(positives))
    right = [sum(t[c] for t in truth) for c in range(classes)]
    if max(right) < 10:
        return [shared] * classes
    chosen = []
    for c in range(classes):
        if not right[c]:
            chosen.append(shared)
            continue
        own = slow_cut([row[c] for row in scores], [t[c] for t in truth], positives[c])
        logit = sum(
            weight * math.log(value / (1 - value))
            for weight, value in ((right[c], own), (10, shared))
        )
        chosen.append(1 / (1 + math.exp(-logit / (right[c] + 10))))
    return chosen


@st.composite
def scored(draw, classes=3):
    rows = draw(st.integers(1, 30))
    numbers = st.sampled_from([0.0, 0.02, 0.1, 0.25, 0.3, 0.5, 0.7, 0.96, 1.0])
    size = {"min_size": rows * classes, "max_size": rows * classes}
    scores = draw(st.lists(numbers | st.floats(0, 1, width=16), **size))
    truth = draw(st.lists(st.booleans(), **size))
    missed = draw(st.lists(st.integers(0, 4), min_size=classes, max_size=classes))
    return np.reshape(scores, (-1, classes)), np.reshape(truth, (-1, classes)), np.array(missed)


@given(scored())
@settings(max_examples=300, deadline=None)
def test_a_slow_twin_finds_the_same(case):
    scores, truth, missed = case
    positives = truth.sum(0) + missed
    found = learn_thresholds(scores, truth, num_true=positives, source="val")
    if not truth.any():
        assert found is None
        return
    expected = slow_twin(scores.tolist(), truth.tolist(), positives.tolist())
    np.testing.assert_allclose(found.score, expected, atol=1e-12)
    assert found.examples.tolist() == positives.tolist() and found.source == "val"
    assert found.common == (truth.sum(0).max() < 10) and not found.times_person_score
    for column, threshold in enumerate(found.score):
        kept = scores[:, column] >= threshold
        right = int((kept & truth[:, column]).sum())
        precision, recall = found.precision[column], found.recall[column]
        if not positives[column]:
            assert math.isnan(precision) and math.isnan(recall)
            continue
        assert recall == right / positives[column]
        assert math.isnan(precision) if not kept.any() else precision == right / kept.sum()


def two_classes(n, *, first=0.9, second=0.3):
    """Return n clear examples of each class; the classes have scores of other sizes."""
    truth = np.repeat([[True, False], [False, True]], n, axis=0)
    return np.where(truth, [first, second], [first / 4, second / 4]), truth


def test_few_examples_share_one_threshold_and_more_have_their_own():
    few = learn_thresholds(*two_classes(9), source="val")
    assert few.common and few.score[0] == few.score[1]
    more, many = (learn_thresholds(*two_classes(n), source="val") for n in (10, 1000))
    assert not more.common and not many.common
    assert many.score == pytest.approx([0.5625, 0.1875], abs=0.02)  # midway
    assert few.score[1] > more.score[1] > many.score[1]
    assert few.score[0] < more.score[0] < many.score[0]
    assert many.precision.tolist() == many.recall.tolist() == [1, 1]


def test_a_threshold_is_midway_and_of_equal_f1_the_one_with_more_recall():
    # Kept: the first (F1 2/3), or the first and the third beside a wrong one (F1 4/5).
    scores, truth = np.array([[0.9], [0.5], [0.4], [0.1]]), np.array([[1], [0], [1], [0]], bool)
    assert learn_thresholds(scores, truth, source="").score[0] == pytest.approx(0.25)
    # 0.9 alone and all four boxes have F1 2/3 of two positives.
    scores, truth = np.array([[0.9], [0.5], [0.4], [0.2]]), np.array([[1], [0], [0], [1]], bool)
    assert learn_thresholds(scores, truth, source="").score[0] == pytest.approx(0.1)


def test_boxes_of_one_score_stay_or_go_together():
    # Cut between the two of 0.5, F1 would be 1.
    scores, truth = np.array([[0.9], [0.5], [0.5]]), np.array([[1], [1], [0]], bool)
    found = learn_thresholds(scores, truth, source="")
    assert found.score[0] == pytest.approx(0.25) and found.precision[0] == pytest.approx(2 / 3)


def test_thresholds_stay_within_their_bounds():
    sure = learn_thresholds(np.array([[1.0], [0.99]]), np.array([[True], [False]]), source="")
    assert sure.score.tolist() == [0.95] and sure.precision.tolist() == [0.5]
    low = learn_thresholds(np.array([[0.01], [0.001]]), np.array([[True], [False]]), source="")
    assert low.score.tolist() == [0.05] and low.recall.tolist() == [0]
    assert math.isnan(low.precision[0])  # nothing is kept


def test_a_class_without_examples_has_the_common_threshold_and_nothing_that_was_measured():
    scores, truth = two_classes(12)
    scores = np.hstack([scores, np.full((24, 1), 0.3)])
    truth = np.hstack([truth, np.zeros((24, 1), bool)])
    found = learn_thresholds(scores, truth, source="")
    assert not found.common and found.examples.tolist() == [12, 12, 0]
    assert np.isnan([found.precision[2], found.recall[2]]).all() and 0.05 <= found.score[2] <= 0.95


def test_nothing_right_is_nothing_learned():
    assert learn_thresholds(np.zeros((0, 2)), np.zeros((0, 2), bool), source="") is None
    assert learn_thresholds(np.ones((3, 2)), np.zeros((3, 2), bool), source="") is None
    wrong, missed = np.zeros((3, 2), bool), np.array([4, 1])
    assert learn_thresholds(np.ones((3, 2)), wrong, num_true=missed, source="") is None


@pytest.mark.parametrize(
    ("scores", "truth", "more", "said"),
    [
        (np.ones(3), np.ones(3, bool), {}, "must be"),
        (np.ones((3, 2)), np.ones((3, 1), bool), {}, "must be"),
        (np.full((3, 1), np.nan), np.ones((3, 1), bool), {}, "finite"),
        (np.ones((3, 1)), np.ones((3, 1), bool), {"num_true": np.array([2])}, "num_true"),
        (np.ones((3, 1)), np.ones((3, 1), bool), {"num_true": np.array([3, 3])}, "num_true"),
    ],
)
def test_what_does_not_fit_is_refused(scores, truth, more, said):
    with pytest.raises(ValueError, match=said):
        learn_thresholds(scores, truth, source="", **more)


def test_person_scores_count_only_where_they_help():
    # Scores tell nothing, confidence in the person everything; then the reverse.
    truth = np.repeat([[True], [False]], 20, axis=0)
    sure = np.repeat([0.9, 0.2], 20)
    helped = learn_thresholds(np.full((40, 1), 0.6), truth, person_score=sure, source="")
    assert helped.times_person_score and mean_f1(helped) == 1
    assert helped.score[0] == pytest.approx(0.33, abs=0.01)
    alone = learn_thresholds(sure[:, None], truth, person_score=np.full(40, 0.9), source="")
    assert not alone.times_person_score
    assert not learn_thresholds(np.full((40, 1), 0.6), truth, source="").times_person_score


def detections(*rows):
    """Return the detections of keyframes: (video, time, [(box, confidence, scores)])."""
    return [
        Detections(
            Keyframe(video, time_s),
            ActorBoxes([box for box, _, _ in people], [sure for _, sure, _ in people]),
            np.array([scores for _, _, scores in people], np.float32).reshape(-1, 2),
        )
        for video, time_s, people in rows
    ]


def truth_rows(*rows, empty=()):
    keys, boxes, actions = zip(*rows, strict=True)
    made = AvaRows.from_rows(list(keys), boxes_01=list(boxes), action_id=list(actions))
    return dataclasses.replace(made, empty_keyframes=frozenset(empty))


def test_boxes_are_right_where_frame_map_says_so():
    truth = truth_rows(
        (Keyframe("v", 1.0), A, 3), (Keyframe("v", 1.0), B, 7), (Keyframe("v", 2.0), A, 3),
        (Keyframe("w", 1.0), A, 7), empty=[Keyframe("w", 2.0)],
    )  # fmt: skip
    near = (0.12, 0.1, 0.4, 0.9)
    found = detections(
        ("v", 1.0, [(near, 0.9, (0.8, 0.3)), (B, 0.8, (0.4, 0.6))]),
        ("v", 2.0, []),  # the person is missed
        ("w", 1.0, [(A, 0.9, (0.1, 0.9))]),  # an excluded keyframe
        ("w", 2.0, [(A, 0.9, (0.5, 0.1))]),  # reviewed, no person there
        ("w", 3.0, [(A, 0.9, (1.0, 1.0))]),  # not in the ground-truth file
    )
    learned = learn_from_detections(
        found, truth, LABELS, exclusions=frozenset([Keyframe("w", 1.0)]), detected=True, source="s"
    )
    # Pooled: 0.8 and 0.6 are right, 0.5, 0.4, 0.3 and 0.1 wrong, one positive is missed.
    assert learned.common and learned.score == pytest.approx([0.55, 0.55])
    assert learned.examples.tolist() == [2, 1]
    assert learned.precision.tolist() == [1, 1] and learned.recall.tolist() == [0.5, 1]
    nobody = detections(("v", 1.0, []))
    assert learn_from_detections(nobody, truth, LABELS, detected=True, source="") is None
    assert learn_from_detections([], truth, LABELS, detected=False, source="") is None


def test_confidence_in_ground_truth_boxes_is_not_asked_for():
    keys = [Keyframe("v", float(second)) for second in range(1, 41)]
    truth = truth_rows(*((key, A, 3) for key in keys[:20]), empty=keys[20:])
    boxes = [
        (key.video_id, key.time_s, [(A, 0.9 if key in keys[:20] else 0.2, (0.6, 0.1))])
        for key in keys
    ]
    for detected in (True, False):
        learned = learn_from_detections(
            detections(*boxes), truth, LABELS, detected=detected, source=""
        )
        assert learned.times_person_score is detected


def test_thresholds_are_checked_and_chosen_by_column():
    found = learn_thresholds(*two_classes(12), source="val")
    assert len(found) == 2 and found.select([1]).score.tolist() == found.score[1:].tolist()
    with pytest.raises(ValueError, match="classes"):
        ClassThresholds([0.5], [1, 1], [1], [2], False, False, "")
    with pytest.raises(ValueError, match="0 to 1"):
        ClassThresholds([1.5], [1], [1], [2], False, False, "")
