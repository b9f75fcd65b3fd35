"""Many people at a keyframe: memory grows with their number, not with its square."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.ava_csv import AvaRows
from detection.evaluation import matching, people
from detection.evaluation.box_ceiling import PerfectClassifier
from detection.evaluation.diagnosis import diagnose
from detection.evaluation.frame_map import score_rows
from detection.evaluation.keyframe_index import ClassColumns
from detection.evaluation.matching import slices_of
from detection.evaluation.people import _Best, pair_people
from detection.structures import LabelMap

LABEL_MAP = LabelMap(("a", "b", "c"), (1, 2, 3))


def crowd(num_people: int, keyframes: int) -> tuple[AvaRows, AvaRows]:
    rng = np.random.default_rng(0)
    count = num_people * keyframes
    corner = rng.random((count, 2)) * 0.8
    boxes = np.concatenate([corner, corner + 0.05 + 0.1 * rng.random((count, 2))], axis=1)
    ids = np.tile(np.array(LABEL_MAP.ids, np.int32), count)

    def rows(boxes: np.ndarray, score: np.ndarray | None = None) -> AvaRows:
        return AvaRows(
            path="crowd",
            video_names=("v",),
            video_index=np.zeros(3 * count, np.int32),
            time_us=np.repeat(np.arange(keyframes) * 1_000_000, 3 * num_people),
            boxes_01=np.repeat(boxes, 3, axis=0),
            action_id=ids,
            score=score,
        )

    return rows(boxes), rows(boxes + rng.normal(0, 0.01, boxes.shape), rng.random(3 * count))


@pytest.mark.parametrize(
    "work",
    [
        lambda truth, found: score_rows(truth, found, LABEL_MAP),
        lambda truth, found: pair_people(score_rows(truth, found, LABEL_MAP), truth, found),
        lambda truth, found: diagnose(score_rows(truth, found, LABEL_MAP), truth, found),
        lambda truth, found: PerfectClassifier(truth, found, LABEL_MAP).ceiling(),
    ],
    ids=["score", "people", "diagnosis", "ceiling"],
)
def test_memory_is_linear_in_the_boxes_of_a_keyframe(work, monkeypatch):
    for module in (matching, people):
        monkeypatch.setattr(module, "PAIRS_AT_ONCE", 1 << 12)  # the fixed part is small
    truth, found = crowd(1000, 2)  # 6 million pairs: 100 bytes each would be 600 MB
    tracemalloc.start()
    work(truth, found)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2000 * len(found)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 50), st.integers(0, 5))
def test_parts_of_any_size_give_the_same_bits(at_once, seed):
    rng = np.random.default_rng(seed)
    truth, found = crowd(6, 3)
    grid = np.round(found.boxes_01, 1)  # many equal overlaps
    found = AvaRows(**{**vars(found), "boxes_01": grid, "score": rng.integers(0, 4, len(grid)) / 4})
    whole = score_rows(truth, found, LABEL_MAP, iou_threshold=0.2)
    pairs = pair_people(whole, truth, found)
    with pytest.MonkeyPatch.context() as patch:
        for module in (matching, people):
            patch.setattr(module, "PAIRS_AT_ONCE", at_once)
        parts = score_rows(truth, found, LABEL_MAP, iou_threshold=0.2)
        assert np.array_equal(parts.matched, whole.matched)
        other = pair_people(parts, truth, found)
    for name in ("person_of_box", "iou_of_box", "box_of_person", "iou_of_person"):
        assert np.array_equal(getattr(other, name), getattr(pairs, name))


@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 12))
def test_slices_cover_everything_once(sizes, most):
    values = np.array(sizes, np.int64)
    slices = list(slices_of(values, most))
    assert [i for one in slices for i in range(one.start, one.stop)] == list(range(len(sizes)))
    assert all(values[s].sum() <= most or s.stop - s.start == 1 for s in slices)


def test_class_ids_of_any_size_take_no_table_as_long():
    far = LabelMap(("a", "b", "c"), (2_000_000_000, 1, 10**30))
    tracemalloc.start()
    ids = np.array([1, 2, 2_000_000_000, 2_000_000_001, -1], np.int32)
    got = ClassColumns(far).of(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert got.tolist() == [1, -1, 0, -1, -1]
    assert peak < 1 << 20


def test_of_equal_overlaps_in_two_parts_the_last_is_taken():
    best, owner = _Best(2), np.array([0])
    for other, iou in ((5, 0.0), (6, 0.5), (7, 0.5), (8, 0.4)):
        best.add(owner, np.array([other]), np.array([iou]))
        assert best.partner[0] == min(other, 7)
    assert best.partner.tolist() == [7, -1] and best.iou.tolist() == [0.5, 0.0]
