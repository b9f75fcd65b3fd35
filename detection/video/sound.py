"""Copies a file's sound, as it is encoded, beside video that shows the file's own frames.

Times are seconds on the file's own clock (shifted as its frames are), so sound and frames stay in
step whichever stretch is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import av.error
from av.packet import Packet
from av.stream import Discard

from detection.video.open import open_file, packets_of, reason_of

# FFmpeg's names of the codecs whose packets MP4 files hold and common players decode.
COPIED_CODECS = frozenset({"aac", "ac3", "alac", "eac3", "flac", "mp3", "opus"})


@dataclass(frozen=True)
class Sound:
    """The sound of a video file.

    shift_s: seconds added to the file's times, as to those of its frames (`VideoRepairs.shift_s`).
    """

    path: Path
    shift_s: float = 0.0


class SoundError(Exception):
    """The sound cannot be copied; the message says why."""


class SoundCopier:
    """Copies sound into an open container, in order of time. A context manager.

    Made before the container's first packet. Raises `SoundError` for sound that an MP4 file cannot
    hold.

    from_s: earlier sound is left out.
    """

    def __init__(self, sound: Sound, container: Any, *, from_s: float) -> None:
        self._container, self._from_s, self._shift_s = container, from_s, sound.shift_s
        self._opened = open_file(sound.path)
        try:
            stream = sound_stream_of(self._opened)
            if stream is None:
                raise SoundError("the file no longer has any")
            codec = stream.codec_context.codec.canonical_name
            if codec not in COPIED_CODECS:
                raise SoundError(f"it is encoded as {codec}, which is not copied into MP4 files")
            for other in self._opened.streams:
                if other.index != stream.index:
                    other.discard = Discard.all
            self._written = container.add_stream_from_template(stream)
        except BaseException:
            self._opened.close()
            raise
        self._packets = self._shifted(stream)
        self._next: Packet[Any] | None = None

    def copy_until(self, time_s: float) -> None:
        """Copy the sound that begins before a time, after that which is copied already."""
        while True:
            if self._next is None:
                self._next = next(self._packets, None)
            packet = self._next
            if packet is None or _time_s(packet) >= time_s:
                return
            packet.stream = self._written
            self._container.mux(packet)
            self._next = None

    def __enter__(self) -> SoundCopier:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._opened.close()

    def _shifted(self, stream: Any) -> Iterator[Packet[Any]]:
        """Yield the intact packets from `from_s` on, at the shifted times."""
        last_s = -1.0
        shift = round(self._shift_s / stream.time_base)
        try:
            for packet in packets_of(self._opened, stream):
                if packet.pts is None or packet.is_discard or packet.is_corrupt:
                    continue  # also the packet that ends the file
                packet.pts += shift
                packet.dts = packet.pts  # these codecs do not reorder
                time_s = _time_s(packet)
                if time_s < self._from_s:
                    continue
                if time_s <= last_s:
                    raise SoundError("its times do not ascend")
                last_s = time_s
                yield packet
        except av.error.FFmpegError as error:
            raise SoundError(f"it cannot be read ({reason_of(error)})") from error


def _time_s(packet: Packet[Any]) -> float:
    assert packet.pts is not None, "packets without a time are left out"
    return float(packet.pts * packet.time_base)


def sound_stream_of(container: Any) -> Any:
    """Return the first sound stream that can be decoded; None: there is none."""
    return next((s for s in container.streams.audio if s.codec_context is not None), None)
