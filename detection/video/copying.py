"""Copies encoded video into an MP4 file without decoding it, and counts what a seek decodes.

Times are seconds on the video's own clock, as `VideoReader` reads it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import av
import av.error
import numpy as np
from av.packet import Packet
from av.video.stream import VideoStream

from detection.errors import UserError
from detection.files import replacing
from detection.video.reader import VideoReader
from detection.video.writer import MP4_OPTIONS

_MOST_REORDERED = 16  # frames that H.264 may hold back
_SAME_TIME_S = 1e-3  # Matroska's and FLV's times are whole milliseconds


def most_frames_to_seek(
    reader: VideoReader, *, start_s: float = -math.inf, end_s: float = math.inf
) -> int:
    """Return the most frames from one key frame to before the next, without decoding.

    start_s, end_s: only seeks between them count.
    """
    most = count = 0
    for packet in reader.packets(from_s=start_s):
        if packet.pts is None or not packet.size:
            continue
        if packet.is_keyframe:
            most, count = max(most, count), 0
            if float(packet.pts * packet.time_base) > end_s:
                break
        count += 1
    return max(most, count)


def copy_to_mp4(
    reader: VideoReader, path: str | Path, *, start_s: float = -math.inf, end_s: float = math.inf
) -> bool:
    """Write the video's packets to an MP4 file, without sound; return whether that succeeded.

    The copy is read again: it must show frames of the same size at the same times. Where it does
    not, or the packets do not fit an MP4 file, nothing is written.

    start_s, end_s: from the key frame at or before `start_s` to the first packet decoded after
    `end_s`.
    """
    if reader.repairs().sorts:
        return False
    with suppress(_NotCopiedError, UserError), replacing(Path(path)) as temporary:
        try:
            times_s = _copy(reader, temporary, start_s, end_s)
        except (av.error.FFmpegError, ValueError) as error:
            raise _NotCopiedError from error
        with VideoReader(temporary) as copy:
            shown_s = copy.frame_times_s()
            if shown_s.shape != times_s.shape or (abs(shown_s - times_s) > _SAME_TIME_S).any():
                raise _NotCopiedError
            if copy.frame_size() != reader.frame_size() or copy.info.codec != reader.info.codec:
                raise _NotCopiedError
            if copy.pixel_shape != reader.pixel_shape:
                raise _NotCopiedError
        return True
    return False


class _NotCopiedError(Exception):
    """The packets do not fit an MP4 file, or the copy shows something else."""


def _copy(reader: VideoReader, path: Path, start_s: float, end_s: float) -> np.ndarray:
    """Copy packets; return the (n,) ascending times of their frames."""
    times_s: list[float] = []
    key_pts: int | None = None
    # Before the packets: it moves the position.
    interval_s, begins_s = 1 / reader.info.average_fps, max(start_s, reader.info.start_s)
    with av.open(str(path), "w", format="mp4", options=MP4_OPTIONS) as container:
        written = container.add_stream_from_template(reader.stream)
        for packet in _all_with_dts(reader.packets(from_s=start_s), interval_s):
            if not packet.size:
                continue
            if packet.pts is None or packet.dts is None or packet.is_corrupt:
                raise _NotCopiedError
            if key_pts is None and not packet.is_keyframe:
                continue
            key_pts = packet.pts if key_pts is None else key_pts
            if packet.pts < key_pts or packet.is_discard:
                continue  # leading frames of an open GOP, which need what is before it
            if float(packet.dts * packet.time_base) > end_s:
                break
            times_s.append(float(packet.pts * packet.time_base))
            if not packet.duration:  # of the last frame MP4 needs one, which FLV does not state
                packet.duration = max(1, round(interval_s / float(packet.time_base)))
            packet.stream = written
            container.mux(packet)
    if not times_s or times_s[0] > begins_s + _SAME_TIME_S:
        raise _NotCopiedError
    return np.sort(np.array(times_s))


def _all_with_dts(
    packets: Iterator[Packet[VideoStream]], interval_s: float
) -> Iterator[Packet[VideoStream]]:
    """Yield packets; the first ones of Matroska, which has no decoding times, get theirs."""
    waiting: list[Packet[VideoStream]] = []
    for packet in packets:
        waiting.append(packet)
        if packet.dts is None and len(waiting) <= _MOST_REORDERED:
            continue
        if packet.dts is not None:
            step = max(1, round(interval_s / float(packet.time_base)))
            for number, earlier in enumerate(reversed(waiting[:-1]), start=1):
                earlier.dts = packet.dts - number * step
        yield from waiting
        waiting = []
    yield from waiting
