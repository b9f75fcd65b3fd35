"""Damages videos as bad disks and broken transfers do."""

from __future__ import annotations

from pathlib import Path

import av


def damage(path: Path, start_s: float, end_s: float) -> None:
    """Overwrite the packets between two times."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        bad = [
            (packet.pos, packet.size)
            for packet in container.demux(stream)
            if packet.pts is not None and start_s <= float(packet.pts * stream.time_base) < end_s
        ]
    data = bytearray(path.read_bytes())
    for position, size in bad:
        data[position + 5 : position + size] = b"\xff" * (size - 5)
    path.write_bytes(data)
