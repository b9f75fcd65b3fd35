import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from detection.boxes import SQUARE_SCALE
from detection.datasets.person_crops import crop_people, square_places

SIZES = st.tuples(st.integers(1, 400), st.integers(1, 300))  # width, height
# Corners in fractions of the frame, also outside it and in the wrong order.
PATHS = st.integers(0, 3).flatmap(
    lambda people: st.integers(1, 5).flatmap(
        lambda frames: arrays(np.float64, (people, frames, 4), elements=st.floats(-1, 2))
    )
)
SCALES = st.floats(0.1, 5)


def gradient_frames(count, width, height):
    """Frames whose red is the column and whose green is the row."""
    frames = np.zeros((count, height, width, 3), np.uint8)
    frames[..., 0] = np.arange(width)
    frames[..., 1] = np.arange(height)[:, None]
    return frames


@settings(deadline=None)
@given(PATHS, SIZES, SCALES)
def test_squares_lie_inside_the_frame(boxes_01, size, scale):
    width, height = size
    places = square_places(boxes_01, width, height, scale)
    assert places.shape == (*boxes_01.shape[:2], 3)
    left, top, side = np.moveaxis(places, -1, 0)
    assert (side >= 1).all() and (side <= min(width, height)).all()
    assert (left >= 0).all() and (left + side <= width).all()
    assert (top >= 0).all() and (top + side <= height).all()


@settings(deadline=None)
@given(PATHS, SIZES, SCALES)
def test_a_persons_square_keeps_its_size(boxes_01, size, scale):
    sides = square_places(boxes_01, *size, scale)[..., 2]
    assert (sides == sides[:, :1]).all()


@settings(deadline=None)
@given(PATHS, SIZES, SCALES)
def test_the_square_is_as_near_to_the_box_as_the_frame_allows(boxes_01, size, scale):
    width, height = size
    left, top, side = np.moveaxis(square_places(boxes_01, width, height, scale), -1, 0)
    for start, first, length in ((left, 0, width), (top, 1, height)):
        middle = (boxes_01[..., first] + boxes_01[..., first + 2]) / 2 * length
        # Where the centre of a square of this size may be.
        nearest = np.clip(middle, side / 2, length - side / 2)
        assert np.abs(start + side / 2 - nearest).max(initial=0) <= 0.5 + 1e-9


@settings(deadline=None)
@given(PATHS, SIZES, SCALES)
def test_turning_the_frame_turns_the_squares(boxes_01, size, scale):
    width, height = size
    turned = square_places(boxes_01[..., [1, 0, 3, 2]], height, width, scale)
    assert (turned[..., [1, 0, 2]] == square_places(boxes_01, width, height, scale)).all()


@settings(deadline=None)
@given(PATHS, SIZES, SCALES)
def test_each_person_alone_gets_the_same_square(boxes_01, size, scale):
    together = square_places(boxes_01, *size, scale)
    for person in range(len(boxes_01)):
        alone = square_places(boxes_01[person : person + 1], *size, scale)
        assert (alone[0] == together[person]).all()


def test_squares_by_hand():
    # 20 wide and 40 high around (100, 60), then 10 pixels further right and 10 down.
    boxes_px = np.array([[[90, 40, 110, 80], [100, 50, 120, 90]]])
    places = square_places(boxes_px / [200, 120, 200, 120], 200, 120)
    assert SQUARE_SCALE == 2.0
    assert places.tolist() == [[[60, 20, 80], [70, 30, 80]]]


def test_the_persons_largest_box_gives_the_size():
    boxes_px = np.array([[[95, 50, 105, 70], [90, 40, 110, 80], [98, 55, 102, 65]]])
    places = square_places(boxes_px / [200, 120, 200, 120], 200, 120)
    assert places.tolist() == [[[60, 20, 80]] * 3]


def test_a_box_half_outside_moves_the_square_inside():
    boxes_px = np.array([[[-20, 40, 20, 80], [190, 100, 230, 140]]])
    places = square_places(boxes_px / [200, 120, 200, 120], 200, 120)
    assert places.tolist() == [[[0, 20, 80], [120, 40, 80]]]


def test_a_large_persons_square_is_the_short_side():
    boxes_px = np.array([[[60, 0, 140, 120]]])
    places = square_places(boxes_px / [200, 120, 200, 120], 200, 120)
    assert places.tolist() == [[[40, 0, 120]]]


@pytest.mark.parametrize("width, height", [(1, 1), (1, 90), (90, 1)])
def test_frames_of_one_pixel(width, height):
    clips = crop_people(gradient_frames(2, width, height), np.full((1, 2, 4), 0.5), 8)
    assert clips.shape == (1, 3, 2, 8, 8)


def test_nobody():
    clips = crop_people(gradient_frames(4, 20, 10), np.zeros((0, 4, 4)), 8)
    assert clips.shape == (0, 3, 4, 8, 8)
    assert clips.dtype == torch.uint8


@pytest.mark.parametrize("shape", [(4,), (2, 4), (1, 3, 4), (1, 2, 5)])
def test_boxes_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match=r"boxes_01 must be \(N, 2, 4\)"):
        crop_people(gradient_frames(2, 20, 10), np.zeros(shape), 8)


@settings(deadline=None)
@given(st.integers(20, 180), st.integers(20, 100), st.integers(2, 10))
def test_pixels_are_those_of_the_square(x, y, half):
    """A square that is not resized is cut out as it is: columns go with x, rows with y."""
    box = np.array([x - half, y - half, x + half, y + half]) / [200, 120, 200, 120]
    clips = crop_people(gradient_frames(1, 200, 120), box[None, None], 4 * half)
    left, top = x - 2 * half, y - 2 * half
    left, top = min(max(left, 0), 200 - 4 * half), min(max(top, 0), 120 - 4 * half)
    assert clips[0, 0, 0, 0].tolist() == list(range(left, left + 4 * half))
    assert clips[0, 1, 0, :, 0].tolist() == list(range(top, top + 4 * half))


def test_each_frame_is_cut_where_the_person_is():
    frames = np.zeros((3, 60, 100, 3), np.uint8)
    boxes_px = []
    for index, x in enumerate((20, 40, 70)):
        frames[index, 25:35, x - 5 : x + 5] = [255, 10, 20]
        boxes_px.append([x - 5, 25, x + 5, 35])
    clips = crop_people(frames, np.array([boxes_px]) / [100, 60, 100, 60], 20)
    assert (clips[0, :, 0] == clips[0, :, 1]).all() and (clips[0, :, 0] == clips[0, :, 2]).all()
    # Colours stay in their order.
    assert clips[0, :, 0, 10, 10].tolist() == [255, 10, 20]
