"""Draws actors on a frame, in place: boxes, numbers and label cards.

Legend: frames are (H, W, 3) uint8 RGB; `_px` are pixels of that frame. Ground truth is dashed,
predictions are solid.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from detection.drawing.cards import Card, badge_px, draw_card, find_place, head_of
from detection.drawing.paint import DARK, DIM, Frame, Style, draw_heading, fill
from detection.drawing.text import BOLD, Color, width_of
from detection.drawing.timeline import Placed


def draw_actors(
    frame: Frame,
    placed: Sequence[Placed],
    *,
    color: Color,
    dashed: bool,
    style: Style,
    places: dict[int, int],
    numbered: bool = False,
    color_of: Callable[[int], Color] | None = None,
) -> None:
    """Draw every actor's box, then the cards where they cover least.

    Actors without labels get a thin grey box and no card.

    numbered: write the actor's number on box and card.
    color_of: colour by number, in place of `color` and of grey.
    places: where each number's last card was, so that cards do not jump from frame to frame.
    """
    boxes_px = [_to_pixels(frame, item) for item in placed]
    for item, box_px in zip(placed, boxes_px, strict=True):
        idle = not item.actor.labels
        shown = color_of(item.number) if color_of is not None else DIM if idle else color
        dash_px = 4 * style.line_px if dashed else None
        # A dark line underneath keeps the bright one visible on bright frames.
        for line_color, margin in ((DARK, 1), (shown, 0)):
            _draw_edges(frame, box_px, line_color, style.line_px - idle, dash_px, margin=margin)
        if numbered:
            _draw_badge(frame, box_px, item, color=shown, style=style)
    taken: list[NDArray[np.floating]] = []
    heads = [head_of(box_px) for box_px in boxes_px]
    labelled = [i for i, item in enumerate(placed) if item.actor.labels]
    for position in sorted(labelled, key=lambda i: placed[i].number):
        item = placed[position]
        card = Card.of(item, style, frame.shape[1], numbered=numbered)
        others = [i for i in range(len(placed)) if i != position]
        corner = find_place(
            frame.shape,
            boxes_px[position],
            card,
            taken=taken,
            heads=[heads[i] for i in others],
            bodies=[boxes_px[i] for i in others],
            last=places,
        )
        own = color if color_of is None else color_of(item.number)
        draw_card(frame, corner, card, color=own, style=style)
        taken.append(np.array([*corner, corner[0] + card.width, corner[1] + card.height]))


def _to_pixels(frame: Frame, item: Placed) -> NDArray[np.float64]:
    height, width = frame.shape[:2]
    box = np.clip(np.nan_to_num(item.actor.box_01), 0, 1)
    scaled: NDArray[np.float64] = box * np.array([width, height, width, height])
    return scaled


def _draw_edges(
    frame: Frame,
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
            fill(frame, a - margin, top - margin, b + margin, top + line + margin, color)
    for a, b in _pieces(y1, y2, dash_px):
        for left in (x1, x2 - line):
            fill(frame, left - margin, a - margin, left + line + margin, b + margin, color)


def _pieces(start: int, end: int, dash_px: int | None) -> list[tuple[int, int]]:
    """Split a line into dashes of about `dash_px` with equal gaps, a dash at either end."""
    if dash_px is None:
        return [(start, end)]
    count = 2 * ((end - start) // (2 * dash_px)) + 1
    edges = np.linspace(start, end, count + 1).round().astype(int).tolist()
    return list(zip(edges[0::2], edges[1::2], strict=True))


def _draw_badge(
    frame: Frame, box_px: NDArray[np.float64], item: Placed, *, color: Color, style: Style
) -> None:
    text = str(item.number)
    x, y = np.round(box_px[:2]).astype(int).tolist()
    width, height = badge_px(item.number, style), style.row_px - 2
    fill(frame, x, y, x + width, y + height, color)
    left = x + (width - width_of(text, style.text_px, BOLD)) // 2
    draw_heading(frame, text, left, y + height // 2, style.text_px, DARK)
