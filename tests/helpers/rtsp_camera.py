"""A camera for tests: an RTSP server (RFC 2326) of one H.264 video, RTP (RFC 6184) inside its TCP.

It speaks as much as a client needs that asks for TCP: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN.
"""

from __future__ import annotations

import base64
import socket
import struct
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import av

_LARGEST = 1400
_CLOCK_HZ = 90_000


class RtspCamera:
    """Shows `video` from its start to each client, one after the other; hangs up at its end.

    speed: 1 in real time.  clients: so many are served.  `address` is where it listens.
    """

    def __init__(self, video: Path, *, speed: float = 1.0, clients: int = 1) -> None:
        self._video, self._speed, self._clients = video, speed, clients
        self._server = socket.create_server(("127.0.0.1", 0))
        self.address = f"rtsp://127.0.0.1:{self._server.getsockname()[1]}/door"
        with av.open(str(video)) as container:
            self._sets = _parameter_sets(container.streams.video[0].codec_context.extradata)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Wait until all clients have been served."""
        self._thread.join()

    def _serve(self) -> None:
        with self._server:
            for _ in range(self._clients):
                connection, _ = self._server.accept()
                with connection:
                    try:
                        self._answer(connection)
                        self._play(connection)
                    except (BrokenPipeError, ConnectionResetError):
                        continue  # the client has left

    def _answer(self, connection: socket.socket) -> None:
        """Answer requests until the video is asked for."""
        requests = connection.makefile("r", encoding="ascii", newline="\r\n")
        while True:
            line = requests.readline()
            if not line:
                raise ConnectionResetError
            method, headers = line.split()[0], {}
            while (line := requests.readline().strip()) != "":
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            body, more = "", ""
            if method == "DESCRIBE":
                body = self._description()
                more = f"Content-Base: {self.address}/\r\nContent-Type: application/sdp\r\n"
            elif method == "SETUP":
                assert "interleaved" in headers["transport"], "the client is to ask for TCP"
                more = "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n"
            elif method == "OPTIONS":
                more = "Public: OPTIONS, DESCRIBE, SETUP, PLAY, TEARDOWN\r\n"
            answer = f"RTSP/1.0 200 OK\r\nCSeq: {headers['cseq']}\r\n{more}"
            answer += f"Content-Length: {len(body)}\r\n\r\n{body}"
            connection.sendall(answer.encode())
            if method == "PLAY":
                return

    def _description(self) -> str:
        sets = ",".join(base64.b64encode(data).decode() for data in self._sets)
        lines = ("v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=door", "t=0 0", "m=video 0 RTP/AVP 96")
        lines += ("c=IN IP4 0.0.0.0", "a=rtpmap:96 H264/90000", "a=control:track")
        lines += (f"a=fmtp:96 packetization-mode=1;sprop-parameter-sets={sets}",)
        return "".join(line + "\r\n" for line in lines)

    def _play(self, connection: socket.socket) -> None:
        begun_s, number = time.monotonic(), 0
        with av.open(str(self._video)) as container:
            for packet in container.demux(video=0):
                if packet.pts is None:
                    continue
                time_s = float(packet.pts * packet.time_base)
                time.sleep(max(0.0, begun_s + time_s / self._speed - time.monotonic()))
                payloads = [p for unit in _units(bytes(packet)) for p in _payloads(unit)]
                for position, payload in enumerate(payloads):
                    last = position == len(payloads) - 1
                    ticks = round(time_s * _CLOCK_HZ) & 0xFFFFFFFF
                    header = struct.pack(">BBHII", 0x80, 96 | last << 7, number & 0xFFFF, ticks, 7)
                    number += 1
                    size = len(header) + len(payload)
                    connection.sendall(struct.pack(">cBH", b"$", 0, size) + header + payload)


def _parameter_sets(extradata: bytes) -> list[bytes]:
    """Return the sequence and picture parameter sets of an avcC record (ISO 14496-15)."""
    found, place = [], 5
    for mask in (0x1F, 0xFF):
        count, place = extradata[place] & mask, place + 1
        for _ in range(count):
            (size,) = struct.unpack_from(">H", extradata, place)
            found.append(extradata[place + 2 : place + 2 + size])
            place += 2 + size
    return found


def _units(packet: bytes) -> Iterator[bytes]:
    """Yield the NAL units of a packet of an MP4 file, each behind its length."""
    place = 0
    while place < len(packet):
        (size,) = struct.unpack_from(">I", packet, place)
        yield packet[place + 4 : place + 4 + size]
        place += 4 + size


def _payloads(unit: bytes) -> Iterator[bytes]:
    """Yield a unit as it is, or in fragments (FU-A)."""
    if len(unit) <= _LARGEST:
        yield unit
        return
    indicator, kind = unit[0] & 0xE0 | 28, unit[0] & 0x1F
    for place in range(1, len(unit), _LARGEST):
        first, last = place == 1, place + _LARGEST >= len(unit)
        yield bytes([indicator, first << 7 | last << 6 | kind]) + unit[place : place + _LARGEST]
