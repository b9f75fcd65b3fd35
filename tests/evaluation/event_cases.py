"""Small problems of players' events by rule, in FOOTPASS' JSON; no two scores are equal."""

from __future__ import annotations

import random
from typing import Any


def event_case(seed: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return ground truth and detections of up to four games, some of one side alone."""
    dice = random.Random(seed)
    ranks = list(range(1, 3001))
    dice.shuffle(ranks)
    scores = iter(rank / 3001 for rank in ranks)
    truth: dict[str, Any] = {"keys": [], "events": {}}
    found: dict[str, Any] = {"keys": [], "events": {}}
    for game in range(1 + int(dice.random() * 4)):
        key = f"game_{game}"
        events, detections = [], []
        for _ in range(int(dice.random() * 40)):
            frame, team = int(dice.random() * 300), int(dice.random() * 2)
            shirt, action = 1 + int(dice.random() * 3), int(dice.random() * 9)
            event = [frame, team, shirt, action]
            events.append([*event, int(dice.random() * 2), int(dice.random() * 2)])
            for _ in range(int(dice.random() * 3)):
                moved = [frame + int(dice.random() * 41) - 20, *event[1:]]
                if dice.random() < 0.2:
                    moved[3] = int(dice.random() * 10)
                detections.append([*moved, next(scores)])
        if dice.random() < 0.9:
            truth["keys"].append(key)
            truth["events"][key] = events
        if dice.random() < 0.9:
            found["keys"].append(key)
            found["events"][key] = detections
    return truth, found
