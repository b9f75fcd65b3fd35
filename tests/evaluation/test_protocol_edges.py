"""The exact edge of each rule: what lies on a threshold, what comes first among equals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.evaluation import tubes
from detection.evaluation.clip_accuracy import single_label_accuracy
from detection.evaluation.frame_map import frame_map
from detection.evaluation.person_ap import match_boxes
from detection.evaluation.tubes import Frames, Tube, linked_tubes
from detection.evaluation.video_map import tube_ap
from detection.structures import ActorBoxes, Keyframe, LabelMap

LABEL_MAP = LabelMap(("a",), (1,))
UNIT = (0.0, 0.0, 0.5, 0.5)
HALF = (0.0, 0.0, 0.5, 0.25)  # IoU with UNIT is exactly one half


def rows(*table: tuple[float, tuple[float, ...], float]) -> AvaRows:
    return AvaRows.from_rows(
        [Keyframe("v", time_s) for time_s, _, _ in table],
        boxes_01=[box for _, box, _ in table],
        action_id=[1] * len(table),
        score=[score for _, _, score in table],
    )


def test_a_tube_of_exactly_the_overlap_is_right():
    truth, found = (Tube(0, np.array([box]), 0.9) for box in (UNIT, HALF))
    assert tube_ap({0: [truth]}, [(0, found)], 0.5) == 1.0
    assert tube_ap({0: [truth]}, [(0, found)], 0.5 + 1e-9) == 0.0


def linked(*table, least_frames: int = 1) -> list[Tube]:
    found = rows(*table)
    frames = Frames(replace(found, score=None), found)
    return linked_tubes(found, frames, LABEL_MAP, least_frames=least_frames).get((0, 0), [])


@pytest.mark.parametrize(("iou", "tubes_found"), [(0.5, 1), (0.5 + 1e-9, 2)])
def test_boxes_link_from_exactly_the_overlap_on(monkeypatch, iou, tubes_found):
    monkeypatch.setattr(tubes, "LINK_IOU", iou)
    monkeypatch.setattr(tubes, "TUBE_NMS", 1.0)
    assert len(linked((0, UNIT, 0.9), (1, HALF, 0.9))) == tubes_found


@pytest.mark.parametrize(("nms", "tubes_found"), [(0.5, 2), (0.5 - 1e-9, 1)])
def test_boxes_of_exactly_the_suppressed_overlap_stay(monkeypatch, nms, tubes_found):
    monkeypatch.setattr(tubes, "BOX_NMS", nms)
    monkeypatch.setattr(tubes, "TUBE_NMS", 1.0)
    assert len(linked((0, UNIT, 0.9), (0, HALF, 0.8))) == tubes_found


@pytest.mark.parametrize(("gap", "tubes_found"), [(5, 1), (6, 2)])
def test_a_tube_goes_on_after_exactly_five_frames(gap, tubes_found):
    far = (0.6, 0.6, 0.9, 0.9)
    between = [(t, far, 0.5) for t in range(gap + 1)]
    near = [tube for tube in linked((0, UNIT, 0.9), (gap, UNIT, 0.9), *between)
            if tube.boxes[0][0] == 0]  # fmt: skip
    assert len(near) == tubes_found


def test_exactly_the_least_score_and_length_stay():
    assert len(linked((0, UNIT, tubes.LEAST_SCORE), (1, UNIT, tubes.LEAST_SCORE))) == 1
    assert len(linked((0, UNIT, 0.0099), (1, UNIT, 0.0099))) == 0
    far = [(t, (0.6, 0.6, 0.9, 0.9), 0.5) for t in range(4)]
    three = [(t, UNIT, 0.9) for t in range(3)]
    assert len(linked(*three, *far, least_frames=3)) == 2
    assert len(linked(*three, *far, least_frames=4)) == 1


def test_ten_boxes_of_a_frame_are_linked():
    boxes = [(0.08 * i, 0.0, 0.08 * i + 0.05, 0.5) for i in range(12)]
    assert len(linked(*[(0, box, 0.9 - 0.01 * i) for i, box in enumerate(boxes)])) == 10


def test_a_person_overlapped_by_exactly_the_threshold_is_found():
    truth, found = (
        ActorBoxes(np.array([box], np.float32), np.ones(1, np.float32)) for box in (UNIT, HALF)
    )
    assert match_boxes(truth, found).tolist() == [True]
    assert match_boxes(truth, found, 0.5 + 1e-6).tolist() == [False]


def test_a_video_that_cannot_be_read_is_answered_wrongly():
    scores, labels = np.zeros((2, 6)), np.eye(6)[[0, 0]]
    seen = np.array([True, False])
    found = single_label_accuracy(scores, labels, tuple("abcdef"), has_scores=seen)
    assert (found.top1, found.top5, found.mean_class) == (0.5, 0.5, 0.5)


@pytest.mark.parametrize("flat", [(0.0, 0.0, 0.5, 0.0), (0.0, 0.0, 0.0, 0.5)])
def test_boxes_without_height_or_width_are_dropped_but_by_mmaction2(flat):
    truth = rows((902, UNIT, 1.0))
    found = rows((902, flat, 0.9), (902, UNIT, 0.5))
    assert frame_map(truth, found, LABEL_MAP).mean_ap == 1.0
    assert frame_map(truth, found, LABEL_MAP, protocol="mmaction2").mean_ap == 0.5


@pytest.mark.parametrize("turned", [(0.5, 0.0, 0.0, 0.5), (0.0, 0.5, 0.5, 0.0)])
def test_inside_out_boxes_are_dropped_everywhere(turned):
    truth, found = rows((902, UNIT, 1.0)), rows((902, turned, 0.9), (902, UNIT, 0.5))
    for protocol in ("activitynet-2018", "mmaction2"):
        assert frame_map(truth, found, LABEL_MAP, protocol=protocol).mean_ap == 1.0


def test_a_score_of_exactly_the_least_counts():
    truth, found = rows((902, UNIT, 1.0)), rows((902, UNIT, 0.002))
    low = replace(found, score=np.array([np.float64(np.float32(0.0019))]))
    assert frame_map(truth, found, LABEL_MAP, protocol="mmaction2").mean_ap == 1.0
    assert np.isnan(frame_map(truth, low, LABEL_MAP, protocol="mmaction2").mean_ap)


def test_counts_of_keyframes_leave_out_the_excluded_and_count_detections_elsewhere():
    truth = rows((902, UNIT, 1.0), (903, UNIT, 1.0))
    found = rows((902, UNIT, 0.9), (905, UNIT, 0.9))
    result = frame_map(truth, found, LABEL_MAP, exclusions=frozenset({Keyframe("v", 903.0)}))
    assert (result.num_annotated_keyframes, result.num_keyframes) == (1, 2)
