"""Maps of X3D along a video: passes of the trunk, and windows of their frames around keyframes.

Of `streams.py`, which says what a way is. Legend: B clips, T frames, H W pixels, h w map size,
C channels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detection.errors import UserError
from detection.models.x3d import X3DTrunk
from detection.structures import STEPS_PER_SECOND, ClipSampling


@dataclass(frozen=True)
class Way:
    """How a keyframe is seen: see the top of this file.

    step: spacing in 1/30 s.  frames: of a clip, or of a stream's window (0: the pass).
    pass_frames: 0: a clip.  is_long: whether the video goes on beyond its ends.
    """

    step: float
    frames: int
    pass_frames: int = 0
    margin: int = 0
    is_long: bool = False

    @property
    def step_s(self) -> float:
        """Seconds from one frame to the next."""
        return self.step / STEPS_PER_SECOND

    @property
    def passes(self) -> tuple[float, int, int, bool]:
        """What decides the maps: ways that differ in their windows alone share them."""
        return self.step, self.pass_frames, self.margin, self.is_long


@dataclass(frozen=True)
class Frames:
    """A video's frames as the trunk takes them.

    pixels: (n, 3, H, W) normalised.  times_s: (n,) ascending.  offset: of a long stream's passes.
    """

    pixels: Tensor
    times_s: NDArray[np.float64]
    offset: int = 0

    def at(self, times_s: NDArray[np.float64]) -> Tensor:
        """Return the (1, 3, T, H, W) nearest frames; beyond the ends the video runs backwards."""
        first_s, last_s = self.times_s[[0, -1]]
        span_s = max(last_s - first_s, 1e-9)
        behind_s = np.abs((times_s - first_s + span_s) % (2 * span_s) - span_s)
        middles = (self.times_s[1:] + self.times_s[:-1]) / 2
        places = np.searchsorted(middles, first_s + behind_s - 1e-6)
        return self.pixels[torch.from_numpy(places)].transpose(0, 1)[None]


def parse_way(name: str) -> Way:
    """Return the way of a name."""
    clip = re.fullmatch(r"clip:(\d+)x([\d.]+)(:long)?", name)
    if clip is not None:
        return Way(float(clip[2]), int(clip[1]), is_long=clip[3] is not None)
    stream = re.fullmatch(r"stream:([\d.]+):(\d+):(\d+):(\d+)(:long)?", name)
    if stream is None or not int(stream[2]) or not float(stream[1]):
        raise UserError(f"'{name}' is neither clip:TxS nor stream:S:P:M:W, all but M and G above 0")
    step, (pass_frames, margin, window) = float(stream[1]), map(int, stream.groups()[1:4])
    return Way(step, window, pass_frames, margin, stream[5] is not None)


def plan_passes(
    needed: tuple[int, int], way: Way, *, inside: tuple[int, int] | None, offset: int = 0
) -> Iterator[tuple[range, range]]:
    """Yield the frames that a pass gives and those that it computes, for all of needed[0:1].

    inside: numbers of the video's frames; a pass that would reach past them moves inside.
    """
    size, margin = way.pass_frames, way.margin
    for number in range((needed[0] + offset) // size, (needed[1] - 1 + offset) // size + 1):
        first = number * size - offset
        gives = range(max(first, needed[0]), min(first + size, needed[1]))
        begin, end = first - margin, first + size + margin
        if inside is not None:
            begin = max(inside[0], min(begin, inside[1] - (end - begin)))
            end = min(inside[1], begin + size + 2 * margin)
        yield gives, range(begin, end)


def stream_maps(
    trunk: X3DTrunk, frames: Frames, way: Way, needed: tuple[int, int]
) -> dict[int, Tensor]:
    """Return the (C, h, w) map of each sampled frame of a range, by passes."""
    maps: dict[int, Tensor] = {}
    inside = None if way.is_long else (0, sampled_frames(frames, way))
    offset = frames.offset % way.pass_frames if way.is_long else 0
    for gives, computes in plan_passes(needed, way, inside=inside, offset=offset):
        times_s = frames.times_s[0] + np.arange(computes.start, computes.stop) * way.step_s
        found = trunk(frames.at(times_s))[0]
        maps |= {k: found[:, k - computes.start] for k in gives}
    return maps


def sampled_frames(frames: Frames, way: Way) -> int:
    """Return how many sampled frames a video has: those at or before its last frame."""
    return int((frames.times_s[-1] - frames.times_s[0] + 1e-6) / way.step_s) + 1


def window_of(time_s: float, frames: Frames, way: Way) -> tuple[int, int]:
    """Return the first sampled frame of a keyframe's window and the one after its last."""
    middle = round((time_s - frames.times_s[0]) / way.step_s)
    first = middle - way.frames // 2
    if not way.frames:
        offset = frames.offset % way.pass_frames if way.is_long else 0
        first = (middle + offset) // way.pass_frames * way.pass_frames - offset
        way = replace(way, frames=way.pass_frames)
    if way.is_long:
        return first, first + way.frames
    count = sampled_frames(frames, way)
    first = max(0, min(first, count - way.frames))
    return first, min(first + way.frames, count)


def three_means(maps: Tensor) -> Tensor:
    """(C, T, h, w) -> (3, C, 1, h, w): the mean map, that of the first half, of the second half."""
    middle = max(maps.shape[1] // 2, 1)
    halves = maps[:, :middle].mean(1), maps[:, min(middle, maps.shape[1] - 1) :].mean(1)
    return torch.stack([maps.mean(1), *halves])[:, :, None]


def maps_of(
    trunk: X3DTrunk, frames: Frames, ways: Sequence[Way], times_s: Sequence[float]
) -> list[list[Tensor]]:
    """Return (C, T, h, w) of each way and keyframe; the ways share their passes, if any."""
    if not ways[0].pass_frames:
        ends_s = (float(frames.times_s[0]), float(frames.times_s[-1]))
        found = []
        for way in ways:
            sampling = ClipSampling(way.frames, way.step, "inside")
            within_s = None if way.is_long else ends_s
            clips_s = [sampling.times_s(time_s, within_s=within_s) for time_s in times_s]
            found.append([trunk(frames.at(clip_s))[0] for clip_s in clips_s])
        return found
    spans = [[window_of(time_s, frames, way) for time_s in times_s] for way in ways]
    every = [span for of_way in spans for span in of_way]
    needed = min(span[0] for span in every), max(span[1] for span in every)
    maps = stream_maps(trunk, frames, ways[0], needed)
    return [[torch.stack([maps[k] for k in range(*s)], 1) for s in of_way] for of_way in spans]
