"""The report as one HTML file: inline drawings, nothing loaded from elsewhere, all text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable
from detection.evaluation.average_precision import precision_recall
from detection.evaluation.diagnosis import Diagnosis
from detection.evaluation.frame_map import AvaFrameMap, ScoredRows
from detection.reports import evaluation_text
from detection.reports.evaluation_text import number

WIDTH, HEIGHT, LEFT = 166, 118, 24
POINTS, BINS = 80, 25

STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #5b6570; --line: #d8dde3; --blue: #2563a8;
  --orange: #d9822b; }
* { box-sizing: border-box; }
body { font: 14px/1.45 system-ui, sans-serif; color: var(--ink); background: #fff; margin: 0 auto;
  padding: 24px; max-width: 1180px; }
h1 { font-size: 20px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 28px 0 8px; }
.big { font-size: 34px; font-weight: 600; margin-right: 12px; }
.soft, figcaption { color: var(--soft); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: 3px 12px 3px 0; text-align: right; border-bottom: 1px solid var(--line); }
th { color: var(--soft); font-weight: 500; } th:first-child, td:first-child { text-align: left; }
td.text, th.text { text-align: left; }
.bar { display: inline-block; height: 9px; background: var(--blue); vertical-align: middle; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(330px, 1fr)); gap: 14px; }
figure { margin: 0; border: 1px solid var(--line); border-radius: 6px; padding: 8px 10px; }
figcaption b { color: var(--ink); } svg { display: inline-block; }
.key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 12px; }
"""


def page(
    scored: ScoredRows,
    result: AvaFrameMap,
    *,
    title: str,
    files: Sequence[str],
    diagnosis: Diagnosis | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """Return the whole page; `remarks` are warnings and likely causes, `files` what was read."""
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p><span class="big">{number(result.mean_ap)}</span>'
        f"frame-mAP at IoU {result.iou_threshold:g}<br>"
        f'<span class="soft">{text(evaluation_text.basis(result))}</span></p>',
        "".join(f'<div class="soft">{text(name)}</div>' for name in files),
        "".join(f"<p><b>{text(remark)}</b></p>" for remark in remarks),
        _groups(result),
        _diagnosis(diagnosis) if diagnosis else "",
        "<h2>By class</h2>",
        _class_table(result),
        _left_out(result),
        "<h2>Precision over recall, and scores</h2>",
        '<p class="soft">Left: precision over recall. Right: detections by score, on a logarithmic '
        'scale of counts:<span class="key" style="background:var(--blue)"></span>right'
        '<span class="key" style="background:var(--orange)"></span>wrong.</p>',
        f'<div class="grid">{"".join(_figures(scored, result))}</div>',
    ]
    return document(title, parts)


def document(title: str, parts: Sequence[str]) -> str:
    """Return a whole page of parts that are HTML already; empty ones are left out."""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{text(title)}</title><style>{STYLE}</style></head><body>\n"
        + "\n".join(part for part in parts if part)
        + "\n</body></html>\n"
    )


def text(value: object) -> str:
    """Return a value as HTML text, control characters written out."""
    return html.escape(printable(str(value)))


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], words: frozenset[int] = frozenset()
) -> str:
    """Return a table; cells are HTML already. `words`: columns that are words, not numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = (' class="text"' if i in words else "" for i in range(len(cells)))
        return "".join(f"<{tag}{m}>{c}</{tag}>" for m, c in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<table><thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _groups(result: AvaFrameMap) -> str:
    if not result.group_ap:
        return ""
    rows = [(text(name), number(ap)) for name, ap in evaluation_text.groups(result).items()]
    return "<h2>By group</h2>" + table(("group", "mean AP"), rows, frozenset())


def _diagnosis(diagnosis: Diagnosis) -> str:
    rows = [
        (text(kind), evaluation_text.signed(gain), _bar(gain), f"{diagnosis.num_rows[kind]:,}")
        for kind, gain in diagnosis.gain.items()
    ]
    recalls = evaluation_text.recalls_text(diagnosis)
    confusions = [
        (text(c.action), text(c.other), f"{c.num_confused:,}", f"{c.num_people:,}")
        for c in diagnosis.confusions
    ]
    confused = table(("people who", "score higher on", "people", "of"), confusions, frozenset({1}))
    return (
        "<h2>What is lost, and to what</h2>"
        + table(("error, mended alone", "mean AP", "", "rows"), rows, frozenset({2}))
        + f"<p>With perfect scores these boxes would reach <b>{number(diagnosis.ceiling)}"
        f"</b>. {diagnosis.num_boxes:,} boxes find, of {diagnosis.num_people:,} people: "
        f"{recalls}.</p>" + (f"<h2>Confused actions</h2>{confused}" if confusions else "")
    )


def _class_table(result: AvaFrameMap) -> str:
    rows = [
        (
            text(name),
            number(ap),
            _bar(ap),
            f"{result.num_ground_truth[name]:,}",
            f"{result.num_detections[name]:,}",
        )
        for name, ap in result.per_class.items()
    ]
    return table(("class", "AP", "", "labels", "detections"), rows, frozenset({2}))


def _left_out(result: AvaFrameMap) -> str:
    rows = [f"{count:,} {text(reason)}" for reason, count in result.left_out.items()]
    return f'<p class="soft">Left out: {"; ".join(rows)}.</p>' if rows else ""


def _bar(value: float) -> str:
    width = 0.0 if np.isnan(value) else max(0.0, min(1.0, value))
    return f'<span class="bar" style="width:{160 * width:.0f}px"></span>'


def _figures(scored: ScoredRows, result: AvaFrameMap) -> list[str]:
    out = []
    for column, name in enumerate(scored.label_map.names):
        members = scored.by_class[column]
        count = int(scored.num_ground_truth[column])
        if not count:
            continue
        scores, true = scored.score[members], scored.matched[members] >= 0
        caption = f"<b>{text(name)}</b> AP {number(result.per_class[name])}, {count:,} labels"
        drawings = _curve(scores, true, count) + _histogram(scores, true)
        out.append(f"<figure><figcaption>{caption}</figcaption>{drawings}</figure>")
    return out


def _frame(inside: str, *, x_axis: tuple[str, str, str], y_axis: tuple[str, str, str]) -> str:
    """Return a small drawing: SVG shapes within axes of (least, name, most)."""
    left, right, top, bottom = LEFT, WIDTH - 6, 6, HEIGHT - 18
    low, x_name, high = x_axis
    base, y_name, peak = y_axis
    middle = (top + bottom) / 2
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" font-size="9" '
        f'fill="#5b6570" role="img" aria-label="{y_name} over {x_name}">'
        f'<rect x="{left}" y="{top}" width="{right - left}" height="{bottom - top}" fill="none" '
        f'stroke="#d8dde3"/>{inside}'
        f'<text x="{left}" y="{HEIGHT - 7}">{low}</text>'
        f'<text x="{(left + right) / 2}" y="{HEIGHT - 7}" text-anchor="middle">{x_name}</text>'
        f'<text x="{right}" y="{HEIGHT - 7}" text-anchor="end">{high}</text>'
        f'<text x="{left - 3}" y="{bottom}" text-anchor="end">{base}</text>'
        f'<text x="{left - 3}" y="{top + 8}" text-anchor="end">{peak}</text>'
        f'<text transform="translate({left - 5} {middle}) rotate(-90)" text-anchor="middle">'
        f"{y_name}</text></svg>"
    )


def _place(x: NDArray[np.float64], y: NDArray[np.float64]) -> list[str]:
    """Return points of the unit square as coordinates of the drawing."""
    across = LEFT + (WIDTH - 6 - LEFT) * x
    down = 6 + (HEIGHT - 24) * (1 - y)
    return [f"{a:.1f},{b:.1f}" for a, b in zip(across.tolist(), down.tolist(), strict=True)]


def _curve(scores: NDArray[np.floating], true: NDArray[np.bool_], count: int) -> str:
    line = precision_recall(scores, true, count)
    shape = ""
    if len(line.score):
        # Evenly in recall: where the curve runs flat, hundreds of points say no more.
        wanted = np.linspace(0, line.recall[-1], POINTS)
        chosen = np.unique(np.minimum(np.searchsorted(line.recall, wanted), len(line.recall) - 1))
        points = " ".join(_place(line.recall[chosen], line.precision[chosen]))
        shape = f'<polyline points="{points}" fill="none" stroke="#2563a8" stroke-width="1.5"/>'
    return _frame(shape, x_axis=("0", "recall", "1"), y_axis=("0", "precision", "1"))


def _histogram(scores: NDArray[np.floating], true: NDArray[np.bool_]) -> str:
    """Draw counts by score; the axis ends at the highest score there is."""
    low = min(0.0, float(scores.min(initial=0)))
    high = float(scores.max(initial=low + 1e-9)) or 1.0
    edges = np.linspace(low, high, BINS + 1)
    counts = [np.histogram(scores[mask], edges)[0] for mask in (~true, true)]
    most = max(int(count.max()) for count in counts)
    shapes = []
    for count, colour, opacity in zip(counts, ("#d9822b", "#2563a8"), (0.55, 0.75), strict=True):
        x = np.repeat(np.linspace(0, 1, BINS + 1), 2)
        heights = np.log1p(count) / np.log1p(max(most, 1))
        y = np.concatenate([[0], np.repeat(heights, 2), [0]])
        points = " ".join(_place(x, y))
        shapes.append(f'<polygon points="{points}" fill="{colour}" fill-opacity="{opacity}"/>')
    peak = f"{most}" if most < 1000 else f"{most / 1000:.0f}k"
    return _frame(
        "".join(shapes), x_axis=(f"{low:.2g}", "score", f"{high:.2g}"), y_axis=("", "count", peak)
    )
