from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
import tube_cases

from ava_tools import score_tubes
from detection.errors import UserError
from detection.evaluation.tube_files import read_found_tubes, read_frame_boxes, read_tube_truth

CASE = tube_cases.tube_case(5)
ROWS = np.array([[1.0, 10, 10, 49, 89], [2, 11, 10, 50, 89]])


def write(path, content):
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@pytest.fixture
def truth_file(tmp_path):
    return write_truth(tmp_path, CASE.truth)


def write_truth(folder, truth, **more):
    names = [*truth, "g/train"]
    return write(
        folder / "truth.pkl",
        {
            "labels": list(tube_cases.CLASSES),
            "gttubes": {**truth, "g/train": {}},
            "train_videos": [["g/train"]],
            "test_videos": [list(CASE.videos)],
            "resolution": dict.fromkeys(names, (240, 320)),
        }
        | more,
    )


def found_tubes(case=CASE):
    found = {}
    for label, video, score, rows in case.tubes:
        scores = np.full((len(rows), 1), score)
        found.setdefault(label, []).append((video, score, np.concatenate([rows, scores], axis=1)))
    return found


def test_files_of_the_published_form_are_scored(tmp_path, truth_file, capsys):
    boxes = write(tmp_path / "frames.pkl", list(CASE.boxes))  # MultiSports' form: a list
    tubes = write(tmp_path / "tubes.pkl", found_tubes())
    arguments = ["--ground-truth", truth_file, "--frames", boxes, "--tubes", tubes, "--errors"]
    arguments += ["--protocol", "multisports", "--json", tmp_path / "out.json"]
    assert score_tubes.main([str(one) for one in arguments]) == 0
    out = json.loads((tmp_path / "out.json").read_text())
    golden = np.load(__file__.replace("test_tube_files.py", "golden_tube_maps.npz"))
    expected = golden["multisports_tubes"][5]
    for row, iou in enumerate(("0.2", "0.5", "0.75")):
        got = [np.nan if v is None else v for v in out["video_map"][iou]["per_class"].values()]
        np.testing.assert_allclose(got, expected[row], rtol=0, atol=1e-9)
    got = [np.nan if v is None else v for v in out["frame_map"]["per_class"].values()]
    np.testing.assert_allclose(got, golden["multisports_frames"][5], rtol=0, atol=1e-9)
    assert 0 <= out["video_map"]["0.5:0.95"]["mean_ap"] <= 1
    assert out["tube_errors"]["mean"]["missed"] == pytest.approx(
        np.mean([v["missed"] for v in out["tube_errors"]["per_class"].values()])
    )
    printed = capsys.readouterr().out
    assert "multisports: " in printed and "time and location" in printed


def test_a_file_without_detections(tmp_path, truth_file, capsys):
    for empty in ([], np.zeros((0, 8))):
        boxes = write(tmp_path / "frames.pkl", empty)
        tubes = write(tmp_path / "tubes.pkl", {})
        for protocol in ("act", "multisports"):
            arguments = [truth_file, "--frames", boxes, "--tubes", tubes, "--protocol", protocol]
            assert score_tubes.main(["--ground-truth", *map(str, arguments)]) == 0
    assert "video-mAP 0.0000 at IoU 0.2" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([1, 2], "are required, found an array of shape"),
        ([[1, 2, "x"]], "8 numbers are required"),
        ([[0, 1, 0, np.nan, 1, 1, 2, 2]], "row 0: finite numbers are required, found 0, 1, 0, nan"),
        ([[0, 1.5, 0, 0.5, 1, 1, 2, 2]], "row 0: video, frame and label index must be whole"),
        ([[0, 1, 0, 0.5, 1, 1, 2, 2], [9, 1, 0, 0.5, 1, 1, 2, 2]], "row 1: there are . videos"),
        ([[0, 1, 3, 0.5, 1, 1, 2, 2]], "and 3 labels, found 0, 1, 3"),
        ([[0, 1, 0, 0.5, 5, 1, 2, 2]], "must not lie beyond x2"),
    ],
)
def test_bad_rows_of_frames(tmp_path, truth_file, rows, message):
    truth = read_tube_truth(truth_file)
    path = write(tmp_path / "frames.pkl", rows)
    with pytest.raises(UserError, match=message) as error:
        read_frame_boxes(path, truth)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "a dictionary of label index"),
        ({7: []}, "label index 7, there are 3 labels"),
        ({"jump": []}, "label index jump"),
        ({0: 5}, "label 0: a list of tubes"),
        ({0: [("g/v0", 0.5)]}, r"tube 0: \(video, score, rows\)"),
        ({0: [("g/train", 0.5, ROWS)]}, "video g/train is not among the split's test videos"),
        ({0: [("g/v0", float("inf"), ROWS)]}, "the score is inf"),
        ({0: [("g/v0", 0.5, ROWS[:, :4])]}, "found shape"),
        ({0: [("g/v0", 0.5, [[1, 2], [3]])]}, "rows of equal length"),
        ({0: [("g/v0", 0.5, ROWS), ("g/v0", 0.5, ROWS[:0])]}, "tube 1: a tube without rows"),
        ({0: [("g/v0", 0.5, ROWS[::-1])]}, "must follow each other, found 1 after 2"),
        ({0: [("g/v0", 0.5, ROWS * [[1, 9, 1, 1, 1]])]}, "must not lie beyond"),
        ({0: [("g/v0", 0.5, ROWS * [[1, np.nan, 1, 1, 1]])]}, "finite numbers"),
        ({0: [("g/v0", 0.5, ROWS + 0.5)]}, "frame 1.5, a whole number"),
    ],
)
def test_bad_tubes(tmp_path, truth_file, content, message):
    truth = read_tube_truth(truth_file)
    path = write(tmp_path / "tubes.pkl", content)
    with pytest.raises(UserError, match=message) as error:
        read_found_tubes(path, truth)
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_bad_ground_truth_and_options(tmp_path, truth_file):
    with pytest.raises(UserError, match="split 2 of 1"):
        read_tube_truth(truth_file, split=2)
    gap = write_truth(
        tmp_path,
        {video: {} for video in CASE.videos} | {"g/v0": {0: [ROWS * [[1], [2]]]}},
    )
    with pytest.raises(UserError, match="g/v0, jump: frames must follow each other, found 4 after"):
        read_tube_truth(gap)
    bare = write_truth(tmp_path, {video: {} for video in CASE.videos})
    boxes = str(write(tmp_path / "frames.pkl", []))
    with pytest.raises(UserError, match="no tube in the test videos"):
        score_tubes.main(["--ground-truth", str(bare), "--frames", boxes, "--protocol", "act"])
    with pytest.raises(UserError, match="nothing to score"):
        score_tubes.main(["--ground-truth", str(bare), "--protocol", "act"])
    with pytest.raises(UserError, match="frames alone"):
        score_tubes.main(["--ground-truth", str(bare), "--tubes", boxes, "--protocol", "realtime"])
