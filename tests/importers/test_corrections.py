"""Corrections merged into a data set: reviewed keyframes replaced, bad files named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ava_tools import import_dataset
from detection.datasets.actor_table import read_video_list
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.errors import UserError
from detection.importers.corrections import merge_corrections
from detection.structures import Keyframe, LabelMap

TRAIN = "a,0001,0.1,0.1,0.5,0.5,11,1\na,0001,0.1,0.1,0.5,0.5,80,1\na,0002,0.1,0.1,0.5,0.5,12,1\n"
TRAIN += "a,0003\nb,1.500000,0.123456789012,0.2,0.3,0.4,12,7\n"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "videos").mkdir()
    for name in ("a", "b", "v"):
        (data / "videos" / f"{name}.mp4").write_bytes(name.encode())
    (data / "annotations" / "train.csv").write_text(TRAIN)
    (data / "annotations" / "val.csv").write_text("v,0001,0.1,0.1,0.5,0.5,11,1\n")
    (data / "annotations" / "train_videos.txt").write_text("a\nb\n")
    label_map = LabelMap(("sit", "stand", "watch"), (11, 12, 80))
    write_label_map(data / "annotations" / "label_map.pbtxt", label_map)
    train = SplitPart(annotations="annotations/train.csv", videos="annotations/train_videos.txt")
    splits = {"train": train, "val": SplitPart(annotations="annotations/val.csv")}
    exclusive = {"pose": ["sit", "stand"]}
    write_dataset_file(
        data, DatasetFile(name="t", videos="videos", splits=splits, exclusive=exclusive)
    )
    return tmp_path


def merge(given: Path, rows: str, reviewed: str, split: str = "train", **more):
    (given / "corrections.csv").write_text(rows)
    (given / "reviewed.csv").write_text(reviewed)
    return merge_corrections(
        given / "data",
        given / "out",
        split=split,
        corrections=given / "corrections.csv",
        reviewed=given / "reviewed.csv",
        **more,
    )


def merged(given: Path) -> list[str]:
    return (given / "out" / "annotations" / "train.csv").read_text().splitlines()


def test_reviewed_keyframes_are_replaced_and_the_rest_is_kept(given):
    report = merge(given, "a,0001,0.2,0.1,0.5,0.5,12,1\na,0002\n", "a,0001\na,0002\n")
    assert (report.num_keyframes, report.removed, report.added, report.num_rows) == (2, 3, 1, 2)
    assert merged(given) == [
        "a,0001,0.2,0.1,0.5,0.5,12,1",
        "b,1.500000,0.123456789012,0.2,0.3,0.4,12,7",
        "a,0002",
        "a,0003",
    ]
    folder = DatasetFolder.open(given / "out")
    assert folder.video_path("a").read_bytes() == b"a"
    assert (given / "data" / "annotations" / "train.csv").read_text() == TRAIN


def test_a_new_keyframe_and_a_person_without_labels(given):
    merge(given, "a,0009,0.2,0.1,0.5,0.5,,3\n", "a,9\n")
    rows = read_ground_truth(given / "out" / "annotations" / "train.csv")
    assert Keyframe("a", 9.0) in rows.keyframes() and -1 in rows.action_id.tolist()


def test_a_new_video_joins_the_split(given):
    (given / "more").mkdir()
    (given / "more" / "new one.mp4").write_bytes(b"new")
    rows = "new one,0001,0.2,0.1,0.5,0.5,11,1\n"
    with pytest.raises(UserError, match=r"'new one' is not in .*; --videos DIR adds it"):
        merge(given, rows, "new one,0001\n")
    report = merge(given, rows, "new one,0001\n", videos=given / "more", link=True)
    assert report.new_videos == ("new one",)
    folder = DatasetFolder.open(given / "out")
    assert folder.video_path("new one").read_bytes() == b"new"
    assert folder.split("train").videos.read_text() == "a\nb\nnew one\n"
    # Hard links are never written through.
    assert (given / "data" / "annotations" / "train.csv").read_text() == TRAIN
    assert (given / "data" / "annotations" / "train_videos.txt").read_text() == "a\nb\n"


def test_in_place_by_overwriting_the_data_set_itself(given):
    (given / "out").parent.mkdir(exist_ok=True)
    (given / "corrections.csv").write_text("b,1.5\n")
    (given / "reviewed.csv").write_text("b,1.5\n")
    arguments = ["corrections", "--dataset", "data", "--out", "data", "--split", "train"]
    arguments += ["--corrections", "corrections.csv", "--reviewed", "reviewed.csv"]
    command = [sys.executable, "-m", "ava_tools.import_dataset", *arguments]
    refused = subprocess.run(command, cwd=given, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    for _ in range(2):  # what is merged already can be merged again
        subprocess.run([*command, "--overwrite", "--link"], cwd=given, check=True)
    text = (given / "data" / "annotations" / "train.csv").read_text()
    assert "b,1.500000\n" in text and "0.123456789012" not in text


def test_the_command_says_what_it_did(given, capsys):
    (given / "c.csv").write_text("a,0001\n")
    (given / "r.csv").write_text("a,0001\n")
    out = given / "out"
    arguments = ["--dataset", given / "data", "--out", out, "--split", "train"]
    arguments += ["--corrections", given / "c.csv", "--reviewed", given / "r.csv"]
    assert import_dataset.main(["corrections", *map(str, arguments)]) == 0
    printed = capsys.readouterr().out
    assert printed == f"1 reviewed keyframe -> {out}\n  train: 2 rows replaced by 0, 2 in all\n"


GOOD = "a,0001,0.2,0.1,0.5,0.5,12,1\n"


@pytest.mark.parametrize(
    ("rows", "reviewed", "said"),
    [
        (GOOD, "", "lists no reviewed keyframe"),
        (GOOD, "a,0001\na,0002\n", r"a at 2.000 s has no row in .*cut off"),
        (GOOD + "a,0003,0.2,0.1,0.5,0.5,12,1\n", "a,0001\n", r"corrections.csv:2: .*not listed"),
        (GOOD + "a,0004\n", "a,0001\n", "a at 4.000 s is not listed"),
        (GOOD.replace(",12,", ",99,"), "a,0001\n", r"corrections.csv:1: class 99 is not in"),
        (GOOD + GOOD.replace(",12,", ",11,"), "a,0001\n", r":2: .*12 and 11 of 'pose'"),
        ("v,0001\n", "v,0001\n", "'v' belongs to split 'val', not to 'train'"),
        ("../../x,0001\n", "../../x,0001\n", "cannot be a video id"),
        ("a,0001,0.9,0.1,0.5,0.5,12,1\n", "a,0001\n", r"corrections.csv:1: .*inside out"),
    ],
)
def test_bad_files_are_named_and_nothing_is_written(given, rows, reviewed, said):
    with pytest.raises(UserError, match=said):
        merge(given, rows, reviewed, videos=given)
    assert sorted(path.name for path in given.iterdir()) == [
        "corrections.csv", "data", "reviewed.csv",
    ]  # fmt: skip


def test_missing_files_and_splits(given):
    with pytest.raises(UserError, match="file not found; a review page exports it"):
        merge_corrections(
            given / "data", given / "out", split="train", corrections=given / "x", reviewed="y"
        )
    with pytest.raises(UserError, match="split 'test' not found, it has train, val"):
        merge(given, GOOD, "a,0001\n", split="test")


@pytest.mark.parametrize("key", ["videos", "annotations"])
@pytest.mark.parametrize("leads", ["absolute", "above", "link"])
def test_nothing_is_written_outside_the_copy(given, key, leads):
    """A data set may be read from elsewhere; a copy of it is written within the copy alone."""
    elsewhere = given / "elsewhere"
    (elsewhere / "annotations").mkdir(parents=True)
    place = {"absolute": str(elsewhere), "above": "../elsewhere", "link": "linked"}[leads]
    (given / "data" / "linked").symlink_to(elsewhere)
    for path in (given / "data" / "videos").iterdir():
        shutil.copy(path, elsewhere)
    for path in (given / "data" / "annotations").iterdir():
        shutil.copy(path, elsewhere / "annotations")
    text = (given / "data" / "dataset.yaml").read_text()
    if key == "videos":
        text = text.replace("videos: videos", f"videos: {place}")
    else:
        text = text.replace("annotations/train.csv", f"{place}/annotations/train.csv")
    (given / "data" / "dataset.yaml").write_text(text)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    (given / "more").mkdir()
    (given / "more" / "new.mp4").write_bytes(b"new")
    with pytest.raises(UserError, match="lies outside the data set folder"):
        merge(given, "new,0001\n", "new,0001\n", videos=given / "more")
    assert not (given / "out").exists()
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_a_list_with_a_byte_order_mark_keeps_its_videos(given):
    listed = given / "data" / "annotations" / "train_videos.txt"
    listed.write_bytes("\ufeffa.MP4\r\nb \r\n".encode())
    (given / "more").mkdir()
    (given / "more" / "new.MOV").write_bytes(b"new")
    merge(given, "new,0001\n", "new,0001\n", videos=given / "more")
    part = DatasetFolder.open(given / "out").split("train")
    assert read_video_list(part) == {"a", "b", "new"}
    assert DatasetFolder.open(given / "out").video_path("new").name == "new.mov"
