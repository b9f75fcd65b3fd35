"""Validation shows bodies, clothes, places and camera paths that training never does."""

from __future__ import annotations

import colorsys

import numpy as np
import pytest

from detection.demo.camera import camera_paths
from detection.demo.looks import HUES, bodies, clothes
from detection.demo.scenery import FLOORS, WALLS, paint, places


@pytest.mark.parametrize("pool", [bodies, clothes, places, camera_paths])
def test_pools_are_disjoint_and_rich(pool) -> None:  # type: ignore[no-untyped-def]
    train, val = set(pool("train")), set(pool("val"))
    assert not train & val
    assert len(train) >= 96
    assert len(val) >= 32


def test_not_even_a_build_or_a_skin_with_hair_is_shared() -> None:
    for part in (lambda body: body.build, lambda body: (body.skin, body.hair)):
        assert not {part(b) for b in bodies("train")} & {part(b) for b in bodies("val")}


def test_camera_paths_differ_in_speed_shake_and_seed() -> None:
    for part in (lambda p: p.seed, lambda p: (p.zoom, p.wobble)):
        assert not {part(p) for p in camera_paths("train")} & {part(p) for p in camera_paths("val")}
    kinds = {path.kind for path in camera_paths("val")}
    assert kinds == {path.kind for path in camera_paths("train")}


def test_hues_of_validation_lie_between_those_of_training() -> None:
    def bins(split: str) -> set[int]:
        hues = [place.wall_hue for place in places(split)]  # type: ignore[arg-type]
        return {int(hue * HUES) for hue in hues}

    assert not bins("train") & bins("val")
    tops = {split: {c.top for c in clothes(split)} for split in ("train", "val")}  # type: ignore[arg-type]
    hue_bins = {
        split: {int(colorsys.rgb_to_hsv(*(v / 255 for v in top))[0] * HUES) for top in colours}
        for split, colours in tops.items()
    }
    assert not hue_bins["train"] & hue_bins["val"]


def test_places_are_varied_and_textured() -> None:
    for split in ("train", "val"):
        assert {place.wall for place in places(split)} == set(WALLS)  # type: ignore[arg-type]
        assert {place.floor for place in places(split)} == set(FLOORS)  # type: ignore[arg-type]
    seen = set()
    for place in places("val")[: len(WALLS)]:
        canvas, _ = paint(place, 120, 4 / 3)
        assert canvas[:40].astype(float).std(axis=(0, 1)).min() > 2, place.wall
        seen.add(canvas.tobytes())
    assert len(seen) == len(WALLS)


def test_camera_moves_but_keeps_the_scene_in_view() -> None:
    time_s = np.linspace(0, 20, 200)
    centre = np.array([2 / 3, 0.5, 1.0])
    moved = []
    for path in (*camera_paths("train"), *camera_paths("val")):
        at = path.matrices(time_s, (320, 240)) @ centre
        assert np.abs(at - (160, 120)).max() < 0.25 * 240
        clip = path.matrices(np.array([3.2, 4.4]), (320, 240)) @ centre
        moved.append(np.abs(clip[1] - clip[0]).max())
    # Most cameras move or turn within a clip; some stand on a tripod.
    assert np.mean(np.array(moved) > 1.0) > 0.3
