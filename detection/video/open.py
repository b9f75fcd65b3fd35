"""Opens every video of this project, so that a file's content cannot make other files be read.

FFmpeg detects formats by content, not by name, and some of its formats are lists of other files or
URLs: a text file named `a.mp4` could make it read a neighbouring file or connect to a server. Files
are opened only in formats that contain their own frames, and URLs only by network protocols.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import av
import av.error
from av.packet import Packet
from av.video.stream import VideoStream

from detection.errors import UserError, printable

OPEN_TIMEOUT_S, READ_TIMEOUT_S = 10.0, 10.0
# FFmpeg's names of the formats that contain their own frames (or sound).
FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpegtsraw,mpeg,mpegvideo,flv,live_flv,asf,"
    "ogg,mxf,mxg,gxf,nut,dv,wtv,rm,ivf,obu,h261,h263,h264,hevc,vvc,evc,m4v,vc1,vc1test,cavsvideo,"
    "dirac,mjpeg,mpjpeg,smjpeg,gif,apng,yuv4mpegpipe,nsv,nuv,swf,dhav,ivr,lvf,mtv,mv,pva,ty,pmp,"
    "kux,psxstr,vivo,dxa,roq,smk,bink,flic,4xm,aac,ac3,eac3,aiff,amr,au,caf,dts,flac,mp3,w64,wav,"
    "tta,ape,wv,truehd"
)
# URLs may also be live playlists, whose segments are loaded by the same protocols.
_NETWORK_FORMATS = f"{FORMATS},rtsp,rtp,sdp,hls,dash,mpjpeg"
_NETWORK_PROTOCOLS = (
    "http,https,httpproxy,tls,tcp,udp,udplite,rtp,rtcp,srtp,rtsp,rtmp,rtmpe,rtmps,rtmpt,rtmpte,"
    "rtmpts,srt,rist,mmsh,mmst,crypto"
)


class Closing:
    """A context manager that closes what it holds."""

    def close(self) -> None:
        """Close it."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_file(path: str | Path, *, shown_as: str | None = None) -> Any:
    """Return the opened container of a local regular file.

    Raises `UserError` naming the file (`shown_as`) where it is missing, unreadable, or in none of
    `FORMATS`.
    """
    shown = printable(str(path)) if shown_as is None else shown_as
    try:
        if not Path(path).is_file():
            raise UserError(f"{shown}: video file not found")
        with Path(path).open("rb"):  # the system's own error message is the clearest
            pass
        # Absolute, so that FFmpeg takes no text in front of a colon for a protocol.
        return _open(str(Path(path).absolute()), FORMATS, "file")
    except UserError as error:
        raise UserError(f"{shown}: {error}" if shown not in str(error) else str(error)) from error
    except (OSError, ValueError) as error:
        raise UserError(f"{shown}: cannot be read ({reason_of(error)})") from error


def open_bytes(file: Any, *, shown_as: str) -> Any:
    """Return the opened container of a binary file object, such as standard input."""
    try:
        return _open(file, FORMATS, "")
    except UserError as error:
        raise UserError(f"{shown_as}: {error}") from error


def open_address(address: str, *, shown_as: str) -> Any:
    """Return the opened container at a URL; raises `UserError` where it does not respond."""
    is_file = address.lower().startswith("file:")
    formats, protocols = (FORMATS, "file") if is_file else (_NETWORK_FORMATS, _NETWORK_PROTOCOLS)
    # Half a second is enough to detect the format, and adds little delay.
    more = {"rtsp_transport": "tcp", "analyzeduration": "500000"}
    try:
        return _open(address, formats, protocols, more, (OPEN_TIMEOUT_S, READ_TIMEOUT_S))
    except UserError as error:
        reason = str(error).removeprefix(_NO_VIDEO).strip(" ()") or "no video"
        raise UserError(f"{shown_as}: cannot be opened ({reason})") from error


def video_stream_of(container: Any, *, shown_as: str) -> Any:
    """Return the first video stream; closes the container and raises `UserError` without one."""
    for stream in container.streams.video:
        if stream.codec_context is not None:
            return stream
    container.close()
    raise UserError(f"{shown_as}: contains no video stream (sound only, or cut short)")


def packets_of(container: Any, stream: Any) -> Iterator[Packet[VideoStream]]:
    """Yield a stream's packets from the container's current position.

    PyAV raises IndexError for a packet of a stream that appears later in the file (FLV and
    transport streams do not announce theirs); demuxing again continues behind that packet.
    """
    while True:
        try:
            yield from container.demux(stream)
        except IndexError:
            continue
        return


_NO_VIDEO = "not a video, or cut short"


def _open(
    what: Any,
    formats: str,
    protocols: str,
    options: dict[str, str] | None = None,
    timeout: tuple[float, float] | None = None,
) -> Any:
    """Open; the `UserError` says why that failed, without the name of the file."""
    limits = {"format_whitelist": formats, "protocol_whitelist": protocols}
    try:
        return av.open(what, options=limits | (options or {}), timeout=timeout)
    except av.error.ArgumentError as error:
        raise UserError(f"{_NO_VIDEO} (a list of other files, or an unsupported format)") from error
    except (av.error.FFmpegError, ValueError, OSError) as error:
        raise UserError(f"{_NO_VIDEO} ({reason_of(error)})") from error


def reason_of(error: BaseException) -> str:
    """Return FFmpeg's or the system's error message, on one line."""
    return getattr(error, "strerror", None) or str(error).split("\n")[0] or type(error).__name__
