"""VIA 3 projects: what is exported comes back, what others wrote is read or refused."""

import copy
import json

import pytest
from made_labels import exported, imported, rows_of, write_labelled

from ava_tools import export_labels
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.frame_names import FrameNaming
from detection.importers.via3 import read_via3_videos
from detection.importers.via_attributes import ViaRules
from detection.importers.via_shapes import box_of_xy

ROWS = [
    "a,0001,0.077,0.151,0.283,0.811,3,1",
    "a,0001,0.077,0.151,0.283,0.811,17,1",
    "a,0001,0.5,0.151,0.9,0.811,24,0",
    "a,2.033333,0.1,0.2,0.3,0.9,,0",
    "b 走,0003,0.333333,0.1,0.999,0.9,31,5",
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", ROWS)


@pytest.fixture
def project():
    """A project as VIA's own example has it, of one video and one image."""
    return {
        "project": {"pname": "x", "data_format_version": "3.1.1", "vid_list": ["1", "2"]},
        "attribute": {
            "1": {"aname": "Activity", "anchor_id": "FILE1_Z2_XY0", "type": 4,
                  "options": {"1": "sit", "2": "stand"}},
            "2": {"aname": "Does", "anchor_id": "FILE1_Z1_XY1", "type": 2,
                  "options": {"0": "wave", "1": "lift", "2": "none"}},
            "3": {"aname": "Track ID", "anchor_id": "FILE1_Z1_XY1", "type": 1, "options": {}},
        },
        "file": {
            "1": {"fid": 1, "fname": "a.mp4", "type": 4, "loc": 1, "src": ""},
            "2": {"fid": 2, "fname": "b 走_000012.jpg", "type": 2, "loc": 1, "src": ""},
        },
        "view": {"1": {"fid_list": [1]}, "2": {"fid_list": ["2"]}},
        "metadata": {
            "-glf": {"vid": "1", "flg": 0, "z": [2, 6.5], "xy": [], "av": {"1": "1"}},
            "x": {"vid": 1, "z": [3.25], "xy": [2, 16, 9.6, 32, 48], "av": {"2": "0,1", "3": "p"}},
            "y": {"vid": "2", "z": [], "xy": [8, 40, 20, 80, 30, 60, 10, 60, 50], "av": {}},
        },
    }  # fmt: skip


def read(project, made, tmp_path, **options):
    path = tmp_path / "p.json"
    path.write_text(json.dumps(project), encoding="utf-8")
    return read_via3_videos(path, made / "videos", **options)


def test_rows_come_back(made, tmp_path, capsys):
    path = exported("via3", made, tmp_path / "p.json")
    assert "2 videos, 4 boxes" in capsys.readouterr().out
    assert imported("via3", path, made, tmp_path / "back") == sorted(ROWS)


def test_groups_are_radio_buttons_and_keyframes_without_persons_are_counted(tmp_path, capsys):
    rows = ["a,0001,0.1,0.1,0.3,0.3,3,1", "a,0001,0.1,0.1,0.3,0.3,24,1", "a,0002"]
    folder = write_labelled(tmp_path / "set", rows, exclusive="exclusive: {Person: [stand, sit]}\n")
    path = exported("via3", folder, tmp_path / "p.json")
    assert "1 of 2 keyframes left out: without a person" in capsys.readouterr().out
    kinds = {a["aname"]: a["type"] for a in json.loads(path.read_text())["attribute"].values()}
    assert kinds == {"Person action": 3, "action": 2, "person": 1}
    assert imported("via3", path, folder, tmp_path / "back") == sorted(rows[:2])
    assert DatasetFolder.open(tmp_path / "back").file.exclusive == {
        "Person action": ["stand", "sit"]
    }


def test_a_project_as_via_writes_it(project, made, tmp_path):
    data = read(project, made, tmp_path)
    video, images = data.videos
    (box,) = video.boxes
    assert (box.frame_or_time, box.actions, box.person) == (3.25, ("wave", "lift"), "p")
    assert box.box == (16, 9.6, 48, 57.6) and not video.by_frame
    assert images.by_frame and images.boxes[0].frame_or_time == 12
    assert images.boxes[0].box == (40, 10, 80, 50)  # an extreme rectangle
    assert data.classes == ["wave", "lift"]
    assert any("1 temporal segments with actions left out" in note for note in data.notes)


def test_segments_tell_what_people_within_do(project, made, tmp_path):
    data = read(project, made, tmp_path, segments="everyone")
    assert data.videos[0].boxes[0].actions == ("wave", "lift", "sit")
    project["metadata"]["x"]["av"] = {}
    assert read(project, made, tmp_path).videos[0].boxes[0].actions == ("sit",)
    project["metadata"]["x"]["z"] = [6.6]
    data = read(project, made, tmp_path)
    assert data.videos[0].boxes[0].actions == ()
    assert any("1 of them have no box within" in note for note in data.notes)


def test_other_shapes_leave_out_their_keyframe_or_become_boxes(project, made, tmp_path):
    project["metadata"]["z"] = {
        "vid": "1", "z": [3.25], "xy": [7, 1, 1, 30, 1, 30, 60], "av": {"2": "0"},
    }  # fmt: skip
    data = read(project, made, tmp_path)
    assert not data.videos[0].boxes and not data.videos[0].empty
    assert any("1 keyframes left out, not judged" in note for note in data.notes)
    data = read(project, made, tmp_path, rules=ViaRules(shapes="hull"))
    assert [box.box for box in data.videos[0].boxes][1] == (1, 1, 30, 60)


def test_images_have_times_where_their_rate_is_said(project, made, tmp_path):
    data = read(project, made, tmp_path, naming=FrameNaming(fps=2, first_frame=1, start_s=0.5))
    assert data.videos[1].boxes[0].frame_or_time == 6.0 and not data.videos[1].by_frame
    project["file"]["2"]["fname"] = "b 走_000000.jpg"
    with pytest.raises(UserError, match=r"file\.2: .*frame 0, from 1 on is required"):
        read(project, made, tmp_path, naming=FrameNaming(first_frame=1))


def test_images_without_regions_are_keyframes_without_persons(project, made, tmp_path):
    del project["metadata"]["y"]
    assert read(project, made, tmp_path).videos[1].empty == [12]


def test_a_text_attribute_is_an_action_where_it_is_the_only_one(project, made, tmp_path):
    project["attribute"]["2"] |= {"type": 1, "options": {}}
    project["metadata"]["x"]["av"]["2"] = "walk, talk"
    assert read(project, made, tmp_path).videos[0].boxes[0].actions == ("walk, talk",)
    data = read(project, made, tmp_path, rules=ViaRules(separators=","))
    assert data.videos[0].boxes[0].actions == ("walk", "talk")
    project["attribute"]["4"] = project["attribute"]["2"] | {"aname": "Other"}
    with pytest.raises(UserError, match="2 text attributes .* --attributes NAME says which"):
        read(project, made, tmp_path)


def set_at(project, path, value):
    *parents, last = path.split("/")
    for name in parents:
        project = project[name]
    if value is None:
        del project[last]
    else:
        project[last] = value


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("metadata", None, "no 'metadata': a project of VIA 3 is required"),
        ("metadata", [], "not an object, 'metadata'"),
        ("_via_img_metadata", {}, r"a project of VIA 2, VIA 3 is required \(via2 reads it\)"),
        ("project/data_format_version", "4.0\x1b", r"version: 4\.0\\x1b found, 3 is required"),
        ("project/data_format_version", 3, "version: 3 found"),
        ("file/1/fname", "../a.mp4", r"file\.1: .*leads out of the folder"),
        ("file/1/fname", "a\x1b.mp4", r"file\.1: .*not a valid name"),
        ("file/1/fname", "c.mp4", r"file\.1: video 'c.mp4' not found"),
        ("file/1/fname", None, r"file\.1\.fname: a name is required"),
        ("file/1/type", 8, r"file\.1\.type: 8: an image \(2\) or a video \(4\) is required"),
        ("file/2/fname", "b.jpg", r"file\.2: 'b.jpg' names no frame of a video"),
        ("view/1/fid_list", [9], r"view\.1\.fid_list: 9 is no file's id"),
        ("view/1/fid_list", [], r"view\.1\.fid_list: a list"),
        ("view/1/fid_list", [1, 2], r"metadata\.-glf\.vid: a view of several files"),
        ("metadata/x/vid", 7, r"metadata\.x\.vid: 7 is no view's id"),
        ("metadata/x/vid", None, r"metadata\.x\.vid: a number or a text is required"),
        ("metadata/x/z", [1, 2], r"metadata\.x\.z: 2 times of a region: one is required"),
        ("metadata/x/z", ["a"], r"metadata\.x\.z: z must be a finite number"),
        ("metadata/x/z", [9e99], r"metadata\.x\.z: z must be a finite number"),
        ("metadata/x/xy", [2, 1, 1, 5], r"metadata\.x\.xy: a rect of 3 numbers"),
        ("metadata/x/xy", [11, 1, 1, 5, 5], r"metadata\.x\.xy: shape 11: one of 1 to 9"),
        ("metadata/x/xy", [2, 1, 1, 0, 5], r"metadata\.x: width 0 and height 5: both above 0"),
        ("metadata/x/av/2", "0,7", r"metadata\.x: attribute 'Does' has the options 0, 1, 2"),
        ("metadata/x/av/2", [0], r"metadata\.x: attribute 'Does': a text is required"),
        ("metadata/x/av/3", True, r"metadata\.x: the person must be a text"),
        ("attribute/2/type", 9, r"attribute\.2\.type: 9: one of 1 to 5"),
        ("attribute/2/options/0", "a\nb", "no valid class name"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(project, made, tmp_path, path, value, said):
    project = copy.deepcopy(project)
    set_at(project, path, value)
    with pytest.raises(UserError, match=said) as caught:
        read(project, made, tmp_path)
    assert "\n" not in str(caught.value) and "\x1b" not in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "p.json"))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"file": NaN}', '{"a": 1, "a": 2}', "[]", ""])
def test_what_is_no_json_object_is_refused(made, tmp_path, text):
    (tmp_path / "p.json").write_text(text)
    with pytest.raises(UserError, match=r"p\.json"):
        read_via3_videos(tmp_path / "p.json", made / "videos")


def test_an_export_replaces_no_file_and_needs_rows(made, tmp_path):
    path = exported("via3", made, tmp_path / "p.json")
    line = ["via3", "--dataset", str(made), "--split", "all", "--out", str(path)]
    with pytest.raises(UserError, match="is there already"):
        export_labels.main(line)
    before = path.read_text()
    exported("via3", made, path, "--overwrite")
    assert path.read_text() == before
    empty = write_labelled(tmp_path / "empty", ["a,0001"])
    (empty / "annotations" / "all.csv").write_text("")
    with pytest.raises(UserError, match="no rows"):
        exported("via3", empty, tmp_path / "e.json")


def test_a_class_that_means_no_action_is_refused(tmp_path):
    folder = write_labelled(tmp_path / "s", ["a,0001,.1,.1,.3,.3,3,1"], classes=("None", "b"))
    with pytest.raises(UserError, match="class 'None': it means no action"):
        exported("via3", folder, tmp_path / "p.json")


def test_boxes_after_the_video_and_unknown_actions_are_said(tmp_path, capsys):
    folder = write_labelled(tmp_path / "s", ["a,0001,.1,.1,.3,.3,80,1"])
    exported("via3", folder, tmp_path / "p.json")
    assert "1 rows of actions that are not in the label map" in capsys.readouterr().out
    assert rows_of(folder / "annotations" / "all.csv")
    (folder / "annotations" / "all.csv").write_text("a,0099,.1,.1,.3,.3,3,1\n")
    with pytest.raises(UserError, match="1 boxes at times outside it, the first at 99 s"):
        exported("via3", folder, tmp_path / "q.json")


def test_deleted_regions_are_left_out_and_counted(project, made, tmp_path):
    project["metadata"]["x"]["flg"] = 1
    data = read(project, made, tmp_path)
    assert not data.videos[0].boxes and "1 deleted regions left out" in data.notes


def test_options_of_one_name_are_told_apart_by_their_attribute(project, made, tmp_path):
    options = {"0": "wave", "1": "bow"}
    project["attribute"]["5"] = project["attribute"]["2"] | {"aname": "Then", "options": options}
    project["metadata"]["x"]["av"]["5"] = "0,1"
    data = read(project, made, tmp_path)
    assert data.videos[0].boxes[0].actions == ("Does: wave", "lift", "Then: wave", "bow")


def test_a_person_who_does_two_of_a_group_comes_back(tmp_path):
    rows = ["a,0001,0.1,0.1,0.3,0.3,10,1", "a,0001,0.1,0.1,0.3,0.3,3,1"]
    group = "exclusive: {pose: [stand, sit]}\n"
    folder = write_labelled(tmp_path / "set", rows, exclusive=group)
    for form in ("via3", "via2"):
        path = exported(form, folder, tmp_path / f"{form}.json")
        assert imported(form, path, folder, tmp_path / form) == rows


@pytest.mark.parametrize(
    ("xy", "box"),
    [
        ([3, 50, 40, 10], (40, 30, 60, 50)),
        ([4, 50, 40, 10, 5], (40, 35, 60, 45)),
        ([4, 50, 40, 10, 5, 0.3], (40, 30, 60, 50)),  # turned: around the circle that holds it
        ([6, 1, 2, 9, 40], (1, 2, 9, 40)),
        ([9, 1, 2, 9, 40, 5, 5], (1, 2, 9, 40)),
        ([1, 4, 5], None),
    ],
)
def test_boxes_around_shapes(xy, box):
    assert box_of_xy(xy)[1] == box
