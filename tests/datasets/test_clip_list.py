"""Lists of labelled videos: every form that is about, and what is wrong with a row."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.clip_list import read_class_file, read_clip_list, write_clip_list
from detection.errors import UserError
from detection.structures import LabelMap

CLASSES = LabelMap(("archery", "talk to (self, others)", "playing cards"), (0, 1, 2))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "playing cards").mkdir()
    for name in ("a.mp4", "b c.mp4", "playing cards/xYz-_12345_000003_000013.mp4"):
        (tmp_path / name).write_bytes(b"")
    return tmp_path


def read(folder, text, **options):
    (folder / "list.csv").write_text(text)
    return read_clip_list(folder / "list.csv", CLASSES, folder=folder, **options)


@pytest.mark.parametrize(
    "text",
    [
        "a.mp4 0\nb c.mp4 2\n",
        "a.mp4,0\r\nb c.mp4,2\r\n",
        "a.mp4\t0\n\nb c.mp4\t2\n",
        "\ufeffpath,label\na.mp4,archery\nb c.mp4,playing cards\n",
        "label,path\n0,a.mp4\n2,b c.mp4",
    ],
)
def test_every_form_of_a_list_means_the_same(folder, text):
    clips = read(folder, text)
    assert clips.names == ("a.mp4", "b c.mp4")
    assert clips.paths == (folder / "a.mp4", folder / "b c.mp4")
    assert clips.labels.tolist() == [[1, 0, 0], [0, 0, 1]]


def test_a_field_without_an_end_is_told_by_its_line(folder):
    long = "a" * 500_000
    for text, line in (
        (f"path,label\n{long},1\n", 2),
        (f"{long},1\n", 1),
        ('path,label\na.mp4,0\n"b c.mp4,1\na.mp4,2\n', 3),
    ):
        with pytest.raises(UserError, match=rf"list\.csv:{line}: not a row of comma-separated"):
            read(folder, text)


def test_kinetics_own_list_finds_files_as_downloaders_name_them(folder):
    clips = read(
        folder,
        "label,youtube_id,time_start,time_end,split\nplaying cards,xYz-_12345,3,13,validate\n",
    )
    assert clips.paths == (folder / "playing cards/xYz-_12345_000003_000013.mp4",)


def test_absolute_paths_and_quoted_names(folder):
    clips = read(folder, f'path,label\n{folder / "a.mp4"},"talk to (self, others)"\n')
    assert clips.paths == (folder / "a.mp4",)
    assert clips.labels.tolist() == [[0, 1, 0]]


def test_several_labels_and_none(folder):
    clips = read(folder, "path,label\na.mp4,archery;2\nb c.mp4,\n", multi_label=True)
    assert clips.labels.tolist() == [[1, 0, 1], [0, 0, 0]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "lists no video"),
        ("path,label\n", "lists no video"),
        ("a.mp4 0\na.mp4 1\n", r"list.csv:2: 'a.mp4' is listed twice \(first in line 1\)"),
        ("a.mp4 0\nb c.mp4 3\n", "list.csv:2: label '3' is not one of 3 classes"),
        ("a.mp4 -1\n", "label '-1' is not one"),
        ("path,label\na.mp4,\n", "list.csv:2: label '' is not one"),
        ("path,label\na.mp4,0;2\n", "several classes are for classification.labels=multi"),
        ("a.mp4 0\ngone.mp4 1\n", "list.csv:2: .*gone.mp4: video file not found"),
        ("a.mp4\n", "list.csv:1: 'path label' required, found 'a.mp4'"),
        ("a.mp4,0\nb c.mp4,0,1\n", "list.csv:2: 3 columns, path, label required"),
        (
            "label,youtube_id,time_start\narchery,x,3\n",
            "list.csv:2: no path, and no youtube_id, time_start, time_end",
        ),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(folder, text, message):
    with pytest.raises(UserError, match=message):
        read(folder, text)


def test_files_that_are_none(tmp_path):
    with pytest.raises(UserError, match="gone.csv: list of videos.* not found"):
        read_clip_list(tmp_path / "gone.csv", CLASSES, folder=tmp_path)
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(UserError, match="bytes.csv:1: not UTF-8 text"):
        read_clip_list(tmp_path / "bytes.csv", CLASSES, folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.txt", "archery\nplaying cards\n"),
        ("c.json", '["archery", "playing cards"]'),
        ("c.json", '{"playing cards": 1, "\\"archery\\"": 0}'),
        ("c.json", '{"1": "playing cards", "0": "archery"}'),
    ],
)
def test_class_files(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    classes = read_class_file(tmp_path / name)
    assert (classes.names, classes.ids) == (("archery", "playing cards"), (0, 1))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.txt", "", "contains no class name"),
        ("c.txt", "a\n\nb\n", "c.txt:2: an empty line"),
        ("c.txt", "a\na\n", "there twice"),
        ("c.json", "[1]", "a list of class names, .* is required"),
        ("c.json", "{", "not a file of class names"),
        ("c.json", "{}", "at least one class"),
    ],
)
def test_class_files_that_are_none(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(UserError, match=message):
        read_class_file(tmp_path / name)
    with pytest.raises(UserError, match="file of class names not found"):
        read_class_file(tmp_path / "gone.txt")


NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=9)


@settings(max_examples=40, deadline=None)
@given(st.lists(NAMES, min_size=1, max_size=6, unique=True), st.data())
def test_a_list_that_is_written_is_read_back(tmp_path_factory, names, data):
    """Any file name and any class name, commas and quotes too."""
    folder = tmp_path_factory.mktemp("lists")
    paths = [f"{i}-{name.replace('/', '_')}.mp4" for i, name in enumerate(names)]
    for path in paths:
        (folder / path).write_bytes(b"")
    classes = LabelMap(tuple(f"class {name}" for name in names), tuple(range(len(names))))
    picks = data.draw(st.lists(st.integers(0, len(names) - 1), min_size=1, max_size=len(names)))
    rows = [(paths[i], classes.names[pick]) for i, pick in enumerate(picks)]
    write_clip_list(folder / "list.csv", rows)
    clips = read_clip_list(folder / "list.csv", classes, folder=folder)
    assert clips.names == tuple(path for path, _ in rows)
    assert clips.labels.argmax(1).tolist() == picks
    with (folder / "list.csv").open(newline="") as file:
        assert len(list(csv.reader(file))) == len(rows) + 1
    assert clips.labels.sum() == len(rows) and clips.labels.dtype == np.float32
