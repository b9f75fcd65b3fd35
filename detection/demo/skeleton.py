"""Skeletons of sixteen joints: from joint angles to points in space.

Legend: T times, J joints, P angles of a pose. The body frame has x to the person's left, y up and z
forward; lengths are fractions of the standing height. A limb that hangs has flexion 0 and abduction
0; flexion (degrees) swings it forward, abduction away from the body's middle.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Rng = np.random.Generator

# pitch and roll turn the whole body about the hips (forward, to the left), spine and neck add to
# pitch above the hips; rise (in heights) lifts it off the ground.
FIELDS = (
    "pitch", "roll", "spine", "neck", "rise",
    "thigh_l", "thigh_out_l", "shank_l", "shank_out_l",
    "thigh_r", "thigh_out_r", "shank_r", "shank_out_r",
    "upper_l", "upper_out_l", "fore_l", "fore_out_l",
    "upper_r", "upper_out_r", "fore_r", "fore_out_r",
)  # fmt: skip
FIELD = {name: column for column, name in enumerate(FIELDS)}
ARMS = slice(FIELD["upper_l"], FIELD["fore_out_r"] + 1)

JOINTS = (
    "hip_l", "hip_r", "shoulder_l", "shoulder_r", "neck", "head",
    "knee_l", "ankle_l", "toe_l", "knee_r", "ankle_r", "toe_r",
    "elbow_l", "hand_l", "elbow_r", "hand_r",
)  # fmt: skip
JOINT = {name: row for row, name in enumerate(JOINTS)}


@dataclass(frozen=True)
class Build:
    """Proportions of a body, in fractions of its standing height."""

    leg: float
    arm: float
    hip_half: float
    shoulder_half: float
    limb: float
    belly: float
    head: float
    foot: float = 0.085

    @property
    def torso(self) -> float:
        """Length from hips to neck: what legs, head and shoe soles leave of the height."""
        return 1.0 - self.leg - 2.15 * self.head - self.sole

    @property
    def sole(self) -> float:
        """Height of the ankle above the ground."""
        return 0.75 * self.limb


def direction(flexion: Array, abduction: Array, side: float) -> Array:
    """Return (T, 3) unit vectors of a limb; `side` is 1 for the left, -1 for the right."""
    f, a = np.radians(flexion), np.radians(abduction)
    return np.stack([side * np.sin(a), -np.cos(a) * np.cos(f), np.cos(a) * np.sin(f)], axis=-1)


def joints_of(poses: Array, build: Build) -> Array:
    """Return (T, J, 3) joints in the body frame; the lowest part touches y = 0 unless it rises.

    poses: (T, P). The middle of the ankles stays at x = z = 0: people sit down, bow and fall over
        their feet.
    """
    column = {name: poses[:, index] for name, index in FIELD.items()}

    def along(limb: str, side: str, lean: Array | float = 0.0) -> Array:
        flexion, abduction = column[f"{limb}_{side}"] - lean, column[f"{limb}_out_{side}"]
        return direction(flexion, abduction, 1.0 if side == "l" else -1.0)

    t = len(poses)
    points = np.zeros((t, len(JOINTS), 3))
    chest = column["spine"]
    up = direction(180.0 - chest, np.zeros(t), 1.0)
    neck = up * build.torso
    points[:, JOINT["neck"]] = neck
    head_up = direction(180.0 - chest - column["neck"], np.zeros(t), 1.0)
    points[:, JOINT["head"]] = neck + head_up * 1.15 * build.head
    for side, s in (("l", 1.0), ("r", -1.0)):
        hip = np.array([s * build.hip_half, 0.0, 0.0])
        knee = hip + along("thigh", side) * (build.leg / 2)
        ankle = knee + along("shank", side) * (build.leg / 2)
        toe = ankle + direction(column[f"shank_{side}"] + 82, np.zeros(t), s) * build.foot
        shoulder = up * (build.torso - 0.03) + np.array([s * build.shoulder_half, 0.0, 0.0])
        # Arms are carried by the chest: their flexion is counted from its lean.
        elbow = shoulder + along("upper", side, chest) * (0.52 * build.arm)
        hand = elbow + along("fore", side, chest) * (0.48 * build.arm)
        for name, value in (
            ("hip", hip), ("knee", knee), ("ankle", ankle), ("toe", toe),
            ("shoulder", shoulder), ("elbow", elbow), ("hand", hand),
        ):  # fmt: skip
            points[:, JOINT[f"{name}_{side}"]] = value
    points = _turned(points, column["pitch"], column["roll"])
    points[..., 1] += (column["rise"] - _lowest(points, build))[:, None]
    feet = (points[:, JOINT["ankle_l"]] + points[:, JOINT["ankle_r"]]) / 2
    points[..., 0] -= feet[:, None, 0]
    points[..., 2] -= feet[:, None, 2]
    return points


def _turned(points: Array, pitch: Array, roll: Array) -> Array:
    """Turn the whole body: pitch forward, roll to the left (degrees)."""
    p, r = (np.radians(angle)[:, None] for angle in (pitch, roll))
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    y, z = y * np.cos(p) - z * np.sin(p), y * np.sin(p) + z * np.cos(p)
    x, y = x * np.cos(r) + y * np.sin(r), -x * np.sin(r) + y * np.cos(r)
    return np.stack([x, y, z], axis=-1)


def _lowest(points: Array, build: Build) -> Array:
    """Return (T,) height of the lowest part, each joint as thick as it is drawn."""
    radius = np.full(len(JOINTS), build.limb)
    radius[[JOINT["ankle_l"], JOINT["ankle_r"]]] = build.sole
    radius[[JOINT["toe_l"], JOINT["toe_r"]]] = build.sole * 0.6
    radius[[JOINT["hip_l"], JOINT["hip_r"], JOINT["neck"]]] = build.belly * 0.85
    radius[[JOINT["shoulder_l"], JOINT["shoulder_r"]]] = build.limb * 1.2
    radius[JOINT["head"]] = build.head
    lowest: Array = (points[..., 1] - radius).min(axis=1)
    return lowest


def turned_to_view(points: Array, facing: Array) -> Array:
    """Return (T, J, 3) as seen: x to the right, y up, z towards the viewer.

    facing: (T,) degrees; 0 looks to the right, 90 at the viewer, 180 to the left, 270 away.
    """
    angle = np.radians(facing)[:, None]
    # x of the body is the person's left, which is away from the viewer at facing 0.
    x, y, z = points[..., 0], points[..., 1], points[..., 2]
    across = z * np.cos(angle) + x * np.sin(angle)
    towards = z * np.sin(angle) - x * np.cos(angle)
    return np.stack([across, y, towards], axis=-1)
