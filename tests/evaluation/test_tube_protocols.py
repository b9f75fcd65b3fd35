"""UCF101-24's and MultiSports' rules, against the published scripts and against plain loops.

How `golden_tube_maps.npz` was made: docs/evaluation.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import slow_tube_maps as slow
import tube_cases

from detection.errors import UserError
from detection.evaluation.tube_errors import FRAME_ERRORS, TUBE_ERRORS, frame_errors, tube_errors
from detection.evaluation.tube_protocols import TUBE_PROTOCOLS
from detection.evaluation.tube_scores import (
    FrameBoxes,
    frame_map_of_tubes,
    mean_of_maps,
    video_maps,
)
from detection.evaluation.tubes import Tube

NAMES = tube_cases.CLASSES
IOUS = (0.2, 0.5, 0.75, 0.5 + 0.05 * 9)
GOLDEN = np.load(Path(__file__).with_name("golden_tube_maps.npz"))
WITH_TUBES = [name for name, rules in TUBE_PROTOCOLS.items() if rules.scores_tubes]


def tube(rows, score: float = 1.0) -> Tube:
    return Tube(int(rows[0, 0]), rows[:, 1:], score)


def read(case: tube_cases.TubeCase):
    """Return ground truth, detected tubes and boxes as the scores take them."""
    truth = {
        (label, number): [tube(rows) for rows in tubes]
        for number, video in enumerate(case.videos)
        for label, tubes in case.truth[video].items()
    }
    found: dict[int, list[tuple[int, Tube]]] = {}
    for label, video, score, rows in case.tubes:
        found.setdefault(label, []).append((case.videos.index(video), tube(rows, score)))
    video, frame, column = case.boxes[:, :3].astype(int).T
    return truth, found, FrameBoxes(video, frame, column, case.boxes[:, 3], case.boxes[:, 4:])


CASES = [tube_cases.tube_case(seed) for seed in range(tube_cases.NUM_CASES)]


def golden(name: str, what: str) -> np.ndarray:
    return GOLDEN[f"{name.replace('-', '_')}_{what}"]


def test_equal_to_the_published_scripts():
    for case, *expected in zip(CASES, *(golden(p, "frames") for p in TUBE_PROTOCOLS)):  # noqa: B905  (40 of 200 are stored)
        truth, _, boxes = read(case)
        for name, aps in zip(TUBE_PROTOCOLS, expected, strict=True):
            result = frame_map_of_tubes(truth, boxes, NAMES, protocol=name)
            np.testing.assert_allclose(list(result.per_class.values()), aps, rtol=0, atol=1e-9)
    for case, *expected in zip(CASES, *(golden(p, "tubes") for p in WITH_TUBES)):  # noqa: B905
        truth, found, _ = read(case)
        for name, aps in zip(WITH_TUBES, expected, strict=True):
            results = video_maps(truth, found, NAMES, protocol=name, ious=IOUS)
            got = [list(one.per_class.values()) for one in results]
            np.testing.assert_allclose(got, aps, rtol=0, atol=1e-9)


def test_error_splits_are_the_published_ones():
    of_tubes, of_frames = golden("multisports", "errors"), golden("act", "errors")
    for case, tube_areas, frame_areas in zip(CASES, of_tubes, of_frames):  # noqa: B905
        truth, found, boxes = read(case)
        split = tube_errors(truth, found, NAMES)
        got = [[row[head] for head in ("AP", *TUBE_ERRORS)] for row in split.per_class.values()]
        np.testing.assert_allclose(got, tube_areas, rtol=0, atol=1e-9)
        split = frame_errors(truth, boxes, NAMES)
        heads = ("AP", *FRAME_ERRORS, "missed")
        got = [[row[head] for head in heads] for row in split.per_class.values()]
        np.testing.assert_allclose(got, frame_areas, rtol=0, atol=1e-9)
    assert (np.abs(of_tubes).sum(axis=(0, 1)) > 0).all()  # every kind occurs
    assert (np.abs(of_frames).sum(axis=(0, 1)) > 0).all()


def plain(case: tube_cases.TubeCase):
    """Return ground truth and detections of tubes and of frames, by class."""
    truth, found, frames, boxes = {}, {}, {}, {}
    for number, video in enumerate(case.videos):
        for label, tubes in case.truth[video].items():
            for rows in tubes:
                truth.setdefault(label, []).append({"place": number, "shape": rows.tolist()})
                for row in rows.tolist():
                    one = {"place": (number, row[0]), "shape": row[1:]}
                    frames.setdefault(label, []).append(one)
    for label, video, score, rows in case.tubes:
        one = {"place": case.videos.index(video), "score": score, "shape": rows.tolist()}
        found.setdefault(label, []).append(one)
    for video, frame, label, score, *box in case.boxes.tolist():
        one = {"place": (video, frame), "score": score, "shape": box}
        boxes.setdefault(label, []).append(one)
    return truth, found, frames, boxes


RULES = {  # pixel of frames and tubes, last frame, among unmatched, straight lines, suppression
    "act": (1, 1, 1, True, True, 0.3),
    "3d-retinanet": (0, 1, 1, True, True, None),
    "realtime": (0, None, None, True, False, None),
    "multisports": (0, 0, 0, False, False, None),
}


@pytest.mark.parametrize("name", RULES)
def test_equal_to_plain_loops(name):
    frame_pixel, tube_pixel, last, unmatched, straight, suppress = RULES[name]
    close = 2e-6 if TUBE_PROTOCOLS[name].single_precision else 1e-9

    def ap(truth, found, iou, threshold):
        marks = slow.hits(truth, found, iou, threshold, among_unmatched=unmatched)
        precision, recall = slow.shares(marks), slow.recalls(marks, len(truth))
        return slow.lines(precision, recall, 1.0) if straight else slow.steps(precision, recall)

    for case in CASES[40:]:
        truth, found, frames, boxes = plain(case)
        rows, tubes, frame_boxes = read(case)
        result = frame_map_of_tubes(rows, frame_boxes, NAMES, protocol=name)
        for label in frames:
            iou = lambda a, b: slow.box_iou(a, b, frame_pixel)  # noqa: E731
            expected = ap(frames[label], boxes.get(label, []), iou, 0.5)
            assert result.per_class[NAMES[label]] == pytest.approx(expected, abs=close)
        if tube_pixel is None:
            continue
        iou = slow.tube_iou(tube_pixel, last)
        for one in video_maps(rows, tubes, NAMES, protocol=name, ious=IOUS):
            for label in truth:
                mine = found.get(label, [])
                mine = slow.suppressed(mine, iou, suppress) if suppress else mine
                expected = ap(truth[label], mine, iou, one.iou_threshold)
                assert one.per_class[NAMES[label]] == pytest.approx(expected, abs=close)


def test_kinds_of_tubes_are_those_of_plain_loops():
    for case in CASES[40:]:
        truth, found, *_ = plain(case)
        rows, tubes, _ = read(case)
        split = tube_errors(rows, tubes, NAMES, iou=0.4)
        for label in truth:
            mine = sorted(found.get(label, []), key=lambda one: -one["score"])
            iou = slow.tube_iou(0, 0)
            marks = slow.hits(truth[label], mine, iou, 0.4, among_unmatched=False)
            kinds = [
                slow.tube_kind(one, label, truth, right, 0.4)
                for one, right in zip(mine, marks, strict=True)
            ]
            counts, areas = split.counts[NAMES[label]], split.per_class[NAMES[label]]
            recall = slow.recalls(marks, len(truth[label]))
            for kind in TUBE_ERRORS:
                assert counts[kind] == kinds.count(kind)
                expected = slow.steps(slow.shares([one == kind for one in kinds]), recall)
                assert areas[kind] == pytest.approx(expected, abs=2e-6)
            assert areas["missed"] == pytest.approx(1 - (recall or [0])[-1], abs=1e-6)
            assert sum(counts.values()) == len(mine)


BOX = np.array([[10.0, 10, 49, 89]])


def walk(frames: int = 4, first: int = 1, move: float = 0) -> Tube:
    boxes = np.repeat(BOX, frames, axis=0) + [[move, 0, move, 0]]
    return Tube(first, boxes, 1.0)


def boxes_of(*rows) -> FrameBoxes:
    table = np.array(rows, float).reshape(-1, 8)
    return FrameBoxes(*table[:, :3].astype(int).T, table[:, 3], table[:, 4:])


def test_no_detections_and_no_ground_truth():
    for name in TUBE_PROTOCOLS:
        nothing = frame_map_of_tubes({}, boxes_of(), NAMES, protocol=name)
        assert set(nothing.num_ground_truth.values()) == {0}
        assert np.isnan(nothing.mean_ap) == (name == "multisports")
        missed = frame_map_of_tubes({(0, 0): [walk()]}, boxes_of(), NAMES, protocol=name)
        assert missed.mean_ap == 0
    for name in WITH_TUBES:
        for one in video_maps({(0, 0): [walk()]}, {}, NAMES, protocol=name):
            assert one.mean_ap == 0
    split = tube_errors({}, {0: [(0, walk())]}, NAMES)
    assert split.counts["jump"]["extra"] == 1
    assert split.per_class["jump"]["missed"] == 1
    assert frame_errors({}, boxes_of(), NAMES).mean["missed"] == 1


def test_a_class_without_ground_truth_is_zero_or_left_out():
    truth, found = {(0, 0): [walk()]}, {0: [(0, walk())], 1: [(0, walk())]}
    assert video_maps(truth, found, NAMES, protocol="multisports", ious=(0.5,))[0].mean_ap == 1
    one = video_maps(truth, found, NAMES, protocol="act", ious=(0.5,))[0]
    assert one.mean_ap == pytest.approx(1 / 3)
    assert one.per_class["stand"] == 0


def test_classes_that_multisports_never_scores():
    names = ("jump", "basketball save", "stand")
    truth, found = {(0, 0): [walk()], (1, 0): [walk()]}, {0: [(0, walk())]}
    one = video_maps(truth, found, names, protocol="multisports", ious=(0.5,))[0]
    assert one.mean_ap == 1
    assert np.isnan(one.per_class["basketball save"])
    assert np.isnan(tube_errors(truth, found, names).per_class["basketball save"]["AP"])
    assert video_maps(truth, found, names, protocol="act", ious=(0.5,))[0].mean_ap < 1


def test_of_equal_scores_the_first_listed_has_its_turn_first():
    truth = {(0, 0): [walk()]}
    poor, good = (0, walk(move=12)), (0, walk())
    for order, expected in (([good, poor], 1.0), ([poor, good], 0.25)):
        one = video_maps(truth, {0: order}, ("jump",), protocol="3d-retinanet", ious=(0.9,))[0]
        assert one.mean_ap == pytest.approx(expected)


def test_a_second_person_is_matched_only_where_the_script_looks_on():
    """Both tubes lie nearest to the same person; the second one reaches the threshold with each."""
    truth = {(0, 0): [walk(), walk(move=10)]}
    found = {0: [(0, replace(walk(move=1), score=0.9)), (0, replace(walk(move=2), score=0.8))]}
    looks_on = video_maps(truth, found, ("jump",), protocol="3d-retinanet", ious=(0.5,))[0]
    does_not = video_maps(truth, found, ("jump",), protocol="multisports", ious=(0.5,))[0]
    assert looks_on.mean_ap == pytest.approx(1.0)
    assert does_not.mean_ap == pytest.approx(0.5)


def test_a_tube_of_one_frame_has_no_duration_in_multisports():
    truth, found = {(0, 0): [walk(1)]}, {0: [(0, walk(1))]}
    assert video_maps(truth, found, ("jump",), protocol="multisports", ious=(0.2,))[0].mean_ap == 0
    assert video_maps(truth, found, ("jump",), protocol="3d-retinanet", ious=(1.0,))[0].mean_ap == 1


def test_the_mean_over_thresholds():
    truth, found = {(0, 0): [walk()]}, {0: [(0, walk(move=8))]}  # overlap 32 of 48 pixels
    results = video_maps(truth, found, ("jump",), protocol="act", ious=(0.5, 0.9))
    mean = mean_of_maps(results)
    assert (mean.mean_ap, mean.per_class["jump"]) == (0.5, 0.5)


def test_what_is_refused():
    truth = {(0, 0): [walk()]}
    with pytest.raises(UserError, match="no tube protocol 'voc': choose one of act"):
        frame_map_of_tubes(truth, boxes_of(), NAMES, protocol="voc")
    with pytest.raises(UserError, match="frames alone: choose one of act, 3d-retinanet, multisp"):
        video_maps(truth, {}, NAMES, protocol="realtime")
    with pytest.raises(UserError, match="scores of tubes: 1 of 1 are not finite"):
        video_maps(truth, {0: [(0, replace(walk(), score=np.nan))]}, NAMES, protocol="act")
    with pytest.raises(UserError, match="boxes of frames"):
        row = (0, 1, 0, 0.5, 1, 1, np.inf, 2)
        frame_map_of_tubes(truth, boxes_of(row), NAMES, protocol="act")
