import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from detection.datasets.transforms import EvalTransform, TrainTransform, TransformParams


def painted(width, height, box_px):
    """Two frames, black, with one white rectangle."""
    frames = torch.zeros(2, 3, height, width, dtype=torch.uint8)
    x1, y1, x2, y2 = box_px
    frames[:, :, y1:y2, x1:x2] = 255
    return frames


def found(frames):
    """Edges of what is white, and how many pixels are: the second implementation."""
    white = frames[0, 0] > 127
    rows, columns = np.flatnonzero(white.any(1)), np.flatnonzero(white.any(0))
    if not len(rows):
        return None, 0.0
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], float(white.sum())


sizes = st.tuples(st.integers(60, 150), st.integers(60, 150))
edges = st.tuples(*[st.floats(0, 1)] * 4)


@st.composite
def frames_with_box(draw):
    width, height = draw(sizes)
    a, b, c, d = draw(edges)
    x1, x2 = sorted((round(a * width), round(c * width)))
    y1, y2 = sorted((round(b * height), round(d * height)))
    assume(x2 - x1 >= 4 and y2 - y1 >= 4)
    return width, height, (x1, y1, x2, y2)


def as_fractions(width, height, box):
    return np.array([box], np.float32) / np.array([width, height, width, height], np.float32)


@settings(deadline=None, max_examples=150)
@given(frames_with_box(), st.integers(0, 2**31), st.sampled_from([0.0, 0.25, 0.5, 0.9]))
def test_boxes_follow_the_pixels_through_resize_crop_and_flip(case, seed, min_visible):
    width, height, box = case
    crop = 48
    transform = TrainTransform(crop=crop, short_side=(48, 80), min_visible=min_visible)
    params = transform.make_params(np.random.default_rng(seed))
    done = transform.apply(painted(width, height, box), as_fractions(width, height, box), params)
    assert done.frames.shape == (3, 2, crop, crop) and done.frames.dtype == torch.uint8
    expected, visible = found(done.frames.permute(1, 0, 2, 3))
    scale = params.short_side / min(width, height)
    area = (box[2] - box[0]) * (box[3] - box[1]) * scale**2
    if len(done.kept):
        (actual,) = done.boxes_px.tolist()
        assert 0 <= actual[0] < actual[2] <= crop and 0 <= actual[1] < actual[3] <= crop
        if expected is None:  # a sliver, under half a pixel
            assert min(actual[2] - actual[0], actual[3] - actual[1]) < 1
        else:
            assert actual == pytest.approx(expected, abs=1.01)
        # Pixels are counted whole: an edge is off by up to one pixel on each side.
        assert visible >= min_visible * area - 2 * (crop + 80)
    else:
        assert done.boxes_px.shape == (0, 4)
        assert visible <= min_visible * area + 2 * (crop + 80)


@settings(deadline=None, max_examples=60)
@given(frames_with_box(), st.integers(0, 2**31))
def test_without_resizing_boxes_follow_to_the_pixel(case, seed):
    width, height, box = case
    short = min(width, height)
    transform = TrainTransform(crop=short - 10, short_side=(short, short), min_visible=0)
    params = transform.make_params(np.random.default_rng(seed))
    done = transform.apply(painted(width, height, box), as_fractions(width, height, box), params)
    expected, visible = found(done.frames.permute(1, 0, 2, 3))
    if len(done.kept):
        if expected is not None:
            assert done.boxes_px[0].tolist() == pytest.approx(expected, abs=1e-3)
    else:
        assert visible == 0


@settings(deadline=None, max_examples=60)
@given(frames_with_box(), st.integers(32, 120))
def test_evaluation_keeps_the_whole_frame_and_everybody(case, short_side):
    width, height, box = case
    transform = EvalTransform(short_side=short_side)
    boxes = np.concatenate([as_fractions(width, height, box), [[0, 0, 1, 1]], [[0.9, 0.9, 1, 1]]])
    done = transform.apply(
        painted(width, height, box), boxes, transform.make_params(np.random.default_rng(0))
    )
    _, _, new_height, new_width = done.frames.shape
    assert min(new_height, new_width) == short_side
    assert new_width / new_height == pytest.approx(width / height, rel=0.6 / short_side + 1e-6)
    assert done.kept.tolist() == [0, 1, 2]
    expected, _ = found(done.frames.permute(1, 0, 2, 3))
    assert done.boxes_px[0].tolist() == pytest.approx(expected, abs=1.01)
    assert done.boxes_px[1].tolist() == [0, 0, new_width, new_height]


def square_crop(**options):
    return TrainTransform(crop=100, short_side=(100, 100), flip=0.0, **options)


@pytest.mark.parametrize(
    "min_visible, kept", [(0.0, [0, 1]), (0.49, [0, 1]), (0.51, [0]), (1.0, [0])]
)
def test_visibility_rule_by_hand(min_visible, kept):
    """100 x 200 px, the left half is kept: one is inside, one half, one outside, one touches."""
    boxes = np.array(
        [[0, 0, 0.4, 1], [0.4, 0, 0.6, 1], [0.7, 0, 1, 1], [0.5, 0, 0.6, 1]], np.float32
    )
    frames = torch.zeros(1, 3, 100, 200, dtype=torch.uint8)
    transform = square_crop(min_visible=min_visible)
    done = transform.apply(frames, boxes, TransformParams(short_side=100, top_01=0.0, left_01=0.0))
    assert done.kept.tolist() == kept
    expected = torch.tensor([[0, 0, 80, 100], [80, 0, 100, 100]])[: len(kept)]
    torch.testing.assert_close(done.boxes_px, expected.float(), atol=1e-4, rtol=0)


def test_what_lies_outside_the_frame_does_not_count_against_an_actor():
    """A detector's box may stick out; only its part inside the frame can ever be seen."""
    boxes = np.array([[-1.0, 0, 0.4, 1]], np.float32)
    frames = torch.zeros(1, 3, 100, 200, dtype=torch.uint8)
    done = square_crop(min_visible=0.9).apply(frames, boxes, TransformParams(100, 0.0, 0.0))
    assert done.boxes_px.tolist() == [pytest.approx([0, 0, 80, 100])]


def test_no_person_is_legal():
    frames = torch.zeros(2, 3, 100, 200, dtype=torch.uint8)
    for transform in (square_crop(), EvalTransform(short_side=100)):
        params = transform.make_params(np.random.default_rng(0))
        done = transform.apply(frames, np.zeros((0, 4), np.float32), params)
        assert done.boxes_px.shape == (0, 4) and done.kept.tolist() == []


def test_flip_mirrors_frames_and_boxes():
    frames = painted(100, 100, (10, 20, 30, 60))
    boxes = as_fractions(100, 100, (10, 20, 30, 60))
    done = square_crop().apply(frames, boxes, TransformParams(100, flip=True))
    assert done.boxes_px.tolist() == [pytest.approx([70, 20, 90, 60], abs=1e-4)]
    torch.testing.assert_close(done.frames[:, 0], frames[0].flip(-1))


def test_draws_cover_sizes_places_and_both_flips():
    transform = TrainTransform(crop=160, short_side=(182, 228))
    generator = np.random.default_rng(0)
    draws = [transform.make_params(generator) for _ in range(800)]
    assert {params.short_side for params in draws} == set(range(182, 229))
    assert 0.4 < np.mean([params.flip for params in draws]) < 0.6
    assert np.ptp([params.left_01 for params in draws]) > 0.95


def test_every_place_of_the_crop_can_be_drawn():
    """The crop reaches both edges: an off-by-one would never show the last column."""
    ramp = torch.arange(103, dtype=torch.uint8).expand(1, 3, 100, 103)
    lefts = {
        int(
            square_crop()
            .apply(ramp, np.zeros((0, 4)), TransformParams(100, 0.0, left))
            .frames[0, 0, 0, 0]
        )
        for left in np.linspace(0, 0.9999, 50)
    }
    assert lefts == {0, 1, 2, 3}


def test_color_jitter_changes_all_frames_alike_and_no_box():
    generator = np.random.default_rng(0)
    transform = TrainTransform(crop=100, short_side=(100, 100), color_jitter=0.4)
    frames = torch.randint(0, 255, (1, 3, 100, 100), dtype=torch.uint8).expand(4, -1, -1, -1)
    params = dataclasses.replace(transform.make_params(generator), flip=False)
    done = transform.apply(frames, np.array([[0, 0, 0.5, 0.5]]), params)
    assert (done.frames[:, 0] != frames[0]).any()
    assert (done.frames == done.frames[:, :1]).all()
    assert done.frames.dtype == torch.uint8
    assert done.boxes_px.tolist() == [[0, 0, 50, 50]]
    still = square_crop(color_jitter=0.0).apply(frames, np.zeros((0, 4)), params)
    assert (still.frames[:, 0] == frames[0]).all()


def test_box_jitter_moves_edges_within_bounds_and_repeats_itself():
    transform = square_crop(box_jitter=0.1)
    frames = torch.zeros(1, 3, 100, 100, dtype=torch.uint8)
    boxes = np.array([[0.2, 0.2, 0.6, 0.4]] * 200, dtype=np.float32)
    params = TransformParams(100, box_seed=7)
    moved = transform.apply(frames, boxes, params).boxes_px.numpy()
    assert np.array_equal(moved, transform.apply(frames, boxes, params).boxes_px.numpy())
    shift = moved - np.array([20, 20, 60, 40])
    assert (np.abs(shift) <= np.array([4, 2, 4, 2]) + 1e-4).all()
    assert (np.abs(shift).max(axis=0) > np.array([3.5, 1.7, 3.5, 1.7])).all()
    other = transform.apply(frames, boxes, TransformParams(100, box_seed=8)).boxes_px.numpy()
    assert not np.array_equal(moved, other)
    seeds = {transform.make_params(np.random.default_rng(i)).box_seed for i in range(5)}
    assert len(seeds) == 5
    assert len(transform.apply(frames, np.zeros((0, 4), np.float32), params).boxes_px) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"crop": 160, "short_side": (182, 228), "box_jitter": 0.5},
        {"crop": 200, "short_side": (182, 228)},
        {"crop": 160, "short_side": (228, 182)},
        {"crop": 160, "short_side": (182, 228), "flip": 1.5},
        {"crop": 160, "short_side": (182, 228), "min_visible": -0.1},
        {"crop": 160, "short_side": (182, 228), "color_jitter": 2},
    ],
)
def test_impossible_options_are_refused(options):
    with pytest.raises(ValueError, match="got"):
        TrainTransform(**options)


@settings(deadline=None, max_examples=80)
@given(frames_with_box(), st.integers(0, 2**31), st.sampled_from([0.0, 0.3]))
def test_paths_are_transformed_as_boxes_are(case, seed, jitter):
    """A path's box at each frame is what that box becomes as the keyframe's."""
    width, height, box = case
    transform = TrainTransform(crop=48, short_side=(48, 80), min_visible=0.0, box_jitter=jitter)
    params = transform.make_params(np.random.default_rng(seed))
    box_01 = as_fractions(width, height, box)
    path = np.stack([box_01, box_01 + np.float32(0.03)], axis=1)
    frames = painted(width, height, box)
    plain = transform.apply(frames, box_01, params)
    done = transform.apply(frames, box_01, params, paths_01=path)
    assert done.boxes_px.shape == (len(plain.kept), 2, 4)
    assert done.kept.tolist() == plain.kept.tolist() and torch.equal(done.frames, plain.frames)
    if len(plain.kept):
        torch.testing.assert_close(done.boxes_px[:, 0], plain.boxes_px, atol=1e-4, rtol=0)
        moved = transform.apply(frames, path[:, 1], params)
        if len(moved.kept):
            torch.testing.assert_close(done.boxes_px[:, 1], moved.boxes_px, atol=1e-4, rtol=0)


def test_who_leaves_the_crop_for_a_while_keeps_a_box_without_area_there():
    transform = TrainTransform(crop=40, short_side=(40, 40), flip=0)
    params = TransformParams(short_side=40, left_01=0.0)
    box = np.array([[0.1, 0.2, 0.3, 0.9]], np.float32)
    path = np.stack([box, box + np.float32([0.6, 0, 0.6, 0])], axis=1)
    done = transform.apply(torch.zeros(2, 3, 40, 80, dtype=torch.uint8), box, params, paths_01=path)
    assert done.boxes_px[0].round().tolist() == [[8, 8, 24, 36], [40, 8, 40, 36]]


@pytest.mark.parametrize(
    "transform", [TrainTransform(crop=40, short_side=(40, 40)), EvalTransform(short_side=40)]
)
def test_nobody_has_no_paths_and_paths_of_other_clips_are_refused(transform):
    params = transform.make_params(np.random.default_rng(0))
    frames, none = torch.zeros(2, 3, 40, 60, dtype=torch.uint8), np.zeros((0, 4), np.float32)
    done = transform.apply(frames, none, params, paths_01=np.zeros((0, 2, 4), np.float32))
    assert done.boxes_px.shape == (0, 2, 4)
    with pytest.raises(ValueError, match=r"paths_01 must be \(N, 2, 4\), got \(0, 3, 4\)"):
        transform.apply(frames, none, params, paths_01=np.zeros((0, 3, 4), np.float32))
