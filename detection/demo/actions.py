"""The actions of the synthetic data set, with AVA's names, ids and groups.

docs/demo.md defines them. A person has one pose, and further actions on top of it.
"""

from __future__ import annotations

from typing import NamedTuple


class ActionClass(NamedTuple):
    """One class of AVA's list: its name, its id there and its group."""

    name: str
    action_id: int
    group: str


MOVEMENT = "PERSON_MOVEMENT"
OBJECT = "OBJECT_MANIPULATION"
PERSON = "PERSON_INTERACTION"

BEND = ActionClass("bend/bow (at the waist)", 1, MOVEMENT)
FALL = ActionClass("fall down", 5, MOVEMENT)
GET_UP = ActionClass("get up", 6, MOVEMENT)
LIE = ActionClass("lie/sleep", 8, MOVEMENT)
RUN = ActionClass("run/jog", 10, MOVEMENT)
SIT = ActionClass("sit", 11, MOVEMENT)
STAND = ActionClass("stand", 12, MOVEMENT)
WALK = ActionClass("walk", 14, MOVEMENT)
CARRY = ActionClass("carry/hold (an object)", 17, OBJECT)
LIFT = ActionClass("lift/pick up", 36, OBJECT)
PUT_DOWN = ActionClass("put down", 47, OBJECT)
WAVE = ActionClass("hand wave", 69, PERSON)

CLASSES: tuple[ActionClass, ...] = (
    BEND, FALL, GET_UP, LIE, RUN, SIT, STAND, WALK,
    CARRY, LIFT, PUT_DOWN,
    WAVE,
)  # fmt: skip

# Classes that only motion tells: all their poses also occur without the action, held still
# (statues) or in reverse order.
MOTION_ONLY: tuple[str, ...] = tuple(
    action.name for action in (FALL, GET_UP, RUN, WALK, LIFT, PUT_DOWN, WAVE)
)
