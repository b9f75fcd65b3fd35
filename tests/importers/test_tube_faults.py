"""Pickles of tubes that contradict themselves or their videos: refused, or said with counts."""

import pickle

import numpy as np
import pytest
from awkward_video import encoded, mux
from numbered_video import write_numbered

from ava_tools import import_dataset
from detection.errors import UserError
from detection.importers.tubes import JHMDB, UCF101_24, import_tubes

NAMES = ["sit/a", "sit/b", "sit/c", "sit/d"]


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("films")
    (folder / "sit").mkdir()
    for name in NAMES:
        write_numbered(
            folder / f"{name}.mp4", [i / 30 for i in range(12)], fps=30, width=320, height=240
        )
    return folder


def tube(*frames, box=(0, 0, 99, 99)):
    return np.array([[frame, *box] for frame in frames], np.float32)


def values(**changes):
    return {
        "labels": ["sit"],
        "gttubes": {name: {0: [tube(1, 2)]} for name in NAMES},
        "nframes": dict.fromkeys(NAMES, 12),
        "train_videos": [NAMES[:2]],
        "test_videos": [NAMES[2:]],
        "resolution": dict.fromkeys(NAMES, (240, 320)),
    } | changes


def run(tmp_path, videos, form=UCF101_24, **changes):
    source = tmp_path / "source"
    source.mkdir(exist_ok=True)
    (source / form.files[0]).write_bytes(pickle.dumps(values(**changes), 2))
    return import_tubes(form, source, tmp_path / "out", videos=videos, overwrite=True)


def one(array, key=0):
    return {"gttubes": dict.fromkeys(NAMES, {0: [tube(1)]}) | {"sit/b": {key: [array]}}}


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            one(tube(1, 2, box=(0, 0, np.nan, 9))),
            r"sit/b: finite numbers are required, 2 of 2 rows have others, .* 1, 0, 0, nan",
        ),
        (
            one(tube(1, box=(0, -np.inf, 9, 9))),
            r"finite numbers are required, 1 of 1 rows have others",
        ),
        (one(tube(1, 2.5, 3)), r"whole numbers from 1 on, 1 of 3 are not, the first: 2.5"),
        (one(tube(1, -4, -5)), r"2 of 3 are not, the first: -4"),
        (one(tube(0)), r"1 of 1 are not, the first: 0"),
        (one(tube(2e9)), r"1 of 1 are not"),
        (one([["1", "0", "0", "9", "9"]]), "found an array of shape"),
        (one(tube(1), key="0"), r"a class of sit/b is a str, a number is required"),
        (one(tube(1), key=0.5), r"a class of sit/b is 0.5, a whole number is required"),
        (one(tube(1), key=-1), r"sit/b: class -1 of 1"),
        ({"nframes": dict.fromkeys(NAMES, 11.5)}, "nframes of sit/a is 11.5, a whole number"),
        ({"nframes": dict.fromkeys(NAMES, float("nan"))}, "nframes of sit/a is nan, a whole"),
        ({"resolution": dict.fromkeys(NAMES, (240.5, 320))}, "resolution of sit/a is 240.5"),
        ({"resolution": dict.fromkeys(NAMES, (-240, 320))}, "sit/a: a resolution of -240, 320"),
        ({"resolution": dict.fromkeys(NAMES, (0, 320))}, "sit/a: a resolution of 0, 320"),
        (
            {"resolution": dict.fromkeys(NAMES, (320, 240))},
            r"4 videos of another aspect ratio than their boxes' resolution: sit/a: "
            r"boxes in 240x320, frames of 320x240; sit/b: .*; sit/c: .*; and 1 more",
        ),
        ({"test_videos": [NAMES[1:]]}, "1 videos in train and in test of split 1: sit/b"),
        ({"labels": [b"sit"]}, "a label that is a bytes, text is required"),
        ({"labels": [7]}, "a label that is a int, text is required"),
        ({"gttubes": {7: {}}}, "a video's name that is a int"),
    ],
)
def test_what_contradicts_itself_is_refused(tmp_path, videos, changes, message):
    with pytest.raises(UserError, match=message) as caught:
        run(tmp_path, videos, **changes)
    assert "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_boxes_in_another_size_of_the_same_shape_are_scaled(tmp_path, videos):
    report = run(tmp_path, videos, resolution=dict.fromkeys(NAMES, (120, 160)))
    assert report.notes == ()
    row = (tmp_path / "out/annotations/train.csv").read_text().splitlines()[0].split(",")
    assert [float(edge) for edge in row[2:6]] == pytest.approx([0, 0, 100 / 160, 100 / 120])


def test_what_is_odd_is_said_with_counts_and_examples(tmp_path, videos):
    tubes = {
        "sit/a": {0: [tube(1, 2, 2, 2, 3)]},
        "sit/b": {0: [tube(1)]},
        "sit/c": {},
        "sit/d": {0: [tube(1)]},
    }
    report = run(
        tmp_path, videos, gttubes=tubes, nframes={"sit/a": 12, "sit/b": 20, "sit/d": 9},
        train_videos=[["sit/a", "sit/a", "sit/c"]], test_videos=[["sit/b"]],
    )  # fmt: skip
    assert report.num_rows == {"train": 5, "val": 1}  # sit/a once, though it is named twice
    counts, twice, bare, unused = report.notes
    assert counts.startswith("warning: 2 videos whose number of frames (nframes)")
    assert "sit/b: 20 stated, 12 decoded; sit/d: 9 stated, 12 decoded" in counts
    assert twice == "warning: 1 frames twice in one tube, both kept: sit/a: frame 2"
    assert bare == "warning: 1 videos of the splits without a tube, left out of them: sit/c"
    assert unused == "warning: 2 annotated videos in no split: sit/c; sit/d"
    empty = (tmp_path / "out/annotations/val.csv").read_text()
    assert empty.count("\n") == 12  # no person in the frames 2 to 12 that there are, not to 20


def test_the_command_prints_what_is_odd(tmp_path, videos, capsys):
    run(tmp_path, videos, nframes=dict.fromkeys(NAMES, 13))
    arguments = ["ucf101-24", "--source", str(tmp_path / "source"), "--videos", str(videos)]
    assert import_dataset.main([*arguments, "--out", str(tmp_path / "again")]) == 0
    printed = capsys.readouterr().out
    assert "warning: 4 videos whose number of frames (nframes) is not that of" in printed
    assert "sit/a: 13 stated, 12 decoded" in printed and "and 1 more" in printed


def test_frames_past_the_end_are_counted_and_listed(tmp_path, videos):
    report = run(tmp_path, videos, JHMDB, **one(tube(11, 12, 13, 14)))
    assert [(row.source, row.frame, row.num_frames) for row in report.left_out] == [
        ("sit/b", 13, 12), ("sit/b", 14, 12)
    ]  # fmt: skip


def test_a_box_outside_the_frame_ends_jhmdb_and_is_listed_for_the_others(tmp_path, videos):
    far = one(tube(1, box=(500, 0, 600, 9)))
    with pytest.raises(UserError, match="sit/b: the box lies outside the frame"):
        run(tmp_path, videos, JHMDB, **far)
    (gone,) = run(tmp_path, videos, **far).left_out
    assert gone.source == "sit/b" and "outside the frame" in gone.reason


@pytest.mark.parametrize(
    ("form", "name", "lines"), [(JHMDB, "split1_train", 4), (UCF101_24, "train", 24)]
)
def test_frames_outside_the_tubes_are_keyframes_of_no_person_but_jhmdbs(
    tmp_path, videos, form, name, lines
):
    """Two videos of 12 frames, of which the first two are annotated."""
    run(tmp_path, videos, form)
    assert (tmp_path / f"out/annotations/{name}.csv").read_text().count("\n") == lines


def test_frames_are_those_that_can_be_decoded_not_those_a_header_promises(tmp_path, videos):
    """A header of 12 frames, of which the last three hold nothing."""
    folder = tmp_path / "films"
    (folder / "sit").mkdir(parents=True)
    encoder, packets = encoded("libx264", 12, width=320, height=240)
    data = [bytes(p) for p in packets[:9]] + [b"\0\0\0\2\x09\x10"] * 3
    rows = [(d, p.pts, p.dts, p.is_keyframe) for d, p in zip(data, packets, strict=True)]
    for name in NAMES:
        mux(folder / f"{name}.mp4", encoder, rows, codec="libx264")
    report = run(tmp_path, folder, JHMDB, **one(tube(8, 9, 10, 12)))
    assert [(row.frame, row.num_frames) for row in report.left_out] == [(10, 9), (12, 9)]
    assert any("sit/a: 12 stated, 9 decoded" in note for note in report.notes)
