"""Frames one after another from a file, a pipe, an address or a camera, past damage and breaks.

`VideoReader` finds frames by time in files that must be whole; here what comes is taken as it
comes. Times are seconds on the source's own clock; a live source's clock starts at its first frame.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import replacing
from detection.video.frame_order import AscendingTimes
from detection.video.frames import RgbConverter, quarter_turns, retimed, scaled_size
from detection.video.open import open_address, open_bytes, open_file, packets_of, reason_of
from detection.video.reader import PACKING_CODECS, SAME_TIME_S, UNTIMED_FORMATS
from detection.video.repairs import VideoRepairs
from detection.video.writer import MP4_OPTIONS, ticks_to_close

STANDARD_INPUT = "-"
# After damage a decoder goes on from pictures that it has not got, until a key frame or so.
_SETTLED_S = 2.0
# A file's frames further apart than this are a gap, and told as one.
GAP_S = 3600.0
# A live source's time may run ahead of ours by its buffers, not by more.
_JUMP_S = 10.0
_MOST_UNTIMED = 25
_RETRY_S = (0.2, 0.5, 1.0, 2.0)


class _Converters(threading.local):
    """A converter for each thread: swscale's tables are no two threads' at a time."""

    def __init__(self) -> None:
        self.mine = RgbConverter()


@dataclass(frozen=True)
class StreamFrame:
    """One frame.

    time_s: when it is shown.  arrived_s: `time.monotonic()` when it was decoded.
    pixel_shape: width to height of one pixel as displayed, where that is no square.
    """

    time_s: float
    width: int
    height: int
    arrived_s: float
    _picture: VideoFrame | NDArray[np.uint8]
    _convert: _Converters
    pixel_shape: Fraction | None = None

    def rgb(self, short_side: int | None = None) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB, upright, the shorter edge at `short_side` pixels."""
        if isinstance(self._picture, VideoFrame):
            return np.ascontiguousarray(self._convert.mine(self._picture, short_side))
        picture = cv2.cvtColor(self._picture, cv2.COLOR_BGR2RGB)
        size = scaled_size(self.width, self.height, short_side)
        if size != (self.width, self.height):
            picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return np.asarray(picture, np.uint8)


@dataclass(frozen=True)
class Gap:
    """No usable frame between two moments (seconds), and why."""

    start_s: float
    end_s: float
    reason: str


@dataclass(frozen=True)
class _Damage:
    """Data that make no picture. time_s: when it would have been shown, where that is known."""

    reason: str
    time_s: float | None


class VideoStream:
    """A source of frames. A context manager; `frames` walks it once.

    source: a file, an address (`rtsp://...` and whatever else FFmpeg opens), `-` for standard
    input, or a camera's number.  live: it cannot wait and it comes back after a break (None: so for
    addresses and cameras).  reconnect_s: how long a live source may be away.
    Raises `UserError` where it cannot be opened or holds no pictures.
    """

    def __init__(
        self, source: str | Path, *, live: bool | None = None, reconnect_s: float = 30.0
    ) -> None:
        self.source = str(source)
        self.is_camera = self.source.isdecimal() and not Path(self.source).exists()
        self.is_address = "://" in self.source
        self.is_live = (self.is_camera or self.is_address) if live is None else live
        self.can_seek = not (self.is_live or self.is_address or self.source == STANDARD_INPUT)
        self.duration_s: float | None = None
        self._reconnect_s = reconnect_s
        self._convert = _Converters()
        self._shift_s = 0.0
        self._order: AscendingTimes[VideoFrame] = AscendingTimes()
        self._at_start = True
        self._opening_packets = 0
        self._opened: Any = self._open()

    def frames(
        self, *, from_s: float | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[StreamFrame | Gap]:
        """Yield the frames in ascending time, and a `Gap` where some are missing.

        from_s: begin with a frame shown no later than that (sources that can seek only).
        should_stop: asked while a live source is away.
        """
        if not self.is_live:
            yield from self._file_frames(from_s)
            return
        offset_s: float | None = None
        last_s, last_seen_s, reason = -np.inf, time.monotonic(), ""
        while True:
            broken = bool(reason)
            for item in self._connected_frames():
                if isinstance(item, str):
                    reason = item
                    break
                since_s = item.arrived_s - last_seen_s
                if offset_s is None:
                    offset_s, broken = -item.time_s, False
                ahead_s = item.time_s + offset_s - last_s
                jumped = not -_JUMP_S < ahead_s < since_s + _JUMP_S  # its clock was set
                if last_s >= 0 and (broken or jumped):
                    offset_s = last_s + since_s - item.time_s
                    why = f"source away: {reason}" if broken else "the source's clock jumped"
                    yield Gap(last_s, item.time_s + offset_s, why)
                    broken = False
                time_s = item.time_s + offset_s
                if time_s <= last_s:
                    continue
                last_s, last_seen_s = time_s, item.arrived_s
                yield replace(item, time_s=time_s)
            if not self._come_back(last_seen_s, should_stop):
                return

    def close(self) -> None:
        """Close the source."""
        if self._opened is not None:
            self._opened.release() if self.is_camera else self._opened.close()
            self._opened = None

    def __enter__(self) -> VideoStream:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        if self.is_camera:
            logging = cv2.utils.logging
            level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # it would print ten lines
            try:
                camera = cv2.VideoCapture(int(self.source))
            finally:
                logging.setLogLevel(level)
            if not camera.isOpened():
                raise UserError(
                    f"camera {self.source}: cannot be opened (there is none of this number, or "
                    "another program has it)"
                )
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            return camera
        if self.source == STANDARD_INPUT:
            container = open_bytes(sys.stdin.buffer, shown_as=self.shown_name)
        elif self.is_address:
            container = open_address(self.source, shown_as=self.shown_name)
        else:
            container = open_file(self.source, shown_as=self.shown_name)
        streams = [s for s in container.streams.video if s.codec_context is not None]
        if not streams:
            container.close()
            raise UserError(f"{self.shown_name}: holds no pictures (sound only, or cut short)")
        context = streams[0].codec_context
        context.thread_count = 1
        context.options = {"err_detect": "explode"}  # a damaged picture is an error, not a guess
        if streams[0].duration is not None and streams[0].time_base is not None:
            start = streams[0].start_time or 0
            # A clock that begins below 0 is shifted: then its length is when it ends.
            self.duration_s = float((max(0, start) + streams[0].duration) * streams[0].time_base)
        elif container.duration is not None:
            self.duration_s = container.duration / 1e6
        return container

    def repairs(self) -> VideoRepairs:
        """Return what was done to a file's times and frames in the walk so far."""
        return VideoRepairs(
            shift_s=self._shift_s,
            sorts=bool(self._order.moved),
            resets=self._order.resets,
            opening_packets=self._opening_packets,
        )

    @property
    def shown_name(self) -> str:
        """Return the source for people to read, on one line and without a password."""
        if self.source == STANDARD_INPUT:
            return "standard input"
        if self.is_camera:
            return f"camera {self.source}"
        text = re.sub(r"//[^/@]*@", "//", self.source) if self.is_address else self.source
        return "".join(c if c.isprintable() else "?" for c in text)

    @property
    def video_id(self) -> str:
        """Return a short name for tables."""
        if self.source == STANDARD_INPUT or self.is_camera:
            return f"camera{self.source}" if self.is_camera else "stdin"
        return Path(self.shown_name).stem or "video"

    def _file_frames(self, from_s: float | None) -> Iterator[StreamFrame | Gap]:
        stream = self._opened.streams.video[0]
        self._find_shift(stream)
        if from_s is not None and self._sorts(stream):
            self._rewind(stream)
            from_s = None  # which frame is whose is known from the first one on only
        back_s = 1.0
        while from_s is not None:
            self._at_start = False
            start_s = float((stream.start_time or 0) * (stream.time_base or 0)) + self._shift_s
            if from_s - back_s <= start_s:
                self._rewind(stream)
                break
            self._opened.seek(
                int((from_s - back_s - self._shift_s) / stream.time_base), stream=stream
            )
            first = next((f for f in self._decoded() if isinstance(f, StreamFrame)), None)
            if first is not None and first.time_s <= from_s:
                self._opened.seek(
                    int((from_s - back_s - self._shift_s) / stream.time_base), stream=stream
                )
                break
            back_s *= 2
        nothing = True
        for item in self._decoded():
            nothing = nothing and isinstance(item, Gap)
            yield item
        if nothing and from_s is None:
            raise UserError(f"{self.shown_name}: holds no frame that can be decoded")

    def _find_shift(self, stream: Any) -> None:
        """Shift a clock that begins below 0 as `VideoReader` does: the first frame is at 0 s."""
        if (stream.start_time or 0) >= 0:
            return
        if not self.can_seek:
            self._shift_s = -float(stream.start_time * stream.time_base)
            return
        self._rewind(stream)
        first = next((f for f in self._packets() if isinstance(f, VideoFrame)), None)
        if first is not None and first.time is not None:
            self._shift_s = max(0.0, -first.time)
        self._rewind(stream)

    def _sorts(self, stream: Any) -> bool:
        """Whether the file's times may be those of decoding."""
        untimed = self._opened.format.name in UNTIMED_FORMATS
        return bool(stream.codec_context.has_b_frames) and (
            untimed or stream.codec_context.name in PACKING_CODECS
        )

    def _in_order(self) -> Iterator[VideoFrame | _Damage]:
        """Yield what `_packets` does, every frame once and at an ascending time from 0 on."""
        stream = self._opened.streams.video[0]
        sorts = self._sorts(stream)
        order: AscendingTimes[VideoFrame] = AscendingTimes() if sorts else AscendingTimes(depth=0)
        self._order = order
        for item in self._packets():
            if isinstance(item, _Damage):
                for time_s, frame in order.flush():
                    yield retimed(frame, time_s, stream.time_base)
                shifted = None if item.time_s is None else item.time_s + self._shift_s
                yield _Damage(item.reason, shifted)
            elif item.time is not None:
                for time_s, frame in order.push(item.time + self._shift_s, item):
                    yield retimed(frame, time_s, stream.time_base)
        for time_s, frame in order.flush():
            yield retimed(frame, time_s, stream.time_base)

    def _rewind(self, stream: Any) -> None:
        self._at_start = True
        try:
            self._opened.seek((stream.start_time or 0) - round(1 / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            self._opened.seek(stream.start_time or 0, stream=stream)

    def _decoded(self) -> Iterator[StreamFrame | Gap]:
        """Yield good frames; a `Gap` for each stretch between damage and the next sound frame."""
        last_s: float | None = None
        reason, broken_s, quiet_since = "", np.inf, np.inf
        for item in self._in_order():
            if isinstance(item, _Damage):
                broken_s = min(broken_s, -np.inf if item.time_s is None else item.time_s)
                reason, quiet_since = item.reason, np.inf
                continue
            frame = item
            if frame.time is None or (last_s is not None and frame.time <= last_s):
                continue
            if frame.time >= broken_s:  # earlier ones were whole before, and come late
                quiet_since = min(quiet_since, frame.time)
                if not frame.key_frame and frame.time - quiet_since < _SETTLED_S:
                    continue
                if last_s is None:  # nothing of the stretch before the first frame is shown
                    last_s = max(0.0, broken_s) if broken_s < frame.time else frame.time
                yield Gap(last_s, frame.time, reason)
                broken_s = np.inf
            elif last_s is not None and frame.time - last_s > GAP_S:
                yield Gap(last_s, frame.time, "no frame: the clock jumped, or a still picture")
            last_s = frame.time
            yield self._frame(frame, frame.time)
        if broken_s < np.inf:
            end_s = self.duration_s
            last_s = 0.0 if last_s is None else last_s
            yield Gap(last_s, max(last_s, end_s if end_s is not None else last_s), reason)

    def _packets(self) -> Iterator[VideoFrame | _Damage]:
        """Yield frames, and damage where some could not be decoded."""
        packets = packets_of(self._opened, self._opened.streams.video[0])
        counts = self._at_start and not self._sorts(self._opened.streams.video[0])
        opening_s: list[float] | None = [] if counts else None
        failures = 0
        time_s: float | None = None
        while True:
            try:
                time_s = None
                packet = next(packets)
                if packet.pts is not None:
                    time_s = float(packet.pts * packet.time_base)
                    if opening_s is not None and packet.size and not packet.is_discard:
                        opening_s.append(time_s)
                frames: Sequence[VideoFrame] = packet.decode()
            except StopIteration:
                return
            except (av.error.EOFError, av.error.ExitError):
                return
            except av.error.FFmpegError as error:
                failures += 1
                yield _Damage(reason_of(error).rstrip(": "), time_s)
                if failures > 10_000:
                    return
                continue
            for frame in frames:
                if opening_s is not None and frame.time is not None:
                    first_s = frame.time - SAME_TIME_S
                    self._opening_packets = sum(one_s < first_s for one_s in opening_s)
                    opening_s = None
                if frame.is_corrupt:
                    yield _Damage("damaged pictures", frame.time)
                else:
                    yield frame

    def _connected_frames(self) -> Iterator[StreamFrame | str]:
        """Yield frames of a live source until it breaks off; then say why."""
        if self._opened is None:
            yield "not connected"
            return
        if self.is_camera:
            while True:
                ok, picture = self._opened.read()
                now_s = time.monotonic()
                if not ok:
                    yield "no picture"
                    return
                height, width = picture.shape[:2]
                yield StreamFrame(now_s, width, height, now_s, picture, self._convert)
        untimed = 0
        try:
            for packet in packets_of(self._opened, self._opened.streams.video[0]):
                try:
                    frames = packet.decode()
                except (av.error.InvalidDataError, ValueError):
                    continue  # damaged on the way; the next key frame mends it
                for frame in frames:
                    if frame.is_corrupt:
                        continue
                    # A connection may begin with some; a source that tells none is timed here.
                    if frame.time is None and untimed < _MOST_UNTIMED:
                        untimed += 1
                        continue
                    now_s = time.monotonic()
                    told = frame.time is not None and untimed < _MOST_UNTIMED
                    yield self._frame(frame, frame.time if told else now_s)
        except av.error.FFmpegError as error:
            yield reason_of(error)
            return
        yield "ended"

    def _come_back(self, last_seen_s: float, should_stop: Callable[[], bool]) -> bool:
        """Open a live source again; False where it stays away."""
        self.close()
        tries = 0
        while time.monotonic() - last_seen_s < self._reconnect_s and not should_stop():
            time.sleep(_RETRY_S[min(tries, len(_RETRY_S) - 1)])
            tries += 1
            try:
                self._opened = self._open()
                return True
            except UserError:
                continue
        return False

    def _frame(self, frame: VideoFrame, time_s: float) -> StreamFrame:
        width, height = frame.width, frame.height
        shape = self._opened.streams.video[0].sample_aspect_ratio or Fraction(1)
        if quarter_turns(frame) % 2:
            width, height, shape = height, width, 1 / shape
        now_s = time.monotonic()
        odd = None if shape == 1 else shape
        return StreamFrame(time_s, width, height, now_s, frame, self._convert, odd)


def join_videos(parts: Sequence[Path], path: str | Path) -> None:
    """Put H.264 files of one size, written without B-frames, one behind the other; no encoding.

    Every frame keeps its presentation time; the parts must ascend. Stretches without frames that
    no MP4 file can hold become a second, as with `VideoWriter`.
    """
    last_dts: int | None = None
    closed = 0
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", options=MP4_OPTIONS) as joined,
    ):
        written: Any = None
        for part in parts:
            with open_file(part) as opened:
                stream = opened.streams.video[0]
                if written is None:
                    written = joined.add_stream_from_template(stream)
                for packet in opened.demux(stream):
                    if packet.dts is not None and packet.pts is not None:
                        closed += ticks_to_close(last_dts, packet.dts)
                        last_dts = packet.dts
                        packet.pts, packet.dts = packet.pts - closed, packet.dts - closed
                        packet.stream = written
                        joined.mux(packet)
        if written is None:
            raise ValueError(f"{path}: no films to join")
