"""Procedural backgrounds: textured rooms and streets.

A background is painted once per video, larger than the frame, and warped by the camera.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.demo.looks import Colour, Split, colour, hue_of
from detection.demo.skeleton import Array, Rng

Image = NDArray[np.uint8]
Pixels = NDArray[np.float32]
MARGIN = 0.3  # of the frame height, on every side of it
HAZE = 0.5  # share of near white over the background

WALLS = ("bricks", "planks", "tiles", "stripes", "plaster", "panels", "hills", "city")
FLOORS = ("boards", "carpet", "slabs", "grass")


@dataclass(frozen=True)
class Place:
    """Parameters of a background."""

    wall: str
    floor: str
    wall_hue: float
    floor_hue: float
    horizon: float
    bright: float
    pieces: int
    seed: int


@cache
def places(split: Split) -> tuple[Place, ...]:
    """Return the places of a split: 300 for training, 100 for validation, of different hues."""
    rng = np.random.default_rng(4004 if split == "train" else 4005)
    count, first_seed = (300, 0) if split == "train" else (100, 10_000)
    return tuple(
        Place(
            wall=WALLS[index % len(WALLS)],
            floor=FLOORS[int(rng.integers(len(FLOORS)))],
            wall_hue=hue_of(split, rng),
            floor_hue=hue_of(split, rng),
            horizon=rng.uniform(0.5, 0.66),
            bright=rng.uniform(0.7, 0.95),
            pieces=int(rng.integers(0, 4)),
            seed=first_seed + index,
        )
        for index in range(count)
    )


def paint(place: Place, height_px: int, aspect: float) -> tuple[Image, Array]:
    """Return the background (rows, columns, 3) RGB and (2, 3), its pixels from world heights."""
    rng = np.random.default_rng(place.seed)
    rows = round(height_px * (1 + 2 * MARGIN))
    columns = round(height_px * (aspect + 2 * MARGIN))
    split = round(height_px * (place.horizon + MARGIN))
    image = np.empty((rows, columns, 3), np.float32)
    wall_base = np.array(colour(place.wall_hue, rng.uniform(0.04, 0.24), place.bright))
    floor_base = np.array(colour(place.floor_hue, rng.uniform(0.05, 0.28), rng.uniform(0.55, 0.85)))
    image[:split] = _WALLS[place.wall](rng, split, columns, height_px, wall_base)
    image[split:] = _floor(place.floor, rng, rows - split, columns, height_px, floor_base)
    image *= 1.0 + 0.06 * _noise(rng, rows, columns, (6, 24, 90))[..., None]
    canvas = np.clip(image, 0, 255).astype(np.uint8)
    if place.wall not in ("hills", "city"):
        skirting = tuple(int(v) for v in wall_base * 0.55)
        cv2.rectangle(canvas, (0, split - 5), (columns, split), skirting, -1)
        for _ in range(place.pieces):
            _furniture(rng, canvas, split, height_px)
    # A bright haze over the background, from which people stand out.
    canvas = np.rint((1 - HAZE) * canvas + HAZE * 235).astype(np.uint8)
    shift = MARGIN * height_px
    return canvas, np.array([[height_px, 0, shift], [0, height_px, shift]], np.float64)


def _noise(rng: Rng, rows: int, columns: int, cells: tuple[int, ...]) -> Pixels:
    """Return (rows, columns) smooth noise, about -1 to 1, of several sizes of grain."""
    total = np.zeros((rows, columns), np.float32)
    for count in cells:
        grid = rng.uniform(-1, 1, (count, max(2, count * columns // rows))).astype(np.float32)
        total += cv2.resize(grid, (columns, rows), interpolation=cv2.INTER_CUBIC) / len(cells)
    return total * np.float32(1.6)


def _laid(
    rng: Rng, rows: int, columns: int, base: Array, tall: float, wide: float,
    shifted: float, joint_shade: float, spread: float,
) -> Array:  # fmt: skip
    """Return bricks of `tall` x `wide` pixels, each of its own tone, between shaded joints."""
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    course = np.floor(y / tall)
    x = x + shifted * wide * (course % 2)
    brick = np.floor(x / wide)
    joint = np.minimum(np.minimum(y % tall, tall - y % tall), np.minimum(x % wide, wide - x % wide))
    of_row, of_column = course.astype(int), brick.astype(int)
    tones = rng.uniform(1 - spread, 1 + spread, (of_row.max() + 1, of_column.max() + 1))
    tone = np.where(joint < 1.1, joint_shade, tones[of_row, of_column])
    return base * tone[..., None]


def _bricks(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    tall = h * rng.uniform(0.035, 0.06)
    return _laid(rng, r, c, base, tall, 2.3 * tall, 0.5, float(rng.choice((0.7, 1.25))), 0.16)


def _planks(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    return _laid(rng, r, c, base, 10.0 * r, h * rng.uniform(0.06, 0.14), 0.0, 0.65, 0.12)


def _tiles(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    tall = h * rng.uniform(0.07, 0.13)
    return _laid(rng, r, c, base, tall, tall, 0.0, 1.2, 0.06)


def _stripes(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    wide = h * rng.uniform(0.04, 0.12)
    tone = np.where(np.floor(np.arange(c) / wide) % 2 > 0, 0.86, 1.06)
    return np.broadcast_to(base * tone[None, :, None], (r, c, 3))


def _plaster(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    fall = np.linspace(1.15, 0.82, r)[:, None, None]
    return base * fall * (1 + 0.12 * _noise(rng, r, c, (3, 9))[..., None])


def _panels(rng: Rng, r: int, c: int, h: int, base: Array) -> Array:
    return _laid(rng, r, c, base, h * 0.34, h * rng.uniform(0.2, 0.4), 0.0, 0.72, 0.07)


def _sky(r: int, c: int, base: Array) -> Pixels:
    fall = np.linspace(0, 1, r)[:, None, None]
    top = 0.55 * base + 0.45 * np.array((90, 140, 215))
    bottom = 0.4 * base + 0.6 * np.array((225, 232, 240))
    return np.broadcast_to(top + (bottom - top) * fall, (r, c, 3)).astype(np.float32).copy()


def _hills(rng: Rng, r: int, c: int, h: int, base: Array) -> Pixels:
    image = _sky(r, c, base)
    y, x = np.arange(r)[:, None], np.arange(c) / h
    for order in range(3):
        top = np.full(c, r - h * (0.34 - 0.1 * order))
        for _ in range(3):
            top = top + h * 0.03 * np.sin(x * rng.uniform(2, 9) + rng.uniform(0, 6))
        green = np.array(colour(0.22 + 0.12 * rng.random(), 0.35, 0.75 - 0.16 * order))
        image[y > top] = green
    return image


def _city(rng: Rng, r: int, c: int, h: int, base: Array) -> Pixels:
    image = _sky(r, c, base)
    x = 0
    while x < c:
        wide, tall = int(h * rng.uniform(0.12, 0.3)), int(h * rng.uniform(0.25, 0.62))
        tone = base * rng.uniform(0.45, 0.95)
        image[max(0, r - tall) :, x : x + wide] = tone
        lit = np.clip(tone * float(rng.choice((0.6, 1.45))), 0, 255)
        step = max(8, int(h * 0.055))
        for wy in range(r - tall + 6, r - 8, step):
            for wx in range(x + 5, min(x + wide, c) - 6, step):
                image[wy : wy + step // 2, wx : wx + step // 2] = lit
        x += wide + int(h * rng.uniform(0, 0.04))
    return image


_WALLS: dict[str, Callable[[Rng, int, int, int, Array], Array | Pixels]] = {
    "bricks": _bricks, "planks": _planks, "tiles": _tiles, "stripes": _stripes,
    "plaster": _plaster, "panels": _panels, "hills": _hills, "city": _city,
}  # fmt: skip


def _floor(kind: str, rng: Rng, rows: int, columns: int, height_px: int, base: Array) -> Array:
    """Return the ground, darker towards the wall, its pattern wider towards the viewer."""
    near = np.linspace(0.0, 1.0, rows, dtype=np.float32)[:, None]
    shade = (0.82 + 0.28 * near)[..., None]
    x = (np.arange(columns) - columns / 2)[None] / (0.45 + near) / height_px
    depth = np.log(0.35 + near)
    tone: Array | Pixels
    if kind == "boards":
        tone = 0.93 + 0.12 * ((np.sin(np.floor(x / 0.11) * 12.9898) * 43758.5) % 1)
    elif kind == "slabs":
        tone = 0.95 + 0.09 * ((np.floor(x / 0.25) + np.floor(depth / 0.28)) % 2)
    else:
        grain = (40, 120, 160) if kind == "grass" else (20, 140)
        tone = 1 + 0.11 * _noise(rng, rows, columns, grain)
    if kind == "grass":
        base = 0.35 * base + 0.65 * np.array((92, 140, 66))
    return np.asarray(base * shade * tone[..., None])


def _furniture(rng: Rng, canvas: Image, floor_y: int, h: int) -> None:
    x = int(rng.integers(0, canvas.shape[1]))
    tone = colour(rng.random(), rng.uniform(0.1, 0.5), rng.uniform(0.3, 0.9))
    dark: Colour = tuple(int(v * 0.6) for v in tone)  # type: ignore[assignment]
    kind = int(rng.integers(5))
    wide, tall = int(h * rng.uniform(0.12, 0.3)), int(h * rng.uniform(0.14, 0.26))
    if kind <= 1:  # window or painting
        y = floor_y - int(h * rng.uniform(0.36, 0.5))
        glass = (196, 222, 238) if kind == 0 else dark
        cv2.rectangle(canvas, (x, y), (x + wide, y + tall), tone, -1)
        cv2.rectangle(canvas, (x + 4, y + 4), (x + wide - 4, y + tall - 4), glass, -1)
        if kind == 0:
            cv2.line(canvas, (x + wide // 2, y), (x + wide // 2, y + tall), tone, 3)
        else:
            cv2.circle(canvas, (x + wide // 2, y + tall // 2), tall // 4, tone, -1, cv2.LINE_AA)
    elif kind == 2:  # door
        cv2.rectangle(canvas, (x, floor_y - int(0.5 * h)), (x + int(0.22 * h), floor_y), tone, -1)
        cv2.circle(canvas, (x + int(0.19 * h), floor_y - int(0.24 * h)), 3, dark, -1, cv2.LINE_AA)
    else:  # shelf of books, cupboard
        y = floor_y - int(h * rng.uniform(0.2, 0.42))
        cv2.rectangle(canvas, (x, y), (x + wide, floor_y), dark, -1)
        for shelf in range(y + 4, floor_y - 12, max(14, int(0.09 * h))):
            left = x + 4
            while kind == 3 and left < x + wide - 8:
                thick = int(rng.integers(3, 8))
                book = colour(rng.random(), 0.5, rng.uniform(0.4, 0.9))
                cv2.rectangle(canvas, (left, shelf), (left + thick, shelf + 11), book, -1)
                left += thick + 1
            if kind == 4:
                cv2.rectangle(canvas, (x + 4, shelf), (x + wide - 4, shelf + 12), tone, -1)
