"""MOT text: what is written comes back; files of MOTChallenge and of CVAT are read."""

from __future__ import annotations

import pytest
from made_labels import CLASSES, imported, write_labelled

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.mot import read_mot, write_mot

ROWS = [
    "a_1,0001,0.077,0.151,0.283,0.811,3,1",
    "a_1,0001,0.077,0.151,0.283,0.811,17,1",
    "a_1,0001,0.5,0.151,0.9,0.811,24,0",
    "a_1,2.100000,0.1,0.2,0.3,0.9,,0",
    "b 走-,0003,0.333333,0.1,0.999,0.9,31,5",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", [*ROWS, "a_1,0004"])


def test_rows_come_back(made, tmp_path):
    notes = write_mot(DatasetFolder.open(made), "all", tmp_path / "mot")
    assert notes[0] == "2 videos, 4 boxes, 5 lines"
    assert notes[1:] == ["1 of 4 keyframes: without persons, which MOT text cannot hold"]
    assert imported("mot", tmp_path / "mot", made, tmp_path / "back") == sorted(ROWS)
    assert "seqLength=80" in (tmp_path / "mot/a_1/seqinfo.ini").read_text()
    first = (tmp_path / "mot/a_1/gt/gt.txt").read_text().splitlines()[0].split(",")
    assert (first[0], first[1], first[6], first[7], first[8]) == ("11", "0", "1", "4", "1")


def write(folder, text, name="a_1.txt", labels=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if labels:
        (path.parent / "labels.txt").write_text(labels, encoding="utf-8")
    return path


def test_published_lines_count_pixels_from_1_and_cvats_from_0(made, tmp_path):
    line = "3,7,11,21,30,40,1,2,0.86\n"
    data = read_mot(write(tmp_path / "m", line), made / "videos", classes=("stand", "sit"))
    (box,) = data.videos[0].boxes
    assert (box.frame_or_time, box.box, box.actions, box.person) == (
        2,
        (10, 20, 40, 60),
        ("sit",),
        "7",
    )
    assert "from 1" in data.notes[0]
    path = write(tmp_path / "c", line, "a_1/gt/gt.txt", "stand\nsit\n")
    for source in (path, tmp_path / "c", tmp_path / "c/a_1"):
        data = read_mot(source, made / "videos")
        assert data.videos[0].boxes[0].box == (11, 21, 41, 61)
        assert data.classes == ["stand", "sit"]
        assert "from 0" in data.notes[0]
    data = read_mot(path, made / "videos", first_pixel=1)
    assert data.videos[0].boxes[0].box == (10, 20, 40, 60)


def test_a_tracker_says_no_class_and_a_detector_no_id(made, tmp_path):
    text = "1,-1,10,20,30,40,0.9\n\n1,-1,60,20,30,40,0.8,-1,-1,-1\n2,4,1,1,30,40,0,1,1\n"
    data = read_mot(write(tmp_path, text), made / "videos")
    boxes = data.videos[0].boxes
    assert [(box.actions, box.person) for box in boxes] == [((), None), ((), None)]
    assert "1 lines left out that do not count (conf 0)" in data.notes


def test_lines_of_one_person_are_one_box(made, tmp_path):
    text = "1,2,10,20,30,40,1,1,1\n1,2,10,20,30,40,1,2,1\n"
    data = read_mot(write(tmp_path, text), made / "videos", classes=("stand", "wave"))
    assert [box.actions for box in data.videos[0].boxes] == [("stand", "wave")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,2,3,4,5,6\n", "a_1.txt:1: 6 numbers, 7 to 10"),
        ("1,1,1,1,9,9,1,-1\n0,2,3,4,5,6,1,1\n", "a_1.txt:2: frame must be a whole number from 1"),
        ("1.5,2,3,4,5,6,1,1\n", "frame must be a whole number"),
        ("1,x,3,4,5,6,1,1\n", "id must be a number, found 'x'"),
        ("1,2,3,4,nan,6,1,1\n", "width must be a finite number"),
        ("1,2.5,3,4,5,6,1,1\n", "id must be a whole number, found 2.5"),
        ("1,2,3,4,5,6,1,3\n", "class 3: there are 2"),
        ("1,2,3,4,5,6,1,1\n1,2,4,4,5,6,1,1\n", "id 2 has another box in frame 1, line 1"),
    ],
)
def test_bad_lines(made, tmp_path, text, message):
    with pytest.raises(UserError, match=message) as error:
        read_mot(write(tmp_path, text), made / "videos", classes=("a", "b"))
    assert "\n" not in str(error.value)


def test_bad_folders_and_names(made, tmp_path):
    with pytest.raises(UserError, match="no VIDEO.txt and no"):
        read_mot(tmp_path, made / "videos")
    with pytest.raises(UserError, match="file or folder not found"):
        read_mot(tmp_path / "nowhere", made / "videos")
    with pytest.raises(UserError, match="video 'other' not found"):
        read_mot(write(tmp_path / "o", "1,2,3,4,5,6,1\n", "other.txt"), made / "videos")
    with pytest.raises(UserError, match="no labels.txt and no --classes"):
        read_mot(write(tmp_path / "n", "1,2,3,4,5,6,1,1\n"), made / "videos")
    with pytest.raises(UserError, match="a class a line"):
        path = write(tmp_path / "l", "1,2,3,4,5,6,1,1\n", "a_1/gt/gt.txt", "sit\nsit\n")
        read_mot(path, made / "videos")


def test_an_empty_file_and_two_keyframes_of_a_frame(made, tmp_path):
    data = read_mot(write(tmp_path, ""), made / "videos")
    assert data.videos[0].boxes == []
    rows = ["v,1.000000,0.1,0.1,0.5,0.5,3,1", "v,1.010000,0.1,0.1,0.5,0.5,3,1"]
    twice = write_labelled(tmp_path / "twice", rows, seconds=2, classes=CLASSES[:1])
    with pytest.raises(UserError, match="two keyframes show one frame"):
        write_mot(DatasetFolder.open(twice), "all", tmp_path / "out")
    assert not (tmp_path / "out").exists()
