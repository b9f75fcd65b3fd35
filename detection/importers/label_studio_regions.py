"""Regions of Label Studio's videos: their boxes in per cent, and which frame a number means.

https://labelstud.io/tags/videorectangle. A rotation is in degrees, clockwise around the upper left
corner.
"""

from __future__ import annotations

import bisect
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.importers.coco_shapes import FieldError, number_of
from detection.importers.cvat_shapes import Box
from detection.video.frame_folder import nearest_frames

PERSON = "person {}"  # in a region's `meta.text`
_PERSON = re.compile(r"person:? *(\S.{0,99})", re.IGNORECASE)
_ALIKE = 0.01  # relative: frame counts by durations are off by a frame or two


@dataclass(frozen=True, slots=True)
class DrawnBox:
    """A box that is drawn.

    frame: from 1.  box: x, y, width, height in per cent, before the rotation.  enabled: whether the
    region goes on after it.  time_s: as stated, None where it is not.
    """

    frame: int
    box: Box
    rotation: float
    enabled: bool
    time_s: float | None = None

    def hull_01(self, size_px: tuple[float, float]) -> Box:
        """Return x1, y1, x2, y2 of the upright box around it, in fractions of the frame."""
        x, y, width, height = self.box
        if not self.rotation % 360:
            return x / 100, y / 100, (x + width) / 100, (y + height) / 100
        turn = math.radians(self.rotation)
        width, height = width * size_px[0], height * size_px[1]  # squares stay squares
        xs = [0, width * math.cos(turn), -height * math.sin(turn)]
        ys = [0, width * math.sin(turn), height * math.cos(turn)]
        xs, ys = [*xs, xs[1] + xs[2]], [*ys, ys[1] + ys[2]]
        x1, x2 = (x + edge / size_px[0] for edge in (min(xs), max(xs)))
        y1, y2 = (y + edge / size_px[1] for edge in (min(ys), max(ys)))
        return x1 / 100, y1 / 100, x2 / 100, y2 / 100


@dataclass
class VideoRegion:
    """A person through time.

    identity: of the region.  person: its id, or what its `meta.text` says.  keys: ascending.
    frames, duration_s: of the video as Label Studio counts, 0 where unknown.  place: in the file.
    """

    identity: str
    person: str
    keys: list[DrawnBox]
    actions: list[str]
    frames: float
    duration_s: float
    place: str


@dataclass(frozen=True)
class Clock:
    """Which frame of the video a number means.

    times_s: (n,) presentation times.  fps: of the numbers.  own_fps: of the video.
    """

    times_s: NDArray[np.float64]
    fps: float
    own_fps: float

    @classmethod
    def of(cls, times_s: NDArray[np.float64], stated_fps: float | None) -> Clock:
        """Build it; a stated rate near the video's own means that one."""
        own = (len(times_s) - 1) / max(float(times_s[-1] - times_s[0]), 1e-9)
        if len(times_s) < 2:
            own = stated_fps or 1.0
        near = stated_fps is None or abs(stated_fps / own - 1) < _ALIKE + 2 / len(times_s)
        return cls(times_s, own if near or stated_fps is None else stated_fps, own)

    def time_of(self, number: float) -> float:
        """Return the time of a number from 1."""
        return float(self.times_s[0]) + (number - 1) / self.fps

    def number_of(self, time_s: float) -> float:
        """Return the number from 1 of a time, between two frames a fraction."""
        return 1 + (time_s - float(self.times_s[0])) * self.fps

    def by_frame(self, keys: Sequence[DrawnBox]) -> dict[int, DrawnBox]:
        """Return the keys by the video's frame from 0; raises ValueError for one past its end."""
        named_s = [self.time_of(key.frame) for key in keys]
        last_s = float(self.times_s[-1]) + 1.5 / min(self.fps, self.own_fps)
        late = [key.frame for key, time_s in zip(keys, named_s, strict=True) if time_s > last_s]
        if late:
            raise ValueError(
                f"frame {late[0]} (counted from 1, at {self.fps:.4g} a second), the video has "
                f"{len(self.times_s)} frames at {self.own_fps:.4g} a second"
            )
        frames = nearest_frames(self.times_s, named_s).tolist()
        return dict(zip(frames, keys, strict=True))

    def exact_time(self, key: DrawnBox, frame: int) -> float:
        """Return the stated time of a key where that is its frame's, else the frame's own."""
        if key.time_s is not None and nearest_frames(self.times_s, [key.time_s])[0] == frame:
            return key.time_s
        return float(self.times_s[frame])


def region_of(
    item: Mapping[str, Any], identity: str, actions: list[str], place: str
) -> VideoRegion | None:
    """Read a `videorectangle` result, None where nothing is drawn; raises ValueError."""
    value = item["value"]
    listed = value.get("sequence")
    if not isinstance(listed, list):
        raise FieldError("value.sequence", f"a list is required, found {str(listed)[:40]}")
    keys = []
    for number, part in enumerate(listed):
        try:
            keys.append(_key(part))
        except ValueError as error:
            field = f".{error.field}" if isinstance(error, FieldError) else ""
            raise FieldError(f"value.sequence[{number}]{field}", str(error)) from error
    keys.sort(key=lambda key: key.frame)
    twice = [b.frame for a, b in zip(keys, keys[1:], strict=False) if a.frame == b.frame]
    if twice:
        raise FieldError("value.sequence", f"frame {twice[0]} is there twice")
    frames, duration_s = (
        number_of(value[name], f"value.{name}") if value.get(name) is not None else 0.0
        for name in ("framesCount", "duration")
    )
    if not keys:
        return None
    person = _person(item.get("meta"), identity)
    return VideoRegion(identity, person, keys, actions, frames, duration_s, place)


def box_at(
    keys: Sequence[DrawnBox], by_frame: Mapping[int, DrawnBox], frame: int, number: float
) -> DrawnBox | None:
    """Return a region's box at a frame as Label Studio shows it, None where it is absent.

    by_frame: its keys by frame from 0.  number: the frame's, from 1, for what lies between keys.
    """
    if frame in by_frame:
        return by_frame[frame]
    after = bisect.bisect_right(keys, number, key=lambda key: key.frame)
    if not after or not keys[after - 1].enabled:
        return None
    before = keys[after - 1]
    if after == len(keys):
        return before
    share = (number - before.frame) / (keys[after].frame - before.frame)
    x, y, width, height = (
        a + share * (b - a) for a, b in zip(before.box, keys[after].box, strict=True)
    )
    turn = before.rotation + share * (keys[after].rotation - before.rotation)
    return DrawnBox(before.frame, (x, y, width, height), turn, True)


def _key(part: Any) -> DrawnBox:
    if not isinstance(part, dict):
        raise ValueError(f"an object is required, found {str(part)[:40]}")
    for name in ("frame", "x", "y", "width", "height"):
        if name not in part:
            raise FieldError(name, f"'{name}' is required and not there")
    frame = number_of(part["frame"], "frame")
    if frame != int(frame) or not 0 <= frame < 1e9:
        raise FieldError("frame", f"a whole number from 1 is required, found {frame:g}")
    x, y, width, height = (number_of(part[name], name) for name in ("x", "y", "width", "height"))
    if width <= 0 or height <= 0:
        raise ValueError(f"width {width:g} and height {height:g}: both above 0 are required")
    enabled, time_s = part.get("enabled", True), part.get("time")
    if not isinstance(enabled, bool):
        raise FieldError("enabled", f"true or false is required, found {str(enabled)[:40]}")
    rotation = number_of(part.get("rotation") or 0, "rotation")
    stated = None if time_s is None else number_of(time_s, "time")
    return DrawnBox(max(int(frame), 1), (x, y, width, height), rotation, enabled, stated)


def _person(meta: Any, identity: str) -> str:
    texts = meta.get("text") if isinstance(meta, dict) else None
    for text in texts if isinstance(texts, list) else [texts]:
        match = _PERSON.fullmatch(text.strip()) if isinstance(text, str) else None
        if match:
            return match[1]
    return identity
