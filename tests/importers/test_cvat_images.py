"""CVAT for images: frames of a video task, or images named by video and frame."""

import pytest
from made_labels import imported, write_labelled

from detection.errors import UserError
from detection.importers.cvat import read_cvat_videos
from detection.importers.cvat_actions import ActionRules
from detection.importers.cvat_images import read_cvat_images
from detection.importers.frame_names import FrameNaming

POSE = (
    "<attribute><name>pose</name><input_type>select</input_type><values>none\nstand\nsit</values>"
    "</attribute><attribute><name>track_id</name><input_type>number</input_type></attribute>"
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = ["a,0001,.1,.1,.3,.3,3,1", "b,0001,.1,.1,.3,.3,3,1"]
    return write_labelled(tmp_path_factory.mktemp("made") / "set", rows)


def box(pose="stand", person=None, left=16, **words):
    words = {"label": "person", "occluded": 0, "xtl": left, "ytl": 9.6, "xbr": left + 32,
             "ybr": 57.6, "z_order": 0} | words  # fmt: skip
    said = f'<attribute name="pose">{pose}</attribute>'
    if person is not None:
        said += f'<attribute name="track_id">{person}</attribute>'
    listed = " ".join(f'{key}="{value}"' for key, value in words.items())
    return f"<box {listed}>{said}</box>"


def image(number, *shapes, name=None, width=160, height=96, task=None):
    name = f"frame_{number:06d}" if name is None else name
    owner = "" if task is None else f' task_id="{task}" subset="x"'
    head = f'<image id="{number}" name="{name}"{owner} width="{width}" height="{height}">'
    return f"{head}{''.join(shapes)}</image>\n"


def task(name="a", number=1):
    label = f"<label><name>person</name><attributes>{POSE}</attributes></label>"
    return (
        f"<task><id>{number}</id><name>{name}</name><source>{name}.mp4</source>"
        f"<labels>{label}</labels></task>"
    )


def document(*images, meta=None):
    head = task() if meta is None else meta
    return f"<annotations><meta>{head}</meta>\n{''.join(images)}</annotations>"


def write(tmp_path, text):
    (tmp_path / "x.xml").write_text(text)
    return tmp_path / "x.xml"


def read(made, tmp_path, text, **options):
    return read_cvat_images(write(tmp_path, text), made / "videos", **options)


def test_frames_of_a_video_task_become_rows(made, tmp_path, capsys):
    text = document(
        image(0), image(10, box(person=4), box("none", 5, 48)), image(13, box("sit", 4))
    )
    back = imported("cvat-images", write(tmp_path, text), made, tmp_path / "out")
    assert back == [
        "a,0001,0.1,0.1,0.3,0.6,3,4",
        "a,0001,0.3,0.1,0.5,0.6,,5",
        "a,1.300000,0.1,0.1,0.3,0.6,10,4",
    ]
    printed = capsys.readouterr().out
    assert "1 images without a person are no keyframes" in printed
    assert "labels taken as persons: person (3 boxes)" in printed
    back = imported("cvat-images", write(tmp_path, text), made, tmp_path / "all", "--keep-empty")
    assert back[0] == "a,0000" and len(back) == 4


def test_images_are_named_by_video_and_frame(made, tmp_path):
    text = document(
        image(0, box(), name="b/000010.jpg"), image(1, box(), name="a_000004.jpg"), meta=task("c")
    )
    data = read(made, tmp_path, text)
    found = {video.name: video.boxes[0].frame_or_time for video in data.videos}
    assert found == {"b.mp4": 10, "a.mp4": 4}
    data = read(made, tmp_path, text, naming=FrameNaming(fps=2))
    assert data.videos[0].boxes[0].frame_or_time == 5.0 and not data.videos[0].by_frame


def test_tasks_of_a_project_are_told_apart(made, tmp_path):
    meta = f"<project><tasks>{task('a', 7)}{task('b', 8)}</tasks></project>"
    text = document(image(3, box(), task=7), image(4, box(), task=8), meta=meta)
    found = {v.name: v.boxes[0].frame_or_time for v in read(made, tmp_path, text).videos}
    assert found == {"a.mp4": 3, "b.mp4": 4}


def test_images_of_another_size_scale_and_shapes_are_judged_as_elsewhere(made, tmp_path):
    polygon = '<polygon label="person" points="0,0;20,0;20,30"/>'
    text = document(image(10, box(), width=320, height=192), image(11, box(), polygon))
    with pytest.raises(UserError, match=r"x\.xml:5: 'a\.mp4' has frames of 320x192 above and of"):
        read(made, tmp_path, text)
    text = document(image(10, box()), image(11, box(), polygon))
    data = read(made, tmp_path, text)
    assert [b.frame_or_time for b in data.videos[0].boxes] == [10]
    assert any("1 keyframes left out, not judged" in note for note in data.notes)
    data = read(made, tmp_path, text, shapes="hull")
    assert [b.box for b in data.videos[0].boxes][2] == (0, 0, 20, 30)


def test_occluded_persons_and_other_labels_can_be_left_out(made, tmp_path):
    text = document(image(10, box(occluded=1), box(label="car")), image(11, box()))
    data = read(made, tmp_path, text, keep_occluded=False, rules=ActionRules(labels=("person",)))
    assert [b.frame_or_time for b in data.videos[0].boxes] == [11]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (document(), "contains no <image>"),
        (document(image(10, box(), name="frame_000011")), r":4: image id 10 is called 'frame_0"),
        (document(image(10, box(), name="../a_1.jpg")), r":4: .*leads out of the folder"),
        (document(image(10, box(), name="c_1.jpg")), r":4: the video of 'c_1.jpg' not found"),
        (document(image(10, box(), task=9)), r":4: task_id '9' is no task's id"),
        (document(image("x" * 9, box(), name="y")), r":4: <image>: id: a number is required"),
        (document(image(10, box(), width="1e9")), r":4: <image>: width: a number is required"),
        (document(image(10, box(), width=0)), r":4: <image> of 0x96: 1x1 or more is required"),
        (document(image(10, box(xtl="nan"))), r":4: xtl must be a finite number"),
        (document(image(10, "<box label='person'/>")), r":4: <box> without xtl"),
        (document(image(10, box(pose="a&#1;"))), "not XML"),
        (document('<track id="1" label="person"></track>'), "this is 'CVAT for video'; 'cvat'"),
        ("<annotations>" + "<image id='1' width='1' height='1'>" * 40, "nested deeper|not XML"),
        ("<!DOCTYPE x []><annotations/>", "a document type or entity"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(made, tmp_path, text, said):
    with pytest.raises(UserError, match=said) as caught:
        read(made, tmp_path, text)
    assert "\n" not in str(caught.value)


def test_each_form_names_the_other(made, tmp_path):
    path = write(tmp_path, document(image(10, box())))
    with pytest.raises(UserError, match="'CVAT for images', which 'cvat-images' reads"):
        read_cvat_videos(path, made / "videos")
    with pytest.raises(UserError, match="--person-attribute 'who': not found"):
        read_cvat_images(path, made / "videos", person="who")
