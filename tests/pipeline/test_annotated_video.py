"""The annotated video: large enough for letters, one colour a track, a caption that stays free."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from tiny_pipeline import write_squares

from detection.drawing import draw as draw_module
from detection.drawing.paint import TEXT, Style
from detection.drawing.palette import track_color
from detection.pipeline.annotated_video import (
    AnnotatedVideoWriter,
    DrawingJob,
    caption_area,
    draw_caption,
    drawn_size,
)
from detection.pipeline.postprocess import ShownKeyframe
from detection.pipeline.timing import StageClock
from detection.pipeline.writers import write_page
from detection.structures import LabelMap
from detection.tracking.events import TrackedKeyframe
from detection.video.reader import VideoReader
from detection.video.stream import VideoStream

NAMES = ("walk", "an action with a rather long name")


@pytest.mark.parametrize(
    ("width", "height", "pixel_shape", "size"),
    [
        (320, 240, None, (960, 720)),
        (240, 320, None, (720, 960)),
        (321, 240, None, (964, 720)),
        (768, 432, None, (1280, 720)),
        (96, 72, Fraction(2), (1920, 720)),
        (1280, 720, None, (1280, 720)),
        (721, 1281, None, (721, 1281)),  # not small: written as before
        (4000, 100, None, (4000, 100)),
        (400, 20, None, (1920, 96)),  # no longer than 1920
        (1, 1, None, (720, 720)),
    ],
)
def test_small_videos_are_drawn_at_720_lines(width, height, pixel_shape, size):
    assert drawn_size((height, width, 3), pixel_shape) == size


def draw(video, path, boxes, scores, **more):
    """Draw standing people on a video; `scores` of (person, class)."""

    def walk(from_s):
        with VideoStream(video, live=False) as stream:
            yield from stream.frames(from_s=from_s)

    scores = np.array(scores, np.float32).reshape(len(boxes), len(NAMES))
    shown = []
    for time_s in (0.0, 0.5, 1.0):
        keyframe = TrackedKeyframe(
            time_s,
            np.arange(1, len(boxes) + 1),
            np.array(boxes, np.float32).reshape(-1, 4),
            np.ones(len(boxes), np.float32),
            scores,
        )
        doing = tuple(frozenset(np.flatnonzero(row > 0.3).tolist()) for row in scores)
        shown.append(ShownKeyframe(keyframe, doing))
    writer = AnnotatedVideoWriter(NAMES, 0.5, StageClock(), **more)
    writer.submit(DrawingJob(path, 0.0, 1.0, shown, walk))
    writer.finish()
    with VideoReader(path) as reader:
        return reader.read([0.5]).frames[0].permute(1, 2, 0).numpy().astype(int)


def near(frame, color):
    return np.abs(frame - np.array(color)).max(axis=2) < 40


@pytest.mark.parametrize("size", [(96, 72), (72, 96)])
def test_people_are_drawn_in_their_colours_on_a_video_that_is_scaled_up(tmp_path, size):
    video = write_squares(tmp_path / "a.mp4", seconds=1, size=size)
    boxes = [(0.02, 0.5, 0.3, 0.98), (0.7, 0.5, 0.98, 0.98)]
    frame = draw(video, tmp_path / "drawn.mp4", boxes, [[0.9, 0.5], [0.0, 0.0]])
    height, width = frame.shape[:2]
    assert min(width, height) == 720 and width % 2 == height % 2 == 0
    assert width / height == pytest.approx(size[0] / size[1], rel=0.02)
    lower = frame[int(0.55 * height) :]
    first, second = near(lower, track_color(1)), near(lower, track_color(2))
    assert first[:, : width // 2].sum() > 500 and first[:, width // 2 :].sum() < 50
    # Without a label a person keeps the colour.
    assert second[:, width // 2 :].sum() > 500 and second[:, : width // 2].sum() < 50


def test_nobody_and_no_caption_leave_the_frame_as_it_was(tmp_path):
    video = write_squares(tmp_path / "a.mp4", seconds=1)
    frame = draw(video, tmp_path / "drawn.mp4", [], [])
    with VideoReader(video) as reader:
        own = reader.read([0.5]).frames[0].permute(1, 2, 0).numpy().astype(int)
    assert np.abs(frame[4::10, 5::10] - own).mean() < 12


def test_a_caption_is_a_small_line_at_the_bottom_edge_apart_from_labels(tmp_path, monkeypatch):
    lowest = []
    paint = draw_module.draw_card

    def noted(frame, corner, card, **more):
        lowest.append(corner[1] + card.height)
        paint(frame, corner, card, **more)

    monkeypatch.setattr(draw_module, "draw_card", noted)
    video = write_squares(tmp_path / "a.mp4", seconds=1)
    boxes = [(0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)]
    caption = "Kinetics labels, not trained on persons " * 9
    frame = draw(video, tmp_path / "drawn.mp4", boxes, [[0.9, 0.5]] * 2, caption=caption)
    plain = np.zeros((720, 960, 3), np.uint8)
    style = Style.for_panel(720)
    area = caption_area(plain, style)
    draw_caption(plain, caption, style)
    assert area[1] > 680 and area[3] == 720 and (plain[: int(area[1])] == 0).all()
    assert len(lowest) == 20 and max(lowest) <= area[1]
    letters = (plain == np.array(TEXT)).all(axis=2)
    assert letters.sum() > 500 and not letters[:, 950:].any(), "cut to the width"
    assert (frame[letters].min(axis=1) > 150).mean() > 0.9, "above the boxes"


@pytest.mark.parametrize("caption", ["", "a\nb\x1b[31m", "x" * 5000])
def test_any_caption_is_one_line(caption):
    frame = np.full((72, 96, 3), 90, np.uint8)
    draw_caption(frame, caption, Style.for_panel(72))
    assert (frame[:48] == 90).all() and (frame[-1] < 60).all()


def test_lines_for_the_top_of_the_page_reach_it(tmp_path):
    """With nobody in the video; without lines the page has none."""
    video = write_squares(tmp_path / "out" / "a.mp4", seconds=1)
    networks = SimpleNamespace(
        label_map=LabelMap(NAMES, (1, 2), None, {}), thresholds=np.array([0.5, 0.5])
    )
    for notes in ((), ("Kinetics labels, not trained on persons",)):
        page = write_page(
            tmp_path / "out",
            "a",
            "a.mp4",
            networks,
            [],
            goes_on=1.0,
            threshold=0.5,
            sized_as=video,
            notes=notes,
        )
        head = re.search(r'id="review-data">(.*?)</script>', page.read_text("utf-8"))[1]
        assert json.loads(head)["notes"] == list(notes)
