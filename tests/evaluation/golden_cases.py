"""Small scoring problems by rule, and those worth writing out; `golden_ap.json` holds the answers.

The answers come from the real scripts (docs/evaluation.md says how). `random.Random(seed).random()`
gives the same numbers in every Python version, so the cases need not be stored.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass

NUM_CASES = 1000
NUM_FRACTIONAL_CASES = 200
CLASS_IDS = (2, 3, 5, 9, 12)  # in the label map; 4 and 20 are not


@dataclass(frozen=True)
class Case:
    """The text of the files of one problem (no exclusion file: None)."""

    ground_truth: str
    detections: str
    exclusions: str | None
    class_ids: tuple[int, ...] = CLASS_IDS

    @property
    def label_map(self) -> str:
        return "".join(f'item {{\n  name: "action {i}"\n  id: {i}\n}}\n' for i in self.class_ids)


def digest(cases: list[Case]) -> str:
    """Return a checksum that changes when the rule does."""
    return hashlib.sha256(repr(cases).encode()).hexdigest()


def random_case(seed: int, *, fractional: bool = False) -> Case:
    """Return one problem without equal scores.

    It has classes without ground truth or detections, duplicate ground truth and detections,
    keyframes that only one file has, empty and inside-out boxes, unknown classes, and in every
    tenth case more than 50 rows in a keyframe.
    """
    dice = random.Random(seed)

    def below(limit: int) -> int:
        return int(dice.random() * limit)

    def chance(probability: float) -> bool:
        return dice.random() < probability

    def box() -> list[float]:
        x, y = dice.random() * 0.7, dice.random() * 0.7
        return [x, y, x + 0.05 + dice.random() * 0.25, y + 0.05 + dice.random() * 0.25]

    def near(reference: list[float], reach: float) -> list[float]:
        moved = [min(max(v + (dice.random() - 0.5) * reach, 0.0), 1.0) for v in reference]
        x1, y1, x2, y2 = moved
        return [min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2)]

    seconds = [902 + i for i in range(1 + below(5))]
    times = [f"{s + (below(30) / 30 if fractional else 0):.6f}" for s in seconds]
    times = [f"{int(float(t)):04d}" if float(t).is_integer() else t for t in times]
    keys = [f"video{v},{t}" for v in range(1 + below(3)) for t in times]
    classes = [i for i in CLASS_IDS if chance(0.8)] or [CLASS_IDS[0]]
    truth: list[str] = []
    found: list[str] = []
    crowded = seed % 10 == 0
    for key in keys:
        people = [box() for _ in range(below(4))] if chance(0.85) else []
        if crowded and key == keys[0]:
            people = [box() for _ in range(5)]
        if fractional and not people and chance(0.7):
            truth.append(key)
        for person, corners in enumerate(people):
            if chance(0.03):
                corners[2] = corners[0]
            for action in {classes[below(len(classes))] for _ in range(1 + below(3))}:
                row = f"{key},{_text(corners)},{action},{person}"
                truth += [row] * (2 if chance(0.05) else 1)
            if chance(0.05):
                truth.append(f"{key},{_text(corners)},4,{person}")
            for _ in range(12 if crowded and key == keys[0] else below(4)):
                found.append(f"{key},{_text(near(corners, 0.2))},{_any_class(dice)}")
        for _ in range(below(3)):
            corners = box()
            if chance(0.15):
                corners[2] = corners[0]
            elif chance(0.1):
                corners[1], corners[3] = corners[3], corners[1]
            found.append(f"{key},{_text(corners)},{_any_class(dice)}")
    if not any(row.count(",") > 2 and row.split(",")[6] != "4" for row in truth):
        truth.append(f"{keys[0]},0.1,0.1,0.4,0.5,{classes[0]},0")
    if not found:
        found.append(f"{keys[0]},0.1,0.1,0.4,0.55,{classes[0]}")
    found = _shuffled(found, dice)
    ranks = _shuffled(list(range(len(found))), dice)
    lines = [
        f"{row},{(1 + rank) / (len(found) + 1):.6f}" for row, rank in zip(found, ranks, strict=True)
    ]
    excluded = "".join(f"{key}\n" for key in keys[1:] if chance(0.15)) if chance(0.5) else None
    return Case("\n".join(truth) + "\n", "\n".join(lines) + "\n", excluded)


def random_cases() -> list[Case]:
    return [random_case(seed) for seed in range(NUM_CASES)]


def fractional_cases() -> list[Case]:
    """Cases for the one revision that has fractional times and two-column rows."""
    return [random_case(seed, fractional=True) for seed in range(NUM_FRACTIONAL_CASES)]


def _text(corners: list[float]) -> str:
    return ",".join(f"{value:.6f}" for value in corners)


def _any_class(dice: random.Random) -> int:
    return (*CLASS_IDS, *CLASS_IDS, *CLASS_IDS, 20)[int(dice.random() * 16)]


def _shuffled(items: list, dice: random.Random) -> list:
    return [item for _, item in sorted((dice.random(), item) for item in items)]


_BOX, _OTHER, _FAR = "0.1,0.1,0.5,0.5", "0.1,0.1,0.5,0.52", "0.6,0.6,0.9,0.9"


def _rows(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


def special_cases() -> dict[str, Case]:
    """Problems on which the revisions are known to differ, or that break evaluators."""
    two = _rows(f"a,0902,{_BOX},3,0", f"a,0903,{_BOX},3,0")
    found_two = _rows(f"a,0902,{_BOX},3,0.5", f"a,0903,{_BOX},3,0.4")
    ten = "".join(f"a,{910 + i:04d},{_BOX},3,0.9{i}\n" for i in range(10))
    two_classes = _rows(f"a,0902,{_BOX},3,0", f"a,0902,{_BOX},5,0")
    crowd = "".join(f"a,0902,{_FAR},5,{0.5 + i / 1000:.3f}\n" for i in range(50))
    return {
        "ten confident boxes on frames without ground truth": Case(two, found_two + ten, None),
        "the same, excluded by file": Case(
            two, found_two + ten, "".join(f"a,{910 + i:04d}\n" for i in range(10))
        ),
        "one of two classes never predicted": Case(two_classes, f"a,0902,{_BOX},3,0.9\n", None),
        "a class without ground truth is predicted": Case(
            two, found_two + f"a,0902,{_BOX},9,0.9\n", None
        ),
        "duplicate detections": Case(
            two, found_two + _rows(f"a,0902,{_OTHER},3,0.6", f"a,0903,{_OTHER},3,0.3"), None
        ),
        "duplicate ground truth": Case(two + f"a,0902,{_BOX},3,0\n", found_two, None),
        "listed from the worst score up": Case(
            two,
            _rows(f"a,0902,{_OTHER},3,0.1", f"a,0902,{_BOX},3,0.8", f"a,0903,{_FAR},3,0.5"),
            None,
        ),
        "no second choice": Case(
            _rows("a,0902,0.1,0.1,0.5,0.5,3,0", "a,0902,0.14,0.1,0.54,0.5,3,1"),
            _rows("a,0902,0.1,0.1,0.5,0.5,3,0.9", "a,0902,0.11,0.1,0.51,0.5,3,0.8"),
            None,
        ),
        "the fiftieth row of a keyframe": Case(
            two, f"a,0902,{_BOX},3,0.4\n" + crowd + f"a,0903,{_BOX},3,0.3\n", None
        ),
        "fifty rows of classes outside the label map": Case(
            two, f"a,0902,{_BOX},3,0.4\n" + crowd.replace(",5,0.", ",20,0."), None
        ),
        "empty and inside-out boxes fill the fifty rows": Case(
            two, f"a,0902,{_BOX},3,0.4\n" + crowd.replace(_FAR, "0.6,0.6,0.6,0.9"), None
        ),
        "ground truth without area": Case(
            two + "a,0904,0.2,0.2,0.2,0.6,3,0\n", found_two + "a,0904,0.2,0.2,0.3,0.6,3,0.9\n", None
        ),
        "excluded ground truth": Case(two + f"a,0904,{_BOX},3,0\n", found_two, "a,0904\n"),
        "a keyframe with unknown classes alone": Case(
            two + f"a,0904,{_BOX},4,0\n", found_two + f"a,0904,{_BOX},3,0.9\n", None
        ),
        "scores under 0.002": Case(
            two, _rows(f"a,0902,{_BOX},3,0.5", f"a,0903,{_BOX},3,0.0019"), None
        ),
        "overlap of exactly one half": Case(
            "a,0902,0,0,0.5,0.5,3,0\n", "a,0902,0,0,0.5,0.25,3,0.9\n", None
        ),
        "nothing found at all for any class": Case(two, f"b,0902,{_BOX},20,0.9\n", None),
        "scores that float32 cannot tell apart": Case(
            two,
            _rows(
                f"a,0902,{_BOX},3,0.5",
                f"a,0902,{_FAR},3,0.50000001",
                f"a,0903,{_FAR},3,0.50000002",
                f"a,0903,{_BOX},3,0.49999999",
            ),
            None,
        ),
        "whole seconds with and without a leading zero": Case(
            two, found_two.replace("0903", "903"), None
        ),
    }


def jittered(ground_truth: str, seed: int = 0) -> str:
    """Return detections made of a ground-truth file: moved, dropped, mislabelled, all ranked."""
    dice = random.Random(seed)
    found = []
    for row in ground_truth.splitlines():
        fields = row.split(",")
        if dice.random() < 0.1:
            continue
        corners = [float(value) + (dice.random() - 0.5) * 0.12 for value in fields[2:6]]
        action = fields[6] if dice.random() < 0.8 else str(1 + int(dice.random() * 80))
        found.append(f"{fields[0]},{fields[1]},{_text(corners)},{action}")
    ranks = _shuffled(list(range(len(found))), dice)
    return "".join(
        f"{row},{(1 + rank) / (len(found) + 1):.9f}\n"
        for row, rank in zip(found, ranks, strict=True)
    )
