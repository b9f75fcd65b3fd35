"""Reads events of players in FOOTPASS' JSON (https://github.com/JeremieOchin/FOOTPASS).

`{"keys": [game, ...], "events": {game: [[frame, team, shirt, class, ...], ...]}}`; ground truth
goes on with `bbox, replay`, detections with `score` (1 where it is left out). Class 0 is the
background: such events do not count. A person is a team and a shirt number.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from detection.errors import UserError, printable
from detection.evaluation.event_f1 import PersonEvent
from detection.formats.json_text import read_json_object

FOOTPASS_CLASSES = ("drive", "pass", "cross", "throw-in", "shot", "header", "tackle", "block")


def read_events(
    path: str | Path, *, num_classes: int, scored: bool
) -> tuple[dict[str, list[PersonEvent]], int]:
    """Return the events of each game in `keys`, and how many others were left out.

    scored: the fifth number is a score. Class c has column c - 1; events of class 0 and of classes
    beyond `num_classes` are left out, as the published evaluation does. Raises `UserError` with
    game and place of the first bad event.
    """
    path = Path(path)
    content = read_json_object(path)
    keys, events = content.get("keys"), content.get("events")
    if not isinstance(keys, list) or not isinstance(events, dict):
        raise UserError(f"{path}: `keys` (a list) and `events` (by key) are required")
    out: dict[str, list[PersonEvent]] = {}
    left_out = 0
    for key in map(str, keys):
        if key in out:
            raise UserError(f"{path}: game {printable(key)} is in `keys` twice")
        rows = events.get(key, [])
        if not isinstance(rows, list):
            raise UserError(f"{path}: game {printable(key)}: a list of events is required")
        read = [
            _event(f"{path}: game {printable(key)}, event {number}", row, scored=scored)
            for number, row in enumerate(rows)
        ]
        out[key] = [one for one in read if 0 <= one.column < num_classes]
        left_out += len(read) - len(out[key])
    unused = sorted(set(map(str, events)) - set(out))
    if unused:
        raise UserError(f"{path}: game {printable(unused[0])} has events and is not in `keys`")
    return out, left_out


def _event(place: str, row: Any, *, scored: bool) -> PersonEvent:
    least = 4
    if not isinstance(row, list) or len(row) < least:
        raise UserError(f"{place}: frame, team, shirt, class{', score' if scored else ''} required")
    for value in row[:4]:
        if not isinstance(value, int | float) or isinstance(value, bool) or value != int(value):
            shown = printable(str(value))[:40]
            raise UserError(f"{place}: frame, team, shirt, class are whole numbers, found {shown}")
    score: Any = row[4] if scored and len(row) > least else 1.0
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score):
        raise UserError(f"{place}: a score is a number, found {printable(str(score))[:40]}")
    frame, team, shirt, number = (int(value) for value in row[:4])
    return PersonEvent(frame, (team, shirt), number - 1, float(score))
