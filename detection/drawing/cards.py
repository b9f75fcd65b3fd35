"""Label cards: the labels of an actor, laid out and placed where they cover least."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.drawing.paint import (
    DARK,
    MARK_COLOR,
    PREDICTION,
    TEXT,
    Frame,
    Style,
    darken,
    draw_heading,
    draw_sign,
    fill,
)
from detection.drawing.text import BOLD, Color, draw_text, fit, width_of
from detection.drawing.timeline import Placed


@dataclass(frozen=True)
class Card:
    """The layout of an actor's labels: widths of its columns in pixels, from left to right."""

    item: Placed
    number: int | None
    stripe: int
    sign: int
    text: int
    score: int
    width: int
    height: int

    @classmethod
    def of(cls, item: Placed, style: Style, panel_width: int, *, numbered: bool) -> Card:
        """Lay out an actor's labels; long names are shortened to fit the panel."""
        labels = item.actor.labels
        stripe = badge_px(item.number, style) if numbered else style.line_px
        sign = round(1.2 * style.text_px) * any(label.mark != "none" for label in labels)
        score = 0
        if any(label.score is not None for label in labels):
            score = style.padding_px + _bar_px(style) + 6 + width_of("0.00", style.text_px)
        fixed = stripe + sign + score + 2 * style.padding_px
        longest = max(width_of(label.name, style.text_px) for label in labels)
        widest = max(4 * style.text_px, min(18 * style.text_px, panel_width - fixed))
        text = min(longest, widest)
        height = len(labels) * style.row_px + style.padding_px
        number = item.number if numbered else None
        return cls(item, number, stripe, sign, text, score, fixed + text, height)


def _bar_px(style: Style) -> int:
    return round(2.6 * style.text_px)


def find_place(
    shape: Sequence[int],
    box_px: NDArray[np.float64],
    card: Card,
    *,
    taken: Sequence[NDArray[np.floating]],
    heads: Sequence[NDArray[np.float64]],
    bodies: Sequence[NDArray[np.float64]],
    last: dict[int, int],
) -> tuple[int, int]:
    """Return the corner where the card covers least: cards weigh most, then heads, then bodies.

    last: position of each number in the previous frame, which is kept unless it is much worse.
    """
    height, width = shape[:2]
    w, h = card.width, card.height
    x1, y1, x2, y2 = box_px
    gap = 3
    wanted = [
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
    area = float(w * h)
    best, best_cost = (0, 0), np.inf
    choice = 0
    for index, (x, y) in enumerate(wanted):
        left = round(float(np.clip(x, 0, max(0, width - w))))
        top = round(float(np.clip(y, 0, max(0, height - h))))
        area_px = np.array([left, top, left + w, top + h], np.float64)
        cost = 0.02 * index - (0.3 if last.get(card.item.number) == index else 0.0)
        covered = sum(_common(area_px, other) for other in taken)
        cost += 6 * covered / area + (1.0 if covered else 0.0)
        cost += 4 * sum(_common(area_px, head) for head in heads) / area
        cost += 0.5 * sum(_common(area_px, body) for body in bodies) / area
        cost += 3 * _common(area_px, head_of(box_px)) / area + 0.3 * _common(area_px, box_px) / area
        cost += (abs(left - x) + abs(top - y)) / (w + h)
        if cost < best_cost:
            best, best_cost, choice = (left, top), cost, index
    last[card.item.number] = choice
    return best


def _common(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(max(0.0, width) * max(0.0, height))


def draw_card(
    frame: Frame, corner: tuple[int, int], card: Card, *, color: Color, style: Style
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
    for row, label in enumerate(card.item.actor.labels):
        middle = first + row * style.row_px
        left = x + card.stripe + style.padding_px
        if card.sign:
            draw_sign(frame, label.mark, left, middle, style.text_px)
            left += card.sign
        name = fit(label.name, card.text, style.text_px)
        draw_text(frame, name, left, middle, size=style.text_px, color=TEXT)
        if label.score is not None:
            left += card.text + style.padding_px
            height, full = max(4, round(0.42 * style.text_px)), _bar_px(style)
            bar = frame[max(0, middle - height // 2) : middle - height // 2 + height]
            filled = round(full * float(np.clip(np.nan_to_num(label.score), 0, 1)))
            bar[:, left : left + full] = (66, 71, 82)
            marked = PREDICTION if label.mark == "none" else MARK_COLOR[label.mark]
            bar[:, left : left + filled] = marked
            left += full + 5
            draw_text(frame, f"{label.score:.2f}", left, middle, size=style.text_px, color=TEXT)


def head_of(box_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper third of a box, which a card should not hide."""
    x1, y1, x2, y2 = box_px
    return np.array([x1, y1, x2, y1 + (y2 - y1) / 3])


def badge_px(number: int, style: Style) -> int:
    """Return the width of a number's field."""
    return width_of(str(number), style.text_px, BOLD) + style.padding_px
