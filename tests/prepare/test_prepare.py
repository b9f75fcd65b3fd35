"""Prepared videos show the same frames at the same times, whatever the source."""

from __future__ import annotations

import json
from fractions import Fraction

import av
import numpy as np
import pytest
from numbered_dataset import make_dataset
from numbered_video import nearest, numbered_image, numbers_of, write_numbered
from tiny_data import turn

from detection.checks.videos import verify_dataset
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.prepare.dataset import prepare_dataset
from detection.prepare.video import PrepareOptions
from detection.structures import ClipSampling
from detection.unfinished import unfinished_folder
from detection.video.reader import VideoReader
from detection.video.writer import VideoWriter

TICK_S = 1 / 90000
SMALL = PrepareOptions(short_side=64)


def regular(fps, *, start_s=0.0, count=200):
    return [start_s + i / fps for i in range(count)]


def variable(*, start_s=0.0, count=200):
    gaps = np.random.default_rng(0).choice([1 / 60, 1 / 30, 1 / 24, 0.1, 1.3], size=count - 1)
    return (start_s + np.concatenate([[0], np.cumsum(gaps)])).tolist()


TIMELINES = {
    "23.976": (24000 / 1001, regular(24000 / 1001)),
    "24": (24, regular(24)),
    "25": (25, regular(25)),
    "29.97": (30000 / 1001, regular(30000 / 1001)),
    "30": (30, regular(30)),
    "60": (60, regular(60, count=420)),
    "variable": (30, variable()),
    "25 starting late": (25, regular(25, start_s=893.0123)),
    "variable starting late": (30, variable(start_s=3.217)),
}


def prepare(root, out, **options):
    options.setdefault("options", SMALL)
    return prepare_dataset(DatasetFolder.open(root), out, **options)


def manifest(out, video_id):
    return json.loads((out / "prepared" / f"{video_id}.json").read_text())


@pytest.fixture(scope="module", params=TIMELINES, ids=str)
def timeline(request, tmp_path_factory):
    """Source file, its frame times, keyframe times, and the folder with the prepared file."""
    fps, times_s = TIMELINES[request.param]
    folder = tmp_path_factory.mktemp("prepare")
    keyframes_s = [round(times_s[0] + 2.5, 6), round(times_s[0] + 4.0, 6)]
    root = make_dataset(folder / "source", {"v": keyframes_s})
    path = write_numbered(root / "videos/v.mp4", times_s, fps=fps, keyframe_interval_s=10)
    report = prepare(root, folder / "out", clip_span_s=2.0)
    assert report.prepared == ("v",) and report.whole
    return path, times_s, keyframes_s, folder / "out"


def test_the_same_frame_at_the_same_time(timeline):
    source, times_s, keyframes_s, out = timeline
    drawn_s = np.random.default_rng(1).uniform(keyframes_s[0], keyframes_s[1], 12)
    with VideoReader(source) as before, VideoReader(out / "videos/v.mp4") as after:
        for time_s in [*keyframes_s, *drawn_s, keyframes_s[0] - 0.5, keyframes_s[1] + 0.5]:
            required = ClipSampling(5, 3).times_s(time_s)
            expected, got = before.read(required), after.read(required, keyframes_s=[time_s])
            assert numbers_of(got.frames) == numbers_of(expected.frames)
            assert numbers_of(got.frames) == nearest(times_s, required)
            assert np.abs(got.times_s - expected.times_s).max() <= TICK_S


def test_no_frame_is_lost_doubled_or_moved(timeline):
    source, times_s, keyframes_s, out = timeline
    with VideoReader(source) as before, VideoReader(out / "videos/v.mp4") as after:
        source_s, own_s = before.frame_times_s(), after.frame_times_s()
        kept = source_s[(source_s >= own_s[0] - TICK_S) & (source_s <= own_s[-1] + TICK_S)]
        assert own_s == pytest.approx(kept, abs=TICK_S / 2)
        first = int(np.argmin(np.abs(source_s - own_s[0])))
        assert numbers_of(after.read(own_s).frames) == list(range(first, first + len(own_s)))
    # The window ends at the first frame outside it, so that nothing inside has another neighbour.
    start_s, end_s = keyframes_s[0] - 1, keyframes_s[1] + 1
    assert own_s[0] <= start_s + TICK_S and (own_s[0] == source_s[0] or own_s[1] > start_s)
    assert own_s[-1] >= end_s - TICK_S and own_s[-2] < end_s


def test_file_form(timeline):
    *_, out = timeline
    with av.open(str(out / "videos/v.mp4")) as file:
        stream = file.streams.video[0]
        assert (stream.time_base.denominator, stream.codec_context.name) == (90000, "h264")
        packets = [packet for packet in file.demux(stream) if packet.size]
        times_s = sorted(float(packet.pts * packet.time_base) for packet in packets)
        keys_s = [float(p.pts * p.time_base) for p in packets if p.is_keyframe]
    opening = {int(time_s + TICK_S / 4): time_s for time_s in reversed(times_s)}
    assert keys_s == sorted(keys_s) and set(opening.values()) <= set(keys_s)


def test_manifest(timeline):
    source, times_s, _, out = timeline
    entry = manifest(out, "v")
    own = out / "videos/v.mp4"
    with VideoReader(own) as video:
        own_s = video.frame_times_s()
    assert entry["source"]["num_frames"] == len(times_s)
    assert entry["source"]["bytes"] == source.stat().st_size
    assert entry["own"]["num_frames"] == len(own_s)
    assert entry["own"]["codec"] == "h264" and entry["own"]["height"] == 64
    assert entry["own"]["start_s"] == pytest.approx(own_s[0])
    for part in ("source", "own"):
        assert {"average_fps", "duration_s", "codec", "sha256"} <= set(entry[part])
    assert entry["times"]["offset_s"] == 0.0
    assert entry["times"]["largest_rounding_s"] <= TICK_S / 2


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".mov"])
def test_other_containers(tmp_path, suffix):
    """Matroska counts milliseconds; MPEG-TS has no index and starts late."""
    root = make_dataset(tmp_path / "in", {"v": [6.0]})
    times_s = regular(24000 / 1001, count=250)
    plain = write_numbered(tmp_path / "v.mp4", times_s, fps=24000 / 1001, keyframe_interval_s=4)
    path = root / f"videos/v{suffix}"
    with av.open(str(plain)) as video, av.open(str(path), "w") as copy:
        stream = copy.add_stream_from_template(video.streams.video[0])
        for packet in video.demux(video.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                copy.mux(packet)
    report = prepare(root, tmp_path / "out", clip_span_s=3.0)
    assert not report.failed
    with VideoReader(path) as before, VideoReader(tmp_path / "out/videos/v.mp4") as after:
        for time_s in np.linspace(5.2, 6.8, 9):
            required = ClipSampling(4, 5).times_s(float(time_s))
            expected, got = before.read(required), after.read(required)
            assert numbers_of(got.frames) == numbers_of(expected.frames)
            assert np.abs(got.times_s - expected.times_s).max() <= TICK_S


@pytest.mark.parametrize(
    "suffix, codec, options",
    [
        ("mp4", "libx264", {"x264-params": "open-gop=1:keyint=50:scenecut=0", "bf": "3"}),
        ("ts", "libx264", {"x264-params": "open-gop=1:keyint=50:scenecut=0", "bf": "3"}),
        ("mp4", "libx264", {"x264-params": "intra-refresh=1:keyint=50"}),
        ("avi", "mpeg4", {"bf": "2", "q": "3"}),
        ("mpg", "mpeg2video", {"bf": "2"}),
    ],
)
def test_what_a_seek_comes_out_in_is_no_damage(tmp_path, suffix, codec, options):
    """Frames after an open key frame lean on others before it; some videos have no key frames."""
    root = make_dataset(tmp_path / "in", {"v": [5.0, 6.0]})
    path = root / f"videos/v.{suffix}"
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuv420p"
        for number in range(200):
            frame = av.VideoFrame.from_ndarray(numbered_image(number), format="rgb24")
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode(None))
    assert not prepare(root, tmp_path / "out", clip_span_s=3.0).failed
    required = np.linspace(4.0, 7.0, 20)
    with VideoReader(path) as before, VideoReader(tmp_path / "out/videos/v.mp4") as after:
        assert numbers_of(after.read(required).frames) == numbers_of(before.read(required).frames)
    assert not verify_dataset(DatasetFolder.open(root)).findings


def test_whole_videos_and_small_ones(tmp_path):
    root = make_dataset(tmp_path / "in", {"v": [3.0]})
    write_numbered(root / "videos/v.mp4", regular(25, count=150), width=81, height=50)
    prepare(root, tmp_path / "out", whole_videos=True, options=PrepareOptions(short_side=320))
    with VideoReader(tmp_path / "out/videos/v.mp4") as video:
        assert len(video.frame_times_s()) == 150
        assert video.frame_size() == (82, 50)  # never enlarged; what the writer made of 81


def corners(height, width):
    """A frame with a colour of its own in each corner."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[: height // 2, : width // 2] = (220, 30, 40)
    image[: height // 2, width // 2 :] = (30, 200, 50)
    image[height // 2 :, : width // 2] = (40, 50, 210)
    return image


@pytest.mark.parametrize("rotated", [False, True])
@pytest.mark.parametrize("size", [(160, 96), (162, 98)])
def test_frames_are_upright_and_keep_their_colours(tmp_path, rotated, size):
    root = make_dataset(tmp_path / "in", {"v": [0.2]})
    path = root / "videos/v.mp4"
    with VideoWriter(path, width=size[0], height=size[1], fps=25, crf=10) as writer:
        for _ in range(10):
            writer.write(corners(size[1], size[0]))
    if rotated:
        turn(path, 90)
    prepare(root, tmp_path / "out", options=PrepareOptions(short_side=64, crf=10))
    with VideoReader(path) as before, VideoReader(tmp_path / "out/videos/v.mp4") as after:
        assert (after.info.height > after.info.width) == rotated
        assert after.info.rotation == 0
        expected = before.read([0.2], short_side=64).frames.float()
        got = after.read([0.2]).frames.float()
    assert abs(got.shape[3] - expected.shape[3]) <= 1
    for rows in (slice(8, 24), slice(40, 56)):
        for columns in (slice(8, 24), slice(40, 56)):
            was, now = (f[0, :, rows, columns].mean(dim=(1, 2)) for f in (expected, got))
            assert now.numpy() == pytest.approx(was.numpy(), abs=4)


@pytest.mark.parametrize("form, colour_range, matrix", [
    ("yuv420p", 1, 1), ("yuv420p", 2, 1), ("yuvj420p", 0, 0), ("yuv444p", 1, 5),
    ("yuv422p10le", 1, 1), ("gray", 0, 2), ("rgb24", 0, 0),
])  # fmt: skip
def test_colours_of_other_forms(tmp_path, form, colour_range, matrix):
    """Range and matrix are what the source says: 1 is BT.709, 5 BT.601; range 2 is full."""
    root = make_dataset(tmp_path / "in", {"v": [0.2]})
    path = root / f"videos/v.{'mov' if form == 'rgb24' else 'mkv'}"
    image = corners(96, 160)
    with av.open(str(path), "w") as file:
        coders = {"gray": "ffv1", "rgb24": "png", "yuvj420p": "mjpeg"}
        stream = file.add_stream(coders.get(form, "libx264"), rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 96, form
        context = stream.codec_context
        if colour_range:
            context.color_range, context.colorspace = colour_range, matrix
        for _ in range(10):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            file.mux(stream.encode(frame.reformat(format=form)))
        file.mux(stream.encode(None))
    prepare(root, tmp_path / "out", options=PrepareOptions(short_side=96, crf=8))
    with VideoReader(path) as before, VideoReader(tmp_path / "out/videos/v.mp4") as after:
        was, now = (video.read([0.2]).frames[0].float() for video in (before, after))
    for rows in (slice(8, 40), slice(56, 88)):
        for columns in (slice(8, 72), slice(88, 150)):
            expected = was[:, rows, columns].mean(dim=(1, 2)).numpy()
            assert now[:, rows, columns].mean(dim=(1, 2)).numpy() == pytest.approx(expected, abs=4)


@pytest.mark.parametrize("name", ["23.976", "30", "variable", "25 starting late"])
def test_frames_show_what_the_source_shows_nearest(tmp_path, name):
    fps, times_s = TIMELINES[name]
    keyframes_s = [round(times_s[0] + 2.5, 6), round(times_s[0] + 4.0, 6)]
    root = make_dataset(tmp_path / "in", {"v": keyframes_s})
    write_numbered(root / "videos/v.mp4", times_s, fps=fps)
    report = prepare(root, tmp_path / "out", clip_span_s=2.0, frames_fps=30.0)
    assert report.whole and not report.failed
    folder = DatasetFolder.open(tmp_path / "out")
    assert folder.file.frames.start_s == int(keyframes_s[0] - 1)
    with open_video(folder, "v") as video, VideoReader(root / "videos/v.mp4") as source:
        own_s = video.frame_times_s()
        assert own_s[0] == pytest.approx(keyframes_s[0] - 1, abs=1 / 30)
        assert own_s[-1] == pytest.approx(keyframes_s[1] + 1, abs=1 / 30)
        assert len(own_s) == round((own_s[-1] - own_s[0]) * 30) + 1
        frames = video.read(own_s, keyframes_s=keyframes_s).frames
        assert numbers_of(frames) == numbers_of(source.read(own_s).frames)
    assert not list((tmp_path / "out").rglob(".writing-*"))
    rows = (tmp_path / "out/frame_lists/train.csv").read_text().splitlines()
    assert rows[0] == "original_vido_id video_id frame_id path labels"
    assert len(rows) == 1 + len(own_s) and rows[1].startswith("v 0 0 v/v_0000")
    assert prepare(root, tmp_path / "out", clip_span_s=2.0, frames_fps=30.0).kept == ("v",)
    assert not verify_dataset(folder).findings
    next((tmp_path / "out/frames/v").iterdir()).unlink()
    assert verify_dataset(folder).problems
    assert prepare(root, tmp_path / "out", clip_span_s=2.0, frames_fps=30.0).prepared == ("v",)


@pytest.mark.real_data
def test_real_clips_show_the_same_frames_at_the_same_times(real_data, tmp_path):
    """Each prepared frame is nearer to the source's at its time than to those a frame away."""
    names = ["sam2_bedroom"]  # handheld: each frame differs from the next
    root = make_dataset(tmp_path / "in", dict.fromkeys(names, [2.0, 3.0]))
    for name in names:
        (root / f"videos/{name}.mp4").symlink_to(real_data / f"clips/{name}.mp4")
    options = PrepareOptions(short_side=320)
    assert not prepare(root, tmp_path / "out", clip_span_s=1.0, options=options).failed
    for name in names:
        with (
            VideoReader(root / f"videos/{name}.mp4") as before,
            VideoReader(tmp_path / f"out/videos/{name}.mp4") as after,
        ):
            own_s, source_s = after.frame_times_s(), before.frame_times_s()
            first = int(np.argmin(np.abs(source_s - own_s[0])))
            assert own_s == pytest.approx(source_s[first : first + len(own_s)], abs=TICK_S)
            frames = before.read(source_s[first : first + len(own_s)], short_side=64).frames.float()
            own = after.read(own_s, short_side=64).frames.float()[..., : frames.shape[3]]
            frames = frames[..., : own.shape[3]]
            same = (own[1:-1] - frames[1:-1]).abs().mean(dim=(1, 2, 3))
            for neighbours in (frames[:-2], frames[2:]):
                moved = (frames[1:-1] - neighbours).abs().mean(dim=(1, 2, 3)) > 1
                apart = (own[1:-1] - neighbours).abs().mean(dim=(1, 2, 3))
                assert moved.any() and (same < apart)[moved].all(), name


def test_frames_from_a_start_of_choice(tmp_path):
    root = make_dataset(tmp_path / "in", {"v": [902.0]})
    write_numbered(root / "videos/v.mp4", regular(25, start_s=895.0, count=250))
    report = prepare(root, tmp_path / "out", frames_fps=30.0, frames_start_s=900.0)
    assert report.whole
    names = sorted(path.name for path in (tmp_path / "out/frames/v").iterdir())
    assert names[0] == "v_000001.jpg" and len(names) == 150  # 900 to 904.97 s


@pytest.mark.parametrize("shape", [Fraction(2), Fraction(10, 11)])
def test_pixels_keep_their_shape(tmp_path, shape):
    root = make_dataset(tmp_path / "in", {"v": [1.0]})
    with VideoWriter(root / "videos/v.mp4", width=160, height=96, fps=25, shape=shape) as writer:
        for number in range(50):
            writer.write(numbered_image(number))
    assert prepare(root, tmp_path / "out").whole
    with VideoReader(tmp_path / "out/videos/v.mp4") as video:
        assert video.pixel_shape == shape
        assert numbers_of(video.read(video.frame_times_s()).frames) == list(range(50))


def test_what_a_killed_run_left_goes_and_what_a_living_one_writes_stays(tmp_path):
    root = make_dataset(tmp_path / "in", {"v": [1.0]})
    write_numbered(root / "videos/v.mp4", regular(25, count=50))
    out = tmp_path / "out"
    assert prepare(root, out, frames_fps=5.0).whole
    (out / "frames" / ".writing-dead").mkdir()
    (out / "frames" / ".writing-dead" / "v_000001.jpg").write_bytes(b"half")
    with unfinished_folder(out / "frames", ".writing-") as held:
        assert prepare(root, out, frames_fps=5.0).kept == ("v",)
        assert [path for path in (out / "frames").glob(".writing-*")] == [held]
