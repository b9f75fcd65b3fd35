"""Files as old encoders and recorders leave them, every frame with its number, for the tests."""

from __future__ import annotations

from fractions import Fraction

import av
from av.packet import Packet
from av.video.frame import VideoFrame
from numbered_video import numbered_image

VOP = b"\x00\x00\x01\xb6"
USER_DATA = b"\x00\x00\x01\xb2"


def encoded(
    codec, count, *, rate=25, b_frames=0, gop=12, options=None, width=160, height=96,
    pixel_shape=None,
):  # fmt: skip
    """Return (the encoder, its packets) of `count` numbered frames.

    pixel_shape: width to height of one pixel.
    """
    encoder = av.CodecContext.create(codec, "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate = Fraction(1, rate), Fraction(rate)
    encoder.gop_size, encoder.max_b_frames = gop, b_frames
    encoder.options = options or {}
    if pixel_shape is not None:
        encoder.sample_aspect_ratio = pixel_shape
    packets = []
    for number in range(count):
        image = numbered_image(number, width=width, height=height)
        frame = VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
        frame.pts, frame.time_base = number, encoder.time_base
        packets += encoder.encode(frame)
    return encoder, packets + encoder.encode(None)


TICKS = 90000


def mux(path, encoder, packets, *, codec, rate=25, tag=None, start_ticks=0):
    """Write (data, pts, dts, is key frame) packets; times in frames after the start."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = encoder.width, encoder.height, "yuv420p"
        if tag:
            stream.codec_context.codec_tag = tag
        if encoder.extradata:
            stream.codec_context.extradata = encoder.extradata
        for data, pts, dts, is_key in packets:
            packet = Packet(data)
            packet.stream, packet.is_keyframe = stream, is_key
            packet.time_base, step = (
                (Fraction(1, TICKS), TICKS // rate) if start_ticks else (Fraction(1, rate), 1)
            )
            packet.pts, packet.dts = start_ticks + pts * step, start_ticks + dts * step
            container.mux(packet)
    return path


def write_packed_avi(path, count=60):
    """Write MPEG-4 as XviD and DivX did: a P and a B frame in one chunk, then an empty one."""
    encoder, packets = encoded("mpeg4", count, b_frames=1)
    data = [bytes(packet) for packet in packets]
    kinds = [one[one.index(VOP) + 4] >> 6 for one in data]  # 0: I, 1: P, 2: B
    chunks = []
    for position, one in enumerate(data):
        if kinds[position] == 2:
            chunks[-1] += one
            chunks.append(VOP + b"\x50\x00\x3f")
        else:
            chunks.append(one)
    assert kinds.count(2) > count / 3
    first = chunks[0]
    chunks[0] = first[: first.index(USER_DATA)] + USER_DATA + b"DivX503b1393p"
    chunks[0] += first[first.index(VOP) :]
    rows = [(c, i, i, c[c.index(VOP) + 4] >> 6 == 0) for i, c in enumerate(chunks)]
    return mux(path, encoder, rows, codec="mpeg4", tag="XVID")


def write_avi(path, codec, count=60, *, slots=None, b_frames=2):
    """Write an AVI; slots: where in time each frame lies, with empty chunks between them."""
    encoder, packets = encoded(codec, count, b_frames=b_frames)
    slots = range(count) if slots is None else slots
    rows = [
        (bytes(packet), slot, slot, packet.is_keyframe)
        for packet, slot in zip(packets, slots, strict=True)
    ]
    return mux(path, encoder, rows, codec=codec)


def write_segment(path, *, drop, codec="libx264", options=None, count=60):
    """Write a file without its first packets, which begins between two key frames."""
    encoder, packets = encoded(codec, count, gop=20, b_frames=2, options=options)
    rows = [(bytes(p), p.pts, p.dts, p.is_keyframe) for p in packets][drop:]
    return mux(path, encoder, rows, codec=codec)
