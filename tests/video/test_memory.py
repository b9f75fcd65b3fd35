"""Frames from memory, and what may be given as a source: each wrong kind is named in one line."""

from __future__ import annotations

import io
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_pipeline import write_squares

from detection.errors import UserError
from detection.video.memory import FrameStream, open_source
from detection.video.stream import VideoStream

BLACK = np.zeros((48, 64, 3), np.uint8)


def refused(source) -> str:
    """Return the one line by which a source is refused, wherever in it the fault is."""
    with pytest.raises(UserError) as caught, open_source(source) as stream:
        list(stream.frames())
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 320
    return str(caught.value)


def test_frames_come_one_by_one_as_they_were_given():
    taken = []

    def frames():
        buffer = np.zeros((48, 64, 3), np.uint8)
        for number in range(5):
            taken.append(number)
            buffer[:] = (10 * number, 100, 200)  # the same array again
            yield number / 10, buffer

    with open_source(frames()) as stream:
        assert isinstance(stream, FrameStream) and not stream.can_seek and not stream.is_live
        assert taken == [0] and stream.frame_size() == (64, 48), "the first is there at once"
        walk = stream.frames()
        kept = [next(walk), next(walk)]
        assert taken == [0, 1]
        kept += walk
    for number, frame in enumerate(kept):
        assert (frame.time_s, frame.width, frame.height) == (number / 10, 64, 48)
        assert (frame.rgb() == (10 * number, 100, 200)).all(), "overwritten by a later one"
        assert frame.rgb(24).shape == (24, 32, 3)
    assert taken == [0, 1, 2, 3, 4]


def test_views_into_other_arrays_and_numbers_of_numpy_are_fine():
    bgr = np.zeros((48, 64, 3), np.uint8)
    bgr[..., 0] = 200
    items = [(np.float32(0), bgr[..., ::-1]), [Fraction(1, 3), bgr[::-1, :, ::-1]], (1, BLACK)]
    with open_source(items) as stream:
        frames = list(stream.frames())
    assert [frame.time_s for frame in frames] == [0, 1 / 3, 1]
    assert (frames[0].rgb() == (0, 0, 200)).all() and (frames[1].rgb() == (0, 0, 200)).all()


def test_the_iterator_stays_its_owners():
    frames = ((number, BLACK) for number in range(9))
    with open_source(frames) as stream:
        next(stream.frames())
    assert next(frames)[0] == 1, "the first was taken, the rest is there"


def test_an_iterator_that_nobody_else_has_is_let_go_with_the_stream():
    ended = []

    def camera():
        try:
            yield 0, BLACK
            yield 1, BLACK
        finally:
            ended.append("released")

    with open_source(camera()) as stream:
        next(stream.frames())
        assert not ended
    assert ended == ["released"] and list(stream.frames()) == []


def test_what_is_a_source(tmp_path):
    film = write_squares(tmp_path / "walk.mp4", seconds=1)
    for source in (film, str(film)):
        with open_source(source) as stream:
            assert stream.can_seek and stream.size_px is None
            assert stream.frame_size() == (96, 72) == stream.size_px
            assert len(list(stream.frames())) == 10, "its size was asked for before"
    with VideoStream(film) as stream:
        assert open_source(stream) is stream
    with pytest.raises(UserError, match="^camera 97: cannot be opened"):
        open_source(97)
    with open_source(iter([(0, BLACK)]), live=True) as stream:
        assert stream.is_live


@pytest.mark.parametrize(
    ("source", "named"),
    [
        (None, "None is given"),
        (BLACK, "ndarray (48, 64, 3) of uint8 is given"),
        (np.zeros((9, 48, 64, 3), np.uint8), "ndarray (9, 48, 64, 3) of uint8"),
        (torch.zeros(9, 3, 4, 4), "Tensor (9, 3, 4, 4) of torch.float32"),
        (b"film.mp4", "bytes is given"),
        ({"video": "film.mp4"}, "dict is given"),
        ({1, 2}, "set is given"),
        (2.5, "float 2.5 is given"),
        (True, "bool True is given"),
        (io.BytesIO(b"film"), "BytesIO is given"),
        (object(), "object is given"),
        (-1, "camera -1: a number from 0 on is required"),
        (10**30, "a number from 0 on is required"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_wrong_kind_of_source_is_named(source, named):
    line = refused(source)
    assert named in line and "required" in line
    if not line.startswith("camera "):
        assert line.startswith("source: ") and "iterator of (time_s, frame)" in line


@pytest.mark.parametrize(
    ("items", "line"),
    [
        ([], "none came; at least one frame is required"),
        ([BLACK, BLACK], "frame 1: a pair (time_s, frame) is required, not ndarray (48, 64, 3)"),
        (["a.mp4", "b.mp4"], "frame 1: a pair (time_s, frame) is required, not str 'a.mp4'"),
        ([(0, BLACK), None], "frame 2: a pair (time_s, frame) is required, not None"),
        ([(0, BLACK, 1)], "frame 1: a pair (time_s, frame) is required, not tuple"),
        ([(BLACK, 0)], "frame 1: its time is ndarray (48, 64, 3) of uint8; seconds"),
        ([(None, BLACK)], "frame 1: its time is None; seconds, a number, are required"),
        ([("0", BLACK)], "frame 1: its time is str '0'; seconds"),
        ([(True, BLACK)], "frame 1: its time is bool True; seconds"),
        ([(-0.1, BLACK)], "frame 1: its time is -0.1; seconds from the beginning on, from 0 to"),
        ([(float("nan"), BLACK)], "frame 1: its time is nan; seconds from the beginning on"),
        ([(1.79e9, BLACK)], "frame 1: its time is 1790000000.0; seconds from the beginning on"),
        ([(10**400, BLACK)], "from 0 to 1e+09, are required"),
        ([(1, BLACK), (0.5, BLACK)], "frame 2 at 0.500000 s: the frame before it is at 1.000000"),
        ([(1, BLACK), (1, BLACK)], "frame 2 at 1.000000 s: the frame before it is at 1.000000 s"),
        (
            [(1, BLACK), (1.000004, BLACK)],
            "frame 2 at 1.000004 s: the frame before it is at 1.0000",
        ),
        ([(0, None)], "frame 1 at 0.000 s: None found, a NumPy array of (H, W, 3) uint8 RGB"),
        ([(0, BLACK), (0.5, BLACK.astype(float))], "frame 2 at 0.500 s: ndarray (48, 64, 3) of fl"),
        ([(0, BLACK[..., 0])], "ndarray (48, 64) of uint8 found, (H, W, 3) uint8 RGB is required"),
        ([(0, BLACK.transpose(2, 0, 1))], "ndarray (3, 48, 64) of uint8 found, (H, W, 3) uint8"),
        ([(0, np.zeros((48, 64, 4), np.uint8))], "ndarray (48, 64, 4) of uint8 found, (H, W, 3)"),
        ([(0, BLACK[:0])], "ndarray (0, 64, 3) of uint8 found, (H, W, 3) uint8 RGB is required"),
        ([(0, torch.zeros(48, 64, 3))], "Tensor (48, 64, 3) of torch.float32 found, a NumPy array"),
        ([(0, BLACK), (2, BLACK[:, :32])], "frame 2 at 2.000 s: 32x48 found, 64x48 as in the fi"),
    ],
)
def test_a_wrong_frame_is_named_with_its_number_and_time(items, line):
    assert line in refused(iter(items))
    assert refused(items).startswith("frames from memory: ")


TIMES_S = st.floats(0, 3) | st.integers(0, 20).map(lambda fifth: fifth / 450_000)


@given(st.lists(TIMES_S, min_size=1, max_size=6) | st.lists(TIMES_S, max_size=4).map(sorted))
def test_times_pass_if_and_only_if_a_recording_can_tell_them_apart(times_s):
    times_s = times_s or [0.0]
    ticks = [round(Fraction(time_s) * 90000) for time_s in times_s]
    ascends = all(a < b for a, b in pairwise(ticks)) and all(a < b for a, b in pairwise(times_s))
    small = np.zeros((2, 2, 3), np.uint8)
    try:
        with open_source([(time_s, small) for time_s in times_s]) as stream:
            passed = [frame.time_s for frame in stream.frames()] == times_s
    except UserError:
        passed = False
    assert passed == ascends


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3)), min_size=1, max_size=4))
def test_sizes_pass_if_and_only_if_they_are_one(sizes):
    items = [(n, np.zeros((h, w, 3), np.uint8)) for n, (h, w) in enumerate(sizes)]
    if len(set(sizes)) == 1:
        with open_source(items) as stream:
            assert len(list(stream.frames())) == len(sizes)
    else:
        number = next(n for n, size in enumerate(sizes) if size != sizes[0]) + 1
        assert f"frame {number} at {number - 1:.3f} s: " in refused(items)
