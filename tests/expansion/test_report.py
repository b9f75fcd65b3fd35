"""Tables, picture and page of a search: complete, escaped, whole."""

from __future__ import annotations

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
from landscape import rule_of_thumb

from detection.expansion.axes import DataLimits
from detection.expansion.report import Finalist, Units, rows_of, write_report
from detection.expansion.scheduler import name_of
from detection.expansion.search import Outcome, Search
from detection.models.x3d import VARIANTS
from detection.reports.scatter import Point, Scatter, draw_scatter, scatter_svg

BASIS = dataclasses.replace(VARIANTS["x2d"], step=6)
START = rule_of_thumb(BASIS)
UNITS = Units(1e6, "MMAC", "frame-mAP")


def train(wanted):
    outcomes = []
    for one in wanted:
        network = one.description
        if network.depth_factor > 1:
            outcomes.append(Outcome(failure="out of <memory>"))
            continue
        score = 0.2 + 0.03 * np.log2(network.num_frames * network.width_factor)
        outcomes.append(Outcome((score - 0.01, score + 0.02)))
    return outcomes


@pytest.fixture(scope="module")
def steps():
    limits = DataLimits(largest_side_px=112)
    return list(Search(BASIS, rule_of_thumb, target=6 * START, limits=limits).run(train))


def test_every_candidate_has_a_row_and_every_axis_left_out_too(steps):
    rows = list(rows_of(steps, UNITS))
    expected = sum(len(step.candidates) + len(step.left_out) for step in steps)
    assert len(rows) == expected
    assert sum(row[-1] == "chosen" for row in rows) == len(steps) - 1
    assert sum(row[-1] == "contracted" for row in rows) == 1
    assert any("failed: out of <memory>" in row for row in rows)
    assert any(row[-1] == "left out: 160 px are required, the videos have 112" for row in rows)


def test_files_are_whole_and_agree(tmp_path, steps):
    finalists = [Finalist("all <together>", BASIS, START, Outcome((0.1, 0.2)))]
    write_report(
        tmp_path, steps, units=UNITS, title="<b>search</b>", remarks=["x & y"], finalists=finalists
    )
    page = (tmp_path / "search.html").read_text()
    assert "<b>search</b>" not in page
    assert "&lt;b&gt;search" in page
    assert "x &amp; y" in page
    assert "out of &lt;memory&gt;" in page
    assert "all &lt;together&gt;" in page
    assert "trained again: 1 all &lt;together&gt;" in page
    assert "http" not in page
    values = json.loads((tmp_path / "search.json").read_text())
    assert len(values["steps"]) == len(steps)
    last = values["steps"][-1]["candidates"][0]
    assert last["network"] == name_of(steps[-1].choice.description)
    assert last["cost"] == pytest.approx(steps[-1].choice.cost / 1e6)
    with (tmp_path / "search.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(list(rows_of(steps, UNITS)))
    picture = cv2.imread(str(tmp_path / "search.png"))
    assert picture is not None
    assert picture.std() > 5


def test_one_point_is_a_picture_too():
    scatter = Scatter([Point(3.0, 0.5)], [0], "cost", "score", "one")
    assert draw_scatter(scatter).shape[2] == 3
    assert scatter_svg(scatter).count("<circle") == 1


def test_places_grow_with_cost_and_score():
    scatter = Scatter([Point(1, 0.1), Point(100, 0.9)], [0, 1], "cost", "score")
    (x1, y1), (x2, y2) = scatter.place(1, 0.1), scatter.place(100, 0.9)
    assert x2 > x1
    assert y2 < y1
    assert scatter.place(10, 0.5) == pytest.approx(((x1 + x2) / 2, (y1 + y2) / 2))
    assert scatter.x_ticks() == [1, 2, 5, 10, 20, 50, 100]
    assert 4 <= len(scatter.y_ticks()) <= 8


def test_networks_trained_again_stand_in_columns_with_their_whole_range():
    again = [Point(40, 0.6, (0.5, 0.65, 0.65), "first"), Point(39, 0.3, (0.2, 0.4), "second")]
    scatter = Scatter([Point(1, 0.1), Point(40, 0.5)], [0, 1], "cost", "score", again=again)
    assert scatter.place(40, 0.5)[0] < scatter.right < scatter.column(0) < scatter.column(1) < 940
    assert scatter.key() == "trained again: 1 first, 2 second"
    first, second = scatter.marks()[-2:]
    assert [end[1] for end in first.bar] == [scatter.place(1, y)[1] for y in (0.5, 0.65)]
    assert [end[1] for end in second.bar] == [scatter.place(1, y)[1] for y in (0.2, 0.4)]
    assert scatter_svg(scatter).count("<circle") == 4


def test_labels_of_a_path_do_not_cover_each_other():
    points = [Point(10 + index, 0.5 + index / 1000, label="depth: 2.3") for index in range(5)]
    places = [mark.text for mark in Scatter(points, range(5), "", "").marks()]
    for index, (x, y) in enumerate(places):
        for other_x, other_y in places[:index]:
            assert abs(y - other_y) >= 16 or abs(x - other_x) > 60


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="without a point"):
        Scatter([], [], "", "")
    with pytest.raises(ValueError, match="above 0"):
        Scatter([Point(0, 1)], [0], "", "")
