"""Letters in pictures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.visualize.text import draw_text, fit, plain, width_of


def canvas() -> np.ndarray:
    return np.zeros((40, 200, 3), np.uint8)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("talk to\n(e.g., self)", "talk to (e.g., self)"),
        ("a\x00\x1b[31mb\tc", "a [31mb c"),
        ("left‮right", "left right"),
        ("<b>&amp;</b>", "<b>&amp;</b>"),
        ("", ""),
        ("   ", ""),
    ],
)
def test_plain(raw: str, shown: str) -> None:
    assert plain(raw) == shown


def test_no_letters_paint_nothing() -> None:
    picture = canvas()
    assert draw_text(picture, "", 10, 20, size=14, color=(255, 255, 255)) == 10
    assert not picture.any()


@pytest.mark.parametrize("text", ["walk", "日本語", "кино", "é ß ≥ …"])
def test_letters_of_many_scripts_are_painted(text: str) -> None:
    picture = canvas()
    end = draw_text(picture, text, 10, 20, size=16, color=(255, 128, 0))
    assert end == 10 + width_of(text, 16)
    columns = np.flatnonzero(picture.any(axis=(0, 2)))
    assert columns[0] >= 10 and columns[-1] < end
    assert picture[..., 0].max() == 255 and picture[..., 2].max() == 0


def test_lower_case_letters_are_centred() -> None:
    picture = canvas()
    draw_text(picture, "xxx", 10, 20, size=16, color=(255, 255, 255))
    rows = np.flatnonzero(picture.any(axis=(1, 2)))
    assert abs((rows[0] + rows[-1] + 1) / 2 - 20) <= 1


@settings(deadline=None, max_examples=40)
@given(st.text(max_size=60), st.integers(0, 160))
def test_whatever_is_in_it_fits(text: str, width: int) -> None:
    shown = fit(text, width, 14)
    assert width_of(shown, 14) <= width
    picture = canvas()
    draw_text(picture, shown, 20, 20, size=14, color=(255, 255, 255))
    assert not picture[:, 20 + width :].any()


def test_short_text_is_not_cut_and_long_text_says_so() -> None:
    assert fit("walk", 500, 14) == "walk"
    assert fit("carry/hold (an object)", 80, 14).endswith("…")
    assert fit("walk", 0, 14) == ""


@pytest.mark.parametrize(("x", "y"), [(-30, 20), (190, 20), (10, -50), (10, 500), (10, 0)])
def test_outside_the_picture_is_left_out(x: int, y: int) -> None:
    draw_text(canvas(), "walk and talk", x, y, size=14, color=(255, 255, 255))


def test_characters_without_glyphs_are_named_and_no_others():
    from detection.visualize.text import font_warning, not_drawn

    assert not_drawn(["answer phone?", "Ünïcödé", "Привет", ""]) == ""
    assert font_warning(["sit", "stand?"]) is None
    assert not_drawn(["a\U0010fffd\u0780b\u0780"]).count("\u0780") == 1
    warning = font_warning(["sit", "\u0780\u0781"])
    assert warning and "\u0780\u0781" in warning and "\n" not in warning
