"""Draws people as flat shapes: tapered limbs, clothes and hair, nearest last.

Legend: T times, K corners of an outline. Points are on the image plane in units of the standing
height, x to the right, y **down**, the middle of the feet at (0, 0).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from detection.demo.looks import Body, Clothes, Colour
from detection.demo.skeleton import JOINT, Array, Build, joints_of, turned_to_view

VIEW_TILT = 0.16  # seen from slightly above: what is near is lower
_ROUND = np.linspace(np.pi / 2, 3 * np.pi / 2, 6)
_CIRCLE = np.linspace(0, 2 * np.pi, 16, endpoint=False)


@dataclass(frozen=True)
class Part:
    """One shape of a figure over time.

    outline: (T, K, 2), convex.
    depth: (T,), larger is nearer.
    body: False for held objects.
    """

    outline: Array
    depth: Array
    colour: Colour
    body: bool = True


@dataclass(frozen=True)
class Held:
    """An object in both hands: its size in heights and its colours."""

    width: float
    height: float
    colour: Colour
    ribbon: Colour


def figure(
    poses: Array, facing: Array, body: Body, clothes: Clothes, held: Held | None
) -> list[Part]:
    """Return the shapes of a person at T times; `facing` in degrees (see turned_to_view)."""
    seen = turned_to_view(joints_of(poses, body.build), facing)
    at = {name: _projected(seen[:, row]) for name, row in JOINT.items()}
    depth = {name: seen[:, row, 2] for name, row in JOINT.items()}
    parts = _legs(at, depth, body, clothes)
    parts += _torso(at, depth, body.build, clothes)
    parts += _head(at, depth, facing, body)
    parts += _arms(at, depth, body, clothes)
    if held is not None:
        parts += _held(at, depth, facing, held)
    return parts


def _projected(points: Array) -> Array:
    return np.stack([points[:, 0], -points[:, 1] + VIEW_TILT * points[:, 2]], axis=-1)


def capsule(start: Array, end: Array, radius_start: float, radius_end: float) -> Array:
    """Return (T, 12, 2): the outline of a limb from `start` to `end` (T, 2) with round ends."""
    along = end - start
    angle = np.arctan2(along[:, 1], along[:, 0])[:, None]
    first, second = angle + _ROUND, angle + _ROUND + np.pi
    near = start[:, None] + radius_start * np.stack([np.cos(first), np.sin(first)], axis=-1)
    far = end[:, None] + radius_end * np.stack([np.cos(second), np.sin(second)], axis=-1)
    return np.concatenate([near, far], axis=1)


def disc(centre: Array, radius_x: float, radius_y: float) -> Array:
    """Return (T, 16, 2): an upright ellipse around `centre` (T, 2)."""
    return centre[:, None] + np.stack([radius_x * np.cos(_CIRCLE), radius_y * np.sin(_CIRCLE)], -1)


def _limb(
    at: dict[str, Array], depth: dict[str, Array], ends: tuple[str, str],
    radii: tuple[float, float], colour: Colour, nearer: float = 0.0,
) -> Part:  # fmt: skip
    start, end = ends
    outline = capsule(at[start], at[end], *radii)
    return Part(outline, (depth[start] + depth[end]) / 2 + nearer, colour)


def _legs(
    at: dict[str, Array], depth: dict[str, Array], body: Body, clothes: Clothes
) -> list[Part]:
    limb = body.build.limb
    lower = body.skin if clothes.trousers_kind != "long" else clothes.trousers
    parts = []
    for side in "lr":
        hip, knee, ankle, toe = (f"{name}_{side}" for name in ("hip", "knee", "ankle", "toe"))
        upper = _limb(at, depth, (hip, knee), (1.55 * limb, 1.12 * limb), clothes.trousers, -0.004)
        shank = _limb(at, depth, (knee, ankle), (1.08 * limb, 0.8 * limb), lower, -0.006)
        shoe = _limb(at, depth, (ankle, toe), (0.78 * limb, 0.55 * limb), clothes.shoes, -0.005)
        parts += [shank, shoe, upper]
    if clothes.trousers_kind == "skirt":
        hem = [at[f"hip_{s}"] + 0.62 * (at[f"knee_{s}"] - at[f"hip_{s}"]) for s in "lr"]
        outline = _hull([(at["hip_l"], 1.6 * limb), (at["hip_r"], 1.6 * limb),
                         (hem[0], 1.9 * limb), (hem[1], 1.9 * limb)])  # fmt: skip
        nearest = np.maximum(depth["knee_l"], depth["knee_r"])
        parts.append(Part(outline, np.maximum(nearest, 0) / 2 + 0.001, clothes.trousers))
    return parts


def _hull(circles: list[tuple[Array, float]]) -> Array:
    """Return (T, 24, 2): the convex hull of circles (centres (T, 2), radius), evenly resampled."""
    points = np.concatenate([disc(centre, radius, radius) for centre, radius in circles], axis=1)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    normals = np.stack([np.cos(angles), np.sin(angles)])  # (2, 24)
    # The farthest point in each of 24 directions: corners of the hull, in order.
    farthest = np.argmax(points @ normals, axis=1)
    return np.take_along_axis(points, farthest[:, :, None], axis=1)


def _torso(
    at: dict[str, Array], depth: dict[str, Array], build: Build, clothes: Clothes
) -> list[Part]:
    chest = 0.9 * build.belly
    hips = (at["hip_l"] + at["hip_r"]) / 2
    waist = 0.4 * at["neck"] + 0.6 * hips
    outline = _hull([
        (at["hip_l"], build.belly * 0.8), (at["hip_r"], build.belly * 0.8), (waist, build.belly),
        (at["shoulder_l"], 0.62 * chest), (at["shoulder_r"], 0.62 * chest),
    ])  # fmt: skip
    level = (depth["neck"] + depth["hip_l"] + depth["hip_r"]) / 3
    parts = [Part(outline, level, clothes.top)]
    half = np.abs(at["shoulder_l"] - at["shoulder_r"])[:, 0] / 2 + 0.55 * chest
    half_hip = np.abs(at["hip_l"] - at["hip_r"])[:, 0] / 2 + 0.7 * build.belly
    for order, (near, far, inner, outer) in enumerate(_PATTERNS[clothes.pattern]):
        strip = _strip(at["neck"], hips, half, half_hip, (near, far), (inner, outer))
        parts.append(Part(strip, level + 0.0005 * (order + 1), clothes.trim))
    return parts


# Trim on the chest: from and to along neck - hips, from and to across (-1 .. 1 of the half width).
_PATTERNS: dict[str, tuple[tuple[float, float, float, float], ...]] = {
    "plain": (),
    "hoops": tuple((f, f + 0.1, -0.96, 0.96) for f in (0.18, 0.42, 0.66)),
    "band": ((0.35, 0.62, -0.97, 0.97),),
    "sash": ((0.04, 0.98, 0.1, 0.55),),
    "open": ((0.0, 1.0, -0.22, 0.22),),
}


def _strip(
    top: Array, bottom: Array, half_top: Array, half_bottom: Array,
    along: tuple[float, float], across: tuple[float, float],
) -> Array:  # fmt: skip
    axis = bottom - top
    normal = np.stack([axis[:, 1], -axis[:, 0]], axis=-1)
    normal /= np.linalg.norm(normal, axis=-1, keepdims=True) + 1e-9
    corners = []
    for share, sideways in ((0, 0), (0, 1), (1, 1), (1, 0)):
        f = along[share]
        width = (1 - f) * half_top + f * half_bottom
        corners.append(top + f * axis + normal * (across[sideways] * width)[:, None])
    return np.stack(corners, axis=1)


def _head(at: dict[str, Array], depth: dict[str, Array], facing: Array, body: Body) -> list[Part]:
    r, angle = body.build.head, np.radians(facing)
    across, towards = np.cos(angle), np.sin(angle)
    up = at["head"] - at["neck"]
    up /= np.linalg.norm(up, axis=-1, keepdims=True) + 1e-9
    ahead = np.stack([-up[:, 1], up[:, 0]], axis=-1) * across[:, None]
    neck = capsule(at["neck"], at["head"], 0.42 * r, 0.5 * r)
    level = depth["head"]
    parts = [Part(neck, depth["neck"] + 0.002, body.skin)]
    face = disc(at["head"] + 0.04 * r * ahead, 0.82 * r, 0.96 * r)
    parts.append(Part(face, level + 0.012, body.skin))
    if body.hair_style == "bald":
        return parts + _eyes(at["head"], up, ahead, towards, r, level)
    # Hair: a cap that moves back on the head as the face turns to the viewer.
    crown = at["head"] + up * (0.3 * r) - ahead * (0.26 * r)
    behind = np.where(towards > 0.35, -0.03, 0.013)
    lock = at["head"] + up * 0.16 * r - ahead * 0.32 * r
    parts.append(Part(disc(lock, 0.86 * r, 0.92 * r), level + behind, body.hair))
    parts.append(Part(disc(crown + up * 0.22 * r, 0.78 * r, 0.5 * r), level + 0.014, body.hair))
    if body.hair_style == "long":
        tail = at["neck"] - ahead * 0.55 * r
        parts.append(Part(capsule(lock, tail, 0.8 * r, 0.7 * r), level + behind - 0.001, body.hair))
    if body.hair_style == "bun":
        knot = crown + up * 0.75 * r - ahead * 0.35 * r
        parts.append(Part(disc(knot, 0.36 * r, 0.36 * r), level + 0.0135, body.hair))
    if body.hair_style == "cap":
        tip = crown + up * 0.02 * r + ahead * 1.3 * r
        peak = capsule(crown + up * 0.1 * r, tip, 0.2 * r, 0.1 * r)
        parts.append(Part(peak, level + 0.015, body.hair))
    return parts + _eyes(at["head"], up, ahead, towards, r, level)


def _eyes(
    head: Array, up: Array, ahead: Array, towards: Array, r: float, level: Array
) -> list[Part]:
    parts = []
    beside = np.stack([-up[:, 1], up[:, 0]], axis=-1)
    for s in (-1.0, 1.0):
        eye = head + 0.05 * r * up + 0.52 * r * ahead + s * 0.34 * r * beside * towards[:, None]
        seen = np.where(towards > -0.2, level + 0.0145, level - 1.0)
        parts.append(Part(disc(eye, 0.09 * r, 0.12 * r), seen, (30, 24, 24)))
    return parts


def _arms(
    at: dict[str, Array], depth: dict[str, Array], body: Body, clothes: Clothes
) -> list[Part]:
    limb = body.build.limb
    # Sleeves differ in colour from the chest, so that an arm in front of it is visible.
    sleeve = clothes.trim if clothes.long_sleeves else body.skin
    parts = []
    for side in "lr":
        shoulder, elbow, hand = (f"{name}_{side}" for name in ("shoulder", "elbow", "hand"))
        upper = _limb(at, depth, (shoulder, elbow), (0.98 * limb, 0.8 * limb), clothes.trim, 0.006)
        fore = _limb(at, depth, (elbow, hand), (0.78 * limb, 0.6 * limb), sleeve, 0.008)
        palm = Part(disc(at[hand], 1.2 * limb, 1.2 * limb), fore.depth + 0.001, body.skin)
        parts += [upper, fore, palm]
    return parts


def _held(at: dict[str, Array], depth: dict[str, Array], facing: Array, held: Held) -> list[Part]:
    middle = (at["hand_l"] + at["hand_r"]) / 2
    # A box is drawn as wide from the side as from the front.
    nearer = np.where(np.sin(np.radians(facing)) > 0.3, 0.02, -0.012)
    level = np.maximum(depth["hand_l"], depth["hand_r"]) + nearer
    w, h = held.width / 2, held.height / 2
    box = middle[:, None] + np.array([(-w, -h), (w, -h), (w, h), (-w, h)])
    ribbon = middle[:, None] + np.array([(-w / 4, -h), (w / 4, -h), (w / 4, h), (-w / 4, h)])
    return [Part(box, level, held.colour, False), Part(ribbon, level + 1e-4, held.ribbon, False)]


def draw(
    image: np.ndarray, outlines: list[Array], colours: list[Colour], *, smooth: bool = True
) -> None:
    """Fill convex outlines (K, 2) in pixels, in order; `smooth` draws antialiased edges."""
    line = cv2.LINE_AA if smooth else cv2.LINE_8
    for outline, fill in zip(outlines, colours, strict=True):
        points = np.rint(outline * 16).astype(np.int32)
        cv2.fillConvexPoly(image, points, fill, line, 4)
