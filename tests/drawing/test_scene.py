"""Finished pictures: what is where, in which colour."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.drawing.actors import Actor, ShownLabel
from detection.drawing.draw import draw_actors
from detection.drawing.paint import DIM, RIGHT, TRUTH, WRONG, Style
from detection.drawing.palette import track_color
from detection.drawing.scene import Panel, Scene, panel_size
from detection.drawing.timeline import Placed, Timeline

PREDICTION = track_color(1)


def placed(*boxes: tuple[float, ...], labels: tuple[ShownLabel, ...] = ()) -> list[Placed]:
    return [Placed(Actor(np.array(box), labels), i) for i, box in enumerate(boxes)]


def paint(items: list[Placed], *, dashed: bool = False, shape: tuple[int, int] = (240, 320)):
    picture = np.full((*shape, 3), 255, np.uint8)
    draw_actors(
        picture,
        items,
        color=PREDICTION,
        dashed=dashed,
        style=Style.for_panel(min(shape)),
        places={},
    )
    return picture


def count(picture: np.ndarray, color: tuple[int, int, int]) -> int:
    return int((picture == np.array(color)).all(axis=2).sum())


WALK = (ShownLabel("walk", 0.7, "right"),)


def test_nobody_leaves_the_picture_as_it_was() -> None:
    assert (paint([]) == 255).all()


def test_a_box_lies_where_it_should() -> None:
    picture = paint(placed((0.25, 0.25, 0.75, 0.75), labels=WALK))
    yellow = (picture == np.array(PREDICTION)).all(axis=2)
    assert yellow[100, 78:84].any() and yellow[100, 236:242].any()
    assert not yellow[70:175, 90:230].any()


def test_dashed_boxes_have_gaps() -> None:
    box = placed((0.25, 0.25, 0.75, 0.75), labels=WALK)
    solid, dashed = count(paint(box), PREDICTION), count(paint(box, dashed=True), PREDICTION)
    assert 0.3 * solid < dashed < 0.8 * solid


def test_without_a_label_the_box_is_grey_and_has_no_card() -> None:
    picture = paint(placed((0.25, 0.25, 0.75, 0.75)))
    assert count(picture, PREDICTION) == 0
    assert count(picture, DIM) > 100
    assert (picture[:55] == 255).all()


def test_the_bar_is_as_long_as_the_probability_and_of_the_colour_of_the_verdict() -> None:
    def green(score: float) -> int:
        labels = (ShownLabel("walk", score, "right"),)
        return count(paint(placed((0.3, 0.4, 0.7, 0.9), labels=labels)), RIGHT)

    sign_only = green(0.0)
    half, full = green(0.5) - sign_only, green(1.0) - sign_only
    assert full == pytest.approx(2 * half, rel=0.1) and half > 20
    wrong = paint(placed((0.3, 0.4, 0.7, 0.9), labels=(ShownLabel("walk", 0.5, "wrong"),)))
    assert count(wrong, RIGHT) == 0 and count(wrong, WRONG) > 20


def test_cards_of_neighbours_do_not_cover_each_other() -> None:
    boxes = [(0.1, 0.5, 0.3, 0.95), (0.2, 0.5, 0.4, 0.95), (0.3, 0.5, 0.5, 0.95)]
    alone = sum(count(paint(placed(box, labels=WALK), shape=(480, 640)), RIGHT) for box in boxes)
    together = count(paint(placed(*boxes, labels=WALK), shape=(480, 640)), RIGHT)
    assert together == pytest.approx(alone, rel=0.05)


def test_a_card_stays_where_it_was() -> None:
    """Of two places that are about as good, the one of the frame before is kept."""
    places: dict[int, int] = {}
    style = Style.for_panel(480)
    chosen = []
    for shift in np.linspace(0, 0.1, 20):
        picture = np.zeros((480, 640, 3), np.uint8)
        items = placed((0.3 + shift, 0.3, 0.6 + shift, 0.9), labels=WALK)
        draw_actors(picture, items, color=PREDICTION, dashed=False, style=style, places=places)
        chosen.append(places[0])
    assert len(set(chosen)) == 1


unit = st.one_of(st.floats(-0.5, 1.5), st.just(float("nan")), st.just(float("inf")))


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(unit, unit, unit, unit), max_size=4),
    st.sampled_from([(8, 8), (17, 300), (300, 17), (120, 160)]),
    st.booleans(),
    st.text(max_size=30),
)
def test_any_box_on_any_picture(boxes: list, shape: tuple[int, int], dashed: bool, name: str):
    picture = paint(
        placed(*boxes, labels=(ShownLabel(name, 0.5, "missed"),)), dashed=dashed, shape=shape
    )
    assert picture.shape == (*shape, 3)


@pytest.mark.parametrize(
    ("size", "panel"),
    [
        ((320, 240), (640, 480)),
        ((640, 360), (853, 480)),
        ((1920, 1080), (853, 480)),
        ((1080, 1920), (480, 853)),
        ((4000, 100), (960, 24)),
    ],
)
def test_small_videos_grow_and_large_ones_shrink(
    size: tuple[int, int], panel: tuple[int, int]
) -> None:
    assert panel_size(*size, 480) == panel


def scene(*, truth: bool = True, predicted: bool = True, **more: object) -> Scene:
    box = np.array([0.2, 0.2, 0.8, 0.8])
    timeline = Timeline({1.0: (Actor(box, (ShownLabel("walk"),)),)})
    panels = [Panel("Ground truth", timeline, TRUTH, dashed=True)] if truth else []
    panels += [Panel("Prediction", timeline, None, dashed=False)] if predicted else []
    options = {"title": "clip", "frame_size": (320, 240), "short_side_px": 240}
    return Scene(panels, start_s=0.0, end_s=2.0, **(options | more))


@pytest.mark.parametrize(("truth", "predicted"), [(True, True), (True, False), (False, True)])
def test_each_side_has_its_colour(truth: bool, predicted: bool) -> None:
    made = scene(truth=truth, predicted=predicted)
    picture = made.draw(np.zeros((240, 320, 3), np.uint8), 1.0)
    assert picture.shape == (made.size[1], made.size[0], 3)
    assert (count(picture, TRUTH) > 0) is truth
    assert (count(picture, PREDICTION) > 0) is predicted


def test_truth_is_on_the_left() -> None:
    picture = scene().draw(np.zeros((240, 320, 3), np.uint8), 1.0)
    assert count(picture[:, 326:], TRUTH) == 0 and count(picture[:, :320], PREDICTION) == 0


def test_long_and_odd_titles_stay_inside() -> None:
    for title in ("x" * 5000, "a\nb\x00", "", "日本" * 300):
        made = scene(title=title, note="n" * 300, rules="r" * 900, judged=True)
        picture = made.draw(np.zeros((24, 32, 3), np.uint8), 123456.789)
        assert picture.shape[1] == made.size[0] == 646


def test_a_scene_without_panels_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one panel"):
        scene(truth=False, predicted=False)
