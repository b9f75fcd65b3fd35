"""Datumaro's JSON: as the tool and as CVAT write it."""

from __future__ import annotations

import json

import pytest
from made_labels import imported, write_labelled

from detection.errors import UserError
from detection.importers.datumaro import DatumaroRules, read_datumaro
from detection.importers.frame_names import FrameNaming


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = ["a,0001,0.1,0.1,0.2,0.3,3,1", "b,0001,0.1,0.1,0.2,0.3,3,1"]
    return write_labelled(tmp_path_factory.mktemp("made") / "set", rows, seconds=3)


def box(x=10, kind="bbox", label=0, said=None, **more):
    shape = {"id": 0, "type": kind, "group": 0, "label_id": label, "bbox": [x, 20, 30, 40]}
    return shape | {"attributes": said or {}} | more


def item(name, *boxes, **more):
    return {"id": name, "annotations": list(boxes), "image": {"path": f"{name}.jpg"}} | more


def values(*items, labels=("person",)):
    named = [{"name": name, "parent": "", "attributes": []} for name in labels]
    return {"info": {}, "categories": {"label": {"labels": named}}, "items": list(items)}


def read(made, tmp_path, content, name="default.json", **options):
    (tmp_path / name).write_text(json.dumps(content), encoding="utf-8")
    return read_datumaro(tmp_path / name, made / "videos", **options)


def test_attributes_are_actions_and_tracks_are_persons(made, tmp_path):
    said = {"track_id": 7, "wave": True, "lift": False, "pose": "sit", "occluded": True}
    content = values(item("a/frame_000012", box(said=said)), item("a/frame_000013"))
    data = read(made, tmp_path, content)
    (video,) = data.videos
    (one,) = video.boxes
    assert (one.frame_or_time, one.box, one.person) == (12, (10, 20, 40, 60), "7")
    assert one.actions == ("wave", "sit")
    assert video.empty == [13]
    assert data.notes[0] == "actions are the attributes wave, lift, pose"
    assert one.line == "items[0].annotations[0]"


def test_without_attributes_labels_are_actions(made, tmp_path):
    content = values(item("a/1", box(label=1), box(label=0)), labels=("sit", "stand"))
    data = read(made, tmp_path, content, naming=FrameNaming(first_frame=1))
    assert [b.actions for b in data.videos[0].boxes] == [("stand",), ("sit",)]
    assert [b.frame_or_time for b in data.videos[0].boxes] == [0, 0]
    assert data.notes[0] == "actions are the labels"
    data = read(made, tmp_path, content, rules=DatumaroRules(labels=("sit",)))
    assert len(data.videos[0].boxes) == 1
    assert "1 annotations of other labels left out" in data.notes


def test_frames_of_videos_are_named_by_number(made, tmp_path):
    shown = {"video_path": "b.mp4", "frame_index": 4}
    one = {"id": "any", "annotations": [box()], "video_frame": shown}
    data = read(made, tmp_path, values(one), naming=FrameNaming(fps=5, first_frame=1))
    assert (data.videos[0].name, data.videos[0].boxes[0].frame_or_time) == ("b.mp4", 4)
    assert data.videos[0].by_frame
    with pytest.raises(UserError, match="beside items with images"):
        read(made, tmp_path, values(one, item("a/1")))


def test_files_of_subsets_say_the_split(made, tmp_path):
    (tmp_path / "annotations").mkdir()
    read(made, tmp_path, values(item("a/1", box())), "annotations/train.json")
    read(made, tmp_path, values(item("b/1", box())), "annotations/test.json")
    data = read_datumaro(tmp_path, made / "videos")
    assert {v.name: v.split for v in data.videos} == {"a.mp4": "train", "b.mp4": "val"}
    read(made, tmp_path, values(item("a/2", box())), "annotations/test.json")
    assert read_datumaro(tmp_path, made / "videos").videos[0].split is None


def test_sizes_shapes_and_whole_frames(made, tmp_path):
    sized = {"image": {"path": "a/1.jpg", "size": [480, 640]}}
    polygon = box(kind="polygon", points=[1, 2, 9, 2, 5, 40])
    content = values(item("a/1", box(), **sized), item("a/2", polygon, box(kind="label")))
    data = read(made, tmp_path, content)
    assert data.videos[0].size == (640, 480)
    assert [b.frame_or_time for b in data.videos[0].boxes] == [1]
    assert any("drawn there as polygon" in note for note in data.notes)
    assert "of whole frames, left out: label (1 times)" in data.notes
    data = read(made, tmp_path, content, rules=DatumaroRules(shapes="hull"))
    assert [b.box for b in data.videos[0].boxes] == [(10, 20, 40, 60), (1, 2, 9, 40)]


def test_rows_of_a_data_set(made, tmp_path):
    content = values(item("a/10", box(16, label=1, said={"track_id": 2})), item("b/20"),
                     labels=("stand", "sit"))  # fmt: skip
    (tmp_path / "d.json").write_text(json.dumps(content))
    rows = imported("datumaro", tmp_path / "d.json", made, tmp_path / "back")
    assert len(rows) == 2
    assert rows[0].startswith("a,0001,") and rows[0].endswith(",10,2")
    assert rows[1] == "b,0002"


def test_nothing(made, tmp_path):
    assert read(made, tmp_path, values()).videos == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"items": []}, "`categories.label.labels` and `items` are required"),
        (values("a/1"), r"items\[0\]: an object"),
        (values(item("nothing")), "names no frame of a video"),
        (values(item("c/1")), "the video of 'c/1.jpg' not found"),
        (values(item("a/1", "box")), r"items\[0\].annotations\[0\]: an object"),
        (values(item("a/1", box(label=3))), "label_id 3: there are 1 labels"),
        (values(item("a/1", box(bbox=[1, 2, 0, 4]))), "both above 0"),
        (values(item("a/1", box(said={"track_id": 1.5}))), "track_id '1.5'"),
        (values(item("a/1", image={"path": "a/1.jpg", "size": [0, 4]})), "above 0 are"),
        (
            values(
                item("a/1", image={"path": "a/1.jpg", "size": [4, 4]}),
                item("a/2", image={"path": "a/2.jpg", "size": [4, 5]}),
            ),
            "one size a video",
        ),
        (values(item("a/1", video_frame={"video_path": "a.mp4"})), "frame_index"),
    ],
)
def test_bad_items(made, tmp_path, content, message):
    with pytest.raises(UserError, match=message) as error:
        read(made, tmp_path, content)
    assert "default.json" in str(error.value) and "\n" not in str(error.value)


def test_unknown_choices(made, tmp_path):
    with pytest.raises(UserError, match="attribute 'pose', has: wave"):
        content = values(item("a/1", box(said={"wave": True})))
        read(made, tmp_path, content, rules=DatumaroRules(attributes=("pose",)))
    with pytest.raises(UserError, match="label 'cat', has: person"):
        read(made, tmp_path, values(), rules=DatumaroRules(labels=("cat",)))
    with pytest.raises(UserError, match="a JSON file, or a folder"):
        read_datumaro(tmp_path / "no", made / "videos")
