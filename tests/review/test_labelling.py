"""Label pages: what the page is given, what is kept exactly, and what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tiny_data import make_dataset

from ava_tools import label
from detection.datasets.ava_csv import read_person_boxes
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.datasets.labelling_task import read_labelling_task
from detection.errors import UserError
from detection.review.document import ReviewDocument, ReviewTrack, ReviewVideo
from detection.review.encoding import encode_document
from detection.review.labelling import (
    Decision,
    find_people_to_label,
    label_tracks,
    write_label_pages,
)
from detection.structures import LabelMap

MAP = LabelMap(("stand", "sit", "wave"), (1, 2, 3))
POSE = {"pose": (0, 1)}
LEFT, RIGHT = "0.101234,0.2,0.312345,0.9", "0.6,0.2,0.8,0.9"
PEOPLE = "".join(
    f"{video},{time},{box},,{score}\n"
    for video, time, box, score in [
        ("train_0", "0000", LEFT, 0.9),
        ("train_0", "0001", LEFT, 0.9),
        ("train_0", "0001", RIGHT, 0.7),
        ("train_0", "1.333333", LEFT, 0.4),
        ("train_0", "0002", "0.4,0.4,0.45,0.5", 0.1),
        ("train_1", "0002", RIGHT, 0.8),
    ]
) + "train_2,0001\n"  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> DatasetFolder:
    """Three videos with detected people in two, none of them labelled."""
    root = make_dataset(tmp_path / "raw", train=3, val=1)
    (root / "annotations" / "people.csv").write_text(PEOPLE)
    (root / "annotations" / "label_map.pbtxt").unlink()
    file = DatasetFolder.open(root).file
    part = file.splits["train"].model_copy(update={"boxes": {"people": "annotations/people.csv"}})
    write_dataset_file(root, file.model_copy(update={"splits": {"train": part}}))
    return DatasetFolder.open(root)


def page_data(page: Path) -> tuple[dict, list[dict]]:
    """Return what the page reads: its head, and each video's part."""
    text = page.read_text("utf-8")
    blocks = re.findall(r'<script type="application/json" id="([^"]+)">(.*?)</script>', text)
    found = {name: json.loads(content) for name, content in blocks}
    head = found.pop("review-data")
    return head, [found[f"clip-{i}"] for i in range(len(found))]


def write(folder: DatasetFolder, **more) -> tuple[dict, list[dict]]:
    out = folder.root / "label"
    return page_data(write_label_pages(out, folder, "train", "people", MAP, POSE, **more))


def test_tracks_keep_the_numbers_of_the_file(folder: DatasetFolder):
    rows = read_person_boxes(folder.root / "annotations" / "people.csv")
    first = rows.select(rows.video_index == 0)
    tracks = label_tracks(first, num_classes=3)
    assert [track.track_id for track in tracks] == [1, 2]
    assert tracks[0].times_s.tolist() == [0.0, 1.0, 1.333333]
    assert tracks[0].boxes_01.tolist() == [[0.101234, 0.2, 0.312345, 0.9]] * 3
    assert tracks[0].action_scores.shape == (3, 3) and not tracks[0].action_scores.any()
    assert label_tracks(first.select(np.zeros(0, np.int64))) == []
    again = label_tracks(first, num_classes=3)
    assert [t.track_id for t in again] == [t.track_id for t in tracks]


def test_what_the_page_is_given(folder: DatasetFolder):
    head, [first, second, third] = write(folder)
    assert head["mode"] == "label" and head["inDataset"] and head["title"] == "tiny"
    assert head["exclusive"] == [[0, 1]] and head["exclusiveNames"] == ["pose"]
    assert head["order"] == [[0, 1], [0, 2], [1, 1]]
    assert [v["id"] for v in head["videos"]] == ["train_0", "train_1", "train_2"]
    assert [v["people"] for v in head["videos"]] == [2, 1, 0]
    assert first["us"] == [0, 1_000_000, 1_333_333, 2_000_000]
    assert first["tracks"][0]["b"] == [0.101234, 0.2, 0.312345, 0.9] * 3
    assert first["tracks"][0]["s"] == [[]] * 3 and not head["videos"][0]["suggested"]
    assert third["tracks"] == [] and third["us"] == [1_000_000]
    for video in head["videos"]:
        assert (folder.root / "label" / video["source"]).is_file()
        assert (folder.root / "label" / video["thumbnail"]).is_file()
    assert str(folder.root) not in (folder.root / "label" / "review.html").read_text("utf-8")


def test_suggestions_order_and_decisions_leave_the_key_and_the_videos_alone(folder: DatasetFolder):
    plain, _ = write(folder)
    places = [folder.root / "label" / v["source"] for v in plain["videos"]]
    places += [folder.root / "label" / v["thumbnail"] for v in plain["videos"]]
    before = [place.stat().st_mtime_ns for place in places]
    decision = Decision(1, [2.0], [[False, True, True]])
    head, [first, second, _] = write(
        folder,
        scores={("train_0", 1): np.tile(np.float32([0.9, 0.05, 0.5]), (3, 1))},
        order=[("train_1", 1), ("train_0", 2)],
        decisions={"train_1": [decision]},
    )
    assert head["key"] == plain["key"]
    assert head["order"] == [[1, 1], [0, 2], [0, 1]]
    assert head["videos"][0]["suggested"] and not head["videos"][1]["suggested"]
    assert first["tracks"][0]["s"] == [[0, 900, 2, 500, 1, 50]] * 3
    assert second["decided"] == [{"id": 1, "k": [0], "l": [[1, 2]], "nobody": False}]
    assert [place.stat().st_mtime_ns for place in places] == before
    # Other classes, groups or people are another page.
    others = [
        write_label_pages(folder.root / "b", folder, "train", "people", MAP, {}),
        write_label_pages(
            folder.root / "c", folder, "train", "people", LabelMap(("stand",), (1,)), {}
        ),
        write_label_pages(
            folder.root / "d", folder, "train", "people", MAP, POSE, least_person_score=0.75
        ),
    ]
    assert len({plain["key"], *(page_data(page)[0]["key"] for page in others)}) == 4


def test_what_is_left_out_is_counted(folder: DatasetFolder):
    people = find_people_to_label(folder, "train", "people")
    assert (people.count, people.loose, people.short) == (3, 1, 0)
    people = find_people_to_label(folder, "train", "people", least_length=2)
    assert (people.count, people.loose, people.short) == (1, 1, 2)
    people = find_people_to_label(folder, "train", "people", least_person_score=0.95)
    assert (people.count, people.loose) == (0, 6)


def test_what_belongs_to_no_track_is_refused(folder: DatasetFolder):
    for more, words in [
        ({"scores": {("train_0", 9): np.zeros((1, 3), np.float32)}}, "train_0.*9"),
        ({"scores": {("zoo", 1): np.zeros((1, 3), np.float32)}}, "zoo"),
        ({"scores": {("train_0", 1): np.zeros((2, 3), np.float32)}}, "action_scores must be"),
        ({"order": [("train_0", 9)]}, "no track of the page"),
        ({"order": [("train_0", 1)] * 2}, "twice"),
        ({"decisions": {"zoo": []}}, "zoo"),
        ({"decisions": {"train_0": [Decision(9, [0.0], [[0, 0, 0]])]}}, "track 9 at 0.0 s"),
        ({"decisions": {"train_0": [Decision(1, [2.0], [[0, 0, 0]])]}}, "track 1 at 2.0 s"),
        ({"decisions": {"train_0": [Decision(1, [0.0], [[0, 0, 0]])] * 2}}, "decided twice"),
        ({"decisions": {"train_0": [Decision(1, [0.0], [[1, 1, 0]])]}}, "two classes of 'pose'"),
        ({"decisions": {"train_0": [Decision(1, [0.0], [[1, 0]])]}}, "decisions have 2 classes"),
    ]:
        with pytest.raises(ValueError, match=words):
            write(folder, **more)
    with pytest.raises(ValueError, match="no person and has labels"):
        Decision(1, [0.0], [[1, 0, 0]], nobody=True)
    with pytest.raises(ValueError, match="labels must be"):
        Decision(1, [0.0, 1.0], [[1, 0, 0]])
    Decision(1, [], np.zeros((0, 3), bool))


def test_reviews_round_boxes_as_before():
    track = ReviewTrack(1, [0.0], np.float64([[0.1234567, 0.2, 0.3, 0.4]]), [[0.5] * 3], [1.0])
    assert track.boxes_01.dtype == np.float64
    video = ReviewVideo("v", "v.mp4", 4, 4, 1.0, keyframes_s=(0.0,), tracks=(track,))
    for mode, number in (("review", 0.12346), ("label", 0.1234567)):
        _, [data] = encode_document(ReviewDocument("t", MAP, (video,), mode=mode))
        assert list(data["tracks"])[0]["b"][0] == number
    listed = ReviewTrack(1, [0.0], [[0.1, 0.2, 0.3, 0.4]], [[0.5] * 3], [1.0])
    assert listed.boxes_01.dtype == np.float32


def run(folder: DatasetFolder, *arguments: str) -> int:
    return label.main(["--dataset", str(folder.root), "--quiet", *arguments])


CLASSES = ("--one-of", "pose=stand,sit", "--actions", "wave")


def test_the_command_writes_page_and_classes_and_says_what_is_left_out(folder, capsys):
    assert run(folder, *CLASSES) == 0
    said = capsys.readouterr().out
    assert "3 videos, 3 people, 3 classes" in said
    assert "left out: 1 boxes below 0.5 (--min-score)" in said
    assert str(folder.root / "label" / "review.html") in said
    task = read_labelling_task(folder.root)
    assert (task.boxes, task.split) == ("people", "train")
    assert task.one_of == {"pose": ("stand", "sit")} and task.actions == ("wave",)
    # Again without options: the same page.
    first = (folder.root / "label" / "review.html").read_text("utf-8")
    assert run(folder) == 0
    assert (folder.root / "label" / "review.html").read_text("utf-8") == first


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--actions", "run"), "says one_of pose=stand,sit, found none"),
        ((*CLASSES, "run"), "says actions wave, found wave run"),
        (("--min-score", "0.3"), "says min_score 0.5, found 0.3"),
        (("--min-length", "2"), "says min_length 1, found 2"),
    ],
)
def test_other_classes_than_before_are_refused_unless_told(folder, arguments, words):
    assert run(folder, *CLASSES) == 0
    before = (folder.root / "labels.yaml").read_text()
    with pytest.raises(UserError) as found:
        run(folder, *arguments)
    assert words in str(found.value) and "--overwrite" in str(found.value)
    assert (folder.root / "labels.yaml").read_text() == before
    more = () if "--actions" in arguments else CLASSES
    assert run(folder, *more, *arguments, "--overwrite") == 0
    assert (folder.root / "labels.yaml").read_text() != before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "has no classes yet: --one-of"),
        (("--one-of", "pose=stand"), "--one-of 'pose=stand': NAME=A,B,... is required"),
        (("--one-of", "pose=a,b", "--actions", "a"), "class 'a' is there twice"),
        (("--actions", "a\x1b[2J"), "no valid class name"),
        (("--actions", "wave", "--boxes", "other"), "has no boxes 'other'"),
        (("--actions", "wave", "--split", "val"), "split 'val' not found"),
    ],
)
def test_wrong_options_are_one_line_and_write_nothing(folder, arguments, words):
    with pytest.raises(UserError) as found:
        run(folder, *arguments)
    assert words in str(found.value) and "\n" not in str(found.value)
    assert not (folder.root / "label").exists()
    assert not (folder.root / "labels.yaml").exists()


def test_a_damaged_task_is_named_and_replaced_when_told(folder):
    (folder.root / "labels.yaml").write_text("boxes: [")
    with pytest.raises(UserError, match=r"labels\.yaml:1: YAML error"):
        run(folder, *CLASSES)
    assert run(folder, *CLASSES, "--overwrite") == 0


def test_people_whom_no_score_reaches_are_said(folder, capsys):
    assert run(folder, *CLASSES, "--min-score", "0.95") == 0
    said = capsys.readouterr()
    assert "no person scores 0.95 or more (--min-score)" in said.err
    assert "3 videos, 0 people" in said.out


def test_a_missing_video_is_named_and_the_classes_are_not_written(folder):
    (folder.root / "videos" / "train_1.mp4").unlink()
    with pytest.raises(UserError, match=r"train_1\.mp4: video file not found"):
        run(folder, *CLASSES)
    assert not (folder.root / "labels.yaml").exists()
