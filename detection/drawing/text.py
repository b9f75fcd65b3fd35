"""Text in frames: measured, shortened to fit, with control characters removed."""

from __future__ import annotations

import itertools
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from detection.drawing import fonts
from detection.drawing.palette import Color
from detection.drawing.yuv import Canvas, YuvFrame

REGULAR, BOLD = 400, 600
_NO_WRAP = (0, 1 << 20)
_TRIED_PX = 16


@lru_cache(maxsize=4096)
def plain(text: str, *, max_characters: int = 200) -> str:
    """Return one line of printable characters: controls and direction marks become spaces."""
    kept = (
        " " if unicodedata.category(character)[0] in "CZ" else character
        for character in text[: 4 * max_characters]
    )
    return " ".join("".join(kept).split())[:max_characters]


def width_of(text: str, size: int, weight: int = REGULAR) -> int:
    """Return the width of a line in pixels."""
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
    """Return the distinct characters, sorted, that are drawn as question marks.

    Neither the built-in font nor any system font (`fonts.font_for`) has a glyph for them.
    """
    characters = sorted({character for text in texts for character in plain(text)})
    return "".join(c for c in characters if _face_lacks(c) and fonts.font_for(c) is None)


def font_warning(texts: Iterable[str]) -> str | None:
    """Return a one-line warning of the characters that cannot be drawn; None: all can."""
    missing = not_drawn(texts)
    if not missing:
        return None
    shown = missing[:20] + (f" and {len(missing) - 20} more" if len(missing) > 20 else "")
    return (
        f"warning: no font was found with glyphs for {shown}: they are question marks in the "
        "annotated video and on sheets; tables and the review page have them. Install a font with "
        f"these characters (such as one of the Noto fonts), or name its file in {fonts.VARIABLE}"
    )


def draw_text(
    frame: Canvas,
    text: str,
    x: int,
    middle_y: int,
    *,
    size: int,
    color: Color,
    weight: int = REGULAR,
) -> int:
    """Draw one line from `x` on, its lower-case letters centred on `middle_y`; return its end.

    frame: drawn on in place. Text outside the frame is clipped.
    """
    mask = _mask(plain(text), size, weight)
    blend(frame, mask, x, middle_y - _middle(size, weight), color)
    return x + int(mask.shape[1])


def blend(frame: Canvas, mask: NDArray[np.uint8], x: int, y: int, color: Color) -> None:
    """Paint `color` through an 8-bit mask whose corner lies at (x, y)."""
    if isinstance(frame, YuvFrame):
        frame.blend(mask, x, y, color)
        return
    height, width = frame.shape[:2]
    left, top = max(0, x), max(0, y)
    right, bottom = min(width, x + mask.shape[1]), min(height, y + mask.shape[0])
    if left >= right or top >= bottom:
        return
    part = frame[top:bottom, left:right]
    share = mask[top - y : bottom - y, left - x : right - x, None].astype(np.float32) / 255
    paint = np.array(color, np.float32)
    part[:] = np.round(part * (1 - share) + paint * share).astype(np.uint8)


@lru_cache(maxsize=4096)
def _mask(text: str, size: int, weight: int) -> NDArray[np.uint8]:
    """Return the line as an (h, w) mask; h and the baseline are the same for every text."""
    ascent, height = round(1.05 * size), round(1.45 * size)
    if not text:
        return np.zeros((height, 0), np.uint8)
    parts = [
        _face_mask(part, size, weight)
        if font is None
        else fonts.text_mask(part, font, size, ascent=ascent, height=height)
        for part, font in _runs(text)
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def _face_mask(text: str, size: int, weight: int) -> NDArray[np.uint8]:
    ascent, height = round(1.05 * size), round(1.45 * size)
    face = _face()
    _, _, width, _ = cv2.getTextSize((0, 0), text, (0, 0), face, size, weight, 0, _NO_WRAP)
    mask = np.zeros((height, width + 4), np.uint8)
    end, _ = cv2.putText(mask, text, (1, ascent), (255,), face, size, weight, 0, _NO_WRAP)
    cropped: NDArray[np.uint8] = mask[:, : max(1, min(width + 4, end[0] + 1))]
    return cropped


def _runs(text: str) -> list[tuple[str, tuple[str, int] | None]]:
    """Split a line into runs of one font each; None: the built-in font, also where none is found.

    A word that the built-in font lacks is one run if a font has all of it, since letters of many
    scripts depend on their neighbours.
    """
    if not any(map(_face_lacks, set(text))):
        return [(text, None)]
    words = ("".join(letters) for _, letters in itertools.groupby(text, str.isspace))
    runs: list[tuple[str, tuple[str, int] | None]] = []
    for part, font in itertools.chain.from_iterable(map(_pieces, words)):
        if runs and (runs[-1][1] == font or not part.strip()):
            runs[-1] = (runs[-1][0] + part, runs[-1][1])
        else:
            runs.append((part, font))
    return runs


def _pieces(word: str) -> list[tuple[str, tuple[str, int] | None]]:
    if not any(map(_face_lacks, word)):
        return [(word, None)]
    if (font := fonts.font_for(word)) is not None:
        return [(word, font)]
    return [(c, fonts.font_for(c) if _face_lacks(c) else None) for c in word]


@lru_cache(maxsize=1 << 16)
def _face_lacks(character: str) -> bool:
    """Whether the built-in font draws a character as a question mark."""
    if character in "? ":
        return False
    unknown = _face_mask("?", _TRIED_PX, REGULAR)
    return np.array_equal(_face_mask(character, _TRIED_PX, REGULAR), unknown)


@lru_cache(maxsize=64)
def _middle(size: int, weight: int) -> int:
    rows = np.flatnonzero(_mask("x", size, weight).any(axis=1))
    return int(rows[0] + rows[-1] + 1) // 2


@lru_cache(maxsize=1)
def _face() -> cv2.FontFace:
    """OpenCV's built-in TrueType face (version 5 and newer): Latin, Cyrillic, Greek and CJK."""
    return cv2.FontFace("sans")
