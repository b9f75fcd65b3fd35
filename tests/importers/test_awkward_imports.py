"""The import command on files of recorders: begun between key frames, pixels that are no squares.

What holds a label to its frame is the number that is drawn into every frame.
"""

from __future__ import annotations

import json
import pickle
from fractions import Fraction

import numpy as np
import pytest
from awkward_video import encoded, mux, write_segment
from numbered_video import numbers_of

from ava_tools import import_dataset
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.errors import UserError
from detection.video.reader import VideoReader

# Of 60 frames, key frames at 0, 20, 40: without the first 7 packets, 20 to 59 are shown.
PACKETS, SHOWN, FIRST = 53, 40, 20
SEGMENTS = {
    "segment.ts": {"options": {"sc_threshold": "0"}},
    "segment.mp4": {"options": {"sc_threshold": "0"}},
    "open_gop.mp4": {
        "codec": "libx265",
        "options": {"x265-params": "keyint=20:min-keyint=20:open-gop=1:scenecut=0:log-level=none"},
    },
}
POSE = "<attribute><name>pose</name><input_type>select</input_type><values>walk\nsit</values>"


@pytest.fixture(scope="module", params=SEGMENTS)
def segment(request, tmp_path_factory):
    """Return a video that begins between key frames, the only one in its folder."""
    path = tmp_path_factory.mktemp("videos") / request.param
    drop = 2 if "open" in request.param else 7
    return write_segment(path, drop=drop, **SEGMENTS[request.param])


def counts_of(path):
    """Return (packets, frames that a player shows, the number drawn into the first)."""
    with VideoReader(path) as video:
        times_s = video.decoded_times_s()
        return (
            video.frame_counts().packets,
            len(times_s),
            numbers_of(video.read(times_s[:1]).frames)[0],
        )


def write_csv(folder, name, frames, size=""):
    rows = [f"{name},{frame},16,9.6,48,86.4,walk{size}" for frame in frames]
    head = "video,frame,x1,y1,x2,y2,action" + (",frame_width,frame_height" if size else "")
    (folder / "t.csv").write_text("\n".join([head, *rows]) + "\n")
    return ["csv", "--source", str(folder / "t.csv")]


def write_coco(folder, name, frames, size=(160, 96)):
    images = [
        {"id": i, "video": name, "frame": frame, "width": size[0], "height": size[1]}
        for i, frame in enumerate(frames, 1)
    ]
    box = [16 * size[0] / 160, 9.6, 32 * size[0] / 160, 76.8]
    annotations = [{"image_id": i["id"], "bbox": box, "category_id": 1} for i in images]
    values = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "walk"}],
    }
    (folder / "c.json").write_text(json.dumps(values))
    return ["coco", "--source", str(folder / "c.json")]


def write_cvat(folder, name, frames, size=(160, 96), count=None):
    x = size[0] / 160
    boxes = "".join(
        f'<box frame="{frame + gone}" keyframe="1" outside="{gone}" occluded="0" xtl="{16 * x}" '
        f'ytl="9.6" xbr="{48 * x}" ybr="86.4"><attribute name="pose">walk</attribute></box>'
        for frame in frames
        for gone in (0, 1)
        if frame + gone < (count or 1e9)
    )
    stop = (count or 0) - 1
    said = f"<size>{count}</size><start_frame>0</start_frame><stop_frame>{stop}</stop_frame>"
    (folder / "a.xml").write_text(
        f"<annotations><meta><task><id>1</id><name>a</name>{said if count else ''}"
        f"<labels><label><name>person</name><attributes>{POSE}</attribute></attributes></label>"
        f"</labels><original_size><width>{size[0]}</width><height>{size[1]}</height>"
        f"</original_size><source>{name}</source></task></meta>"
        f'<track id="0" label="person">{boxes}</track></annotations>'
    )
    return ["cvat", "--source", str(folder / "a.xml"), "--every", "0"]


def write_tubes(folder, name, frames, nframes):
    tube = np.array([[frame + 1, 16, 9, 47, 85] for frame in frames], np.float32)
    values = {
        "labels": ["walk"],
        "gttubes": {name: {0: [tube]}},
        "nframes": {name: nframes},
        "train_videos": [[name]],
        "test_videos": [[]],
        "resolution": {name: (96, 160)},
    }
    (folder / "UCF101v2-GT.pkl").write_bytes(pickle.dumps(values, 2))
    return ["ucf101-24", "--source", str(folder)]


def imported(arguments, videos, out, capsys):
    """Run the command; returns the rows and what it printed."""
    more = [] if arguments[0] == "ucf101-24" else ["--val-share", "0"]
    more += ["--videos", str(videos), "--out", str(out)]
    assert import_dataset.main([*arguments, *more]) == 0
    folder = DatasetFolder.open(out)
    return read_ground_truth(folder.split("train").annotations), folder, capsys.readouterr().out


def frames_of(rows, folder):
    """Return the numbers drawn into the frames that the rows are dated by."""
    with open_video(folder, rows.video_names[0]) as video:
        return numbers_of(video.read(rows.time_us / 1e6).frames)


@pytest.mark.parametrize("write", [write_csv, write_coco])
def test_frame_numbers_count_what_players_show(segment, tmp_path, capsys, write):
    packets, shown, first = counts_of(segment)
    assert packets > shown and first > 0
    frames = [0, 10, shown - 1]
    rows, folder, printed = imported(
        write(tmp_path, segment.name, frames), segment.parent, tmp_path / "out", capsys
    )
    assert frames_of(rows, folder) == [first + frame for frame in frames]
    (warning,) = [line for line in printed.splitlines() if line.startswith("warning")]
    assert warning.startswith("warning: 1 videos contain packets of which no frame can be decoded")
    assert warning.endswith(f"{segment.name}: {packets} packets, {shown} frames")


@pytest.mark.parametrize("write", [write_csv, write_coco])
def test_numbers_that_count_packets_are_named_by_the_last_one(segment, tmp_path, capsys, write):
    packets, shown, _ = counts_of(segment)
    arguments = write(tmp_path, segment.name, [0, packets - 1])
    with pytest.raises(UserError, match=rf"frame {packets} \(counted from 1\) of {shown}"):
        imported(arguments, segment.parent, tmp_path / "out", capsys)
    rows, _, printed = imported(
        [*arguments, "--leave-out-bad"], segment.parent, tmp_path / "out", capsys
    )
    assert len(rows) == 1
    assert f"{packets} packets, {shown} frames, but the last annotated frame is" in printed


@pytest.mark.parametrize("counted", ["shown", "packets", "unsaid"])
def test_tasks_of_cvat_say_how_they_were_counted(segment, tmp_path, capsys, counted):
    packets, shown, first = counts_of(segment)
    count = {"shown": shown, "packets": packets, "unsaid": None}[counted]
    rows, folder, printed = imported(
        write_cvat(tmp_path, segment.name, [0, 10], count=count),
        segment.parent, tmp_path / "out", capsys,
    )  # fmt: skip
    assert frames_of(rows.select(rows.action_id > 0), folder) == [first, first + 10]
    (warning,) = [line for line in printed.splitlines() if "packets" in line]
    assert warning.startswith(f"warning: {segment.name}: {packets} packets in the file, {shown} fr")
    assert (f"CVAT's task has {count}" in warning) == (count is not None)
    assert "frame numbers count displayed frames" in warning


def test_tubes_say_it_by_their_own_number_of_frames(segment, tmp_path, capsys):
    packets, shown, first = counts_of(segment)
    (segment.parent / "walk").mkdir(exist_ok=True)
    path = segment.parent / "walk" / segment.name
    path.write_bytes(segment.read_bytes())
    name = f"walk/{segment.stem}"
    arguments = write_tubes(tmp_path, name, [0, 10, shown], packets)
    rows, folder, printed = imported(arguments, segment.parent, tmp_path / "out", capsys)
    assert frames_of(rows.select(rows.action_id > 0), folder) == [first, first + 10]
    assert f"{name}: {packets} stated, {shown} decoded" in printed
    assert "1 rows past their clip's last frame left out" in printed


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Return a video of 160x96 stored pixels, each twice as wide as high."""
    encoder, packets = encoded("libx264", 10, pixel_shape=Fraction(2))
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
    path = mux(tmp_path_factory.mktemp("wide") / "wide.mp4", encoder, rows, codec="libx264")
    with VideoReader(path) as video:
        assert video.pixel_shape == 2 and video.frame_size() == (160, 96)
    return path


RIGHT = [[0.1, 0.1, 0.3, 0.9]]


def test_pixels_are_the_stored_ones_where_no_size_is_stated(wide, tmp_path, capsys):
    rows, _, printed = imported(
        write_csv(tmp_path, wide.name, [3]), wide.parent, tmp_path / "out", capsys
    )
    np.testing.assert_allclose(rows.boxes_01, RIGHT, atol=1e-6)
    assert "warning: pixels of 1 videos are not square" in printed and "wide.mp4 (2:1)" in printed


@pytest.mark.parametrize("width", [160, 320, 80])
@pytest.mark.parametrize("write", [write_coco, write_cvat])
def test_a_stated_size_may_be_the_stored_or_the_displayed_one(wide, tmp_path, capsys, write, width):
    size = (width, 96)
    arguments = write(tmp_path, wide.name, [3], size)
    if width == 80:
        with pytest.raises(UserError, match="80x96"):
            imported(arguments, wide.parent, tmp_path / "out", capsys)
        return
    rows, _, printed = imported(arguments, wide.parent, tmp_path / "out", capsys)
    np.testing.assert_allclose(rows.boxes_01[:1], RIGHT, atol=1e-6)
    assert "not square" not in printed


def test_a_table_may_state_the_displayed_size(wide, tmp_path, capsys):
    arguments = write_csv(tmp_path, wide.name, [3], ",320,96")
    rows, _, _ = imported(arguments, wide.parent, tmp_path / "out", capsys)
    np.testing.assert_allclose(rows.boxes_01, [[0.05, 0.1, 0.15, 0.9]], atol=1e-6)
    arguments = write_csv(tmp_path, wide.name, [3], ",80,96")
    with pytest.raises(UserError, match="80x96 are stated"):
        imported(arguments, wide.parent, tmp_path / "two", capsys)
