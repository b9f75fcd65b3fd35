"""System fonts for characters that OpenCV's built-in font has no glyphs for.

The font file is that of the environment variable `ACTION_FONT`, else one found by fontconfig (its
command `fc-list`, if installed). Only outline fonts are used, no colour fonts (most emoji).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import unicodedata
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from detection.errors import UserError

VARIABLE = "ACTION_FONT"
_FORMAT = r"%{weight|80}\t%{slant|0}\t%{file}\t%{index}\n"
_REGULAR_WEIGHT = 80.0  # fontconfig's number for it
_PATIENCE_S = 20.0
_NO_CHARACTER = "\U0010ffff"  # no font has a glyph for it
# A line is 1.05 + 0.4 sizes high: letters with marks above and below are scaled down to fit.
_LEAST_SHARE = 0.6


@lru_cache(maxsize=1024)
def font_for(text: str) -> tuple[str, int] | None:
    """Return file and face index of a font that has all of `text`; None if not found.

    Raises `UserError` if `ACTION_FONT` is not a font file.
    """
    named = os.environ.get(VARIABLE)
    candidates = [(named, 0)] if named else []
    if named and not _opens(named, 0):
        raise UserError(f"{VARIABLE}={named}: cannot be read as a font file")
    for path, index in candidates + list(_listed(frozenset(text))):
        if _has_glyphs(path, index, text):
            return path, index
    return None


def text_mask(
    text: str, font: tuple[str, int], size: int, *, ascent: int, height: int
) -> NDArray[np.uint8]:
    """Return a line as a (height, w) mask with the baseline `ascent` pixels below the top."""
    face = ImageFont.truetype(font[0], size, index=font[1])
    _, top, _, bottom = face.getbbox(text, anchor="ls")
    share = min(1.0, ascent / max(1.0, -top), (height - ascent) / max(1.0, bottom))
    if share < 1:
        face = face.font_variant(size=max(1, int(size * max(share, _LEAST_SHARE))))
    left, _, right, _ = face.getbbox(text, anchor="ls")
    width = max(1, round(max(face.getlength(text), right)) - min(0, int(left)))
    image = Image.new("L", (width, height))
    ImageDraw.Draw(image).text((max(0, -left), ascent), text, 255, face, anchor="ls")
    return np.array(image, np.uint8)


@lru_cache(maxsize=1024)
def _listed(characters: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """Return fontconfig's outline fonts that have all characters, plain ones first."""
    command = shutil.which("fc-list")
    if command is None or not characters:
        return ()
    codes = " ".join(sorted(f"{ord(character):x}" for character in characters - {" "}))
    pattern = f":scalable=true:color=false:charset={codes}"
    try:
        done = subprocess.run(
            [command, "-f", _FORMAT, pattern], capture_output=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired):  # as if not installed: the warning stays
        return ()
    found = []
    for row in os.fsdecode(done.stdout).splitlines():
        weight, slant, path, index = row.split("\t")
        # A range of weights, "[50 200]", is of a variable font, which has the regular one.
        away = 0.0 if weight.startswith("[") else abs(float(weight) - _REGULAR_WEIGHT)
        # The upper half of the index names an instance of a variable font.
        found.append((slant != "0", away, "mono" in path.lower(), path, int(index) & 0xFFFF))
    return tuple((path, index) for *_, path, index in sorted(found) if Path(path).is_file())


@lru_cache(maxsize=64)
def _opens(path: str, index: int) -> bool:
    try:
        ImageFont.truetype(path, 16, index=index)
    except (OSError, ValueError):
        return False
    return True


def _has_glyphs(path: str, index: int, text: str) -> bool:
    """Whether a font has a glyph for each visible character of `text`."""
    if not _opens(path, index):
        return False
    face = ImageFont.truetype(path, 16, index=index, layout_engine=ImageFont.Layout.BASIC)
    none = bytes(face.getmask(_NO_CHARACTER))
    return all(
        unicodedata.category(character)[0] in "CZ" or bytes(face.getmask(character)) != none
        for character in set(text)
    )
