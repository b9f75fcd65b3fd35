"""Timelines: what each person does, a slot for every annotated second.

Each person has a role, a small state machine: a sitting person can only stay seated or get up. A
slot holds what is done around one keyframe; passages between states are half done at their
keyframe.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from detection.demo import actions as a
from detection.demo.actions import ActionClass
from detection.demo.motion import Rhythm
from detection.demo.skeleton import Rng


@dataclass(frozen=True)
class Doing:
    """What a person does over one or more slots.

    body, arms: names of movements in motion.py.
    body_still, arms_still: frozen, like a statue.
    speed: heights a second over the ground.
    passage: start and end state; None without a change.
    """

    name: str
    labels: tuple[ActionClass, ...]
    body: str = "stand"
    arms: str = "own"
    body_still: bool = False
    arms_still: bool = False
    speed: float = 0.0
    passage: tuple[str, str] | None = None


def _doings(*entries: Doing) -> dict[str, Doing]:
    return {entry.name: entry for entry in entries}


UPRIGHT = _doings(
    Doing("stand", (a.STAND,)),
    Doing("stand, wave", (a.STAND, a.WAVE), arms="wave"),
    Doing("walk", (a.WALK,), "walk", speed=0.5),
    Doing("walk, wave", (a.WALK, a.WAVE), "walk", "wave", speed=0.5),
    Doing("walk, arm held up", (a.WALK,), "walk", "wave", arms_still=True, speed=0.5),
    Doing("run", (a.RUN,), "run", speed=1.0),
    Doing("statue of waving", (a.STAND,), arms="wave", arms_still=True),
    Doing("statue of walking", (a.STAND,), "walk", body_still=True),
    Doing("statue of running", (a.STAND,), "run", body_still=True),
)
# Shares of what people do who roam, and between two passages.
ROAM_SHARES = {
    "walk": 22, "walk, wave": 5, "walk, arm held up": 4, "run": 25, "stand": 2, "stand, wave": 18,
    "statue of walking": 11, "statue of running": 11, "statue of waving": 9,
}  # fmt: skip
STAY_SHARES = {"stand": 2, "stand, wave": 4, "statue of waving": 3}
HAND_SHARES = {"own": 3, "wave": 5, "wave held": 3}
CARRY_SHARES = {"stand": 1, "walk": 1}
ROLE_SHARES = {"roam": 28, "floor": 24, "seat": 22, "porter": 26}

# role: (upper state, lower state)
STATES = {
    "floor": ("up", "floor"), "seat": ("up", "seat"), "porter": ("carry", "bent"),
}  # fmt: skip
_LOWER = {"floor": ("lie", a.LIE), "seat": ("sit", a.SIT), "bent": ("bend", a.BEND)}
PASSAGES = _doings(
    Doing("fall down", (a.FALL,), passage=("up", "floor")),
    Doing("get up from the floor", (a.GET_UP,), passage=("floor", "up")),
    Doing("sit down", (a.SIT,), passage=("up", "seat")),
    Doing("get up from a seat", (a.GET_UP,), passage=("seat", "up")),
    Doing("put down", (a.BEND, a.CARRY, a.PUT_DOWN), arms="own", passage=("carry", "bent")),
    Doing("lift", (a.BEND, a.CARRY, a.LIFT), arms="own", passage=("bent", "carry")),
)
_PASSAGE = {doing.passage: doing for doing in PASSAGES.values()}


@dataclass
class Decks:
    """Draws choices so that the given shares are kept even in short runs."""

    dealt: dict[str, dict[str, int]] = field(default_factory=dict)

    def deal(self, deck: str, shares: Mapping[str, float], rng: Rng, weight: int = 1) -> str:
        """Return a key of `shares`, at random among those below their share."""
        counts = self.dealt.setdefault(deck, {})
        total = sum(counts.get(key, 0) for key in shares) + 1.0
        whole = sum(shares.values())
        behind = {
            key: share / whole * total - counts.get(key, 0) + 0.8 * rng.random()
            for key, share in shares.items()
        }
        choice = max(behind, key=lambda key: behind[key])
        counts[choice] = counts.get(choice, 0) + weight
        return choice


def timeline(role: str, slots: int, decks: Decks, rng: Rng) -> list[Doing]:
    """Return what a person of a role does at each of `slots` keyframes."""
    doings: list[Doing] = []
    if role == "roam":
        while len(doings) < slots:
            hold = min(int(rng.choice((2, 3))), slots - len(doings))
            doings += [UPRIGHT[decks.deal(role, ROAM_SHARES, rng, hold)]] * hold
        return doings
    upper, lower = STATES[role]
    state = upper if rng.random() < 0.5 else lower
    while len(doings) < slots:
        twice = {"carry": 0.0, "bent": 0.0, "seat": 0.75}.get(state, 0.25)
        hold = 2 if rng.random() < twice else 1
        # Porters often go on at once: lifting and putting down are the hardest to learn.
        if rng.random() < (0.65 if role == "porter" and doings else 1.0 if doings else 0.75):
            doings += [_staying(role, state, hold, decks, rng)] * hold
        other = lower if state == upper else upper
        doings.append(_PASSAGE[(state, other)])
        state = other
    return doings[:slots]


def _staying(role: str, state: str, hold: int, decks: Decks, rng: Rng) -> Doing:
    if state == "up":
        # People with a seat to return to stay on the spot.
        shares = STAY_SHARES if role == "seat" else ROAM_SHARES
        return UPRIGHT[decks.deal(f"{role} up", shares, rng, hold)]
    if state == "carry":
        body = decks.deal("carry", CARRY_SHARES, rng, hold)
        pose, speed = (a.WALK, 0.5) if body == "walk" else (a.STAND, 0.0)
        return Doing(f"{body}, carry", (pose, a.CARRY), body, "hold", speed=speed)
    body, pose = _LOWER[state]
    if state in ("floor", "bent"):
        return Doing(body, (pose,), body)
    hands = decks.deal(f"{role} hands", HAND_SHARES, rng, hold)
    arms, _, held = hands.partition(" ")
    extra = (a.WAVE,) if hands == "wave" else ()
    return Doing(f"{body}, {hands}", (pose, *extra), body, arms, arms_still=bool(held))


@dataclass(frozen=True)
class Span:
    """A time span of one activity, with the rhythms of body and arms."""

    start_s: float
    end_s: float
    doing: Doing
    body_rhythm: Rhythm
    arms_rhythm: Rhythm


# A cycle is never near 0.4 s (or half of one, for what looks alike twice a cycle), so that frames
# 0.4 s apart do not show the same pose by accident.
_PERIODS_S = {"walk": (1.1, 1.45), "run": (0.62, 0.68), "wave": (0.9, 1.35)}


def rhythm(kind: str, frozen: bool, rng: Rng) -> Rhythm:
    """Return a random rhythm for a movement."""
    return Rhythm(
        period_s=rng.uniform(*_PERIODS_S.get(kind, (1.0, 1.0))),
        phase=rng.random(),
        strength=rng.uniform(0.88, 1.1),
        left=rng.random() < 0.5,
        frozen=frozen,
    )


def spans_of(doings: list[Doing], first_s: float, rng: Rng) -> tuple[Span, ...]:
    """Return the spans of a timeline whose first slot is the keyframe at `first_s` seconds."""
    spans: list[Span] = []
    start, index = -1e6, 0
    while index < len(doings):
        last = index
        while last + 1 < len(doings) and doings[last + 1] == doings[index]:
            last += 1
        doing, time_s = doings[index], first_s + last
        following = doings[last + 1] if last + 1 < len(doings) else None
        if doing.passage:
            # Centred on the keyframe: otherwise its progress would reveal the direction.
            centre = time_s + rng.uniform(-0.05, 0.05)
            half = rng.uniform(0.42, 0.48)
            if spans:
                spans[-1] = replace(spans[-1], end_s=centre - half)
            start, end = centre - half, centre + half
        else:
            end = 1e6 if following is None else time_s + 0.5 + rng.uniform(-0.1, 0.1)
        body = rhythm(doing.body, doing.body_still, rng)
        spans.append(Span(start, end, doing, body, rhythm(doing.arms, doing.arms_still, rng)))
        start, index = end, last + 1
    return tuple(spans)
