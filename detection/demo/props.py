"""Props: seats, and things that occlude people.

A prop is a list of convex outlines (K, 2) in world heights (y down) with a colour each, the nearest
last.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detection.demo.looks import Colour, Split, colour, hue_of
from detection.demo.skeleton import Array, Rng

Shapes = list[tuple[Array, Colour]]
_CIRCLE = np.linspace(0, 2 * np.pi, 14, endpoint=False)


@dataclass(frozen=True)
class Prop:
    """Shapes that stand on the ground at height `ground_y` (world; larger is nearer)."""

    shapes: Shapes
    ground_y: float


def _shade(tone: Colour, factor: float) -> Colour:
    red, green, blue = (int(min(255, v * factor)) for v in tone)
    return red, green, blue


def _box(x: float, y: float, w: float, h: float) -> Array:
    return np.array([(x, y), (x + w, y), (x + w, y + h), (x, y + h)])


def _oval(x: float, y: float, rx: float, ry: float, lean: float = 0.0) -> Array:
    points = np.stack([rx * np.cos(_CIRCLE), ry * np.sin(_CIRCLE)], axis=-1)
    turn = np.array([[np.cos(lean), np.sin(lean)], [-np.sin(lean), np.cos(lean)]])
    return np.asarray(points @ turn + (x, y))


def chair(x: float, ground_y: float, seat: float, tone: Colour, *, back: int) -> Prop:
    """Return a chair, its seat `seat` high and centred on x; back: -1 left, 1 right."""
    w = 0.62 * seat
    legs: Shapes = [
        (_box(x + s * 0.36 * w - 0.06 * w, ground_y - seat, 0.12 * w, seat), _shade(tone, 0.6))
        for s in (-1, 1)
    ]
    rung = (_box(x - 0.36 * w, ground_y - 0.4 * seat, 0.72 * w, 0.06 * seat), _shade(tone, 0.5))
    top = (_box(x - 0.5 * w, ground_y - seat, w, 0.16 * seat), tone)
    rest_x = x + back * 0.5 * w - 0.07 * w
    rest = (_box(rest_x, ground_y - 2.1 * seat, 0.14 * w, 2.1 * seat), _shade(tone, 0.8))
    return Prop([rest, *legs, rung, top], ground_y)


def hiding(
    kind: str, rng: Rng, split: Split, x: float, ground_y: float, w: float, h: float
) -> Prop:
    """Return a prop of about w x h at x that occludes a person."""
    tone = colour(hue_of(split, rng), rng.uniform(0.05, 0.3), rng.uniform(0.35, 0.7))
    return Prop(_KINDS[kind](rng, x, ground_y, w, h, tone), ground_y)


def _planter(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    shapes: Shapes = []
    leaf = colour(rng.uniform(0.24, 0.4), 0.55, rng.uniform(0.35, 0.65))
    for index in range(13):
        lean = rng.uniform(-0.7, 0.7)
        at = x + (index / 12 - 0.5) * w * 0.8
        size = h * rng.uniform(0.26, 0.34)
        shade = rng.uniform(0.75, 1.25)
        shapes.append((_oval(at, y - 0.66 * h, 0.07 * w, size, lean), _shade(leaf, shade)))
    shapes.append((_box(x - w / 2, y - 0.45 * h, w, 0.45 * h), tone))
    shapes.append((_box(x - 0.53 * w, y - 0.48 * h, 1.06 * w, 0.08 * h), _shade(tone, 1.2)))
    return shapes


def _counter(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    shapes: Shapes = [(_box(x - w / 2, y - h, w, h), tone)]
    boards = 6
    for index in range(boards):
        left = x - w / 2 + (index + 0.06) * w / boards
        shade = rng.uniform(0.82, 1.02)
        shapes.append((_box(left, y - 0.9 * h, 0.88 * w / boards, 0.86 * h), _shade(tone, shade)))
    shapes.append((_box(x - 0.53 * w, y - 1.02 * h, 1.06 * w, 0.1 * h), _shade(tone, 1.25)))
    return shapes


def _crates(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    shapes: Shapes = []
    for left, top, wide, tall in (
        (x - w / 2, y - 0.55 * h, 0.5 * w, 0.55 * h), (x, y - 0.62 * h, 0.52 * w, 0.62 * h),
        (x - 0.3 * w, y - h, 0.55 * w, 0.47 * h),
    ):  # fmt: skip
        shade = rng.uniform(0.8, 1.1)
        shapes.append((_box(left, top, wide, tall), _shade(tone, 0.62 * shade)))
        for row in range(3):
            high = top + (row + 0.08) * tall / 3
            slat = _box(left + 0.03 * w, high, wide - 0.06 * w, 0.8 * tall / 3)
            shapes.append((slat, _shade(tone, shade)))
    return shapes


def _bush(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    leaf = colour(rng.uniform(0.22, 0.42), 0.5, rng.uniform(0.3, 0.6))
    shapes: Shapes = []
    for index in range(16):
        share = index / 15
        at = x + (rng.uniform(-0.42, 0.42)) * w * (1 - 0.35 * (1 - share))
        up = y - h * (0.86 - 0.72 * share) - 0.02 * h
        r = rng.uniform(0.13, 0.19)
        shapes.append((_oval(at, up, r * w, 0.17 * h), _shade(leaf, rng.uniform(0.75, 1.25))))
    return shapes


def _sofa(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    shapes: Shapes = [(_box(x - 0.46 * w, y - 0.97 * h, 0.92 * w, 0.9 * h), tone)]
    shapes.append((_oval(x, y - 0.93 * h, 0.47 * w, 0.07 * h), tone))
    for index in range(3):
        left = x - 0.43 * w + index * 0.29 * w
        shapes.append((_box(left, y - 0.86 * h, 0.27 * w, 0.6 * h), _shade(tone, 1.12)))
    for left in (x - 0.46 * w - 0.06 * w, x + 0.46 * w - 0.06 * w):
        shapes.append((_box(left, y - 0.7 * h, 0.12 * w, 0.7 * h), _shade(tone, 0.85)))
    return shapes


def _pillar(rng: Rng, x: float, y: float, w: float, h: float, tone: Colour) -> Shapes:
    shapes: Shapes = [(_box(x - w / 2, y - 1.6, w, 1.6), tone)]
    for index in range(3):
        left = x - 0.42 * w + index * 0.3 * w
        shapes.append((_box(left, y - 1.6, 0.16 * w, 1.56), _shade(tone, 1.15 - 0.15 * index)))
    shapes.append((_box(x - 0.62 * w, y - 0.06, 1.24 * w, 0.06), _shade(tone, 0.8)))
    return shapes


_KINDS: dict[str, Callable[[Rng, float, float, float, float, Colour], Shapes]] = {
    "planter": _planter, "counter": _counter, "crates": _crates,
    "bush": _bush, "sofa": _sofa, "pillar": _pillar,
}  # fmt: skip
LOW_KINDS = ("planter", "counter", "crates", "bush", "sofa")
