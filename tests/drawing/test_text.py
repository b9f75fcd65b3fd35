"""Letters in pictures."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.drawing.text import draw_text, fit, plain, width_of


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


@pytest.fixture
def finder(monkeypatch):
    """No font but what a test puts in: {characters: font}."""
    from detection.drawing import fonts, text

    known = {}

    def find(wanted):
        return next((font for has, font in known.items() if set(wanted) <= set(has)), None)

    monkeypatch.setattr(fonts, "font_for", find)
    text._mask.cache_clear()
    yield known
    text._mask.cache_clear()


def test_characters_without_glyphs_are_named_and_no_others(finder):
    from detection.drawing.text import font_warning, not_drawn

    assert not_drawn(["answer phone?", "Ünïcödé", "Привет", ""]) == ""
    assert font_warning(["sit", "stand?"]) is None
    assert not_drawn(["a\U0010fffd\u0780b\u0780"]).count("\u0780") == 1
    warning = font_warning(["sit", "\u0780\u0781"])
    assert warning and "\u0780\u0781" in warning and "\n" not in warning
    assert "ACTION_FONT" in warning and "nstall a font" in warning
    finder["\u0780"] = ("one.ttf", 0)
    assert not_drawn(["\u0780\u0781"]) == "\u0781"


def test_each_word_is_drawn_by_a_font_that_has_all_of_it(finder):
    from detection.drawing.text import _runs

    assert _runs("walk and кино") == [("walk and кино", None)]
    assert _runs("go \u0780\u0781") == [("go \u0780\u0781", None)], "question marks, in one part"
    finder["\u0780\u0781a"] = ("thaana.ttf", 2)
    thaana = ("thaana.ttf", 2)
    assert _runs("go \u0780\u0781 a\u0780 on") == [
        ("go ", None),
        ("\u0780\u0781 a\u0780 ", thaana),
        ("on", None),
    ]
    assert _runs("x\u0780") == [("x", None), ("\u0780", thaana)], "no font has both"


def test_what_the_face_draws_looks_for_no_font(monkeypatch):
    from detection.drawing import fonts, text

    def never(_):
        raise AssertionError("looked for")

    monkeypatch.setattr(fonts, "font_for", never)
    text._mask.cache_clear()
    for line in ("walk?", "日本語 кино é ß ≥ …"):
        assert np.array_equal(text._mask(line, 20, 400), text._face_mask(line, 20, 400))


def some_font(characters):
    """A font file of this machine that has the characters, whoever installed it."""
    from detection.drawing import fonts

    places = [Path("/usr/share/fonts"), Path.home() / ".fonts"]
    spec = importlib.util.find_spec("matplotlib")
    if spec is not None and spec.origin:
        places.append(Path(spec.origin).parent / "mpl-data" / "fonts" / "ttf")
    for place in places:
        for path in sorted(place.rglob("*.ttf")):
            if fonts._has_glyphs(str(path), 0, characters):
                return path
    pytest.skip("no font file on this machine: nothing to draw with")


def test_a_named_font_draws_what_the_face_lacks(monkeypatch):
    from detection.drawing import fonts, text

    path = some_font("walk")
    monkeypatch.setenv(fonts.VARIABLE, str(path))
    monkeypatch.setattr(text, "_face_lacks", lambda character: character in "walk")
    for cached in (fonts.font_for, text._mask):
        cached.cache_clear()
    try:
        picture = canvas()
        end = draw_text(picture, "go walk", 10, 20, size=16, color=(255, 255, 255))
        assert end == 10 + width_of("go walk", 16) and fit("go walk", end - 10, 16) == "go walk"
        go = text._face_mask("go ", 16, 400)
        ours = text._mask("go walk", 16, 400)
        assert ours.shape[0] == go.shape[0] and np.array_equal(ours[:, : go.shape[1]], go)
        assert not np.array_equal(ours, text._face_mask("go walk", 16, 400))
        ink = np.flatnonzero(ours[:, go.shape[1] :].any(axis=1))
        theirs = np.flatnonzero(text._face_mask("walk", 16, 400).any(axis=1))
        assert abs(ink[-1] - theirs[-1]) <= 1, "on the same line as what the face draws"
        assert text.not_drawn(["walk"]) == ""
    finally:
        for cached in (fonts.font_for, text._mask):
            cached.cache_clear()


def test_a_named_font_that_is_none_is_one_line(monkeypatch, tmp_path):
    from detection.drawing import fonts
    from detection.errors import UserError

    (tmp_path / "no.ttf").write_text("no font")
    for name in ("no.ttf", "absent.ttf"):
        monkeypatch.setenv(fonts.VARIABLE, str(tmp_path / name))
        fonts.font_for.cache_clear()
        with pytest.raises(UserError, match=f"ACTION_FONT=.*{name}: cannot be read as a font"):
            fonts.font_for("\u0780")


def test_what_fontconfig_lists_plain_ones_come_first(monkeypatch, tmp_path):
    """A stand-in for fc-list: the charset that is asked for, and the order of the answers."""
    from detection.drawing import fonts

    rows = ["200\t0\tbold.ttf\t0", "80\t100\tslanted.ttf\t0", "80\t0\tplain.ttc\t3"]
    for row in rows:
        (tmp_path / row.split("\t")[2]).write_bytes(b"")
    text = "".join(row.replace("0\t", f"0\t{tmp_path}/", 2).replace(f"{tmp_path}/", "", 1) + "\n"
                   for row in rows)  # fmt: skip
    (tmp_path / "rows").write_text(text)
    command = tmp_path / "fc-list"
    command.write_text(f'#!/bin/sh\necho "$3" > {tmp_path}/asked\ncat {tmp_path}/rows\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    fonts._listed.cache_clear()
    found = fonts._listed(frozenset("\u0781 \u0780"))
    fonts._listed.cache_clear()
    assert [(Path(p).name, i) for p, i in found] == [
        ("plain.ttc", 3),
        ("bold.ttf", 0),
        ("slanted.ttf", 0),
    ]
    assert (tmp_path / "asked").read_text().strip().endswith("charset=780 781")


def test_without_fontconfig_there_is_no_font_and_no_error(monkeypatch, tmp_path):
    from detection.drawing import fonts

    monkeypatch.delenv(fonts.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for cached in (fonts.font_for, fonts._listed):
        cached.cache_clear()
    assert fonts.font_for("\u0780") is None
    for cached in (fonts.font_for, fonts._listed):
        cached.cache_clear()
