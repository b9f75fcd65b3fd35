"""The report on a box file, and the ceiling that no classifier can pass."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.datasets.ava_csv import AvaRows, read_detections, write_detections
from detection.errors import UserError
from detection.evaluation.average_precision import average_precision
from detection.evaluation.box_ceiling import PerfectClassifier
from detection.evaluation.box_report import (
    FLOOR_COST,
    AtThreshold,
    best_f1_threshold,
    lowest_floor,
    report_boxes,
)
from detection.evaluation.diagnosis import diagnose
from detection.evaluation.frame_map import frame_map, score_rows
from detection.evaluation.protocols import PROTOCOLS
from detection.reports import boxes_text
from detection.reports.boxes_page import draw_boxes, page
from detection.reports.figures import write_png
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

LABELS = LabelMap(("a", "b", "c"), (3, 4, 9), None)
# Few boxes, so that people overlap, boxes are equally near to two of them, and IoU 0.5 is met.
EDGES = [
    (x / 10, y / 10, (x + w) / 10, (y + h) / 10)
    for x, y in ((0, 0), (1, 0), (0, 2), (4, 4))
    for w, h in ((2, 4), (4, 4), (4, 2), (3, 3))
]
KEYS = [Keyframe("v", 902.0), Keyframe("v", 903.0), Keyframe("w", 902.0)]


def box_ceiling(truth, boxes, label_map, **rules):
    return PerfectClassifier(truth, boxes, label_map, **rules).ceiling()


key = st.sampled_from(KEYS)
box = st.sampled_from(EDGES)
score = st.sampled_from([0.0, 0.01, 0.3, 0.5, 0.9, 1.0])
truth_rows = st.lists(st.tuples(key, box, st.sampled_from([3, 4, 9, 77])), min_size=1, max_size=14)
box_rows = st.lists(st.tuples(key, box, score), max_size=9)


def truth_of(rows, empty=()):
    return AvaRows.from_rows(
        [row[0] for row in rows],
        boxes_01=[row[1] for row in rows],
        action_id=[row[2] for row in rows],
        empty_keyframes=empty,
        path="truth.csv",
    )


def boxes_of(rows):
    return AvaRows.from_rows(
        [row[0] for row in rows],
        boxes_01=[row[1] for row in rows],
        action_id=[-1] * len(rows),
        score=[row[2] for row in rows],
        path="boxes.csv",
    )


def random_detections(boxes, data):
    """Any scores for any of the classes of any of the boxes, in any order of rows."""
    cells = [(row, label) for row in range(len(boxes)) for label in LABELS.ids]
    chosen = data.draw(st.lists(st.sampled_from(cells), unique=True)) if cells else []
    scores = data.draw(st.lists(score, min_size=len(chosen), max_size=len(chosen)))
    rows = [row for row, _ in chosen]
    return AvaRows.from_rows(
        [boxes.keyframe(row) for row in rows],
        boxes_01=boxes.boxes_01[rows],
        action_id=[label for _, label in chosen],
        score=scores,
    )


@settings(deadline=None, max_examples=400)
@given(truth_rows, box_rows, st.sampled_from(sorted(PROTOCOLS)), st.booleans(), st.data())
def test_no_classifier_passes_the_ceiling(truth, boxes, protocol, excluding, data):
    truth, boxes = truth_of(truth), boxes_of(boxes)
    rules = {
        "protocol": protocol,
        "exclusions": frozenset(KEYS[1:2]) if excluding else frozenset(),
    }
    ceiling = box_ceiling(truth, boxes, LABELS, **rules)
    other = frame_map(truth, random_detections(boxes, data), LABELS, **rules)
    for name, ap in other.per_class.items():
        if not np.isnan(ap) and not np.isnan(ceiling.per_class[name]):
            assert ap <= ceiling.per_class[name] + 1e-9
    if protocol != "mmaction2":  # there a class that is never predicted does not count
        assert np.isnan(ceiling.mean_ap) or other.mean_ap <= ceiling.mean_ap + 1e-9


@settings(deadline=None, max_examples=300)
@given(truth_rows, box_rows, st.integers(1, 4), st.data())
def test_no_classifier_passes_the_ceiling_where_few_rows_count(truth, boxes, limit, data):
    """Only the best rows of a keyframe count: then which labels are worth most matters."""
    truth, boxes = truth_of(truth), boxes_of(boxes)
    rules = replace(PROTOCOLS["activitynet-2019"], name="few", rows_per_keyframe=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PROTOCOLS, "few", rules)
        ceiling = box_ceiling(truth, boxes, LABELS, protocol="few").mean_ap
        other = frame_map(truth, random_detections(boxes, data), LABELS, protocol="few").mean_ap
    assert np.isnan(ceiling) or other <= ceiling + 1e-9


@settings(deadline=None, max_examples=100)
@given(truth_rows, box_rows, st.sampled_from(["activitynet-2018", "pyslowfast", "frame-map"]))
def test_the_ceiling_is_what_the_evaluator_says_of_a_written_file(
    tmp_path_factory, truth, boxes, protocol
):
    """One row for every box and class, 1 for those of the perfect classifier, else the lowest."""
    truth, boxes = truth_of(truth), boxes_of(boxes)
    perfect = PerfectClassifier(truth, boxes, LABELS, protocol=protocol).detections()
    right = {
        (perfect.keyframe(row), *perfect.boxes_01[row], perfect.action_id[row])
        for row in np.flatnonzero(perfect.score == 1.0)
    }
    first, found = set(), []
    for row in range(len(boxes)):
        place = boxes.keyframe(row), *boxes.boxes_01[row]
        scores = [float((*place, label) in right and place not in first) for label in LABELS.ids]
        first.add(place)  # of two equal boxes the first listed one gets the label
        found.append(
            Detections(
                boxes.keyframe(row),
                ActorBoxes(boxes.boxes_01[row : row + 1], np.ones(1)),
                np.array([scores], np.float32),
            )
        )
    path = tmp_path_factory.mktemp("written") / "detections.csv"
    write_detections(path, found, LABELS)
    ceiling = box_ceiling(truth, boxes, LABELS, protocol=protocol)
    if not found:
        assert ceiling.mean_ap == 0 or np.isnan(ceiling.mean_ap)
        return
    # The file's boxes are float32, as a detector's are; an overlap of exactly one half may move.
    written = replace(read_detections(path), boxes_01=np.repeat(boxes.boxes_01, 3, axis=0))
    scored = frame_map(truth, written, LABELS, protocol=protocol)
    assert scored.per_class == pytest.approx(dict(ceiling.per_class), nan_ok=True)


@settings(deadline=None, max_examples=100)
@given(truth_rows, box_rows)
def test_the_diagnosis_knows_the_same_ceiling(truth, boxes):
    truth, boxes = truth_of(truth), boxes_of(boxes)
    every = np.repeat(np.arange(len(boxes)), 3)
    found = replace(boxes.select(every), action_id=np.tile(LABELS.ids, len(boxes)).astype(np.int32))
    diagnosed = diagnose(score_rows(truth, found, LABELS), truth, found).ceiling
    assert box_ceiling(truth, boxes, LABELS).mean_ap == pytest.approx(diagnosed, nan_ok=True)


def test_a_box_counts_for_the_person_it_overlaps_most_and_for_no_other():
    """Two people side by side, one box between them: it cannot be both."""
    left, right = (0.0, 0.0, 0.4, 0.4), (0.1, 0.0, 0.5, 0.4)
    truth = truth_of([(KEYS[0], left, 3), (KEYS[0], right, 3), (KEYS[0], right, 4)])
    between = boxes_of([(KEYS[0], (0.04, 0.0, 0.44, 0.4), 0.9)])
    ceiling = box_ceiling(truth, between, LABELS)
    assert ceiling.per_class["a"] == 0.5  # the left one, whom it overlaps more
    assert ceiling.per_class["b"] == 1.0  # among those who do b it is the right one's
    both = boxes_of([(KEYS[0], left, 0.9), (KEYS[0], right, 0.2)])
    assert box_ceiling(truth, both, LABELS).mean_ap == 1.0


def test_the_fifty_best_rows_are_the_ones_worth_most():
    """70 people at one keyframe do a, one of them also b; only 50 rows count there."""
    labels = LabelMap(("a", "b"), (1, 2), None)
    places = [(x / 10, y / 10, (x + 1) / 10, (y + 1) / 10) for x in range(7) for y in range(10)]
    rows = [(KEYS[0], place, 1) for place in places] + [(KEYS[0], places[33], 2)]
    boxes = boxes_of([(KEYS[0], place, 0.9) for place in places])
    ceiling = box_ceiling(truth_of(rows), boxes, labels, protocol="activitynet-2019")
    assert ceiling.per_class == {"a": pytest.approx(49 / 70), "b": 1.0}
    assert box_ceiling(truth_of(rows), boxes, labels).mean_ap == 1.0


def coco_recall_and_precision(people, boxes, threshold):
    """Matched people over people, and over boxes, by pycocotools alone."""
    truth, found = COCO(), []
    keys = sorted({k for k, *_ in people} | {k for k, *_ in boxes})
    entry = lambda b: [b[0], b[1], b[2] - b[0], b[3] - b[1]]  # noqa: E731
    truth.dataset = {
        "images": [{"id": i} for i in range(len(keys))],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": n + 1, "image_id": keys.index(k), "category_id": 1, "iscrowd": 0, "area": 1,
             "bbox": entry(b)}
            for n, (k, b) in enumerate(people)
        ],
    }  # fmt: skip
    truth.createIndex()
    found = [
        {"image_id": keys.index(k), "category_id": 1, "bbox": entry(b), "score": s}
        for k, b, s in boxes
        if s >= threshold
    ]
    if not found:
        return 0.0, float("nan")
    scoring = COCOeval(truth, truth.loadRes(found), "bbox")
    scoring.params.areaRng, scoring.params.areaRngLbl = [[0, 1e10]], ["all"]
    scoring.evaluate()
    matched = sum(int((image["dtMatches"][0] > 0).sum()) for image in scoring.evalImgs if image)
    return matched / len(people), matched / len(found)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6))
def test_recall_and_precision_are_pycocotools(seed):
    generator = np.random.default_rng(seed)
    people = [(KEYS[n % 3], some_box(generator)) for n in range(generator.integers(1, 9))]
    boxes = [
        (k, np.clip(np.array(b) + generator.normal(0, 0.02, 4), 0, 1), float(generator.random()))
        for k, b in people * 2
    ]
    boxes.append((people[0][0], some_box(generator), 0.7))
    report = report_boxes(
        truth_of([(k, b, 3) for k, b in people]), boxes_of(boxes), LABELS, threshold=0.6
    )
    for at in (*report.table[::5], report.asked):
        recall, precision = coco_recall_and_precision(people, boxes, at.threshold)
        assert at.recall == pytest.approx(recall)
        assert at.precision == pytest.approx(precision, nan_ok=True)
    assert report.ap.recall50 == pytest.approx(report.table[0].recall)
    ceilings = [at.ceiling for at in report.table]
    assert ceilings == sorted(ceilings, reverse=True)  # fewer boxes never allow more
    assert ceilings[0] == report.ceiling.mean_ap


def some_box(generator):
    x, y = generator.uniform(0, 0.6, 2)
    return (x, y, x + generator.uniform(0.1, 0.4), y + generator.uniform(0.1, 0.4))


@settings(deadline=None)
@given(st.lists(st.tuples(score, st.booleans()), max_size=20), st.integers(1, 20))
def test_no_hundredth_has_a_higher_f1_than_the_suggested_one(rows, more_people):
    scores = np.array([row[0] for row in rows])
    right = np.array([row[1] for row in rows], bool)
    people = int(right.sum()) + more_people

    def f1(threshold):
        kept = scores >= threshold
        return 2 * right[kept].sum() / (kept.sum() + people)

    best = best_f1_threshold(scores, right, people)
    if best is None:
        assert not right.any()
    else:
        assert f1(best) == max(f1(hundredth / 100) for hundredth in range(100))


def test_the_suggested_threshold_is_the_middle_of_a_gap():
    scores, right = np.array([0.9, 0.8, 0.21, 0.2]), np.array([True, True, False, False])
    assert best_f1_threshold(scores, right, 2) == pytest.approx(0.51)  # from 0.22 to 0.80


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1) | score, st.booleans()), max_size=30),
    st.integers(1, 20),
    st.sampled_from([0.0, FLOOR_COST, 0.2]),
)
def test_the_floor_keeps_the_ranking_and_no_higher_one_does(rows, more_people, cost):
    scores = np.array([row[0] for row in rows])
    right = np.array([row[1] for row in rows], bool)
    people = int(right.sum()) + more_people
    floor = lowest_floor(scores, right, people, cost=cost)
    if floor is None:
        assert not right.any()
        return
    ap, kept = [], []
    for hundredth in range(100):
        above = scores >= hundredth / 100
        ap.append(average_precision(scores[above], right[above], people))
        kept.append(int(above.sum()))
    place = round(100 * floor)
    least = (1 - cost) * ap[0] - 1e-9
    assert ap[place] >= least
    assert all(ap[other] < least + 1e-8 for other in range(100) if kept[other] < kept[place])
    assert place == kept.index(kept[place]), "the lowest of those that keep the same boxes"


def test_of_a_detector_with_low_scores_the_floor_is_low():
    """A constant of 0.05, and half of F1's threshold, lose most people here."""
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.uniform(0.015, 0.06, 200), generator.uniform(0, 0.012, 300)])
    right = np.arange(500) < 200
    floor = lowest_floor(scores, right, 200)
    assert floor == pytest.approx(0.02, abs=0.011) and right[scores >= floor].sum() > 195


def test_a_tail_that_finds_next_to_no_one_is_left_out():
    """All recall there is would ask for 3,000 boxes more, for two people in a hundred."""
    generator = np.random.default_rng(0)
    scores = np.concatenate([generator.uniform(0.3, 1, 120), generator.uniform(0.01, 0.2, 3000)])
    right = np.zeros(3120, bool)
    right[:98] = True
    right[200:202] = True
    floor = lowest_floor(scores, right, 100)
    assert 0.19 < floor < 0.5 and right[scores >= floor].sum() >= 97
    assert lowest_floor(scores, right, 100, cost=0.0) < 0.2, "cost is what leaves it out"


def test_a_wrong_box_in_two_is_no_reason_for_a_higher_floor():
    """F1 gives up every third person there, whom the ranking has below all sure boxes."""
    sure, weak = np.linspace(0.7, 0.9, 60), np.linspace(0.1, 0.6, 120)
    scores, right = np.concatenate([sure, weak]), np.ones(180, bool)
    right[60:] = np.arange(120) % 4 == 0
    assert best_f1_threshold(scores, right, 90) > 0.6
    assert right[scores >= lowest_floor(scores, right, 90)].sum() >= 88
    gain = boxes_text.gain_in_words(figures_of(60, 0.6, 0.5), figures_of(180, 1.0, 0.75), 40)
    assert gain == "+0.4000 recall and +0.2500 AP for +120 boxes (4.50 a keyframe, not 1.50)"


def test_of_boxes_that_are_all_right_all_stay():
    assert lowest_floor(np.array([0.9, 0.8]), np.array([True, True]), 2) == 0.0
    assert lowest_floor(np.zeros(0), np.zeros(0, bool), 2) is None


def figures_of(num_boxes, recall, ap):
    return AtThreshold(0.5, num_boxes, 0.5, recall, 0.5, ap, 0.5)


A, B = (0.0, 0.0, 0.4, 0.8), (0.5, 0.1, 0.9, 0.9)


def test_a_small_report_by_hand():
    """Two people with two actions, one of them alone later, no person at the last keyframe."""
    truth = truth_of(
        [(KEYS[0], A, 3), (KEYS[0], A, 4), (KEYS[0], B, 3), (KEYS[1], B, 9)], empty=KEYS[2:]
    )
    boxes = boxes_of([(KEYS[0], A, 0.95), (KEYS[0], A, 0.3), (KEYS[0], B, 0.6), (KEYS[2], B, 0.85)])
    report = report_boxes(truth, boxes, LABELS)
    assert (report.num_keyframes, report.num_videos, report.num_people) == (3, 2, 3)
    assert (report.num_boxes, report.keyframes_without_boxes) == (4, 1)
    assert report.people_per_keyframe == (1, 1, 1)
    assert report.boxes_per_keyframe == (1, 2)  # from 0.8 on
    low, used = report.table[0], report.asked
    assert (low.precision, low.recall) == (0.5, pytest.approx(2 / 3))
    assert (used.precision, used.recall, used.f1) == (0.5, pytest.approx(1 / 3), pytest.approx(0.4))
    # a: both people found; b: found; c: no person there. From 0.8 on one of two does a.
    assert low.ceiling == pytest.approx(2 / 3)
    assert used.ceiling == pytest.approx((0.5 + 1 + 0) / 3)
    assert report.best.threshold == pytest.approx(0.45)  # without the double of 0.3
    assert (low.ap, used.ap) == (pytest.approx((1 + 2 / 3) / 3), pytest.approx(1 / 3))
    assert report.floor.threshold == pytest.approx(0.31) and report.floor.ap == low.ap
    text = boxes_text.as_text(report)
    assert "4 boxes and 3 people at 3 keyframes of 2 videos" in text
    assert "1 of the 3 keyframes have no box" in text
    assert "suggested threshold 0.31 (a floor), where action scores are multiplied" in text
    assert "(data.box_score_threshold=0.31 evaluation.multiply_person_score=true): prec" in text
    assert (
        "(data.box_score_threshold=0.45) and for events (detect_actions --person-score 0.45" in text
    )
    assert boxes_text.suggestions(report)[1].endswith("; the same boxes")
    assert "0.6667 with all of them, 0.5000 from 0.80 on (3 of 3 classes" in text


def test_boxes_of_other_keyframes_are_refused_and_some_are_counted():
    truth = truth_of([(KEYS[0], A, 3), (KEYS[1], A, 3)])
    with pytest.raises(
        UserError, match=r"boxes\.csv: no keyframe in common with truth\.csv.*other"
    ):
        report_boxes(truth, boxes_of([(Keyframe("x", 902), A, 0.9)]), LABELS)
    with pytest.raises(
        UserError, match="begin with v at 1000.000 s, the ground truth with v at 902"
    ):
        report_boxes(truth, boxes_of([(Keyframe("v", 1000), A, 0.9)]), LABELS)
    some = [(KEYS[0], A, 0.9), (Keyframe("v", 1000), A, 0.9), (KEYS[2], A, 0.9), (KEYS[2], B, 0.9)]
    report = report_boxes(truth, boxes_of(some), LABELS)
    assert (report.boxes_elsewhere, report.keyframes_elsewhere, report.num_boxes) == (3, 2, 1)
    assert report.asked.precision == 1.0
    assert "3 boxes at 2 keyframes that the ground truth does not list" in " ".join(
        boxes_text.remarks(report)
    )
    strict = report_boxes(truth, boxes_of(some), LABELS, unlisted_are_empty=True)
    assert (strict.asked.precision, strict.boxes_elsewhere) == (
        0.5,
        2,
    )  # of video w nothing is known
    assert strict.num_keyframes == 3 and strict.people_per_keyframe == (1, 2)


def test_excluded_keyframes_do_not_count():
    truth = truth_of([(KEYS[0], A, 3), (KEYS[1], A, 3)])
    boxes = boxes_of([(KEYS[0], A, 0.9), (KEYS[1], B, 0.9)])
    report = report_boxes(truth, boxes, LABELS, exclusions=frozenset(KEYS[1:2]))
    assert (report.num_keyframes, report.num_people, report.boxes_elsewhere) == (1, 1, 1)
    assert report.asked.recall == report.asked.precision == report.ceiling.mean_ap == 1.0
    with pytest.raises(UserError, match="all are excluded"):
        report_boxes(truth, boxes, LABELS, exclusions=frozenset(KEYS))


def test_no_box_is_right_and_no_person_is_there():
    report = report_boxes(truth_of([(KEYS[0], A, 3)]), boxes_of([(KEYS[0], B, 0.9)]), LABELS)
    assert report.best is None and report.floor is None and report.ceiling.mean_ap == 0
    assert boxes_text.as_json(report)["suggested_multiplied"] is None
    assert "none, no box is right" in boxes_text.as_text(report)
    no_person = truth_of([], empty=KEYS[:1])
    report = report_boxes(no_person, boxes_of([(KEYS[0], B, 0.9)]), LABELS)
    assert report.asked.precision == 0 and np.isnan(report.asked.recall)
    for shown in (json.dumps(boxes_text.as_json(report), allow_nan=False), page_of(report)):
        assert "nan" not in shown.lower()


def test_partly_labelled_people_are_said_to_be():
    truth, boxes = truth_of([(KEYS[0], A, 3)]), boxes_of([(KEYS[0], A, 0.9), (KEYS[0], B, 0.9)])
    assert "--partly-labelled" in " ".join(boxes_text.remarks(report_boxes(truth, boxes, LABELS)))
    report = report_boxes(truth, boxes, LABELS, partly_labelled=True)
    assert "lower bound" in " ".join(boxes_text.remarks(report))
    assert "precision >=" in boxes_text.as_text(report)


def page_of(report):
    return page(report, title="<boxes> & more", files=["a <b>.csv"])


def test_page_and_chart(tmp_path):
    truth = truth_of([(KEYS[0], A, 3), (KEYS[1], A, 4)])
    report = report_boxes(truth, boxes_of([(KEYS[0], A, 0.9), (KEYS[0], B, 0.4)]), LABELS)
    content = page_of(report)
    assert "&lt;boxes&gt; &amp; more" in content and "<b>.csv" not in content
    assert content.count("<svg") == 1
    for color in ("#2563a8", "#d9822b", "#2f855a", "#1b1f24"):
        assert f"stroke: {color}" in content
    assert "http" not in content.replace("http-equiv", "")
    for drawing in re.findall(r"<svg.*?</svg>", content, re.DOTALL):
        ElementTree.fromstring(drawing)
    write_png(tmp_path / "boxes.png", draw_boxes(report, title="boxes"))
    image = cv2.imread(str(tmp_path / "boxes.png"), cv2.IMREAD_COLOR_RGB)
    colors = {tuple(color) for color in image.reshape(-1, 3).tolist()}
    assert {(37, 99, 168), (217, 130, 43), (47, 133, 90)} <= colors  # the lines are there
    empty = report_boxes(truth_of([], empty=KEYS[:1]), boxes_of([(KEYS[0], B, 0.9)]), LABELS)
    write_png(tmp_path / "empty.png", draw_boxes(empty, title=""))
    assert cv2.imread(str(tmp_path / "empty.png")).shape == image.shape


def test_boxes_without_scores_are_refused():
    boxes = replace(boxes_of([(KEYS[0], A, 0.9)]), score=None)
    with pytest.raises(UserError, match="need a score"):
        report_boxes(truth_of([(KEYS[0], A, 3)]), boxes, LABELS)
