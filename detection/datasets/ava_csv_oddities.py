"""What is allowed in AVA's files but seldom meant, and values that mean nothing where they count.

Only the order of scores counts in a mAP, and a box outside the frame is one more that is wrong: the
official scripts take both. Thresholds, products and means need probabilities.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv_rows import DETECTIONS, EDGE_TOLERANCE, AvaRows, Form
from detection.errors import at_row

# A probability that another program rounded may be this far above 1.
_ROUNDING = 1e-6


def check_probabilities(rows: AvaRows) -> None:
    """Raise `UserError` with file and line of the first score that is no probability."""
    score = rows.score
    if score is None or not len(score):
        return
    odd = np.flatnonzero((score < 0) | (score > 1 + _ROUNDING))
    if not len(odd):
        return
    looks = {"logits": " looks like a logit", "per cent": " looks like per cent", "": ""}
    found = f"score {score[odd[0]]:g}{looks[_likely_unit(score)]}"
    raise at_row(
        rows.path,
        int(rows.line[odd[0]]) or None,
        f"{found}; a probability from 0 to 1 is required ({len(odd):,} of {len(score):,} scores "
        "are outside)",
    )


def check_meets_frame(rows: AvaRows) -> None:
    """Raise `UserError` with file and line of the first box that lies outside the frame wholly."""
    odd = np.flatnonzero(_outside(rows.boxes_01))
    if not len(odd):
        return
    corners = ", ".join(f"{side:g}" for side in rows.boxes_01[odd[0]])
    hint = " (pixels? divide by width and height)" if rows.boxes_01[odd[0]].max() > 2 else ""
    raise at_row(
        rows.path,
        int(rows.line[odd[0]]) or None,
        f"the box {corners} lies outside the frame wholly{hint}; fractions of the frame from 0 to "
        f"1 are required ({len(odd):,} of {len(rows):,} boxes do)",
    )


def oddities(raw: AvaRows, form: Form) -> Iterator[str]:
    """Say in sentences what is allowed but seldom meant."""
    if raw.score is not None and (raw.score.min(initial=0) < 0 or raw.score.max(initial=1) > 1):
        odd = np.flatnonzero((raw.score < 0) | (raw.score > 1))
        unit = _likely_unit(raw.score)
        required = {"logits": "probabilities", "per cent": "fractions", "": ""}[unit]
        likely = f"; likely cause: {unit}, where {required} are required" if unit else ""
        yield (
            f"{len(odd)} of {len(raw.score)} scores are outside [0, 1], the first in line "
            f"{raw.line[odd[0]]}: {raw.score[odd[0]]:g}{likely}"
        )
    if form is DETECTIONS:
        low, high = -EDGE_TOLERANCE, 1 + EDGE_TOLERANCE
        if raw.boxes_01.min(initial=0) < low or raw.boxes_01.max(initial=1) > high:
            odd = np.flatnonzero((raw.boxes_01.min(1) < low) | (raw.boxes_01.max(1) > high))
            gone = np.flatnonzero(_outside(raw.boxes_01))
            wholly = f"; {len(gone)} lie outside wholly, the first in line " if len(gone) else ""
            yield (
                f"{len(odd)} of {len(raw.boxes_01)} boxes reach outside the frame, the first in "
                f"line {raw.line[odd[0]]}{wholly}{raw.line[gone[0]] if len(gone) else ''}"
            )


def _likely_unit(score: NDArray[np.float64]) -> str:
    """Say which unit scores outside [0, 1] are probably in; nothing where neither is likely."""
    if score.min() < 0:
        return "logits"
    return "per cent" if 2 < score.max() <= 100 else ""


def _outside(boxes_01: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (M,) which boxes share no point with the frame."""
    x1, y1, x2, y2 = boxes_01.T
    outside: NDArray[np.bool_] = (x2 < 0) | (y2 < 0) | (x1 > 1) | (y1 > 1)
    return outside
