import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import UserError
from detection.importers.class_names import (
    checked_separators,
    name_warnings,
    near_duplicates,
    several_in_one,
    split_names,
)


@pytest.mark.parametrize(
    ("text", "separators", "names"),
    [
        ("walk, sit", ",", ["walk", "sit"]),
        ("walk|sit;wave", "|;", ["walk", "sit", "wave"]),
        ("walk, sit", "", ["walk, sit"]),
        ("walk, sit", "|", ["walk, sit"]),
        ("walk,,walk , ", ",", ["walk"]),
        (" , ", ",", []),
        ("", "", []),
        ("talk to (e.g., self, a group), sit", ",", ["talk to (e.g., self, a group)", "sit"]),
        ("a (b, c", ",", ["a (b", "c"]),
        (") a, b (", ",", [") a", "b ("]),
    ],
)
def test_names_are_split_at_the_separators_outside_brackets(text, separators, names):
    assert split_names(text, separators) == names


@given(st.lists(st.text("ab c", min_size=1).map(str.strip).filter(bool), unique=True))
def test_what_was_joined_comes_apart_again(names):
    assert split_names(" | ".join(names), "|") == names


def test_names_that_differ_in_case_blanks_and_form_are_near():
    names = ["walk", "sit", "Walk", "pick up", "pick_up", "caf\u00e9", "cafe\u0301", "walk"]
    assert near_duplicates(names) == [
        ("walk", "Walk"),
        ("pick up", "pick_up"),
        ("caf\u00e9", "cafe\u0301"),
    ]
    assert near_duplicates(["walk", "walks", "walk", "sit"]) == []


def test_names_like_several_in_one():
    names = ["walk, sit", "walk|sit", "carry/hold (a bag, a box)", "walk", "walk,"]
    assert several_in_one(names) == ["walk, sit", "walk|sit"]


def test_warnings_count_and_show_three_examples():
    assert name_warnings(["walk", "sit"]) == []
    names = [f"{name}{mark}" for name in ("Aa", "aa") for mark in "1234"] + ["a|b\x1b"]
    twins, joined = name_warnings(names, split_option="--split-values '|'")
    assert twins.startswith("warning: 4 classes in several spellings")
    assert "'Aa1' and 'aa1'; 'Aa2' and 'aa2'; 'Aa3' and 'aa3'; and 1 more" in twins
    assert "1 class name like several in one" in joined
    assert "--split-values '|' splits them" in joined
    assert "\x1b" not in joined and r"\x1b" in joined


@pytest.mark.parametrize("text", ["", "a", "1", " ", "-", "_", "(", ",a"])
def test_separators_that_cut_inside_names_are_refused(text):
    with pytest.raises(UserError, match="--split-values"):
        checked_separators(text, option="--split-values")
    assert checked_separators(",|/", option="--split-values") == ",|/"
