"""What the files of a split do not share is told at a run's start, and a list loses no video."""

from __future__ import annotations

import json

import numpy as np
import pytest
from test_train_ava import SETTINGS
from tiny_data import LABELS, make_dataset

import train_ava
from detection.datasets.actor_table import read_video_list
from detection.datasets.folder import DatasetFolder
from detection.datasets.split_joins import require_labels, split_mismatches
from detection.errors import UserError


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "data", train=2, val=2)


def name_file(root, key: str, path: str, split: str = "val") -> None:
    text = (root / "dataset.yaml").read_text()
    line = f"    annotations: annotations/{split}.csv\n"
    (root / "dataset.yaml").write_text(text.replace(line, f"{line}    {key}: {path}\n"))


def told(root, **more) -> list[str]:
    return split_mismatches(DatasetFolder.open(root), "val", LABELS, **more)


def test_a_split_that_agrees_says_nothing(root):
    assert told(root) == []
    require_labels(DatasetFolder.open(root), "val", LABELS)


def test_files_on_disk_in_another_case(root):
    (root / "videos" / "val_0.mp4").rename(root / "videos" / "VAL_0.mp4")
    (text,) = told(root)
    assert text.startswith("videos: 1 of 2 of the annotations of split 'val' are not in the files")
    assert "in upper and lower case alone: 'val_0' and 'VAL_0'" in text


def test_a_list_without_one_of_the_videos(root):
    (root / "annotations" / "val.txt").write_text("val_0\nval_2\n")
    name_file(root, "videos", "annotations/val.txt")
    (text,) = told(root)
    assert (
        "1 of 2 of the annotations (val.csv) are not in the list of videos (val.txt) (val_1)"
        in (text)
    )
    assert (
        "1 of 2 of the list of videos (val.txt) are not in the annotations (val.csv) (val_2)"
        in (text)
    )


def test_a_list_beside_that_of_another_split_of_the_same_file(root):
    both = [(root / "annotations" / f"{split}.csv").read_text() for split in ("train", "val")]
    (root / "annotations" / "val.csv").write_text("".join(both))
    text = (root / "dataset.yaml").read_text().replace("train.csv", "val.csv")
    for split in ("train", "val"):
        names = "".join(f"{split}_{number}\n" for number in range(2))
        (root / "annotations" / f"{split}.txt").write_text(names)
        text = text.replace(f"  {split}:\n", f"  {split}:\n    videos: annotations/{split}.txt\n")
    (root / "dataset.yaml").write_text(text)
    assert told(root) == []


def boxes(root, *rows: str) -> None:
    (root / "annotations" / "boxes.csv").write_text("".join(f"{row}\n" for row in rows))
    if "boxes.csv" not in (root / "dataset.yaml").read_text():
        name_file(root, "boxes", "{them: annotations/boxes.csv}")


BOX = ".1,.1,.5,.5"
GOOD = [f"val_{v},{t},{BOX},,0.9" for v in range(2) for t in (1, 2)]


def test_boxes_that_agree_say_nothing(root):
    boxes(root, *GOOD)
    assert told(root, boxes="them", score_threshold=0.8) == []


def test_boxes_of_one_video_and_of_one_keyframe_are_missed(root):
    boxes(root, GOOD[0])
    videos, times = told(root, boxes="them")
    assert "videos: 1 of 2 of split 'val' are not in boxes 'them' (val_1)" in videos
    assert "keyframes: 1 of 2 of split 'val' are not in boxes 'them' (val_0 at 2 s)" in times


def test_boxes_under_the_threshold_and_in_per_cent(root):
    boxes(root, *(row.replace("0.9", "0.3") for row in GOOD))
    (text,) = told(root, boxes="them", score_threshold=0.8)
    assert "at 0 of 4 keyframes a box scores 0.8 or more (the highest score is 0.3)" in text
    boxes(root, *(row.replace("0.9", "90") for row in GOOD))
    with pytest.raises(
        UserError, match=r"boxes.csv:1: score 90 looks like per cent; a probability"
    ):
        told(root, boxes="them", score_threshold=0.8)


def test_a_split_without_a_label_is_named_and_refused_for_training(root, tmp_path):
    (root / "annotations" / "val.csv").write_text(f"val_0,1,{BOX},\nval_1,1,{BOX},5\n")
    assert "not a single label" in told(root)[0]
    with pytest.raises(UserError, match=r"val.csv: split 'val' has no label .* ids there: 5\)"):
        require_labels(DatasetFolder.open(root), "val", LABELS)


def test_training_without_a_label_is_refused_before_the_run_folder(root, tmp_path):
    rows = (root / "annotations" / "train.csv").read_text().splitlines()
    (root / "annotations" / "train.csv").write_text(
        "".join(",".join(row.split(",")[:6]) + ",\n" for row in rows)
    )
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(f"data: {{root: '{root}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    with pytest.raises(UserError, match="nothing can be learned"):
        train_ava.main(["--cfg", str(cfg)])
    assert not (tmp_path / "run").exists()


def scored_with_list(root, tmp_path, listed: bytes, capsys):
    """Train for an epoch with a list of val's videos; returns the metrics and what was warned."""
    (root / "annotations" / "val.txt").write_bytes(listed)
    name_file(root, "videos", "annotations/val.txt")
    cfg = tmp_path / "tiny.yaml"
    cfg.write_text(f"data: {{root: '{root}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    assert train_ava.main(["--cfg", str(cfg), "optim.epochs=1"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if "list of videos" in line]
    return json.loads((tmp_path / "run" / "metrics.json").read_text()), warned


@pytest.mark.parametrize(
    "listed",
    ["\ufeffval_0\nval_1\n", "val_0.MP4\nval_1.mov\n", "val_0\r\n\r\nval_1 \r\n"],
    ids=["byte-order mark", "suffixes", "CR LF and blanks"],
)
def test_no_list_loses_a_video(root, tmp_path, listed, capsys):
    """All four keyframes are scored and the mean is that of a plain list."""
    metrics, warned = scored_with_list(root, tmp_path, listed.encode(), capsys)
    assert metrics["num_keyframes"] == 4 and warned == []
    folder = DatasetFolder.open(root)
    assert read_video_list(folder.split("val")) == {"val_0", "val_1"}
    (tmp_path / "plain").mkdir()
    again = make_dataset(tmp_path / "plain" / "data", train=2, val=2)
    plain, _ = scored_with_list(again, tmp_path / "plain", b"val_0\nval_1\n", capsys)
    assert metrics["mean_ap"] == plain["mean_ap"]


def test_a_list_in_another_case_is_told_with_the_cause(root, tmp_path, capsys):
    metrics, (line,) = scored_with_list(root, tmp_path, b"VAL_0\nval_1\n", capsys)
    assert line.startswith("warning: videos: ") and metrics["num_keyframes"] == 2
    assert "in upper and lower case alone: 'val_0' and 'VAL_0'" in line
    assert np.isfinite(metrics["mean_ap"])
