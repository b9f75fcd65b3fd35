"""Draws the annotated video segment by segment: one thread draws, another encodes.

Legend: frames stay YUV from the decoder to the encoder; times are seconds on the video's own clock.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np

from detection.drawing.actors import Actor, ShownLabel
from detection.drawing.cards import Area
from detection.drawing.draw import draw_actors
from detection.drawing.paint import TEXT, Style, darken
from detection.drawing.text import draw_text, fit
from detection.drawing.timeline import Placed
from detection.drawing.yuv import Canvas, YuvFrame
from detection.pipeline.postprocess import ShownKeyframe
from detection.pipeline.recording import LARGEST_SHORT_SIDE_PX
from detection.pipeline.timing import StageClock
from detection.video.frames import FrameScaler, VideoFrame, scaled_size
from detection.video.planes import YuvCoding, planes_of
from detection.video.stream import Gap, StreamFrame
from detection.video.writer import VideoWriter

_QUEUED_SEGMENTS = 2
_QUEUED_FRAMES = 4  # between the drawing and the encoding thread
_MOST_LABELS = 5  # per person drawn; the tables have all
# Smaller sources are scaled up to it before drawing, so that letters are sharp.
LEAST_SHORT_SIDE_PX = 720
_LONGEST_PX = 1920  # not by so much that the longer side exceeds it

FrameWalk = Iterator[StreamFrame | Gap]


@dataclass(frozen=True)
class DrawingJob:
    """A segment to draw.

    keyframes: those in it and, if any, one more on either side.
    walk: yields its frames, from `start_s` (or before) to `end_s` (or beyond).
    """

    path: Path
    start_s: float
    end_s: float
    keyframes: Sequence[ShownKeyframe]
    walk: Callable[[float], FrameWalk]


class AnnotatedVideoWriter:
    """Draws jobs in order in one thread; `submit` blocks while two are queued.

    names: class names.
    interval_s: between keyframes; boxes are interpolated between keyframes at most 1.5 times this
        apart.
    caption: a line drawn in small letters at the bottom edge; None: no line.
    """

    def __init__(
        self,
        names: Sequence[str],
        interval_s: float,
        clock: StageClock,
        *,
        caption: str | None = None,
    ) -> None:
        self._names, self._interval_s, self._clock = names, interval_s, clock
        self._caption = caption
        self._places: dict[int, int] = {}
        self._frames = _Frames()
        self._thread = ThreadPoolExecutor(1, "annotated video")
        self._waiting: deque[Future[None]] = deque()

    def submit(self, job: DrawingJob) -> None:
        """Queue a job; raises the error of an earlier one."""
        self._waiting.append(self._thread.submit(self._draw, job))
        if len(self._waiting) > _QUEUED_SEGMENTS:
            self._waiting.popleft().result()

    def finish(self) -> None:
        """Draw all queued jobs and end the thread; raises the error of a job."""
        self.close()
        for drawn in self._waiting:
            drawn.result()

    def close(self) -> None:
        """Draw the queued jobs and end the thread."""
        self._thread.shutdown()

    def _draw(self, job: DrawingJob) -> None:
        drawn = TrackPlaces(job.keyframes, self._names, self._interval_s)
        frames = self._frames.between(job)
        with ExitStack() as ending:
            encoder: _EncodedSegment | None = None
            while True:
                with self._clock.measure("film: decode"):
                    item = next(frames, None)
                    if item is None:
                        break
                    short = min(LARGEST_SHORT_SIDE_PX, item.width, item.height)
                    width, height = scaled_size(item.width, item.height, short)
                    size = drawn_size((height, width), item.pixel_shape)
                    if encoder is None:
                        encoder = ending.enter_context(_EncodedSegment(job.path, size, self._clock))
                    elif size != encoder.size:
                        continue  # the source changed its frame size: the file keeps its own
                    frame = item.yuv(encoder.scale)
                with self._clock.measure("film: draw"):
                    canvas = YuvFrame(planes_of(frame), YuvCoding.of(frame))
                    self._draw_frame(canvas, drawn.at(item.time_s))
                encoder.add(frame, item.time_s)

    def _draw_frame(self, frame: Canvas, people: list[Placed]) -> None:
        style = Style.for_panel(min(frame.shape[:2]))
        strip = [caption_area(frame, style)] if self._caption else []
        draw_actors(
            frame,
            people,
            color=None,
            dashed=False,
            style=style,
            places=self._places,
            numbered=True,
            idle_color=None,
            reserved=strip,
        )
        if self._caption:
            draw_caption(frame, self._caption, style)


def drawn_size(shape: tuple[int, ...], pixel_shape: Fraction | None) -> tuple[int, int]:
    """Return the (width, height) at which a frame of (H, W, ...) is drawn, with square pixels.

    Smaller ones than 720 lines (in portrait: columns) are scaled up to that, both sides even,
    unless the longer side would exceed 1920.

    pixel_shape: width over height of a pixel as players show it; None: 1.
    """
    height, width = shape[:2]
    if pixel_shape is not None:
        width = max(1, round(width * pixel_shape))
    scale = min(LEAST_SHORT_SIDE_PX / min(width, height), _LONGEST_PX / max(width, height))
    if scale <= 1:
        return width, height
    return 2 * round(width * scale / 2), 2 * round(height * scale / 2)


def caption_area(frame: Canvas, style: Style) -> Area:
    """Return where the caption goes: a strip along the bottom edge, in pixels."""
    height, width = frame.shape[:2]
    return np.array([0, max(0, height - round(1.6 * _caption_px(style))), width, height], float)


def draw_caption(frame: Canvas, caption: str, style: Style) -> None:
    """Draw a line of small letters along the bottom edge, shortened to fit."""
    size = _caption_px(style)
    _, top, width, bottom = caption_area(frame, style).astype(int).tolist()
    darken(frame, 0, top, width, bottom - top, share=0.7)
    text = fit(caption, width - 2 * size, size)
    draw_text(frame, text, size, (top + bottom) // 2, size=size, color=TEXT)


def _caption_px(style: Style) -> int:
    return max(11, round(0.7 * style.text_px))


class _EncodedSegment:
    """A video file that is encoded in its own thread while the next frames are drawn.

    A context manager; `add` blocks while the queue is full, and raises the error of an earlier
    frame.

    size: (width, height) at which frames are drawn; `scale` makes frames of it.
    """

    def __init__(self, path: Path, size: tuple[int, int], clock: StageClock) -> None:
        self.size, self.scale = size, FrameScaler(*size)
        self._writer = VideoWriter.of_segment(
            path, width=self.scale.width, height=self.scale.height
        )
        self._clock = clock
        self._waiting: deque[Future[None]] = deque()

    def add(self, frame: VideoFrame, time_s: float) -> None:
        """Queue a frame."""
        self._waiting.append(self._thread.submit(self._encode, frame, time_s))
        if len(self._waiting) > _QUEUED_FRAMES:
            self._waiting.popleft().result()

    def _encode(self, frame: VideoFrame, time_s: float) -> None:
        with self._clock.measure("film: encode"):
            self._writer.write_frame(frame, time_s)

    def __enter__(self) -> _EncodedSegment:
        self._thread = ThreadPoolExecutor(1, "video encoder")
        self._writer.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Waits for the queued frames; after an error drops them.
        self._thread.shutdown(cancel_futures=error is not None)
        if error is None:
            error = next((e for future in self._waiting if (e := future.exception())), None)
        with self._clock.measure("film: encode"):
            self._writer.__exit__(None if error is None else type(error), error, trace)


class _Frames:
    """Reads the frames of successive jobs, without seeking if one starts where the last ended.

    Between two jobs it keeps the one frame that was read but belongs to the next.
    """

    def __init__(self) -> None:
        self._walk: FrameWalk | None = None
        self._source: Callable[[float], FrameWalk] | None = None
        self._kept: StreamFrame | None = None
        self._reached_s = -np.inf

    def between(self, job: DrawingJob) -> Iterator[StreamFrame]:
        """Yield the frames of a job."""
        if self._walk is None or self._source != job.walk or self._reached_s != job.start_s:
            self._walk, self._source, self._kept = job.walk(job.start_s), job.walk, None
        if self._kept is not None:
            if self._kept.time_s >= job.end_s:
                self._reached_s = job.end_s
                return
            yield self._kept
            self._kept = None
        for item in self._walk:
            if isinstance(item, Gap) or item.time_s < max(0.0, job.start_s):
                continue
            if item.time_s >= job.end_s:
                self._kept = item
                break
            yield item
        self._reached_s = job.end_s


class TrackPlaces:
    """Boxes at any time, interpolated linearly between the keyframes of a track."""

    def __init__(
        self, keyframes: Sequence[ShownKeyframe], names: Sequence[str], interval_s: float
    ) -> None:
        self._times_s = np.array([shown.keyframe.time_s for shown in keyframes])
        self._keyframes, self._names = keyframes, names
        self._longest_s, self._hold_s = 1.5 * interval_s, interval_s / 2
        self._known: dict[int, dict[int, Actor]] = {}

    def at(self, time_s: float) -> list[Placed]:
        """Return the people at a time, by track."""
        after = int(np.searchsorted(self._times_s, time_s, side="right"))
        before = after - 1
        first = self._people(before) if before >= 0 else {}
        second = self._people(after) if after < len(self._times_s) else {}
        found: list[Placed] = []
        start_s = self._times_s[before] if before >= 0 else -np.inf
        end_s = self._times_s[after] if after < len(self._times_s) else np.inf
        linked = end_s - start_s <= self._longest_s
        for track in sorted(first.keys() | second.keys()):
            a, b = first.get(track), second.get(track)
            if linked and a is not None and b is not None:
                share = (time_s - start_s) / (end_s - start_s)
                labels = a.labels if share <= 0.5 else b.labels
                found.append(
                    Placed(Actor((1 - share) * a.box_01 + share * b.box_01, labels), track)
                )
            elif a is not None and time_s - start_s <= self._hold_s:
                found.append(Placed(a, track))
            elif b is not None and a is None and end_s - time_s < self._hold_s:
                found.append(Placed(b, track))
        return found

    def _people(self, position: int) -> dict[int, Actor]:
        """Return the people of a keyframe by track."""
        if position not in self._known:
            self._known[position] = self._labelled(self._keyframes[position])
        return self._known[position]

    def _labelled(self, shown: ShownKeyframe) -> dict[int, Actor]:
        people: dict[int, Actor] = {}
        for row, track in enumerate(shown.keyframe.track.tolist()):
            scores = shown.compared.scores[row]
            columns = sorted(shown.doing[row], key=lambda c: (-float(scores[c]), c))
            columns = columns[:_MOST_LABELS]
            labels = tuple(ShownLabel(self._names[c], float(scores[c])) for c in columns)
            people[track] = Actor(shown.keyframe.boxes_01[row].astype(np.float64), labels)
        return people
