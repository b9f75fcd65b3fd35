"""The six axes: what a step may change, how near it comes, and where it stops."""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from landscape import rule_of_thumb

from detection.errors import UserError
from detection.expansion.axes import (
    AXES,
    DataLimits,
    Grown,
    SkippedAxis,
    at_rung,
    contract,
    expand,
    grow_to,
    rung,
)
from detection.expansion.cost import macs_cost, milliseconds_cost, parameter_cost, remembered
from detection.expansion.scheduler import Stopped
from detection.expansion.search import Search
from detection.models.action_detector import build_detector
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import VARIANTS

X2D = VARIANTS["x2d"]
BUILD = functools.partial(build_classifier, head=HeadDescription(10))
MACS = macs_cost(BUILD)
OWN = {
    "frame_rate": {"num_frames", "step"},
    "frames": {"num_frames"},
    "resolution": {"train_crop", "train_short_side", "test_crop"},
    "width": {"width_factor"},
    "bottleneck": {"bottleneck_factor"},
    "depth": {"depth_factor"},
}


@pytest.mark.parametrize("axis", AXES)
def test_a_step_changes_one_axis_and_about_doubles_the_cost(axis):
    start = dataclasses.replace(X2D, num_frames=2, step=12)
    grown = expand(start, axis, cost=MACS)
    assert isinstance(grown, Grown)
    assert grown.cost == MACS(grown.description)
    assert grown.asked == 2 * MACS(start)
    assert abs(grown.cost / grown.asked - 1) <= 0.15
    before, after = dataclasses.asdict(start), dataclasses.asdict(grown.description)
    assert {key for key in before if before[key] != after[key]} == OWN[axis]


@pytest.mark.parametrize("axis", AXES)
def test_no_neighbouring_rung_comes_nearer(axis):
    grown = expand(X2D, axis, cost=rule_of_thumb, factor=3)
    assert isinstance(grown, Grown)
    index = rung(grown.description, axis)
    distance = abs(math.log(grown.cost / grown.asked))
    for other in (index - 1, index + 1):
        cost = rule_of_thumb(at_rung(X2D, axis, other))
        assert abs(math.log(cost / grown.asked)) >= distance - 1e-12


def test_frame_rate_keeps_the_duration_and_frames_keep_the_rate():
    start = dataclasses.replace(X2D, num_frames=4, step=12)
    finer = expand(start, "frame_rate", cost=rule_of_thumb)
    longer = expand(start, "frames", cost=rule_of_thumb)
    assert isinstance(finer, Grown)
    assert isinstance(longer, Grown)
    assert finer.description.num_frames * finer.description.step == pytest.approx(48)
    assert longer.description.step == 12
    assert longer.description.num_frames == 8


def test_resolution_keeps_the_paper_s_short_sides():
    assert at_rung(X2D, "resolution", 40) == dataclasses.replace(
        X2D, train_crop=160, train_short_side=(182, 228), test_crop=182
    )


@given(
    axis=st.sampled_from(AXES),
    factor=st.floats(1.2, 4),
    frames=st.integers(1, 12),
    crop=st.integers(8, 40),
    width=st.integers(10, 60),
)
@settings(max_examples=60, deadline=None)
def test_a_growth_never_misses_by_more_than_the_tolerance(axis, factor, frames, crop, width):
    start = dataclasses.replace(
        at_rung(X2D, "resolution", crop), num_frames=frames, width_factor=width / 20
    )
    result = expand(start, axis, cost=rule_of_thumb, factor=factor)
    if isinstance(result, Grown):
        assert rule_of_thumb(result.description) == result.cost
        assert abs(result.cost / (factor * rule_of_thumb(start)) - 1) <= 0.15
    else:
        assert result.axis == axis
        assert result.reason


def test_what_the_videos_cannot_give_is_left_out_and_said():
    start = dataclasses.replace(X2D, num_frames=4, step=12)
    cases = [
        ("frames", DataLimits(longest_clip_s=2.0), "the clips last 2.00 s"),
        ("frame_rate", DataLimits(fastest_fps=4), "the videos have 4.00"),
        ("resolution", DataLimits(largest_side_px=120), "the videos have 120"),
    ]
    for axis, limits, words in cases:
        result = expand(start, axis, cost=rule_of_thumb, limits=limits)
        assert isinstance(result, SkippedAxis), axis
        assert words in result.reason
        assert isinstance(expand(start, "width", cost=rule_of_thumb, limits=limits), Grown)


def test_an_axis_that_rounding_keeps_away_is_left_out():
    result = expand(X2D, "frames", cost=MACS, factor=1.5)  # one frame or two, nothing between
    assert isinstance(result, SkippedAxis)
    assert "rounding" in result.reason


def test_parameters_do_not_grow_with_frames_or_pixels():
    cost = parameter_cost(BUILD)
    for axis in ("frames", "frame_rate", "resolution"):
        assert expand(X2D, axis, cost=cost) == SkippedAxis(
            axis, "this axis does not change the cost"
        )
    assert isinstance(expand(X2D, "depth", cost=cost, factor=1.5), Grown)


def test_costs_of_actors_and_time():
    actors = macs_cost(build_detector)(dataclasses.replace(VARIANTS["m"], train_crop=256))
    assert actors / 1e9 == pytest.approx(6.18, abs=0.005)
    tiny = dataclasses.replace(at_rung(X2D, "resolution", 8), width_factor=0.5)
    milliseconds = milliseconds_cost(BUILD, device=torch.device("cpu"), repeats=1)
    assert milliseconds(tiny) > 0
    assert milliseconds(tiny) == milliseconds(tiny)  # measured once


def test_contraction_takes_back_the_last_axis_alone_until_it_fits():
    before = dataclasses.replace(VARIANTS["xs"], num_frames=8)
    cost = macs_cost(build_classifier)
    grown = expand(before, "frames", cost=cost)
    assert isinstance(grown, Grown)
    assert grown.description.num_frames == 16
    fitted = contract(grown, before, cost=cost, target=2e9)
    assert fitted.description == dataclasses.replace(before, num_frames=13)  # X3D-S
    assert fitted.cost <= 2e9 < cost(dataclasses.replace(before, num_frames=14))
    assert contract(grown, before, cost=cost, target=3e9) is grown
    with pytest.raises(ValueError, match="before the step"):
        contract(grown, before, cost=cost, target=1e9)


def test_a_factor_that_does_not_grow_is_refused():
    with pytest.raises(ValueError, match="above 1"):
        expand(X2D, "width", cost=MACS, factor=1.0)


def test_growing_to_a_cost_below_the_network_is_rounding():
    result = grow_to(X2D, "width", cost=MACS, asked=0.3 * MACS(X2D))
    assert isinstance(result, SkippedAxis)


def test_contraction_that_cannot_keep_any_growth_ends_at_the_network_before():
    before = dataclasses.replace(X2D, train_crop=70)  # between two rungs
    grown = expand(before, "resolution", cost=rule_of_thumb)
    assert isinstance(grown, Grown)
    fitted = contract(grown, before, cost=rule_of_thumb, target=rule_of_thumb(before))
    assert fitted.description == before


def test_an_axis_too_coarse_to_be_contracted_takes_no_part_in_the_last_step():
    start = dataclasses.replace(X2D, num_frames=1, step=12)
    target = 1.7 * rule_of_thumb(start)
    both = Search(start, rule_of_thumb, target=target, axes=("frames", "resolution"))
    grown, left_out = both.grow(start)
    assert [one.axis for one in grown] == ["resolution"]
    assert [one.axis for one in left_out] == ["frames"]
    assert left_out[0].reason == "rounding: contracted, it would cost 0.59 of the target"
    for far in (3 * target, target):  # early, and alone
        alone = Search(start, rule_of_thumb, target=far, axes=("frames",))
        grown, left_out = alone.grow(start)
        assert [one.axis for one in grown] == ["frames"]
        assert left_out == []


def test_costs_are_remembered_for_their_search_alone(tmp_path):
    asked = []

    def cost(description):
        asked.append(description)
        return 1.5 * len(asked)

    path = tmp_path / "costs.json"
    assert remembered(cost, path, of={"head": 1})(X2D) == 1.5
    assert remembered(cost, path, of={"head": 1})(X2D) == 1.5
    assert remembered(cost, path, of={"head": 1}, first=False)(X2D) == 1.5
    assert remembered(cost, path, of={"head": 2})(X2D) == 3.0
    assert len(asked) == 2
    waiting = remembered(cost, path, of={"head": 1}, first=False, should_stop=lambda: True)
    with pytest.raises(Stopped):
        waiting(X2D)
    path.write_text("{")
    with pytest.raises(UserError, match=r"costs\.json: not JSON"):
        remembered(cost, path, of={})
