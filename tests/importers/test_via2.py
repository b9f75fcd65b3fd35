"""VIA 2: what is exported comes back; projects, annotations and tables of others are read."""

import json

import pytest
from made_labels import exported, imported, write_labelled

from detection.errors import UserError
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.via2 import read_via2_videos
from detection.importers.via_attributes import ViaRules

ROWS = [
    "a_1,0001,0.077,0.151,0.283,0.811,3,1",
    "a_1,0001,0.077,0.151,0.283,0.811,17,1",
    "a_1,0001,0.5,0.151,0.9,0.811,24,0",
    "a_1,2.100000,0.1,0.2,0.3,0.9,,0",
    "a_1,0004",
    "b 走-,0003,0.333333,0.1,0.999,0.9,31,5",
]
GROUP = "exclusive: {pose: [stand, sit]}\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", ROWS, exclusive=GROUP)


@pytest.mark.parametrize("name", ["p.json", "p.csv"])
def test_rows_and_keyframes_without_persons_come_back(made, tmp_path, capsys, name):
    path = exported("via2", made, tmp_path / name)
    assert "2 videos, 4 images, 4 boxes\n" in capsys.readouterr().out
    assert imported("via2", path, made, tmp_path / "back") == sorted(ROWS)
    capsys.readouterr()
    path = exported("via2", made, tmp_path / f"seconds_{name}", "--fps", "1")
    assert "1 of 4 keyframes moved" in capsys.readouterr().out
    rows = imported("via2", path, made, tmp_path / "again", "--fps", "1")
    assert rows == sorted(row.replace("2.100000", "0002") for row in ROWS)


def region(x=16, said=None, **shape):
    shape = {"name": "rect", "x": x, "y": 9, "width": 30, "height": 60} | shape
    return {"shape_attributes": shape, "region_attributes": said or {}}


def image(name, *regions):
    return {"filename": name, "size": 7, "regions": list(regions), "file_attributes": {}}


def read(made, tmp_path, values, **options):
    path = tmp_path / "p.json"
    path.write_text(values if isinstance(values, str) else json.dumps(values), encoding="utf-8")
    return read_via2_videos(path, made / "videos", **options)


def test_annotations_alone_tell_actions_by_their_values(made, tmp_path):
    ticks = {"does": {"wave": True, "lift": False}, "pose": "sit", "track_id": 4}
    values = {"x": image("a_1_000012.jpg", region(said=ticks), region(50, {"pose": "stand"}))}
    data = read(made, tmp_path, values)
    one, two = data.videos[0].boxes
    assert (one.frame_or_time, one.actions, one.person) == (12, ("wave", "sit"), "4")
    assert two.actions == ("stand",) and two.person is None
    assert data.exclusive == {"pose": ["sit", "stand"]}


def test_regions_of_via_1_are_an_object(made, tmp_path):
    values = {"x": image("a_1/000003.png") | {"regions": {"0": region(said={"pose": "sit"})}}}
    assert read(made, tmp_path, values).videos[0].boxes[0].frame_or_time == 3


def test_a_polygon_leaves_its_keyframe_out_or_becomes_a_box(made, tmp_path):
    polygon = {"name": "polygon", "all_points_x": [1, 9, 5], "all_points_y": [2, 2, 40]}
    drawn = {"shape_attributes": polygon, "region_attributes": {"pose": "sit"}}
    values = {"x": image("a_1_3.jpg", drawn), "y": image("a_1_4.jpg", region())}
    data = read(made, tmp_path, values)
    assert [box.frame_or_time for box in data.videos[0].boxes] == [4]
    data = read(made, tmp_path, values, rules=ViaRules(shapes="hull"))
    assert data.videos[0].boxes[0].box == (1, 2, 9, 40)


@pytest.mark.parametrize(
    ("name", "video", "when"),
    [
        ("a_1_000012.jpg", "a_1.mp4", 12),
        ("a_1/000012.PNG", "a_1.mp4", 12),
        ("sub/a_1_000012.jpg", "a_1.mp4", 12),
        ("a_1/frame_000012.jpg", "a_1.mp4", 12),
        ("a_1.mp4_12.jpeg", "a_1.mp4", 12),
        ("a_1 - 12.jpg", "a_1.mp4", 12),
        ("a_1_frame_12.jpg", "a_1.mp4", 12),
        ("a_1\\img12.jpg", "a_1.mp4", 12),
        ("b 走-_000012.jpg", "b 走-.mp4", 12),
    ],
)
def test_images_name_their_video_and_frame(made, name, video, when):
    found, frame = NamedFrames(made / "videos", "p", FrameNaming()).find(name)
    assert (found.name, frame) == (video, when)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("c_000012.jpg", "the video of 'c_000012.jpg' not found"),
        ("../a_1_000012.jpg", "leads out of the folder"),
        ("/a_1_000012.jpg", "leads out of the folder"),
        ("C:a_1_000012.jpg", "leads out of the folder"),
        ("a_1_\x1b12.jpg", "not a valid name"),
        ("a_1_000012.mp4", "names no frame"),
        ("a_1_" + "9" * 12 + ".jpg", "names no frame"),
        ("", "not a valid name"),
        ("frame_000012.jpg", "names of images without a video, and 2 videos"),
    ],
)
def test_names_that_lead_nowhere_are_refused(made, name, said):
    with pytest.raises(ValueError, match=said):
        NamedFrames(made / "videos", "p", FrameNaming()).find(name)


def test_of_one_video_frames_need_no_name(tmp_path):
    folder = write_labelled(tmp_path / "s", ["only,0001,.1,.1,.3,.3,3,1"])
    found, frame = NamedFrames(folder / "videos", "p", FrameNaming()).find("frame_000012.jpg")
    assert (found.name, frame) == ("only.mp4", 12)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"project": {"data_format_version": "3.1.0"}, "metadata": {}},
         r"a project of VIA 3\.1\.0, VIA 2 is required \(via3 reads it\)"),
        ({"_via_data_format_version": "5.0", "_via_img_metadata": {}}, "5.0 found, 2 is required"),
        ({"_via_img_metadata": []}, "_via_img_metadata: an object is required"),
        ({"x": 3}, "p.json: x: an image with filename and regions is required"),
        ({"x": {"filename": "a_1_1.jpg"}}, "x: an image with filename and regions"),
        ({"x": image("a_1_1.jpg", 4)}, r"x\.regions\[0\]: objects shape_attributes and"),
        ({"x": image("a_1_1.jpg", region(x="9"))}, r"x\.regions\[0\]: x must be a finite number"),
        ({"x": image("a_1_1.jpg", region(x=1e300))}, "x must be a finite number"),
        ({"x": image("a_1_1.jpg", region(width=-4))}, "width -4 and height 60: both above 0"),
        ({"x": image("a_1_1.jpg", region(name="blob"))}, "shape 'blob': rect, circle"),
        ({"x": image("c_1.jpg", region())}, r"x\.regions\[0\]: the video of 'c_1.jpg' not found"),
        ({"x": image("a_1_1.jpg", region(said={"p": {"a": True}}), region(said={"p": "a"}))},
         r"x\.regions\[1\]: attribute 'p': one value, others of it are otherwise"),
        ({"x": image("a_1_1.jpg", region(said={"p": [1]}))}, "attribute 'p': a text is required"),
        ('{"x": {"filename": "a_1_1.jpg", "regions": [NaN]}}', "a finite number is required"),
        ("[" * 100_000, "too deep"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_its_place(made, tmp_path, values, said):
    with pytest.raises(UserError, match=said) as caught:
        read(made, tmp_path, values)
    assert "\n" not in str(caught.value)


HEAD = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,"
RECT = '"{""name"":""rect"",""x"":16,""y"":9,""width"":30,""height"":60}"'


def table(made, tmp_path, text):
    (tmp_path / "p.csv").write_text(text, encoding="utf-8")
    return read_via2_videos(tmp_path / "p.csv", made / "videos")


def test_a_table_of_via_1_is_read_too(made, tmp_path):
    row = f'a_1_000012.jpg,7,"{{}}",1,0,{RECT},"{{""pose"":""sit""}}"\n'
    data = table(made, tmp_path, f"#{HEAD}region_attributes\n{row}")
    assert data.videos[0].boxes[0].actions == ("sit",) and data.videos[0].boxes[0].line == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty; a header line is required"),
        (f"{HEAD}\n", r"p\.csv:1: the header line lacks region_attributes"),
        (f"{HEAD}region_attributes\na,b\n", r"p\.csv:2: 2 cells, the header has 7"),
        (f"{HEAD}region_attributes\na_1_1.jpg,7,,1,0,{{,{{}}\n", r"p\.csv:2: .*not JSON"),
        (f"{HEAD}region_attributes\na_1_1.jpg,7,,1,0,[],{{}}\n", "an object is required"),
        (f'{HEAD}region_attributes\na_1_1.jpg,7,,1,0,"{{""x"": NaN}}",{{}}\n', "finite number"),
        (f"{HEAD}region_attributes\n../a_1_1.jpg,7,,1,0,{RECT},{{}}\n", r":2: .*leads out"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_line(made, tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        table(made, tmp_path, text)
