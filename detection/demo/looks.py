"""Appearance of people: bodies and clothes; training and validation share none.

Colours are (red, green, blue), 0 to 255.
"""

from __future__ import annotations

import colorsys
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from detection.demo.skeleton import Build, Rng

Split = Literal["train", "val"]
Colour = tuple[int, int, int]

SKINS = (
    (92, 58, 40),
    (124, 80, 54),
    (158, 108, 76),
    (190, 140, 104),
    (218, 172, 138),
    (238, 200, 170),
)
HAIRS = ((26, 22, 22), (58, 38, 26), (98, 62, 34), (150, 104, 52), (208, 176, 104), (150, 148, 150))
HAIR_STYLES = ("short", "long", "bun", "bald", "cap")
PATTERNS = ("plain", "hoops", "band", "sash", "open")
TROUSERS = ("long", "short", "skirt")
HUES = 24  # clothes and rooms of validation take every third of them, training the rest


@dataclass(frozen=True)
class Body:
    """A person without clothes: proportions, skin and hair."""

    build: Build
    skin: Colour
    hair: Colour
    hair_style: str


@dataclass(frozen=True)
class Clothes:
    """What a person wears."""

    top: Colour
    trim: Colour
    pattern: str
    long_sleeves: bool
    trousers: Colour
    trousers_kind: str
    shoes: Colour


def hue_of(split: Split, rng: Rng) -> float:
    """Return a hue, 0 to 1, from the split's own bins of the colour circle."""
    bins = [b for b in range(HUES) if (b % 3 == 2) == (split == "val")]
    return (bins[int(rng.integers(len(bins)))] + rng.uniform(0.1, 0.9)) / HUES


def colour(hue: float, saturation: float, value: float) -> Colour:
    """Return the colour of a hue, saturation and value, each 0 to 1."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(255 * red), round(255 * green), round(255 * blue)


@cache
def bodies(split: Split) -> tuple[Body, ...]:
    """Return the bodies of a split: 96 for training, 32 for validation, none in both."""
    rng = np.random.default_rng(1001)
    made = tuple(_body(rng) for _ in range(128))
    return tuple(body for index, body in enumerate(made) if (index % 4 == 3) == (split == "val"))


def _body(rng: Rng) -> Body:
    # Slim to stout: limbs, shoulders and belly go together.
    stout = rng.uniform(0, 1)
    build = Build(
        leg=rng.uniform(0.44, 0.50),
        arm=rng.uniform(0.37, 0.42),
        hip_half=0.048 + 0.018 * stout,
        shoulder_half=0.092 + 0.03 * stout + rng.uniform(0, 0.012),
        limb=0.046 + 0.014 * stout,
        belly=0.064 + 0.034 * stout,
        head=rng.uniform(0.074, 0.09),
    )
    skin = np.array(SKINS[int(rng.integers(len(SKINS)))]) + rng.integers(-9, 10, 3)
    hair = np.array(HAIRS[int(rng.integers(len(HAIRS)))]) + rng.integers(-8, 9, 3)
    return Body(build, _bytes(skin), _bytes(hair), HAIR_STYLES[int(rng.integers(len(HAIR_STYLES)))])


def _bytes(values: np.ndarray) -> Colour:
    red, green, blue = (int(v) for v in np.clip(values, 0, 255))
    return red, green, blue


@cache
def clothes(split: Split) -> tuple[Clothes, ...]:
    """Return the clothes of a split: 120 for training, 40 for validation, of different hues."""
    rng = np.random.default_rng(2002 if split == "train" else 2003)
    return tuple(_clothes(split, rng) for _ in range(120 if split == "train" else 40))


def _clothes(split: Split, rng: Rng) -> Clothes:
    top, other, below = (hue_of(split, rng) for _ in range(3))
    return Clothes(
        top=colour(top, rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.85)),
        trim=colour(other, rng.uniform(0.6, 0.95), rng.uniform(0.25, 0.6)),
        pattern=PATTERNS[int(rng.integers(len(PATTERNS)))],
        long_sleeves=rng.random() < 0.75,
        trousers=colour(below, rng.uniform(0.3, 0.8), rng.uniform(0.15, 0.5)),
        trousers_kind=TROUSERS[int(rng.choice(len(TROUSERS), p=(0.6, 0.25, 0.15)))],
        shoes=colour(other, rng.uniform(0.1, 0.7), rng.uniform(0.1, 0.4)),
    )
