import subprocess
import sys

import pytest

from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.errors import UserError

YAML = """\
name: three actions
description: people
label_map: annotations/label_map.pbtxt
videos: videos
splits:
  train:
    annotations: annotations/train.csv
  val:
    annotations: annotations/val.csv
    exclusions: annotations/excluded_val.csv
    videos: annotations/val_videos.txt
    boxes: {detector: annotations/boxes_detector.csv}
how_to_get: python -m ava_tools.make_it
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "videos").mkdir()
    for name in ("train.csv", "val.csv", "excluded_val.csv", "val_videos.txt", "label_map.pbtxt"):
        (tmp_path / "annotations" / name).write_text("")
    (tmp_path / "annotations" / "label_map.pbtxt").write_text('item { name: "sit" id: 4 }')
    (tmp_path / "videos" / "one.mp4").write_bytes(b"")
    (tmp_path / "videos" / "two.part.mkv").write_bytes(b"")
    (tmp_path / "dataset.yaml").write_text(YAML)
    return tmp_path


def test_a_folder_and_its_parts(folder):
    data = DatasetFolder.open(folder)
    assert (
        data.name == "three actions"
        and not data.file.made_up
        and data.file.evaluation.protocol is None
    )
    assert data.read_label_map().ids == (4,)
    assert data.split("train").annotations == folder / "annotations" / "train.csv"
    assert data.split("train").exclusions is None and data.split("train").boxes == {}
    assert data.split("val").exclusions == folder / "annotations" / "excluded_val.csv"
    assert data.split("val").videos == folder / "annotations" / "val_videos.txt"
    assert data.video_path("one") == folder / "videos" / "one.mp4"
    assert data.video_path("two.part") == folder / "videos" / "two.part.mkv"


def test_what_is_written_is_read_back(tmp_path):
    file = DatasetFile(
        name="ü, made up",
        videos="videos",
        made_up=True,
        splits={"a": SplitPart(annotations="a.csv")},
    )
    write_dataset_file(tmp_path, file)
    assert DatasetFolder.open(tmp_path).file == file


def test_no_folder_says_which_file_and_how_to_make_it(tmp_path):
    with pytest.raises(
        UserError, match=r"gone/dataset\.yaml: file not found; a data set folder is"
    ):
        DatasetFolder.open(tmp_path / "gone")
    with pytest.raises(UserError, match="make it with: do this"):
        DatasetFolder.open(tmp_path / "gone", how_to_get="do this")


@pytest.mark.parametrize(
    "old, new, message",
    [
        ("description: people", "beschreibung: people", "unknown key 'beschreibung'"),
        ("name: three actions\n", "", "key 'name' is required"),
        ("name: three actions", "name: 7", r"yaml:1: name: .*string.*got 7"),
        ("train.csv", "train.csv\n    boxen: {}", "unknown key 'splits.train.boxen'"),
        ("videos: videos", "videos: videos\nframes: {folder: f, fps: 30}", "either 'videos' or"),
        ("videos: videos\n", "", "either 'videos' or 'frames'"),
        ("videos: videos", "frames: {folder: f, fps: 0}", r"frames\.fps.*greater than 0"),
        ("description: people", "description: [unclosed", r"dataset\.yaml:\d+: YAML error"),
        ("description: people", "name: again", r"dataset\.yaml:2: .*'name' is given twice"),
        ("description: people", "made_up: 'yes'", r"yaml:\d+: made_up: .*boolean"),
        ("splits:", "splits: {}\nothers:", r"yaml:\d+: splits: "),
    ],
)
def test_a_bad_file_is_one_line_with_file_and_key(folder, old, new, message):
    assert old in YAML
    (folder / "dataset.yaml").write_text(YAML.replace(old, new, 1))
    with pytest.raises(UserError, match=message) as caught:
        DatasetFolder.open(folder)
    assert str(caught.value).startswith(str(folder / "dataset.yaml"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"just text", b"- a\n- b\n", b"\xff\xfe\x00"])
def test_a_file_that_is_no_mapping(folder, content):
    (folder / "dataset.yaml").write_bytes(content)
    with pytest.raises(UserError, match=r"dataset\.yaml.*required"):
        DatasetFolder.open(folder)


def test_an_unknown_split_and_unknown_boxes_list_what_there_is(folder):
    data = DatasetFolder.open(folder)
    with pytest.raises(UserError, match="split 'test' not found, it has train, val"):
        data.split("test")
    with pytest.raises(UserError, match=r"no boxes 'other' \(it has: detector\)"):
        data.boxes_path(data.split("val"), "other")
    with pytest.raises(UserError, match=r"boxes_detector.csv: file not found.*detect_people"):
        data.boxes_path(data.split("val"), "detector")


@pytest.mark.parametrize("name", ["train.csv", "label_map.pbtxt"])
def test_a_missing_file_names_the_command_that_makes_it(folder, name):
    (folder / "annotations" / name).unlink()
    data = DatasetFolder.open(folder)
    with pytest.raises(UserError, match=rf"{name}: file not found.*make_it"):
        _ = data.split("train"), data.label_map_path


@pytest.mark.parametrize("video_id", ["", "..", "../one", "a/b", "a\\b", "/etc/passwd"])
def test_an_id_that_would_be_a_path_is_refused(folder, video_id):
    with pytest.raises(UserError, match="is not a video id"):
        DatasetFolder.open(folder).video_path(video_id)


def test_a_missing_video_is_named(folder):
    with pytest.raises(UserError, match=r"videos/three\.mp4: video file not found; make it with"):
        DatasetFolder.open(folder).video_path("three")


def test_the_file_is_no_program(folder):
    (folder / "dataset.yaml").write_text("name: !!python/object/apply:os.getcwd []\n")
    with pytest.raises(UserError, match="YAML error"):
        DatasetFolder.open(folder)


def test_annotations_are_read_without_torch():
    code = "import sys, detection.datasets.actor_table; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_exclusive_groups_are_columns_of_the_label_map(folder):
    labels = 'item { name: "sit" id: 4 } item { name: "wave" id: 1 } item { name: "lie" id: 9 }'
    (folder / "annotations" / "label_map.pbtxt").write_text(labels)
    (folder / "dataset.yaml").write_text(YAML + "exclusive: {pose: [lie, sit]}\n")
    data = DatasetFolder.open(folder)
    assert data.exclusive_groups(data.read_label_map()) == {"pose": (2, 0)}
    (folder / "dataset.yaml").write_text(YAML)
    assert DatasetFolder.open(folder).exclusive_groups(data.read_label_map()) == {}


@pytest.mark.parametrize(
    "groups, message",
    [
        ("{pose: [sit]}", "dataset.yaml:.*group 'pose' needs at least two classes"),
        ("{pose: [sit, lie], rest: [lie, x]}", "dataset.yaml:.*class 'lie' is there twice"),
        ("{pose: [sit, fly]}", "exclusive.pose names 'fly', which is not a class"),
        ("[sit, lie]", "dataset.yaml:14: exclusive"),
    ],
)
def test_a_bad_exclusive_group_is_named(folder, groups, message):
    (folder / "dataset.yaml").write_text(f"{YAML}exclusive: {groups}\n")
    with pytest.raises(UserError, match=message):
        data = DatasetFolder.open(folder)
        data.exclusive_groups(data.read_label_map())
