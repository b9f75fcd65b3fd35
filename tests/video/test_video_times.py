"""Every frame of a file is shown once, whatever its times are like, on one clock from 0 on."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from awkward_video import encoded, mux, write_avi, write_packed_avi, write_segment
from numbered_video import numbers_of, write_numbered

from detection.drawing.annotated_video import displayed_size
from detection.errors import UserError
from detection.video.reader import VideoReader
from detection.video.stream import Gap, VideoStream
from detection.video.writer import LONGEST_GAP_S, VideoWriter

COUNT = 60
REPOSITORY = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def disordered(tmp_path_factory):
    folder = tmp_path_factory.mktemp("avi")
    return {
        "packed": write_packed_avi(folder / "packed.avi", COUNT),
        "h264": write_avi(folder / "h264.avi", "libx264", COUNT),
        "mpeg4": write_avi(folder / "mpeg4.avi", "mpeg4", COUNT),
    }


@pytest.mark.parametrize("name", ["packed", "h264", "mpeg4"])
def test_every_frame_of_an_avi_is_shown_once_and_in_order(disordered, name):
    with VideoReader(disordered[name]) as video:
        times_s = video.frame_times_s()
        assert len(times_s) == COUNT
        np.testing.assert_allclose(np.diff(times_s), 0.04)
        np.testing.assert_allclose(times_s, video.decoded_times_s())
        assert numbers_of(video.read(times_s).frames) == list(range(COUNT))
        walked = [
            (time_s, numbers_of(image.transpose(2, 0, 1)[None])[0])
            for time_s, image in video.frames()
        ]
        assert [number for _, number in walked] == list(range(COUNT))
        np.testing.assert_allclose([time_s for time_s, _ in walked], times_s)
        shown = [video.to_rgb(frame).transpose(2, 0, 1) for _, frame in video.decoded_frames()]
        assert numbers_of(np.stack(shown)) == list(range(COUNT))
        assert bool(video.repairs().descriptions()) == (name != "mpeg4")


@pytest.mark.parametrize("name", ["packed", "h264"])
def test_one_frame_at_a_time_is_the_right_one(disordered, name):
    for number in (0, 1, 11, 12, 13, 24, 37, COUNT - 1):
        with VideoReader(disordered[name]) as video:  # each first asked of a reader
            times_s = video.frame_times_s()
        with VideoReader(disordered[name]) as video:
            assert numbers_of(video.read([times_s[number]]).frames) == [number]
            assert video.ends_s() == (times_s[0], times_s[-1])


def test_part_of_a_disordered_video(disordered):
    with VideoReader(disordered["packed"]) as video:
        times_s = video.frame_times_s()
        found = list(video.decoded_frames(start_s=times_s[20], end_s=times_s[30]))
        shown = [video.to_rgb(frame).transpose(2, 0, 1) for _, frame in found]
        assert numbers_of(np.stack(shown)) == list(range(20, 31))


def test_disorder_that_begins_late_is_met(tmp_path):
    """The first hundred frames say nothing of it."""
    encoder, packets = encoded("mpeg4", 160, b_frames=0)
    rows = [[bytes(p), i + 2, i, p.is_keyframe] for i, p in enumerate(packets)]
    rows[130][1], rows[131][1] = 133, 132
    path = mux(tmp_path / "late.ts", encoder, rows, codec="mpeg4")
    with VideoReader(path) as video:
        start_s = video.info.start_s
        assert numbers_of(video.read(start_s + np.arange(128, 136) / 25).frames) == list(
            range(128, 136)
        )
        assert video.repairs().sorts


def test_empty_slots_of_an_avi_are_nothing_missing(tmp_path):
    slots = [number + number // 3 for number in range(COUNT)]
    path = write_avi(tmp_path / "drop.avi", "mpeg4", COUNT, slots=slots, b_frames=0)
    with VideoReader(path) as video:
        times_s = video.frame_times_s()
        np.testing.assert_allclose(times_s, np.asarray(slots) / 25)
        assert numbers_of(video.read(times_s).frames) == list(range(COUNT))
        assert video.info.num_frames == COUNT
    data = path.read_bytes()
    for part in (0.3, 0.5):
        path.write_bytes(data[: int(len(data) * part)])
        with pytest.raises(UserError, match="cut short"), VideoReader(path) as video:
            video.frame_times_s()


def test_frames_are_numbered_as_players_show_them(tmp_path):
    path = write_segment(
        tmp_path / "segment.ts", drop=7, count=COUNT, options={"sc_threshold": "0"}
    )
    with VideoReader(path) as video:
        times_s, counts = video.frame_times_s(), video.frame_counts()
        assert counts.packets == COUNT - 7
        assert counts.decodable == len(times_s) == COUNT - 20
        assert numbers_of(video.read(times_s).frames) == list(range(20, COUNT))
        np.testing.assert_allclose(times_s, video.decoded_times_s())


def write_wrapping_ts(path):
    """Write a transport stream whose 33 bits run over after 58 frames."""
    encoder, packets = encoded("libx264", COUNT, b_frames=2)
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
    return mux(path, encoder, rows, codec="libx264", start_ticks=2**33 - 58 * 3600)


def test_a_clock_below_0_is_shifted(tmp_path):
    path = write_wrapping_ts(tmp_path / "wrap.ts")
    with av.open(str(path)) as told:
        assert told.streams.video[0].start_time < 0
    with VideoReader(path) as video:
        times_s = video.frame_times_s()
        np.testing.assert_allclose(times_s, np.arange(COUNT) / 25, atol=1e-9)
        assert video.clock_shift_s > 0
        assert "shifted" in video.repairs().descriptions()[0]
        assert numbers_of(video.read(times_s).frames) == list(range(COUNT))
        assert numbers_of(video.read(times_s[[40]]).frames) == [40]
        assert video.ends_s() == pytest.approx((times_s[0], times_s[-1]))
        assert video.span_s() == pytest.approx((0, COUNT / 25), abs=0.05)


def test_a_late_clock_stays_what_it_is(tmp_path):
    path = write_numbered(tmp_path / "late.mp4", 900 + np.arange(COUNT) / 25)
    with VideoReader(path) as video:
        assert video.clock_shift_s == 0
        assert not video.repairs().descriptions()
        assert video.frame_times_s()[0] == pytest.approx(900)


def test_keyframes_outside_are_told_before_they_are_read(tmp_path):
    times_s = np.arange(COUNT) / 25
    path = write_numbered(tmp_path / "ends.mp4", times_s)
    with VideoReader(path) as video:
        video.check_keyframes([])
        video.check_keyframes([0.0, 1.0, times_s[-1] + 0.015])
        for outside, word in ((times_s[-1] + 0.025, "past the last"), (-0.03, "before the first")):
            with pytest.raises(UserError, match=word):
                video.check_keyframes([1.0, outside])
            with pytest.raises(UserError, match=word):
                video.read([outside], keyframes_s=[outside])


def test_a_keyframe_at_an_end_that_cannot_be_decoded_is_told_before_it_is_read(tmp_path):
    encoder, packets = encoded("libx264", COUNT, gop=20, options={"sc_threshold": "0", "bf": "0"})
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
    rows[-3:] = [(b"\0\0\0\1\x09\xf0", *row[1:]) for row in rows[-3:]]
    path = mux(tmp_path / "tail.mkv", encoder, rows, codec="libx264")
    with VideoReader(path) as video, pytest.raises(UserError, match="cut short after 2.240 s"):
        video.check_keyframes([(COUNT - 1) / 25])


def streamed(path, from_s=None):
    with VideoStream(path) as stream:
        items = list(stream.frames(from_s=from_s))
    assert not any(isinstance(item, Gap) for item in items)
    images = np.stack([item.rgb().transpose(2, 0, 1) for item in items])
    return [item.time_s for item in items], numbers_of(images)


@pytest.mark.parametrize("name", ["packed", "h264", "mpeg4"])
def test_a_stream_shows_every_frame_at_the_times_of_the_reader(disordered, name):
    with VideoReader(disordered[name]) as video:
        known_s = video.frame_times_s()
    for from_s in (None, 1.0):
        times_s, numbers = streamed(disordered[name], from_s)
        assert numbers == list(range(numbers[0], COUNT))
        np.testing.assert_allclose(times_s, known_s[numbers[0] :])


def test_a_stream_that_begins_below_0_is_shown_whole(tmp_path):
    times_s, numbers = streamed(write_wrapping_ts(tmp_path / "wrap.ts"))
    assert numbers == list(range(COUNT))
    np.testing.assert_allclose(times_s, np.arange(COUNT) / 25, atol=1e-9)


LISTS = {
    "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
    "m3u8.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "m3u8.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nsecret.mp4\n#EXT-X-ENDLIST\n",
    "sdp.mp4": "v=0\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_files_opens_none(tmp_path, name):
    """The neighbour is a pipe that no process writes to: whoever opened it would wait for ever."""
    os.mkfifo(tmp_path / "secret.mp4")
    (tmp_path / name).write_text(LISTS[name])
    for opening in ("reader import VideoReader", "stream import VideoStream"):
        opens = f"from detection.video.{opening} as Opens; import sys; Opens(sys.argv[1])"
        done = subprocess.run(
            [sys.executable, "-c", opens, str(tmp_path / name)],
            cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert f"{name}: not a video, or cut short (" in done.stderr
        assert "UserError" in done.stderr.splitlines()[-1]


def test_an_open_gop_of_hevc_cut_without_encoding_is_numbered_as_players_show_it(tmp_path):
    params = "open-gop=1:keyint=20:min-keyint=20:scenecut=0:bframes=3:b-adapt=0:log-level=error"
    encoder, packets = encoded("libx265", COUNT, gop=20, options={"x265-params": params})
    cut = [position for position, packet in enumerate(packets) if packet.is_keyframe][1]
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets][cut:]
    first = rows[0][1]
    leading = sum(row[1] < first for row in rows)
    assert leading, "frames that lean on those before the cut"
    path = mux(tmp_path / "cut.ts", encoder, rows, codec="libx265")
    for damage in ("guess", "refuse"):
        with VideoReader(path, damage=damage) as video:
            times_s, counts = video.frame_times_s(), video.frame_counts()
            assert counts.packets == len(rows)
            assert counts.decodable == len(times_s) == len(rows) - leading
            assert video.repairs().opening_packets == leading
            assert numbers_of(video.read(times_s).frames) == list(range(first, COUNT))
            np.testing.assert_allclose(times_s, video.decoded_times_s())
    own_s, numbers = streamed(path)
    assert numbers == list(range(first, COUNT))
    np.testing.assert_allclose(own_s, times_s)


def test_a_stream_that_appears_on_the_way_ends_no_walk(tmp_path):
    encoder, packets = encoded("libx264", COUNT)
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets]
    path = mux(tmp_path / "late.flv", encoder, rows, codec="libx264")
    data, place, tags = path.read_bytes(), 13, 0
    while tags < 30:
        place += 15 + int.from_bytes(data[place + 1 : place + 4], "big")
        tags += 1
    sound = b"\x08\0\0\x05" + data[place + 4 : place + 8] + b"\0\0\0\x2e\0\0\0\0\0\0\0\x10"
    path.write_bytes(data[:place] + sound + data[place:])
    with VideoReader(path) as video:
        times_s = video.frame_times_s()
        assert numbers_of(video.read(times_s).frames) == list(range(COUNT))
    assert streamed(path)[1] == list(range(COUNT))


FULL = """
import resource, signal, sys
import numpy as np
from detection.video.writer import VideoWriter
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3), dtype=np.uint8)
failures = set()
try:
    with VideoWriter(sys.argv[1], width=320, height=240, fps=25) as writer:
        for shift in range(200):  # as one who still has frames in a queue
            try:
                writer.write(np.roll(noise, 31 * shift, 1))
            except Exception as error:
                failures.add(type(error).__name__)
                kept = error
        raise kept
except ValueError as error:
    print(f"refused: {error}")
"""


def test_an_encoder_that_failed_is_not_called_again(tmp_path):
    path = tmp_path / "x.mp4"
    run = [sys.executable, "-c", FULL, str(path)]
    done = subprocess.run(run, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert "cannot be written (File too large)" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_drawn_video_has_the_shape_that_players_show(tmp_path):
    path = tmp_path / "wide.mp4"
    with VideoWriter(path, width=160, height=96, fps=25, shape=Fraction(2)) as writer:
        writer.write(np.zeros((96, 160, 3), np.uint8))
    with VideoReader(path) as video:
        assert displayed_size(video) == (320, 96)


def test_an_encoder_is_not_called_after_its_first_error(tmp_path):
    """It may crash the process: asked for a frame, and asked for what it holds back."""

    class Encoder:
        calls = 0

        def encode(self, frame):
            self.calls += 1
            raise OSError(28, "No space left on device")

    encoder, image = Encoder(), np.zeros((96, 160, 3), np.uint8)

    def write():
        with VideoWriter(tmp_path / "x.mp4", width=160, height=96, fps=25) as writer:
            writer.write(image)
            writer._stream = encoder
            for _ in range(3):
                with pytest.raises(OSError, match="No space left"):
                    writer.write(image)

    with pytest.raises(UserError, match=r"x\.mp4: cannot be written \(No space left on device\)"):
        write()
    assert encoder.calls == 1
    assert not list(tmp_path.iterdir())


def test_a_gap_that_no_mp4_file_can_hold_is_refused_or_becomes_a_second(tmp_path):
    image = np.zeros((96, 160, 3), np.uint8)
    times_s = [0.0, 0.5, LONGEST_GAP_S + 0.5, 2e6, 2e6 + 1]
    path = tmp_path / "x.mp4"
    with (
        pytest.raises(UserError, match="without a frame before 2000000.000 s"),
        VideoWriter(path, width=160, height=96, fps=25) as writer,
    ):
        for time_s in times_s:
            writer.write(image, time_s)
    assert not list(tmp_path.iterdir())
    with (  # in the order of decoding, B-frames widen it
        pytest.raises(UserError, match="frames further apart than an MP4 file can hold"),
        VideoWriter(path, width=160, height=96, fps=25) as writer,
    ):
        for time_s in times_s[:3]:
            writer.write(image, time_s)
    assert not list(tmp_path.iterdir())
    with VideoWriter(path, width=160, height=96, fps=25, closes_gaps=True) as writer:
        for time_s in times_s:
            writer.write(image, time_s)
    with VideoReader(path) as video:
        last_s = LONGEST_GAP_S + 0.5
        np.testing.assert_allclose(
            video.frame_times_s(), [0, 0.5, last_s, last_s + 1, last_s + 2], atol=1e-4
        )
