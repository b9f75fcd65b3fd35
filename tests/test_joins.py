"""What two lists of ids do not share is told in one line, with the likely cause."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.joins import compare_ids, compare_times

NAMES = {"left_name": "the list", "right_name": "the disk"}


def test_equal_sides_are_no_finding():
    assert compare_ids(["a", "b"], ["b", "a"], **NAMES) is None
    assert compare_ids([], [], **NAMES) is None


def test_counts_and_three_examples_a_side():
    text = str(compare_ids([*"abcdef"], ["f", "x"], **NAMES))
    assert text == (
        "videos: 5 of 6 of the list are not in the disk (a, b, c, ...); "
        "1 of 2 of the disk are not in the list (x)"
    )


def test_a_side_that_may_hold_more_is_not_named():
    assert compare_ids(["a"], ["a", "b"], must="left", **NAMES) is None
    assert compare_ids(["a", "b"], ["a"], must="right", **NAMES) is None
    assert "(b)" in str(compare_ids(["a"], ["a", "b"], must="right", **NAMES))


@pytest.mark.parametrize(
    ("mine", "theirs", "cause"),
    [
        ("7", "0007", "how a number is written"),
        ("7", "7.0", "how a number is written"),
        ("clip_7", "clip_007", "how a number is written"),
        ("Walk", "walk", "upper and lower case"),
        ("walk", "walk.mp4", "a suffix"),
        ("walk", "walk.MOV", "a suffix"),
        ("walk", "videos/walk", "a folder"),
        ("walk", "videos\\walk", "a folder"),
        ("walk", "walk ", "blanks alone"),
        ("walk", "\ufeffwalk", "characters that are not seen"),
        ("my walk", "my_walk", "blanks, dashes and underscores"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("walk", "videos/Walk.mp4", "several such things"),
    ],
)
def test_the_likely_cause(mine, theirs, cause):
    for left, right in ((mine, theirs), (theirs, mine)):
        mismatch = compare_ids([left, "same"], [right, "same"], must="left", **NAMES)
        assert mismatch is not None and cause in mismatch.cause
        assert (mismatch.num_only_left, mismatch.num_only_right) == (1, 1)
        assert "\n" not in str(mismatch)


def test_a_difference_that_is_not_seen_is_written_out():
    cause = compare_ids(["caf\u00e9"], ["cafe\u0301"], **NAMES).cause
    assert r"'caf\xe9' and 'cafe\u0301'" in cause
    assert "\x1b" not in str(compare_ids(["\x1b[31m"], ["b"], **NAMES))


@given(st.sets(st.text(max_size=4), max_size=6), st.sets(st.text(max_size=4), max_size=6))
def test_none_where_and_only_where_the_sides_agree(left, right):
    mismatch = compare_ids(left, right, **NAMES)
    assert (mismatch is None) == (left == right)
    if mismatch is not None:
        assert mismatch.num_only_left == len(left - right)
        assert mismatch.num_only_right == len(right - left)


@given(st.text(alphabet="aéö", min_size=1, max_size=4))
def test_unicode_forms_of_any_name(name):
    forms = [unicodedata.normalize(form, name) for form in ("NFC", "NFD")]
    mismatch = compare_ids([forms[0]], [forms[1]], **NAMES)
    assert mismatch is None if forms[0] == forms[1] else "Unicode" in mismatch.cause


# --- times ------------------------------------------------------------------------------------

SECOND = 1_000_000
TRUTH = {video: [t * SECOND for t in range(902, 912)] for video in "ab"}


def moved(change):
    return {video: [change(t) for t in times] for video, times in TRUTH.items()}


@pytest.mark.parametrize(
    ("other", "cause"),
    [
        (moved(lambda t: t * 1000), "the times of the disk are milliseconds, those of the list"),
        (moved(lambda t: t // 1000), "the times of the list are milliseconds, those of the disk"),
        (moved(lambda t: t * 25), "frame numbers (25 a second)"),
        (moved(lambda t: t + SECOND), "1 s later"),
        (moved(lambda t: t - 33_367), "0.033367 s earlier"),
        (moved(lambda t: t + 400_000), "0.4 s later"),
    ],
)
def test_the_likely_cause_of_other_times(other, cause):
    mismatch = compare_times(TRUTH, other, must="left", **NAMES)
    assert cause in mismatch.cause


def test_times_that_were_rounded():
    exact = {"a": [902 * SECOND + k * 1_100_000 for k in range(9)]}
    for change, words in ((lambda t: round(t / 1e6), "rounded"), (lambda t: t // SECOND, "cut")):
        whole = {"a": [change(t) * SECOND for t in exact["a"]]}
        for left, right in ((exact, whole), (whole, exact)):
            cause = compare_times(left, right, **NAMES).cause
            assert f"{words} to whole seconds" in cause


def test_a_missing_keyframe_is_counted_without_a_cause():
    fewer = {**TRUTH, "a": TRUTH["a"][3:]}
    mismatch = compare_times(TRUTH, fewer, **NAMES)
    assert str(mismatch) == (
        "keyframes: 3 of 20 of the list are not in the disk (a at 902 s, a at 903 s, a at 904 s)"
    )
    assert compare_times(TRUTH, fewer, must="right", **NAMES) is None
    assert compare_times(TRUTH, TRUTH, **NAMES) is None
    assert compare_times({"a": [1]}, {"b": [2]}, **NAMES) is None  # videos are told elsewhere
