"""What was done to a video's times and frames is said by whoever reads all of it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from awkward_video import encoded, mux, write_avi, write_packed_avi
from numbered_video import numbers_of, write_numbered
from test_video_times import COUNT, write_segment, write_wrapping_ts

from ava_tools import import_dataset, prepare, verify
from detection.datasets.folder import DatasetFile, SplitPart, write_dataset_file
from detection.video.reader import VideoReader
from detection.video.repairs import repair_lines
from detection.video.stream import Gap, VideoStream

MAKERS = {
    "shifted": lambda path: write_wrapping_ts(path.with_suffix(".ts")),
    "do not ascend": lambda path: write_packed_avi(path.with_suffix(".avi"), COUNT),
    "13 packet(s)": lambda path: write_segment(
        path.with_suffix(".ts"), drop=7, options={"sc_threshold": "0"}
    ),
    "20 of its 80 time slots": lambda path: write_avi(
        path.with_suffix(".avi"), "mpeg4", COUNT, slots=[n + (n + 1) // 3 for n in range(COUNT)],
        b_frames=0,
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=MAKERS, ids=lambda word: word.split()[0])
def repaired(request, tmp_path_factory):
    """A video and a word of what is done so that it can be read."""
    folder = tmp_path_factory.mktemp("repaired")
    return MAKERS[request.param](folder / "odd"), request.param


def write_folder(root, video, keyframe_s):
    (root / "videos").mkdir(parents=True)
    (root / "videos" / video.name).write_bytes(video.read_bytes())
    (root / "train.csv").write_text(f"odd,{keyframe_s:.6f},0.1,0.1,0.9,0.9,1,0\n")
    (root / "map.pbtxt").write_text('item { name: "walk" id: 1 }\n')
    write_dataset_file(
        root,
        DatasetFile(
            name="odd",
            videos="videos",
            label_map="map.pbtxt",
            splits={"train": SplitPart(annotations="train.csv")},
        ),
    )
    return root


def test_reader_and_stream_say_it_once_all_was_read(repaired):
    path, word = repaired
    with VideoReader(path) as video:
        times_s = video.frame_times_s()
        assert [word in said for said in video.repairs().descriptions()] == [True]
    with VideoStream(path) as stream:
        items = list(stream.frames())
        said = stream.repairs().descriptions()
    frames = [item for item in items if not isinstance(item, Gap)]
    np.testing.assert_allclose([frame.time_s for frame in frames], times_s)
    assert [word in one for one in said] == ([True] if "slots" not in word else [])


def test_a_plain_file_has_nothing_to_say(tmp_path):
    path = write_numbered(tmp_path / "plain.mp4", 900 + np.arange(COUNT) / 25)
    with VideoReader(path) as video, VideoStream(path) as stream:
        video.frame_times_s()
        list(stream.frames())
        assert video.repairs().descriptions() == stream.repairs().descriptions() == []


def test_verify_and_prepare_say_it_and_prepare_writes_every_frame(repaired, tmp_path, capsys):
    path, word = repaired
    with VideoReader(path) as video:
        times_s = video.frame_times_s()
        numbers = numbers_of(video.read(times_s).frames)
    root = write_folder(tmp_path / "in", path, times_s[5])
    for _ in range(2):  # looked at, and kept from before
        assert verify.main([str(root), "--jobs", "1"]) == 0
        assert f"note: odd: {'it' if 'packet' in word else ''}" in (said := capsys.readouterr().out)
        assert word in said
    for form in ([], ["--frames", "--fps", "25"]):
        out = tmp_path / f"out{len(form)}"
        arguments = ["--dataset", str(root), "--out", str(out), "--jobs", "1", *form]
        for _ in range(2):
            assert prepare.main(arguments) == 0
            assert word in capsys.readouterr().out
        manifest = json.loads((out / "prepared" / "odd.json").read_text())
        assert word in manifest["source"]["repairs"][0]
    with VideoReader(tmp_path / "out0" / "videos" / "odd.mp4") as video:
        own_s = video.frame_times_s()
        np.testing.assert_allclose(own_s, times_s, atol=1e-5)
        assert numbers_of(video.read(own_s).frames) == numbers


def test_import_by_frame_hits_the_frame_that_players_number_so(repaired, tmp_path, capsys):
    path, word = repaired
    table = tmp_path / "rows.csv"
    table.write_text(f"video,frame,x1,y1,x2,y2,action\n{path.name},7,0.1,0.1,0.9,0.9,walk\n")
    arguments = ["csv", "--source", str(table), "--out", str(tmp_path / "out")]
    arguments += ["--videos", str(path.parent), "--val-share", "0"]
    assert import_dataset.main(arguments) == 0
    said = capsys.readouterr()
    assert (word if "packet" not in word else "53 packets, 40 frames") in said.out + said.err
    row = (tmp_path / "out" / "annotations" / "train.csv").read_text().splitlines()[0].split(",")
    with VideoReader(path) as video:
        found = numbers_of(video.read([float(row[1])]).frames)
        assert found == [numbers_of(video.read(video.frame_times_s()).frames)[7]]
    assert found == ([27] if "packet" in word else [7])


def test_three_videos_are_named_and_the_others_counted():
    lines = repair_lines({f"v{n}": ["a", "b"] if n % 2 else [] for n in range(12)})
    assert lines[:3] == ["v1: a; b", "v11: a; b", "v3: a; b"]
    assert lines[3].startswith("3 more video(s)") and len(lines) == 4
    assert repair_lines({"a\nb": ["c"]}) == ["a b: c"]


def test_a_clock_that_falls_back_is_counted(tmp_path):
    encoder, packets = encoded("mpeg4", COUNT, gop=30)
    rows = [(bytes(p), i, i, p.is_keyframe) for i, p in enumerate(packets)]
    first, second = (mux(tmp_path / f"{n}.ts", encoder, rows, codec="mpeg4") for n in "ab")
    both = tmp_path / "both.ts"
    both.write_bytes(first.read_bytes() + second.read_bytes())
    with VideoStream(both) as stream:
        items = list(stream.frames())
        assert sum(not isinstance(item, Gap) for item in items) == 2 * COUNT
        assert stream.repairs().resets == 1 and not stream.repairs().sorts
        assert "falls back 1 time(s)" in stream.repairs().descriptions()[0]
