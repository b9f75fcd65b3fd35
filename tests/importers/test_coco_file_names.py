"""COCO files whose images name nothing but their file: `a/000010.jpg` is frame 10 of a.mp4."""

import json

import pytest
from made_labels import imported, write_labelled

from detection.errors import UserError
from detection.importers.coco import CocoRules, read_coco_videos
from detection.importers.frame_names import FrameNaming


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    rows = ["a,0001,.1,.1,.3,.3,3,1", "b_2,0001,.1,.1,.3,.3,3,1"]
    return write_labelled(tmp_path_factory.mktemp("made") / "set", rows)


def coco(*names, size=(160, 96), **more):
    images = [
        {"id": n, "file_name": name, "width": size[0], "height": size[1]} | more
        for n, name in enumerate(names)
    ]
    boxes = [
        {"image_id": n, "bbox": [16, 9.6, 32, 48], "category_id": 1, "track_id": n}
        for n in range(len(names) - 1)
    ]
    return {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "stand"}]}


def write(tmp_path, values):
    (tmp_path / "c.json").write_text(json.dumps(values))
    return tmp_path / "c.json"


def test_names_tell_video_and_frame(made, tmp_path, capsys):
    path = write(tmp_path, coco("a/000010.jpg", "b_2_000013.png", "a/000020.jpg"))
    rows = imported("coco", path, made, tmp_path / "out")
    assert rows == ["a,0001,0.1,0.1,0.3,0.6,3,0", "a,0002", "b_2,1.300000,0.1,0.1,0.3,0.6,3,1"]
    assert "3 images are frames by the name of their file, the first frame is number 0" in (
        capsys.readouterr().out
    )


def test_numbers_are_times_where_a_rate_is_said(made, tmp_path):
    path = write(tmp_path, coco("a/000001.jpg", "a/000005.jpg"))
    more = "--fps", "4", "--first-frame", "1", "--start", "0.5"
    rows = imported("coco", path, made, tmp_path / "out", *more)
    assert rows == ["a,0.500000,0.1,0.1,0.3,0.6,3,0", "a,1.500000"]


def test_images_of_another_size_scale(made, tmp_path):
    path = write(tmp_path, coco("a/000010.jpg", "a/000020.jpg", size=(320, 192)))
    rows = imported("coco", path, made, tmp_path / "out")
    assert rows[0] == "a,0001,0.05,0.05,0.15,0.3,3,0"


def test_a_named_video_wins_over_the_name_of_the_file(made, tmp_path):
    path = write(tmp_path, coco("x/y.jpg", "z.jpg", video="a.mp4", frame=7))
    data = read_coco_videos(path, made / "videos")
    assert data.videos[0].boxes[0].frame_or_time == 7


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["c/000010.jpg", "a/1.jpg"], r"images\[0\]: the video of 'c/000010.jpg' not found"),
        (["../a/000010.jpg", "a/1.jpg"], r"images\[0\]: .*leads out of the folder"),
        (["a/first.jpg", "a/1.jpg"], r"images\[0\]: 'a/first.jpg' names no frame of a video"),
        (["a/\x1b1.jpg", "a/1.jpg"], r"images\[0\]: .*not a valid name"),
        (["a/0.jpg", "a/1.jpg"], r"images\[0\]: 'a/0.jpg': frame 0, from 1 on is required"),
    ],
)
def test_names_that_lead_nowhere_are_refused(made, tmp_path, names, said):
    rules = CocoRules(naming=FrameNaming(first_frame=1))
    with pytest.raises(UserError, match=said):
        read_coco_videos(write(tmp_path, coco(*names)), made / "videos", rules=rules)


def test_images_of_one_video_have_one_size(made, tmp_path):
    values = coco("a/1.jpg", "a/2.jpg")
    values["images"][1]["width"] = 161
    with pytest.raises(UserError, match="frames of 160x96 above and of 161x96 here"):
        read_coco_videos(write(tmp_path, values), made / "videos")
    del values["images"][1]["width"]
    with pytest.raises(UserError, match=r"images\[1\]: 'width' is required"):
        read_coco_videos(write(tmp_path, values), made / "videos")
