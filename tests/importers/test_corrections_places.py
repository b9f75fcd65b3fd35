"""Label files merged into a data set: what is written where, and what stays as it was."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detection.datasets.actor_table import read_video_list
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.errors import UserError
from detection.importers.corrections import merge_corrections
from detection.structures import Keyframe, LabelMap
from tests.helpers.numbered_video import write_numbered

TRAIN = "a,0001,0.1,0.1,0.5,0.5,11,1\na,0001,0.1,0.1,0.5,0.5,80,1\na,0002,0.1,0.1,0.5,0.5,12,1\n"
TRAIN += "a,0003\nb,1.500000,0.123456789012,0.2,0.3,0.4,12,7\n"


@pytest.fixture
def given(tmp_path: Path) -> Path:
    data = tmp_path / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "videos").mkdir()
    for name in ("a", "b", "v"):
        write_numbered(data / "videos" / f"{name}.mp4", [i / 10 for i in range(100)], fps=10)
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


BOX = (0.2, 0.1, 0.5, 0.5)
POSE = {"pose": ["sit", "stand"]}
CLASSES = {11: "sit", 12: "stand", 80: "watch"}
Found = dict[str, dict[float, list[tuple[int | None, list[int]]]]]


def export(path: Path, found: Found, *, undecided=None, **other) -> Path:
    """Write a label file by hand: by video and time the people, each an id and class ids."""
    written = []
    for video_id, keyframes in found.items():
        times_s = sorted(keyframes)
        people: dict[object, dict[str, list]] = {}
        for k, time_s in enumerate(times_s):
            for number, (person, ids) in enumerate(keyframes[time_s]):
                key = (k, number) if person is None else person
                empty = {"id": person, "k": [], "b": [], "l": []}
                one = people.setdefault(key, empty)
                one["k"].append(k)
                one["b"] += BOX
                one["l"].append(ids)
        written.append(
            {
                "id": video_id,
                "keyframes": [round(1e6 * time_s) for time_s in times_s],
                "undecided": [(undecided or {}).get(time_s, 0) for time_s in times_s],
                "people": list(people.values()),
                "nobody": [],
            }
        )
    values = {
        "format": "x3d-action-detection labels",
        "version": 1,
        "page": "p",
        "annotator": "ann",
        "exported": "2030-01-01T10:00:00Z",
        "title": "t",
        "classes": [{"id": number, "name": name} for number, name in CLASSES.items()],
        "exclusive": POSE,
        "videos": written,
        "videos_count": len(written),
        "people_count": sum(len(video["people"]) for video in written),
    }
    path.write_text(json.dumps(values | other))
    return path


def merge(given: Path, found: Found, split: str = "train", *, undecided=None, form=None, **more):
    file = export(given / "labels.json", found, undecided=undecided, **(form or {}))
    return merge_corrections(given / "data", given / "out", split=split, corrections=[file], **more)


def merged(given: Path) -> list[str]:
    return (given / "out" / "annotations" / "train.csv").read_text().splitlines()


def test_a_new_keyframe_a_person_without_labels_and_one_without_id(given):
    merge(given, {"a": {9.0: [(3, []), (None, [11, 80])]}})
    rows = read_ground_truth(given / "out" / "annotations" / "train.csv")
    here = [i for i in range(len(rows)) if rows.keyframe(i) == Keyframe("a", 9.0)]
    found = {(int(rows.person_id[i]), int(rows.action_id[i])) for i in here}
    assert found == {(3, -1), (-1, 11), (-1, 80)}


def test_in_place_by_overwriting_the_data_set_itself(given):
    export(given / "labels.json", {"b": {1.5: []}})
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
        merge(given, {"new": {1.0: []}}, videos=given / "more")
    assert not (given / "out").exists()
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before


def test_a_list_with_a_byte_order_mark_keeps_its_videos(given):
    listed = given / "data" / "annotations" / "train_videos.txt"
    listed.write_bytes("\ufeffa.MP4\r\nb \r\n".encode())
    (given / "more").mkdir()
    write_numbered(given / "more" / "new.mov", [0.0, 0.5, 1.0, 1.5], fps=2)
    (given / "more" / "new.mov").rename(given / "more" / "new.MOV")
    merge(given, {"new": {1.0: []}}, videos=given / "more")
    part = DatasetFolder.open(given / "out").split("train")
    assert read_video_list(part) == {"a", "b", "new"}
    assert DatasetFolder.open(given / "out").video_path("new").name == "new.mov"
