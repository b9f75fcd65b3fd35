"""Coordinate descent on landscapes whose best path is known."""

from __future__ import annotations

import dataclasses
import math

import pytest
from landscape import rule_of_thumb

from detection.errors import UserError
from detection.expansion.axes import AXES, DataLimits
from detection.expansion.baselines import grow_all_together, grow_at_random
from detection.expansion.search import Outcome, Search
from detection.models.x3d import VARIANTS

BASIS = dataclasses.replace(VARIANTS["x2d"], step=6)
START = rule_of_thumb(BASIS)


def by(score):
    """Return a trainer that scores each network by a formula and keeps what it was asked."""
    asked = []

    def train(required):
        asked.append(list(required))
        return [Outcome((score(one.description),)) for one in required]

    return train, asked


def only_frames(description):
    return float(description.num_frames)


def test_the_axis_that_pays_is_chosen_every_time():
    train, asked = by(only_frames)
    search = Search(BASIS, rule_of_thumb, target=8 * START)
    steps = list(search.run(train))
    assert [step.choice.axis for step in steps] == [None, "frame_rate", "frame_rate", "frame_rate"]
    assert [step.choice.description.num_frames for step in steps] == [1, 2, 4, 8]
    assert [len(group) for group in asked] == [1, 6, 6, 6]
    assert {one.axis for one in steps[1].candidates} == set(AXES)
    assert asked[2][0].parent == steps[1].choice.description


def test_an_overshoot_is_contracted_on_the_last_axis_alone():
    train, _ = by(lambda description: description.train_crop / 100)
    search = Search(BASIS, rule_of_thumb, target=5 * START)
    steps = list(search.run(train))
    last, before = steps[-1], steps[-2]
    assert last.contraction
    assert last.choice.cost <= 5 * START < before.choice.cost
    changed = {"train_crop", "train_short_side", "test_crop"}
    a, b = (
        dataclasses.asdict(last.choice.description),
        dataclasses.asdict(before.choice.description),
    )
    assert {key for key in a if a[key] != b[key]} == changed
    assert last.choice.description.train_crop > steps[-3].choice.description.train_crop


def test_every_cost_is_within_the_tolerance_and_the_rest_is_said():
    train, _ = by(lambda description: description.depth_factor)
    search = Search(BASIS, rule_of_thumb, target=12 * START, factor=1.6)
    for step in search.run(train):
        assert {one.axis for one in step.left_out} | {one.axis for one in step.candidates} in (
            set(AXES),
            {None},
            {step.choice.axis},
        )
        for candidate in step.candidates:
            if candidate.axis is not None and not step.contraction:
                assert abs(candidate.cost / candidate.asked - 1) <= 0.15


def test_a_failed_candidate_is_kept_and_not_chosen():
    def train(required):
        return [
            Outcome(failure="out of memory")
            if one.description.num_frames > 1
            else Outcome((one.description.width_factor,))
            for one in required
        ]

    search = Search(BASIS, rule_of_thumb, target=2 * START)
    steps = list(search.run(train))
    assert steps[1].choice.axis == "width"
    failed = [one for one in steps[1].candidates if one.outcome.failure]
    assert {one.axis for one in failed} == {"frames", "frame_rate"}


def test_a_score_that_is_no_number_is_never_the_best():
    assert Outcome((math.nan, 0.5)).mean == -math.inf
    assert Outcome((0.4, 0.6)).mean == pytest.approx(0.5)
    assert Outcome((0.4, 0.6)).spread == pytest.approx(0.1)
    assert Outcome().mean == -math.inf


def test_all_failed_ends_the_search_with_the_first_reason():
    with pytest.raises(UserError, match="no disk"):
        list(
            Search(BASIS, rule_of_thumb, target=2 * START).run(
                lambda required: [Outcome(failure="no disk")] * len(required)
            )
        )


def test_a_target_below_the_basis_is_refused():
    with pytest.raises(UserError, match="below the basis"):
        Search(BASIS, rule_of_thumb, target=0.5 * START)


def test_a_target_at_the_basis_trains_it_alone():
    train, asked = by(only_frames)
    assert len(list(Search(BASIS, rule_of_thumb, target=START).run(train))) == 1
    assert len(asked) == 1


def test_data_that_end_first_end_the_search_with_reasons():
    train, _ = by(only_frames)
    search = Search(
        BASIS,
        rule_of_thumb,
        target=64 * START,
        axes=("frames", "resolution"),
        limits=DataLimits(longest_clip_s=0.5, largest_side_px=160),
    )
    with pytest.raises(UserError, match="no axis can grow.*the clips last.*the videos have 160"):
        list(search.run(train))


def test_going_through_a_search_again_asks_the_same():
    search = Search(BASIS, rule_of_thumb, target=5 * START)
    train, first = by(only_frames)
    list(search.run(train))
    train, second = by(only_frames)
    list(search.run(train))
    assert first == second


def test_all_axes_together_grow_all_and_fit():
    grown = grow_all_together(Search(BASIS, rule_of_thumb, target=30 * START))
    assert 0.85 * 30 * START < rule_of_thumb(grown) <= 30 * START
    for name in ("num_frames", "train_crop", "width_factor", "depth_factor", "bottleneck_factor"):
        assert getattr(grown, name) > getattr(BASIS, name), name
    assert grow_all_together(Search(BASIS, rule_of_thumb, target=START)) == BASIS


def test_random_paths_fit_and_follow_their_seed():
    paths = set()
    for seed in range(6):
        search = Search(BASIS, rule_of_thumb, target=10 * START)
        grown, path = grow_at_random(search, seed=seed)
        again = grow_at_random(search, seed=seed)
        assert (grown, path) == again
        assert 0.5 * 10 * START < rule_of_thumb(grown) <= 10 * START
        paths.add(path)
    assert len(paths) > 1
