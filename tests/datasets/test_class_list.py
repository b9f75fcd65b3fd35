"""Class lists: the forms that others publish them in, and what is wrong with one."""

from __future__ import annotations

import pytest

from detection.datasets.class_list import read_class_list
from detection.errors import UserError


@pytest.mark.parametrize(
    ("name", "text", "ids"),
    [
        ("a.txt", "run\nsit down\nstand", (0, 1, 2)),
        ("a.txt", "run\r\nsit down\r\nstand\r\n\n", (0, 1, 2)),
        ("a.txt", "2: stand\n0: run\n1:sit down\n", (0, 1, 2)),
        ("a", "1 : run\n2: sit down\n3: stand", (1, 2, 3)),
        ("a.json", '["run", "sit down", "stand"]', (0, 1, 2)),
        ("a.json", '{"2": "stand", "0": "run", "1": "sit down"}', (0, 1, 2)),
        ("a.json", '{"stand": 3, "run": 1, "sit down": 2}', (1, 2, 3)),
    ],
)
def test_every_form_gives_the_columns_in_order(name, text, ids, tmp_path):
    (tmp_path / name).write_text(text, newline="")
    classes = read_class_list(tmp_path / name)
    assert classes.names == ("run", "sit down", "stand") and classes.ids == ids


def test_a_name_may_hold_a_colon_and_digits(tmp_path):
    (tmp_path / "a.txt").write_text("walk: fast\n10 push-ups\n")
    assert read_class_list(tmp_path / "a.txt").names == ("walk: fast", "10 push-ups")


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.txt", "", "names no class"),
        ("a.txt", "\n \n", "names no class"),
        ("a.txt", "run\n\nsit", ":2: an empty line"),
        ("a.txt", "0: run\nsit", ":2: some lines"),
        ("a.txt", "0: run\n0: sit", ":2: class 0 is there twice"),
        ("a.txt", "0: run\n2: sit", "class 1 is left out"),
        ("a.txt", "5: run\n6: sit", "the first is 5"),
        ("a.txt", "run\nrun", ":2: class 'run' is there twice"),
        ("a.txt", "run\n\x1b[2Jsit", "no valid class name"),
        ("a.txt", '{"0": "run"}', "ends in .json"),
        ("a.txt", "{run", "begins as JSON"),
        ("a.json", "[", "not a file of class names"),
        ("a.json", "{}", "class"),
        ("a.json", '{"0": "run", "7": "sit"}', "class 1 is left out"),
        ("a.json", "[" * 100_000, "not a file of class names"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(name, text, words, tmp_path):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError) as caught:
        read_class_list(tmp_path / name)
    said = str(caught.value)
    assert words in said and said.startswith(str(tmp_path / name)) and said.isprintable()


def test_a_file_that_is_absent_or_no_text_is_refused(tmp_path):
    (tmp_path / "a.bin").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent.txt", tmp_path / "absent.json", tmp_path, tmp_path / "a.bin"):
        with pytest.raises(UserError):
            read_class_list(path)
