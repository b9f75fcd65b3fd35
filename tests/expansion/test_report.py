"""Tables, chart and page of a search: complete, escaped, whole."""

from __future__ import annotations

import csv
import dataclasses
import json

import cv2
import numpy as np
import pytest
from landscape import rule_of_thumb

from detection.expansion.axes import DataLimits
from detection.expansion.report import Finalist, Units, candidate_rows, write_report
from detection.expansion.scheduler import name_of
from detection.expansion.search import Outcome, Search
from detection.models.x3d import VARIANTS
from detection.reports.figures import Point, SearchPlot, search_figure, write_png

BASIS = dataclasses.replace(VARIANTS["x2d"], step=6)
START = rule_of_thumb(BASIS)
UNITS = Units(1e6, "MMAC", "frame-mAP")


def train(required):
    outcomes = []
    for one in required:
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
    rows = list(candidate_rows(steps, UNITS))
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
    assert "trained again: 1 all &lt;together&gt;</text>" in page
    assert "http" not in page
    values = json.loads((tmp_path / "search.json").read_text())
    assert len(values["steps"]) == len(steps)
    last = values["steps"][-1]["candidates"][0]
    assert last["network"] == name_of(steps[-1].choice.description)
    assert last["cost"] == pytest.approx(steps[-1].choice.cost / 1e6)
    with (tmp_path / "search.csv").open() as file:
        assert len(list(csv.reader(file))) == 1 + len(list(candidate_rows(steps, UNITS)))
    image = cv2.imread(str(tmp_path / "search.png"))
    assert image is not None
    assert image.std() > 5


def shown(plot):
    """Return where each point, path, bar and label lies: drawn, in pixels."""
    figure = search_figure(plot)
    figure.draw_without_rendering()
    axes = figure.axes
    points = {
        line.get_gid(): line.axes.transData.transform(line.get_xydata()[0])
        for one in axes
        for line in one.lines
        if line.get_gid()
    }
    labels = [text.get_window_extent() for text in axes[0].texts if text.get_gid() == "label"]
    return axes, points, labels


def test_one_point_is_a_chart_too(tmp_path):
    plot = SearchPlot([Point(3.0, 0.5, title="x")], [0], "cost", "score", "one")
    write_png(tmp_path / "one.png", search_figure(plot))
    assert cv2.imread(str(tmp_path / "one.png")).shape == (520, 940, 3)
    assert plot.svg().count("<title>x</title>") == 1


def test_places_grow_with_cost_and_score():
    plot = SearchPlot([Point(1, 0.1), Point(100, 0.9), Point(10, 0.5)], [0, 1], "cost", "score")
    (axes,), points, _ = shown(plot)
    first, last = points["point-0"], points["point-1"]
    assert (last > first).all()
    assert points["point-2"] == pytest.approx((first + last) / 2)
    inside = [tick for tick in axes.get_xticks().tolist() if 1 <= tick <= 100]
    assert inside == pytest.approx([1, 2, 5, 10, 20, 50, 100])
    assert 4 <= len(axes.get_yticks()) <= 10


def test_networks_trained_again_stand_in_columns_with_their_whole_range():
    again = [Point(40, 0.6, (0.5, 0.65, 0.65), "first"), Point(39, 0.3, (0.2, 0.4), "second")]
    plot = SearchPlot([Point(1, 0.1), Point(40, 0.5)], [0, 1], "cost", "score", again=again)
    (costs, columns), points, _ = shown(plot)
    right = costs.bbox.x1
    assert points["point-1"][0] < right < points["point-2"][0] < points["point-3"][0] < 940
    assert plot.key() == "trained again: 1 first, 2 second"
    bars = [line.get_ydata() for line in columns.lines if not line.get_gid()]
    assert [list(bar) for bar in bars] == [[0.5, 0.65], [0.2, 0.4]]
    assert columns.get_ylim() == costs.get_ylim()


def test_labels_of_a_path_do_not_cover_each_other():
    points = [Point(10, 0.5 + index / 1e6, label="depth: 2.3") for index in range(5)]
    (axes,), _, labels = shown(SearchPlot(points, range(5), "", ""))
    assert len(labels) == 5
    for index, box in enumerate(labels):
        assert axes.bbox.x0 <= box.x0 and box.x1 <= axes.bbox.x1
        assert not any(box.overlaps(other) for other in labels[:index])


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(ValueError, match="without a point"):
        SearchPlot([], [], "", "")
    with pytest.raises(ValueError, match="above 0"):
        SearchPlot([Point(0, 1)], [0], "", "")
