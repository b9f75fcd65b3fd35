"""Records frames as H.264 segments while the networks work.

Sources that cannot be read twice (live ones, pipes) are drawn and shown of these; of files whose
encoded frames browsers would not play or seek well the review page shows them.
"""

from __future__ import annotations

import math
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from itertools import chain, groupby
from pathlib import Path

from detection.pipeline.segments import SegmentsFolder
from detection.pipeline.timing import StageClock
from detection.video.frames import FrameScaler, scaled_size
from detection.video.stream import Gap, StreamFrame
from detection.video.writer import VideoWriter

LARGEST_SHORT_SIDE_PX = 720
_FEWEST_QUEUED = 4
# Frames wait as they were decoded: of a file the reader runs ahead of the encoder by so much.
_QUEUED_BYTES = 48 << 20


def write_recording(
    path: Path, items: Iterable[StreamFrame | Gap], *, start_s: float, end_s: float
) -> bool:
    """Write the frames of one walk from `start_s` to before `end_s`, at their own times.

    Gaps stay gaps. False, and nothing is written, where no frame can be read.
    """
    walk = (item for item in items if isinstance(item, StreamFrame))
    frames = (frame for frame in _until(walk, end_s) if frame.time_s >= max(0.0, start_s))
    first = next(frames, None)
    if first is None:
        return False
    _write(path, chain([first], frames), _size_of(first.width, first.height))
    return True


class Recorder:
    """Writes the frames from `start_s` to before `end_s` in its own thread, segment by segment.

    A segment is called the tail until it is whole; one that is whole already stays as it is.

    size_px: (width, height) of the source's frames as displayed; None: unknown before the first.
    resumes: earlier segments may be there; `fill` writes those that are not.
    may_drop: drop frames when the queue is full, in place of waiting.
    """

    def __init__(
        self,
        folder: SegmentsFolder,
        segment_s: float,
        *,
        start_s: float,
        end_s: float,
        size_px: tuple[int, int] | None,
        resumes: bool,
        may_drop: bool,
        clock: StageClock,
    ) -> None:
        self._folder, self._segment_s, self._may_drop = folder, segment_s, may_drop
        self._start_s, self._end_s, self._resumes = start_s, end_s, resumes
        self._clock = clock
        self._size = None if size_px is None else _size_of(*size_px)
        ahead = 0 if size_px is None else _QUEUED_BYTES * 2 // (3 * size_px[0] * size_px[1])
        self._frames: queue.Queue[StreamFrame | bool] = queue.Queue(max(_FEWEST_QUEUED, ahead))
        self._changed = threading.Condition()
        self._whole: list[Path] = []
        self._began = math.inf  # the number of the first segment
        self._is_cut = False
        self._ended = False
        self._error: BaseException | None = None
        self.dropped = 0
        self._thread = threading.Thread(target=self._work, name="recorder", daemon=True)
        self._thread.start()

    def put(self, frame: StreamFrame) -> None:
        """Queue a frame; raises the error of an earlier one."""
        if self._error is not None:
            raise self._error
        if not self._start_s <= frame.time_s < self._end_s:
            return
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

    def close(self, *, is_cut: bool = False) -> None:
        """Write the queued frames and end the thread.

        is_cut: more frames of the last segment are to come when the run goes on.
        """
        if self._thread.is_alive():
            self._frames.put(not is_cut)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def fill(self, walk: Callable[[float], Iterator[StreamFrame | Gap]]) -> None:
        """Write the segments that an earlier run was to write and has not; after `close`.

        walk: yields the source's frames from a time (or before) on.
        """
        if not self._resumes:
            return
        first = int(max(0.0, self._start_s) // self._segment_s)
        behind = int(min(self._began, self._folder.saved))
        missing = [
            number
            for number in range(first, behind + 1)
            if not self._folder.path(number, ".clean.mp4").is_file()
        ]
        if not missing:
            return
        from_s = max(self._start_s, missing[0] * self._segment_s)
        frames = (item for item in walk(from_s) if isinstance(item, StreamFrame))
        end_s = min(self._end_s, (missing[-1] + 1) * self._segment_s)
        for number, part in groupby(_until(frames, end_s), self._number):
            later = (frame for frame in part if frame.time_s >= from_s)
            first_frame = next(later, None) if number in missing else None
            if first_frame is not None:
                self._write(self._folder.path(number, ".clean.mp4"), first_frame, later)

    def _work(self) -> None:
        try:
            self._record()
        except BaseException as error:  # raised again by the next `put`
            self._error = error
            while not isinstance(self._frames.get(), bool):
                pass
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()

    def _queued(self) -> Iterator[StreamFrame]:
        while not isinstance(item := self._frames.get(), bool):
            yield item
        self._is_cut = not item

    def _record(self) -> None:
        for number, part in groupby(self._queued(), self._number):
            self._began = min(self._began, number)
            path = self._folder.path(number, ".clean.mp4")
            frames = iter(part)
            frame = next(frames)
            begins_s = max(self._start_s, number * self._segment_s)
            is_late = self._resumes and number == self._began and frame.time_s > begins_s
            if is_late or path.is_file():
                continue  # it does not begin with its first frame, or is there
            tail = self._folder.path(None, ".clean.mp4")
            self._write(tail, frame, frames)
            if self._is_cut:
                return
            tail.replace(path)
            with self._changed:
                self._whole.append(path)
                self._changed.notify_all()

    def _write(self, path: Path, first: StreamFrame, others: Iterator[StreamFrame]) -> None:
        self._size = self._size or _size_of(first.width, first.height)
        _write(path, chain([first], others), self._size, self._clock)

    def _number(self, frame: StreamFrame) -> int:
        return int(max(0.0, frame.time_s) // self._segment_s)


def _until(frames: Iterable[StreamFrame], end_s: float) -> Iterator[StreamFrame]:
    for frame in frames:
        if frame.time_s >= end_s:
            return
        yield frame


def _size_of(width: int, height: int) -> tuple[int, int]:
    return scaled_size(width, height, min(LARGEST_SHORT_SIDE_PX, width, height))


def _write(
    path: Path,
    frames: Iterator[StreamFrame],
    size: tuple[int, int],
    clock: StageClock | None = None,
) -> None:
    """Write frames as (width, height); those whose shape is another are left out."""
    clock = clock or StageClock()
    first, scale = next(frames), FrameScaler(*size)
    with VideoWriter.of_segment(
        path, width=scale.width, height=scale.height, shape=first.pixel_shape
    ) as writer:
        for frame in chain([first], frames):
            with clock.measure("record"):
                if _size_of(frame.width, frame.height) == size:
                    writer.write_frame(frame.yuv(scale), frame.time_s)
