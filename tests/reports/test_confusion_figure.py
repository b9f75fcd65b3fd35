"""The figure of confused classes: what it shows of few, many and no classes."""

from __future__ import annotations

import numpy as np
import pytest

from detection.evaluation.confusion import NO_BOX, ConfusionTable
from detection.reports.confusion import MOST_CLASSES, ConfusionWords, draw_confusion
from detection.reports.figures import write_png

WORDS = ConfusionWords("Of the people who do the row's action: how many", "people", "val, $x_1$.")


def made(size, examples=4, *, several=True):
    share = np.full((size, size), 0.04)
    np.fill_diagonal(share, 0.76)
    names = tuple(f"action {number} $x_1$ <b>" for number in range(size))
    return ConfusionTable(names, share, np.full(size, examples), several=several)


def texts(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def ticks(figure):
    axes = figure.axes[0]
    return [
        [label.get_text() for label in axis.get_ticklabels()] for axis in (axes.yaxis, axes.xaxis)
    ]


def test_per_cents_stand_in_the_cells_and_counts_beside_the_rows():
    share = np.array([[0.5, np.nan, 0.125], [0.004, 1, 0]])
    table = ConfusionTable(("walk", "run"), share, np.array([1234, 0]), (NO_BOX,))
    figure = draw_confusion(table, WORDS)
    assert texts(figure) == ["50", "12", "100"]
    assert ticks(figure) == [["walk  1,234", "run  0"], ["walk", "run", "(no box)"]]
    title, note = figure.get_suptitle(), figure.get_supxlabel().replace("\n", " ")
    assert title == WORDS.title and note.endswith("Grey: nothing to be a share of. val, $x_1$.")
    assert "rows do not add up to 100" in note and "no box overlaps the person" in note
    assert "add up" not in draw_confusion(made(2, several=False), WORDS).get_supxlabel()


def test_right_is_blue_mistaken_is_orange_and_nothing_is_grey():
    share = np.array([[1, 1], [np.nan, 0]])
    figure = draw_confusion(ConfusionTable(("a", "b"), share, np.array([1, 1])), WORDS)
    (right, mistaken), (nothing, none) = figure.axes[0].get_images()[0].get_array()
    assert right[2] > right[0] and mistaken[0] > mistaken[2]
    assert none.tolist() == [1, 1, 1]
    assert np.ptp(nothing) < 0.06 and nothing.max() < 0.95


@pytest.mark.parametrize("size", [1, 2, 12, 45, 80])
def test_figures_grow_with_the_classes_and_are_written(tmp_path, size):
    figure = draw_confusion(made(size), WORDS)
    write_png(tmp_path / "confusion.png", figure)
    assert (tmp_path / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert len(ticks(figure)[0]) == size
    numbers = size <= 45
    assert len(texts(figure)) == numbers * size**2
    figure.draw_without_rendering()
    box = figure.axes[0].get_window_extent()
    assert box.width / size >= 13, "a cell has room for its class's name"
    below = figure.axes[0].xaxis.get_tightbbox().y0
    lines = figure.get_supxlabel().strip().count("\n") + 1
    note = figure._supxlabel.get_window_extent()
    assert note.y0 >= 0 and note.y0 + 13 * lines <= below, "the note is below the names"
    for label in figure.axes[0].get_yticklabels():
        assert label.get_window_extent().x0 >= 0, "names are whole"


def test_of_very_many_classes_those_of_the_most_mistakes_are_drawn():
    table = made(MOST_CLASSES + 20)
    share, worst = table.share.copy(), [3, 50, MOST_CLASSES + 19]
    share[worst, worst] = 0.0
    table = ConfusionTable(table.classes, share, table.examples)
    figure = draw_confusion(table, WORDS)
    rows = ticks(figure)[0]
    assert len(rows) == MOST_CLASSES
    assert all(any(row.startswith(f"action {number} ") for row in rows) for number in worst)
    assert [int(row.split()[1]) for row in rows] == sorted(int(row.split()[1]) for row in rows)
    assert "20 more classes" in figure.get_supxlabel()
    assert "more classes" not in draw_confusion(made(MOST_CLASSES), WORDS).get_supxlabel()


def test_without_labels_there_is_no_figure():
    assert draw_confusion(made(3, examples=0), WORDS) is None
