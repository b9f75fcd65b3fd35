from __future__ import annotations

import json
from pathlib import Path

import golden_tubes
import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.errors import UserError
from detection.evaluation.tubes import Tube, overlap, suppress
from detection.evaluation.video_map import tube_ap, video_map
from detection.structures import Keyframe, LabelMap

LABEL_MAP = LabelMap(("one", "two"), (1, 2))
ANSWERS = json.loads(Path(__file__).with_name("golden_video_ap.json").read_text())


def rows(table, *, truth: bool, tracks=None) -> AvaRows:
    """Build rows at 25 frames a second from (video, frame, box, class, person or score)."""
    last = {"person_id" if truth else "score": [row[4] for row in table]}
    return AvaRows.from_rows(
        [Keyframe(row[0], row[1] / 25) for row in table],
        boxes_01=[row[2] for row in table],
        action_id=[row[3] for row in table],
        track_id=tracks,
        **last,
    )


def test_equal_to_the_released_code_of_act():
    compared = 0
    for seed, answer in enumerate(ANSWERS):
        if answer is None:  # the code itself divides by zero where a tube skips a frame
            continue
        case = golden_tubes.video_case(seed)
        result = video_map(rows(case.truth, truth=True), rows(case.found, truth=False), LABEL_MAP)
        assert result.linked
        for name, expected in answer.items():
            got = [result.per_class[one][name] for one in LABEL_MAP.names]
            expected = [np.nan if ap is None else ap for ap in expected]
            np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5, err_msg=f"{seed} {name}")
        compared += 1
    assert compared >= 30


BOX, FAR = (0.1, 0.1, 0.3, 0.5), (0.6, 0.1, 0.8, 0.5)


def two_people(frames: int = 20):
    truth = [("v", f, BOX, 1, 0) for f in range(frames)] + [
        ("v", f, FAR, 1, 1) for f in range(frames)
    ]
    found = [
        ("v", f, box, 1, score) for f in range(frames) for box, score in ((BOX, 0.9), (FAR, 0.8))
    ]
    return truth, found


def test_two_people_in_a_frame():
    truth, found = two_people()
    result = video_map(rows(truth, truth=True), rows(found, truth=False), LABEL_MAP)
    assert result.num_ground_truth == {"one": 2, "two": 0}
    assert result.num_detections == {"one": 2, "two": 0}
    assert dict(result.mean_ap) == {"0.2": 1.0, "0.5": 1.0, "0.5:0.95": 1.0}
    assert np.isnan(result.per_class["two"]["0.5"])


def test_tracks_that_swap_people_halfway_lose_half():
    truth, found = two_people()
    swapped = [int((row[2] == FAR) ^ (row[1] >= 10)) for row in found]
    kept = video_map(
        rows(truth, truth=True),
        rows(found, truth=False, tracks=[int(row[2] == FAR) for row in found]),
        LABEL_MAP,
    )
    lost = video_map(rows(truth, truth=True), rows(found, truth=False, tracks=swapped), LABEL_MAP)
    assert not kept.linked
    assert kept.mean_ap["0.5"] == 1.0
    # The middle frame is bridged: the boxes overlap in 10 of 20 frames, so the IoU is one half.
    assert lost.mean_ap["0.2"] == 1.0
    assert lost.mean_ap["0.5:0.95"] == pytest.approx(0.1)


def test_a_gap_is_bridged_and_a_long_one_ends_the_tube():
    truth = [("v", f, BOX, 1, 0) for f in range(40)]
    short = [("v", f, BOX, 1, 0.5) for f in range(40) if not 15 < f < 20]
    one = video_map(rows(truth, truth=True), rows(short, truth=False), LABEL_MAP)
    assert (one.num_detections["one"], one.mean_ap["0.5"]) == (1, 1.0)
    long = [("v", f, BOX, 1, 0.5) for f in range(40) if not 15 < f < 24]
    two = video_map(rows(truth, truth=True), rows(long, truth=False), LABEL_MAP)
    assert two.num_detections["one"] == 2
    assert two.mean_ap["0.5"] == 0.0


def test_short_tubes_go_but_short_videos_stay():
    truth = [("v", f, BOX, 1, 0) for f in range(8)]
    found = [("v", f, BOX, 1, 0.5) for f in range(8)]
    assert (
        video_map(rows(truth, truth=True), rows(found, truth=False), LABEL_MAP).mean_ap["0.5"] == 1
    )
    result = video_map(rows(truth, truth=True), rows(found[:7], truth=False), LABEL_MAP)
    assert result.num_detections["one"] == 0
    result = video_map(
        rows(truth, truth=True), rows(found[:7], truth=False), LABEL_MAP, least_frames=5
    )
    assert result.num_detections["one"] == 1


def test_ground_truth_with_a_gap_is_two_tubes():
    truth = [("v", f, BOX, 1, 0) for f in range(20) if f != 9] + [("v", 9, FAR, 2, 1)]
    found = [("v", f, BOX, 1, 0.5) for f in range(20)]
    result = video_map(rows(truth, truth=True), rows(found, truth=False), LABEL_MAP)
    assert result.num_ground_truth == {"one": 2, "two": 1}


def test_no_detections_and_no_ground_truth():
    truth, found = two_people()
    result = video_map(rows(truth, truth=True), rows([], truth=False), LABEL_MAP)
    assert result.mean_ap["0.5"] == 0.0
    with pytest.raises(UserError, match="no tube"):
        video_map(rows([], truth=True), rows(found, truth=False), LABEL_MAP)


def test_overlap_worked_by_hand():
    first = Tube(0, np.tile([0.0, 0.0, 0.4, 0.4], (4, 1)), 1.0)
    second = Tube(2, np.tile([0.0, 0.0, 0.4, 0.2], (4, 1)), 0.5)
    assert overlap(first, second) == pytest.approx(0.5 * 2 / 6)
    assert overlap(first, Tube(4, first.boxes, 1.0)) == 0.0
    assert suppress([second, first], 0.1) == [first]
    assert suppress([second, first], 0.2) == [first, second]


def test_ap_joins_points_by_straight_lines():
    boxes = np.tile(BOX, (3, 1))
    truth = {0: [Tube(0, boxes, 1.0)], 1: [Tube(0, boxes, 1.0)]}
    found = [(0, Tube(0, boxes, 0.9)), (2, Tube(0, boxes, 0.8)), (1, Tube(0, boxes, 0.7))]
    # Points (recall, precision): (0, 1), (1/2, 1), (1/2, 1/2), (1, 2/3).
    assert tube_ap(truth, found, 0.5) == pytest.approx(0.5 + 0.5 * (1 / 2 + 2 / 3) / 2)
