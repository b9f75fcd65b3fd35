"""Label files merged into a data set: their keyframes replaced, bad files named."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ava_tools import import_dataset
from detection.datasets.actor_table import read_video_list
from detection.datasets.ava_csv import read_ground_truth, read_person_boxes
from detection.datasets.folder import (
    DatasetFile,
    DatasetFolder,
    PeoplePart,
    SplitPart,
    write_dataset_file,
)
from detection.datasets.label_file import (
    LabelFile,
    LabelledPerson,
    LabelledVideo,
    write_label_file,
)
from detection.datasets.label_map import write_label_map
from detection.errors import UserError
from detection.importers.corrections import merge_corrections
from detection.importers.unlabelled import import_unlabelled
from detection.structures import Keyframe, LabelMap
from tests.helpers.numbered_video import write_numbered

TRAIN = "a,0001,0.1,0.1,0.5,0.5,11,1\na,0001,0.1,0.1,0.5,0.5,80,1\na,0002,0.1,0.1,0.5,0.5,12,1\n"
TRAIN += "a,0003\nb,1.500000,0.123456789012,0.2,0.3,0.4,12,7\n"
CLASSES = LabelMap(("sit", "stand", "watch"), (11, 12, 80), None, {"pose": (0, 1)})
BOX = (0.2, 0.1, 0.5, 0.5)


def person(*times, number=1, labels=(0, 1, 0), box=BOX):
    shape = (len(times), 1)
    return LabelledPerson(
        number, np.array(times) * 1_000_000, np.tile(box, shape), np.tile(labels, shape) > 0
    )


def video(name, times, people, undecided=None):
    times = np.array(times, np.int64) * 1_000_000
    undecided = np.array(undecided if undecided is not None else [0] * len(times), np.int64)
    return LabelledVideo(name, times, undecided, tuple(people))


def export(path: Path, *videos, classes=CLASSES) -> Path:
    write_label_file(
        path, LabelFile("", "ab", "cd", "2026-11-29T05:00:00Z", "", classes, tuple(videos))
    )
    return path


@pytest.fixture
def given(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "videos").mkdir()
    for name in ("a", "b", "v"):
        write_numbered(data / "videos" / f"{name}.mp4", [i / 10 for i in range(50)], fps=10)
    (data / "annotations" / "train.csv").write_text(TRAIN)
    (data / "annotations" / "val.csv").write_text("v,0001,0.1,0.1,0.5,0.5,11,1\n")
    (data / "annotations" / "train_videos.txt").write_text("a\nb\n")
    write_label_map(data / "annotations" / "label_map.pbtxt", replace(CLASSES, exclusive={}))
    train = SplitPart(annotations="annotations/train.csv", videos="annotations/train_videos.txt")
    splits = {"train": train, "val": SplitPart(annotations="annotations/val.csv")}
    exclusive = {"pose": ["sit", "stand"]}
    write_dataset_file(
        data, DatasetFile(name="t", videos="videos", splits=splits, exclusive=exclusive)
    )
    return tmp_path


def merge(given: Path, *videos, split="train", classes=CLASSES, **more):
    path = export(given / "labels.json", *videos, classes=classes)
    return merge_corrections(given / "data", given / "out", split=split, corrections=[path], **more)


def test_the_keyframes_of_the_file_are_replaced_and_the_rest_is_kept(given):
    report = merge(given, video("a", [1, 2], [person(1)]))
    assert (report.num_keyframes, report.removed, report.added, report.num_rows) == (2, 3, 1, 2)
    assert (given / "out" / "annotations" / "train.csv").read_text().splitlines() == [
        "a,0001,0.2,0.1,0.5,0.5,12,1",
        "b,1.500000,0.123456789012,0.2,0.3,0.4,12,7",
        "a,0002",
        "a,0003",
    ]
    assert (given / "data" / "annotations" / "train.csv").read_text() == TRAIN


def test_undecided_people(given):
    labels = video("v", [1, 2, 3], [person(2, 3)], [1, 1, 0])
    report = merge(given, labels, split="val")
    assert (
        report.num_keyframes == 1
        and "2 keyframes with undecided people left out: v at 1" in (report.notes[0])
    )
    labels = video("a", [1, 2, 4], [person(2, 4)], [1, 1, 0])
    report = merge(given, labels, overwrite=True)
    assert report.num_keyframes == 2
    assert [note.split(":")[0] for note in report.notes] == [
        "1 keyframe with undecided people kept with those who are decided",
        "1 keyframe with undecided people left out",
    ]


def test_a_new_video_joins_the_split(given):
    (given / "more").mkdir()
    write_numbered(given / "more" / "new one.mp4", [i / 10 for i in range(50)], fps=10)
    new = video("new one", [1], [person(1)])
    with pytest.raises(UserError, match=r"'new one' is not in .*; --videos DIR adds it"):
        merge(given, new)
    assert merge(given, new, videos=given / "more", link=True).new_videos == ("new one",)
    assert DatasetFolder.open(given / "out").split("train").videos.read_text() == "a\nb\nnew one\n"


OTHER = LabelMap(("sit", "stand", "wave"), (11, 12, 80))
FEWER = LabelMap(("sit", "stand"), (11, 12))


@pytest.mark.parametrize(
    ("labels", "classes", "said"),
    [
        ([], CLASSES, "holds no keyframe"),
        ([video("a", [1], [])], OTHER, r"class 'wave' \(80\) is not in"),
        ([video("a", [1], [])], FEWER, r"lacks class 'watch' \(80\)"),
        ([video("a", [99], [])], CLASSES, r"99.000.* is outside video 'a'"),
        ([video("v", [1], [])], CLASSES, "'v' belongs to split 'val', not to 'train'"),
        (
            [video("a", [1], [person(1, labels=(1, 1, 0))])],
            replace(CLASSES, exclusive={}),
            "'sit' and 'stand' of 'pose', which exclude",
        ),
    ],
)
def test_bad_files_are_named_and_nothing_is_written(given, labels, classes, said):
    with pytest.raises(UserError, match=said):
        merge(given, *labels, classes=classes)
    assert sorted(path.name for path in given.iterdir()) == ["data", "labels.json"]


def test_the_command(given, capsys):
    path = export(given / "labels.json", video("a", [1], []))
    arguments = ["corrections", "--dataset", given / "data", "--out", given / "out"]
    arguments = [*map(str, [*arguments, "--corrections", path])]
    with pytest.raises(UserError, match="--split NAME is required"):
        import_dataset.main(arguments)
    with pytest.raises(UserError, match="a page exports one file now"):
        import_dataset.main([*arguments, "--reviewed", "x"])
    assert import_dataset.main([*arguments, "--split", "train"]) == 0
    assert "  train: 2 rows replaced by 0, 2 in all" in capsys.readouterr().out


def test_bare_videos_become_a_whole_data_set(tmp_path, capsys):
    for name in "abcd":
        write_numbered(tmp_path / "films" / f"{name}.mp4", [i / 10 for i in range(50)], fps=10)
    import_unlabelled(tmp_path / "films", tmp_path / "raw")
    folder = DatasetFolder.open(tmp_path / "raw")
    table = "".join(f"{name},0001,0.2,0.1,0.5,0.5,,0.9\n" for name in "abcd")
    (tmp_path / "raw/annotations/people.csv").write_text(table)
    part = folder.file.splits["all"].model_copy(
        update={"boxes": {"people": "annotations/people.csv"}}
    )
    update = {"splits": {"all": part}, "people": PeoplePart(weights="coco", score=0.7)}
    write_dataset_file(tmp_path / "raw", folder.file.model_copy(update=update))
    videos = [video(n, [1, 2], [person(1)], [0, n == "a"]) for n in "abc"]
    path = export(tmp_path / "labels.json", *videos)
    arguments = ["corrections", "--dataset", tmp_path / "raw", "--out", tmp_path / "out"]
    arguments = [*map(str, [*arguments, "--corrections", path])]
    assert import_dataset.main([*arguments, "--val-videos", "b"]) == 0
    assert "1 videos without labels left out: d" in capsys.readouterr().out
    made = DatasetFolder.open(tmp_path / "out")
    assert made.read_label_map().ids == (11, 12, 80)
    assert made.file.exclusive == {"pose": ["sit", "stand"]}
    assert made.file.people.weights == "coco"
    assert set(read_ground_truth(made.split("train").annotations).video_names) == {"a", "c"}
    for split, names in (("train", ("a", "c")), ("val", ("b",))):
        boxes = read_person_boxes(made.boxes_path(made.split(split), "people"))
        assert boxes.video_names == names
    with pytest.raises(UserError, match="videos/.*not found|'x' is not in"):
        other = export(tmp_path / "other.json", video("x", [1], []))
        import_dataset.main([*arguments[:-1], str(other), "--overwrite"])


def test_val_is_drawn_where_everyone_is_decided_and_the_rest_of_the_data_set_file_stays(
    tmp_path, capsys
):
    for name in "abcd":
        write_numbered(tmp_path / "films" / f"{name}.mp4", [i / 10 for i in range(50)], fps=10)
    import_unlabelled(tmp_path / "films", tmp_path / "raw")
    folder = DatasetFolder.open(tmp_path / "raw")
    write_dataset_file(
        folder.root, folder.file.model_copy(update={"description": "a hall", "made_up": True})
    )
    videos = [video(n, [1, 2], [person(1)], [int(n in "ab")] * 2) for n in "abcd"]
    path = export(tmp_path / "labels.json", *videos)
    arguments = [*map(str, ["corrections", "--dataset", folder.root, "--corrections", path])]
    for seed in range(4):
        out = ["--out", str(tmp_path / "out"), "--seed", str(seed), "--overwrite"]
        assert import_dataset.main([*arguments, *out]) == 0
        made = DatasetFolder.open(tmp_path / "out")
        val = set(read_ground_truth(made.split("val").annotations).video_names)
        assert val in ({"c"}, {"d"})
        train = set(read_ground_truth(made.split("train").annotations).video_names)
        assert train == set("abcd") - val
        assert f"val drawn at random (--seed {seed}): 1 of 4 videos" in capsys.readouterr().out
    assert (made.file.description, made.file.made_up, made.file.name) == ("a hall", True, "out")


def test_videos_of_val_without_a_keyframe_that_is_wholly_decided_are_counted_and_named(
    tmp_path, capsys
):
    for name in "abcd":
        write_numbered(tmp_path / "films" / f"{name}.mp4", [i / 10 for i in range(50)], fps=10)
    import_unlabelled(tmp_path / "films", tmp_path / "raw")
    undecided = {"a": [0, 0], "b": [1, 1], "c": [0, 1], "d": [1, 1]}
    videos = [video(n, [1, 2], [person(1, 2)], undecided[n]) for n in "abcd"]
    path = export(tmp_path / "labels.json", *videos)
    arguments = ["corrections", "--dataset", tmp_path / "raw", "--corrections", path]
    arguments = [*map(str, [*arguments, "--out", tmp_path / "out"])]
    assert import_dataset.main([*arguments, "--val-videos", "b", "c"]) == 0
    said = capsys.readouterr().out
    assert "3 keyframes of val with undecided people left out: b at 1.000 s" in said
    assert "1 video of val left out, at none of whose keyframes everyone is decided: b;" in said
    made = DatasetFolder.open(tmp_path / "out")
    assert read_ground_truth(made.split("val").annotations).video_names == ("c",)
    assert set(read_ground_truth(made.split("train").annotations).video_names) == {"a", "d"}
    with pytest.raises(UserError, match=r"val \(b; d\) has no keyframe at which"):
        import_dataset.main([*arguments, "--val-videos", "b", "d", "--overwrite"])
    assert import_dataset.main([*arguments, "--val-videos", "a", "--overwrite"]) == 0
    assert "left out, at none" not in capsys.readouterr().out


def test_bare_videos_are_never_replaced_by_those_that_are_labelled(tmp_path):
    for name in "ab":
        write_numbered(tmp_path / "films" / f"{name}.mp4", [i / 10 for i in range(50)], fps=10)
    raw = tmp_path / "raw"
    import_unlabelled(tmp_path / "films", raw)
    (tmp_path / "link").symlink_to(raw)
    path = export(tmp_path / "labels.json", video("a", [1], [person(1)]))
    for out in (raw, tmp_path / "link"):
        arguments = ["corrections", "--dataset", raw, "--corrections", path, "--out", out]
        with pytest.raises(UserError, match="videos without labels would be lost"):
            import_dataset.main([*map(str, [*arguments, "--overwrite", "--val-share", 0])])
    assert sorted(file.name for file in (raw / "videos").iterdir()) == ["a.mp4", "b.mp4"]


def test_a_new_keyframe_a_person_without_labels_and_one_without_id(given):
    people = [person(4, number=3, labels=(0, 0, 0)), person(4, number=None, labels=(1, 0, 1))]
    merge(given, video("a", [4], people))
    rows = read_ground_truth(given / "out" / "annotations" / "train.csv")
    here = [i for i in range(len(rows)) if rows.keyframe(i) == Keyframe("a", 4.0)]
    found = {(int(rows.person_id[i]), int(rows.action_id[i])) for i in here}
    assert found == {(3, -1), (-1, 11), (-1, 80)}


def test_in_place_by_overwriting_the_data_set_itself(given):
    decided = LabelledVideo("b", np.array([1_500_000]), np.array([0]), ())
    export(given / "labels.json", decided)
    arguments = ["corrections", "--dataset", "data", "--out", "data", "--split", "train"]
    arguments += ["--corrections", "labels.json"]
    command = [sys.executable, "-m", "ava_tools.import_dataset", *arguments]
    refused = subprocess.run(command, cwd=given, capture_output=True, text=True, check=False)
    assert refused.returncode == 2 and "--overwrite" in refused.stderr
    for _ in range(2):  # what is merged already can be merged again
        subprocess.run([*command, "--overwrite", "--link"], cwd=given, check=True)
    text = (given / "data" / "annotations" / "train.csv").read_text()
    assert "b,1.500000\n" in text and "0.123456789012" not in text


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
    write_numbered(given / "more" / "new.mp4", [0.0, 0.5, 1.0, 1.5], fps=2)
    with pytest.raises(UserError, match="lies outside the data set folder"):
        merge(given, video("new", [1], []), videos=given / "more")
    assert not (given / "out").exists()
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_a_list_with_a_byte_order_mark_keeps_its_videos(given):
    listed = given / "data" / "annotations" / "train_videos.txt"
    listed.write_bytes("\ufeffa.MP4\r\nb \r\n".encode())
    (given / "more").mkdir()
    write_numbered(given / "more" / "new.mov", [0.0, 0.5, 1.0, 1.5], fps=2)
    (given / "more" / "new.mov").rename(given / "more" / "new.MOV")
    merge(given, video("new", [1], []), videos=given / "more")
    part = DatasetFolder.open(given / "out").split("train")
    assert read_video_list(part) == {"a", "b", "new"}
    assert DatasetFolder.open(given / "out").video_path("new").name == "new.mov"
