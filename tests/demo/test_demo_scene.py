"""Boxes, visibility and frames of a scene agree with each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detection.demo.annotate import notes_of, tell_stories
from detection.demo.casting import Story
from detection.demo.props import Prop
from detection.demo.scene import StoryScene

SIZE = (320, 240)


def stories(count: int = 6) -> list[Story]:
    return list(tell_stories("train", count, seed=3, slots=4, aspect=4 / 3))


def only(story: Story, *, people: int, props: tuple[Prop, ...] = ()) -> Story:
    return replace(story, people=story.people[:people], props=props)


def changed(story: Story, time_s: float) -> np.ndarray:
    """The pixels that the people change, by drawing the frame with and without them."""
    times = np.array([time_s])
    with_them = StoryScene(story, times, size_px=SIZE).frame(0).astype(int)
    without = StoryScene(replace(story, people=()), times, size_px=SIZE).frame(0).astype(int)
    return np.abs(with_them - without).max(axis=2) > 40


def test_a_box_fits_the_drawn_person_tightly() -> None:
    close = []
    for story in stories():
        alone = only(story, people=1)
        if alone.people[0].held is not None:
            continue
        ys, xs = np.nonzero(changed(alone, 2.0))
        box = StoryScene(alone, np.array([2.0]), size_px=SIZE).boxes_px(0)[0]
        drawn = np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])
        # Never more than the soft edge outside; the colours may hide an edge from this test.
        assert (drawn[:2] >= box[:2] - 2.5).all() and (drawn[2:] <= box[2:] + 2.5).all()
        close.append(np.abs(drawn - box).max())
    assert np.median(close) <= 3


def test_alone_everybody_is_wholly_visible() -> None:
    for story in stories(3):
        visible, inside = StoryScene(
            only(story, people=1), np.array([2.0]), size_px=SIZE
        ).people_seen(0)
        assert visible == pytest.approx([1.0])
        assert inside == pytest.approx([1.0])


def test_a_wall_before_a_person_hides_that_share_and_leaves_the_box() -> None:
    alone = only(stories(1)[0], people=1)
    person = alone.people[0]
    scene = StoryScene(alone, np.array([2.0]), size_px=SIZE)
    box = scene.boxes_px(0)
    wall = np.array([(-1, -1), (3, -1), (3, 3), (-1, 3)], float)
    hidden = replace(alone, props=(Prop([(wall, (9, 9, 9))], person.ground_y + 0.1),))
    behind = StoryScene(hidden, np.array([2.0]), size_px=SIZE)
    np.testing.assert_allclose(behind.boxes_px(0), box)
    assert behind.people_seen(0)[0] == pytest.approx([0.0])
    farther = replace(alone, props=(Prop([(wall, (9, 9, 9))], person.ground_y - 0.1),))
    assert StoryScene(farther, np.array([2.0]), size_px=SIZE).people_seen(0)[0] == pytest.approx(
        [1.0]
    )


def test_who_leaves_the_frame_is_less_inside_and_the_box_ends_at_the_edge() -> None:
    # A person upright: whoever lies down behind the feet may lie within the frame.
    story, person = next(
        (story, person)
        for story in stories(12)
        for person in story.people
        if story.camera.kind == "tripod" and person.spans[0].doing.body == "stand"
    )
    aside = replace(person, home_x=0.0, reach=(-1.0, 1.0), spans=person.spans[:1])
    scene = StoryScene(replace(story, people=(aside,), props=()), np.array([0.0]), size_px=SIZE)
    _, inside = scene.people_seen(0)
    assert 0.2 < inside[0] < 0.9
    assert scene.boxes_px(0)[0, 0] == 0.0
    assert scene.boxes_px(0)[0, 0] == 0


def test_no_people_no_boxes() -> None:
    empty = replace(stories(1)[0], people=())
    scene = StoryScene(empty, np.array([1.0]), size_px=SIZE)
    assert scene.boxes_px(0).shape == (0, 4)
    assert scene.people_seen(0)[0].shape == (0,)
    assert scene.frame(0).shape == (240, 320, 3)
    assert notes_of(empty, slots=2, size_px=SIZE) == [[], []]


def test_passages_are_half_done_at_their_keyframe() -> None:
    halves = []
    for story in stories(20):
        for person in story.people:
            for span in person.spans:
                if span.doing.passage:
                    keyframe = round((span.start_s + span.end_s) / 2)
                    assert span.start_s < keyframe - 0.2 and keyframe + 0.2 < span.end_s
                    halves.append(keyframe)
                    assert person.doing_at(keyframe) == span.doing
    assert len(halves) > 20


def test_people_go_on_smoothly() -> None:
    # No joint jumps between neighbouring frames, also where one thing ends and the next begins.
    times = np.arange(0, 5, 0.02)
    for story in stories(8):
        for person in story.people:
            x, _ = person.path(times)
            assert np.abs(np.diff(x)).max() < 0.05
            for part in person.parts(times)[:6]:
                centre = part.outline.mean(axis=1)
                assert np.linalg.norm(np.diff(centre, axis=0), axis=1).max() < 0.12 * person.height
