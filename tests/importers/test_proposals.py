from __future__ import annotations

import os
import pickle

import numpy as np
import pytest
from made_labels import write_labelled

from ava_tools import import_dataset
from detection.datasets.ava_csv import read_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.proposals import read_proposals, write_proposals

BOXES = np.array([[0.1, 0.2, 0.3, 0.9, 0.75], [0.5, 0.2, 0.8, 0.9, 0.5]], np.float32)


def write(folder, content):
    path = folder / "proposals.pkl"
    path.write_bytes(pickle.dumps(content, protocol=4))
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = ["a,0001,0.1,0.1,0.2,0.3,3,1"]
    return write_labelled(tmp_path_factory.mktemp("made") / "set", rows, seconds=3)


def test_boxes_come_in_and_go_out_again(made, tmp_path):
    content = {"v,1,0902": BOXES, "a,0001": BOXES[:1], "a,0002": BOXES[:0]}
    notes = read_proposals(write(tmp_path, content), tmp_path / "boxes.csv")
    assert notes == [
        "3 boxes at 2 keyframes of 2 videos",
        "1 keyframes without a box: no row says so",
    ]
    rows = read_person_boxes(tmp_path / "boxes.csv")
    assert rows.video_names == ("a", "v,1")
    assert rows.time_us.tolist() == [1_000_000, 902_000_000, 902_000_000]
    out = tmp_path / "back.pkl"
    notes = write_proposals(DatasetFolder.open(made), "all", out, boxes=tmp_path / "boxes.csv")
    assert notes == ["3 boxes at 2 keyframes"]
    back = pickle.loads(out.read_bytes())
    assert sorted(back) == ["a,0001", "v,1,0902"]
    for key, array in back.items():
        np.testing.assert_array_equal(array, content[key])
        assert array.dtype == np.float32


def test_boxes_without_scores_and_over_the_edge(tmp_path):
    boxes = np.array([[-0.01, 0.2, 0.3, 1.02]])
    notes = read_proposals(write(tmp_path, {"a,1.500000": boxes}), tmp_path / "boxes.csv")
    assert notes[1:] == ["1 boxes without a score got 1", "1 boxes cut at the edge of the frame"]
    assert (tmp_path / "boxes.csv").read_text() == "a,1.500000,0.0,0.2,0.3,1,,1\n"


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("made_by_the_pickle",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([BOXES], "a dictionary of 'VIDEO,SECOND'"),
        ({"a": BOXES}, "a: a key VIDEO,SECOND"),
        ({"a,late": BOXES}, "the second must be a number, found 'late'"),
        ({"a/../b,1": BOXES}, "would be a path that leads away"),
        ({}, "holds no box, at 0 keyframes"),
        ({"a,1": BOXES[:0]}, "holds no box, at 1 keyframes"),
        ({"a,1": BOXES, "a,0001": BOXES}, "a,0001: this keyframe is there twice"),
        ({"a,1": BOXES[:, :3]}, "found shape"),
        ({"a,1": [[0.1, 0.2], [0.3]]}, "rows of equal length"),
        ({"a,1": BOXES * np.nan}, "finite numbers"),
        (
            {"a,1": BOXES * [[200, 200, 200, 200, 1]]},
            "fractions of the frame are required, found 20",
        ),
        ({"a,1": BOXES[:, [2, 1, 0, 3, 4]]}, "x1, y1 must lie before"),
        ({"a,1": BOXES * [[1, 1, 1, 1, 9]]}, "scores must be from 0 to 1"),
        ({"a,1": Harmful()}, "pickle"),
    ],
)
def test_bad_pickles(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=message) as error:
        read_proposals(path, tmp_path / "boxes.csv")
    assert "\n" not in str(error.value) and str(path) in str(error.value)
    assert not (tmp_path / "boxes.csv").exists()
    assert not (tmp_path / "made_by_the_pickle").exists()


def test_times_between_seconds_cannot_go_out(made, tmp_path):
    (tmp_path / "b.csv").write_text("a,0001,0.1,0.1,0.2,0.3,,0.5\na,1.5,0.1,0.1,0.2,0.3,,0.5\n")
    with pytest.raises(UserError, match="b.csv:2: 1.500000 s, mmaction2's proposals hold whole"):
        write_proposals(DatasetFolder.open(made), "all", tmp_path / "o", boxes=tmp_path / "b.csv")
    assert not (tmp_path / "o").exists()


def test_the_command(tmp_path, capsys):
    source, out = str(write(tmp_path, {"a,0001": BOXES})), str(tmp_path / "boxes.csv")
    assert import_dataset.main(["proposals", "--source", source, "--out", out]) == 0
    assert "2 boxes at 1 keyframes" in capsys.readouterr().out
    with pytest.raises(UserError, match="is there already; --overwrite"):
        import_dataset.main(["proposals", "--source", source, "--out", out])
    assert import_dataset.main(["proposals", "--source", source, "--out", out, "--overwrite"]) == 0
