"""Records sources that cannot be read twice (live ones, pipes) as H.264 segments."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from detection.pipeline.segments import SegmentsFolder
from detection.pipeline.timing import StageClock
from detection.video.stream import Gap, StreamFrame
from detection.video.writer import VideoWriter

LARGEST_SHORT_SIDE_PX = 720
_QUEUED_FRAMES = 4


def write_recording(path: Path, items: Iterable[StreamFrame | Gap]) -> None:
    """Write the frames of one walk, from 0 s on, at their own times; gaps stay gaps."""
    frames = (item for item in items if isinstance(item, StreamFrame) and item.time_s >= 0)
    first = next(frames, None)
    assert first is not None, "keyframes were judged, so there are frames"
    short = min(LARGEST_SHORT_SIDE_PX, first.width, first.height)
    height, width = first.rgb(short).shape[:2]
    shape = first.pixel_shape
    with VideoWriter(path, width=width, height=height, fps=30, shape=shape) as writer:
        for frame in chain([first], frames):
            pixels = frame.rgb(short)
            if pixels.shape[:2] == (height, width):
                writer.write(pixels, frame.time_s)


class Recorder:
    """Writes frames in its own thread.

    may_drop: drop frames when the queue is full, in place of waiting.
    """

    def __init__(
        self, folder: SegmentsFolder, segment_s: float, *, may_drop: bool, clock: StageClock
    ) -> None:
        self._folder, self._segment_s, self._may_drop = folder, segment_s, may_drop
        self._clock = clock
        self._frames: queue.Queue[StreamFrame | None] = queue.Queue(_QUEUED_FRAMES)
        self._changed = threading.Condition()
        self._whole: list[Path] = []
        self._ended = False
        self._error: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def put(self, frame: StreamFrame) -> None:
        """Queue a frame; raises the error of an earlier one."""
        if self._error is not None:
            raise self._error
        if self._may_drop and self._frames.full():
            self.dropped += 1
            return
        self._frames.put(frame)

    def recordings_from(self, from_s: float) -> Iterator[Path]:
        """Yield the recorded segments from a time on, each once it is complete."""
        position = 0
        while True:
            with self._changed:
                while position >= len(self._whole) and not self._ended:
                    self._changed.wait()
                if position >= len(self._whole):
                    return
                path = self._whole[position]
            position += 1
            number = int(path.name.split(".")[0])
            if (number + 1) * self._segment_s > from_s:
                yield path

    def close(self) -> None:
        """Write the queued frames and end the thread."""
        if self._thread.is_alive():
            self._frames.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        try:
            self._record()
        except BaseException as error:  # raised again by the next `put`
            self._error = error
            while self._frames.get() is not None:
                pass
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _record(self) -> None:
        kept: StreamFrame | None = self._frames.get()
        size: tuple[int, int] | None = None
        while kept is not None:
            number = int(max(0.0, kept.time_s) // self._segment_s)
            end_s = (number + 1) * self._segment_s
            path = self._folder.path(number, ".clean.mp4")
            short = min(LARGEST_SHORT_SIDE_PX, kept.width, kept.height)
            with self._clock.measure("record"):
                pixels = kept.rgb(short)
            size = size or (pixels.shape[1], pixels.shape[0])
            with VideoWriter(
                path,
                width=size[0],
                height=size[1],
                fps=30,
                shape=kept.pixel_shape,
                b_frames=False,
                closes_gaps=True,
            ) as writer:
                while kept is not None and kept.time_s < end_s:
                    with self._clock.measure("record"):
                        pixels = kept.rgb(short)
                        if (pixels.shape[1], pixels.shape[0]) == size:
                            writer.write(pixels, kept.time_s)
                    kept = self._frames.get()
            with self._changed:
                self._whole.append(path)
                self._changed.notify_all()
