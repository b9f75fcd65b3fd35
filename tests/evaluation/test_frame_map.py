from __future__ import annotations

import numpy as np
import pytest
import slow_frame_map
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.ava_csv import AvaRows, read_detections, read_ground_truth, write_detections
from detection.datasets.label_map import read_label_map
from detection.errors import UserError
from detection.evaluation.average_precision import average_precision, precision_recall
from detection.evaluation.evaluator import ActionEvaluator
from detection.evaluation.frame_map import frame_map, why_no_ground_truth
from detection.evaluation.matching import best_rows
from detection.evaluation.protocols import PROTOCOLS
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

LABEL_MAP = LabelMap(("a", "b", "c"), (7, 2, 5), ("POSE", "POSE", "OTHER"))
CLASS_IDS = [7, 2, 5]


def rows(table, *, scored: bool) -> AvaRows:
    """Build rows from (key, box, class[, score]); a key is (video, time)."""
    return AvaRows.from_rows(
        [Keyframe(*row[0]) for row in table],
        boxes_01=[row[1] for row in table],
        action_id=[row[2] for row in table],
        score=[row[3] for row in table] if scored else None,
    )


# --- average precision by hand -------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "right", "count", "expected"),
    [
        ([0.9, 0.8, 0.7], [True, False, True], 2, 0.5 + 0.5 * 2 / 3),
        ([0.7, 0.8, 0.9], [True, False, True], 2, 0.5 + 0.5 * 2 / 3),
        ([0.9], [True], 4, 0.25),
        ([0.9, 0.8], [False, False], 3, 0.0),
        ([], [], 3, 0.0),
        ([0.9, 0.1], [False, True], 1, 0.5),
        # Equal scores are one point: precision 1/2 for both orders.
        ([0.5, 0.5], [True, False], 1, 0.5),
        ([0.5, 0.5], [False, True], 1, 0.5),
        ([0.5, 0.5, 0.4], [True, False, True], 2, 2 / 3),
    ],
)
def test_average_precision_by_hand(scores, right, count, expected):
    got = average_precision(np.array(scores, float), np.array(right, bool), count)
    assert got == pytest.approx(expected, abs=1e-12)


def test_no_ground_truth_is_nan():
    assert np.isnan(average_precision(np.array([0.5]), np.array([False]), 0))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=30), st.integers(0, 5))
def test_average_precision_against_the_obvious_one(pairs, missed):
    scores = np.array([score / 6 for score, _ in pairs], float)
    right = np.array([hit for _, hit in pairs], bool)
    count = int(right.sum()) + missed
    expected = slow_frame_map.average_precision(list(zip(scores, right, strict=True)), count)
    got = average_precision(scores, right, count)
    np.testing.assert_allclose(got, expected, atol=1e-12)
    order = np.random.default_rng(0).permutation(len(scores))
    np.testing.assert_array_equal(got, average_precision(scores[order], right[order], count))


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=1, max_size=30))
def test_the_curve_holds_the_same_area(pairs):
    scores = np.array([score / 6 for score, _ in pairs])
    right = np.array([hit for _, hit in pairs], bool)
    count = int(right.sum()) + 1
    line = precision_recall(scores, right, count)
    assert (np.diff(line.score) < 0).all()
    envelope = np.maximum.accumulate(line.precision[::-1])[::-1]
    area = (np.diff(line.recall, prepend=0) * envelope).sum()
    assert area == pytest.approx(average_precision(scores, right, count), abs=1e-12)


# --- matching and protocols -----------------------------------------------------------------

KEY = st.tuples(st.sampled_from(["v", "w"]), st.sampled_from([902.0, 903.0]))
CORNER = st.integers(0, 8).map(lambda v: v / 10)
SIDE = st.integers(1, 3).map(lambda v: v / 10)
BOX = st.tuples(CORNER, CORNER, SIDE, SIDE).map(
    lambda b: (b[0], b[1], round(b[0] + b[2], 1), round(b[1] + b[3], 1))
)
ODD_BOX = st.one_of(BOX, BOX, BOX, BOX, st.tuples(CORNER, CORNER, CORNER, CORNER))


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.tuples(KEY, BOX, st.sampled_from(CLASS_IDS)), min_size=1, max_size=12),
    st.lists(
        st.tuples(
            KEY, ODD_BOX, st.sampled_from([*CLASS_IDS, 99]), st.integers(0, 9).map(lambda v: v / 9)
        ),
        max_size=25,
    ),
    st.sets(KEY, max_size=1),
    st.sampled_from(["activitynet-2018", "activitynet-2019", "activitynet-2020", "pyslowfast"]),
)
def test_against_the_obvious_one(truth, found, excluded, protocol):
    result = frame_map(
        rows(truth, scored=False),
        rows(found, scored=True),
        LABEL_MAP,
        exclusions=frozenset(Keyframe(*key) for key in excluded),
        protocol=protocol,
    )
    expected = slow_frame_map.frame_map(
        truth, found, CLASS_IDS, excluded=excluded, protocol=protocol
    )
    np.testing.assert_allclose(list(result.per_class.values()), list(expected.values()), atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_best_rows_against_sorting(data):
    key = np.array(data.draw(st.lists(st.integers(0, 4), max_size=40)), np.int32)
    score = np.array([data.draw(st.integers(0, 5)) for _ in key], float)
    limit = data.draw(st.integers(1, 5))
    expected = np.zeros(len(key), bool)
    for one in set(key.tolist()):
        here = np.flatnonzero(key == one)
        expected[sorted(here, key=lambda i: (-score[i], i))[:limit]] = True
    assert best_rows(key, score, limit).tolist() == expected.tolist()


BOX1 = (0.1, 0.1, 0.5, 0.5)


def test_default_protocol_follows_the_times():
    whole = [(("v", 902.0), BOX1, 7, 0.5)]
    fractional = [(("v", 902.5), BOX1, 7, 0.5)]
    for table, name in ((whole, "activitynet-2018"), (fractional, "frame-map")):
        truth, found = rows(table, scored=False), rows(table, scored=True)
        assert frame_map(truth, found, LABEL_MAP).protocol == name


@pytest.mark.parametrize(
    "protocol", ["activitynet-2018", "activitynet-2019", "pyslowfast", "mmaction2"]
)
def test_whole_second_protocols_refuse_fractions_by_name(protocol):
    truth = rows([(("v", 902.0), BOX1, 7)], scored=False)
    found = rows([(("v", 902.25), BOX1, 7, 0.5)], scored=True)
    with pytest.raises(UserError, match=f"{protocol} .* 902.250000; use protocol frame-map"):
        frame_map(truth, found, LABEL_MAP, protocol=protocol)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(KEY, BOX, st.sampled_from(CLASS_IDS)), min_size=1, max_size=10),
    st.lists(
        st.tuples(KEY, BOX, st.sampled_from(CLASS_IDS), st.integers(0, 9).map(lambda v: v / 9)),
        max_size=15,
    ),
)
def test_frame_map_is_the_2018_rules_at_any_time(truth, found):
    def shift(table):
        return [((row[0][0], row[0][1] / 7 + 1 / 70), *row[1:]) for row in table]

    whole = frame_map(
        rows(truth, scored=False), rows(found, scored=True), LABEL_MAP, protocol="activitynet-2018"
    )
    other = frame_map(rows(shift(truth), scored=False), rows(shift(found), scored=True), LABEL_MAP)
    assert other.protocol == "frame-map"
    np.testing.assert_array_equal(list(other.per_class.values()), list(whole.per_class.values()))


def test_counts_and_groups():
    truth = rows(
        [(("v", 902), BOX1, 7), (("v", 902), BOX1, 2), (("v", 903), BOX1, 99)], scored=False
    )
    found = rows(
        [(("v", 902), BOX1, 7, 0.9), (("v", 902), BOX1, 42, 0.9), (("w", 1), BOX1, 7, 0.1)],
        scored=True,
    )
    result = frame_map(truth, found, LABEL_MAP)
    assert dict(result.num_ground_truth) == {"a": 1, "b": 1, "c": 0}
    assert dict(result.num_detections) == {"a": 2, "b": 0, "c": 0}
    assert (result.num_boxes, result.num_keyframes, result.num_annotated_keyframes) == (1, 3, 2)
    assert result.left_out == {
        "ground truth of classes outside the label map": 1,
        "detections of classes outside the label map": 1,
    }
    assert result.group_ap["POSE"] == 0.5
    assert np.isnan(result.group_ap["OTHER"])
    assert result.mean_ap == 0.5


def test_nothing_found_and_nothing_to_find():
    truth = rows([(("v", 902), BOX1, 7)], scored=False)
    nothing = rows([], scored=True)
    result = frame_map(truth, nothing, LABEL_MAP)
    assert result.mean_ap == 0.0
    assert frame_map(truth, nothing, LABEL_MAP, protocol="mmaction2").mean_ap != 0  # NaN
    empty = rows([], scored=False)
    assert np.isnan(frame_map(empty, nothing, LABEL_MAP).mean_ap)
    assert "no box has an action label" in why_no_ground_truth(empty, LABEL_MAP)
    other = rows([(("v", 902), BOX1, 99)], scored=False)
    assert "none of its class ids (99)" in why_no_ground_truth(other, LABEL_MAP)
    result = frame_map(truth, nothing, LABEL_MAP, exclusions=frozenset({Keyframe("v", 902.0)}))
    assert np.isnan(result.mean_ap)


def test_unknown_protocol():
    truth = rows([(("v", 902), BOX1, 7)], scored=False)
    with pytest.raises(UserError, match="no protocol 'coco'"):
        frame_map(truth, rows([], scored=True), LABEL_MAP, protocol="coco")


# --- the evaluator ----------------------------------------------------------------------------


def detections(video: str, time_s: float, boxes, scores) -> Detections:
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    actors = ActorBoxes(boxes, np.linspace(0.5, 1, len(boxes), dtype=np.float32))
    return Detections(Keyframe(video, time_s), actors, np.array(scores, np.float32).reshape(-1, 3))


def random_run(seed: int):
    rng = np.random.default_rng(seed)
    truth, found = [], []
    for time_s in range(902, 912):
        boxes = np.sort(rng.random((3, 2, 2)).astype(np.float32), axis=1).reshape(3, 4)
        truth += [
            ((f"v{time_s % 2}", time_s), boxes[i].tolist(), CLASS_IDS[rng.integers(3)])
            for i in range(2)
        ]
        found.append(detections(f"v{time_s % 2}", time_s, boxes, rng.random((3, 3))))
    return rows(truth, scored=False), found


def test_order_repeats_and_processes_do_not_matter(tmp_path):
    truth, found = random_run(0)
    evaluator = ActionEvaluator(truth, LABEL_MAP)
    evaluator.update(found)
    expected = evaluator.compute()
    assert 0 < expected.mean_ap < 1

    shares = [ActionEvaluator(truth, LABEL_MAP) for _ in range(3)]
    for rank, share in enumerate(shares):
        share.update(found[rank::3] + found[:1])  # a padding sampler repeats the first keyframe
    evaluator.reset()
    for share in reversed(shares):
        evaluator.update(share.found())
    assert evaluator.num_repeated == 2
    assert evaluator.compute() == expected

    path = tmp_path / "detections.csv"
    write_detections(path, found, LABEL_MAP)
    assert frame_map(truth, read_detections(path), LABEL_MAP).per_class == expected.per_class


def test_person_scores_are_multiplied_only_when_asked():
    truth = rows([(("v", 902), BOX1, 7), (("v", 903), BOX1, 7)], scored=False)
    found = [
        detections("v", 902, [BOX1, (0.6, 0.6, 0.9, 0.9)], [[0.8, 0, 0], [0.7, 0, 0]]),
        detections("v", 903, [(0.6, 0.6, 0.9, 0.9), BOX1], [[0.75, 0, 0], [0.6, 0, 0]]),
    ]
    plain, times = (
        ActionEvaluator(truth, LABEL_MAP, multiply_person_score=flag) for flag in (False, True)
    )
    for evaluator in (plain, times):
        evaluator.update(found)
    # Plain order: hit, miss, miss, hit. Times (0.4, 0.7, 0.375, 0.6): miss, hit, hit, miss.
    assert plain.compute().per_class["a"] == pytest.approx(0.75)
    assert times.compute().per_class["a"] == pytest.approx(2 / 3)


def test_evaluator_without_detections_and_with_a_wrong_width():
    truth, _ = random_run(1)
    evaluator = ActionEvaluator(truth, LABEL_MAP)
    assert evaluator.compute().mean_ap == 0.0
    evaluator.update([detections("v0", 902, [], [])])
    assert evaluator.compute().mean_ap == 0.0
    with pytest.raises(ValueError, match="2 score columns, but the label map has 3"):
        evaluator.update(
            [Detections(Keyframe("v", 1), ActorBoxes.empty(), np.zeros((0, 2), np.float32))]
        )


# --- real labels ------------------------------------------------------------------------------


@pytest.mark.real_data
def test_real_labels_against_themselves(real_data):
    truth = read_ground_truth(real_data / "ava" / "ava_sub6_val_v2.2.csv")
    same = AvaRows(**{**vars(truth), "score": np.full(len(truth), 0.5), "person_id": None})
    for name in ("ava_action_list_v2.2.pbtxt", "ava_action_list_v2.2_for_activitynet_2019.pbtxt"):
        label_map = read_label_map(real_data / "ava" / name)
        for protocol in PROTOCOLS:
            assert frame_map(truth, same, label_map, protocol=protocol).mean_ap == 1.0
