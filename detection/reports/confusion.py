"""The figure of which classes are taken for which: `confusion.png` of a run."""

from __future__ import annotations

import math
import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from detection.evaluation.confusion import NO_BOX, NO_PERSON, NOT_READ, NOTHING, ConfusionTable
from detection.reports.figures import BLUE, GRID, INK, ORANGE, SOFT, cut_text, styled_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm
    from matplotlib.figure import Figure

MOST_CLASSES = 100  # drawn; of more, those of the most mistakes
_MOST_LETTERS = 34  # of a class name
_LEAST_WIDTH_PX, _BARS_PX = 720, 170
# Side of a cell in pixels and size of its number in points, by how many columns there are at most.
_CELLS = ((6, 52, 9.0), (14, 40, 8.5), (26, 30, 7.5), (45, 24, 6.5))
_SMALL_CELL = (14, None)  # numbers would not be legible
_EXPLAINED = {
    NOTHING: "no class reaches its threshold",
    NO_BOX: "no box overlaps the person by IoU 0.5",
    NOT_READ: "videos that could not be read",
    NO_PERSON: "boxes that overlap no labelled person by IoU 0.5",
}


@dataclass(frozen=True)
class ConfusionWords:
    """What the figure says of its numbers.

    title: what an entry is.  examples: what rows count ("people").  source: of the labels, scores
    and thresholds, in a line.
    """

    title: str
    examples: str
    source: str


def draw_confusion(table: ConfusionTable, words: ConfusionWords) -> Figure | None:
    """Return the figure; None where nothing is labelled and no box is of no person."""
    if not table.examples.any():
        return None
    shown, left_out = _shown(table)
    side_px, number_pt = _cell(len(shown.columns))
    labels, small = _row_labels(shown), number_pt is None
    bars_px = _BARS_PX if small else 0
    across = 7 * max(map(len, labels)) + side_px * len(shown.columns) + 60
    width = max(_LEAST_WIDTH_PX, across + bars_px)
    notes = ["", *textwrap.wrap(_notes(shown, words, left_out), width // 7)]
    titles = textwrap.wrap(words.title, width // 9)
    names_px = (7 if small else 5) * max(min(len(x), _MOST_LETTERS) for x in shown.columns)
    height = side_px * len(shown.rows) + names_px + 18 * len(titles) + 14 * len(notes) + 75
    with styled_figure(width, height) as figure:
        axes = figure.subplots()
        image, diagonal, beside, norm = _colored(shown.share, len(shown.classes))
        axes.imshow(image, interpolation="nearest")
        axes.set_anchor("NW")
        _label_axes(axes, shown, labels, small=small)
        if number_pt is not None:
            _write_numbers(axes, shown.share, number_pt)
        else:
            _color_bars(figure, axes, norm, (diagonal, beside))
        figure.suptitle("\n".join(titles), x=0.01, ha="left", weight="bold", fontsize=10.5)
        figure.supxlabel("\n".join(notes), x=0.01, ha="left", fontsize=8.5, color=SOFT)
        return figure


def _shown(table: ConfusionTable) -> tuple[ConfusionTable, int]:
    """Return the table of the classes that are drawn, and how many are left out."""
    classes = len(table.classes)
    if classes <= MOST_CLASSES:
        return table, 0
    worst = np.argsort(-table.mistakes, kind="stable")[:MOST_CLASSES]
    return table.select(sorted(worst.tolist())), classes - MOST_CLASSES


def _cell(num_columns: int) -> tuple[int, float | None]:
    """Return the side of a cell in pixels, and the size of its number; None: it has none."""
    for most, side_px, number_pt in _CELLS:
        if num_columns <= most:
            return side_px, number_pt
    return _SMALL_CELL


def _row_labels(table: ConfusionTable) -> list[str]:
    return [
        f"{cut_text(name, _MOST_LETTERS)}  {count:,}"
        for name, count in zip(table.rows, table.examples.tolist(), strict=True)
    ]


def _notes(table: ConfusionTable, words: ConfusionWords, left_out: int) -> str:
    notes = [
        f"Rows: what is labelled, and how many {words.examples}. Blue: right, orange: mistaken."
    ]
    if table.several:
        notes.append(
            "On the diagonal: of all of the row's class. Several classes may hold, so rows do not "
            "add up to 100."
        )
    notes += [f"{name}: {_EXPLAINED[name]}." for name in (*table.more_columns, *table.more_rows)]
    if np.isnan(table.share[: len(table.classes), : len(table.classes)]).any():
        notes.append("Grey: nothing to be a share of.")
    if left_out:
        notes.append(f"{left_out} more classes, of fewer mistakes, are not drawn.")
    return " ".join([*notes, words.source])


def _colored(
    share: NDArray[np.float64], num_classes: int
) -> tuple[NDArray[np.float64], LinearSegmentedColormap, LinearSegmentedColormap, PowerNorm]:
    """Return the (R, C, 3) image, the colours of its diagonal and of the rest, and their scale."""
    from matplotlib.colors import LinearSegmentedColormap, PowerNorm, to_rgb

    diagonal, beside = (
        LinearSegmentedColormap.from_list(name, ["#ffffff", color])
        for name, color in (("right", BLUE), ("mistaken", ORANGE))
    )
    norm = PowerNorm(0.6, vmin=0, vmax=1)  # few mistakes are to be seen, too
    values = np.asarray(norm(np.nan_to_num(share)))
    image = np.asarray(beside(values))[..., :3]
    own = np.arange(num_classes)
    image[own, own] = np.asarray(diagonal(values[own, own]))[..., :3]
    image[np.isnan(share)] = to_rgb(GRID)
    return image, diagonal, beside, norm


def _label_axes(axes: Axes, table: ConfusionTable, labels: list[str], *, small: bool) -> None:
    rows, columns = len(table.rows), len(table.columns)
    names = [cut_text(name, _MOST_LETTERS) for name in table.columns]
    size = 7.0 if small else 8.5
    axes.set_yticks(range(rows), labels, fontsize=size)
    turned: dict[str, Any] = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
    if small:
        turned = {"rotation": 90}
    axes.set_xticks(range(columns), names, fontsize=size, **turned)
    axes.set_xticks(np.arange(0.5, columns - 1), minor=True)
    axes.set_yticks(np.arange(0.5, rows - 1), minor=True)
    axes.grid(False, which="major")
    axes.grid(True, which="minor", color="#ffffff", linewidth=0.8 if small else 1.5)
    axes.tick_params(which="minor", length=0)
    axes.set(ylabel="labelled", xlabel="scored")
    for lines in (axes.axhline, axes.axvline):  # between classes and the rest
        if (rows if lines == axes.axhline else columns) > len(table.classes):
            lines(len(table.classes) - 0.5, color=SOFT, linewidth=1)


def _write_numbers(axes: Axes, share: NDArray[np.float64], size_pt: float) -> None:
    """Write per cents into the cells; none where there is nothing, or less than half a per cent."""
    for (row, column), value in np.ndenumerate(share):
        if not math.isnan(value) and (percent := round(100 * value)) > 0:
            color = "#ffffff" if value > 0.5 else INK
            axes.text(
                column, row, str(percent), ha="center", va="center", fontsize=size_pt, color=color
            )


def _color_bars(
    figure: Figure, axes: Axes, norm: PowerNorm, colors: tuple[LinearSegmentedColormap, ...]
) -> None:
    """Draw the scale of both colours beside the cells, of which each is a few pixels."""
    from matplotlib.cm import ScalarMappable

    ticks = (0, 0.05, 0.25, 0.5, 1)
    rows, columns = axes.get_images()[0].get_size()
    wide, high = columns * _SMALL_CELL[0], rows * _SMALL_CELL[0]  # pixels, about
    for number, color in enumerate(colors):
        left_px = 20 + 70 * number
        place = axes.inset_axes((1 + left_px / wide, 1 - 320 / high, 20 / wide, 300 / high))
        bar = figure.colorbar(ScalarMappable(norm, color), cax=place)
        bar.set_ticks(ticks, labels=[f"{100 * tick:.0f} %" for tick in ticks], fontsize=7)
        bar.outline.set_visible(False)
