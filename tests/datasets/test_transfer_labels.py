import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.actor_table import build_actor_table
from detection.datasets.ava_csv import AvaRows
from detection.datasets.transfer_labels import add_matched_boxes
from detection.structures import Keyframe, LabelMap

LABELS = LabelMap(("sit", "walk", "talk"), (11, 14, 79))


def labelled_table(rows, **options):
    """rows: (video, time, box, action id)."""
    keys = [Keyframe(video, time_s) for video, time_s, _, _ in rows]
    table = AvaRows.from_rows(
        keys, boxes_01=[row[2] for row in rows], action_id=[row[3] for row in rows], **options
    )
    return build_actor_table(table, LABELS, keep_empty=True)


def detected_table(rows):
    """rows: (video, time, box, score)."""
    keys = [Keyframe(video, time_s) for video, time_s, _, _ in rows]
    table = AvaRows.from_rows(
        keys,
        boxes_01=[row[2] for row in rows],
        action_id=[-1] * len(rows),
        score=[row[3] for row in rows],
    )
    return build_actor_table(table, LABELS, labelled=False)


def contents(table):
    """Say per keyframe: boxes, scores, labels."""
    return {
        str(table.keyframe(i)): [
            (tuple(np.round(box, 4)), round(float(score), 4), tuple(labels))
            for box, score, labels in zip(
                table.boxes(i).xyxy_01.tolist(),
                table.boxes(i).score,
                table.labels(i).tolist(),
                strict=True,
            )
        ]
        for i in range(len(table))
    }


LEFT, RIGHT = (0.1, 0.1, 0.4, 0.9), (0.5, 0.1, 0.9, 0.9)
NEAR_LEFT = (0.1, 0.1, 0.4, 0.88)  # IoU 0.975
HALF_LEFT = (0.1, 0.1, 0.4, 0.5)


def test_boxes_that_fit_take_the_labels_and_others_are_left_out():
    ours = labelled_table(
        [("a", 1, LEFT, 11), ("a", 1, LEFT, 79), ("a", 1, RIGHT, 14), ("b", 2, LEFT, 14)]
    )
    theirs = detected_table(
        [("a", 1, NEAR_LEFT, 0.9), ("a", 1, HALF_LEFT, 0.95), ("b", 3, LEFT, 1), ("c", 1, LEFT, 1)]
    )
    assert contents(add_matched_boxes(ours, theirs)) == {
        "a at 1.000 s": [
            (LEFT, 1.0, (1, 0, 1)),
            (RIGHT, 1.0, (0, 1, 0)),
            (NEAR_LEFT, 0.9, (1, 0, 1)),
        ],
        "b at 2.000 s": [(LEFT, 1.0, (0, 1, 0))],
    }
    kept = contents(add_matched_boxes(ours, theirs, keep_unmatched=True))
    assert kept["a at 1.000 s"][3] == (HALF_LEFT, 0.95, (0, 0, 0))
    assert list(kept) == ["a at 1.000 s", "b at 2.000 s"]


def test_the_overlap_must_exceed_the_bound():
    ours = labelled_table([("a", 1, (0, 0, 0.5, 1), 11)])
    theirs = detected_table([("a", 1, (0, 0, 0.25, 1), 1)])
    assert add_matched_boxes(ours, theirs, above_iou=0.5).num_actors == 1
    assert add_matched_boxes(ours, theirs, above_iou=0.49).num_actors == 2


def test_a_keyframe_of_no_person_stays_empty():
    ours = labelled_table([("a", 1, LEFT, 11)], empty_keyframes=(Keyframe("a", 2.0),))
    theirs = detected_table([("a", 2, LEFT, 1)])
    both = add_matched_boxes(ours, theirs, keep_unmatched=True)
    assert len(both) == 2 and both.num_actors == 1


def test_nothing_detected_and_no_person_labelled():
    ours, none = labelled_table([("a", 1, LEFT, 11)]), detected_table([])
    assert contents(add_matched_boxes(ours, none)) == contents(ours)
    assert len(add_matched_boxes(labelled_table([]), detected_table([("a", 1, LEFT, 1)]))) == 0


def test_errors_still_name_the_line_of_the_annotation():
    ours = labelled_table([("a", 1, LEFT, 11), ("b", 2, LEFT, 14)])
    both = add_matched_boxes(ours, detected_table([("a", 1, LEFT, 1), ("b", 2, LEFT, 1)]))
    assert str(both.row_error(1, "no")) == str(ours.row_error(1, "no"))


number = st.integers(0, 10).map(lambda n: n / 10)
box = st.tuples(number, number, number, number).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]) + 0.1, max(b[1], b[3]) + 0.1)
)
place = st.tuples(st.sampled_from("abc"), st.integers(-1, 2))
labelled_rows = st.lists(
    st.tuples(place, box, st.sampled_from(LABELS.ids)).map(lambda r: (*r[0], r[1], r[2])),
    max_size=12,
)
detected_rows = st.lists(
    st.tuples(place, box, number).map(lambda r: (*r[0], r[1], r[2])), max_size=12
)


def iou(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    area = sum((c[2] - c[0]) * (c[3] - c[1]) for c in (a, b))
    return shared / (area - shared)


@settings(deadline=None, max_examples=150)
@given(labelled_rows, detected_rows, st.sampled_from([0.15, 0.35, 0.75]), st.booleans())
def test_against_loops(ours, theirs, bound, keep_unmatched):
    labelled, detected = labelled_table(ours), detected_table(theirs)
    both = add_matched_boxes(labelled, detected, above_iou=bound, keep_unmatched=keep_unmatched)
    assert both.keyframes() == labelled.keyframes()
    places = {detected.keyframe(i): i for i in range(len(detected))}
    for i, key in enumerate(labelled.keyframes()):
        boxes, labels = labelled.boxes(i), labelled.labels(i)
        expected = [(*b, *row) for b, row in zip(boxes.xyxy_01, labels, strict=True)]
        if key in places and len(boxes):
            for candidate in detected.boxes(places[key]).xyxy_01:
                overlaps = [
                    iou(one.astype(float), candidate.astype(float)) for one in boxes.xyxy_01
                ]
                best = int(np.argmax(overlaps))
                if overlaps[best] > bound:
                    expected.append((*candidate, *labels[best]))
                elif keep_unmatched:
                    expected.append((*candidate, 0, 0, 0))
        found = np.concatenate([both.boxes(i).xyxy_01, both.labels(i)], axis=1)
        assert found.tolist() == pytest.approx(np.asarray(expected).reshape(-1, 7))
