"""Reads video files by presentation time.

Legend: T requested frames, n frames in the file, H W pixels as displayed (rotation applied).
Frames are found by their presentation times, never by index = time x rate, which is wrong for
variable frame rates and for files that start late. Times are the file's own, with two exceptions
that `VideoReader.repairs` reports: a clock that begins below 0 is shifted so that the first frame
is shown at 0 s, and frames whose times do not ascend get ascending ones (`frame_order.py`).
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import ArrayLike, NDArray

from detection.errors import UserError
from detection.structures import Clip
from detection.video.frame_order import AscendingTimes, ascending_times_s
from detection.video.frames import RgbConverter, quarter_turns, retimed
from detection.video.open import Closing, open_file, packets_of, reason_of, video_stream_of
from detection.video.repairs import VideoRepairs

# CSV files hold times with 6 decimals; two times that differ by less than this are equal.
SAME_TIME_S = 2e-6
# Requested times further apart than this are reached by a seek, not by decoding the frames between.
SEEK_GAP_S = 2.0
# So are closer times where the file's index has a key frame this long after the first of them:
# a seek costs about as much as decoding eight frames.
SKIP_S = 0.3
Damage = Literal["refuse", "guess", "skip"]
# A higher rate in a header is that of the clock, not of the frames.
MAX_FPS = 960
# Keyframes this close to the start or end given in the header are checked by decoding.
NEAR_END_S = 3.0
# Formats without presentation times, and codecs that may pack two frames into one packet.
UNTIMED_FORMATS = ("avi",)
PACKING_CODECS = ("mpeg4", "msmpeg4v2", "msmpeg4v3")
_PROBED_FRAMES = 100


class VideoReader(Closing):
    """Reads frames of one video file by presentation time. A context manager; one decoding thread.

    to_rgb: converts a frame of `decoded_frames` to an upright (H, W, 3) RGB array.

    damage: what to do with damaged frames. "guess": return what the decoder makes of them, as
    players do, and raise where it returns none; "refuse": raise; "skip": as "guess", but leave out
    frames for which the decoder returns none.
    Raises `UserError` naming the file where it is missing, truncated, no video, or sound only.
    """

    def __init__(self, path: str | Path, *, damage: Damage = "guess") -> None:
        self.path = Path(path)
        self._container = open_file(self.path)
        self._stream: VideoStream = video_stream_of(self._container, shown_as=str(self.path))
        self._stream.codec_context.thread_count = 1
        self._damage = damage
        if damage == "refuse":
            self._stream.codec_context.options = {"err_detect": "explode"}
        if self._stream.time_base is None:
            self._container.close()
            raise UserError(f"{self.path}: its frames have no presentation times")
        self._time_base = self._stream.time_base
        self.to_rgb = RgbConverter()
        self._shift = 0  # ticks of the time base, added to each of the file's times
        self._is_checked = False
        self._resets = 0
        self._late = 0
        self._opening_packets = 0
        self._sorts = False  # whether frames get sorted times in place of the file's
        try:
            self._prepare_clock()
        except BaseException:
            self._container.close()
            raise

    def _prepare_clock(self) -> None:
        """Detect times that begin below 0, and times that are in decoding order."""
        if (self._stream.start_time or 0) < 0:
            first = next(self._decoded_from(None), None)
            if first is not None and first.pts is not None:
                self._shift = max(0, -first.pts)
        if self._is_doubtful and self._stream.codec_context.has_b_frames:
            try:
                some_s = [_time_s(f) for f in islice(self._decoded_from(None), _PROBED_FRAMES)]
            except UserError:
                return  # damaged: raised again where it is read
            self._sorts = bool((np.diff(some_s) <= 0).any())

    @property
    def _is_doubtful(self) -> bool:
        """Whether the file's format or codec may store times in decoding order."""
        codec = self._stream.codec_context.name
        return self._container.format.name in UNTIMED_FORMATS or codec in PACKING_CODECS

    @property
    def clock_shift_s(self) -> float:
        """Seconds added to the file's times so that the first frame is shown at 0 s."""
        return float(self._shift * self._time_base)

    def repairs(self) -> VideoRepairs:
        """Return how the file's times and frames were changed so far.

        Complete once `frame_times_s` has been called.
        """
        slots = self._stream.frames if self._container.format.name == "avi" else 0
        listed = self.__dict__.get("_listed")
        return VideoRepairs(
            shift_s=self.clock_shift_s,
            sorts=self._sorts,
            resets=self._resets,
            late=self._late,
            opening_packets=self._opening_packets,
            empty_slots=0 if listed is None else max(0, slots - listed.packets),
            slots=slots,
        )

    def read(
        self, times_s: ArrayLike, *, short_side: int | None = None, keyframes_s: ArrayLike = ()
    ) -> Clip:
        """Return for each time the frame whose presentation time is nearest (tie: the earlier).

        times_s: (T,) seconds on the video's clock, in any order, repeats allowed; before the first
        and after the last frame the edge frame repeats. short_side: pixels of the shorter edge of
        the returned frames, scaled while decoding (None: not scaled). keyframes_s: times that must
        lie at most half a frame interval outside the video, else `UserError`.
        """
        requested_s, inverse = np.unique(np.asarray(times_s, dtype=np.float64), return_inverse=True)
        if not len(requested_s):
            raise ValueError("no times to read")
        if not np.isfinite(requested_s).all():
            raise ValueError(f"{self.path}: times must be finite, got {times_s!r}")
        keyframes = np.asarray(keyframes_s, dtype=np.float64).reshape(-1)
        images: list[NDArray[np.uint8]] = []
        shown_s: list[float] = []
        found: list[int] = []
        for run in np.split(requested_s, [] if self._sorts else self._seeks(requested_s)):
            checked = keyframes[(keyframes >= run[0]) & (keyframes <= run[-1])]
            try:
                decoded = self._rgb_frames(self._only_nearest(run, checked), short_side)
            except _UnsureError:
                try:
                    decoded = self._rgb_frames(self._nearest(run, checked), short_side)
                except _DisorderError:
                    self._sorts = True
                    return self.read(times_s, short_side=short_side, keyframes_s=keyframes_s)
            for image, time_s, matches in decoded:
                found.extend([len(images)] * matches)
                images.append(image)
                shown_s.append(time_s)
        index = np.asarray(found)[inverse.reshape(-1)]
        import torch  # here: what only opens videos takes none of its time and memory

        frames = np.stack([images[i] for i in index])
        return Clip(torch.from_numpy(frames).permute(0, 3, 1, 2), np.asarray(shown_s)[index])

    def frame_times_s(self) -> NDArray[np.float64]:
        """Return the (n,) ascending presentation times of all frames; cached.

        Decodes only the first frame, unless the packets' times do not determine the frames' times.
        Packets before the first decodable frame (a file that begins between two key frames) are not
        counted; players and annotation tools, which number displayed frames from 0, do the same.
        Raises `UserError` where the file ends earlier than its header says.
        """
        listed = self._listed
        self._check_order()
        if self._sorts:
            return self._sorted_times_s
        shown = listed.times_s >= _time_s(self._first_frame()) - SAME_TIME_S
        self._opening_packets = int((~shown).sum())
        return listed.times_s[shown]

    def frame_counts(self) -> FrameCounts:
        """Return the number of packets and of frames, as `frame_times_s` counts them.

        Frames that damage in the middle of the file makes undecodable are included; only
        `decoded_times_s` finds them.
        """
        return FrameCounts(packets=self._listed.packets, decodable=len(self.frame_times_s()))

    def decoded_times_s(self) -> NDArray[np.float64]:
        """Return the (n,) ascending times of all decodable frames, by decoding the whole file.

        A header may list more frames than that.
        """
        times_s = np.asarray([_time_s(frame) for frame in self._decoded_from(None)], np.float64)
        if not len(times_s):
            raise self._no_frame()
        if not self._sorts and (np.diff(times_s) <= 0).any():
            self._sorts = True
            return ascending_times_s(times_s)
        return times_s

    @cached_property
    def _sorted_times_s(self) -> NDArray[np.float64]:
        return self.decoded_times_s()

    def _check_order(self) -> None:
        """Where packets do not determine the frames' times, decode to see whether these ascend."""
        if self._sorts or self._is_checked:
            return
        self._is_checked = True
        try:
            is_plain = self._listed.is_plain
        except UserError:
            return  # cut short or damaged: raised again where it is read
        if not is_plain:
            self.decoded_times_s()

    @cached_property
    def info(self) -> VideoInfo:
        """Size as displayed, frame rate, duration and so on; decodes one frame."""
        first = self._first_frame()
        width, height = first.width, first.height
        if quarter_turns(first) % 2:
            width, height = height, width
        stream = self._stream
        start_s = _time_s(first)
        if stream.duration is not None:
            duration_s = float(stream.duration * self._time_base)
        elif self._container.duration is not None:
            duration_s = self._container.duration / 1e6
            if "matroska" in self._container.format.name:
                duration_s -= start_s - self.clock_shift_s  # Matroska: the time of the end
        else:
            duration_s = float(self.frame_times_s()[-1]) - start_s
        return VideoInfo(
            width=width,
            height=height,
            average_fps=1 / self._usual_interval_s,
            duration_s=duration_s,
            # AVI headers count time slots, which may be empty.
            num_frames=(0 if self._container.format.name == "avi" else stream.frames)
            or len(self.frame_times_s()),
            codec=stream.codec_context.name,
            start_s=start_s,
            rotation=first.rotation,
        )

    @property
    def pixel_format(self) -> str:
        """FFmpeg's name of the pixel format; every browser plays `yuv420p`."""
        return self._stream.codec_context.pix_fmt or "unknown"

    def packets(self, *, from_s: float = -math.inf) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from the key frame at or before a time on, at this reader's times.

        Any other call of this reader changes the position in the file. Raises `UserError` where it
        is damaged.
        """
        try:
            self._seek(from_s if from_s > self._start_s else None)
            yield from self._demux()
        except av.error.FFmpegError as error:
            raise UserError(f"{self.path}: damaged or cut short ({reason_of(error)})") from error

    @property
    def stream(self) -> VideoStream:
        """The file's video stream, as a template for another file of the same codec."""
        return self._stream

    @property
    def container_names(self) -> frozenset[str]:
        """FFmpeg's names of the container, of which it may have several."""
        return frozenset(self._container.format.name.split(","))

    @property
    def pixel_shape(self) -> Fraction | None:
        """Width to height of one pixel as displayed (sample aspect ratio), None for squares."""
        shape = self._stream.sample_aspect_ratio
        if not shape or shape == 1:
            return None
        return 1 / shape if self.info.rotation % 180 else shape

    def frame_size(self) -> tuple[int, int]:
        """Return (width, height) in pixels as displayed."""
        return self.info.width, self.info.height

    def span_s(self) -> tuple[float, float]:
        """Return the approximate start and end of the video in seconds, from the header."""
        return self.info.start_s, self.info.start_s + self.info.duration_s

    def check_keyframes(self, keyframes_s: ArrayLike) -> None:
        """Raise the `UserError` that `read` would raise for a keyframe outside the video.

        Decodes only for keyframes near the start or end given in the header.
        """
        keys = np.asarray(keyframes_s, dtype=np.float64).reshape(-1)
        if not len(keys):
            return
        first_s, end_s = self.span_s()
        for key_s in sorted({float(keys.min()), float(keys.max())}):
            if not first_s + NEAR_END_S <= key_s <= end_s - NEAR_END_S:
                self.read([key_s], short_side=16, keyframes_s=[key_s])

    def ends_s(self) -> tuple[float, float]:
        """Return the times of the first and of the last frame, as in `frame_times_s`.

        Reads only the end of the file where that agrees with the header. Raises `UserError` where
        the file ends earlier than its header says.
        """
        if not self._sorts:
            first_s, end_s = self.span_s()
            back_s = 2.0
            while end_s - back_s > first_s:
                last_s = self._last_from(end_s - back_s)
                if last_s is not None and abs(last_s + self._usual_interval_s - end_s) < 0.1:
                    return first_s, last_s
                back_s *= 8
        times_s = self.frame_times_s()
        return float(times_s[0]), float(times_s[-1])

    def _last_from(self, time_s: float) -> float | None:
        """Return the last frame's time from the packets after `time_s`, None where uncertain."""
        last_s = -math.inf
        try:
            self._seek(time_s)
            for packet in self._demux():
                if not packet.size:
                    continue
                if packet.is_corrupt or packet.pts is None:
                    return None
                if not packet.is_discard:
                    last_s = max(last_s, float(packet.pts * self._time_base))
        except av.error.FFmpegError:
            return None
        return last_s if math.isfinite(last_s) else None

    def frames(self, *, short_side: int | None = None) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Yield (time in seconds, (H, W, 3) uint8 RGB) of every frame.

        Any other call of this reader changes the position in the file.
        """
        self._check_order()
        for frame in self._decoded_from(None):
            yield _time_s(frame), self.to_rgb(frame, short_side)

    def decoded_frames(
        self, *, start_s: float = -math.inf, end_s: float = math.inf
    ) -> Iterator[tuple[float, VideoFrame]]:
        """Yield (time in seconds, frame as stored) of a span of time.

        From the last frame at or before `start_s` (else the first) to the first one at or after
        `end_s` (else the last), so that the frame nearest to any time of the span is among them.
        Any other call of this reader changes the position in the file.
        """
        self._check_order()
        held: VideoFrame | None = None
        for frame in self._decoded_covering(start_s):
            if held is not None:
                if _time_s(frame) <= _time_s(held):
                    if self._damage != "skip":
                        raise UserError(
                            f"{self.path}: the frame at {_time_s(frame):.6f} s comes after the one "
                            f"at {_time_s(held):.6f} s, against the order of its packets' times"
                        )
                    self._late += 1  # put out of order by damage before it
                    continue
                if _time_s(frame) > start_s + SAME_TIME_S:
                    yield _time_s(held), held
                    if _time_s(held) >= end_s - SAME_TIME_S:
                        return
            held = frame
        if held is None:
            raise self._no_frame()
        yield _time_s(held), held

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def _first_frame(self) -> VideoFrame:
        first = next(self._decoded_from(None), None)
        if first is None:
            raise self._no_frame()
        return first

    def _no_frame(self) -> UserError:
        return UserError(f"{self.path}: contains no decodable frame")

    def _seeks(self, requested_s: NDArray[np.float64]) -> NDArray[np.int64]:
        """Return the positions of the ascending times that are best reached by a seek."""
        gap_s = np.diff(requested_s)
        seek = gap_s > SEEK_GAP_S
        index = self._stream.index_entries
        for position in np.flatnonzero((gap_s > SKIP_S) & ~seek).tolist():
            time_s = float(requested_s[position + 1]) + SAME_TIME_S
            ticks = int(time_s / self._time_base) - self._shift
            entry = index.search_timestamp(ticks, backward=True)
            if entry >= 0:
                key_frame_s = float((index[entry].timestamp + self._shift) * self._time_base)
                seek[position] = key_frame_s > requested_s[position] + SKIP_S
        return np.flatnonzero(seek) + 1

    def _rgb_frames(
        self, frames: Iterator[tuple[VideoFrame, int]], short_side: int | None
    ) -> list[tuple[NDArray[np.uint8], float, int]]:
        """Return (RGB, time in seconds, matches) of each frame."""
        return [(self.to_rgb(frame, short_side), _time_s(frame), n) for frame, n in frames]

    def _only_nearest(
        self, requested_s: NDArray[np.float64], keyframes_s: NDArray[np.float64]
    ) -> Iterator[tuple[VideoFrame, int]]:
        """Yield the same as `_nearest`, skipping non-reference frames that are not requested.

        Packets have their frames' times before decoding; skipping non-reference frames does not
        change the others. Raises `_UnsureError` where the packets do not determine the frames:
        `_nearest` is required then.
        """
        if self._damage != "guess" or self._stream.codec_context.name not in ("h264", "hevc"):
            raise _UnsureError
        if self._sorts or self._is_doubtful:
            raise _UnsureError
        try:
            packets = self._packets_around(float(requested_s[0]), float(requested_s[-1]))
            listed_pts = _shown_pts(packets)
            pts = np.unique(listed_pts)
            if not len(pts) or len(pts) < len(listed_pts):
                raise _UnsureError  # two frames of one time
            shown_s = pts * float(self._time_base)
            if not ((shown_s[0] <= keyframes_s) & (keyframes_s <= shown_s[-1])).all():
                raise _UnsureError
            after = np.searchsorted(shown_s, requested_s).clip(0, len(pts) - 1)
            before = (after - 1).clip(0)
            earlier = _first_is_nearer(shown_s[before], shown_s[after], requested_s)
            nearest, matches = np.unique(pts[np.where(earlier, before, after)], return_counts=True)
            waiting = dict(zip(nearest.tolist(), matches.tolist(), strict=True))
            for frame in self._decode_only(packets, waiting):
                if frame.pts != next(iter(waiting)):
                    raise _UnsureError  # an earlier frame is missing
                yield frame, waiting.pop(frame.pts)
        except av.error.FFmpegError as error:
            raise _UnsureError from error
        if waiting:
            raise _UnsureError

    def _decode_only(
        self, packets: Sequence[Packet[VideoStream]], waiting: Mapping[int | None, int]
    ) -> Iterator[VideoFrame]:
        """Yield the frames whose presentation times are keys of `waiting`, until that is empty."""
        try:
            for packet in [*packets, None]:
                if not waiting:
                    return
                needed = packet is not None and packet.pts in waiting
                for frame in self._decode_packet(packet, "DEFAULT" if needed else "NONREF"):
                    if frame.pts in waiting:
                        frame.time_base = self._time_base  # not set on flushed frames
                        yield frame
        finally:
            self._stream.codec_context.skip_frame = "DEFAULT"

    def _decode_packet(
        self, packet: Packet[VideoStream] | None, skip: Literal["DEFAULT", "NONREF"]
    ) -> list[VideoFrame]:
        context = self._stream.codec_context
        context.skip_frame = skip
        return context.decode(packet)

    def _packets_around(self, first_s: float, last_s: float) -> list[Packet[VideoStream]]:
        """Read packets from a key frame at or before `first_s` to beyond the frame after `last_s`.

        Raises `_UnsureError` where times are missing or a packet is damaged.
        """
        for target_s in self._seek_targets(first_s):
            self._seek(target_s)
            packets: list[Packet[VideoStream]] = []
            after_s = math.inf
            for packet in self._demux():
                if not packet.size:
                    break
                if packet.pts is None or packet.dts is None or packet.is_corrupt:
                    raise _UnsureError
                packets.append(packet)
                shown_s = float(packet.pts * self._time_base)
                if shown_s > last_s and not packet.is_discard:
                    after_s = min(after_s, shown_s)
                if float(packet.dts * self._time_base) >= after_s:
                    break
            opening_s = [float(pts * self._time_base) for pts in _shown_pts(packets[:1])]
            if target_s is None or (opening_s and opening_s[0] <= first_s + SAME_TIME_S):
                break
        return packets

    def _nearest(
        self, requested_s: NDArray[np.float64], keyframes_s: NDArray[np.float64]
    ) -> Iterator[tuple[VideoFrame, int]]:
        """Yield the nearest frames in order, each with the number of times it is nearest to."""
        done = 0
        before: VideoFrame | None = None
        for after in self._frames_around(float(requested_s[0]), keyframes_s):
            first = done
            while done < len(requested_s) and _is_nearer(before, after, float(requested_s[done])):
                done += 1
            if done > first:
                assert before is not None
                yield before, done - first
            if done == len(requested_s):
                return
            before = after

    def _frames_around(
        self, first_s: float, keyframes_s: NDArray[np.float64]
    ) -> Iterator[VideoFrame | None]:
        """Yield frames from one at or before `first_s` on, and None after the last one."""
        before: VideoFrame | None = None
        interval_s = self._usual_interval_s
        for frame in self._decoded_covering(first_s):
            if before is None:
                self._check_start(keyframes_s, _time_s(frame))
            else:
                if _time_s(frame) <= _time_s(before):
                    raise _DisorderError
                interval_s = _time_s(frame) - _time_s(before)
            before = frame
            yield frame
        if before is None:
            raise self._no_frame()
        late = keyframes_s > _time_s(before) + interval_s / 2 + SAME_TIME_S
        if late.any():
            raise UserError(
                f"{self.path}: keyframe at {keyframes_s[late][0]:.6f} s is past the last frame, "
                f"which is shown at {_time_s(before):.6f} s"
            )
        yield None

    def _decoded_covering(self, time_s: float) -> Iterator[VideoFrame]:
        """Decode from a frame shown no later than `time_s` (or from the first frame).

        Containers seek by decoding time, so the key frame found may be shown too late: then seek
        further back.
        """
        for target_s in self._seek_targets(time_s):
            frames = self._decoded_from(target_s)
            try:
                first = next(frames, None)
            except UserError:
                if target_s is None or self._damage != "refuse":
                    raise
                first = None  # perhaps decodable from further back
            late = first is None or _time_s(first) > time_s + SAME_TIME_S
            if late and target_s is not None:
                continue
            if first is not None:
                yield first
            yield from frames
            return

    def _seek_targets(self, time_s: float) -> Iterator[float | None]:
        """Yield `time_s`, then times further and further back, and last None, the start."""
        back_s = 0.0
        while not self._sorts and (target_s := time_s + SAME_TIME_S - back_s) > self._start_s:
            yield target_s
            back_s = max(1.0, 2 * back_s)
        yield None

    def _decoded_from(self, time_s: float | None) -> Iterator[VideoFrame]:
        """Seek to the key frame before `time_s` (None: the start) and decode from there on."""
        last_s: float | None = None
        frames = self._decoded(after_seek=time_s is not None)
        try:
            self._seek(time_s)
            for frame in self._retimed(frames) if self._sorts else frames:
                if frame.pts is None:
                    raise UserError(f"{self.path}: its frames have no presentation times")
                last_s = _time_s(frame)
                yield frame
        except av.error.FFmpegError as error:
            place = "at its start" if last_s is None else f"after {last_s:.3f} s"
            message = f"{self.path}: damaged or cut short {place} ({reason_of(error)})"
            raise UserError(message) from error

    def _retimed(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        """Assign ascending times to all frames of the file, which come in presentation order."""
        order: AscendingTimes[VideoFrame] = AscendingTimes()
        try:
            for frame in frames:
                if frame.pts is None:
                    raise UserError(f"{self.path}: its frames have no presentation times")
                yield from retimed(order.push(_time_s(frame), frame), self._time_base)
        except av.error.FFmpegError:  # frames before the damage are intact
            yield from retimed(order.flush(), self._time_base)
            raise
        yield from retimed(order.flush(), self._time_base)
        self._resets = order.resets

    def _demux(self) -> Iterator[Packet[VideoStream]]:
        """Yield the packets from the current position, with times on this reader's clock."""
        for packet in packets_of(self._container, self._stream):
            if self._shift:
                if packet.pts is not None:
                    packet.pts += self._shift
                if packet.dts is not None:
                    packet.dts += self._shift
            yield packet

    def _decoded(self, *, after_seek: bool) -> Iterator[VideoFrame]:
        """Decode from the current position.

        Frames that need frames before this position are not damaged: seeking in a container without
        an index may end between two key frames, a file may begin there, and the leading frames of
        an open GOP refer to frames before its key frame.
        """
        needs_key_frame = after_seek and self._damage == "refuse"
        opened, opening_pts = False, math.inf
        for packet in self._demux():
            if packet.size and not opened:
                if packet.is_keyframe:
                    opened, opening_pts = True, -math.inf if packet.pts is None else packet.pts
                elif needs_key_frame:
                    continue
            try:
                yield from packet.decode()
            except av.error.InvalidDataError:
                leading = not opened or (packet.pts is not None and packet.pts < opening_pts)
                if self._damage != "skip" and not leading:
                    raise

    def _check_start(self, keyframes_s: NDArray[np.float64], first_s: float) -> None:
        slack_s = self._usual_interval_s / 2 + SAME_TIME_S
        early = keyframes_s < first_s - slack_s
        if early.any() and first_s <= self._start_s + slack_s:
            raise UserError(
                f"{self.path}: keyframe at {keyframes_s[early][0]:.6f} s is before the first "
                f"frame, which is shown at {first_s:.6f} s"
            )

    @cached_property
    def _start_s(self) -> float:
        start = self._stream.start_time
        return float((start + self._shift) * self._time_base) if start is not None else 0.0

    @cached_property
    def _usual_interval_s(self) -> float:
        for rate in (self._stream.average_rate, self._stream.guessed_rate):
            if rate and 0 < rate <= MAX_FPS:
                return 1 / float(rate)
        times_s = self.frame_times_s()
        span_s = float(times_s[-1] - times_s[0])
        return span_s / (len(times_s) - 1) if span_s > 0 else 0.04

    def _seek(self, time_s: float | None) -> None:
        """Seek to the key frame before `time_s`, or to the first frame."""
        if time_s is not None:
            ticks = int(time_s / self._time_base) - self._shift
            self._container.seek(ticks, stream=self._stream, backward=True)
            return
        try:
            # Beyond the start: the first frame's decoding time is before its presentation time.
            self._seek(self._start_s - 1)
        except av.error.FFmpegError:
            self._seek(self._start_s)  # FLV has no negative times

    @cached_property
    def _listed(self) -> _Listed:
        """The frames' times according to the packets, without decoding."""
        pts: list[int] = []
        packets, untimed, is_plain = 0, 0, True
        last_dts: int | None = None
        indexed = len(self._stream.index_entries)  # before reading adds entries
        try:
            self._seek(None)
            for packet in self._demux():
                if packet.size == 0:
                    continue
                packets += 1
                if packet.is_corrupt:
                    raise UserError(f"{self.path}: damaged or cut short at frame {packets}")
                if packet.dts is not None:
                    is_plain = is_plain and (last_dts is None or packet.dts > last_dts)
                    last_dts = packet.dts
                if packet.is_discard:
                    continue
                if packet.pts is None:
                    untimed += 1
                else:
                    pts.append(packet.pts)
        except av.error.FFmpegError as error:
            place = f"after {packets} of {self._stream.frames} frames"
            message = f"{self.path}: damaged or cut short {place} ({reason_of(error)})"
            raise UserError(message) from error
        expected = self._expected_packets(packets, indexed, last_dts)
        if packets < expected:
            listed = f"{packets} of the {expected} frames that its header lists"
            raise UserError(f"{self.path}: cut short, {listed}")
        if not pts:
            raise UserError(f"{self.path}: its frames have no presentation times")
        unique = np.unique(np.asarray(pts))
        is_plain = is_plain and not untimed and len(unique) == len(pts)
        return _Listed(unique * float(self._time_base), packets, is_plain)

    def _expected_packets(self, packets: int, indexed: int, last_dts: int | None) -> int:
        """Return the number of packets according to the header.

        AVI's header counts time slots, of which those without data repeat the frame before them;
        the index at the end of the file lists only those with data.
        """
        if self._container.format.name != "avi":
            return self._stream.frames
        if last_dts is not None and last_dts - self._shift + 1 >= self._stream.frames:
            return packets
        with self.path.open("rb") as file:
            form, num_bytes = struct.unpack("<4sI", file.read(8))
        is_whole = form == b"RIFF" and self.path.stat().st_size >= 8 + num_bytes
        return indexed if is_whole and indexed >= packets else self._stream.frames


@dataclass(frozen=True)
class _Listed:
    """What the packets say about the frames."""

    times_s: NDArray[np.float64]  # (n,) ascending
    packets: int  # with data
    is_plain: bool  # every packet has a time of its own, and decoding times ascend


@dataclass(frozen=True)
class FrameCounts:
    """Numbers of packets and frames.

    packets: packets with data.
    decodable: frames from the first decodable one on.
    """

    packets: int
    decodable: int


@dataclass(frozen=True)
class VideoInfo:
    """A video's properties.

    width, height: pixels as displayed.
    average_fps: mean frame rate.
    duration_s: of the video stream.
    num_frames: according to the header, where it says so.
    codec: FFmpeg's name.
    start_s: presentation time of the first frame.
    rotation: degrees counterclockwise that players rotate the frames by; already applied here.
    """

    width: int
    height: int
    average_fps: float
    duration_s: float
    num_frames: int
    codec: str
    start_s: float
    rotation: int


class _DisorderError(Exception):
    """A decoded frame's time is not after that of the frame before it."""


class _UnsureError(Exception):
    """The packets do not determine which frames have to be decoded."""


def _shown_pts(packets: Sequence[Packet[VideoStream]]) -> list[int]:
    return [p.pts for p in packets if p.pts is not None and not p.is_discard]


def _is_nearer(before: VideoFrame | None, after: VideoFrame | None, time_s: float) -> bool:
    """Return whether `before` is the frame nearest to `time_s` (a tie goes to the earlier)."""
    if before is None or after is None:
        return before is not None
    return bool(_first_is_nearer(_time_s(before), _time_s(after), time_s))


def _first_is_nearer(before_s: Any, after_s: Any, time_s: Any) -> Any:
    """Return whether the first of two times (or arrays) is nearer; a tie goes to the first."""
    return time_s - before_s <= after_s - time_s + SAME_TIME_S


def _time_s(frame: VideoFrame) -> float:
    time_s = frame.time
    assert time_s is not None
    return time_s
