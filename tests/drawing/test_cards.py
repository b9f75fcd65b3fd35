"""Label cards and colours: nobody's label hides another's, and a person has one colour."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.drawing import draw
from detection.drawing.actors import Actor, ShownLabel
from detection.drawing.draw import draw_actors
from detection.drawing.paint import DARK, TEXT, TRUTH, Style
from detection.drawing.palette import PALETTE, css_color, track_color
from detection.drawing.timeline import Placed

LABELS = (ShownLabel("catching or throwing baseball", 0.9), ShownLabel("tai chi", 0.4))


def drawn(boxes, *, shape=(720, 1280), reserved=(), labels=LABELS):
    """Draw people; return cards and numbers as (person, area), and the frame."""
    cards, badges = [], []
    paint_card, paint_badge = draw.draw_card, draw._draw_badge

    def card_noted(frame, corner, card, **more):
        area = [*corner, corner[0] + card.width, corner[1] + card.height]
        cards.append((card.number, area))
        paint_card(frame, corner, card, **more)

    def badge_noted(frame, area, item, *, more, **rest):
        badges.append((item.number, area.tolist(), more))
        paint_badge(frame, area, item, more=more, **rest)

    frame = np.full((*shape, 3), 90, np.uint8)
    people = [Placed(Actor(np.array(b), labels), i + 1) for i, b in enumerate(boxes)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(draw, "draw_card", card_noted)
        patch.setattr(draw, "_draw_badge", badge_noted)
        draw_actors(
            frame,
            people,
            color=None,
            dashed=False,
            style=Style.for_panel(min(shape)),
            places={},
            numbered=True,
            reserved=[np.array(area, np.float64) for area in reserved],
        )
    return cards, badges, frame


def common(a, b):
    return max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))


def inside(area, shape):
    return area[0] >= 0 and area[1] >= 0 and area[2] <= shape[1] and area[3] <= shape[0]


unit = st.floats(0, 1)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(unit, unit, unit, unit), max_size=14),
    st.sampled_from([(720, 1280), (960, 720), (240, 320), (36, 1440)]),
)
def test_no_card_covers_another_or_a_number_or_leaves_the_frame(boxes, shape):
    boxes = [(min(a, c), min(b, d), max(a, c), max(b, d)) for a, b, c, d in boxes]
    strip = [0, shape[0] - 20, shape[1], shape[0]]
    cards, badges, _ = drawn(boxes, shape=shape, reserved=[strip])
    assert len(badges) == len(boxes)
    for number, area in cards:
        assert inside(area, shape) and common(area, strip) == 0
        assert not any(common(area, other) for one, other, _ in badges if one != number)
    for (_, one), (_, other) in itertools.combinations(cards, 2):
        assert common(one, other) == 0
    shown = {number for number, _ in cards}
    assert all(more == (number not in shown) for number, _, more in badges), "said by an ellipsis"


def test_people_close_together_each_have_a_card():
    boxes = [(0.3 + 0.01 * i, 0.3, 0.5 + 0.01 * i, 0.9) for i in range(8)]
    cards, badges, _ = drawn(boxes)
    assert sorted(number for number, _ in cards) == list(range(1, 9))
    numbers = [area for _, area, _ in badges[:4]]
    assert not any(common(a, b) for a, b in itertools.combinations(numbers, 2))


def test_a_crowd_without_room_is_cut_to_first_labels_and_says_how_many_more():
    boxes = [(0.03 * i, 0.2, 0.03 * i + 0.2, 0.9) for i in range(26)]
    few, _, _ = drawn(boxes[:2])
    many, badges, _ = drawn(boxes)
    tall = {area[3] - area[1] for _, area in few}
    low = {area[3] - area[1] for _, area in many}
    assert max(low) < min(tall) and len(many) > 8
    assert sum(more for *_, more in badges) == 26 - len(many) > 0


def test_nobody_has_no_card():
    cards, badges, frame = drawn([])
    assert cards == badges == [] and (frame == 90).all()


def test_box_number_and_bar_have_the_persons_colour():
    _, _, frame = drawn([(0.05, 0.4, 0.3, 0.9), (0.6, 0.4, 0.8, 0.9)])
    for number, half in ((1, frame[:, :640]), (2, frame[:, 640:])):
        other = 3 - number
        mine, theirs = ((half == track_color(n)).all(axis=2) for n in (number, other))
        assert mine.sum() > 2000 and theirs.sum() == 0
        bars = mine[:280].sum(axis=1)  # above the box: the stripe and two bars
        assert bars.max() > 1.5 * np.median(bars[bars > 0])


def test_a_track_has_one_colour_whatever_its_number():
    assert [track_color(n) for n in range(1, len(PALETTE) + 1)] == list(PALETTE)
    assert track_color(len(PALETTE) + 1) == track_color(1)
    assert track_color(0) == track_color(-len(PALETTE)) == PALETTE[-1]
    assert css_color((240, 228, 66)) == "#f0e442" and css_color((0, 0, 255)) == "#0000ff"


def luminance(color):
    channels = np.array(color) / 255
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def test_colours_differ_from_each_other_and_ground_truth_and_carry_dark_letters():
    others = [*PALETTE, TRUTH, TEXT]
    for one, other in itertools.combinations(others, 2):
        assert np.linalg.norm(np.subtract(one, other)) > 60, (one, other)
    for color in PALETTE:
        assert (luminance(color) + 0.05) / (luminance(DARK) + 0.05) > 4.5
