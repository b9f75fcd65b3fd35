"""Frames that stay YUV: new ones at any size, upright, with a stated matrix; quick key frames."""

from __future__ import annotations

from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
from av.video.frame import VideoFrame
from av.video.reformatter import ColorRange

from detection.drawing.palette import track_color
from detection.drawing.yuv import YuvFrame
from detection.video.frames import FrameScaler, RgbConverter
from detection.video.planes import YuvCoding, assumed_matrix, planes_of
from detection.video.reader import VideoReader
from detection.video.stream import StreamFrame, _Converters
from detection.video.writer import VideoWriter


def a_frame(width, height, *, form="yuv420p", matrix=2, color_range=ColorRange.UNSPECIFIED):
    """Return a frame whose left half is dark."""
    rgb = np.full((height, width, 3), 200, np.uint8)
    rgb[:, : width // 2] = 40
    frame = VideoFrame.from_ndarray(rgb, format="rgb24").reformat(format=form)
    frame.colorspace, frame.color_range = matrix, color_range
    return frame


def streamed(frame, *, pixels=None):
    return StreamFrame(
        0.0, frame.width, frame.height, 0.0, frame if pixels is None else pixels, _Converters()
    )


@pytest.mark.parametrize("size", [(64, 48), (96, 72), (33, 25)])
def test_a_scaled_frame_is_a_new_one(size):
    frame = a_frame(64, 48)
    before = frame.to_ndarray().copy()
    scale = FrameScaler(*size)
    scaled = streamed(frame).yuv(scale)
    assert (scaled.width, scaled.height) == (scale.width, scale.height)
    assert scale.width - size[0] in (0, 1) and scale.width % 2 == scale.height % 2 == 0
    luma = planes_of(scaled)[0]
    assert luma[:, 2].mean() + 100 < luma[:, -3].mean()
    for plane in planes_of(scaled):
        plane[:] = 77
    assert (scaled.to_ndarray() == 77).all()
    assert (frame.to_ndarray() == before).all(), "the decoder's frame is as it was"
    assert frame.colorspace == 2 and frame.color_range == ColorRange.UNSPECIFIED


@pytest.mark.parametrize(
    ("height", "form", "stated", "matrix"),
    [
        (480, "yuv420p", 2, 6),
        (720, "yuv420p", 2, 1),
        (480, "yuv420p", 1, 1),
        (1080, "yuv420p10le", 9, 9),
        (720, "rgb24", 2, 6),
    ],
)
def test_the_matrix_is_stated_as_players_take_the_source(height, form, stated, matrix):
    frame = a_frame(64, height, form=form, matrix=stated)
    assert assumed_matrix(frame) == matrix
    scaled = streamed(frame).yuv(FrameScaler(96, 1080))
    assert scaled.colorspace == matrix and scaled.format.name == "yuv420p"


def test_a_camera_frame_of_bgr_becomes_yuv():
    bgr = np.zeros((48, 64, 3), np.uint8)
    bgr[..., 2] = 255  # red
    scaled = streamed(SimpleNamespace(width=64, height=48), pixels=bgr).yuv(FrameScaler(64, 48))
    red = YuvCoding.of(scaled).yuv((255, 0, 0))
    assert [int(plane[20, 20]) for plane in planes_of(scaled)] == pytest.approx(red, abs=2)


@pytest.mark.parametrize("matrix", [1, 5, 9])
@pytest.mark.parametrize("color_range", [ColorRange.MPEG, ColorRange.JPEG])
def test_colours_drawn_on_planes_are_those_that_are_shown(tmp_path, matrix, color_range):
    source = a_frame(96, 72, matrix=matrix, color_range=color_range)
    frame = streamed(source).yuv(FrameScaler(96, 72))
    canvas = YuvFrame(planes_of(frame), YuvCoding.of(frame))
    for number in range(4):
        canvas.fill(24 * number, 36, 24 * number + 24, 72, track_color(number + 1))
    with VideoWriter.of_segment(tmp_path / "a.mp4", width=96, height=72) as writer:
        writer.write_frame(frame, 0.0)
    with av.open(str(tmp_path / "a.mp4")) as opened:
        shown = next(opened.decode(video=0))
    assert (shown.colorspace, shown.color_range) == (matrix, color_range)
    rgb = RgbConverter()(shown).astype(int)
    for number in range(4):
        there = rgb[54, 24 * number + 12]
        assert np.abs(there - track_color(number + 1)).max() < 12, (number, there)


@pytest.mark.parametrize("fps", [5, 30, 60])
def test_segments_have_a_key_frame_each_thirty_frames_at_any_rate(tmp_path, fps):
    path, frame = tmp_path / "a.mp4", a_frame(64, 48)
    with VideoWriter.of_segment(path, width=64, height=48, shape=Fraction(4, 3)) as writer:
        for number in range(65):
            assert writer.write_frame(streamed(frame).yuv(FrameScaler(64, 48)), number / fps)
    with VideoReader(path) as reader:
        keys = [n for n, packet in enumerate(reader.packets()) if packet.is_keyframe]
        assert keys == [0, 30, 60] and reader.pixel_shape == Fraction(4, 3)
