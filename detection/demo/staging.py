"""Position and pose of people at any time.

Legend: T times, P angles of a pose.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detection.demo import motion
from detection.demo.figure import Held, Part, figure
from detection.demo.looks import Body, Clothes
from detection.demo.motion import Rhythm
from detection.demo.skeleton import FIELDS, Array
from detection.demo.story import Doing, Span

BLEND_S = 0.3  # duration of a transition
_STEP_S = 0.02
_AT_ONCE = 1e5


@dataclass(frozen=True)
class Person:
    """A person in a video.

    height: standing, in frame heights.
    home_x, ground_y: where the feet are at first, in frame heights (y down).
    reach: least and greatest x of the feet.
    facing, slant: degrees (see skeleton.turned_to_view); moving people face `slant` or 180 -
        `slant`.
    posture: the rhythm of the poses at rest.
    """

    person_id: int
    role: str
    height: float
    home_x: float
    ground_y: float
    reach: tuple[float, float]
    facing: float
    slant: float
    body: Body
    clothes: Clothes
    held: Held | None
    spans: tuple[Span, ...]
    posture: Rhythm

    def doing_at(self, time_s: float) -> Doing:
        """Return what the person does at a time."""
        return next(span.doing for span in self.spans if span.start_s <= time_s < span.end_s)

    def parts(self, time_s: Array) -> list[Part]:
        """Return the shapes of the person in world heights at T times."""
        x, facing = self.path(time_s)
        scaled = []
        for part in figure(self.poses(time_s), facing, self.body, self.clothes, self.held):
            outline = part.outline * self.height
            outline[..., 0] += x[:, None]
            outline[..., 1] += self.ground_y
            scaled.append(Part(outline, part.depth, part.colour, part.body))
        return scaled

    def poses(self, time_s: Array) -> Array:
        """Return (T, P) poses, each span's blended with its neighbours' where they meet."""
        total = np.zeros((len(time_s), len(FIELDS)))
        for span in self.spans:
            weight = _ramp(time_s, span.start_s) * (1 - _ramp(time_s, span.end_s))
            seen = weight > 0
            if seen.any():
                total[seen] += weight[seen, None] * self._span_poses(span, time_s[seen])
        return total

    def _span_poses(self, span: Span, time_s: Array) -> Array:
        doing = span.doing
        if doing.passage is None:
            rhythm = span.body_rhythm if doing.body in ("walk", "run") else self.posture
            body = motion.BODIES[doing.body](time_s, rhythm)
            return motion.with_arms(body, doing.arms, time_s, span.arms_rhythm)
        start, end = (self._state_pose(state, time_s) for state in doing.passage)
        middle = None
        if "floor" in doing.passage:
            middle = motion.still(
                time_s, pitch=-36.0, spine=20.0, thigh_l=92.0, thigh_r=84.0, shank_l=-12.0,
                shank_r=-16.0, upper_l=50.0, upper_r=30.0, fore_l=80.0, fore_r=60.0,
            )  # fmt: skip
        elif "seat" in doing.passage:  # the weight moves forward, over the feet
            middle = motion.still(
                time_s, pitch=4.0, spine=40.0, neck=-10.0, thigh_l=58.0, thigh_r=58.0,
                shank_l=-20.0, shank_r=-20.0, upper_l=62.0, upper_r=62.0, fore_l=80.0, fore_r=80.0,
            )  # fmt: skip
        share = np.clip((time_s - span.start_s) / (span.end_s - span.start_s), 0, 1)
        return motion.passage(start, middle, end, share)

    def _state_pose(self, state: str, time_s: Array) -> Array:
        body = {"up": "stand", "carry": "stand", "bent": "bend", "seat": "sit", "floor": "lie"}
        pose = motion.BODIES[body.get(state, state)](time_s, self.posture)
        return motion.with_arms(pose, "hold" if state == "carry" else "own", time_s, self.posture)

    def path(self, time_s: Array) -> tuple[Array, Array]:
        """Return (T,) x of the feet in frame heights and (T,) facing in degrees."""
        grid = np.arange(0.0, max(float(time_s.max()), 0.0) + 2 * _STEP_S, _STEP_S)
        speed = np.zeros_like(grid)
        for span in self.spans:
            speed[(grid >= span.start_s) & (grid < span.end_s)] = span.doing.speed * self.height
        x, facing = np.empty_like(grid), np.empty_like(grid)
        at, looks = self.home_x, self.facing
        low, high = self.reach
        heading = 1.0 if at < (low + high) / 2 else -1.0
        for step, moving in enumerate(speed):
            if moving > 0:
                if step and speed[step - 1] == 0 and not low + 0.25 < at < high - 0.25:
                    heading = 1.0 if at < (low + high) / 2 else -1.0
                if not low < at + heading * moving * _STEP_S < high:
                    heading = -heading
                target = self.slant if heading > 0 else 180.0 - self.slant
                looks += float(np.clip(target - looks, -600 * _STEP_S, 600 * _STEP_S))
                at += heading * moving * _STEP_S
            x[step], facing[step] = at, looks
        return np.interp(time_s, grid, x), np.interp(time_s, grid, facing)


def _ramp(time_s: Array, at_s: float) -> Array:
    """Return (T,) a smooth step from 0 to 1 around `at_s`."""
    if abs(at_s) >= _AT_ONCE:
        return (time_s >= at_s).astype(np.float64)
    share = np.clip((time_s - at_s) / BLEND_S + 0.5, 0, 1)
    smooth: Array = share * share * (3 - 2 * share)
    return smooth
