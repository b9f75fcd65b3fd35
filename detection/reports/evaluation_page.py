"""The report as one HTML file: inline charts, nothing loaded from elsewhere, all text escaped."""

from __future__ import annotations

import html
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable
from detection.evaluation.average_precision import precision_recall
from detection.evaluation.compare import Comparison
from detection.evaluation.diagnosis import Diagnosis
from detection.evaluation.frame_map import AvaFrameMap, ScoredRows
from detection.reports import evaluation_text
from detection.reports.evaluation_text import fraction
from detection.reports.figures import ClassCurves, class_svgs

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
    comparison: Comparison | None = None,
    remarks: Sequence[str] = (),
) -> str:
    """Return the whole page; `remarks` are warnings and likely causes, `files` what was read."""
    groups = [(text(name), fraction(ap)) for name, ap in evaluation_text.groups(result).items()]
    left_out = [f"{count:,} {text(reason)}" for reason, count in result.left_out.items()]
    parts = [
        f"<h1>{text(title)}</h1>",
        f'<p><span class="big">{fraction(result.mean_ap)}</span>'
        f"frame-mAP at IoU {result.iou_threshold:g}<br>"
        f'<span class="soft">{text(evaluation_text.basis(result))}</span></p>',
        "".join(f'<div class="soft">{text(name)}</div>' for name in files),
        "".join(f"<p><b>{text(remark)}</b></p>" for remark in remarks),
        "<h2>By group</h2>" + html_table(("group", "mean AP"), groups) if groups else "",
        _comparison(comparison) if comparison else "",
        _diagnosis(diagnosis) if diagnosis else "",
        "<h2>By class</h2>",
        _class_table(result),
        f'<p class="soft">Left out: {"; ".join(left_out)}.</p>' if left_out else "",
        "<h2>Precision over recall, and scores</h2>",
        _charts(scored, result),
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


def html_table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], words: frozenset[int] = frozenset()
) -> str:
    """Return a table; cells are HTML already. `words`: columns that are words, not numbers."""

    def row(cells: Sequence[str], tag: str) -> str:
        marks = (' class="text"' if i in words else "" for i in range(len(cells)))
        return "".join(f"<{tag}{m}>{c}</{tag}>" for m, c in zip(marks, cells, strict=True))

    body = "".join(f"<tr>{row(cells, 'td')}</tr>" for cells in rows)
    return f"<table><thead><tr>{row(heads, 'th')}</tr></thead><tbody>{body}</tbody></table>"


def _comparison(comparison: Comparison) -> str:
    rows = [[text(cell) for cell in row] for row in evaluation_text.comparison_rows(comparison)]
    table = html_table(evaluation_text.COMPARISON_HEADS, rows)
    about = "".join(
        f'<div class="soft">{text(line)}</div>'
        for line in evaluation_text.comparison_about(comparison)
    )
    return f"<h2>Two systems</h2>{about}{table}"


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
    confused = html_table(
        ("people who", "score higher on", "people", "of"), confusions, frozenset({1})
    )
    return (
        "<h2>What is lost, and to what</h2>"
        + html_table(("error, fixed alone", "mean AP", "", "rows"), rows, frozenset({2}))
        + f"<p>With perfect scores these boxes would reach <b>{fraction(diagnosis.ceiling)}"
        f"</b>. {diagnosis.num_boxes:,} boxes find, of {diagnosis.num_people:,} people: "
        f"{recalls}.</p>" + (f"<h2>Confused actions</h2>{confused}" if confusions else "")
    )


def _class_table(result: AvaFrameMap) -> str:
    rows = [
        (
            text(name),
            fraction(ap),
            _bar(ap),
            f"{result.num_ground_truth[name]:,}",
            f"{result.num_detections[name]:,}",
        )
        for name, ap in result.per_class.items()
    ]
    return html_table(("class", "AP", "", "labels", "detections"), rows, frozenset({2}))


def _bar(value: float) -> str:
    width = 0.0 if np.isnan(value) else max(0.0, min(1.0, value))
    return f'<span class="bar" style="width:{160 * width:.0f}px"></span>'


def _charts(scored: ScoredRows, result: AvaFrameMap) -> str:
    captions, classes = [], []
    for column, name in enumerate(scored.label_map.names):
        members = scored.by_class[column]
        count = int(scored.num_ground_truth[column])
        if not count:
            continue
        scores, true = scored.score[members], scored.matched[members] >= 0
        captions.append(
            f"<b>{text(name)}</b> AP {fraction(result.per_class[name])}, {count:,} labels"
        )
        classes.append(_curves(name, scores, true, count))
    try:
        charts = class_svgs(classes)
    except ModuleNotFoundError as error:  # numpy alone is enough for the rest of the page
        if "matplotlib" not in str(error):
            raise
        return "<p><b>No charts: matplotlib is required, and not installed.</b></p>"
    figures = "".join(
        f"<figure><figcaption>{caption}</figcaption>{chart}</figure>"
        for caption, chart in zip(captions, charts, strict=True)
    )
    return (
        '<p class="soft">Left: precision over recall. Right: detections by score, on a logarithmic '
        'scale of counts:<span class="key" style="background:var(--blue)"></span>right'
        '<span class="key" style="background:var(--orange)"></span>wrong.</p>'
        f'<div class="grid">{figures}</div>'
    )


def _curves(
    name: str, scores: NDArray[np.floating], true: NDArray[np.bool_], count: int
) -> ClassCurves:
    line = precision_recall(scores, true, count)
    chosen = np.zeros(0, np.int64)
    if len(line.score):
        # Evenly in recall: where the curve runs flat, hundreds of points say no more.
        places = np.linspace(0, line.recall[-1], POINTS)
        chosen = np.unique(np.minimum(np.searchsorted(line.recall, places), len(line.recall) - 1))
    low = min(0.0, float(scores.min(initial=0)))
    high = float(scores.max(initial=low + 1e-9)) or 1.0  # the axis ends at the highest score
    edges = np.linspace(low, high, BINS + 1)
    wrong, right = (np.histogram(scores[mask], edges)[0] for mask in (~true, true))
    return ClassCurves(name, line.recall[chosen], line.precision[chosen], edges, wrong, right)
