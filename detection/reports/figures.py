"""Every chart, drawn by matplotlib: SVG for pages, PNG on disk.

matplotlib is loaded by the first chart, so that commands without one start without it. Figures have
no state in common (no pyplot), take nothing from the user's own settings, and give the same bytes
each time. Texts are shown as they are: mathematical notation is off, SVG escapes them.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable
from detection.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Annotation

BLUE, ORANGE, GREEN = "#2563a8", "#d9822b", "#2f855a"
INK, SOFT, GRID = "#1b1f24", "#5b6570", "#d8dde3"
DPI = 100
_STYLE = {
    "text.parse_math": False,
    "svg.hashsalt": "detection",
    "svg.fonttype": "none",
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.facecolor": "none",
    "axes.labelcolor": SOFT,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.titlesize": 11,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "xtick.labelcolor": SOFT,
    "ytick.labelcolor": SOFT,
    "xtick.bottom": False,
    "ytick.left": False,
    "legend.frameon": False,
}
_LONG_NUMBER = re.compile(r"-?\d+\.\d{3,}")
_SPARE = re.compile(r"font-family: 'DejaVu Sans'; |(?<= ) +")
_FONTS = "'DejaVu Sans', Verdana, system-ui, sans-serif"


@contextmanager
def _style() -> Iterator[None]:
    import matplotlib.style

    with matplotlib.style.context(["default", _STYLE]), warnings.catch_warnings():
        # A letter that the font lacks is a box in PNG; browsers choose another font for SVG.
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        yield


@contextmanager
def styled_figure(width_px: int, height_px: int) -> Iterator[Figure]:
    """Give an empty figure, to be drawn on within the style of all charts."""
    with _style():
        yield _figure(width_px, height_px)


def _figure(width_px: int, height_px: int) -> Figure:
    from matplotlib.figure import Figure

    return Figure((width_px / DPI, height_px / DPI), dpi=DPI, layout="constrained")


def write_png(path: str | Path, figure: Figure) -> None:
    """Write a figure as PNG, whole or not at all."""
    content = io.BytesIO()
    with _style():
        figure.savefig(content, format="png", dpi=DPI, metadata={"Software": None})
    with replacing(path) as temporary:
        temporary.write_bytes(content.getvalue())


def svg(figure: Figure, *, label: str, titles: Mapping[str, str] | None = None) -> str:
    """Return a figure as an SVG element for a page, as wide as its place but not wider than drawn.

    label: what it shows, for those who cannot see it.  titles: by the `gid` of an artist, the text
    that is shown while the pointer is over it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    content = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with _style():
        FigureCanvasSVG(figure).print_svg(content, metadata=nothing)  # type: ignore[no-untyped-call]
    root = ElementTree.fromstring(content.getvalue())
    titles = titles or {}
    kept = {*re.findall(r'(?:href="|url\()#([\w-]+)', content.getvalue()), *titles}
    for metadata in root.findall("{*}metadata"):
        root.remove(metadata)
    for element in list(root.iter()):
        element.tag = element.tag.rpartition("}")[2]
        element.attrib = {
            name.rpartition("}")[2]: _SPARE.sub("", _LONG_NUMBER.sub(_short, value))
            for name, value in element.attrib.items()
            if (name != "id" or value in kept) and not value.startswith("rotate(-0 ")
        }
        if element.get("id") in titles:
            title = ElementTree.SubElement(element, "title")
            title.text = printable(titles[element.attrib.pop("id")])
        if not (element.text or "").strip():
            element.text = None
        element.tail = None
    width = round(figure.get_figwidth() * DPI)
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "style": f"width: 100%; max-width: {width}px; font-family: {_FONTS}",
        "role": "img",
        "aria-label": printable(label),
    }
    return ElementTree.tostring(root, encoding="unicode")


def _short(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


# --- lines within the unit square -------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A line within the unit square. x, y: (points,); NaN where there is a gap."""

    name: str
    color: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]


@dataclass(frozen=True)
class UnitPanel:
    """Lines in axes from 0 to 1.  marks: places on the x axis and what they are."""

    title: str
    x_name: str
    lines: Sequence[Line]
    marks: Sequence[tuple[float, str]] = ()


def unit_panels(panels: Sequence[UnitPanel]) -> Figure:
    """Return panels side by side."""
    with _style():
        figure = _figure(600 * len(panels), 460)
        for axes, panel in zip(_row(figure, len(panels)), panels, strict=True):
            axes.set(xlim=(0, 1), ylim=(0, 1), xlabel=panel.x_name)
            axes.set_title(cut_text(panel.title, 60))
            for line in panel.lines:
                axes.plot(line.x, line.y, color=line.color, label=line.name, clip_on=False)
            for level, (x, name) in enumerate(panel.marks):
                axes.axvline(x, color=SOFT, linewidth=1)
                left = x > 0.8
                axes.annotate(
                    name, (x, 0), (-4 if left else 4, 6 + 13 * level),
                    textcoords="offset points", color=SOFT, ha="right" if left else "left",
                    bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
                )  # fmt: skip
        names = figure.axes[0].get_legend_handles_labels()
        figure.legend(*names, loc="outside lower left", ncols=len(panels[0].lines))
        return figure


@dataclass(frozen=True)
class Curve:
    """A line of values over a number that grows.  faint: in the background; marked: with dots."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False
    marked: bool = False


def curve_panels(panels: Sequence[Sequence[Curve]], *, x_name: str) -> Figure:
    """Return panels side by side, over the same numbers, each with a legend of its own.

    The last value of a marked curve is written beside it. A lone one, which has no scale of its
    own, stands between 0 and 1 where it is a share.
    """
    from matplotlib.ticker import MaxNLocator

    numbers = [x for curves in panels for curve in curves for x in curve.x]
    margin = 0.05 * (max(numbers) - min(numbers)) or 0.5

    with _style():
        figure = _figure(600 * len(panels), 400)
        for axes, curves in zip(_row(figure, len(panels)), panels, strict=True):
            for curve in curves:
                axes.plot(
                    curve.x, curve.y, label=curve.name, color=GRID if curve.faint else BLUE,
                    marker="o" if curve.marked else None, linewidth=1 if curve.faint else 2,
                )  # fmt: skip
                if curve.marked:
                    axes.annotate(
                        f"{curve.y[-1]:.4f}", (curve.x[-1], curve.y[-1]), (-8, 8), ha="right",
                        textcoords="offset points", color=SOFT,
                    )  # fmt: skip
                    if len(curve.y) == 1 and 0 <= curve.y[0] <= 1:
                        axes.set_ylim(0, 1)
            axes.set(xlabel=x_name, xlim=(min(numbers) - margin, max(numbers) + margin))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="best", frameon=False)
        return figure


def _row(figure: Figure, count: int) -> Sequence[Axes]:
    return figure.subplots(1, count, squeeze=False)[0].tolist()  # type: ignore[no-any-return]


def cut_text(text: str, length: int) -> str:
    """Return a text of others as one line of at most so many letters."""
    text = printable(text)
    return text if len(text) <= length else text[: length - 1] + "…"


# --- a class: precision over recall, and scores -----------------------------------------------


@dataclass(frozen=True)
class ClassCurves:
    """What is drawn of a class.

    recall, precision: (points,).  edges: (bins + 1,) scores.  wrong, right: (bins,) detections.
    """

    name: str
    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    edges: NDArray[np.float64]
    wrong: NDArray[np.int64]
    right: NDArray[np.int64]


def class_svgs(classes: Sequence[ClassCurves]) -> list[str]:
    """Return two small charts side by side for each class: one figure, filled again and again."""
    with _style():
        figure = _figure(340, 130)
        figure.patch.set_visible(False)
        curve, scores = _row(figure, 2)
        for axes, x_name, y_name in (
            (curve, "recall", "precision"), (scores, "score", "count"),
        ):  # fmt: skip
            axes.tick_params(labelsize=6.5, pad=1)
            axes.set_xlabel(x_name, fontsize=6.5, labelpad=-5)
            axes.set_ylabel(y_name, fontsize=6.5, labelpad=-6)
            axes.grid(False)
        unit = [0.0, 1.0]
        curve.set(xlim=unit, ylim=unit, xticks=unit, yticks=unit)
        curve.set(xticklabels=["0", "1"], yticklabels=["0", "1"])
        (line,) = curve.plot([], [], color=BLUE, linewidth=1.2, clip_on=False)
        steps = [
            scores.stairs([0.0], unit, fill=True, color=color, alpha=alpha, linewidth=0)
            for color, alpha in ((ORANGE, 0.55), (BLUE, 0.75))
        ]
        scores.set(ylim=unit, yticks=[1], yticklabels=["999k"])
        scores.set_xticks(unit, ["-0.99", "0.99"])
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # what has its place once keeps it
        out = []
        for one in classes:
            line.set_data(one.recall, one.precision)
            most = max(int(one.wrong.max()), int(one.right.max()))
            for shape, count in zip(steps, (one.wrong, one.right), strict=True):
                shape.set_data(np.log1p(count) / math.log1p(max(most, 1)), one.edges)
            ends = one.edges[[0, -1]].tolist()
            scores.set_xlim(*ends)
            left, right = scores.set_xticks(ends, [f"{end:.2g}" for end in ends])
            left.label1.set_horizontalalignment("left")
            right.label1.set_horizontalalignment("right")
            scores.set_yticks([1], [f"{most}" if most < 1000 else f"{most / 1000:.0f}k"])
            out.append(svg(figure, label=f"{one.name}: precision over recall, and scores"))
        return out


# --- scores over costs ------------------------------------------------------------------------


@dataclass(frozen=True)
class Point:
    """A network.  x: cost.  y: score.  scores: by seed.  label, title: beside it, on hovering."""

    x: float
    y: float
    scores: Sequence[float] = ()
    label: str = ""
    title: str = ""


@dataclass(frozen=True)
class SearchPlot:
    """All points, the path as positions among them, and the names of the axes.

    again: networks trained again. They cost about the same and stand side by side in columns of
    their own, right of the axis of costs, on the same scale of scores.
    """

    points: Sequence[Point]
    path: Sequence[int]
    x_name: str
    y_name: str
    title: str = ""
    again: Sequence[Point] = ()

    def __post_init__(self) -> None:
        if not self.points:
            raise ValueError("a plot without a point")
        if min(point.x for point in self.points) <= 0:
            raise ValueError("costs must be above 0, the axis is logarithmic")

    def key(self) -> str:
        """Say what the columns are; empty without any."""
        names = [f"{index} {point.label}" for index, point in enumerate(self.again, start=1)]
        return f"trained again: {', '.join(names)}" if names else ""

    def svg(self) -> str:
        """Return the plot for a page; points have titles."""
        titles = {
            f"point-{number}": point.title or point.label
            for number, point in enumerate([*self.points, *self.again])
        }
        return svg(search_figure(self), label=self.title or self.y_name, titles=titles)


def search_figure(plot: SearchPlot) -> Figure:
    """Return grey candidates, the path in blue, and networks trained again in orange."""
    with _style():
        figure = _figure(940, 520)
        columns = len(plot.again)
        widths = [18, columns] if columns else [18]
        grid = figure.add_gridspec(1, len(widths), width_ratios=widths)
        axes = figure.add_subplot(grid[0])
        _cost_axis(axes, plot)
        chosen = set(plot.path)
        for number, point in enumerate(plot.points):
            on_path = number in chosen
            _mark(axes, point, point.x, number, BLUE if on_path else SOFT, 10 if on_path else 6)
        corners = [plot.points[number] for number in plot.path]
        axes.plot([p.x for p in corners], [p.y for p in corners], color=BLUE, zorder=3)
        if columns:
            beside = figure.add_subplot(grid[1], sharey=axes)
            beside.set(xlim=(0.5, columns + 0.5), xticks=range(1, columns + 1))
            beside.tick_params(labelleft=False)
            beside.grid(False, axis="x")
            for column, point in enumerate(plot.again, start=1):
                _mark(beside, point, column, len(plot.points) + column - 1, ORANGE, 10)
            figure.supxlabel(cut_text(plot.key(), 150), x=0.99, ha="right", fontsize=9, color=SOFT)
        figure.draw_without_rendering()
        _place_labels(axes, plot)
        return figure


def _cost_axis(axes: Axes, plot: SearchPlot) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

    costs = [math.log(point.x) for point in plot.points]
    margin = max(0.12, 0.06 * (max(costs) - min(costs)))
    low, high = math.exp(min(costs) - margin), math.exp(max(costs) + margin)
    ys = [y for point in [*plot.points, *plot.again] for y in (point.y, *point.scores)]
    margin = max(0.01, 0.08 * (max(ys) - min(ys)))
    axes.set_xscale("log")
    axes.set(xlim=(low, high), ylim=(min(ys) - margin, max(ys) + margin))
    axes.set_xlabel(printable(plot.x_name), loc="right")
    axes.set_title(f"{cut_text(plot.title, 90)}\n" if plot.title else "")
    axes.annotate(
        printable(plot.y_name), (0, 1), (0, 5), xycoords="axes fraction",
        textcoords="offset points", color=SOFT,
    )  # fmt: skip
    round_costs = LogLocator(subs=(1, 2, 5)) if high > 8 * low else MaxNLocator(6)
    axes.xaxis.set_major_locator(round_costs)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 5, 10]))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_number))


def _number(value: float, _: Any = None) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


def _mark(axes: Axes, point: Point, x: float, number: int, color: str, size: float) -> None:
    ends, gid = (point.y, *point.scores), f"point-{number}"
    axes.plot([x, x], [min(ends), max(ends)], color=color, zorder=2)
    axes.plot([x], [point.y], "o", color=color, markersize=size * 72 / DPI, zorder=4, gid=gid)


# Where a label is tried, in points from its point: left above, right below, and further off.
_NEAR = [(-6, 6), (6, -14), (-6, -14), (6, 6)]
_OFFSETS = [*_NEAR, (-6, 18), (6, -26), (-6, -26), (22, -20), (-6, 30), (-6, 42)]


def _place_labels(axes: Axes, plot: SearchPlot) -> None:
    """Name the axes of the path: over no other label, and over as few points as can be.

    The path is taken from its end on: a contraction lies left of the step that it takes back.
    """
    spots = axes.transData.transform([(point.x, point.y) for point in plot.points])
    route = spots[list(plot.path)]
    shares = np.linspace(0, 1, 40)[:, None]
    between = [a + shares * (b - a) for a, b in zip(route[:-1], route[1:], strict=True)]
    taken = np.concatenate([spots, *between])
    labels: list[Any] = []
    for number in reversed(plot.path):
        point = plot.points[number]
        if not point.label:
            continue
        tries = []
        for offset in _OFFSETS:
            label = _label(axes, point, offset)
            box = label.get_window_extent()
            label.remove()
            outside = not axes.bbox.contains(*box.min) or not axes.bbox.contains(*box.max)
            covers = sum(box.overlaps(other) for other in labels)
            inside = (taken > np.array(box.min) - 2) & (taken < np.array(box.max) + 2)
            tries.append((1000 * (outside + covers) + int(inside.all(axis=1).sum()), offset, box))
        _, offset, box = min(tries, key=lambda tried: tried[0])
        _label(axes, point, offset)
        labels.append(box)


def _label(axes: Axes, point: Point, offset: tuple[int, int]) -> Annotation:
    return axes.annotate(
        printable(point.label), (point.x, point.y), offset, textcoords="offset points", zorder=5,
        ha="left" if offset[0] == 6 else "right", gid="label",
    )  # fmt: skip
