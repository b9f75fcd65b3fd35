"""labels.yaml: what is being labelled in a data set; every mistake is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_data import make_dataset

from detection.datasets.folder import DatasetFolder
from detection.datasets.labelling_task import (
    TASK_FILE,
    LabellingTask,
    read_labelling_task,
    write_labelling_task,
)
from detection.errors import UserError

TASK = LabellingTask(boxes="people", split="all", actions=("wave",), one_of={"pose": ("a", "走")})


def test_what_is_written_is_read(tmp_path: Path):
    path = write_labelling_task(tmp_path, TASK)
    assert path == tmp_path / TASK_FILE
    assert path.read_text("utf-8") == (
        "boxes: people\nsplit: all\none_of:\n  pose:\n  - a\n  - 走\nactions:\n- wave\n"
    )
    assert read_labelling_task(tmp_path) == TASK
    other = LabellingTask(boxes="b", split="s", actions=("x",), min_score=0.25, min_length=3)
    write_labelling_task(tmp_path, other)
    assert read_labelling_task(tmp_path) == other


def test_classes_are_numbered_in_the_order_of_the_keys(tmp_path: Path):
    named = TASK.label_map()
    assert named.names == ("a", "走", "wave") and named.ids == (1, 2, 3)
    assert named.exclusive == {"pose": (0, 1)}


def test_a_data_set_with_the_same_classes_gives_their_ids(tmp_path: Path):
    folder = DatasetFolder.open(make_dataset(tmp_path / "data"))
    task = LabellingTask(
        boxes="p", split="train", actions=("be here",), one_of={"colour": ("be blue", "be red")}
    )
    named = task.label_map(folder)
    assert (named.names, named.ids) == (("be red", "be blue", "be here"), (3, 7, 9))
    assert named.exclusive == {"colour": (1, 0)}
    assert TASK.label_map(folder).ids == (1, 2, 3)  # other classes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "key 'boxes' is required"),
        ("boxes: p\nsplit: all\n", "no class to choose from"),
        ("boxes: p\nsplit: all\nactions: wave\n", "labels.yaml:3: actions"),
        ("boxes: p\nsplit: all\nactions: [a, a]\n", "class 'a' is there twice"),
        ("boxes: p\nsplit: all\nactions: [a]\none_of: {g: [a, b]}\n", "class 'a' is there twice"),
        ("boxes: p\nsplit: all\none_of: {g: [b]}\n", "group 'g' needs at least two classes"),
        ("boxes: p\nsplit: all\nactions: [' a']\n", "blanks around it"),
        ('boxes: p\nsplit: all\nactions: ["a\\e[2J"]\n', "no valid class name"),
        ("boxes: p\nsplit: all\nactions: [a]\nmin_score: 2\n", "labels.yaml:4: min_score"),
        ("boxes: p\nsplit: all\nactions: [a]\nmin_length: 0\n", "labels.yaml:4: min_length"),
        ("boxes: p\nsplit: all\nactions: [a]\nclasses: [b]\n", "unknown key 'classes'"),
        ("boxes: 3\nsplit: all\nactions: [a]\n", "labels.yaml:1: boxes"),
        ("boxes: [", "YAML error"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str):
    (tmp_path / TASK_FILE).write_text(text)
    with pytest.raises(UserError) as found:
        read_labelling_task(tmp_path)
    assert words in str(found.value) and "\n" not in str(found.value)


def test_a_missing_file_says_how_to_make_it(tmp_path: Path):
    with pytest.raises(UserError, match=r"file not found; python -m ava_tools\.label --dataset"):
        read_labelling_task(tmp_path)
