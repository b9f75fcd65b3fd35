"""Charts: texts as they are, the same bytes twice, nothing from elsewhere."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from detection.reports.figures import (
    BLUE,
    ClassCurves,
    Line,
    Point,
    SearchPlot,
    UnitPanel,
    class_svgs,
    svg,
    unit_panels,
)

EVIL = '$x_1$ _ \\frac{a} <script>alert(1)</script> --> " onload="x() id="point-0" &amp; \x1b[2J 猫'
SEEN = EVIL.replace("\x1b", r"\x1b")


def plot(name=EVIL):
    points = [Point(1, 0.1, (0.1,), name, f"{name} title"), Point(9, 0.4, (0.4,), "b", "c")]
    return SearchPlot(points, [0, 1], name, name, name[:70], [Point(9, 0.3, (0.2, 0.4), name)])


def panels(name=EVIL):
    x = np.array([0, 0.5, np.nan, 1])
    return unit_panels([UnitPanel(name, "share", [Line("line", BLUE, x, x)], [(0.9, "mark")])])


def curves(name=EVIL):
    edges, count = np.linspace(0, 0.5, 26), np.arange(25)
    return ClassCurves(name, np.array([0, 1.0]), np.array([1, 0.0]), edges, count * 90, count)


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plot().svg(),
        lambda: svg(panels(), label=EVIL),
        lambda: class_svgs([curves(), curves()])[1],
    ],
)
def test_texts_of_others_are_shown_as_they_are_and_do_nothing(draw):
    content = draw()
    root = ElementTree.fromstring(content)
    allowed = {"svg", "g", "path", "use", "text", "tspan", "defs", "style", "title", "clipPath"}
    assert {element.tag for element in root.iter()} <= allowed | {"rect"}
    for element in root.iter():
        assert not any(name.startswith("on") for name in element.attrib)
        assert element.get("href", "#").startswith("#")
    assert "http" not in content and "<!" not in content and "<?" not in content
    assert "\x1b" not in content and "<metadata" not in content
    assert root.get("aria-label")[:50] == SEEN[:50]
    texts = ["".join(element.itertext()) for element in root.iter("text")]
    assert "score" in texts or any(SEEN[:49] in text for text in texts)
    titles = [element.text for element in root.iter("title")]
    assert titles in ([], [f"{SEEN} title", "c", SEEN])


def test_the_same_bytes_twice_whatever_the_settings_of_the_user(tmp_path):
    code = """
import sys, matplotlib
matplotlib.rcParams.update({"lines.linewidth": float(sys.argv[1]), "svg.fonttype": "path"})
sys.path.insert(0, sys.argv[2])
from test_figures import *
from detection.reports.figures import search_figure, write_png
folder = Path(sys.argv[3])
write_png(folder / "a.png", search_figure(plot()))
write_png(folder / "b.png", panels())
(folder / "a.svg").write_text(plot().svg() + svg(panels(), label="") + class_svgs([curves()])[0])
assert "matplotlib.pyplot" not in sys.modules
"""
    found = []
    for size in ("9", "31"):
        folder = tmp_path / size
        folder.mkdir()
        here = str(Path(__file__).parent)
        subprocess.run([sys.executable, "-c", code, size, here, str(folder)], check=True)
        found.append([(folder / name).read_bytes() for name in ("a.png", "b.png", "a.svg")])
    assert found[0] == found[1]


def test_classes_have_charts_of_their_own():
    first = ClassCurves(
        "a", np.zeros(0), np.zeros(0), np.linspace(0, 1, 26), *[np.zeros(25, int)] * 2
    )
    charts = class_svgs([first, curves("b")])
    assert [chart.count("<svg") for chart in charts] == [1, 1]
    assert "2160" not in charts[0] and ">2k<" in charts[1] and ">0.5<" in charts[1]
    assert class_svgs([curves("b")])[0] == charts[1]  # nothing stays of the one before
    assert class_svgs([]) == []
