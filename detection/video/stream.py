"""Reads frames in order from a file, a pipe, a URL or a camera, past damage and interruptions.

`VideoReader` finds frames by time in intact files; a stream takes frames as they come. Times are
seconds on the source's own clock; a live source's clock starts at its first frame.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.error
import cv2
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream as CodedVideo
from numpy.typing import NDArray

from detection.errors import UserError
from detection.files import replacing
from detection.video.frame_order import AscendingTimes
from detection.video.frames import (
    FrameScaler,
    RgbConverter,
    quarter_turns,
    retimed,
    scaled_size,
)
from detection.video.open import (
    Closing,
    open_address,
    open_bytes,
    open_file,
    packets_of,
    reason_of,
    video_stream_of,
)
from detection.video.planes import UNSPECIFIED, assumed_matrix
from detection.video.reader import PACKING_CODECS, SAME_TIME_S, UNTIMED_FORMATS
from detection.video.repairs import VideoRepairs
from detection.video.sound import Sound, SoundCopier, SoundError, sound_stream_of
from detection.video.writer import MP4_OPTIONS, ticks_to_close

STANDARD_INPUT = "-"
# After damage a decoder refers to missing frames until about the next key frame.
_SETTLED_S = 2.0
# A file's frames further apart than this are reported as a gap.
GAP_S = 3600.0
# A live source's clock may run ahead of ours by its buffers, not by more.
_JUMP_S = 10.0
_MOST_UNTIMED = 25
_RETRY_S = (0.2, 0.5, 1.0, 2.0)
_INDEX_AT_END = (
    "an MP4 or MOV file whose index is at its end (or that is cut short) cannot be read as it "
    "comes: name the file itself, or send it with the index first (ffmpeg -movflags +faststart) or "
    "as Matroska"
)


class _Converters(threading.local):
    """One converter per thread: swscale's tables must not be shared between threads."""

    def __init__(self) -> None:
        self.own = RgbConverter()


@dataclass(frozen=True)
class StreamFrame:
    """One frame.

    time_s: presentation time.
    width, height: pixels as displayed.
    arrived_s: `time.monotonic()` when it was decoded.
    pixel_shape: width to height of one pixel as displayed, None for squares.
    """

    time_s: float
    width: int
    height: int
    arrived_s: float
    _frame: VideoFrame | NDArray[np.uint8]
    _convert: _Converters
    pixel_shape: Fraction | None = None

    def rgb(self, short_side: int | None = None) -> NDArray[np.uint8]:
        """Return (H, W, 3) uint8 RGB, upright, the shorter edge at `short_side` pixels."""
        if isinstance(self._frame, VideoFrame):
            return np.ascontiguousarray(self._convert.own(self._frame, short_side))
        frame = cv2.cvtColor(np.asarray(self._frame), cv2.COLOR_BGR2RGB)
        size = scaled_size(self.width, self.height, short_side)
        if size != (self.width, self.height):
            frame = cv2.resize(frame, size, interpolation=cv2.INTER_AREA)
        return np.asarray(frame, np.uint8)

    def yuv(self, scale: FrameScaler) -> VideoFrame:
        """Return a new yuv420p frame of the scaler's size, upright.

        Its matrix is stated, so that it has the same colours at every size; its transfer function
        and primaries are not.
        """
        frame = self._frame
        if not isinstance(frame, VideoFrame):
            frame = VideoFrame.from_ndarray(frame, format="bgr24")
        scaled = scale(frame)
        scaled.colorspace = assumed_matrix(frame)
        scaled.color_trc = scaled.color_primaries = UNSPECIFIED
        return scaled


@dataclass(frozen=True)
class Gap:
    """A stretch without usable frames.

    start_s: time of the last frame before it.
    end_s: time of the first frame after it.
    reason: why there is no frame.
    """

    start_s: float
    end_s: float
    reason: str


@dataclass(frozen=True)
class _Damage:
    """Undecodable data; the reason is the decoder's message."""

    reason: str
    time_s: float | None  # of the missing frame, None where unknown


class VideoStream(Closing):
    """A source of frames. A context manager; `frames` can be iterated once.

    source: a file, a URL (`rtsp://...` and whatever else FFmpeg opens), `-` for standard input, or
    a camera's number.  live: frames must be taken as they arrive, and a lost connection is opened
    again (None: for URLs and cameras).  reconnect_s: how long to try to reconnect.
    Raises `UserError` where the source cannot be opened or contains no video stream.
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
        self.has_sound = False
        self._reconnect_s = reconnect_s
        self._convert = _Converters()
        self._shift_s = 0.0
        self._order: AscendingTimes[VideoFrame] = AscendingTimes()
        self._at_start = True
        self._opening_packets = 0
        self.size_px: tuple[int, int] | None = None  # width, height of the first frame so far
        self._opened: Any = self._open()
        self.header = self._read_header()  # kept: a live source may be lost and not come back

    def frames(
        self, *, from_s: float | None = None, should_stop: Callable[[], bool] = lambda: False
    ) -> Iterator[StreamFrame | Gap]:
        """Yield the frames in ascending order of time, and a `Gap` where some are missing.

        from_s: begin with a frame shown no later than that (only sources that can seek).
        should_stop: called while a live source is disconnected.
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
                jumped = not -_JUMP_S < ahead_s < since_s + _JUMP_S  # its clock was reset
                if last_s >= 0 and (broken or jumped):
                    offset_s = last_s + since_s - item.time_s
                    lost = f"source disconnected: {reason}"
                    why = lost if broken else "the source's clock jumped"
                    yield Gap(last_s, item.time_s + offset_s, why)
                    broken = False
                time_s = item.time_s + offset_s
                if time_s <= last_s:
                    continue
                last_s, last_seen_s = time_s, item.arrived_s
                yield replace(item, time_s=time_s)
            # A file that is read as a live source has an end; opened again it would begin anew.
            if reason == "ended" and Path(self.source).is_file():
                return
            if not self._reconnect(last_seen_s, should_stop):
                return

    def close(self) -> None:
        """Close the source."""
        if self._opened is not None:
            self._opened.release() if self.is_camera else self._opened.close()
            self._opened = None

    def _open(self) -> Any:
        if self.is_camera:
            logging = cv2.utils.logging
            level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)  # prints ten lines otherwise
            try:
                camera = cv2.VideoCapture(int(self.source))
            finally:
                logging.setLogLevel(level)
            if not camera.isOpened():
                why = "not found, or in use by another program"
                raise UserError(f"camera {self.source}: cannot be opened ({why})")
            camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)
            return camera
        if self.source == STANDARD_INPUT:
            container = open_bytes(sys.stdin.buffer, shown_as=self.shown_name)
        elif self.is_address:
            container = open_address(self.source, shown_as=self.shown_name)
        else:
            container = open_file(self.source, shown_as=self.shown_name)
        stream = video_stream_of(container, shown_as=self.shown_name)
        self.has_sound = sound_stream_of(container) is not None
        stream.codec_context.thread_count = 1
        stream.codec_context.options = {"err_detect": "explode"}  # damage is an error
        if stream.duration is not None and stream.time_base is not None:
            # A clock that begins below 0 is shifted to 0: it then ends at the duration.
            end = max(0, stream.start_time or 0) + stream.duration
            self.duration_s = float(end * stream.time_base)
        elif container.duration is not None:
            self.duration_s = container.duration / 1e6
        return container

    def _read_header(self) -> tuple[int, int, float]:
        """Return width, height and frames per second as the source states them; 0: unknown.

        The size is that of coded frames: before rotation.
        """
        if self.is_camera:
            keys = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT, cv2.CAP_PROP_FPS
            width, height, fps = (max(0.0, float(self._opened.get(key))) for key in keys)
            return int(width), int(height), fps
        if self._opened is None:  # frames that no container holds
            return 0, 0, 0.0
        stream = self._opened.streams.video[0]
        codec = stream.codec_context
        return codec.width, codec.height, float(stream.average_rate or 0)

    def repairs(self) -> VideoRepairs:
        """Return how the file's times and frames were changed so far."""
        return VideoRepairs(
            shift_s=self._shift_s,
            sorts=bool(self._order.moved),
            resets=self._order.resets,
            opening_packets=self._opening_packets,
        )

    def frame_size(self) -> tuple[int, int] | None:
        """Return (width, height) of the first frame; None before it, where it passes only once."""
        if self.size_px is None and self.can_seek:
            with VideoStream(self.source, live=False) as again:
                next((item for item in again.frames() if isinstance(item, StreamFrame)), None)
                self.size_px = again.size_px
        return self.size_px

    @property
    def shown_name(self) -> str:
        """Return the source's name for messages, on one line and without a password."""
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
            from_s = None  # sorted times require decoding from the first frame on
        back_s = 1.0
        while from_s is not None:
            self._at_start = False
            start_s = float((stream.start_time or 0) * (stream.time_base or 0)) + self._shift_s
            if from_s - back_s <= start_s:
                self._rewind(stream)
                break
            ticks = int((from_s - back_s - self._shift_s) / stream.time_base)
            self._opened.seek(ticks, stream=stream)
            first = next((f for f in self._decoded() if isinstance(f, StreamFrame)), None)
            if first is not None and first.time_s <= from_s:
                self._opened.seek(ticks, stream=stream)
                break
            back_s *= 2
        has_frame = False
        for item in self._decoded():
            has_frame = has_frame or isinstance(item, StreamFrame)
            yield item
        if not has_frame and from_s is None:
            raise UserError(f"{self.shown_name}: contains no decodable frame")

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
        """Return whether the file may store times in decoding order."""
        context, untimed = stream.codec_context, self._opened.format.name in UNTIMED_FORMATS
        return bool(context.has_b_frames) and (untimed or context.name in PACKING_CODECS)

    def _in_order(self) -> Iterator[VideoFrame | _Damage]:
        """Yield the items of `_packets`, every frame once and with ascending times from 0 on."""
        stream = self._opened.streams.video[0]
        sorts = self._sorts(stream)
        order: AscendingTimes[VideoFrame] = AscendingTimes() if sorts else AscendingTimes(depth=0)
        self._order = order
        for item in self._packets():
            if isinstance(item, _Damage):
                yield from retimed(order.flush(), stream.time_base)
                shifted = None if item.time_s is None else item.time_s + self._shift_s
                yield _Damage(item.reason, shifted)
            elif item.time is not None:
                yield from retimed(order.push(item.time + self._shift_s, item), stream.time_base)
        yield from retimed(order.flush(), stream.time_base)

    def _rewind(self, stream: Any) -> None:
        self._at_start = True
        try:
            self._opened.seek((stream.start_time or 0) - round(1 / stream.time_base), stream=stream)
        except av.error.FFmpegError:
            self._opened.seek(stream.start_time or 0, stream=stream)

    def _decoded(self) -> Iterator[StreamFrame | Gap]:
        """Yield intact frames, and a `Gap` from each damage to the next intact frame."""
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
            if frame.time >= broken_s:  # earlier frames were still in the decoder, and intact
                quiet_since = min(quiet_since, frame.time)
                if not frame.key_frame and frame.time - quiet_since < _SETTLED_S:
                    continue
                if last_s is None:  # damaged before the first frame
                    last_s = max(0.0, broken_s) if broken_s < frame.time else frame.time
                yield Gap(last_s, frame.time, reason)
                broken_s = np.inf
            elif last_s is not None and frame.time - last_s > GAP_S:
                yield Gap(last_s, frame.time, "no frame: the clock jumped, or a still image")
            last_s = frame.time
            yield self._frame(frame, frame.time)
        if broken_s < np.inf:
            end_s = self.duration_s
            last_s = 0.0 if last_s is None else last_s
            yield Gap(last_s, max(last_s, end_s if end_s is not None else last_s), reason)

    def _packets(self) -> Iterator[VideoFrame | _Damage]:
        """Yield decoded frames, and `_Damage` where a packet cannot be decoded."""
        packets = self._demuxed()
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
                    yield _Damage("damaged frames", frame.time)
                else:
                    yield frame

    def _demuxed(self) -> Iterator[Packet[CodedVideo]]:
        """Yield packets; raise `UserError` for an MP4 that cannot be read as it comes."""
        try:
            yield from packets_of(self._opened, self._opened.streams.video[0])
        except av.error.InvalidDataError as error:
            passes_once = self.source == STANDARD_INPUT or self.is_address
            if passes_once and self.size_px is None and "mp4" in self._opened.format.name:
                raise UserError(f"{self.shown_name}: {_INDEX_AT_END}") from error
            raise

    def _connected_frames(self) -> Iterator[StreamFrame | str]:
        """Yield frames of a live source until the connection is lost, then the reason."""
        if self._opened is None:
            yield "not connected"
            return
        if self.is_camera:
            while True:
                ok, frame = self._opened.read()
                now_s = time.monotonic()
                if not ok:
                    yield "no frame"
                    return
                height, width = frame.shape[:2]
                self.size_px = self.size_px or (width, height)
                yield StreamFrame(now_s, width, height, now_s, frame, self._convert)
        untimed = 0
        try:
            for packet in self._demuxed():
                try:
                    frames = packet.decode()
                except (av.error.InvalidDataError, ValueError):
                    continue  # damaged in transit; decodable again from the next key frame on
                for frame in frames:
                    if frame.is_corrupt:
                        continue
                    # A connection may begin with untimed frames; if all are untimed, use our clock.
                    if frame.time is None and untimed < _MOST_UNTIMED:
                        untimed += 1
                        continue
                    now_s = time.monotonic()
                    timed = frame.time is not None and untimed < _MOST_UNTIMED
                    yield self._frame(frame, frame.time if timed else now_s)
        except av.error.FFmpegError as error:
            yield reason_of(error)
            return
        yield "ended"

    def _reconnect(self, last_seen_s: float, should_stop: Callable[[], bool]) -> bool:
        """Open a live source again; False where that fails for `reconnect_s`."""
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
        self.size_px = self.size_px or (width, height)
        now_s = time.monotonic()
        pixel_shape = None if shape == 1 else shape
        return StreamFrame(time_s, width, height, now_s, frame, self._convert, pixel_shape)


def join_videos(parts: Sequence[Path], path: str | Path, *, sound: Sound | None = None) -> str:
    """Concatenate H.264 files of one size, written without B-frames, without encoding.

    Every frame keeps its presentation time; the files must be in order of time. Gaps too long for
    an MP4 file are shortened to a second, as by `VideoWriter`.

    sound: copied beside them from the first frame to the last, where it can be. Returns why it is
    left out; "" if nothing is.
    """
    if sound is not None:
        try:
            _join(parts, path, sound)
        except SoundError as error:
            reason = str(error)
        except av.error.FFmpegError as error:  # of the sound, unless it is raised again below
            reason = reason_of(error)
        else:
            return ""
        _join(parts, path, None)
        return reason
    _join(parts, path, None)
    return ""


def _join(parts: Sequence[Path], path: str | Path, sound: Sound | None) -> None:
    last_dts: int | None = None
    closed = 0
    with (
        ExitStack() as opened_files,
        replacing(path) as temporary,
        av.open(str(temporary), "w", options=MP4_OPTIONS) as joined,
    ):
        written: Any = None
        copier: SoundCopier | None = None
        for part in parts:
            with open_file(part) as opened:
                stream = opened.streams.video[0]
                if written is None:
                    written = joined.add_stream_from_template(stream)
                for packet in opened.demux(stream):
                    if packet.dts is None or packet.pts is None:
                        continue
                    if last_dts is None and sound is not None:
                        first_s = float(packet.pts * packet.time_base)
                        copier = SoundCopier(sound, joined, from_s=first_s)
                        opened_files.enter_context(copier)
                    closed += ticks_to_close(last_dts, packet.dts)
                    if closed and sound is not None:
                        raise SoundError("a stretch without frames is shortened")
                    last_dts = packet.dts
                    end_s = float((packet.pts + (packet.duration or 0)) * packet.time_base)
                    if copier is not None:
                        copier.copy_until(float(packet.pts * packet.time_base))
                    packet.pts, packet.dts = packet.pts - closed, packet.dts - closed
                    packet.stream = written
                    joined.mux(packet)
        if written is None:
            raise ValueError(f"{path}: no videos to join")
        if copier is not None:
            copier.copy_until(end_s)
