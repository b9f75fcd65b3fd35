"""Drawing on planes of YUV is drawing on RGB, written as YUV."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.drawing.actors import Actor, ShownLabel
from detection.drawing.draw import draw_actors
from detection.drawing.paint import DARK, Style, darken, draw_sign, fill
from detection.drawing.palette import PALETTE
from detection.drawing.text import draw_text
from detection.drawing.timeline import Placed
from detection.drawing.yuv import YuvFrame
from detection.video.planes import YuvCoding

CODINGS = [
    YuvCoding(),
    YuvCoding(is_full=True),
    YuvCoding(0.2126, 0.0722),
    YuvCoding(0.2126, 0.0722, is_full=True),
]
HEIGHT, WIDTH = 120, 160


def twin(rgb, coding):
    """Write an RGB frame as planes, value by value; U and V of every second pixel."""
    red, green, blue = np.moveaxis(rgb.astype(float), 2, 0)
    luma = coding.red * red + (1 - coding.red - coding.blue) * green + coding.blue * blue
    u = (blue - luma) / (1 - coding.blue) / 2
    v = (red - luma) / (1 - coding.red) / 2
    if not coding.is_full:
        luma, u, v = 16 + luma * 219 / 255, u * 224 / 255, v * 224 / 255
    planes = luma, 128 + u[::2, ::2], 128 + v[::2, ::2]
    return tuple(np.clip(np.round(plane), 0, 255).astype(np.uint8) for plane in planes)


def check(draw, coding, seed=0):
    """Draw on both; return how many values of Y are not those of before."""
    rgb = np.random.default_rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), np.uint8)
    before, planes = twin(rgb, coding), twin(rgb, coding)
    draw(rgb)
    draw(YuvFrame(planes, coding))
    for own, expected in zip(planes, twin(rgb, coding), strict=True):
        assert np.abs(own.astype(int) - expected).max() <= 3  # each mixing is rounded
    return int((planes[0] != before[0]).sum())


places = st.integers(-60, 180)
colors = st.sampled_from([*PALETTE, (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)])


@given(st.sampled_from(CODINGS), places, places, st.integers(0, 90), st.integers(0, 90), colors)
@settings(max_examples=60, deadline=None)
def test_filled_and_darkened_parts(coding, x, y, w, h, color):
    check(lambda frame: fill(frame, x, y, x + w, y + h, color), coding)
    check(lambda frame: darken(frame, x, y, w, h, share=0.7), coding)


@given(st.sampled_from(CODINGS), places, places, colors, st.integers(8, 32))
@settings(max_examples=60, deadline=None)
def test_letters_and_signs_at_odd_places_and_across_edges(coding, x, y, color, size):
    check(lambda frame: draw_text(frame, "tai chi 0.64", x, y, size=size, color=color), coding)
    check(lambda frame: draw_sign(frame, "wrong", x, y, size), coding)
    check(lambda frame: draw_sign(frame, "missed", x, y, size), coding)


boxes = st.tuples(*[st.floats(-0.2, 1.2)] * 4)
marked = st.sampled_from(["right", "wrong", "missed", "none"])


@given(
    st.sampled_from(CODINGS),
    st.lists(st.tuples(boxes, st.lists(marked, max_size=3)), max_size=4),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_people_with_their_cards(coding, people, dashed):
    placed = [
        Placed(Actor(np.array(box), tuple(ShownLabel("walk", 0.6, m) for m in marks)), number)
        for number, (box, marks) in enumerate(people)
    ]

    def draw(frame):
        style = Style.for_panel(HEIGHT)
        draw_actors(frame, placed, color=None, dashed=dashed, style=style, places={}, numbered=True)

    changed = check(draw, coding)
    assert bool(changed) == bool(people)


@pytest.mark.parametrize("coding", CODINGS)
def test_black_white_and_grey_have_no_colour(coding):
    low, high = (0, 255) if coding.is_full else (16, 235)
    assert coding.yuv((0, 0, 0)) == (low, 128, 128)
    assert coding.yuv((255, 255, 255)) == (high, 128, 128)
    assert coding.yuv((90, 90, 90))[1:] == (128, 128)


def test_only_what_is_inside_the_frame_changes():
    planes = twin(np.full((8, 10, 3), 200, np.uint8), CODINGS[0])
    frame = YuvFrame(planes, CODINGS[0])
    assert frame.shape == (8, 10)
    before = [plane.copy() for plane in planes]
    for x, y in ((10, 0), (0, 8), (-4, 0), (0, -4), (50, 50)):
        fill(frame, x, y, x + 4, y + 4, DARK)
        darken(frame, x, y, 4, 4)
        frame.blend(np.full((4, 4), 255, np.uint8), x, y, DARK)
    assert all((own == was).all() for own, was in zip(planes, before, strict=True))
    fill(frame, 9, 7, 30, 30, DARK)  # one pixel, whose colour the one before has
    assert [int((own != was).sum()) for own, was in zip(planes, before, strict=True)] == [1, 0, 0]
