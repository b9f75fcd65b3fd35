"""The paper's path gives the published costs, counted on networks built at each step."""

from __future__ import annotations

import dataclasses

import pytest

from ava_tools import expand
from detection.expansion import cost
from detection.expansion.replay import PAPER_PATH, replay
from detection.models.classifier import build_classifier
from detection.models.x3d import VARIANTS

# MMAC to the digits printed in the reference table
MMAC = (20.66, 41.0, 80.2, 153.4, 303.6, 605, 1209, 2415, 1963, 4732, 9452, 18368, 35838)
DIGITS = (2, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)


MACS = cost.macs_cost(build_classifier)  # remembers what it counted


def test_costs_to_the_printed_digits():
    counted = zip(replay(MACS), DIGITS, strict=True)
    assert [round(row.cost / 1e6, digits) for row, digits in counted] == list(MMAC)


def test_named_steps_are_the_published_networks():
    shapes = ("num_frames", "train_crop", "width_factor", "depth_factor", "bottleneck_factor")
    named = {
        row.step.name.removeprefix("X3D-").lower(): row.description
        for row in replay(MACS)
        if row.step.name
    }
    assert set(named) == set(VARIANTS)
    for name, description in named.items():
        for field in shapes:
            assert getattr(description, field) == getattr(VARIANTS[name], field), (name, field)


def test_every_step_about_doubles_and_the_contraction_shrinks():
    for row in replay(MACS):
        if row.step.axis is None:
            assert row.growth == 1
        elif row.step.contraction:
            assert row.growth == pytest.approx(13 / 16, abs=0.01)
        else:
            assert 1.85 < row.growth < 2.05


def test_the_command_prints_the_costs(monkeypatch, capsys):
    monkeypatch.setattr(cost, "macs_cost", lambda _: MACS)  # counted above, once
    assert expand.main(["--replay", "paper"]) == 0
    said = capsys.readouterr().out
    for number in ("20.66", "153.40", "1,962.89", "4,732.47", "35,837.63"):
        assert number in said


def test_a_changed_factor_moves_the_cost():
    path = list(PAPER_PATH)
    path[4] = dataclasses.replace(path[4], changes={"depth_factor": 3.0})
    before = [row.cost for row in replay(MACS)]
    after = [row.cost for row in replay(MACS, tuple(path))]
    assert before[:4] == after[:4]
    assert all(new > old for old, new in zip(before[4:11], after[4:11], strict=True))
