"""Bounding boxes of COCO's run-length encoded masks, in plain Python, safe for any input."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

_MOST_PIXELS = 1 << 32


def box_of_mask(mask: Mapping[str, Any]) -> tuple[float, float, float, float]:
    """Return x1, y1, x2, y2 in pixels around the marked pixels of `{"size", "counts"}`.

    size: [height, width].  counts: lengths of runs down the columns, first unmarked, then marked,
    and so on: a list, or the text that COCO packs it into. Raises ValueError for a mask that does
    not fill its size, and for an empty one.
    """
    size = mask.get("size")
    if not isinstance(size, list) or len(size) != 2 or not all(_is_whole(n, 1) for n in size):
        raise ValueError("a mask's size must be [height, width]")
    height, width = size
    ends = np.cumsum(_runs(mask.get("counts"), height * width))
    if not len(ends) or ends[-1] != height * width:
        total = int(ends[-1]) if len(ends) else 0
        raise ValueError(f"a mask's runs cover {total} of {width}x{height} pixels")
    starts, ends = ends[:-1:2], ends[1::2]  # of the marked runs
    starts = starts[: len(ends)]
    starts, ends = starts[ends > starts], ends[ends > starts]
    if not len(starts):
        raise ValueError("a mask without pixels")
    first, last = starts // height, (ends - 1) // height
    tall = first < last  # continues at the top of the next column
    top = np.where(tall, 0, starts % height).min()
    bottom = np.where(tall, height - 1, (ends - 1) % height).max()
    return float(first.min()), float(top), float(last.max() + 1), float(bottom + 1)


def _runs(counts: Any, pixels: int) -> NDArray[np.int64]:
    """Return the lengths of the runs, none longer than the mask."""
    if pixels > _MOST_PIXELS:
        raise ValueError(f"a mask of {pixels:,} pixels")
    runs = _unpacked(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(_is_whole(run, 0) and run <= pixels for run in runs):
        raise ValueError("a mask's counts must be lengths of runs within its size")
    return np.array(runs, np.int64)


def _unpacked(text: str) -> list[int]:
    """Decode COCO's text: 6 bits a character; from the fourth run on, minus the run two before."""
    runs: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("a mask's counts are not COCO's encoding of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + (runs[-2] if len(runs) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("a mask's counts end within a number")
    return runs


def _is_whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
