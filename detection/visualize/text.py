"""Text in pictures: measured, cut to fit, and harmless whatever is in it."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

Color = tuple[int, int, int]
REGULAR, BOLD = 400, 600
_NO_WRAP = (0, 1 << 20)
_TRIED_PX = 16


def plain(text: str, *, max_characters: int = 200) -> str:
    """Return one line of printable characters: controls and direction marks become spaces."""
    kept = (
        " " if unicodedata.category(character)[0] in "CZ" else character
        for character in text[: 4 * max_characters]
    )
    return " ".join("".join(kept).split())[:max_characters]


def width_of(text: str, size: int, weight: int = REGULAR) -> int:
    """Return how many pixels a line takes."""
    return int(_mask(plain(text), size, weight).shape[1])


def fit(text: str, width: int, size: int, weight: int = REGULAR) -> str:
    """Return the text, shortened with an ellipsis until it takes at most `width` pixels."""
    text = plain(text)
    if width_of(text, size, weight) <= width:
        return text
    low, high = 0, len(text)
    while low < high:
        middle = (low + high + 1) // 2
        if width_of(text[:middle].rstrip() + "…", size, weight) <= width:
            low = middle
        else:
            high = middle - 1
    return text[:low].rstrip() + "…" if low else ""


def not_drawn(texts: Iterable[str]) -> str:
    """Return the characters, each once and in order, that the face draws as a question mark."""
    unknown = _mask("?", _TRIED_PX, REGULAR)
    characters = sorted({character for text in texts for character in plain(text)} - {"?", " "})
    return "".join(
        character
        for character in characters
        if np.array_equal(_mask(character, _TRIED_PX, REGULAR), unknown)
    )


def font_warning(texts: Iterable[str]) -> str | None:
    """Say in one line which characters of class names and ids cannot be drawn; None: all can."""
    missing = not_drawn(texts)
    if not missing:
        return None
    shown = missing[:20] + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    return (
        f"warning: the drawing's font has no glyphs for {shown}: they are question marks in the "
        "annotated video and on sheets; tables and the review page have them"
    )


def draw_text(
    picture: NDArray[np.uint8],
    text: str,
    x: int,
    middle_y: int,
    *,
    size: int,
    color: Color,
    weight: int = REGULAR,
) -> int:
    """Draw one line from `x` on, its lower-case letters centred on `middle_y`; return its end.

    picture: (H, W, 3) uint8, painted in place. Parts outside the picture are left out.
    """
    mask = _mask(plain(text), size, weight)
    top = middle_y - _middle(size, weight)
    blend(picture, mask, x, top, color)
    return x + int(mask.shape[1])


def blend(
    picture: NDArray[np.uint8], mask: NDArray[np.uint8], x: int, y: int, color: Color
) -> None:
    """Paint `color` through an 8-bit mask whose corner lies at (x, y)."""
    height, width = picture.shape[:2]
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + mask.shape[1]), min(height, y + mask.shape[0])
    if left >= right or top >= bottom:
        return
    part = picture[top:bottom, left:right]
    share = mask[top - y : bottom - y, left - x : right - x, None].astype(np.float32) / 255
    paint = np.array(color, np.float32)
    part[:] = np.round(part * (1 - share) + paint * share).astype(np.uint8)


@lru_cache(maxsize=4096)
def _mask(text: str, size: int, weight: int) -> NDArray[np.uint8]:
    """Return the line as an (h, w) mask; h and the baseline are the same for every text."""
    ascent, height = round(1.05 * size), round(1.45 * size)
    if not text:
        return np.zeros((height, 0), np.uint8)
    face = _face()
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight, 0, _NO_WRAP)
    mask = np.zeros((height, width + 4), np.uint8)
    end, _ = cv2.putText(mask, text, (1, ascent), (255,), face, size, weight, 0, _NO_WRAP)
    cropped: NDArray[np.uint8] = mask[:, : max(1, min(width + 4, end[0] + 1))]
    return cropped


@lru_cache(maxsize=64)
def _middle(size: int, weight: int) -> int:
    rows = np.flatnonzero(_mask("x", size, weight).any(axis=1))
    return int(rows[0] + rows[-1] + 1) // 2


@lru_cache(maxsize=1)
def _face() -> cv2.FontFace:
    """OpenCV's built-in TrueType face (version 5 and newer): Latin, Cyrillic, Greek and CJK."""
    return cv2.FontFace("sans")
