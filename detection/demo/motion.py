"""Movements of people: functions of time that return joint angles.

Legend: T times, P angles of a pose (skeleton.FIELDS). A frozen movement is the same function at a
fixed time: a statue. So a single frame cannot tell these actions apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detection.demo.skeleton import ARMS, FIELD, FIELDS, Array


@dataclass(frozen=True)
class Rhythm:
    """Timing and style of a movement.

    period_s: of one cycle.
    phase: where it starts, 0 to 1.
    strength: factor on the angles, about 1.
    left: which hand or foot leads.
    frozen: hold the pose of `phase`.
    """

    period_s: float
    phase: float
    strength: float = 1.0
    left: bool = False
    frozen: bool = False

    def turns(self, time_s: Array) -> Array:
        """Return (T,) the phase in radians at each time."""
        running = np.zeros_like(time_s) if self.frozen else time_s / self.period_s
        return 2 * np.pi * (self.phase + running)


def still(time_s: Array, **angles: float) -> Array:
    """Return (T, P): a relaxed upright pose with the named angles set, breathing slightly."""
    base = dict(
        thigh_out_l=4.0, thigh_out_r=4.0, shank_out_l=2.0, shank_out_r=2.0,
        upper_out_l=9.0, upper_out_r=9.0, fore_l=12.0, fore_r=12.0, fore_out_l=5.0, fore_out_r=5.0,
    )  # fmt: skip
    base.update(angles)
    poses = np.zeros((len(time_s), len(FIELDS)))
    for name, value in base.items():
        poses[:, FIELD[name]] = value
    poses[:, FIELD["spine"]] += 0.8 * np.sin(2 * np.pi * time_s / 3.1)
    return poses


def stand(time_s: Array, rhythm: Rhythm) -> Array:
    """Stand at ease, the feet a little apart."""
    apart = 4.0 + 8.0 * rhythm.phase
    return still(time_s, thigh_out_l=apart, thigh_out_r=apart, shank_out_l=4.0, shank_out_r=4.0)


def _stride(
    time_s: Array, rhythm: Rhythm, *, thigh: float, knee: float, arm: float, elbow: float
) -> Array:
    poses = still(time_s)
    turns = rhythm.turns(time_s)
    for side, angle in (("l", turns), ("r", turns + np.pi)):
        swing = thigh * rhythm.strength * np.sin(angle) + 0.25 * thigh
        bend = 8.0 + knee * rhythm.strength * np.clip(np.cos(angle), 0.0, None)
        poses[:, FIELD[f"thigh_{side}"]] = swing
        poses[:, FIELD[f"shank_{side}"]] = swing - bend
        poses[:, FIELD[f"upper_{side}"]] = -arm * rhythm.strength * np.sin(angle)
        poses[:, FIELD[f"fore_{side}"]] = -arm * rhythm.strength * np.sin(angle) + elbow
    return poses


def walk(time_s: Array, rhythm: Rhythm) -> Array:
    """Walk with long strides; the period is of two steps."""
    return _stride(time_s, rhythm, thigh=28.0, knee=40.0, arm=30.0, elbow=10.0)


def run(time_s: Array, rhythm: Rhythm) -> Array:
    """Run, leaning forward, the elbows bent."""
    poses = _stride(time_s, rhythm, thigh=44.0, knee=90.0, arm=46.0, elbow=88.0)
    poses[:, FIELD["pitch"]] = 16.0
    if not rhythm.frozen:
        poses[:, FIELD["rise"]] = 0.035 * (1 - np.cos(2 * rhythm.turns(time_s))) / 2
    return poses


def sit(time_s: Array, rhythm: Rhythm) -> Array:
    """Sit on a seat as high as the shank is long."""
    lean = 6.0 - 12.0 * rhythm.phase
    return still(
        time_s, spine=lean, thigh_l=84.0, thigh_r=84.0, shank_l=2.0, shank_r=2.0, thigh_out_l=9.0,
        thigh_out_r=9.0, upper_l=24.0, upper_r=24.0, fore_l=66.0, fore_r=66.0,
    )  # fmt: skip


def lie(time_s: Array, rhythm: Rhythm) -> Array:
    """Lie on the back with the knees drawn up."""
    drawn = 38.0 + 22.0 * rhythm.phase
    return still(
        time_s, pitch=-84.0, spine=6.0, neck=14.0, thigh_l=drawn + 12, thigh_r=drawn - 6,
        shank_l=-drawn + 4, shank_r=-drawn + 2, upper_l=14.0, upper_r=24.0, fore_l=24.0,
        fore_r=58.0,
    )  # fmt: skip


def bend(time_s: Array, rhythm: Rhythm) -> Array:
    """Bend at the waist until the hands are near the ground, the knees a little bent."""
    return still(
        time_s, pitch=14.0, spine=72.0, neck=-22.0, thigh_l=42.0, thigh_r=42.0, shank_l=-8.0,
        shank_r=-8.0, upper_l=84.0, upper_r=84.0, fore_l=88.0, fore_r=88.0, upper_out_l=2.0,
        upper_out_r=2.0, fore_out_l=-2.0, fore_out_r=-2.0,
    )  # fmt: skip


def wave(time_s: Array, rhythm: Rhythm) -> Array:
    """Return (T, 4) angles of one arm that swings up and down, wide: it shows from any side."""
    swing = np.sin(rhythm.turns(time_s)) * rhythm.strength
    flat = np.ones_like(swing)
    return np.stack([18 * flat, 108 + 40 * swing, 14 * flat, 128 + 52 * swing], axis=-1)


def hold_object(time_s: Array, rhythm: Rhythm) -> Array:
    """Return (T, 8) angles of both arms around something held before the belly."""
    one = np.array([34.0, 8.0, 92.0, -12.0])
    return np.tile(np.concatenate([one, one]), (len(time_s), 1))


Lower = Callable[[Array, Rhythm], Array]
BODIES: dict[str, Lower] = {
    "stand": stand, "walk": walk, "run": run, "sit": sit, "lie": lie, "bend": bend,
}  # fmt: skip


def with_arms(poses: Array, arms: str, time_s: Array, rhythm: Rhythm) -> Array:
    """Return `poses` with the arms doing `arms` ("own": left as they are)."""
    poses = poses.copy()
    if arms == "wave":
        start = FIELD["upper_l"] if rhythm.left else FIELD["upper_r"]
        poses[:, start : start + 4] = wave(time_s, rhythm)
        lean = 5.0 if rhythm.left else -5.0
        poses[:, FIELD["roll"]] += lean * np.sin(rhythm.turns(time_s))
    elif arms == "hold":
        poses[:, ARMS] = hold_object(time_s, rhythm)
    else:
        assert arms == "own", arms
    return poses


def passage(start: Array, middle: Array | None, end: Array, share: Array) -> Array:
    """Return (T, P) on the way from `start` over `middle` to `end`; share 0 to 1, eased."""
    eased = share * share * (3 - 2 * share)
    if middle is None:
        return start + (end - start) * eased[:, None]
    first = np.clip(2 * eased, 0, 1)[:, None]
    second = np.clip(2 * eased - 1, 0, 1)[:, None]
    return start + (middle - start) * first + (end - middle) * second
