"""Labels to supervision and FiftyOne and back; without the packages by stand-ins."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from made_labels import CLASSES, rows_of, write_labelled

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.custom import Choices, import_annotations
from detection.importers.fiftyone_labels import read_fiftyone, write_fiftyone
from detection.importers.supervision_labels import read_supervision, write_supervision

ROWS = [
    "a,0001,0.077,0.151,0.283,0.811,3,1",
    "a,0001,0.077,0.151,0.283,0.811,17,1",
    "a,0001,0.5,0.151,0.9,0.811,24,0",
    "a,2.100000,0.1,0.2,0.3,0.9,,0",
    "a,0003",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", ROWS, seconds=4)


class Values(SimpleNamespace):
    """Takes any keywords, as the packages' own classes do."""

    def __getitem__(self, name):
        return getattr(self, name)

    def has_field(self, name):
        return hasattr(self, name)


def sample(**keywords):
    return Values(frames={}, **keywords)


@pytest.fixture(params=["stand-in", "package"])
def fiftyone(request, monkeypatch):
    if request.param == "package":
        return pytest.importorskip("fiftyone")
    fake = SimpleNamespace(Sample=sample, Frame=Values, Detection=Values, Detections=Values)
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    return fake


@pytest.fixture(params=["stand-in", "package"])
def supervision(request, monkeypatch):
    if request.param == "package":
        return pytest.importorskip("supervision")
    fake = SimpleNamespace(Detections=Values)
    monkeypatch.setitem(sys.modules, "supervision", fake)
    return fake


def written(made, videos, out):
    choices = Choices(label_map=made / "annotations/label_map.pbtxt", val_share=0)
    import_annotations(out, videos, classes=(), exclusive={}, choices=choices)
    return rows_of(out / "annotations/train.csv")


def test_fiftyone_both_ways(made, tmp_path, fiftyone):
    samples = write_fiftyone(DatasetFolder.open(made), "all")
    (one,) = samples
    assert one.tags == ["all"] and sorted(one.frames) == [11, 22, 31]
    first = one.frames[11]["people"].detections
    assert [(d.label, d.index) for d in first] == [
        (CLASSES[0], 1), (CLASSES[2], 1), (CLASSES[3], 0),
    ]  # fmt: skip
    assert first[0].bounding_box == pytest.approx([0.077, 0.151, 0.206, 0.66])
    assert one.frames[22]["people"].detections[0].label == "none"
    assert written(made, read_fiftyone(samples).videos, tmp_path / "back") == sorted(ROWS)


def test_supervision_both_ways(made, tmp_path, supervision):
    frames = list(write_supervision(DatasetFolder.open(made), "all"))
    assert [(one.frame, one.time_s) for one in frames] == [(10, 1), (21, 2.1), (30, 3)]
    found = frames[0].detections
    assert found.tracker_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == [CLASSES[0], CLASSES[3]]
    assert found.data["actions"].sum(axis=1).tolist() == [2, 1]
    assert frames[1].detections.class_id.tolist() == [-1]
    assert len(frames[2].detections.xyxy) == 0
    pairs = [(one.frame, one.detections) for one in frames]
    video = read_supervision(made / "videos/a.mp4", pairs, CLASSES)
    assert written(made, [video], tmp_path / "back") == sorted(ROWS)


def detections(**more):
    one = {"xyxy": np.array([[1, 2, 30, 40.0]]), "class_id": None, "tracker_id": None, "data": {}}
    return Values(**one | more)


def test_supervision_of_a_detector(made):
    path, names = made / "videos/a.mp4", ("stand", "sit")

    def read(**more):
        return read_supervision(path, [(3, detections(**more))], names).boxes[0]

    assert (read().actions, read().person, read().box) == ((), None, (1, 2, 30, 40))
    assert read(class_id=np.array([1]), tracker_id=np.array([7])).actions == ("sit",)
    assert read(tracker_id=np.array([7])).person == "7"
    assert read(class_id=np.array([-1])).actions == ()
    assert read(class_id=np.array([0]), data={"class_name": np.array(["run"])}).actions == ("run",)
    assert read(data={"class_name": np.array([""])}).actions == ()
    empty = detections(xyxy=np.zeros((0, 4)))
    assert read_supervision(path, [(2, empty)], names).empty == [2]
    assert read_supervision(path, [], names).boxes == []


@pytest.mark.parametrize(
    ("frame", "more", "message"),
    [
        (-1, {}, "frame -1: different whole numbers from 0"),
        (1.5, {}, "frame 1.5"),
        (0, {"xyxy": np.array([[1, 2, np.nan, 4]])}, "a box that is not finite"),
        (0, {"class_id": np.array([5])}, "frame 0, row 0: class 5 of 2"),
        (0, {"data": {"actions": np.ones((1, 3))}}, "3 actions, 2 classes"),
    ],
)
def test_bad_detections(made, frame, more, message):
    with pytest.raises(UserError, match=message):
        read_supervision(made / "videos/a.mp4", [(frame, detections(**more))], ("a", "b"))


def test_a_frame_twice(made):
    with pytest.raises(UserError, match="different whole numbers"):
        read_supervision(made / "videos/a.mp4", [(1, detections()), (1, detections())], ("a",))


def fiftyone_sample(made, tags=(), name="a", **frames):
    shown = {
        int(number[1:]): Values(people=None if boxes is None else Values(detections=boxes))
        for number, boxes in frames.items()
    }
    return Values(filepath=str(made / f"videos/{name}.mp4"), tags=list(tags), frames=shown)


def test_frames_of_fiftyone_without_the_field_are_no_keyframes(made):
    box = Values(label="sit", bounding_box=[0.1, 0.1, 0.2, 0.2], index=None)
    data = read_fiftyone([fiftyone_sample(made, ("val",), f1=None, f2=[], f3=[box])])
    (video,) = data.videos
    assert (video.split, video.empty, [b.frame_or_time for b in video.boxes]) == ("val", [1], [2])
    assert video.boxes[0].person is None and data.classes == ["sit"]
    assert read_fiftyone([]).videos == []


def test_bad_samples(made):
    box = Values(label="sit", bounding_box=[0.1, 0.1, 0.2], index=1)
    with pytest.raises(UserError, match="a.mp4: frame 3: bounding_box of 3 numbers"):
        read_fiftyone([fiftyone_sample(made, f3=[box])])
    with pytest.raises(UserError, match="two samples whose videos have one name"):
        read_fiftyone([fiftyone_sample(made), fiftyone_sample(made)])


def test_absent_packages_are_named(made, monkeypatch):
    folder = DatasetFolder.open(made)
    for name, call in (
        ("fiftyone", lambda: write_fiftyone(folder, "all")),
        ("supervision", lambda: list(write_supervision(folder, "all"))),
    ):
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(UserError, match=f"pip install {name}"):
            call()
