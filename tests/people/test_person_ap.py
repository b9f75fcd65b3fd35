"""AP, AR and thresholds of boxes against cases worked by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.evaluation.person_ap import best_threshold, match_boxes, person_ap, threshold_at
from detection.structures import ActorBoxes

LEFT, RIGHT, NOWHERE = (0.0, 0.0, 0.4, 0.4), (0.5, 0.5, 0.9, 0.9), (0.5, 0.0, 0.7, 0.2)


def boxes(*entries):
    """Boxes from (x1, y1, x2, y2) or (x1, y1, x2, y2, score)."""
    if not entries:
        return ActorBoxes.empty()
    return ActorBoxes(
        np.asarray([entry[:4] for entry in entries], np.float32),
        np.asarray([entry[4] if len(entry) > 4 else 1.0 for entry in entries], np.float32),
    )


def test_exact_boxes_score_one():
    truth = [boxes(LEFT, RIGHT), boxes(LEFT)]
    found = [boxes((*LEFT, 0.9), (*RIGHT, 0.8)), boxes((*LEFT, 0.7))]
    result = person_ap(truth, found)
    for name in ("ap", "ap50", "ap75", "ar", "recall50"):
        assert getattr(result, name) == pytest.approx(1), name
    assert (result.num_pictures, result.num_ground_truth, result.num_detections) == (2, 3, 3)


def test_worked_by_hand():
    """Ranked right, wrong, right of 3 people: precision 1 up to recall 1/3, then 2/3 up to 2/3.

    COCO samples recall at 0, 0.01, ..., 1: 34 points up to 0.33, then 33 up to 0.66, 34 beyond.
    """
    truth = [boxes(LEFT, RIGHT), boxes(LEFT)]
    found = [boxes((*LEFT, 0.9), (*NOWHERE, 0.8)), boxes((*LEFT, 0.7))]
    result = person_ap(truth, found)
    assert result.ap50 == pytest.approx((34 * 1 + 33 * 2 / 3) / 101)
    assert result.recall50 == pytest.approx(2 / 3)
    assert result.ap == pytest.approx(result.ap50)  # the right ones are exact


def test_loose_box_counts_up_to_its_iou():
    """IoU 0.7 is right at 0.50, 0.55, ..., 0.70 (five of ten) and wrong above."""
    wide = (0.0, 0.0, 0.4 / 0.72, 0.4, 0.9)  # IoU 0.72 with LEFT
    result = person_ap([boxes(LEFT)], [boxes(wide)])
    assert result.ap50 == pytest.approx(1)
    assert result.ap75 == 0
    assert result.ap == pytest.approx(0.5)
    assert result.ar == pytest.approx(0.5)


def test_a_second_box_of_one_person_is_wrong():
    found = boxes((*LEFT, 0.9), (*LEFT, 0.8))
    assert match_boxes(boxes(LEFT), found).tolist() == [True, False]


def test_the_better_scored_box_takes_the_person():
    near = (0.0, 0.0, 0.4, 0.3)
    found = boxes((*LEFT, 0.2), (*near, 0.9))
    assert match_boxes(boxes(LEFT), found).tolist() == [False, True]


def test_no_person_there_and_nothing_found():
    no_person = person_ap([boxes(), boxes()], [boxes(), boxes((*LEFT, 0.5))])
    assert math.isnan(no_person.ap50)
    assert math.isnan(no_person.recall50)
    nothing = person_ap([boxes(LEFT)], [boxes()])
    assert (nothing.ap, nothing.ap50, nothing.ar, nothing.recall50) == (0, 0, 0, 0)
    assert math.isnan(person_ap([], []).ap)
    assert best_threshold([boxes()], [boxes((*LEFT, 0.5))]) is None
    assert best_threshold([boxes(LEFT)], [boxes()]) is None


def test_as_many_frames_of_both():
    with pytest.raises(ValueError, match="1 frames"):
        person_ap([boxes()], [])


def test_threshold_by_hand():
    truth = [boxes(LEFT, RIGHT), boxes(LEFT)]
    found = [
        boxes((*LEFT, 0.9), (*NOWHERE, 0.4)),
        boxes((*LEFT, 0.6), (*NOWHERE, 0.5), (*RIGHT, 0.3)),
    ]
    best = best_threshold(truth, found)  # two of two right, F1 = 4 / 5
    assert best is not None
    assert best.threshold == pytest.approx(0.6)
    assert best.precision == 1
    assert best.recall == pytest.approx(2 / 3)
    all_of_them = threshold_at(0.0, truth, found)
    assert all_of_them.precision == pytest.approx(2 / 5)
    assert math.isnan(threshold_at(0.95, truth, found).precision)


def test_boxes_of_one_score_stay_together():
    truth = [boxes(LEFT), boxes()]
    found = [boxes((*LEFT, 0.5)), boxes((*NOWHERE, 0.5))]
    best = best_threshold(truth, found)
    assert best is not None
    assert best.precision == pytest.approx(1 / 2)


corner = st.integers(0, 8)


@st.composite
def some_boxes(draw):
    entries = []
    for _ in range(draw(st.integers(0, 5))):
        x, y = draw(corner), draw(corner)
        w, h = draw(st.integers(1, 8)), draw(st.integers(1, 8))
        entries.append((x / 16, y / 16, (x + w) / 16, (y + h) / 16, draw(corner) / 8))
    return boxes(*entries)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(some_boxes(), some_boxes()), min_size=1, max_size=4))
def test_recall_agrees_with_our_own_matching(frames):
    truth = [people for people, _ in frames]
    found = [detections for _, detections in frames]
    result = person_ap(truth, found)
    total = sum(len(people) for people in truth)
    if not total:
        assert math.isnan(result.recall50)
        return
    right = sum(int(match_boxes(t, f).sum()) for t, f in frames)
    assert result.recall50 == pytest.approx(right / total)
    best = best_threshold(truth, found)
    if best is not None:
        f1 = {
            t: (at.precision * at.recall / max(at.precision + at.recall, 1e-12))
            for t in {float(s) for f in found for s in f.score}
            for at in [threshold_at(t, truth, found)]
        }
        chosen = best.precision * best.recall / max(best.precision + best.recall, 1e-12)
        assert chosen == pytest.approx(max(f1.values()))
