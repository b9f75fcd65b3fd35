"""CVAT, COCO and CSV into data set folders: what is right comes through, what is wrong is named."""

import json
import re
import zipfile

import numpy as np
import pytest
from numbered_video import write_numbered

from detection.datasets.actor_table import read_actor_table
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.importers.coco import read_coco_videos
from detection.importers.csv_table import read_csv_table
from detection.importers.custom import Choices, choose_val, import_annotations
from detection.importers.cvat import read_cvat_videos

FPS = 10
META = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta>
    <task>
      <id>7</id>
      <name>{name}</name>
      <size>40</size>
      <mode>interpolation</mode>
      <labels>
        <label>
          <name>person</name>
          <attributes>
            <attribute><name>wave</name><mutable>True</mutable>
              <input_type>checkbox</input_type><default_value>false</default_value>
              <values>false</values></attribute>
            <attribute><name>pose</name><mutable>True</mutable>
              <input_type>select</input_type><default_value>none</default_value>
              <values>none
stand
sit</values></attribute>
          </attributes>
        </label>
      </labels>
      <original_size><width>160</width><height>96</height></original_size>
      <source>{name}.mp4</source>
    </task>
  </meta>
"""


def box(frame, left=16, *, wave="false", pose="none", outside=0, occluded=0):
    return (
        f'    <box frame="{frame}" outside="{outside}" occluded="{occluded}" keyframe="1" '
        f'xtl="{left}" ytl="9.6" xbr="{left + 32}" ybr="86.4" z_order="0">\n'
        f'      <attribute name="wave">{wave}</attribute>\n'
        f'      <attribute name="pose">{pose}</attribute>\n    </box>\n'
    )


def cvat(name, *tracks):
    body = "".join(
        f'  <track id="{number}" label="person" source="manual">\n{"".join(boxes)}  </track>\n'
        for number, boxes in enumerate(tracks)
    )
    return META.format(name=name) + body + "</annotations>\n"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Two videos of 4 s; frame k of b is shown at 5 + k / 10 s."""
    folder = tmp_path_factory.mktemp("videos")
    write_numbered(folder / "a.mp4", [i / FPS for i in range(40)], fps=FPS)
    write_numbered(folder / "b.mp4", [5 + i / FPS for i in range(40)], fps=FPS)
    return folder


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def import_cvat(source, videos, out, **options):
    data = read_cvat_videos(source, videos, **options)
    return import_annotations(
        out, data.videos, classes=data.classes, exclusive=data.exclusive, choices=Choices()
    )


def rows_of(folder, split):
    rows = read_ground_truth(DatasetFolder.open(folder).split(split).annotations)
    return [
        (rows.video_names[v], t / 1e6, round(float(x1), 4), a, p)
        for v, t, x1, a, p in zip(
            rows.video_index, rows.time_us.tolist(), rows.boxes_01[:, 0], rows.action_id.tolist(),
            rows.person_id.tolist(), strict=True,
        )
    ], [tuple(key) for key in rows.empty_keyframes]  # fmt: skip


def test_cvat_tracks_become_people_at_whole_seconds(videos, tmp_path):
    """Times are seconds of the video's clock; boxes move between frames; outside is gone."""
    source = tmp_path / "exports"
    source.mkdir()
    walk = [box(0, 16, wave="true", pose="sit"), box(20, 56, pose="stand"), box(25, 0, outside=1)]
    write(source / "a.xml", cvat("a", walk, [box(19, 80, occluded=1), box(21, outside=1)]))
    write(source / "b.xml", cvat("b", [box(10, pose="stand"), box(12, wave="true")]))
    report = import_cvat(source, videos, tmp_path / "out")
    assert report.num_videos == 2 and not report.left_out
    data = DatasetFolder.open(tmp_path / "out")
    labels = data.read_label_map()
    assert labels.names == ("wave", "stand", "sit") and labels.ids == (1, 2, 3)
    assert data.exclusive_groups(labels) == {"pose": (1, 2)}
    found, empty = {}, {}
    for split in ("train", "val"):
        rows, bare = rows_of(tmp_path / "out", split)
        for video, *row in rows:
            found.setdefault(video, []).append(tuple(row))
        for video, time_s in bare:
            empty.setdefault(video, []).append(time_s)
    assert found["a"] == [
        (0, 0.1, 1, 0), (0, 0.1, 3, 0), (1, 0.225, 1, 0), (1, 0.225, 3, 0), (2, 0.35, 2, 0),
        (2, 0.5, -1, 1),
    ]  # fmt: skip
    assert empty["a"] == [3] and empty["b"] == [5]
    # The second track of b ends with its last box, where CVAT lets it stand to the task's end.
    assert found["b"] == [(6, 0.1, 2, 0), (7, 0.1, 1, 0), (8, 0.1, 1, 0)]


def test_cvat_every_frame_and_without_the_occluded(videos, tmp_path):
    source = write(tmp_path / "a.xml", cvat("a", [box(3, occluded=1), box(4), box(6, outside=1)]))
    data = read_cvat_videos(source, videos, every_s=0, keep_occluded=False)
    (video,) = data.videos
    assert [round(b.frame_or_time, 6) for b in video.boxes] == [0.4, 0.5] and len(video.empty) == 38
    assert [b.line for b in video.boxes] == [34, 34]


def test_cvat_zip_one_video_and_labels_as_actions(videos, tmp_path):
    """A file without attributes: its labels are the actions; ZIP as CVAT makes it."""
    text = (
        '<annotations><track label="jump"><box frame="10" xtl="0" ytl="0" xbr="16" ybr="48"/>'
        '<box frame="11" xtl="0" ytl="0" xbr="16" ybr="48" outside="1"/></track></annotations>'
    )
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        archive.writestr("annotations.xml", text)
    data = read_cvat_videos(tmp_path / "export.zip", videos / "a.mp4")
    assert data.classes == ["jump"] and data.exclusive == {}
    (found,) = data.videos[0].boxes
    assert found.frame_or_time == 1 and found.actions == ("jump",) and found.person == "0"


def test_two_attributes_may_share_a_value(videos, tmp_path):
    text = cvat("a", [box(0, pose="wave", wave="true")])
    data = read_cvat_videos(write(tmp_path / "a.xml", text), videos)
    assert data.classes == ["wave: wave", "stand", "sit", "pose: wave"]
    assert data.videos[0].boxes[0].actions == ("wave: wave", "pose: wave")


BOMB = """<?xml version="1.0"?>
<!DOCTYPE annotations [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<annotations>&b;</annotations>"""


@pytest.mark.parametrize(
    "text, message",
    [
        (BOMB, r"a\.xml:2: a document type or entity"),
        ('<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotations/>', r"a\.xml:1: a document type"),
        (cvat("a", [box(0)])[:-40], r"a\.xml:\d+: not XML, or cut short"),
        ("", r"a\.xml:1: not XML, or cut short"),
        ("<html></html>", r"a\.xml:1: <html>: CVAT's <annotations> is required"),
        ('<annotations><image id="0"/></annotations>', "export the task as 'CVAT for video 1.1'"),
        (cvat("a", [box("x")]), r"a\.xml:30: frame must be a whole number from 0, found 'x'"),
        (cvat("a", [box(-1)]), r"a\.xml:30: frame must be"),
        (cvat("a", [box(0)]).replace('xtl="16"', 'xtl="nan"'), "xtl must be a finite number"),
        (cvat("a", [box(0)]).replace(' ytl="9.6"', ""), r"a\.xml:30: <box> without ytl"),
        (cvat("a", [box(0, outside=7)]), r"a\.xml:30: outside must be 0 or 1"),
        (cvat("a", [box(3), box(3)]), r"a\.xml:34: track 0 has frame 3 twice \(first in line 30"),
        (cvat("a", [box(44)]), r"a\.xml:30: frame 44 .*a\.mp4 has 40 frames"),
        (cvat("a", [box(0, 1e7)]), r"a\.xml:30: a\.mp4: the box lies outside the frame"),
        (cvat("../../a", [box(0)]), "leads out of the folder of videos"),
        (cvat("/etc/passwd", [box(0)]), "leads out of the folder"),
        (cvat("C:\\a", [box(0)]), "leads out of the folder"),
        (cvat("..\\a", [box(0)]), "leads out of the folder"),
        (cvat("zzz", [box(0)]), "video 'zzz.mp4' not found in"),
        (cvat("a", [box(0)]).replace("<height>96<", "<height>400<"), "annotated on 160x400"),
        ("<annotations>" + "<x>" * 50, "nested deeper than 32"),
        ('<?xml version="1.0" encoding="ebcdic-9"?><annotations/>', r"a\.xml:1: not XML"),
    ],
)
def test_a_bad_cvat_file_is_named_by_line(videos, tmp_path, text, message):
    elsewhere = re.search(r"<source>(zzz|\.\.|/|C:)", text)
    name = "q.xml" if elsewhere else "a.xml"
    source = write(tmp_path / name, text)
    with pytest.raises(UserError, match=message) as caught:
        data = read_cvat_videos(source, videos)
        import_annotations(
            tmp_path / "out", data.videos, classes=data.classes, exclusive={},
            choices=Choices(val_share=0),
        )  # fmt: skip
    assert "\n" not in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_csv_in_pixels_with_frames_and_splits(videos, tmp_path):
    source = write(
        tmp_path / "t.csv",
        "\ufeffSplit;Video;Frame;x;y;width;height;Action;Person\n"
        "train;a.mp4;11;16;9.6;32;76.8;stand; ann\n"
        "train;a.mp4;11;16;9.6;32;76.8;wave;ann\n"
        'train;a;12;16;9.6;32;76.8;"stand; wave";bob\n'
        "val;b;1;0;0;163;96;;bob\n"
        "val;b;40;;;;;;\n",
    )
    found = read_csv_table(source, videos, first_frame=1)
    report = import_annotations(
        tmp_path / "out", found, classes=(), exclusive={},
        choices=Choices(exclusive={"any": ["stand", "wave"]}),
    )  # fmt: skip
    assert report.num_rows == {"train": 4, "val": 1} and report.num_clipped == 1
    assert rows_of(tmp_path / "out", "train")[0] == [
        ("a", 1, 0.1, 1, 1), ("a", 1, 0.1, 2, 1), ("a", 1.1, 0.1, 1, 2), ("a", 1.1, 0.1, 2, 2)
    ]  # fmt: skip
    assert rows_of(tmp_path / "out", "val") == ([("b", 5, 0, -1, 1)], [("b", 8.9)])
    data = DatasetFolder.open(tmp_path / "out")
    assert data.exclusive_groups(data.read_label_map()) == {"any": (0, 1)}
    assert data.file.evaluation.protocol == "frame-map"
    table = read_actor_table(data, "train", data.read_label_map())
    assert table.num_actors == 2 and table.labels(0).tolist() == [[1, 1]]


HEAD = "video,time,x1,y1,x2,y2,action\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("", "empty; a header line is required"),
        (HEAD, "a header line and no rows"),
        ("a.mp4,1,0,0,1,1,stand\n", r"t\.csv:1: the header line lacks video and action and x1"),
        ("video,x1,y1,x2,y2,action\n", r"lacks one of time and frame"),
        (HEAD + "a.mp4,1,0,0,1\n", r"t\.csv:2: 5 cells, the header has 7"),
        (HEAD + "a.mp4,1,0,0,1,1,s\na.mp4,soon,0,0,1,1,s\n", r"t\.csv:3: time must be a number"),
        (HEAD + "a.mp4,1,0,0,inf,1,s\n", r"t\.csv:2: x2 must be a finite number"),
        (HEAD + "a.mp4,1,,,,,s\n", r"t\.csv:2: action 's' without a box"),
        (HEAD + "../a.mp4,1,0,0,1,1,s\n", r"t\.csv:2: '\.\./a\.mp4' leads out"),
        (HEAD + "/a.mp4,1,0,0,1,1,s\n", r"t\.csv:2: '/a\.mp4' leads out"),
        (HEAD + "a.mp4\0,1,0,0,1,1,s\n", r"t\.csv:2: a NUL byte"),
        (HEAD + '"a.mp4,1,0,0,1,1,s\n', r"t\.csv:2: not a row of comma-separated values"),
        (HEAD + "a" * 200_000 + ",1,0,0,1,1,s\n", r"t\.csv:2: not a row of comma-separated"),
        (HEAD.replace(",", "\t") + '"a', r"t\.csv:2: not a row of tab-separated values"),
        (HEAD + "c.mp4,1,0,0,1,1,s\n", r"t\.csv:2: video 'c\.mp4' not found"),
        (HEAD + ",1,0,0,1,1,s\n", r"t\.csv:2: '' is not a valid name of a video"),
        (HEAD + "a.mp4,1,0,0,1,1,\n", "no class in 1 videos"),
        (HEAD.replace("action", "action,split") + "a,1,0,0,1,1,s,maybe\n", "split must be train"),
        (HEAD + "a.mp4,1,0,0,1,1,s\n", "one video .* cannot be in train and in val"),
        (
            HEAD + "a,1,0,0,1,1,s\nb,9,0,0,1,1,s\n",
            r"t\.csv:3: b\.mp4: time 9 s, the video",
        ),
        (HEAD + "b,6,0,0,1,1,s\na,1,.9,0,.1,1,s\n", r"t\.csv:3: a\.mp4: the box is inside out"),
        (
            HEAD + "b,6,0,0,1,1,s\na,1,0,0,1e8,1,s\n",
            r"t\.csv:3: a\.mp4: the box extends too far beyond",
        ),
        (HEAD.encode() + b"a.mp4,1,0,0,1,1,caf\xe9\n", r"t\.csv:2: not UTF-8 text"),
    ],
)
def test_a_bad_table_is_named_by_line(videos, tmp_path, text, message):
    (tmp_path / "t.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        found = read_csv_table(tmp_path / "t.csv", videos)
        import_annotations(tmp_path / "out", found, classes=(), exclusive={}, choices=Choices())
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]


def coco(**changes):
    return {
        "videos": [{"id": 1, "name": "a.mp4"}],
        "images": [
            {"id": 5, "video_id": 1, "frame_id": 10, "width": 320, "height": 192},
            {"id": 6, "video": "b.mp4", "frame": 0, "width": 320, "height": 192},
        ],
        "categories": [{"id": 3, "name": "stand"}, {"id": 4, "name": "wave"}],
        "annotations": [
            {"id": 1, "image_id": 5, "bbox": [32, 0, 64, 96], "category_id": 4, "track_id": 9},
            {"id": 2, "image_id": 5, "bbox": [32, 0, 64, 96], "category_id": 3, "track_id": 9},
        ],
    } | changes


def write_coco(path, values):
    path.write_text(json.dumps(values, indent=1), encoding="utf-8")
    return path


def test_coco_categories_or_attributes_are_actions(videos, tmp_path):
    data = read_coco_videos(write_coco(tmp_path / "c.json", coco()), videos)
    assert data.classes == ["stand", "wave"]
    report = import_annotations(
        tmp_path / "out", data.videos, classes=data.classes, exclusive={},
        choices=Choices(val_videos=("b",)),
    )  # fmt: skip
    assert report.num_rows == {"train": 2, "val": 0}
    assert rows_of(tmp_path / "out", "train")[0] == [("a", 1, 0.1, 2, 9), ("a", 1, 0.1, 1, 9)]
    annotations = [
        {"image_id": 5, "bbox": [32, 0, 64, 96], "category_id": 3,
         "attributes": {"wave": True, "pose": "sit", "occluded": False}},
        {"image_id": 6, "bbox": [32, 0, 64, 96], "category_id": 3, "actions": ["run", 4]},
        {"image_id": 6, "bbox": [0, 0, 64, 96], "attributes": {"pose": "lie", "wave": False}},
    ]  # fmt: skip
    path = write_coco(tmp_path / "c.json", coco(annotations=annotations))
    data = read_coco_videos(path, videos)
    assert data.exclusive == {"pose": ["sit", "lie"]}
    found = {v.name: [b.actions for b in v.boxes] for v in data.videos}
    assert found == {"a.mp4": [("wave", "sit")], "b.mp4": [("run", "wave"), ("lie",)]}


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": 3}, "lists images, annotations and categories are required"),
        ({"images": [{"id": 5}]}, r"c\.json: images\[0\]: 'video or video_name' is required"),
        ({"images": [{"id": 5, "video_id": 2}]}, r"images\[0\]\.video_id: .* no video's id"),
        (
            {"annotations": [{"image_id": 5, "bbox": [1, 2, 3], "category_id": 3}]},
            r"ons\[0\]\.bbox: bbox must",
        ),
        ({"annotations": [{"image_id": 5, "bbox": [1, 2, -3, 4], "category_id": 3}]}, "width -3"),
        (
            {"annotations": [{"image_id": 5, "bbox": [1, 2, 1e400, 4]}]},
            r"c\.json: annotations\[0\]\.bbox\[2\]: a finite number is required, found Infinity",
        ),
        (
            {"annotations": [{"image_id": 9, "bbox": [1, 2, 3, 4]}]},
            r"\[0\]\.image_id: image_id 9 is",
        ),
        (
            {"annotations": [{"image_id": 5, "bbox": [1, 2, 3, 4], "category_id": 8}]},
            r"\.category_id: category 8",
        ),
        ({"annotations": [7]}, r"c\.json: annotations\[0\]: an object is required, found 7"),
        ({"videos": [{"id": 1, "name": "../a.mp4"}]}, r"'\.\./a\.mp4' leads out"),
        (
            {"videos": [{"id": 1, "name": "a.mp4"}, {"id": 1, "name": "b"}]},
            r"os\[1\]\.id: .*there twice",
        ),
    ],
)
def test_a_bad_coco_file_is_named_by_path(videos, tmp_path, changes, message):
    path = write_coco(tmp_path / "c.json", coco(**changes))
    with pytest.raises(UserError, match=message):
        read_coco_videos(path, videos)


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r"c\.json:1: not JSON, or cut short"),
        ("[]", r"c\.json:1: not JSON of one object .*a list found"),
        ('{"a": [\nNaN]}', r"c\.json: a\[0\]: a finite number is required, found NaN"),
        ('{"a": [\n{"b": -Infinity}]}', r"c\.json: a\[0\]\.b: .*found -Infinity"),
        ('{"a": [1,\n{"b": 1e999}]}', r"c\.json: a\[1\]\.b: .*found 1e999"),
        ('{"a": [\n{"b": 1, "b": 2}]}', r"c\.json: a\[0\]\.b: the key is there twice"),
        (
            '{"images": [\n{"id": 1},\n{"id": ',
            r"c\.json:3: not JSON, or cut short \(Exp.*, column 8\)",
        ),
        ('{"images": [] "a": 3}', "Expecting ','"),
        ('{"images": [], "images": []}', "there twice"),
        ('{"a": ' + "[" * 100_000, "too deep"),
        ('{"a": ' + "9" * 10_000 + "}", r"json: a: a finite number is required, found 9{40}$"),
        ('{"images": []} x', "Extra data"),
        (b"\xff\xfe{\0}\0", r"c\.json:1: not UTF-8"),
    ],
)
def test_a_file_that_is_not_json_is_named_by_line_or_path(videos, tmp_path, text, message):
    (tmp_path / "c.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UserError, match=message):
        read_coco_videos(tmp_path / "c.json", videos)


def test_a_coco_box_that_no_video_has_is_named_by_path(videos, tmp_path):
    annotations = [
        {"image_id": 5, "bbox": [32, 0, 64, 96], "category_id": 3},
        {"image_id": 5, "bbox": [999, 0, 64, 96], "category_id": 3},
    ]
    path = write_coco(tmp_path / "c.json", coco(annotations=annotations))
    found = read_coco_videos(path, videos).videos
    with pytest.raises(UserError, match=r"c\.json: annotations\[1\]: a\.mp4: the box lies outside"):
        import_annotations(tmp_path / "out", found, classes=(), exclusive={}, choices=Choices())
    report = import_annotations(
        tmp_path / "out", found, classes=(), exclusive={}, choices=Choices(leave_out_bad=True)
    )
    assert [row.place for row in report.left_out] == [f"{path}: annotations[1]"]


def test_bad_boxes_can_be_left_out_and_listed(videos, tmp_path):
    text = HEAD + "a.mp4,1,0,0,.5,1,s\na.mp4,1,.9,0,.1,1,s\nb.mp4,6,0,0,1,1,s\nb.mp4,66,0,0,1,1,s\n"
    found = read_csv_table(write(tmp_path / "t.csv", text), videos)
    report = import_annotations(
        tmp_path / "out", found, classes=(), exclusive={}, choices=Choices(leave_out_bad=True)
    )
    assert sorted(report.num_rows.values()) == [1, 1]
    assert [row.place.split(":")[-1] for row in report.left_out] == ["3", "5"]
    assert "inside out" in (tmp_path / "out" / "left_out.csv").read_text()


def test_labels_outside_a_given_map_are_named_with_what_was_meant(videos, tmp_path):
    label_map = write(tmp_path / "m.pbtxt", 'item { name: "stand" id: 4 } item { name: "x" id: 9 }')
    text = HEAD + "a.mp4,1,0,0,.5,1,stnd\nb.mp4,6,0,0,1,1,stand\n"
    found = read_csv_table(write(tmp_path / "t.csv", text), videos)
    with pytest.raises(UserError, match=r"t\.csv:2: class 'stnd' is not in .*mean 'stand'"):
        import_annotations(
            tmp_path / "out", found, classes=(), exclusive={}, choices=Choices(label_map=label_map)
        )
    found[0].boxes.clear()
    import_annotations(
        tmp_path / "out", found, classes=(), exclusive={},
        choices=Choices(label_map=label_map, val_videos=("a",)),
    )  # fmt: skip
    assert rows_of_without_persons(tmp_path / "out") == [4]


def rows_of_without_persons(folder):
    rows = read_ground_truth(DatasetFolder.open(folder).split("train").annotations)
    assert rows.person_id is None
    return rows.action_id.tolist()


def test_val_gets_every_class_and_leaves_every_class_to_train():
    from collections import Counter

    counts = {f"v{i}": Counter({"stand": 5}) for i in range(8)}
    counts["only"] = Counter({"jump": 2, "stand": 5})
    for name in ("w1", "w2"):
        counts[name] = Counter({"wave": 3, "stand": 4})
    val = choose_val(counts, 0.2)
    assert len(val) == 2 and len(set(val) & {"w1", "w2"}) == 1 and "only" not in val
    assert choose_val(counts, 0.2) == val and choose_val(dict(reversed(counts.items())), 0.2) == val
    assert len({tuple(choose_val(counts, 0.2, seed)) for seed in range(20)}) > 5
    assert len(choose_val({"a": Counter(), "b": Counter()}, 0.9)) == 1


def test_ids_of_persons_are_numbers_one_per_person(videos, tmp_path):
    head = "video,time,x1,y1,x2,y2,action,person\n"
    rows = ("a,1,{}s,ann", "a,2,{}s,", "a,2,{}t,", "a,3,{}s,ann", "b,6,{}s,7")
    lines = "".join(row.format("0,0,.5,1,") + "\n" for row in rows)
    found = read_csv_table(write(tmp_path / "t.csv", head + lines), videos)
    import_annotations(
        tmp_path / "out", found, classes=(), exclusive={}, choices=Choices(val_videos=("b",))
    )
    assert [row[-1] for row in rows_of(tmp_path / "out", "train")[0]] == [1, 2, 2, 1]
    assert [row[-1] for row in rows_of(tmp_path / "out", "val")[0]] == [7]


@pytest.mark.parametrize("kind", ["cvat", "csv", "coco"])
def test_damaged_files_are_refused_or_read_never_worse(videos, tmp_path, kind):
    """Bytes changed, cut and doubled at random: a `UserError` of one line, or a whole folder."""
    texts = {
        "cvat": cvat("a", [box(0, pose="sit"), box(20, wave="true"), box(25, outside=1)]),
        "csv": HEAD + "a.mp4,1,0,0,.5,1,stand\na.mp4,2,.1,0,.4,1,wave\n",
        "coco": json.dumps(coco(), indent=1),
    }
    original = texts[kind].encode()
    generator = np.random.default_rng(6)
    refused = 0
    for attempt in range(120):
        data = bytearray(original)
        for _ in range(int(generator.integers(1, 4))):
            place = int(generator.integers(0, len(data)))
            match int(generator.integers(0, 4)):
                case 0:
                    data[place] = int(generator.integers(0, 256))
                case 1:
                    del data[place : place + int(generator.integers(1, 60))]
                case 2:
                    data[place:place] = data[place : place + 30]
                case 3:
                    data[place:place] = generator.choice(
                        [b"-", b"1e999", b"\0", b"../", b"&x;", b"\xff", b"nan", b"9" * 40]
                    )
            if not data:
                break
        path = tmp_path / f"a.{ {'cvat': 'xml', 'csv': 'csv', 'coco': 'json'}[kind] }"
        path.write_bytes(bytes(data))
        out = tmp_path / f"out{attempt}"
        try:
            if kind == "cvat":
                found = read_cvat_videos(path, videos).videos
            elif kind == "csv":
                found = read_csv_table(path, videos)
            else:
                found = read_coco_videos(path, videos).videos
            import_annotations(out, found, classes=(), exclusive={}, choices=Choices(val_share=0))
            assert DatasetFolder.open(out).split("train")
        except UserError as error:
            refused += 1
            assert "\n" not in str(error) and not out.exists()
    assert refused > 20
    assert {p.name for p in tmp_path.iterdir() if p.name.startswith(".")} == set()


@pytest.mark.parametrize("name", ["", "a\nb", "\x07"])
def test_a_class_that_a_label_map_cannot_hold_is_refused(videos, tmp_path, name):
    categories = [{"id": 3, "name": name or " "}, {"id": 4, "name": "wave"}]
    path = write_coco(tmp_path / "c.json", coco(categories=categories))
    with pytest.raises(UserError, match=r"c\.json: categories\[\d\]: .* no valid class name"):
        data = read_coco_videos(path, videos)
        import_annotations(
            tmp_path / "out", data.videos, classes=data.classes, exclusive={},
            choices=Choices(val_share=0),
        )  # fmt: skip
    assert not (tmp_path / "out").exists()


def test_half_a_character_in_a_class_is_refused(videos, tmp_path):
    path = tmp_path / "c.json"
    path.write_text(json.dumps(coco()).replace('"wave"', '"\\ud800"'))
    with pytest.raises(UserError, match=r"c\.json: categories\[\d\]: .* no valid class name"):
        data = read_coco_videos(path, videos)
        import_annotations(
            tmp_path / "out", data.videos, classes=data.classes, exclusive={},
            choices=Choices(val_share=0),
        )  # fmt: skip


def test_a_damaged_archive_is_one_line(videos, tmp_path):
    path = tmp_path / "e.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", cvat("a", [box(0, pose="sit"), box(9)]))
    good = path.read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        data = bytearray(good)
        for _ in range(int(generator.integers(1, 4))):
            data[int(generator.integers(0, len(data)))] = int(generator.integers(0, 256))
        path.write_bytes(bytes(data[: int(generator.integers(len(data) // 2, len(data) + 1))]))
        try:
            read_cvat_videos(path, videos / "a.mp4")
        except UserError:
            refused += 1
    assert refused > 50


def test_ids_of_videos_are_names_that_every_system_takes():
    from detection.importers.source_videos import video_ids

    ids = video_ids(["con.mp4", "x/NUL.avi", "a..mp4", "b\udcff.mp4", "c.mp4.mp4", "..."])
    assert ids["c.mp4.mp4"] == "c"
    for video_id in ids.values():
        assert video_id.split(".")[0].upper() not in ("CON", "NUL")
        assert not video_id.endswith(".") and not video_id.startswith(".")


def test_a_project_of_several_tasks_in_one_cvat_file(videos, tmp_path):
    """Tracks name their task; each task is a video; one that is annotated twice is refused."""
    task = "<task><id>{0}</id><name>{1}</name><size>40</size><source>{1}.mp4</source></task>"
    track = (
        '<track id="0" label="run" task_id="{}">'
        '<box frame="{}" xtl="0" ytl="0" xbr="80" ybr="90"/></track>'
    )
    head = f"<annotations><meta><project><tasks>{task.format(1, 'a')}{task.format(2, 'OTHER')}"
    text = head + "</tasks></project></meta>" + track.format(1, 30) + track.format(2, 40)
    path = write(tmp_path / "p.xml", text.replace("OTHER", "b") + "</annotations>")
    data = read_cvat_videos(path, videos)
    found = {video.name: [box.frame_or_time for box in video.boxes] for video in data.videos}
    assert found == {"a.mp4": [3], "b.mp4": [5, 6, 7, 8]} and data.classes == ["run"]
    with pytest.raises(UserError, match="video 'a.mp4' is annotated in .* already"):
        read_cvat_videos(write(path, text.replace("OTHER", "a") + "</annotations>"), videos)
    stray = text.replace("OTHER", "b") + track.format(3, 0) + "</annotations>"
    with pytest.raises(UserError, match=r"p\.xml:1: track of task '3', which is not listed"):
        read_cvat_videos(write(path, stray), videos)


def test_an_annotation_of_a_part_has_keyframes_in_that_part_only(videos, tmp_path):
    text = cvat("a", [box(5, pose="sit"), box(30, pose="sit")])
    text = text.replace(
        "<size>40<", "<start_frame>5</start_frame><stop_frame>24</stop_frame><size>20<"
    )
    (video,) = read_cvat_videos(write(tmp_path / "a.xml", text), videos).videos
    assert [b.frame_or_time for b in video.boxes] == [1, 2] and video.empty == []


def test_a_full_disk_is_one_line_and_leaves_nothing(videos, tmp_path, monkeypatch):
    import errno
    import shutil

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    found = read_csv_table(
        write(tmp_path / "t.csv", HEAD + "a,1,0,0,1,1,s\nb,6,0,0,1,1,s\n"), videos
    )
    with pytest.raises(UserError, match=r"a\.mp4: cannot be copied .*No space left"):
        import_annotations(tmp_path / "out", found, classes=(), exclusive={}, choices=Choices())
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
