"""When videos have keyframes: often enough, at frames that are there, up to the end."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numbered_video import write_numbered

from detection.datasets.keyframe_times import (
    INTERVALS_S,
    describe_intervals,
    interval_for,
    keyframe_times,
    regular_times_of,
)
from detection.video.reader import VideoReader


@pytest.mark.parametrize(
    ("seconds", "fps", "interval_s"),
    [
        (60, 25, 1), (10, 25, 1), (9.96, 25, 0.5), (5, 30, 0.5), (2.6, 30, 0.25), (2, 25, 0.2),
        (1.3, 30, 0.1), (1.3, 15, 0.1), (0.5, 30, 0.1), (1.3, 4, 0.25), (3, 1, 1), (9, 0.5, 1),
    ],
)  # fmt: skip
def test_the_interval_follows_from_the_length(seconds, fps, interval_s):
    assert interval_for(np.arange(round(seconds * fps)) / fps) == interval_s


def test_a_clip_of_a_second_has_ten_keyframes_up_to_its_end():
    times_s = np.arange(39) / 30  # 1.3 s
    found = keyframe_times(times_s, interval_for(times_s))
    np.testing.assert_allclose(found, np.arange(13) / 10)
    odd_s = np.arange(39) / 29.97
    assert set(keyframe_times(odd_s, 0.1)) <= set(odd_s) and len(keyframe_times(odd_s, 0.1)) == 13


def test_whole_seconds_are_avas_and_reach_the_last_frame():
    assert keyframe_times(np.arange(301) / 29.97, 1.0).tolist() == list(range(11))
    assert keyframe_times(np.arange(300) / 29.97, 1.0).tolist() == list(range(10))
    assert keyframe_times(900 + np.arange(76) / 25, 1.0).tolist() == [900, 901, 902, 903]


@settings(deadline=None, max_examples=300)
@given(
    st.floats(0, 3000), st.integers(1, 400), st.sampled_from([0.5, 7, 15, 24, 25, 29.97, 30, 60])
)
def test_keyframes_are_frames_often_enough_and_one_is_near_the_end(start_s, count, fps):
    times_s = start_s + np.arange(count) / fps
    every_s = interval_for(times_s)
    found = keyframe_times(times_s, every_s)
    assert every_s in INTERVALS_S and len(found) and (np.diff(found) > 0).all()
    assert times_s[0] - 1e-6 <= found[0] and found[-1] <= times_s[-1] + 1e-6
    assert every_s == 1 or set(found) <= set(times_s)
    assert len(found) == 1 or times_s[-1] - found[-1] < every_s + 0.5 / fps
    if count / fps >= 1.1 and fps >= 15:
        assert len(found) >= 9


def test_every_frame_one_frame_and_no_videos():
    times_s = np.array([0.35, 0.4, 0.45])
    assert keyframe_times(times_s, 0).tolist() == times_s.tolist()
    assert keyframe_times(times_s, 1.0).tolist() == [0.35]
    assert interval_for(times_s[:1]) == 0.1 and keyframe_times(times_s[:1], 0.1).tolist() == [0.35]
    assert describe_intervals([]) == ""
    said = describe_intervals([1, 0.1, 1])
    assert said == "keyframes: 2 videos every 1 s, 1 videos every 0.1 s"


def test_a_long_video_is_not_read_whole(tmp_path, monkeypatch):
    write_numbered(tmp_path / "a.mp4", [i / 5 for i in range(75)], fps=5)
    write_numbered(tmp_path / "b.mp4", [i / 10 for i in range(20)], fps=10)
    with VideoReader(tmp_path / "b.mp4") as short:
        times_s, every_s = regular_times_of(short)
        assert every_s == 0.2 and times_s.tolist() == pytest.approx(np.arange(10) / 5)
        assert regular_times_of(short, 0)[0].tolist() == pytest.approx(np.arange(20) / 10)
    monkeypatch.setattr(VideoReader, "frame_times_s", lambda self: pytest.fail("read whole"))
    with VideoReader(tmp_path / "a.mp4") as long:
        times_s, every_s = regular_times_of(long)
    assert every_s == 1 and times_s.tolist() == list(range(15))
