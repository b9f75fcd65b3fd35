"""CVAT files as CVAT writes them, project after its own dataset manager; and what no one wrote."""

import json
import zipfile

import numpy as np
import pytest
from numbered_video import write_numbered

from ava_tools import import_dataset
from detection.errors import UserError
from detection.importers import cvat_xml
from detection.importers.cvat import read_cvat_videos
from detection.importers.cvat_shapes import CvatBox, interpolated, rotated_hull
from detection.importers.cvat_xml import read_cvat
from detection.video.reader import VideoReader

FPS = 10
POSE = "<attribute><name>pose</name><input_type>select</input_type><values>none\nwalk\nsit</values>"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    for name in "abc":
        write_numbered(folder / f"{name}.mp4", [i / FPS for i in range(60)], fps=FPS)
    return folder


def task(number, name, *, size=60, start=0, stop=None, step=1, subset="default", more=""):
    stop = start + (size - 1) * step if stop is None else stop
    return (
        f"<task><id>{number}</id><name>{name}</name><size>{size}</size><mode>interpolation</mode>"
        f"<subset>{subset}</subset><start_frame>{start}</start_frame><stop_frame>{stop}"
        f"</stop_frame><frame_filter>{f'step={step}' if step > 1 else ''}</frame_filter>{more}"
        f"<original_size><width>160</width><height>96</height></original_size>"
        f"<source>{name}.mp4</source></task>"
    )


def label(name="person", attributes=POSE + "</attribute>"):
    return f"<label><name>{name}</name><attributes>{attributes}</attributes></label>"


def shape(frame, name="box", pose="walk", *, outside=0, left=16, **values):
    if name == "box":
        values = {"xtl": left, "ytl": 9.6, "xbr": left + 32, "ybr": 86.4} | values
    elif name == "mask":
        values = {"left": left} | values
    words = "".join(f' {key}="{value}"' for key, value in values.items())
    said = f'<attribute name="pose">{pose}</attribute>' if pose is not None else ""
    return (
        f'<{name} frame="{frame}" keyframe="1" outside="{outside}" occluded="0"{words} '
        f'z_order="0">{said}</{name}>\n'
    )


def track(*shapes, number=0, of="person", task_id=None):
    owner = "" if task_id is None else f' task_id="{task_id}" subset="default"'
    return f'<track id="{number}" label="{of}" source="manual"{owner}>\n{"".join(shapes)}</track>\n'


def one_task(*tracks, labels=None, **fields):
    head = f"<labels>{labels or label()}</labels>"
    meta = task(1, "a", more=head, **fields)
    return f"<annotations><meta>{meta}</meta>{''.join(tracks)}</annotations>"


def project(tasks, *tracks):
    return (
        f"<annotations><meta><project><id>9</id><tasks>{''.join(tasks)}</tasks><labels>{label()}"
        f"</labels></project></meta>{''.join(tracks)}</annotations>"
    )


def read(tmp_path, text, videos, **options):
    path = tmp_path / "a.xml"
    path.write_text(text)
    return read_cvat_videos(path, videos, **options)


def said(data):
    return {
        video.name: ([(round(b.frame_or_time, 3), *b.actions) for b in video.boxes], video.empty)
        for video in data.videos
    }


class TestProjects:
    """Frames go on from task to task of a subset: each start frame + step x size further."""

    def test_the_second_task_counts_on_from_the_first(self, tmp_path, videos):
        text = project(
            [task(1, "a"), task(2, "b")],
            track(shape(10), shape(20, outside=1), task_id=1),
            track(shape(80, pose="sit"), shape(90, outside=1), task_id=2, number=1),
        )
        assert said(read(tmp_path, text, videos)) == {
            "a.mp4": ([(1, "walk")], [0, 2, 3, 4, 5]),
            "b.mp4": ([(2, "sit")], [0, 1, 3, 4, 5]),
        }

    def test_start_step_and_subsets_as_cvat_adds_them_up(self, tmp_path, videos):
        """After a task from frame 10 by 5, 8 frames: 10 + 5 * 8 = 50; another subset begins at 0.

        CVAT lists and numbers the tasks by subset.
        """
        tasks = [
            task(1, "a", start=10, size=8, step=5),
            task(3, "c", start=20, size=40),
            task(2, "b", subset="test"),
        ]
        text = project(
            tasks,
            track(shape(20), shape(45, outside=1), task_id=1),
            track(shape(50 + 30), shape(50 + 40, outside=1), task_id=3, number=1),
            track(shape(10), shape(20, outside=1), task_id=2, number=2),
        )
        assert said(read(tmp_path, text, videos)) == {
            "a.mp4": ([(2, "walk"), (3, "walk"), (4, "walk")], [1]),
            "c.mp4": ([(3, "walk")], [2, 4, 5]),
            "b.mp4": ([(1, "walk")], [0, 2, 3, 4, 5]),
        }

    @pytest.mark.parametrize(
        "tasks, frame, message",
        [
            ([task(1, "a"), task(2, "b")], 59, "frame 59 is outside the task '2' 'b'.* 60 to"),
            ([task(1, "a"), task(2, "b")], 120, "frame 120 is outside .* 60 to 119 by 1"),
            ([task(1, "a"), task(2, "b", size=12, step=5)], 62, "62 is outside.* to 115 by 5"),
            ([task(1, "a"), task(2, "b", start=9)], 68, "68 is outside the task"),
            ([task(1, "a", size=50, stop=59), task(2, "b")], 60, "has size 50, .* are 60"),
            ([task(1, "a"), task(1, "b")], 60, "two tasks with one id"),
            (
                [task(1, "a").replace("<size>60</size>", ""), task(2, "b")],
                60,
                "the task '1' 'a' has no size",
            ),
        ],
    )
    def test_what_does_not_fit_the_tasks_is_an_error(self, tmp_path, videos, tasks, frame, message):
        with pytest.raises(UserError, match=message) as caught:
            read(tmp_path, project(tasks, track(shape(frame), task_id=2)), videos)
        assert "\n" not in str(caught.value)

    def test_gone_may_be_one_step_after_the_last_frame(self, tmp_path, videos):
        text = project(
            [task(1, "a"), task(2, "b")], track(shape(50), shape(60, outside=1), task_id=1)
        )
        assert said(read(tmp_path, text, videos))["a.mp4"][0] == [(5, "walk")]

    def test_a_single_task_is_numbered_as_its_video(self, tmp_path, videos):
        text = one_task(track(shape(20), shape(30, outside=1)), start=10, size=50)
        assert said(read(tmp_path, text, videos)) == {"a.mp4": ([(2, "walk")], [1, 3, 4, 5])}

    def test_boxes_beyond_a_single_task_are_counted(self, tmp_path, videos):
        text = one_task(track(shape(20), shape(30, outside=1)), track(shape(55)), size=50)
        data = read(tmp_path, text, videos)
        assert any("1 boxes at frames that the task does not cover" in n for n in data.notes)

    def test_still_images_are_no_frames_of_a_video(self, tmp_path, videos):
        text = one_task(track(shape(1)), size=6).replace("interpolation", "annotation")
        with pytest.raises(UserError, match="a task of 6 still images, but a.mp4 has 60 frames"):
            read(tmp_path, text, videos)
        whole = one_task(track(shape(10))).replace("interpolation", "annotation")
        assert said(read(tmp_path, whole, videos))["a.mp4"][0][0] == (1, "walk")

    def test_another_number_of_frames_is_said(self, tmp_path, videos):
        notes = read(tmp_path, one_task(track(shape(1)), size=58), videos).notes
        assert any("a.mp4: 60 frames, CVAT's task has 58" in note for note in notes)


SQUARE = {"points": "16.00,9.60;48.00,9.60;48.00,86.40;16.00,86.40"}
CUBOID = {
    f"{axis}{corner}{n}": value
    for n, shift in ((1, 0), (2, 4))
    for corner, x, y in (("tl", 16, 9.6), ("bl", 16, 82.4), ("tr", 44, 9.6), ("br", 44, 82.4))
    for axis, value in (("x", x + shift), ("y", y + shift))
}
SHAPES = {
    "polygon": SQUARE,
    "polyline": SQUARE,
    "points": SQUARE,
    "ellipse": {"cx": 32, "cy": 48, "rx": 16, "ry": 38.4},
    "mask": {"rle": "0, 4", "left": 16, "top": 10, "width": 32, "height": 76},
    "cuboid": CUBOID,
}


def skeleton(frame, *elements):
    parts = "".join(
        f'<points label="{n}" keyframe="1" outside="{gone}" occluded="0" points="{x},{y}">'
        f'<attribute name="pose">wrong</attribute></points>'
        for n, (x, y, gone) in enumerate(elements)
    )
    return (
        f'<skeleton frame="{frame}" keyframe="1" z_order="0">{parts}'
        '<attribute name="pose">sit</attribute></skeleton>'
    )


class TestShapes:
    def test_a_turned_box_is_the_upright_box_around_it(self, tmp_path, videos):
        assert rotated_hull((0, 0, 40, 20), 90) == pytest.approx((10, -10, 30, 30))
        assert rotated_hull((0, 0, 40, 20), -180) == pytest.approx((0, 0, 40, 20))
        side = 20 * 2**0.5
        assert rotated_hull((0, 0, 20, 20), 45) == pytest.approx(
            (10 - side / 2, 10 - side / 2, 10 + side / 2, 10 + side / 2)
        )
        upright = {"xtl": 60, "ytl": 40, "xbr": 100, "ybr": 60}
        data = read(tmp_path, one_task(track(shape(0, **upright, rotation="90.00"))), videos)
        assert data.videos[0].boxes[0].box == pytest.approx((70, 30, 90, 70))
        assert any(
            "6 rotated boxes replaced by their bounding boxes" in note for note in data.notes
        )

    def test_a_box_turns_the_short_way_between_two_frames(self):
        first = CvatBox(0, (0, 0, 40, 20), False, False, {}, 1, "box", 350.0)
        later = CvatBox(10, (0, 0, 40, 20), False, False, {}, 2, "box", 10.0)
        assert interpolated(first, later, 5).rotation % 360 == pytest.approx(0)
        assert interpolated(first, later, 5).hull_px == pytest.approx((0, 0, 40, 20))

    @pytest.mark.parametrize("name", SHAPES)
    def test_other_shapes_are_their_hull_or_leave_their_keyframes_out(self, tmp_path, videos, name):
        """A keyframe in which a person has no box is left out, not one without persons."""
        text = one_task(
            track(shape(10, name, **SHAPES[name]), shape(20, name, outside=1, **SHAPES[name])),
            track(shape(10, left=100), shape(30, outside=1), number=1),
        )
        data = read(tmp_path, text, videos)
        assert said(data)["a.mp4"] == ([(2, "walk")], [0, 3, 4, 5])
        (note,) = [note for note in data.notes if "keyframes left out" in note]
        assert f"1 keyframes left out: a person is drawn there as {name} (1 times)" in note
        assert "a.xml:4" in note and "with them 1 boxes of other persons" in note
        data = read(tmp_path, text, videos, shapes="hull")
        assert said(data)["a.mp4"][1] == [0, 3, 4, 5]
        assert data.videos[0].boxes[0].box == pytest.approx((16, 9.6, 48, 86.4), abs=0.5)
        assert any(f"{name} (1 times) replaced by their bounding" in note for note in data.notes)

    def test_a_turned_ellipse(self, tmp_path, videos):
        values = {"cx": 32, "cy": 48, "rx": 16, "ry": 40, "rotation": 90}
        text = one_task(track(shape(0, "ellipse", **values)))
        (box, *_) = read(tmp_path, text, videos, shapes="hull").videos[0].boxes
        assert box.box == pytest.approx((-8, 32, 72, 64))

    def test_a_skeleton_is_the_hull_of_its_visible_points(self, tmp_path, videos):
        here = skeleton(10, (16, 9.6, 0), (48, 50, 0), (30, 86.4, 0), (150, 90, 1))
        gone = skeleton(20, (16, 9.6, 1), (48, 50, 1))
        data = read(tmp_path, one_task(track(here, gone)), videos, shapes="hull")
        (box,) = data.videos[0].boxes
        assert box.box == (16, 9.6, 48, 86.4) and box.actions == ("sit",) and box.frame_or_time == 1
        assert said(read(tmp_path, one_task(track(here, gone)), videos))["a.mp4"][1] == [
            0,
            2,
            3,
            4,
            5,
        ]

    @pytest.mark.parametrize(
        "bad, message",
        [
            (shape(0, "polygon", points="1,2;3"), "points must be x,y;x,y"),
            (shape(0, "polygon", points="1,2;nan,3"), "points must be a finite number"),
            (shape(0, "polygon"), "<polygon> without points"),
            (shape(0, "mask", left=1), "<mask> without top"),
            (shape(0, "ellipse", cx="1e999", cy=0, rx=1, ry=1), "cx must be a finite number"),
            (shape(0, rotation="x"), "rotation must be a number"),
            (shape(0, rotation="inf"), "rotation must be a finite number"),
            (skeleton(10, ("x", 1, 0)), "points must be a number"),
        ],
    )
    def test_a_bad_shape_is_named_by_line(self, tmp_path, videos, bad, message):
        with pytest.raises(UserError, match=rf"a\.xml:\d+: {message}"):
            read(tmp_path, one_task(track(bad)), videos)

    def test_gone_twice_in_one_frame_is_harmless(self, tmp_path, videos):
        text = one_task(track(shape(10), shape(20, outside=1), shape(20, outside=1)))
        assert said(read(tmp_path, text, videos))["a.mp4"][0] == [(1, "walk")]
        text = one_task(track(shape(10), shape(20), shape(20, outside=1)))
        with pytest.raises(UserError, match="has frame 20 twice"):
            read(tmp_path, text, videos)


TEXT = "<attribute><name>pose</name><input_type>text</input_type><values></values></attribute>"
CAR = label("car", "<attribute><name>colour</name><input_type>text</input_type></attribute>")


class TestWords:
    def test_a_text_attribute_named_gives_the_classes(self, tmp_path, videos):
        text = one_task(track(shape(0), shape(30, pose="sit")), labels=label(attributes=TEXT))
        data = read(tmp_path, text, videos, attributes=["pose"])
        assert data.classes == ["walk", "sit"] and data.exclusive == {}
        assert said(data)["a.mp4"][0][2:4] == [(2, "walk"), (3, "sit")]
        data = read(tmp_path, text, videos)
        assert data.classes == ["person"]
        assert any("text attributes not used as actions: pose" in note for note in data.notes)

    def test_a_number_names_no_action(self, tmp_path, videos):
        text = one_task(
            track(shape(0)), labels=label(attributes=TEXT.replace(">text<", ">number<"))
        )
        with pytest.raises(
            UserError, match="'pose' is a number; a checkbox, select, radio or text"
        ):
            read(tmp_path, text, videos, attributes=["pose"])

    def test_a_car_is_no_person_doing_nothing(self, tmp_path, videos):
        """Which labels were taken is said; a choice by name comes before all."""
        car = track(shape(0, pose=None, left=100), of="car", number=1)
        text = one_task(track(shape(0), shape(10, outside=1)), car, labels=label() + CAR)
        data = read(tmp_path, text, videos)
        assert said(data)["a.mp4"] == ([(0, "walk")], [1, 2, 3, 4, 5])
        assert "labels taken as persons: person (1 tracks) (--labels chooses)" in data.notes
        assert any("labels left out" in n and "car (1 tracks)" in n for n in data.notes)
        named = read(tmp_path, text, videos, labels=["person", "car"]).videos[0].boxes
        assert len(named) == 7 and {box.actions for box in named} == {("walk",), ()}
        state = label("car", POSE.replace("walk\nsit", "parked") + "</attribute>")
        text = text.replace(CAR, state)
        both = read(tmp_path, text, videos)
        assert len(both.videos[0].boxes) == 7 and "parked" in both.classes
        chosen = read(tmp_path, text, videos, labels=["person"])
        assert said(chosen)["a.mp4"] == ([(0, "walk")], [1, 2, 3, 4, 5])
        assert chosen.classes == ["walk", "sit"]
        with pytest.raises(UserError, match=r"label 'Person' not found \(it has: person, car\)"):
            read(tmp_path, text, videos, labels=["Person"])

    def test_labels_that_are_the_actions_can_be_chosen(self, tmp_path, videos):
        text = one_task(
            track(shape(0, pose=None), of="run"), track(shape(0, pose=None), of="dog", number=1),
            labels=label("run", "") + label("dog", ""),
        )  # fmt: skip
        assert read(tmp_path, text, videos).classes == ["run", "dog"]
        data = read(tmp_path, text, videos, labels=["run"])
        assert data.classes == ["run"] and len(data.videos[0].boxes) == 6

    def test_one_attribute_of_two_kinds_is_refused(self, tmp_path, videos):
        dog = label("dog", POSE.replace("select", "checkbox") + "</attribute>")
        text = one_task(track(shape(0)), labels=label() + dog)
        with pytest.raises(UserError, match="'pose' is a select of one label and a checkbox"):
            read(tmp_path, text, videos)
        assert read(tmp_path, text, videos, labels=["person"]).classes == ["walk", "sit"]

    def test_several_in_one_value_are_named_and_split_when_asked(self, tmp_path, videos):
        poses = ["walk, sit", "walk|sit", "Walk", "walk"]
        text = one_task(
            track(*(shape(10 * i, pose=pose) for i, pose in enumerate(poses))),
            labels=label(attributes=TEXT),
        )
        data = read(tmp_path, text, videos, attributes=["pose"])
        assert data.classes == poses
        warnings = [note for note in data.notes if note.startswith("warning")]
        assert "'Walk' and 'walk'" in warnings[0]
        assert "'walk, sit'; 'walk|sit'" in warnings[1] and "--split-values" in warnings[1]
        data = read(tmp_path, text, videos, attributes=["pose"], separators=",|")
        assert data.classes == ["walk", "sit", "Walk"]
        assert data.videos[0].boxes[0].actions == ("walk", "sit")

    def test_a_list_with_split_values_is_no_longer_exclusive(self, tmp_path, videos):
        text = one_task(track(shape(0, pose="walk,sit"))).replace("\nsit<", "\nwalk,sit<")
        assert read(tmp_path, text, videos).exclusive == {"pose": ["walk", "walk,sit"]}
        data = read(tmp_path, text, videos, separators=",")
        assert data.classes == ["walk", "sit"] and data.exclusive == {}

    def test_a_text_as_long_as_a_page_names_no_class(self, tmp_path, videos):
        text = one_task(track(shape(0, pose="x" * 300)), labels=label(attributes=TEXT))
        with pytest.raises(UserError, match="has 300 characters, the name of a class"):
            read(tmp_path, text, videos, attributes=["pose"])


class TestLimits:
    def refused(self, tmp_path, content, message):
        path = tmp_path / "a.xml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        with pytest.raises(UserError, match=message) as caught:
            read_cvat(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 600

    @pytest.mark.parametrize("long", ['<track id="{}"/>', "<!--{}-->", "<?x {}?>", "<{}/>"])
    def test_one_element_of_many_megabytes_is_refused_early(self, tmp_path, long):
        text = "<annotations>" + long.format("x" * (8 << 20)) + "</annotations>"
        self.refused(tmp_path, text, "an element or a comment of more than 4,194,304 bytes")

    def test_long_files_of_short_elements_are_read(self, tmp_path):
        text = "<annotations>" + "<!-- comment -->\n" * 400_000 + "</annotations>"
        (tmp_path / "a.xml").write_text(text)
        assert read_cvat(tmp_path / "a.xml").tracks == []

    def test_boxes_labels_and_bytes_are_counted(self, tmp_path, monkeypatch):
        monkeypatch.setattr(cvat_xml, "_MAX_KEPT", 20)
        text = one_task(track(*(shape(i) for i in range(30))))
        self.refused(tmp_path, text, r"a\.xml:\d+: more than 20 boxes, tracks and labels")
        many = "<annotations><meta>" + "<label/>" * 30 + "</meta></annotations>"
        self.refused(tmp_path, many, "more than 20 boxes, tracks and labels")
        self.refused(tmp_path, "<annotations>" + "<track/>" * 30 + "</annotations>", "more than 20")
        monkeypatch.setattr(cvat_xml, "_MAX_BYTES", 1000)
        self.refused(tmp_path, "<annotations>" + " " * 2000, "more than 1,000 bytes of XML")

    def test_archives(self, tmp_path, monkeypatch):
        path = tmp_path / "a.zip"

        def packed(*names, content=b"<annotations/>"):
            with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
                for name in names:
                    archive.writestr(name, content)
            return path.read_bytes()

        for name in ("annotations.xml", "deep/er/annotations.xml", "../../annotations.xml"):
            packed(name)
            assert read_cvat(path).tracks == []
        assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]
        good = packed("annotations.xml", content=b"<annotations>" + b"<track/>" * 99)
        central = b"PK\x01\x02\x14\x03\x14\x00"
        for content, message in [
            (packed("x.txt"), "0 files annotations.xml in this archive"),
            (packed("a/annotations.xml", "b/annotations.xml"), "2 files annotations.xml"),
            (packed("annotations.xml/"), "0 files annotations.xml"),
            (good[: len(good) // 2], "an archive that is cut short"),
            (good[:40] + b"\xff" * 20 + good[60:], "cannot be read \\(|not XML"),
            (good.replace(central + b"\x00", central + b"\x01"), "encrypted; an archive without"),
        ]:  # fmt: skip
            path.write_bytes(content)
            with pytest.raises(UserError, match=message) as caught:
                read_cvat(path)
            assert "\n" not in str(caught.value)
        monkeypatch.setattr(cvat_xml, "_MAX_BYTES", 10_000)
        packed("annotations.xml", content=b"<annotations>" + b" " * 100_000)
        with pytest.raises(UserError, match="100,013 bytes of XML when unpacked, at most 10,000"):
            read_cvat(path)

    def test_an_archive_that_lies_about_its_size_is_stopped_while_it_unpacks(
        self, tmp_path, monkeypatch
    ):
        path = tmp_path / "a.zip"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("annotations.xml", b"<annotations>" + b" " * 100_000)
        monkeypatch.setattr(cvat_xml, "_MAX_BYTES", 10_000)
        monkeypatch.setattr(cvat_xml, "_annotations_in", lambda *_: "annotations.xml")
        with pytest.raises(UserError, match="more than 10,000 bytes of XML"):
            read_cvat(path)


def test_the_command_says_what_was_taken_and_left(videos, tmp_path, capsys):
    text = one_task(
        track(shape(0), shape(10, outside=1)), track(shape(30, "polygon", **SQUARE), number=1)
    )
    (tmp_path / "a.xml").write_text(text)
    common = ["cvat", "--source", str(tmp_path / "a.xml"), "--videos", str(videos)]
    common += ["--val-share", "0", "--every", "1"]
    assert import_dataset.main([*common, "--out", str(tmp_path / "one")]) == 0
    printed = capsys.readouterr().out
    assert "labels taken as persons: person (2 tracks)" in printed
    assert "3 keyframes left out" in printed and "--shapes hull" in printed
    rows = (tmp_path / "one/annotations/train.csv").read_text().splitlines()
    assert len(rows) == 1 + 2  # a person at 0 s, none at 1 and 2 s, nothing said of the others
    more = ["--shapes", "hull", "--labels", "person", "--split-values", ",|"]
    assert import_dataset.main([*common, *more, "--out", str(tmp_path / "two")]) == 0
    assert "train: 4 rows" in capsys.readouterr().out
    with pytest.raises(UserError, match="--split-values 'x'"):
        import_dataset.main([*common, "--split-values", "x", "--out", str(tmp_path / "three")])
    assert json.dumps(sorted(p.name for p in tmp_path.iterdir())) == '["a.xml", "one", "two"]'


def test_frames_are_those_that_cvat_could_decode(tmp_path, videos, monkeypatch):
    """A file that begins between key frames: 60 packets, of the last 55 a frame can be made."""
    monkeypatch.setattr(VideoReader, "decoded_times_s", lambda self: self.frame_times_s()[5:])
    text = one_task(track(shape(10), shape(11, outside=1)), size=55)
    data = read(tmp_path, text, videos, every_s=0)
    assert said(data)["a.mp4"][0] == [(1.5, "walk")] and len(data.videos[0].empty) == 54
    (note,) = [note for note in data.notes if note.startswith("warning")]
    assert "60 frames in the file, 55 can be decoded, 55 in CVAT's task" in note
    whole = read(tmp_path, text.replace(">55<", ">60<").replace(">54<", ">59<"), videos, every_s=0)
    assert said(whole)["a.mp4"][0] == [(1, "walk")]


@pytest.mark.parametrize("seed", range(3))
def test_a_mutated_file_is_read_or_refused_in_one_line(tmp_path, videos, seed):
    generator = np.random.default_rng(seed)
    text = project(
        [task(1, "a"), task(2, "b", step=5, size=12)],
        track(shape(10), shape(20, "polygon", **SQUARE), skeleton(30, (1, 2, 0)), task_id=1),
        track(shape(80, pose="sit", rotation=20), shape(90, outside=1), task_id=2, number=1),
    ).encode()
    for _ in range(60):
        data = bytearray(text)
        for _ in range(int(generator.integers(1, 4))):
            place, size = int(generator.integers(0, len(data))), int(generator.integers(1, 9))
            piece = [generator.bytes(1), b"", bytes(data[place : place + size]) * 2, b"9" * size]
            data[place : place + size] = piece[int(generator.integers(0, 4))]
        (tmp_path / "a.xml").write_bytes(bytes(data))
        try:
            read_cvat_videos(tmp_path / "a.xml", videos, shapes="hull")
        except UserError as error:
            assert "\n" not in str(error)
