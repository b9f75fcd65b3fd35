"""Boxes between keyframes."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.drawing.actors import Actor, ShownLabel
from detection.drawing.timeline import Timeline, match_actors


def actor(x: float, name: str = "a", person: int | None = None, width: float = 0.4) -> Actor:
    return Actor(np.array([x, 0.1, x + width, 0.9]), (ShownLabel(name),), person)


def shown(timeline: Timeline, time_s: float) -> list[tuple[str, float]]:
    return sorted(
        (item.actor.labels[0].name, round(float(item.actor.box_01[0]), 6))
        for item in timeline.at(time_s)
    )


def test_nobody() -> None:
    assert Timeline({}).at(1.0) == []
    assert Timeline({1.0: ()}).at(1.0) == []


def test_moves_in_a_straight_line_with_the_labels_of_the_nearer_keyframe() -> None:
    timeline = Timeline({1.0: (actor(0.1, "a"),), 2.0: (actor(0.2, "b"),)})
    assert shown(timeline, 1.0) == [("a", 0.1)]
    assert shown(timeline, 1.25) == [("a", 0.125)]
    assert shown(timeline, 1.75) == [("b", 0.175)]
    assert shown(timeline, 2.0) == [("b", 0.2)]


def test_strangers_are_held_for_half_the_spacing() -> None:
    timeline = Timeline({1.0: (actor(0.0, "a", width=0.2),), 2.0: (actor(0.7, "b", width=0.2),)})
    assert shown(timeline, 0.4) == []
    assert shown(timeline, 0.6) == [("a", 0.0)]
    assert shown(timeline, 1.4) == [("a", 0.0)]
    assert shown(timeline, 1.5) == [("a", 0.0)]
    assert shown(timeline, 1.6) == [("b", 0.7)]
    assert shown(timeline, 2.4) == [("b", 0.7)]
    assert shown(timeline, 2.6) == []


def test_one_goes_on_while_another_leaves() -> None:
    timeline = Timeline(
        {1.0: (actor(0.0, "leaves", width=0.2), actor(0.5, "stays")), 2.0: (actor(0.55, "stays"),)}
    )
    assert shown(timeline, 1.2) == [("leaves", 0.0), ("stays", 0.51)]
    assert shown(timeline, 1.8) == [("stays", 0.54)]


def test_a_keyframe_with_nobody_ends_a_box() -> None:
    timeline = Timeline({1.0: (actor(0.1),), 2.0: (), 3.0: (actor(0.1),)})
    assert shown(timeline, 1.6) == shown(timeline, 2.0) == shown(timeline, 2.4) == []
    assert shown(timeline, 2.6) == [("a", 0.1)]


def test_a_gap_in_the_keyframes_is_not_bridged() -> None:
    timeline = Timeline({t: (actor(0.1),) for t in (1.0, 2.0, 3.0, 8.0, 9.0)})
    assert shown(timeline, 3.4) == [("a", 0.1)]
    assert shown(timeline, 5.0) == []
    assert shown(timeline, 7.6) == [("a", 0.1)]


def test_a_single_keyframe_is_shown_for_a_second() -> None:
    timeline = Timeline({5.0: (actor(0.1),)})
    assert [bool(timeline.at(t)) for t in (4.4, 4.6, 5.4, 5.6)] == [False, True, True, False]


def test_the_same_person_needs_less_overlap_and_other_ids_never_match() -> None:
    far = match_actors((actor(0.0, person=7),), (actor(0.3, person=7),))
    assert far == {0: 0}
    assert match_actors((actor(0.0),), (actor(0.3),)) == {}
    assert match_actors((actor(0.0, person=7),), (actor(0.0, person=8),)) == {}
    # After a cut the same id is somewhere else altogether: no gliding.
    assert match_actors((actor(0.0, person=7),), (actor(0.6, person=7),)) == {}


def test_everybody_gets_their_own_partner() -> None:
    first = (actor(0.0), actor(0.1))
    second = (actor(0.1), actor(0.0))
    assert match_actors(first, second) == {0: 1, 1: 0}
    assert match_actors((), second) == match_actors(first, ()) == {}


def test_a_number_follows_a_person() -> None:
    timeline = Timeline({t: (actor(0.05 * t), actor(0.5)) for t in (0.0, 1.0, 2.0)})
    numbers = {
        tuple(sorted(item.number for item in timeline.at(t))) for t in (0.0, 0.5, 1.0, 1.5, 2.0)
    }
    assert numbers == {(1, 2)}


def test_both_sides_number_a_person_alike() -> None:
    truth = Timeline({t: (actor(0.0, width=0.3), actor(0.6, width=0.3)) for t in (0.0, 1.0)})
    found = Timeline(
        {
            0.0: (actor(0.61, width=0.3), actor(0.3, width=0.1), actor(0.01, width=0.3)),
            1.0: (actor(0.59, width=0.3),),
            5.0: (actor(0.0),),
        }
    )
    found.number_like(truth)
    assert truth.numbers == [[1, 2], [1, 2]]
    assert found.numbers == [[2, 3, 1], [2], [4]]
    # Boxes that jump are two stretches of one person, who has one number.
    jumping = Timeline({0.0: (actor(0.0, width=0.2),), 1.0: (actor(0.13, width=0.17),)})
    assert jumping.numbers == [[1], [2]]
    wide = Timeline({t: (actor(0.0, width=0.3),) for t in (0.0, 1.0)})
    jumping.number_like(wide)
    assert jumping.numbers == [[1], [1]]
    nobody = Timeline({})
    nobody.number_like(truth)
    found.number_like(nobody)
    assert sorted({n for numbers in found.numbers for n in numbers}) == [1, 2, 3, 4]


@settings(deadline=None, max_examples=60)
@given(
    st.dictionaries(
        st.integers(0, 8), st.lists(st.floats(0, 0.6), max_size=3), min_size=1, max_size=6
    ),
    st.floats(-1, 10),
)
def test_never_more_people_than_a_neighbouring_keyframe_pair_has(
    content: dict[int, list[float]], time_s: float
) -> None:
    keyframes = {float(t): tuple(actor(x) for x in xs) for t, xs in sorted(content.items())}
    timeline = Timeline(keyframes)
    people = timeline.at(time_s)
    assert len({item.number for item in people}) == len(people)
    before = [len(v) for t, v in keyframes.items() if t <= time_s]
    after = [len(v) for t, v in keyframes.items() if t > time_s]
    assert len(people) <= (before[-1] if before else 0) + (after[0] if after else 0)
    if time_s in keyframes:
        assert len(people) == len(keyframes[time_s])


def test_people_with_ids_keep_them_as_numbers() -> None:
    """Those of a file: a sheet and the review page then number, and colour, a person alike."""
    timeline = Timeline(
        {1.0: (actor(0.0, person=7), actor(0.5, person=3)), 2.0: (actor(0.6, person=7),), 3.0: ()}
    )
    assert timeline.numbers == [[7, 3], [7], []]
    assert [item.number for item in timeline.at(1.0)] == [7, 3]
    some = Timeline({1.0: (actor(0.0, person=7), actor(0.5)), 2.0: (actor(0.0, person=7),)})
    assert some.numbers == [[1, 2], [1]]
    twice = Timeline({1.0: (actor(0.0, person=7), actor(0.5, person=7))})
    assert twice.numbers == [[1, 2]]
