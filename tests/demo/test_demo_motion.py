"""Movements: what moves is seen to move 0.4 s apart, what holds still does not."""

from __future__ import annotations

import numpy as np
import pytest

from detection.demo import CLASSES, MOTION_ONLY, motion
from detection.demo.looks import bodies
from detection.demo.motion import Rhythm
from detection.demo.skeleton import FIELD, FIELDS, JOINT, _lowest, joints_of, turned_to_view
from detection.demo.story import _PERIODS_S, PASSAGES, UPRIGHT, Doing

CLIP_S = np.array([-0.8, -0.4, 0.0, 0.4])
BODY = bodies("train")[0]
TIPS = [JOINT[name] for name in ("hand_l", "hand_r", "ankle_l", "ankle_r", "head")]


def poses(kind: str, rhythm: Rhythm) -> np.ndarray:
    if kind in motion.BODIES:
        return motion.BODIES[kind](CLIP_S, rhythm)
    return motion.with_arms(motion.stand(CLIP_S, rhythm), kind, CLIP_S, rhythm)


def spread(kind: str, rhythm: Rhythm, facing: float) -> float:
    """Greatest distance (in heights) that one hand, foot or the head shows in the frame."""
    points = joints_of(poses(kind, rhythm), BODY.build)
    seen = turned_to_view(points, np.full(len(CLIP_S), facing))[:, TIPS, :2]
    return float(np.linalg.norm(seen[:, None] - seen[None], axis=-1).max())


@pytest.mark.parametrize("kind", sorted(_PERIODS_S))
def test_every_movement_shows_in_a_clip_at_any_phase_and_view(kind: str) -> None:
    for period in np.linspace(*_PERIODS_S[kind], 5):
        for phase in np.linspace(0, 1, 8, endpoint=False):
            # Whoever walks or runs goes across the frame.
            for facing in (0.0, 200.0) if kind in ("walk", "run") else (0.0, 90.0, 200.0):
                rhythm = Rhythm(float(period), float(phase), strength=0.88)
                assert spread(kind, rhythm, facing) > 0.09, (period, phase, facing)


@pytest.mark.parametrize("kind", sorted(_PERIODS_S))
def test_statues_hold_still(kind: str) -> None:
    for phase in np.linspace(0, 1, 8, endpoint=False):
        assert spread(kind, Rhythm(1.0, float(phase), frozen=True), 30.0) < 0.02


@pytest.mark.parametrize("kind", sorted(_PERIODS_S))
def test_a_statue_has_a_pose_that_the_movement_goes_through(kind: str) -> None:
    moving = poses(kind, Rhythm(1.2, 0.3))[2]
    statue = poses(kind, Rhythm(1.2, 0.3, frozen=True))[2]
    different = np.abs(moving - statue) > 1e-9
    # Only how high a stride is off the ground differs: a statue stands.
    assert not different[[i for name, i in FIELD.items() if name != "rise"]].any()


def test_two_steps_of_a_walk_do_not_look_alike_in_a_clip() -> None:
    # In a frame left and right swap after half a cycle; a clip must not sample that.
    for kind in ("walk", "run"):
        for period in np.linspace(*_PERIODS_S[kind], 9):
            for frames_apart in (1, 2, 3):
                turns = 0.4 * frames_apart / (period / 2)
                if frames_apart == 1:
                    assert abs(turns - round(turns)) > 0.1, (kind, period)


def test_passages_go_through_the_same_poses_both_ways() -> None:
    share = np.linspace(0, 1, 11)
    start, end = motion.stand(share, Rhythm(1, 0.2)), motion.lie(share, Rhythm(1, 0.2))
    middle = motion.still(share, pitch=-36.0)
    # The breathing differs with time, so one time of it is used for all.
    start, middle, end = (np.tile(pose[:1], (11, 1)) for pose in (start, middle, end))
    down = motion.passage(start, middle, end, share)
    up = motion.passage(end, middle, start, share)
    np.testing.assert_allclose(down, up[::-1], atol=1e-9)
    ways = {doing.passage for doing in PASSAGES.values()}
    assert all((b, a) in ways for a, b in ways)


def same_poses(one: Doing, other: Doing) -> bool:
    """Whether two doings show the same poses: one of them held still, or the way back."""
    if one.passage and other.passage:
        return one.passage == other.passage[::-1]
    still = other.body_still or other.arms_still
    return still and (one.body, one.arms) == (other.body, other.arms)


@pytest.mark.parametrize("name", MOTION_ONLY)
def test_whoever_does_what_motion_decides_has_a_double_who_does_not(name: str) -> None:
    action = next(action for action in CLASSES if action.name == name)
    doings = [*UPRIGHT.values(), *PASSAGES.values()]
    # Walking with an arm in the air is a walk like any other: the plain one has its statue.
    acts = [d for d in doings if action in d.labels and (d.arms == "own" or name == "hand wave")]
    assert acts
    for act in acts:
        assert any(same_poses(act, d) for d in doings if action not in d.labels), act.name


def test_a_standing_body_is_one_high_and_touches_the_ground() -> None:
    for body in (*bodies("train"), *bodies("val")):
        points = joints_of(motion.still(np.zeros(1)), body.build)[0]
        top = points[JOINT["head"], 1] + body.build.head
        assert top == pytest.approx(1.0, abs=0.015)
        assert points[:, 1].min() > 0


def test_no_part_goes_below_the_ground_and_only_runners_leave_it() -> None:
    time_s = np.linspace(0, 2, 60)
    for kind, movement in motion.BODIES.items():
        points = joints_of(movement(time_s, Rhythm(1.1, 0.1)), BODY.build)
        assert points[..., 1].min() > -1e-9, kind
        lowest = _lowest(points, BODY.build)
        assert lowest.min() == pytest.approx(0.0, abs=1e-3)
        assert lowest.max() > 0.03 if kind == "run" else lowest.max() < 1e-9, kind


def test_no_times_give_no_poses() -> None:
    nothing = np.zeros(0)
    for movement in motion.BODIES.values():
        assert movement(nothing, Rhythm(1.0, 0.0)).shape == (0, len(FIELDS))
    assert joints_of(np.zeros((0, len(FIELDS))), BODY.build).shape == (0, len(JOINT), 3)
