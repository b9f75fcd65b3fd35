"""NaN and infinity are refused wherever scores and boxes are given; no table holds a bare nan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError
from detection.evaluation.average_precision import average_precision, precision_recall
from detection.evaluation.box_report import report_boxes
from detection.evaluation.clip_accuracy import multi_label_accuracy, single_label_accuracy
from detection.evaluation.diagnosis import diagnose
from detection.evaluation.evaluator import ActionEvaluator
from detection.evaluation.frame_map import frame_map, score_rows
from detection.evaluation.person_ap import best_threshold, match_boxes, person_ap, threshold_at
from detection.evaluation.video_map import video_map
from detection.reports import evaluation_text
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

LABEL_MAP = LabelMap(("a", "b"), (1, 2))
BOXES = [(0.1, 0.1, 0.5, 0.5), (0.5, 0.5, 0.9, 0.9)]
TRUTH = AvaRows.from_rows([Keyframe("v", 1.0)] * 2, boxes_01=BOXES, action_id=[1, 2])
FOUND = replace(TRUTH, score=np.array([0.9, 0.8]), line=np.array([4, 7], np.int32), path="det.csv")
BAD = pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])


def with_bad(rows: AvaRows, what: str, bad: float) -> AvaRows:
    values = getattr(rows, what).copy()
    values.reshape(len(rows), -1)[1, -1] = bad
    return replace(rows, **{what: values})


@BAD
@pytest.mark.parametrize("what", ["score", "boxes_01"])
@pytest.mark.parametrize(
    "read",
    [
        lambda rows: frame_map(TRUTH, rows, LABEL_MAP),
        lambda rows: video_map(TRUTH, rows, LABEL_MAP),
        lambda rows: report_boxes(TRUTH, rows, LABEL_MAP),
    ],
    ids=["frame_map", "video_map", "report_boxes"],
)
def test_rows_are_refused_with_file_and_line(read, what, bad):
    read(FOUND)
    with pytest.raises(UserError, match=r"^det.csv:7: the (score|box) is not finite .*1 such rows"):
        read(with_bad(FOUND, what, bad))


@BAD
def test_ground_truth_too(bad):
    for read in (frame_map, video_map, report_boxes):
        with pytest.raises(UserError, match="the box is not finite"):
            read(with_bad(TRUTH, "boxes_01", bad), FOUND, LABEL_MAP)


@BAD
def test_arrays_are_refused(bad):
    scores, right = np.array([0.9, bad]), np.array([True, False])
    labels = np.eye(2)
    table = np.array([[0.9, 0.1], [bad, 0.5]])
    names = ("a", "b")
    for call in (
        lambda: average_precision(scores, right, 1),
        lambda: precision_recall(scores, right, 1),
        lambda: multi_label_accuracy(table, labels, names),
        lambda: single_label_accuracy(table, labels, names, has_scores=right),
    ):
        with pytest.raises(ValueError, match="1 of . are not finite, the first is"):
            call()


@BAD
def test_boxes_of_people_are_refused(bad):
    good = ActorBoxes(np.array(BOXES, np.float32), np.array([0.9, 0.8], np.float32))
    broken = [
        ActorBoxes(good.xyxy_01, np.array([0.9, bad], np.float32)),
        ActorBoxes(np.where(good.xyxy_01 > 0.8, bad, good.xyxy_01).astype(np.float32), good.score),
    ]
    for one in broken:
        for call in (
            lambda one=one: person_ap([good], [one]),
            lambda one=one: best_threshold([good], [one]),
            lambda one=one: threshold_at(0.5, [good], [one]),
        ):
            with pytest.raises(ValueError, match="of detections of frame 0: .* not finite"):
                call()
    assert match_boxes(good, good).all()


@BAD
@pytest.mark.parametrize("part", ["actions", "people", "boxes"])
def test_an_evaluator_names_the_keyframe(part, bad):
    boxes, score = np.array(BOXES, np.float32), np.ones(2, np.float32)
    actions = np.full((2, 2), 0.5, np.float32)
    {"actions": actions, "people": score, "boxes": boxes}[part].flat[-1] = bad
    evaluator = ActionEvaluator(TRUTH, LABEL_MAP)
    with pytest.raises(ValueError, match="^v at 1 s: .*not finite"):
        evaluator.update([Detections(Keyframe("v", 1.0), ActorBoxes(boxes, score), actions)])
    assert evaluator.found() == []


def test_scores_that_single_precision_cannot_hold():
    far = replace(FOUND, score=np.array([0.9, 1e300]))
    assert frame_map(TRUTH, far, LABEL_MAP).mean_ap == 1.0
    with pytest.raises(UserError, match="in the precision of protocol mmaction2"):
        frame_map(TRUTH, far, LABEL_MAP, protocol="mmaction2")


def test_a_mean_of_nothing_is_said_in_words():
    low = replace(FOUND, score=np.array([0.001, 0.0]))
    scored = score_rows(TRUTH, low, LABEL_MAP, protocol="mmaction2")
    result, diagnosis = scored.frame_map(), diagnose(scored, TRUTH, low)
    assert np.isnan(result.mean_ap)
    assert "leaves out classes that nothing was detected of" in evaluation_text.summary(result)
    text = evaluation_text.table(result, LABEL_MAP) + evaluation_text.summary(result)
    assert "nan" not in (text + evaluation_text.diagnosis_text(diagnosis)).lower()
    assert None in evaluation_text.diagnosis_json(diagnosis)["gain_in_mean_ap"].values()
    none = score_rows(TRUTH, FOUND, LABEL_MAP, exclusions=frozenset({Keyframe("v", 1.0)}))
    assert "no ground truth counts" in evaluation_text.summary(none.frame_map())
    assert "nan" not in evaluation_text.diagnosis_text(diagnose(none, TRUTH, FOUND)).lower()
