"""What a run's log says of its learning, and the figure of it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from detection.reports.learning_curve import (
    LearningCurve,
    _means,
    draw_learning_curve,
    read_learning_curve,
)


def write_log(path, *events):
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def update(number, loss):
    return {"event": "update", "update": number, "loss": loss}


def test_losses_and_scores_by_update(tmp_path):
    log = write_log(
        tmp_path / "log.jsonl",
        {"event": "start"},
        update(1, 0.9),
        update(2, 0.8),
        {"event": "evaluation", "epoch": 0, "mean_ap": 0.25},
        update(3, 0.7),
        {"event": "final", "mean_ap": 0.5},
    )
    curve = read_learning_curve(log, metric="mean_ap")
    assert curve == LearningCurve(((1, 0.9), (2, 0.8), (3, 0.7)), ((2, 0.25), (3, 0.5)), "mean_ap")
    assert not read_learning_curve(log, metric="top1").scores


def test_what_a_resumed_run_did_again_counts_as_done_last(tmp_path):
    log = write_log(
        tmp_path / "log.jsonl",
        *(update(number, 1.0) for number in (1, 2, 3, 4)),
        {"event": "evaluation", "mean_ap": 0.9},
        {"event": "resume", "update": 2},
        update(3, 0.5),
        {"event": "evaluation", "mean_ap": 0.1},
    )
    curve = read_learning_curve(log, metric="mean_ap")
    assert curve.losses == ((1, 1.0), (2, 1.0), (3, 0.5))
    assert curve.scores == ((3, 0.1),)


def test_a_line_that_was_cut_short_is_left_out(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text(
        json.dumps(update(1, 0.5)) + '\n{"event": "upd\n7\n' + json.dumps(update(2, 0.4))
    )
    assert read_learning_curve(log, metric="x").losses == ((1, 0.5), (2, 0.4))


def test_nothing_learned_is_no_figure(tmp_path):
    (tmp_path / "log.jsonl").write_text("")
    assert draw_learning_curve(read_learning_curve(tmp_path / "log.jsonl", metric="x")) is None


@pytest.mark.parametrize("count", [1, 2, 39, 200])
def test_means_are_those_of_the_updates_around(count):
    values = np.random.default_rng(count).random(count)
    if count > 2:
        values[count // 2] = math.nan
    reach = max(1, math.ceil(0.05 * count / 2))
    plain = [np.nanmean(values[max(0, i - reach) : i + reach + 1]) for i in range(count)]
    assert _means(values.tolist()) == pytest.approx(plain)
    assert all(map(math.isnan, _means([math.nan])))


def test_the_figure_shows_both():
    curve = LearningCurve(((1, 0.9), (2, 0.8)), ((2, 0.25),), "mean_ap")
    loss, score = draw_learning_curve(curve).axes
    assert [line.get_label() for line in loss.lines] == ["loss", "its mean over updates around"]
    assert loss.lines[0].get_ydata() == pytest.approx([0.9, 0.8])
    assert score.lines[0].get_label() == "mean_ap" and score.get_xlabel() == "update"
    assert len(draw_learning_curve(LearningCurve(((1, 1.0),), (), "x")).axes) == 1


@pytest.mark.parametrize(
    ("scores", "shown_y"),
    [([(40, 0.1435)], (0, 1)), ([(20, 0.71), (40, 0.74)], None), ([(40, 3.5)], None)],
)
def test_scores_stand_over_the_updates_of_the_losses(scores, shown_y):
    losses = tuple((number, 1 / number) for number in range(1, 41))
    loss, score = draw_learning_curve(LearningCurve(losses, tuple(scores), "mean_ap")).axes
    assert score.get_xlim() == loss.get_xlim() and loss.get_xlim()[0] < 1 < 40 < loss.get_xlim()[1]
    assert [text.get_text() for text in score.texts] == [f"{scores[-1][1]:.4f}"]
    assert (score.get_ylim() == (0, 1)) is (shown_y is not None)


def test_a_single_update_has_axes_too():
    (loss,) = draw_learning_curve(LearningCurve(((1, 0.5),), (), "mean_ap")).axes
    assert loss.get_xlim() == (0.5, 1.5)
