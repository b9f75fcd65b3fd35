"""Camera movements: a pool of paths; training and validation share none."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from detection.demo.looks import Split
from detection.demo.skeleton import Array, Rng

KINDS = ("tripod", "pan", "tilt", "push", "hand")
_SHARES = (0.4, 0.2, 0.1, 0.15, 0.15)
REST_S = 3.5  # the path passes through its home view at this time


@dataclass(frozen=True)
class CameraPath:
    """A smooth camera path; lengths in frame heights.

    speed: horizontal and vertical, per second.
    zoom_rate: per second.
    wobble: amplitude of the shake, of three sines with `wobble_hz` and phases from `seed`.
    """

    kind: str
    speed: tuple[float, float]
    zoom: float
    zoom_rate: float
    wobble: float
    wobble_hz: float
    seed: int

    def matrices(self, time_s: Array, size_px: tuple[int, int]) -> Array:
        """Return (T, 2, 3): world (heights, y down) to pixels of a frame of (width, height)."""
        width, height = size_px
        rng = np.random.default_rng(self.seed)
        phases = rng.uniform(0, 2 * np.pi, (3, 3))
        rates = 2 * np.pi * self.wobble_hz * np.array([0.6, 1.0, 1.7])
        shake = np.sin(time_s[:, None, None] * rates + phases).mean(axis=2) * self.wobble
        # Eased at both ends, so that the view stays near its start in long videos.
        away = 2.6 * np.tanh((time_s - REST_S) / 2.6)
        zoom = self.zoom * np.exp(self.zoom_rate * away) * height
        roll = 0.25 * shake[:, 2]
        cos, sin = zoom * np.cos(roll), zoom * np.sin(roll)
        centre_x = width / height / 2 + self.speed[0] * away + shake[:, 0]
        centre_y = 0.5 + self.speed[1] * away + shake[:, 1]
        matrices = np.empty((len(time_s), 2, 3))
        matrices[:, 0, 0], matrices[:, 0, 1] = cos, -sin
        matrices[:, 1, 0], matrices[:, 1, 1] = sin, cos
        matrices[:, 0, 2] = width / 2 - cos * centre_x + sin * centre_y
        matrices[:, 1, 2] = height / 2 - sin * centre_x - cos * centre_y
        return matrices


@cache
def camera_paths(split: Split) -> tuple[CameraPath, ...]:
    """Return the paths of a split: 150 for training, 50 for validation, none in both."""
    rng = np.random.default_rng(3003)
    made = tuple(_path(rng, seed) for seed in range(200))
    return tuple(path for index, path in enumerate(made) if (index % 4 == 3) == (split == "val"))


def _path(rng: Rng, seed: int) -> CameraPath:
    kind = str(rng.choice(KINDS, p=_SHARES))
    sign = 1.0 if rng.random() < 0.5 else -1.0
    wobble = rng.uniform(0.0005, 0.002)
    pan, rise, push = (rng.uniform(*span) for span in ((0.02, 0.045), (0.01, 0.02), (0.015, 0.03)))
    speed, zoom_rate = (0.0, 0.0), 0.0
    if kind == "pan":
        speed = (sign * pan, 0.0)
    elif kind == "tilt":
        speed = (sign * 0.3 * pan, sign * rise)
    elif kind == "push":
        speed, zoom_rate = (0.3 * sign * pan, 0.0), sign * push
    elif kind == "hand":
        wobble = rng.uniform(0.006, 0.012)
    return CameraPath(
        kind, speed, rng.uniform(0.97, 1.03), zoom_rate, wobble,
        rng.uniform(0.35, 0.8), seed,
    )  # fmt: skip
