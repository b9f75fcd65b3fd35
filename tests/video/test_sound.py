"""Sound that is copied beside joined video: in step with the frames, or left out with a reason."""

from __future__ import annotations

import av
import numpy as np
import pytest
from sounding_video import heard_s, seen_s, write_sounding

from detection.video.sound import Sound
from detection.video.stream import VideoStream, join_videos
from detection.video.writer import VideoWriter


def write_parts(video, folder, *stretches):
    """Write the frames of each (start, end) as a file to join."""
    paths = []
    for number, (start_s, end_s) in enumerate(stretches):
        with VideoStream(video) as stream:
            frames = [f for f in stream.frames() if start_s <= f.time_s < end_s]
        path = folder / f"part{number}.mp4"
        height, width = frames[0].rgb().shape[:2]
        with VideoWriter(path, width=width, height=height, fps=10, b_frames=False) as writer:
            for frame in frames:
                writer.write(frame.rgb(), frame.time_s)
        paths.append(path)
    return paths


def in_step(path, count):
    heard, seen = heard_s(path), seen_s(path)
    assert len(heard) == len(seen) == count
    assert heard == pytest.approx(seen, abs=0.03)


@pytest.mark.parametrize(
    ("name", "codec", "start_s"),
    [
        ("a.mp4", "aac", 0.0),
        ("late.mp4", "aac", 20.0),
        ("a.ts", "aac", 0.0),
        ("a.mkv", "libopus", 0.0),
        ("a.mp4", "libmp3lame", 0.0),
        ("a.mkv", "ac3", 3.0),
        ("a.mkv", "flac", 0.0),
    ],
)
def test_sound_is_copied_and_stays_with_its_frames(tmp_path, name, codec, start_s):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no encoder {codec}")
    video = write_sounding(tmp_path / name, codec=codec, start_s=start_s)
    parts = write_parts(video, tmp_path, (0, start_s + 4), (start_s + 4, 99))
    assert join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video)) == ""
    in_step(video, 4)
    in_step(tmp_path / "joined.mp4", 4)
    with av.open(str(video)) as was, av.open(str(tmp_path / "joined.mp4")) as now:
        copied, own = (c.streams.audio[0].codec_context for c in (now, was))
        assert copied.codec.canonical_name == own.codec.canonical_name
        assert (copied.rate, copied.layout.name) == (own.rate, own.layout.name)


def test_a_stretch_has_its_own_sound_and_no_more(tmp_path):
    """Frames from 2.5 to 6 s, without those from 4 to 5 s."""
    video = write_sounding(tmp_path / "a.mp4", beeps_s=(1.0, 3.0, 5.5, 7.0))
    parts = write_parts(video, tmp_path, (2.5, 4), (5, 6))
    assert join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video)) == ""
    in_step(tmp_path / "joined.mp4", 2)
    with av.open(str(tmp_path / "joined.mp4")) as joined:
        times_s = [float(frame.time) for frame in joined.decode(audio=0)]
    assert times_s[0] == pytest.approx(2.5, abs=0.03) and times_s[-1] == pytest.approx(6, abs=0.2)


def test_sound_lies_beside_its_frames_in_the_file(tmp_path):
    """Players read a file from front to back: FFmpeg alone would hold back 10 s at most."""
    video = write_sounding(tmp_path / "a.mp4", seconds=30, beeps_s=(1.0,))
    parts = write_parts(video, tmp_path, (0, 12), (12, 99))
    assert join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video)) == ""
    with av.open(str(tmp_path / "joined.mp4")) as joined:
        packets = [packet for packet in joined.demux() if packet.dts is not None]
    packets.sort(key=lambda packet: packet.pos)
    times_s = [float(packet.dts * packet.time_base) for packet in packets]
    assert np.abs(np.diff(times_s)).max() < 1.2


def test_sound_is_shifted_as_the_frames_are(tmp_path):
    video = write_sounding(tmp_path / "a.mp4")
    parts = write_parts(video, tmp_path, (0, 99))
    assert join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video, shift_s=0.5)) == ""
    assert heard_s(tmp_path / "joined.mp4") == pytest.approx([1.5, 3.5, 6.0, 7.5], abs=0.03)


def test_what_an_mp4_file_cannot_hold_is_left_out_and_named(tmp_path):
    video = write_sounding(tmp_path / "a.mkv", codec="pcm_s16le")
    parts = write_parts(video, tmp_path, (0, 99))
    reason = join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video))
    assert "pcm_s16le" in reason
    assert heard_s(tmp_path / "joined.mp4") == [] and len(seen_s(tmp_path / "joined.mp4")) == 4


def test_sound_that_cannot_be_read_or_is_not_there_costs_no_frame(tmp_path, monkeypatch):
    video = write_sounding(tmp_path / "a.mp4")
    parts = write_parts(video, tmp_path, (0, 99))
    silent = join_videos(parts, tmp_path / "joined.mp4", sound=Sound(parts[0]))
    assert silent == "the file no longer has any"

    def broken(*_):
        raise av.error.InvalidDataError(1, "Invalid data", None)
        yield

    monkeypatch.setattr("detection.video.sound.packets_of", broken)
    reason = join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video))
    assert reason == "it cannot be read (Invalid data)"
    assert len(seen_s(tmp_path / "joined.mp4")) == 4 and heard_s(tmp_path / "joined.mp4") == []


def test_times_that_fall_back_are_left_out(tmp_path, monkeypatch):
    from detection.video import sound

    video = write_sounding(tmp_path / "a.mp4")
    parts = write_parts(video, tmp_path, (0, 99))
    read = sound.packets_of

    def falling(container, stream):
        packets = [p for p in read(container, stream) if p.pts is not None]
        packets[100].pts = packets[98].pts
        yield from packets

    monkeypatch.setattr(sound, "packets_of", falling)
    reason = join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video))
    assert reason == "its times do not ascend" and heard_s(tmp_path / "joined.mp4") == []


def test_a_shortened_gap_leaves_the_sound_out(tmp_path):
    video = write_sounding(tmp_path / "a.mp4", seconds=2, beeps_s=(1.0,))
    parts = write_parts(video, tmp_path, (0, 99))
    with VideoStream(video) as stream:
        frame = next(stream.frames()).rgb()
    with VideoWriter(tmp_path / "day.mp4", width=96, height=72, fps=10, b_frames=False) as writer:
        writer.write(frame, 23_000.0)
    with VideoWriter(tmp_path / "two.mp4", width=96, height=72, fps=10, b_frames=False) as writer:
        writer.write(frame, 95_000.0)
    parts += [tmp_path / "day.mp4", tmp_path / "two.mp4"]
    reason = join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video))
    assert reason == "a stretch without frames is shortened"
    assert heard_s(tmp_path / "joined.mp4") == []


def test_a_stream_says_whether_there_is_sound(tmp_path):
    video = write_sounding(tmp_path / "a.mp4", seconds=1, beeps_s=())
    [silent] = write_parts(video, tmp_path, (0, 99))
    for path, expected in ((video, True), (silent, False)):
        with VideoStream(path) as stream:
            assert stream.has_sound is expected


@pytest.mark.real_data
def test_the_sound_of_a_real_video_is_the_same_at_the_same_times(tmp_path, real_data):
    video = real_data / "clips" / "archery.mp4"
    parts = write_parts(video, tmp_path, (2, 4), (4, 6))
    assert join_videos(parts, tmp_path / "joined.mp4", sound=Sound(video)) == ""
    moments_s = np.arange(3, 5, 1 / 44100)
    waves = []
    for path in (video, tmp_path / "joined.mp4"):
        with av.open(str(path)) as container:
            frames = [(frame.time, frame.to_ndarray()[0]) for frame in container.decode(audio=0)]
        times_s = [time_s + np.arange(len(wave)) / 44100 for time_s, wave in frames]
        wave = np.concatenate([wave for _, wave in frames])
        waves.append(np.interp(moments_s, np.concatenate(times_s), wave))
    assert np.abs(waves[0]).max() > 0.1 and np.abs(waves[0] - waves[1]).max() < 1e-4
