"""Videos whose every frame says which one it is, for the tests of the data path."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detection.video.writer import VideoWriter

BITS = 10


def numbered_image(number, *, width=160, height=96):
    """Ten upright bars, white where the bit of the number is 1."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit in range(BITS):
        left, right = bit * width // BITS, (bit + 1) * width // BITS
        image[:, left:right] = 255 * ((number >> bit) & 1)
    return image


def numbers_of(frames):
    """Read the numbers back from (T, 3, H, W) frames."""
    frames = np.asarray(frames)
    _, _, height, width = frames.shape
    columns = [int((bit + 0.5) * width / BITS) for bit in range(BITS)]
    bits = frames[:, 1, height // 2, :][:, columns] > 127
    return (bits << np.arange(BITS)).sum(axis=1).tolist()


def write_numbered(path: Path, times_s, *, fps=25.0, width=160, height=96, keyframe_interval_s=1.0):
    """Write one numbered frame for each time."""
    with VideoWriter(
        path, width=width, height=height, fps=fps, keyframe_interval_s=keyframe_interval_s
    ) as writer:
        for number, time_s in enumerate(times_s):
            writer.write(numbered_image(number, width=width, height=height), time_s)
    return path


def nearest(times_s, required_s):
    """The oracle: the frame with the nearest time, the earlier of two as near."""
    found = []
    for required in required_s:
        distances = [round(abs(required - shown), 5) for shown in times_s]
        found.append(distances.index(min(distances)))
    return found
