"""python -m ava_tools.report_boxes."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest
from tiny_data import make_dataset

from ava_tools.report_boxes import main
from detection.datasets.ava_csv import read_ground_truth, write_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.people.register import register_boxes
from detection.structures import ActorBoxes, Keyframe


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "tiny", train=1, val=3)


@pytest.fixture
def boxes(root, tmp_path):
    """The right box of every keyframe, one of them with a low score, and a wrong one."""
    rows = read_ground_truth(root / "annotations" / "val.csv")
    found = {rows.keyframe(i): rows.boxes_01[i] for i in range(len(rows))}
    scores = dict.fromkeys(found, 0.9) | {Keyframe("val_1", 2.0): 0.4}
    table = [(key, ActorBoxes([found[key]], [scores[key]])) for key in sorted(found)]
    table.append((Keyframe("val_2", 2.0), ActorBoxes([(0.9, 0.9, 1, 1)], [0.7])))
    path = root / "annotations" / "boxes_test.csv"
    write_person_boxes(path, table)
    return path


def test_everything_that_is_asked_for(root, boxes, tmp_path, capsys):
    register_boxes(DatasetFolder.open(root), "val", "test", "annotations/boxes_test.csv")
    files = {name: tmp_path / f"report.{name}" for name in ("json", "html", "png")}
    required = [text for name, path in files.items() for text in (f"--{name}", str(path))]
    arguments = ["--dataset", str(root), "--split", "val"]
    assert main([*arguments, "--name", "test", *required]) == 0
    text = capsys.readouterr().out
    assert "7 boxes and 6 people at 6 keyframes of 3 videos" in text
    assert "1.0000 with all of them" in text and "recall 0.8333" in text
    content = json.loads(files["json"].read_text())
    assert content["in_use"] == {
        "threshold": 0.8, "num_boxes": 5, "precision": 1.0, "recall": pytest.approx(5 / 6),
        "f1": pytest.approx(10 / 11), "ap": pytest.approx(5 / 6),
        "ceiling": content["in_use"]["ceiling"],
    }  # fmt: skip
    assert content["ceiling"]["mean_ap"] == 1.0
    assert content["in_use"]["ceiling"] == pytest.approx((1 + 1 / 2 + 5 / 6) / 3)  # red, blue, here
    # The wrong box scores 0.7, the last right one 0.4: it costs F1 little, and the ranking nothing.
    assert content["suggested"]["threshold"] == pytest.approx(0.2)
    assert content["suggested_multiplied"]["num_boxes"] == 7
    assert "multiplied by the person's (data.box_score_threshold=0 evaluation.multiply_pers" in text
    assert files["html"].read_text().startswith("<!doctype html>")
    assert files["png"].read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--boxes", str(boxes), "--threshold", "0.3"]) == 0
    assert "threshold 0.30: precision 0.8571, recall 1.0000" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--split", "train"), "no keyframe in common"),
        (("--boxes", "none.csv"), "none.csv"),
        (("--boxes", "empty.csv"), "empty.csv: no rows"),
        (("--protocol", "voc"), "no protocol 'voc'"),
    ],
)
def test_bad_input_is_one_line(root, boxes, tmp_path, monkeypatch, changes, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.csv").touch()
    arguments = ["--dataset", str(root), "--split", "val", "--boxes", str(boxes), *changes]
    with pytest.raises((UserError, FileNotFoundError), match=words) as caught:
        main(arguments)
    assert "\n" not in str(caught.value)


def test_boxes_that_are_not_named(root):
    with pytest.raises(UserError, match="has no boxes 'mine'"):
        main(["--dataset", str(root), "--split", "val", "--name", "mine"])


def test_no_torch_is_needed(root, boxes):
    code = "import sys; sys.modules['torch'] = None\nfrom ava_tools.report_boxes import main\n"
    code += f"main(['--dataset', {str(root)!r}, '--split', 'val', '--boxes', {str(boxes)!r}])"
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("suggested threshold") == 2


def test_boxes_that_do_not_match_the_split_are_told(root, boxes, capsys):
    arguments = ["--dataset", str(root), "--split", "val", "--boxes", str(boxes)]
    assert main(arguments) == 0
    assert "warning" not in capsys.readouterr().err
    text = boxes.read_text()
    boxes.write_text(text.replace("val_1,", "VAL_1,"))
    assert main(arguments) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: videos: 1 of 3 of split 'val' are not in the boxes (boxes_te")
    assert "they differ in upper and lower case alone: 'val_1' and 'VAL_1'" in line
    boxes.write_text(text.replace("val_1,0001", "val_1,0005"))
    assert main(arguments) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("warning: keyframes: 1 of 6 of split 'val' are not in the boxes")
    boxes.write_text(re.sub(r",0\.[0-9]+$", ",90", text, flags=re.M))
    with pytest.raises(UserError, match=r"boxes_test.csv:1: score 90 looks like per cent; a pro"):
        main(arguments)
    boxes.write_text(re.sub(r",0\.[0-9]+$", ",0.3", text, flags=re.M))
    assert main(arguments) == 0
    assert "a box scores 0.8 or more (the highest score is 0.3)" in capsys.readouterr().err
