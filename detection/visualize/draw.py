"""Boxes and label cards on one picture, painted in place with cv2.

Legend: pictures are (H, W, 3) uint8 RGB; `_px` are pixels of that picture. Ground truth is dashed
and blue, predictions are solid and yellow; right and wrong differ by sign as well as by colour
(Okabe and Ito's palette, made for every kind of colour vision).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.visualize.actors import Mark, ShownLabel
from detection.visualize.text import BOLD, Color, draw_text, fit, width_of
from detection.visualize.timeline import Placed

Picture = NDArray[np.uint8]

TRUTH: Color = (86, 180, 233)
PREDICTION: Color = (240, 228, 66)
RIGHT: Color = (52, 211, 153)
WRONG: Color = (244, 112, 52)
TEXT: Color = (238, 241, 246)
DIM: Color = (154, 161, 173)
DARK: Color = (16, 18, 24)
_MARK_COLOR: dict[Mark, Color] = {"right": RIGHT, "wrong": WRONG, "missed": WRONG, "none": TEXT}
_SUBPIXEL_BITS = 4


@dataclass(frozen=True)
class Style:
    """Sizes in pixels, all from the size of the letters."""

    text_px: int

    @classmethod
    def for_panel(cls, short_side_px: int) -> Style:
        """Return letters of a thirtieth of the panel's short side, 11 to 32 pixels."""
        return cls(int(np.clip(round(short_side_px / 30), 11, 32)))

    @property
    def row_px(self) -> int:
        """Height of a row of a card."""
        return round(1.4 * self.text_px)

    @property
    def padding_px(self) -> int:
        """Between the edge of a card and what it holds."""
        return round(0.4 * self.text_px)

    @property
    def line_px(self) -> int:
        """Width of a box's line."""
        return max(2, round(self.text_px / 5.5))


@dataclass
class CardPlaces:
    """Where each person's card was put last, so that cards do not hop from frame to frame."""

    last: dict[int, int] = field(default_factory=dict)


def draw_actors(
    picture: Picture,
    placed: Sequence[Placed],
    *,
    color: Color,
    dashed: bool,
    style: Style,
    places: CardPlaces,
    numbered: bool = False,
) -> None:
    """Draw every actor's box, then their cards where they hide least.

    numbered: with the actor's number on box and card, so that one finds the other in a crowd.
    Actors without labels get a thin grey box and no card.
    """
    boxes_px = [_to_pixels(picture, item) for item in placed]
    for item, box_px in zip(placed, boxes_px, strict=True):
        _draw_box(picture, box_px, color=color, dashed=dashed, style=style, item=item)
        if numbered:
            _draw_badge(picture, box_px, item, color=color, style=style)
    taken: list[NDArray[np.floating]] = []
    heads = [_head(box_px) for box_px in boxes_px]
    for position in sorted(range(len(placed)), key=lambda i: placed[i].number):
        item = placed[position]
        if not item.actor.labels:
            continue
        card = _Card.of(item, style, picture.shape[1], numbered=numbered)
        others = [i for i in range(len(placed)) if i != position]
        corner = _find_place(
            picture.shape,
            boxes_px[position],
            card,
            taken=taken,
            heads=[heads[i] for i in others],
            bodies=[boxes_px[i] for i in others],
            last=places.last,
        )
        _draw_card(picture, corner, card, color=color, style=style)
        taken.append(np.array([*corner, corner[0] + card.width, corner[1] + card.height]))


def _to_pixels(picture: Picture, item: Placed) -> NDArray[np.float64]:
    height, width = picture.shape[:2]
    box = np.clip(np.nan_to_num(item.actor.box_01), 0, 1)
    scaled: NDArray[np.float64] = box * np.array([width, height, width, height])
    return scaled


def _draw_box(
    picture: Picture,
    box_px: NDArray[np.float64],
    *,
    color: Color,
    dashed: bool,
    style: Style,
    item: Placed,
) -> None:
    line = style.line_px
    if not item.actor.labels:
        color, line = DIM, max(1, line - 1)
    dash_px = 4 * style.line_px if dashed else None
    # A dark line underneath keeps the bright one visible on bright pictures.
    _draw_edges(picture, box_px, DARK, line, dash_px, margin=1)
    _draw_edges(picture, box_px, color, line, dash_px, margin=0)


def _draw_edges(
    picture: Picture,
    box_px: NDArray[np.float64],
    color: Color,
    line: int,
    dash_px: int | None,
    *,
    margin: int,
) -> None:
    """Fill the edges of a box, `line` pixels wide inside it and `margin` more all around."""
    x1, y1, x2, y2 = np.round(box_px).astype(int).tolist()
    x2, y2 = max(x2, x1 + line), max(y2, y1 + line)
    for a, b in _pieces(x1, x2, dash_px):
        for top in (y1, y2 - line):
            _fill(picture, a - margin, top - margin, b + margin, top + line + margin, color)
    for a, b in _pieces(y1, y2, dash_px):
        for left in (x1, x2 - line):
            _fill(picture, left - margin, a - margin, left + line + margin, b + margin, color)


def _pieces(start: int, end: int, dash_px: int | None) -> list[tuple[int, int]]:
    """Split a stretch into dashes of about `dash_px`, gaps as long, one at either end."""
    if dash_px is None:
        return [(start, end)]
    count = 2 * ((end - start) // (2 * dash_px)) + 1
    edges = np.linspace(start, end, count + 1).round().astype(int).tolist()
    return list(zip(edges[0::2], edges[1::2], strict=True))


def _fill(picture: Picture, x1: int, y1: int, x2: int, y2: int, color: Color) -> None:
    picture[max(0, y1) : max(0, y2), max(0, x1) : max(0, x2)] = color


def _line(
    picture: Picture, start: Sequence[float], end: Sequence[float], color: Color, width: int
) -> None:
    scale = 1 << _SUBPIXEL_BITS
    a = (round(start[0] * scale), round(start[1] * scale))
    b = (round(end[0] * scale), round(end[1] * scale))
    cv2.line(picture, a, b, color, width, cv2.LINE_AA, _SUBPIXEL_BITS)


def _head(box_px: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the upper third of a box, which a card should not hide."""
    x1, y1, x2, y2 = box_px
    return np.array([x1, y1, x2, y1 + (y2 - y1) / 3])


def _draw_badge(
    picture: Picture, box_px: NDArray[np.float64], item: Placed, *, color: Color, style: Style
) -> None:
    """Write the actor's number into the upper left corner of the box."""
    text, color = str(item.number), color if item.actor.labels else DIM
    x, y = np.round(box_px[:2]).astype(int).tolist()
    width, height = _badge_px(item.number, style), style.row_px - 2
    _fill(picture, x, y, x + width, y + height, color)
    left = x + (width - width_of(text, style.text_px, BOLD)) // 2
    draw_heading(picture, text, left, y + height // 2, style.text_px, DARK)


def _badge_px(number: int, style: Style) -> int:
    return width_of(str(number), style.text_px, BOLD) + style.padding_px


@dataclass(frozen=True)
class _Card:
    """An actor's labels laid out: widths in pixels of the columns, from left to right."""

    item: Placed
    number: int | None
    stripe: int
    sign: int
    text: int
    score: int
    width: int
    height: int

    @classmethod
    def of(cls, item: Placed, style: Style, panel_width: int, *, numbered: bool) -> _Card:
        labels = item.actor.labels
        stripe = _badge_px(item.number, style) if numbered else style.line_px
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


def _find_place(
    shape: Sequence[int],
    box_px: NDArray[np.float64],
    card: _Card,
    *,
    taken: Sequence[NDArray[np.floating]],
    heads: Sequence[NDArray[np.float64]],
    bodies: Sequence[NDArray[np.float64]],
    last: dict[int, int],
) -> tuple[int, int]:
    """Return the corner of the place that hides least: cards weigh most, then heads, then bodies.

    last: the place of each number in the frame before, which is kept unless it is much worse.
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
        cost += 3 * _common(area_px, _head(box_px)) / area + 0.3 * _common(area_px, box_px) / area
        cost += (abs(left - x) + abs(top - y)) / (w + h)
        if cost < best_cost:
            best, best_cost, choice = (left, top), cost, index
    last[card.item.number] = choice
    return best


def _common(a: NDArray[np.floating], b: NDArray[np.floating]) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return float(max(0.0, width) * max(0.0, height))


def _draw_card(
    picture: Picture, corner: tuple[int, int], card: _Card, *, color: Color, style: Style
) -> None:
    """Draw the number, and one row a label: sign, name, bar and probability."""
    x, y = corner
    darken(picture, x, y, card.width, card.height)
    _fill(picture, x, y, x + card.stripe, y + card.height, color)
    first = y + style.padding_px // 2 + style.row_px // 2
    if card.number is not None:
        text = str(card.number)
        left = x + (card.stripe - width_of(text, style.text_px, BOLD)) // 2
        draw_heading(picture, text, left, first, style.text_px, DARK)
    for row, label in enumerate(card.item.actor.labels):
        middle = first + row * style.row_px
        left = x + card.stripe + style.padding_px
        if card.sign:
            draw_sign(picture, label.mark, left, middle, style.text_px)
            left += card.sign
        name = fit(label.name, card.text, style.text_px)
        draw_text(picture, name, left, middle, size=style.text_px, color=TEXT)
        if label.score is not None:
            left += card.text + style.padding_px
            _draw_bar(picture, left, middle, label, style)
            text = f"{label.score:.2f}"
            left += _bar_px(style) + 5
            draw_text(picture, text, left, middle, size=style.text_px, color=TEXT)


def darken(picture: Picture, x: int, y: int, w: int, h: int, share: float = 0.82) -> None:
    """Lay a dark sheet over part of the picture, for letters to be read on."""
    part = picture[max(0, y) : max(0, y + h), max(0, x) : max(0, x + w)]
    part[:] = (part * (1 - share) + np.array(DARK, np.float32) * share).astype(np.uint8)


def _draw_bar(picture: Picture, x: int, middle: int, label: ShownLabel, style: Style) -> None:
    height = max(4, round(0.42 * style.text_px))
    top, full = middle - height // 2, _bar_px(style)
    filled = round(full * float(np.clip(np.nan_to_num(label.score or 0.0), 0, 1)))
    color = PREDICTION if label.mark == "none" else _MARK_COLOR[label.mark]
    picture[max(0, top) : top + height, x : x + full] = (66, 71, 82)
    picture[max(0, top) : top + height, x : x + filled] = color


def draw_sign(picture: Picture, mark: Mark, x: int, middle: int, text_px: int) -> None:
    """Draw a tick (right), a cross (wrong) or a ring (missed) in a square of `text_px`."""
    color, size = _MARK_COLOR[mark], 0.8 * text_px
    line = max(1, round(text_px / 7))
    left, top = x + 0.05 * text_px, middle - size / 2

    def at(across: float, down: float) -> tuple[float, float]:
        return left + across * size, top + down * size

    if mark == "right":
        _line(picture, at(0.08, 0.55), at(0.36, 0.84), color, line)
        _line(picture, at(0.36, 0.84), at(0.94, 0.16), color, line)
    elif mark == "wrong":
        _line(picture, at(0.14, 0.14), at(0.86, 0.86), color, line)
        _line(picture, at(0.86, 0.14), at(0.14, 0.86), color, line)
    elif mark == "missed":
        scale = 1 << _SUBPIXEL_BITS
        centre = at(0.5, 0.5)
        where = (round(centre[0] * scale), round(centre[1] * scale))
        radius = round(0.44 * size * scale)
        cv2.circle(picture, where, radius, color, max(1, line - 1), cv2.LINE_AA, _SUBPIXEL_BITS)


def draw_heading(picture: Picture, text: str, x: int, middle: int, size: int, color: Color) -> int:
    """Draw bold letters; return where they end."""
    return draw_text(picture, text, x, middle, size=size, color=color, weight=BOLD)
