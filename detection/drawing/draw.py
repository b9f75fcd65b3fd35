"""Draws actors on a frame, in place: boxes, numbers and label cards.

Legend: frames are (H, W, 3) uint8 RGB or planes of YUV; `_px` are pixels of that frame; an area is
x1, y1, x2, y2 in pixels. Ground truth is dashed, predictions are solid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.drawing.cards import Area, Card, badge_px, draw_card, find_place, head_of, overlaps
from detection.drawing.paint import DARK, DIM, Style, draw_heading, fill
from detection.drawing.palette import Color, track_color
from detection.drawing.text import BOLD, width_of
from detection.drawing.timeline import Placed
from detection.drawing.yuv import Canvas


def draw_actors(
    frame: Canvas,
    placed: Sequence[Placed],
    *,
    color: Color | None,
    dashed: bool,
    style: Style,
    places: dict[int, int],
    numbered: bool = False,
    idle_color: Color | None = DIM,
    reserved: Sequence[Area] = (),
) -> None:
    """Draw every actor's box, then the cards where they cover least.

    Cards lie inside the frame and never cover each other or another actor's number. Where the frame
    has no room for all, they are cut to their first labels; an actor for whose card there is none
    even then has an ellipsis behind the number. Actors without labels get a thin box and no card.

    color: of all actors; None: of each their own (`track_color`).
    idle_color: of those without labels; None: as if they had some.
    numbered: write the actor's number on box and card.
    places: where each number's last card was, so that cards do not jump from frame to frame.
    reserved: areas that no card covers.
    """
    boxes_px = [_to_pixels(frame, item) for item in placed]
    badges = _badge_areas(frame, placed, boxes_px, style) if numbered else []
    cards = _Layout(frame.shape, placed, boxes_px, reserved, badges, style).cards(places)
    colors = [_color_of(item, color, idle_color) for item in placed]
    for item, box_px, own in zip(placed, boxes_px, colors, strict=True):
        dash_px = 4 * style.line_px if dashed else None
        line_px = style.line_px - (not item.actor.labels)
        # A dark line underneath keeps the bright one visible on bright frames.
        for line_color, margin in ((DARK, 1), (own, 0)):
            _draw_edges(frame, box_px, line_color, line_px, dash_px, margin=margin)
    for position, area in enumerate(badges):
        item = placed[position]
        more = bool(item.actor.labels) and position not in cards
        _draw_badge(frame, area, item, color=colors[position], style=style, more=more)
    for position, (card, corner) in cards.items():
        draw_card(frame, corner, card, color=colors[position], style=style)


def _color_of(item: Placed, color: Color | None, idle_color: Color | None) -> Color:
    if not item.actor.labels and idle_color is not None:
        return idle_color
    return track_color(item.number) if color is None else color


@dataclass(frozen=True)
class _Layout:
    """Where cards may go, and whose they are.

    closed: areas that none covers.
    badges: those of the actors' numbers, which no other actor's covers; empty: no numbers.
    """

    shape: tuple[int, ...]
    placed: Sequence[Placed]
    boxes_px: Sequence[Area]
    closed: Sequence[Area]
    badges: Sequence[Area]
    style: Style

    def cards(self, places: dict[int, int]) -> dict[int, tuple[Card, tuple[int, int]]]:
        """Return card and corner by position in `placed`; those without room are missing."""
        labelled = sum(bool(item.actor.labels) for item in self.placed)
        tried = dict(places)
        found = self._place(tried, most=None)
        if len(found) < labelled:
            shorter = dict(places)
            cut = self._place(shorter, most=1)
            found, tried = (cut, shorter) if len(cut) > len(found) else (found, tried)
        places.update(tried)
        return found

    def _place(
        self, places: dict[int, int], *, most: int | None
    ) -> dict[int, tuple[Card, tuple[int, int]]]:
        found: dict[int, tuple[Card, tuple[int, int]]] = {}
        taken: list[Area] = []
        labelled = [i for i, item in enumerate(self.placed) if item.actor.labels]
        bodies = np.reshape(self.boxes_px, (-1, 4))
        heads = np.reshape([head_of(box_px) for box_px in self.boxes_px], (-1, 4))
        badges = np.reshape(self.badges, (-1, 4))
        for position in sorted(labelled, key=lambda i: self.placed[i].number):
            numbers = np.delete(badges, position, 0) if self.badges else badges
            for count in dict.fromkeys((most, 1)):
                card = Card.of(
                    self.placed[position],
                    self.style,
                    self.shape[1],
                    numbered=bool(self.badges),
                    most=count,
                )
                corner = find_place(
                    self.shape,
                    self.boxes_px[position],
                    card,
                    taken=[*self.closed, *numbers, *taken],
                    heads=np.delete(heads, position, 0),
                    bodies=np.delete(bodies, position, 0),
                    last=places,
                )
                if corner is not None:
                    found[position] = card, corner
                    x, y = corner
                    taken.append(np.array([x, y, x + card.width, y + card.height], np.float64))
                    break
        return found


def _to_pixels(frame: Canvas, item: Placed) -> NDArray[np.float64]:
    height, width = frame.shape[:2]
    box = np.fmin(np.fmax(item.actor.box_01, 0), 1)  # of NaN 0
    scaled: NDArray[np.float64] = box * np.array([width, height, width, height])
    return scaled


def _draw_edges(
    frame: Canvas,
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


def _badge_areas(
    frame: Canvas, placed: Sequence[Placed], boxes_px: Sequence[Area], style: Style
) -> list[Area]:
    """Return where each number goes: the corner of its box that no earlier number has."""
    height, width = frame.shape[:2]
    areas: list[Area] = []
    for item, (x1, y1, x2, y2) in zip(placed, boxes_px, strict=True):
        w, h = badge_px(item.number, style, more=bool(item.actor.labels)), style.row_px - 2
        corners = np.array([(x1, y1), (x2 - w, y1), (x1, y2 - h), (x2 - w, y2 - h)])
        corners = np.clip(corners, 0, [max(0, width - w), max(0, height - h)]).round()
        tried = np.concatenate([corners, corners + [w, h]], axis=1)
        free = [area for area in tried if not overlaps(area[None], areas).any()]
        areas.append(free[0] if free else tried[0])
    return areas


def _draw_badge(
    frame: Canvas, area: Area, item: Placed, *, color: Color, style: Style, more: bool
) -> None:
    text = f"{item.number}…" if more else str(item.number)
    x, y = int(area[0]), int(area[1])
    width, height = badge_px(item.number, style, more=more), style.row_px - 2
    fill(frame, x, y, x + width, y + height, color)
    left = x + (width - width_of(text, style.text_px, BOLD)) // 2
    middle = y + height // 2 + style.text_px // 12  # digits are taller than what this centres
    draw_heading(frame, text, left, middle, style.text_px, DARK)
