"""Areas and overlaps of boxes against counting cells; one rule for empty boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.boxes import areas, clipped, giou_matrix, iou_matrix, paired_iou, plain_iou

# On a small grid: lines, points and boxes turned inside out come often.
edge = st.integers(-3, 6)
box = st.tuples(edge, edge, edge, edge)
boxes = st.lists(box, max_size=5)


def cells(box):
    x1, y1, x2, y2 = box
    return {(x, y) for x in range(x1, x2) for y in range(y1, y2)}


def slow_iou(a, b):
    union = cells(a) | cells(b)
    return len(cells(a) & cells(b)) / len(union) if union else 0.0


def slow_giou(a, b):
    hull = cells((*map(min, a[:2], b[:2]), *map(max, a[2:], b[2:])))
    return slow_iou(a, b) - ((len(hull) - len(cells(a) | cells(b))) / len(hull) if hull else 0.0)


def array(boxes, kind=np.float64):
    return np.array(boxes, kind).reshape(-1, 4)


@given(boxes, boxes)
def test_overlaps_are_those_of_the_cells(first, second):
    a, b = array(first), array(second)
    expected = np.array([[slow_iou(x, y) for y in second] for x in first])
    assert iou_matrix(a, b) == pytest.approx(expected.reshape(len(a), len(b)), abs=1e-12)
    assert areas(a).tolist() == [len(cells(one)) for one in first]
    hulls = np.array([[slow_giou(x, y) for y in second] for x in first]).reshape(len(a), len(b))
    solid = np.outer(areas(a) > 0, areas(b) > 0)  # an empty box has a place, but no cells
    assert giou_matrix(a, b)[solid] == pytest.approx(hulls[solid], abs=1e-12)


@given(boxes, boxes)
def test_all_ways_to_an_overlap_agree_to_the_bit(first, second):
    a, b = array(first) / 7, array(second) / 7
    matrix = iou_matrix(first=a, second=b)
    assert (matrix == iou_matrix(b, a).T).all()
    assert ((matrix >= 0) & (matrix <= 1)).all()
    for i, one in enumerate(a):
        assert (paired_iou(one, b) == matrix[i]).all()
        assert [plain_iou(one.tolist(), other) for other in b.tolist()] == matrix[i].tolist()
    pairs = paired_iou(np.repeat(a, len(b), axis=0), np.tile(b, (len(a), 1)))
    assert (pairs == matrix.reshape(-1)).all()


@given(boxes, boxes, st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 5))
def test_overlaps_know_no_place_and_no_unit(first, second, right, down, scale):
    moved = [array(one) * scale + [right, down, right, down] for one in (first, second)]
    assert iou_matrix(*moved) == pytest.approx(iou_matrix(first, second), abs=1e-12)
    assert giou_matrix(*moved) == pytest.approx(giou_matrix(first, second), abs=1e-12)
    assert areas(moved[0]) == pytest.approx(areas(array(first)) * scale**2)


@given(boxes, boxes)
def test_empty_boxes_overlap_nothing_and_no_box_more_than_itself(first, second):
    a = array(first)
    empty = (a[:, 0] >= a[:, 2]) | (a[:, 1] >= a[:, 3])
    assert (areas(a)[empty] == 0).all() and (areas(a)[~empty] > 0).all()
    assert (iou_matrix(a, second)[empty] == 0).all()
    assert paired_iou(a, a).tolist() == (~empty).astype(float).tolist()
    giou = giou_matrix(a, second)
    assert ((giou >= -1) & (giou <= iou_matrix(a, second))).all()


@given(boxes, st.integers(0, 5), st.integers(0, 5))
def test_a_clipped_box_keeps_the_cells_in_the_frame(found, width, height):
    frame = cells((0, 0, width, height))
    inside = clipped(array(found), width=width, height=height)
    assert ((inside >= 0) & (inside <= [width, height, width, height])).all()
    assert areas(inside).tolist() == [len(cells(one) & frame) for one in found]
    assert (clipped(inside, width=width, height=height) == inside).all()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_precision_stays(kind):
    a, b = (array([box], kind) for box in ((0, 0, 0.3, 0.7), (0.1, 0.2, 0.4, 1.5)))
    assert {paired_iou(a, b).dtype, areas(a).dtype, clipped(b).dtype} == {np.dtype(kind)}
    assert clipped(b).tolist() == array([(0.1, 0.2, 0.4, 1)], kind).tolist()
    assert iou_matrix(a, b).dtype == giou_matrix(a, b).dtype == np.float64


def test_by_hand_and_no_person():
    a = [[0, 0, 2, 2], [0, 0, 1, 1]]
    b = [[1, 1, 3, 3], [2, 0, 3, 1], [0, 0, 0, 0]]
    assert iou_matrix(a, b) == pytest.approx(np.array([[1 / 7, 0, 0], [0, 0, 0]]))
    giou = giou_matrix(a, b)
    assert giou[0, 0] == pytest.approx(1 / 7 - 2 / 9)
    assert giou[1, 1] == pytest.approx(-1 / 3)
    assert giou_matrix(np.zeros((2, 4)), np.zeros((1, 4))) == pytest.approx(np.zeros((2, 1)))
    for matrix in (iou_matrix, giou_matrix):
        assert matrix(np.zeros((0, 4)), b).shape == (0, 3) and matrix([], []).shape == (0, 0)
    assert paired_iou(np.zeros((0, 4)), np.zeros((0, 4))).shape == (0,)
