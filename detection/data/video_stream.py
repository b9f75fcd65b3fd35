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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from detection.data.video import (
    MP4_OPTIONS,
    RgbConverter,
    reason_of,
    quarter_turns,
    scaled_size,
)
from detection.errors import UserError
from detection.files import replacing

STANDARD_INPUT = "-"
# After damage a decoder goes on from pictures that it has not got, until a key frame or so.
_SETTLED_S = 2.0
_OPEN_TIMEOUT_S, _READ_TIMEOUT_S = 10.0, 10.0
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
    """One frame. time_s: when it is shown.  arrived_s: `time.monotonic()` when it was decoded."""

    time_s: float
    width: int
    height: int
    arrived_s: float
    _picture: VideoFrame | NDArray[np.uint8]
    _convert: _Converters

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
class Hole:
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
        self._opened: Any = self._open()

    def frames(
        self, *, from_s: float | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[StreamFrame | Hole]:
        """Yield the frames in ascending time, and a `Hole` where some are missing.

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
                    yield Hole(last_s, item.time_s + offset_s, why)
                    broken = False
                time_s = item.time_s + offset_s
                if time_s <= last_s:
                    continue
                last_s, last_seen_s = time_s, item.arrived_s
                yield StreamFrame(
                    time_s, item.width, item.height, item.arrived_s, item._picture, self._convert
                )
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
        what: Any = self.source
        options = {}
        if self.source == STANDARD_INPUT:
            what = sys.stdin.buffer
        elif self.is_address:
            # Half a second is enough to tell the format, and is not long to be behind.
            options = {"rtsp_transport": "tcp", "analyzeduration": "500000"}
        elif not Path(self.source).is_file():
            raise UserError(f"{self.shown_name}: no such video file")
        timeout = (_OPEN_TIMEOUT_S, _READ_TIMEOUT_S) if self.is_address else None
        try:
            container = av.open(what, options=options, timeout=timeout)
        except (av.error.FFmpegError, ValueError, UnicodeDecodeError, OSError) as error:
            what = (
                "cannot be opened"
                if self.is_address
                else "not a video that can be read, or cut short"
            )
            raise UserError(f"{self.shown_name}: {what} ({reason_of(error)})") from error
        streams = [s for s in container.streams.video if s.codec_context is not None]
        if not streams:
            container.close()
            raise UserError(f"{self.shown_name}: holds no pictures (sound only, or cut short)")
        context = streams[0].codec_context
        context.thread_count = 1
        context.options = {"err_detect": "explode"}  # a damaged picture is an error, not a guess
        if streams[0].duration is not None and streams[0].time_base is not None:
            start = streams[0].start_time or 0
            self.duration_s = float((start + streams[0].duration) * streams[0].time_base)
        elif container.duration is not None:
            self.duration_s = container.duration / 1e6
        return container

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

    def _file_frames(self, from_s: float | None) -> Iterator[StreamFrame | Hole]:
        stream = self._opened.streams.video[0]
        back_s = 1.0
        while from_s is not None:
            start_s = float((stream.start_time or 0) * (stream.time_base or 0))
            if from_s - back_s <= start_s:
                self._rewind(stream)
                break
            self._opened.seek(int((from_s - back_s) / stream.time_base), stream=stream)
            first = next((f for f in self._decoded() if isinstance(f, StreamFrame)), None)
            if first is not None and first.time_s <= from_s:
                self._opened.seek(int((from_s - back_s) / stream.time_base), stream=stream)
                break
            back_s *= 2
        nothing = True
        for item in self._decoded():
            nothing = nothing and isinstance(item, Hole)
            yield item
        if nothing and from_s is None:
            raise UserError(f"{self.shown_name}: holds no frame that can be decoded")

    def _rewind(self, stream: Any) -> None:
        try:
            self._opened.seek((stream.start_time or 0) - round(1 / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            self._opened.seek(stream.start_time or 0, stream=stream)

    def _decoded(self) -> Iterator[StreamFrame | Hole]:
        """Yield good frames; a `Hole` for each stretch between damage and the next sound frame."""
        last_s: float | None = None
        reason, broken_s, quiet_since = "", np.inf, np.inf
        for item in self._packets():
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
                yield Hole(frame.time if last_s is None else last_s, frame.time, reason)
                broken_s = np.inf
            last_s = frame.time
            yield self._frame(frame, frame.time)
        if broken_s < np.inf:
            end_s = self.duration_s
            last_s = 0.0 if last_s is None else last_s
            yield Hole(last_s, max(last_s, end_s if end_s is not None else last_s), reason)

    def _packets(self) -> Iterator[VideoFrame | _Damage]:
        """Yield frames, and damage where some could not be decoded."""
        packets = self._opened.demux(video=0)
        failures = 0
        time_s: float | None = None
        while True:
            try:
                time_s = None
                packet = next(packets)
                if packet.pts is not None:
                    time_s = float(packet.pts * packet.time_base)
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
            for packet in self._opened.demux(video=0):
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
        if quarter_turns(frame) % 2:
            width, height = height, width
        return StreamFrame(time_s, width, height, time.monotonic(), frame, self._convert)


def join_films(parts: Sequence[Path], path: str | Path) -> None:
    """Put H.264 files of one size, written without B-frames, one behind the other; no encoding.

    Every frame keeps its presentation time; the parts must ascend.
    """
    with (
        replacing(path) as temporary,
        av.open(str(temporary), "w", options=MP4_OPTIONS) as joined,
    ):
        written: Any = None
        for part in parts:
            with av.open(str(part)) as opened:
                stream = opened.streams.video[0]
                if written is None:
                    written = joined.add_stream_from_template(stream)
                for packet in opened.demux(stream):
                    if packet.dts is not None:
                        packet.stream = written
                        joined.mux(packet)
        if written is None:
            raise ValueError(f"{path}: no films to join")
