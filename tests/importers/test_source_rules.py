"""What importers take from a source: sizes, frame numbers, shapes and categories that it states."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as coco_mask

from detection.datasets.actor_table import read_video_list
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder, inside
from detection.errors import UserError
from detection.importers.coco import CocoRules, read_coco_videos
from detection.importers.coco_shapes import box_of_mask
from detection.importers.csv_table import read_csv_table
from detection.importers.custom import Choices, import_annotations
from detection.importers.source_videos import find_video, list_videos
from detection.prepare.annotations import write_prepared_dataset
from detection.video.writer import VideoWriter


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """a.mp4: 64x48, 30 frames, 10 a second."""
    folder = tmp_path_factory.mktemp("videos")
    with VideoWriter(folder / "a.mp4", fps=10, width=64, height=48) as writer:
        for number in range(30):
            writer.write(np.full((48, 64, 3), number * 8, np.uint8))
    return folder


def imported(out, found, **choices):
    import_annotations(
        out, found, classes=(), exclusive={}, choices=Choices(val_share=0, **choices)
    )
    return read_ground_truth(DatasetFolder.open(out).split("train").annotations)


def table(tmp_path, text):
    (tmp_path / "t.csv").write_text(text)
    return tmp_path / "t.csv"


@pytest.mark.parametrize(
    ("names", "sizes"),
    [("width,height", "320,240"), ("image_width,image_height", "32,24"), ("w,h", "6400,4800")],
)
def test_a_table_that_states_its_frame_size_is_divided_by_it(videos, tmp_path, names, sizes):
    width, height = map(int, sizes.split(","))
    box = f"{width * 0.1},{height * 0.1},{width * 0.2},{height * 0.5}"
    source = table(tmp_path, f"video,frame,x1,y1,x2,y2,action,{names}\na,3,{box},walk,{sizes}\n")
    rows = imported(tmp_path / "out", read_csv_table(source, videos))
    assert rows.boxes_01 == pytest.approx(np.array([[0.1, 0.1, 0.2, 0.5]]))


def test_width_and_height_of_the_box_itself_say_nothing_new(videos, tmp_path):
    head = "video,frame,x1,y1,x2,y2,action,width,height\n"
    source = table(tmp_path, head + "a,3,16,12,32,36,walk,16,24\n")
    rows = imported(tmp_path / "out", read_csv_table(source, videos))
    assert rows.boxes_01.tolist() == [[0.25, 0.25, 0.5, 0.75]]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,3,1,1,40,9,walk,20,15\na,4,1,1,9,9,walk,20,15\n", r"t\.csv:2: a box to 40, 9 in a fr"),
        ("a,3,1,1,9,9,walk,32,24\na,4,1,1,9,9,walk,64,48\n", r"t\.csv:3: .*one size a video"),
        ("a,3,1,1,9,9,walk,48,64\n", r"t\.csv:2: .*the same aspect ratio is required"),
        ("a,3,1,1,9,9,walk,0,0\n", r"t\.csv:2: width and height must be above 0"),
    ],
)
def test_sizes_that_contradict_are_named_by_row(videos, tmp_path, rows, message):
    source = table(tmp_path, "video,frame,x1,y1,x2,y2,action,width,height\n" + rows)
    with pytest.raises(UserError, match=message):
        imported(tmp_path / "out", read_csv_table(source, videos))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["\x1b[2J", "a\u2028b", "\u202eevil"])
def test_control_characters_in_a_class_of_a_table_are_named_by_row(videos, tmp_path, name):
    source = table(tmp_path, f"video,frame,x1,y1,x2,y2,action\na,3,1,1,9,9,{name}\n")
    with pytest.raises(UserError, match=r"t\.csv:2: .* no valid class name") as error:
        read_csv_table(source, videos)
    assert "\x1b" not in str(error.value)


def test_marks_between_actions_are_the_users_choice(videos, tmp_path):
    source = table(tmp_path, "video,frame,x1,y1,x2,y2,action\na,3,1,1,9,9,walk|sit;run\n")
    for marks, names in (("", ("walk|sit", "run")), ("|", ("walk", "sit", "run"))):
        found = read_csv_table(source, videos, separators=marks)
        assert found[0].boxes[0].actions == names


def coco(tmp_path, images, annotations, names=("walk", "sit")):
    values = {
        "images": [
            {"id": i, "video": "a.mp4", "width": 64, "height": 48, **image}
            for i, image in enumerate(images, 1)
        ],
        "annotations": [{"bbox": [16, 12, 16, 24], "category_id": 1, **a} for a in annotations],
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }
    (tmp_path / "c.json").write_text(json.dumps(values, indent=1))
    return tmp_path / "c.json"


def test_stray_attributes_do_not_drop_the_categories(videos, tmp_path):
    annotations = [
        {"image_id": 1, "attributes": {"difficult": False, "score": 0.7, "seen": "yes"}},
        {"image_id": 2, "category_id": 2, "attributes": {"difficult": True, "blurred": True}},
    ]
    path = coco(tmp_path, [{"frame": 0}, {"frame": 10}], annotations)
    data = read_coco_videos(path, videos)
    assert data.classes == ["walk", "sit"]
    assert [box.actions for box in data.videos[0].boxes] == [("walk",), ("sit",)]
    assert any("not taken: seen, blurred" in note for note in data.notes)
    data = read_coco_videos(path, videos, rules=CocoRules(attributes=("blurred",)))
    assert [box.actions for box in data.videos[0].boxes] == [(), ("blurred",)]
    persons = read_coco_videos(
        coco(tmp_path, [{"frame": 0}, {"frame": 10}], annotations, ("person", "car")), videos
    )
    assert [box.actions for box in persons.videos[0].boxes] == [("yes",)]
    assert persons.videos[0].empty == [10]  # a car is no person doing nothing
    assert any("car (1)" in note for note in persons.notes)


@pytest.mark.parametrize(
    ("images", "frames", "said"),
    [
        ([{"frame_id": 0, "frame_index": 5}, {"frame_id": 1, "frame_index": 15}], [5, 15], "index"),
        ([{"frame_id": 7, "file_name": "a/000004.jpg"}, {"frame_id": 8, "file_name": "a/20.jpg"}],
         [4, 20], "file_name"),
        ([{"file_name": "f_0000.jpg"}, {"file_name": "f_0012.jpg"}], [0, 12], "file_name"),
        ([{"frame_id": 3}, {"frame_id": 4}], [3, 4], None),
        ([{"frame_id": 3, "file_name": "x1.jpg"}, {"frame_id": 9, "file_name": "x2.jpg"}],
         [3, 9], None),
    ],
)  # fmt: skip
def test_the_sources_own_count_of_frames_wins(videos, tmp_path, images, frames, said):
    annotations = [{"image_id": 1}, {"image_id": 2}]
    data = read_coco_videos(coco(tmp_path, images, annotations), videos)
    assert [box.frame_or_time for box in data.videos[0].boxes] == frames
    assert [said in note for note in data.notes if "frame numbers" in note] == [True] * bool(said)


def test_counts_of_frames_that_disagree_need_a_choice(videos, tmp_path):
    images = [{"frame_id": 3, "frame_index": 5}, {"frame_id": 9, "frame_index": 12}]
    path = coco(tmp_path, images, [{"image_id": 1}])
    with pytest.raises(UserError, match="frame_index 5 and frame_id 3: --frame-field"):
        read_coco_videos(path, videos)
    data = read_coco_videos(path, videos, rules=CocoRules(frame_field="frame_id"))
    assert data.videos[0].boxes[0].frame_or_time == 3
    path = coco(tmp_path, [{"frame_id": 1, "frame_index": 40}, {"frame_id": 2, "frame_index": 4}],
                [{"image_id": 1}])  # fmt: skip
    with pytest.raises(UserError, match=r"frame 41 \(counted from 1\) of 30"):
        imported(tmp_path / "out", read_coco_videos(path, videos).videos)


@pytest.mark.parametrize(
    "drawn",
    [
        {"iscrowd": 1},
        {"bbox": None, "segmentation": [[16, 12, 32, 12, 24, 36]]},
        {"bbox": [], "keypoints": [16, 12, 2, 0, 0, 0, 32, 36, 1]},
    ],
)
def test_a_person_without_a_box_leaves_the_keyframe_unjudged(videos, tmp_path, drawn):
    annotations = [{"image_id": 1, **drawn}, {"image_id": 1}, {"image_id": 2}]
    images = [{"frame": 0}, {"frame": 10}, {"frame": 20}]
    path = coco(tmp_path, images, annotations)
    data = read_coco_videos(path, videos)
    assert [box.frame_or_time for box in data.videos[0].boxes] == [10]
    assert data.videos[0].empty == [20]
    assert any("1 keyframes left out, not judged" in note for note in data.notes)
    if "iscrowd" not in drawn:
        hulls = read_coco_videos(path, videos, rules=CocoRules(shapes="hull"))
        assert hulls.videos[0].boxes[0].box == (16, 12, 32, 36) and len(hulls.videos[0].boxes) == 3


def test_a_rotated_box_becomes_the_upright_one_around_it(videos, tmp_path):
    turned = {"image_id": 1, "bbox": [16, 16, 24, 8], "attributes": {"rotation": 90}}
    data = read_coco_videos(coco(tmp_path, [{"frame": 0}], [turned]), videos)
    assert data.videos[0].boxes[0].box == pytest.approx((24, 8, 32, 32))
    turned["attributes"] = {"rotation": 45}
    half = (24 + 8) / 2 / math.sqrt(2)
    data = read_coco_videos(coco(tmp_path, [{"frame": 0}], [turned]), videos)
    assert data.videos[0].boxes[0].box == pytest.approx(
        (28 - half, 20 - half, 28 + half, 20 + half)
    )
    for wrong in ({"bbox": [1, 2, 3, 4, 5]}, {"bbox": None, "rbbox": [9, 9, 4, 4, 0.5]}):
        path = coco(tmp_path, [{"frame": 0}], [{"image_id": 1, **wrong}])
        with pytest.raises(UserError, match=r"c\.json: annotations\[0\]\.\w+: .*bbox"):
            read_coco_videos(path, videos, rules=CocoRules(shapes="hull"))


@given(arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12))), st.booleans())
def test_a_mask_becomes_the_box_around_its_pixels(mask, packed):
    """As pycocotools packs it, or as a list of runs."""
    coded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    value = {"size": list(mask.shape), "counts": coded["counts"].decode()}
    if not packed:
        flat = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(flat, prepend=False, append=not flat[-1]))
        value["counts"] = np.diff(edges, prepend=0).tolist()
    if not mask.any():
        with pytest.raises(ValueError, match="a mask without pixels"):
            box_of_mask(value)
        return
    x, y, width, height = coco_mask.toBbox(coded).tolist()
    rows, columns = np.nonzero(mask)
    assert box_of_mask(value) == (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert box_of_mask(value) == (x, y, x + width, y + height)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ({"counts": "x"}, "size must be"),
        ({"size": [0, 4], "counts": [0]}, "size must be"),
        ({"size": [4, 4.0], "counts": [16]}, "size must be"),
        ({"size": [1 << 40, 1 << 40], "counts": [1]}, "pixels"),
        ({"size": [4, 4], "counts": [3, 4]}, "cover 7 of 4x4"),
        ({"size": [4, 4], "counts": [3, -4, 17]}, "lengths of runs within"),
        ({"size": [4, 4], "counts": [3, True, 12]}, "lengths of runs within"),
        ({"size": [4, 4], "counts": None}, "lengths of runs within"),
        ({"size": [4, 4], "counts": ""}, "cover 0 of 4x4"),
        ({"size": [4, 4], "counts": "\x1b"}, "COCO's encoding of run lengths"),
        ({"size": [4, 4], "counts": "o" * 40}, "COCO's encoding of run lengths"),
        ({"size": [4, 4], "counts": "P"}, "end within a number"),
    ],
)
def test_a_mask_that_contradicts_itself_is_refused(mask, message):
    with pytest.raises(ValueError, match=message):
        box_of_mask(mask)


def test_masks_are_hulls_where_asked(videos, tmp_path):
    """A mask of 64x48: rows 12 to 35 of the columns 16 to 31."""
    counts = [16 * 48 + 12] + [24, 24] * 15 + [24, 48 - 36 + 32 * 48]
    mask = {"size": [48, 64], "counts": counts}
    path = coco(tmp_path, [{"frame": 0}], [{"image_id": 1, "bbox": None, "segmentation": mask}])
    assert read_coco_videos(path, videos).videos[0].boxes == []
    hulls = read_coco_videos(path, videos, rules=CocoRules(shapes="hull"))
    assert hulls.videos[0].boxes[0].box == (16, 12, 32, 36)


def test_sizes_of_images(videos, tmp_path):
    annotations = [{"image_id": 1}, {"image_id": 2}]
    for other, message in (
        ({"frame": 9, "width": 32, "height": 24}, "one size a video is required"),
        ({"frame": 9}, None),
    ):
        path = coco(tmp_path, [{"frame": 3}, other], annotations)
        if message:
            with pytest.raises(UserError, match=message):
                read_coco_videos(path, videos)
    path = coco(tmp_path, [{"frame": 3, "width": 100, "height": 200}], annotations[:1])
    with pytest.raises(UserError, match="the same aspect ratio is required"):
        imported(tmp_path / "out", read_coco_videos(path, videos).videos)
    path = coco(tmp_path, [{"frame": 3}], [{"image_id": 1, "bbox": [0.25, 0.25, 0.25, 0.5]}])
    data = read_coco_videos(path, videos)
    assert any("fractions" in note for note in data.notes)
    rows = imported(tmp_path / "out", data.videos)
    assert rows.boxes_01.tolist() == [[0.25, 0.25, 0.5, 0.75]]


@pytest.mark.parametrize("track", [2**63, 10**300, -(2**70)])
def test_ids_of_persons_of_any_size_become_numbers(videos, tmp_path, track):
    path = coco(tmp_path, [{"frame": 3}], [{"image_id": 1, "track_id": track}])
    rows = imported(tmp_path / "out", read_coco_videos(path, videos).videos)
    assert rows.person_id.tolist() == [1]


@pytest.mark.parametrize("suffix", [".MP4", ".Mov", ".mov", ".TS"])
def test_a_videos_suffix_is_read_in_any_case(tmp_path, suffix):
    (tmp_path / "videos").mkdir()
    (tmp_path / "videos" / f"a{suffix}").write_bytes(b"x")
    for name in ("a", f"a{suffix}", f"a{suffix.lower()}"):
        assert find_video(tmp_path / "videos", name).name == f"a{suffix}"
    assert list_videos(tmp_path / "videos") == [f"a{suffix}"]
    (tmp_path / "train.csv").write_text("a,0001,0,0,1,1,1,1\nb,0001,0,0,1,1,1,1\n")
    (tmp_path / "list.txt").write_bytes(f"\ufeffa{suffix}\r\nb\r\n".encode())
    (tmp_path / "dataset.yaml").write_text(
        "name: t\nvideos: videos\nsplits: {train: {annotations: train.csv, videos: list.txt}}\n"
    )
    folder = DatasetFolder.open(tmp_path)
    assert folder.video_path("a").name == f"a{suffix}"
    assert read_video_list(folder.split("train")) == {"a", "b"}


def test_what_is_written_stays_inside(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path)
    assert inside(tmp_path / "in", "a/b", what="x") == tmp_path / "in" / "a" / "b"
    within = str(tmp_path / "in" / "b")  # inside, but only on this machine
    for path in ("/abs", "../b", "a/../../b", "link/b", "a/../b", within):
        with pytest.raises(UserError, match="lies outside"):
            inside(tmp_path / "in", path, what="x")


def test_a_prepared_data_set_is_written_inside_its_folder(tmp_path):
    source, out = tmp_path / "in", tmp_path / "a" / "out"
    source.mkdir()
    (tmp_path / "map.pbtxt").write_text('item { name: "a" id: 1 }\n')
    (source / "train.csv").write_text("v,0001,0,0,1,1,1,1\n")
    (source / "dataset.yaml").write_text(
        "name: t\nvideos: videos\nlabel_map: ../map.pbtxt\n"
        "splits: {train: {annotations: train.csv}}\n"
    )
    folder = DatasetFolder.open(source)
    with pytest.raises(
        UserError, match=r"\.\./map\.pbtxt: a file that .*dataset.yaml names lies ou"
    ):
        write_prepared_dataset(folder, out, videos=["v"])
    assert not (out.parent / "map.pbtxt").exists() and not (out / "dataset.yaml").exists()
