"""Composes a video: number, size and roles of its people, and occluding props."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from detection.demo import looks
from detection.demo.camera import CameraPath, camera_paths
from detection.demo.figure import Held
from detection.demo.looks import Split
from detection.demo.props import LOW_KINDS, Prop, chair, hiding
from detection.demo.scenery import Place, places
from detection.demo.skeleton import Array, Rng
from detection.demo.staging import Person
from detection.demo.story import ROLE_SHARES, Decks, Doing, rhythm, spans_of, timeline

_PEOPLE_SHARES = {"1": 24, "2": 41, "3": 27, "4": 8}
# Standing height in frame heights, by how many people there are.
_HEIGHTS = {1: (0.64, 0.76), 2: (0.6, 0.74), 3: (0.54, 0.68), 4: (0.48, 0.6)}
_FAR_HEIGHTS = (0.2, 0.3)
_LEAST_HEIGHT = {"floor": 0.5, "porter": 0.32, "seat": 0.26}
_FAR_ROLES = ("roam", "seat")
_TRIES = 10  # arrangements of people, of which the least crowded is chosen


@dataclass(frozen=True)
class Story:
    """Everything that determines one video."""

    video_id: str
    split: Split
    camera: CameraPath
    place: Place
    people: tuple[Person, ...]
    props: tuple[Prop, ...]


def cast(split: Split, index: int, *, slots: int, aspect: float, decks: Decks, rng: Rng) -> Story:
    """Return the story of the `index`-th video of a split, with `slots` keyframes from 1 s on."""
    count = int(decks.deal("people", _PEOPLE_SHARES, rng))
    far = decks.deal("far", {"far": 7, "near": 93}, rng) == "far"
    roles = _roles(count, far, decks, rng)
    doings = [timeline(role, slots, decks, rng) for role in roles]
    tries = [
        _people(split, roles, doings, far=far, aspect=aspect, rng=rng)
        for _ in range(_TRIES if count > 1 else 1)
    ]
    people = min(tries, key=lambda cast: crowding(cast, np.arange(1.0, 1.0 + slots)))
    all_paths, all_places = camera_paths(split), places(split)
    return Story(
        video_id=f"demo_{split}_{index:04d}",
        split=split,
        camera=all_paths[int(rng.integers(len(all_paths)))],
        place=all_places[index % len(all_places)],
        people=tuple(people),
        props=tuple(_props(split, people, decks, rng)),
    )


def _people(
    split: Split, roles: list[str], doings: list[list[Doing]], *, far: bool, aspect: float,
    rng: Rng,
) -> list[Person]:  # fmt: skip
    count = len(roles)
    spots = (rng.permutation(count) + 0.5 + rng.uniform(-0.15, 0.15, count)) / count * aspect
    bodies = rng.permutation(len(looks.bodies(split)))
    people = []
    for number, role in enumerate(roles):
        height = rng.uniform(*(_FAR_HEIGHTS if far else _HEIGHTS[count]))
        height = max(height, 0.0 if far else _LEAST_HEIGHT.get(role, 0.0))
        person = _person(
            number, role, height, float(spots[number]), aspect=aspect, rng=rng,
            doings=doings[number],
            body=looks.bodies(split)[int(bodies[number])],
            wardrobe=looks.clothes(split),
        )  # fmt: skip
        people.append(person)
    return people


def crowding(people: list[Person], times_s: Array) -> float:
    """Return the overlap of people across the frame, summed over times, in frame heights."""
    paths = [person.path(times_s) for person in people]
    total = 0.0
    for index, time_s in enumerate(times_s.tolist()):
        spans = [
            _taken(person, x[index], facing[index], time_s)
            for person, (x, facing) in zip(people, paths, strict=True)
        ]
        total += sum(
            max(0.0, min(one[1], other[1]) - max(one[0], other[0]))
            for one, other in combinations(spans, 2)
        )
    return total


def _taken(person: Person, x: float, facing_deg: float, time_s: float) -> tuple[float, float]:
    doing = person.doing_at(time_s)
    forward = float(np.cos(np.radians(facing_deg)))
    behind, ahead = 0.17, 0.17
    if person.role == "floor" and (doing.passage or doing.body == "lie"):
        behind, ahead = 0.75 if doing.passage is None else 0.45, 0.15
    elif person.role == "porter":
        ahead = 0.45
    elif doing.body in ("walk", "run"):
        behind = ahead = 0.25
    ends = sorted((x - behind * forward * person.height, x + ahead * forward * person.height))
    half = 0.12 * person.height
    return min(ends[0], x - half), max(ends[1], x + half)


def _roles(count: int, far: bool, decks: Decks, rng: Rng) -> list[str]:
    """Assign a role to each of `count` people; far ones get roles that are visible at that size."""
    shares = {role: n for role, n in ROLE_SHARES.items() if not far or role in _FAR_ROLES}
    return [decks.deal("role", shares, rng) for _ in range(count)]


def _person(
    number: int, role: str, height: float, spot: float, *, aspect: float,
    rng: Rng, doings: list[Doing],
    body: looks.Body, wardrobe: tuple[looks.Clothes, ...],
) -> Person:  # fmt: skip
    ground = min(0.98, 0.635 + 0.42 * height + rng.uniform(-0.025, 0.025))
    slant = rng.uniform(-28, 28)
    sideways = slant if rng.random() < 0.5 else 180.0 - slant
    facing = sideways
    if role == "seat":
        turned = rng.uniform(-20, 20)  # seen from the side, thighs and chair back show
        facing = turned if rng.random() < 0.5 else 180.0 - turned
    if role == "roam" and all(d.speed == 0 for d in doings) and rng.random() < 0.6:
        facing = rng.uniform(0, 360)
    forward = float(np.cos(np.radians(facing)))
    if role == "floor":
        spot += 0.42 * height * forward  # lying people extend behind their feet
    edge = 0.10 + 0.16 * height
    roaming = rng.uniform(0.25, 0.4)
    reach = (max(edge, spot - roaming), min(aspect - edge, spot + roaming))
    if reach[1] - reach[0] < 0.3:
        reach = (edge, aspect - edge)
    held = None
    if role == "porter":
        tone = looks.colour(rng.random(), rng.uniform(0.6, 0.95), rng.uniform(0.5, 0.9))
        ribbon = looks.colour(rng.random(), 0.6, 0.9)
        held = Held(rng.uniform(0.3, 0.4), rng.uniform(0.24, 0.32), tone, ribbon)
    return Person(
        person_id=number, role=role, height=height, home_x=float(np.clip(spot, *reach)),
        ground_y=ground, reach=reach, facing=facing, slant=slant, body=body,
        clothes=wardrobe[int(rng.integers(len(wardrobe)))], held=held,
        spans=spans_of(doings, 1.0, rng), posture=rhythm("stand", True, rng),
    )  # fmt: skip


def _props(split: Split, people: list[Person], decks: Decks, rng: Rng) -> list[Prop]:
    """Return seats for sitting people, and things that occlude some people."""
    props = []
    for person in people:
        if person.role == "seat":
            leg = person.body.build.leg / 2 + person.body.build.sole - person.body.build.belly * 0.7
            behind = person.home_x - np.cos(np.radians(person.facing)) * 0.24 * person.height
            depth = -np.sin(np.radians(person.facing)) * 0.24 * person.height * 0.16
            tone = looks.colour(looks.hue_of(split, rng), 0.45, rng.uniform(0.4, 0.8))
            seat = chair(
                float(behind), person.ground_y + float(depth), leg * person.height, tone,
                back=-1 if np.cos(np.radians(person.facing)) > 0 else 1,
            )  # fmt: skip
            props.append(Prop(seat.shapes, person.ground_y - 0.004))
        chance = {"roam": 84, "seat": 3, "porter": 3, "floor": 3}
        share = chance[person.role]
        if decks.deal(f"hide {person.role}", {"yes": share, "no": 100 - share}, rng) == "yes":
            props.append(_hider(split, person, rng))
    return props


def _hider(split: Split, person: Person, rng: Rng) -> Prop:
    h, y = person.height, person.ground_y + 0.012
    if person.role in ("floor", "porter") or rng.random() < 0.2:
        x = person.home_x + rng.uniform(-0.12, 0.12) * h
        return hiding("pillar", rng, split, x, y, h * rng.uniform(0.15, 0.22), 1.0)
    kind = LOW_KINDS[int(rng.integers(len(LOW_KINDS)))]
    wide = h * float(rng.uniform(0.8, 1.25) if person.role == "roam" else rng.uniform(0.55, 0.85))
    tall = h * rng.uniform(0.38, 0.57) * (0.8 if person.role == "seat" else 1.0)
    x = person.home_x + rng.uniform(-0.1, 0.1) * h
    return hiding(kind, rng, split, x, y, wide, tall)
