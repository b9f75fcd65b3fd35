from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from detection.datasets.ava_csv import AvaRows
from detection.evaluation.compare import compare
from detection.evaluation.diagnosis import (
    BACKGROUND,
    BOTH,
    DUPLICATE,
    MISSED,
    POOR_BOX,
    WRONG_CLASS,
    diagnose,
)
from detection.evaluation.explain_low_map import find_causes
from detection.evaluation.frame_map import score_rows
from detection.structures import Keyframe, LabelMap

LABEL_MAP = LabelMap(("a", "b", "c"), (2, 4, 6))
BOX, FAR = (0.1, 0.1, 0.5, 0.5), (0.6, 0.5, 0.9, 0.9)
LOOSE = (0.3, 0.1, 0.7, 0.5)  # overlaps BOX by one third


def rows(table, *, scored: bool) -> AvaRows:
    return AvaRows.from_rows(
        [Keyframe("v", row[0]) for row in table],
        boxes_01=[row[1] for row in table],
        action_id=[row[2] for row in table],
        score=[row[3] for row in table] if scored else None,
    )


def diagnosis_of(truth, found):
    truth, found = rows(truth, scored=False), rows(found, scored=True)
    return diagnose(score_rows(truth, found, LABEL_MAP), truth, found)


ONE = [(902, BOX, 2)]


@pytest.mark.parametrize(
    ("truth", "found", "kind", "gain"),
    [
        # The wrong row comes first, so that AP is 1/2 (or 0) until it is fixed.
        (ONE + [(903, BOX, 4)], [(903, BOX, 2, 0.9), (902, BOX, 2, 0.5)], WRONG_CLASS, 0.25),
        ([*ONE, (903, BOX, 2)], [(902, BOX, 2, 0.9), (902, BOX, 2, 0.8), (903, BOX, 2, 0.5)],
         DUPLICATE, 1 - (0.5 + 0.5 * 2 / 3)),
        (ONE, [(902, FAR, 2, 0.9), (902, BOX, 2, 0.5)], BACKGROUND, 0.5),
        (ONE, [(902, LOOSE, 2, 0.9)], POOR_BOX, 1.0),
        (ONE, [(902, LOOSE, 2, 0.9), (902, BOX, 2, 0.5)], POOR_BOX, 0.5),
        (ONE + [(903, BOX, 4)], [(903, LOOSE, 2, 0.9), (902, BOX, 2, 0.5)], BOTH, 0.25),
        ([*ONE, (903, BOX, 2)], [(902, BOX, 2, 0.5)], MISSED, 0.5),
    ],
)  # fmt: skip
def test_one_error_of_each_kind(truth, found, kind, gain):
    diagnosis = diagnosis_of(truth, found)
    assert diagnosis.gain[kind] == pytest.approx(gain)
    assert diagnosis.num_rows[kind] == 1
    others = [k for k in diagnosis.num_rows if k not in (kind, MISSED)]
    assert [diagnosis.num_rows[k] for k in others] == [0] * len(others)


def test_perfect_detections_have_nothing_to_mend():
    truth = [(902, BOX, 2), (902, FAR, 4), (903, BOX, 6)]
    diagnosis = diagnosis_of(truth, [(*row, 0.5) for row in truth])
    assert diagnosis.mean_ap == diagnosis.ceiling == 1.0
    assert set(diagnosis.gain.values()) == {0.0}
    assert set(diagnosis.num_rows.values()) == {0}
    assert set(diagnosis.box_recall.values()) == {1.0}
    assert diagnosis.confusions == ()


def test_every_false_positive_has_one_kind():
    rng = np.random.default_rng(0)
    corners = rng.random((60, 2, 2)).round(1)
    boxes = np.sort(corners, axis=1).reshape(60, 4) + [0, 0, 0.1, 0.1]
    truth = [(902 + i % 5, boxes[i] / 1.1, LABEL_MAP.ids[i % 3]) for i in range(20)]
    found = [(902 + i % 5, boxes[i] / 1.1, LABEL_MAP.ids[i % 3], i / 60) for i in range(15, 60)]
    truth, found = rows(truth, scored=False), rows(found, scored=True)
    scored = score_rows(truth, found, LABEL_MAP)
    diagnosis = diagnose(scored, truth, found)
    false = int((scored.matched < 0).sum())
    assert sum(n for kind, n in diagnosis.num_rows.items() if kind != MISSED) == false > 0


def test_ceiling_is_what_perfect_scores_reach():
    truth = [(902, BOX, 2), (902, BOX, 4), (902, FAR, 2), (903, BOX, 2)]
    found = [(902, BOX, 2, 0.1), (902, BOX, 4, 0.2), (903, FAR, 2, 0.9)]
    diagnosis = diagnosis_of(truth, found)
    # One of the three labels of class a can be reached, and the one of class b.
    assert diagnosis.ceiling == pytest.approx((1 / 3 + 1) / 2)
    assert diagnosis.num_people == 3
    assert diagnosis.box_recall[0.5] == pytest.approx(1 / 3)


def test_confusions_count_people():
    truth = [(t, BOX, 2) for t in range(5)] + [(0, BOX, 4)]
    found = [(t, BOX, 2, 0.5) for t in range(5)]
    found += [(t, BOX, 4, 0.9 if t < 3 else 0.1) for t in range(5)]
    confusion = diagnosis_of(truth, found).confusions[0]
    # Of four people who do a and not b, t = 1 and 2 score higher on b.
    assert (confusion.action, confusion.other) == ("a", "b")
    assert (confusion.num_confused, confusion.num_people) == (2, 4)


def test_diagnosis_without_detections():
    diagnosis = diagnosis_of(ONE, [])
    assert diagnosis.mean_ap == diagnosis.ceiling == 0.0
    assert diagnosis.box_recall[0.5] == 0.0


# --- the usual causes ---------------------------------------------------------------------------


def good_run() -> tuple[AvaRows, AvaRows]:
    """People off the diagonal and off the corner, so that swaps and corners matter."""
    rng = np.random.default_rng(0)
    truth = []
    for video in range(3):
        for time_s in range(902, 922):
            for person in range(2):
                left, top = 0.3 + 0.35 * person + 0.05 * rng.random(), 0.05 + 0.1 * rng.random()
                box = (left, top, left + 0.2, top + 0.6)
                truth.append((f"v{video}", time_s, box, LABEL_MAP.ids[int(rng.integers(2))]))
    truth = AvaRows.from_rows(
        [Keyframe(video, time_s) for video, time_s, _, _ in truth],
        boxes_01=[row[2] for row in truth],
        action_id=[row[3] for row in truth],
    )
    return truth, replace(truth, score=rng.random(len(truth)), path="det.csv")


def causes_of(truth: AvaRows, found: AvaRows, label_map: LabelMap = LABEL_MAP) -> str:
    return "\n".join(find_causes(score_rows(truth, found, label_map), truth, found))


def test_a_good_run_has_no_cause():
    assert causes_of(*good_run()) == ""


def change_boxes(found: AvaRows, change) -> AvaRows:
    return replace(found, boxes_01=np.stack(change(*found.boxes_01.T), axis=1))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x1, y1, x2, y2: (x1 * 640, y1 * 480, x2 * 640, y2 * 480), "are pixels"),
        (lambda x1, y1, x2, y2: (y1, x1, y2, x2), "x and y are swapped"),
        (lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1), "are x, y, width, height"),
        (lambda x1, y1, x2, y2: ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1),
         "are centre, width, height"),
    ],
)  # fmt: skip
def test_boxes_in_another_form(change, words):
    truth, found = good_run()
    text = causes_of(truth, change_boxes(found, change))
    assert words in text
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("shift", [1, -1])
def test_ids_off_by_one(shift):
    label_map = LabelMap(("a", "b", "c", "d", "e"), (1, 2, 3, 4, 5))
    truth, found = good_run()
    moved = replace(found, action_id=found.action_id + np.int32(shift))
    assert f"off by one: with {-shift:+d} added" in causes_of(truth, moved, label_map)


def test_ids_outside_the_label_map():
    truth, found = good_run()
    text = causes_of(truth, replace(found, action_id=found.action_id + np.int32(500)))
    assert "no class id of the detections is in the label map: 502, 504 there" in text


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda score: 100 * score, "are over 1, up to 99.701: in per cent? divide by 100"),
        (lambda score: 1000 * score, "are over 1, up to 997.01: no probabilities"),
        (lambda score: 8 * score - 5, "scores lie between -4.9"),
        (lambda score: np.log(score + 1e-9), "logits or logarithms?"),
        (lambda score: score / 100, "divided by 100, or multiplied twice?"),
    ],
)
def test_scores_in_another_unit_are_named_though_the_mean_is_the_same(change, words):
    truth, found = good_run()
    moved = replace(found, score=change(found.score))
    means = [score_rows(truth, one, LABEL_MAP).frame_map().mean_ap for one in (found, moved)]
    assert means[0] == means[1] > 0.5
    assert words in causes_of(truth, moved)


def test_scores_under_the_protocols_threshold():
    truth, found = good_run()
    low = replace(found, score=np.where(np.arange(len(found)) % 3, 0.001, found.score))
    scored = score_rows(truth, low, LABEL_MAP, protocol="mmaction2")
    text = "\n".join(find_causes(scored, truth, low))
    assert "80 of 120 scores are under 0.002 and do not count under protocol mmaction2" in text
    assert "do not count" not in causes_of(truth, low)


def test_a_few_scores_over_1_are_left_to_the_readers_warning():
    truth, found = good_run()
    score = found.score.copy()
    score[0] = 1.2
    assert causes_of(truth, replace(found, score=score)) == ""


def test_width_and_height_are_named_though_half_the_boxes_still_fit():
    """Near the upper left corner x, y, width, height overlaps the right box well."""
    truth, found = good_run()
    near = truth.boxes_01 - 0.85 * truth.boxes_01[:, [0, 1, 0, 1]]
    truth = replace(truth, boxes_01=near)
    found = change_boxes(
        replace(found, boxes_01=near), lambda x1, y1, x2, y2: (x1, y1, x2 - x1, y2 - y1)
    )
    assert score_rows(truth, found, LABEL_MAP).frame_map().mean_ap > 0.2
    assert "are x, y, width, height" in causes_of(truth, found)


def test_a_sample_of_keyframes_shows_the_same_mistakes():
    truth, found = good_run()
    swapped = change_boxes(found, lambda x1, y1, x2, y2: (y1, x1, y2, x2))
    scored = score_rows(truth, swapped, LABEL_MAP)
    some = find_causes(scored, truth, swapped, most_keyframes=7)
    assert len(some) == 1 and "x and y are swapped" in some[0]
    scored = score_rows(truth, found, LABEL_MAP)
    assert find_causes(scored, truth, found, most_keyframes=7) == []


def test_scores_that_rank_nothing():
    truth, found = good_run()
    assert "every score is 1" in causes_of(truth, replace(found, score=np.ones(len(found))))


# --- two systems --------------------------------------------------------------------------------


def system(truth: AvaRows, noise: float, seed: int) -> AvaRows:
    """Return a row per person and class; right ones score higher, less so with noise."""
    rng = np.random.default_rng(seed)
    ids = np.tile(np.array(LABEL_MAP.ids, np.int32), len(truth))
    repeated = truth.select(np.repeat(np.arange(len(truth)), len(LABEL_MAP)))
    right = ids == repeated.action_id
    return replace(repeated, action_id=ids, score=right + noise * rng.normal(size=len(ids)))


def test_compare_finds_the_better_system():
    truth, _ = good_run()
    first, second = (
        score_rows(truth, system(truth, noise, seed), LABEL_MAP)
        for noise, seed in ((1.0, 1), (0.3, 2))
    )
    comparison = compare(first, second, num_draws=300)
    one, other, difference, low, high = comparison.mean
    assert (one, other) == (first.frame_map().mean_ap, second.frame_map().mean_ap)
    assert difference == other - one > 0
    assert 0 < low < difference < high
    assert np.isnan(comparison.per_class["c"][2])
    assert comparison.unit == "stretches of keyframes"
    again = compare(first, second, num_draws=300)
    assert again.mean == comparison.mean
    assert compare(second, first, num_draws=300).mean[3:] == pytest.approx((-high, -low))


def test_a_system_does_not_differ_from_itself():
    truth, _ = good_run()
    scored = score_rows(truth, system(truth, 0.5, 1), LABEL_MAP)
    comparison = compare(scored, scored, num_draws=50)
    assert comparison.mean[2:] == (0.0, 0.0, 0.0)


def test_drawing_a_unit_twice_is_having_it_twice():
    """The weighted AP of a draw against scoring a file that repeats the drawn videos."""
    from detection.evaluation import compare as module

    truth, _ = good_run()
    found = system(truth, 0.7, 3)
    scored = score_rows(truth, found, LABEL_MAP)
    weights = np.array([[2], [0], [1]], np.int32)  # by video
    got = module._drawn_ap(scored, scored.keys.video_of_key, weights, progress=False)[:, 0]

    def drawn(rows: AvaRows) -> AvaRows:
        picks = [np.flatnonzero(rows.video_index == v) for v in (0, 0, 2)]
        index = np.concatenate([np.full(len(p), i, np.int32) for i, p in enumerate(picks)])
        chosen = rows.select(np.concatenate(picks))
        return replace(chosen, video_index=index, video_names=("first", "again", "third"))

    expected = score_rows(drawn(truth), drawn(found), LABEL_MAP).per_class_ap()
    np.testing.assert_allclose(got, expected, atol=1e-6)


def test_memory_of_a_comparison_does_not_grow_with_the_number_of_videos():
    """20,000 scores by 2,000 videos are 40 million cells; each draw is worked in parts."""
    count = 20_000
    keys = [Keyframe(f"v{i % 2000:04}", 902 + i // 2000) for i in range(count)]
    boxes, actions = np.tile(BOX, (count, 1)), [2] * count
    truth = AvaRows.from_rows(keys, boxes_01=boxes, action_id=actions)
    score = np.random.default_rng(0).permutation(count) / count
    found = AvaRows.from_rows(keys, boxes_01=boxes, action_id=actions, score=score)
    scored = score_rows(truth, found, LABEL_MAP)
    tracemalloc.start()
    try:
        compare(scored, scored, num_draws=20)
        assert tracemalloc.get_traced_memory()[1] < 60e6
    finally:
        tracemalloc.stop()


def test_draws_worked_in_parts_are_the_same(monkeypatch):
    truth, _ = good_run()
    pair = [score_rows(truth, system(truth, noise, 1), LABEL_MAP) for noise in (1.0, 0.3)]
    at_once = compare(*pair, num_draws=37)
    monkeypatch.setattr("detection.evaluation.compare._MOST_CELLS", 500)
    assert repr(compare(*pair, num_draws=37)) == repr(at_once)  # to the last digit, NaN too


def test_systems_under_different_protocols_do_not_compare():
    truth, found = good_run()
    first = score_rows(truth, found, LABEL_MAP, protocol="frame-map")
    second = score_rows(truth, found, LABEL_MAP, protocol="pyslowfast")
    with pytest.raises(ValueError, match="frame-map and pyslowfast"):
        compare(first, second)
