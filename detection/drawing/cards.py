"""Label cards: the labels of an actor, laid out and placed where they cover least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.drawing.actors import ShownLabel
from detection.drawing.paint import (
    BAR,
    DARK,
    MARK_COLOR,
    TEXT,
    Style,
    darken,
    draw_heading,
    draw_sign,
    fill,
)
from detection.drawing.palette import Color
from detection.drawing.text import BOLD, draw_text, fit, width_of
from detection.drawing.timeline import Placed
from detection.drawing.yuv import Canvas

Area = NDArray[np.float64]
"""(4,) x1, y1, x2, y2 in pixels."""
Areas = NDArray[np.float64]
"""(n, 4) areas."""

# What covering all of a card's size costs: heads of others, their bodies, one's own.
_HEADS, _BODIES, _OWN_HEAD, _OWN_BODY = 4.0, 0.5, 3.0, 0.3
_STAYS = 0.3


@dataclass(frozen=True)
class Card:
    """The layout of an actor's labels: widths of its columns in pixels, from left to right.

    labels: those that are shown.
    more: how many are not, which the last row says.
    """

    item: Placed
    labels: tuple[ShownLabel, ...]
    more: int
    number: int | None
    stripe: int
    sign: int
    text: int
    score: int
    width: int
    height: int

    @classmethod
    def of(
        cls,
        item: Placed,
        style: Style,
        panel_width: int,
        *,
        numbered: bool,
        most: int | None = None,
    ) -> Card:
        """Lay out an actor's labels, at most `most`; long names are shortened to fit the panel."""
        labels = item.actor.labels[:most]
        more = len(item.actor.labels) - len(labels)
        stripe = badge_px(item.number, style) if numbered else style.line_px
        sign = round(1.2 * style.text_px) * any(label.mark != "none" for label in labels)
        score = 0
        if any(label.score is not None for label in labels):
            score = style.padding_px + _bar_px(style) + 6 + width_of("0.00", style.text_px)
        fixed = stripe + sign + score + 2 * style.padding_px
        names = [label.name for label in labels]
        names[-1] += _more(more)
        longest = max(width_of(name, style.text_px) for name in names)
        widest = max(4 * style.text_px, min(18 * style.text_px, panel_width - fixed))
        text = min(longest, widest)
        height = len(labels) * style.row_px + style.padding_px
        number = item.number if numbered else None
        return cls(item, labels, more, number, stripe, sign, text, score, fixed + text, height)


def _more(count: int) -> str:
    return f" +{count}" if count else ""


def _bar_px(style: Style) -> int:
    return round(2.6 * style.text_px)


def find_place(
    shape: Sequence[int],
    box_px: Area,
    card: Card,
    *,
    taken: Sequence[Area],
    heads: Areas,
    bodies: Areas,
    last: dict[int, int],
) -> tuple[int, int] | None:
    """Return the corner where the card covers least of heads and bodies, inside the frame.

    Corners beside the box are tried first, then all over the frame. None: the frame has no room.

    taken: areas that it must not cover.
    last: position of each number in the previous frame, which is kept unless it is much worse.
    """
    height, width = shape[:2]
    w, h = card.width, card.height
    if w > width or h > height:
        return None
    first = 0
    for is_far in (0.0, 1.0):
        corners = _everywhere(shape, w, h) if is_far else _around(box_px, w, h)
        placed = np.clip(corners, 0, [width - w, height - h]).round()
        areas = np.concatenate([placed, placed + [w, h]], axis=1)
        free = np.flatnonzero(~(overlaps(areas, taken) > 0).any(axis=1))
        if len(free):
            open_areas = areas[free]
            cost = 0.02 * free * (1 - is_far)
            cost[last.get(card.item.number, -1) == first + free] -= _STAYS
            for weight, others in (
                (_HEADS, heads),
                (_BODIES, bodies),
                (_OWN_HEAD, [head_of(box_px)]),
                (_OWN_BODY, [box_px]),
            ):
                cost += weight * overlaps(open_areas, others).sum(axis=1) / (w * h)
            moved = np.abs(placed - corners).sum(axis=1)[free]
            cost += (moved + 2 * is_far * _distance(open_areas, box_px)) / (w + h)
            best = int(free[cost.argmin()])
            last[card.item.number] = first + best
            x, y = placed[best].astype(int).tolist()
            return x, y
        first += len(areas)
    return None


def _around(box_px: Area, w: int, h: int) -> NDArray[np.float64]:
    """Return the corners of a card beside and inside a box, the usual ones first."""
    x1, y1, x2, y2 = box_px.tolist()
    gap = 3
    return np.array(
        [
            (x1, y1 - h - gap),
            (x2 - w, y1 - h - gap),
            (x1, y2 + gap),
            (x2 - w, y2 + gap),
            (x2 + gap, y1),
            (x1 - w - gap, y1),
            (x2 + gap, (y1 + y2 - h) / 2),
            (x1 - w - gap, (y1 + y2 - h) / 2),
            (x2 + gap, y2 - h),
            (x1 - w - gap, y2 - h),
            (x1 + gap, y2 - h - gap),
            (x2 - w - gap, y2 - h - gap),
            (x1 + gap, y1 + gap),
        ]
    )


def _everywhere(shape: Sequence[int], w: int, h: int) -> NDArray[np.float64]:
    """Return corners all over the frame, half a card apart."""
    across = np.linspace(0, shape[1] - w, 2 + 2 * (shape[1] - w) // w)
    down = np.linspace(0, shape[0] - h, 2 + 2 * (shape[0] - h) // h)
    return np.stack(np.meshgrid(across, down), axis=-1).reshape(-1, 2)


def overlaps(areas: Areas, others: Areas | Sequence[Area]) -> NDArray[np.float64]:
    """Return the (n, m) pixels that each of (n, 4) areas has in common with each of the others."""
    theirs = np.array(others, np.float64).reshape(-1, 4)
    wide, high = (
        np.minimum(areas[:, None, axis + 2], theirs[None, :, axis + 2])
        - np.maximum(areas[:, None, axis], theirs[None, :, axis])
        for axis in (0, 1)
    )
    common: NDArray[np.float64] = np.maximum(wide, 0) * np.maximum(high, 0)
    return common


def _distance(areas: NDArray[np.float64], box_px: Area) -> NDArray[np.float64]:
    """Return the (n,) distances along both axes between areas and a box."""
    apart = np.maximum(areas[:, :2] - box_px[2:], box_px[:2] - areas[:, 2:])
    total: NDArray[np.float64] = np.clip(apart, 0, None).sum(axis=1)
    return total


def draw_card(
    frame: Canvas, corner: tuple[int, int], card: Card, *, color: Color, style: Style
) -> None:
    """Draw the number and one row per label: sign, name, bar and probability."""
    x, y = corner
    darken(frame, x, y, card.width, card.height)
    fill(frame, x, y, x + card.stripe, y + card.height, color)
    first = y + style.padding_px // 2 + style.row_px // 2
    if card.number is not None:
        text = str(card.number)
        left = x + (card.stripe - width_of(text, style.text_px, BOLD)) // 2
        draw_heading(frame, text, left, first, style.text_px, DARK)
    for row, label in enumerate(card.labels):
        middle = first + row * style.row_px
        left = x + card.stripe + style.padding_px
        if card.sign:
            draw_sign(frame, label.mark, left, middle, style.text_px)
            left += card.sign
        more = _more(card.more) if row == len(card.labels) - 1 else ""
        name = fit(label.name, card.text - width_of(more, style.text_px), style.text_px) + more
        draw_text(frame, name, left, middle, size=style.text_px, color=TEXT)
        if label.score is not None:
            left += card.text + style.padding_px
            height, full = max(4, round(0.42 * style.text_px)), _bar_px(style)
            top, bottom = middle - height // 2, middle - height // 2 + height
            filled = round(full * float(np.clip(np.nan_to_num(label.score), 0, 1)))
            fill(frame, left, top, left + full, bottom, BAR)
            marked = color if label.mark == "none" else MARK_COLOR[label.mark]
            fill(frame, left, top, left + filled, bottom, marked)
            left += full + 5
            draw_text(frame, f"{label.score:.2f}", left, middle, size=style.text_px, color=TEXT)


def head_of(box_px: Area) -> Area:
    """Return the upper third of a box, which a card should not hide."""
    x1, y1, x2, y2 = box_px
    return np.array([x1, y1, x2, y1 + (y2 - y1) / 3])


def badge_px(number: int, style: Style, *, more: bool = False) -> int:
    """Return the width of a number's field; `more`: with an ellipsis behind the number."""
    text = f"{number}…" if more else str(number)
    return width_of(text, style.text_px, BOLD) + style.padding_px
