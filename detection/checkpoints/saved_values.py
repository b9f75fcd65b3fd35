"""What a checkpoint says beside its weights, turned into values of known type and size.

A file may come from anybody: nothing that stands in it is used before it went through here. Every
error is one line that names the place in the file, what was found and what is required.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Collection, ItemsView, Mapping, Sequence
from typing import Any, NoReturn, get_args

from detection.bounds import (
    DEEPEST,
    LARGEST_FACTOR,
    LARGEST_SIDE_PX,
    LARGEST_WHOLE,
    LONGEST_STEP,
    MOST_CLASSES,
    MOST_FRAMES,
    MOST_PIXELS,
    MOST_VALUES,
    MOST_WIDTH,
    SMALLEST_FACTOR,
)
from detection.errors import UserError, printable
from detection.models.actor_head import Context, RoiPool
from detection.structures import AtEnds

_SECTIONS = ("data", "clip", "picture", "model", "optim", "probe", "evaluation", "classification")
_REQUIRED: Any = object()


class SavedValues:
    """A mapping of a checkpoint file; every method reads one key, checked.

    path, place: the file, and where in it the mapping stands, for errors. Where a `default` is
    given the key may be absent. Methods raise `UserError`.
    """

    def __init__(self, path: str, values: Any, place: str = "") -> None:
        self._path = path
        self._place = place
        if type(values) not in (dict, OrderedDict) or not all(type(key) is str for key in values):
            self._refuse(None, values, "names with values are")
        self._values: Mapping[str, Any] = values

    def refuse_others(self, known: Collection[str]) -> None:
        """Raise for a key that is not among `known`."""
        for key in self._values:
            if key not in known:
                self._refuse(key, self._values[key], "no such name is known, none is")

    def whole(self, name: str, low: int, high: int, default: Any = _REQUIRED) -> int:
        """Return a whole number from `low` to `high`."""
        value = self._get(name, default)
        if type(value) is not int or not low <= value <= high:
            self._refuse(name, value, f"a whole number from {low:,} to {high:,} is")
        return value

    def number(
        self, name: str, low: float, high: float, default: Any = _REQUIRED, *, nan: bool = False
    ) -> float:
        """Return a finite number from `low` to `high`; with `nan`, NaN too."""
        value = self._get(name, default)
        if nan and type(value) is float and math.isnan(value):
            return value
        if type(value) not in (int, float) or not low <= value <= high:
            self._refuse(name, value, f"a number from {low:g} to {high:g} is")
        return float(value) if type(value) is float else value

    def text(self, name: str, default: Any = _REQUIRED) -> str:
        """Return a text that is not empty."""
        value = self._get(name, default)
        if type(value) is not str or not value:
            self._refuse(name, value, "a text is")
        return value

    def one_of(self, name: str, choices: Collection[Any], default: Any = _REQUIRED) -> Any:
        """Return one of the texts or numbers `choices`."""
        value = self._get(name, default)
        if type(value) not in (str, int) or value not in choices:
            self._refuse(name, value, f"one of {', '.join(map(repr, choices))} is")
        return value

    def flag(self, name: str, default: Any = _REQUIRED) -> bool:
        """Return true or false."""
        value = self._get(name, default)
        if type(value) is not bool:
            self._refuse(name, value, "true or false is")
        return value

    def listed(self, name: str, default: Any = _REQUIRED) -> list[Any]:
        """Return a list, of whatever, of no absurd length."""
        value = self._get(name, default)
        if type(value) not in (list, tuple) or len(value) > MOST_VALUES:
            self._refuse(name, value, f"a list of at most {MOST_VALUES:,} values is")
        return list(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of texts that are not empty."""
        values = self.listed(name)
        for index, value in enumerate(values):
            if type(value) is not str or not value:
                self._refuse(f"{name}[{index}]", value, "a text is")
        return tuple(values)

    def wholes(self, name: str, low: int, high: int) -> tuple[int, ...]:
        """Return a list of whole numbers from `low` to `high`."""
        values = self.listed(name)
        for index, value in enumerate(values):
            if type(value) is not int or not low <= value <= high:
                self._refuse(f"{name}[{index}]", value, f"a whole number from {low} to {high} is")
        return tuple(values)

    def within(self, name: str, default: Any = _REQUIRED) -> SavedValues:
        """Return the mapping under a key."""
        place = f"{self._place}.{name}" if self._place else name
        return SavedValues(self._path, self._get(name, default), place)

    def raw(self, name: str, default: Any = _REQUIRED) -> Any:
        """Return a value as it stands, for checks of another kind."""
        return self._get(name, default)

    def names(self) -> tuple[str, ...]:
        """Return the keys."""
        return tuple(self._values)

    def items(self) -> ItemsView[str, Any]:
        """Return keys and values as they stand, for checks of another kind."""
        return self._values.items()

    def refuse(self, name: str | None, value: Any, required: str) -> NoReturn:
        """Raise what every method raises: `required` reads on as "... required"."""
        self._refuse(name, value, required)

    def _get(self, name: str, default: Any) -> Any:
        if name in self._values:
            return self._values[name]
        if default is _REQUIRED:
            raise UserError(f"{self._path}: a damaged checkpoint: {self._at(name)} is missing")
        return default

    def _at(self, name: str | None) -> str:
        parts = (self._place, None if name is None else name)
        return printable(".".join(part for part in parts if part)) or "its content"

    def _refuse(self, name: str | None, value: Any, required: str) -> NoReturn:
        raise UserError(
            f"{self._path}: a damaged checkpoint: {self._at(name)} is {brief(value)}, "
            f"{required} required"
        )


def brief(value: Any) -> str:
    """Return a value of a stranger's file for an error: on one line, short, whatever it is."""
    if type(value) is int and abs(value) > 10**30:
        return f"a whole number of {value.bit_length()} bits"
    if value is None or type(value) in (bool, int, float):
        return repr(value)
    if type(value) is str:
        return printable(repr(value if len(value) <= 60 else f"{value[:60]}..."))
    size = f" of {len(value)}" if type(value) in (list, tuple, dict, OrderedDict, bytes) else ""
    return f"a {type(value).__name__}{size}"


def checked_config(path: str, config: Any) -> dict[str, Any] | None:
    """Check that a saved configuration is plain values of bounded number, its sections mappings.

    What its options mean is checked by the configuration's own reader, by whoever uses it.
    """
    if config is None:
        return None
    SavedValues(path, config, "config")
    budget = [MOST_VALUES]
    plain = _plain(path, config, "config", DEEPEST, budget)
    for section in _SECTIONS:
        if section in plain:
            SavedValues(path, plain[section], f"config.{section}")
    return dict(plain)


def _plain(path: str, value: Any, place: str, depth: int, budget: list[int]) -> Any:
    budget[0] -= 1
    if depth < 0 or budget[0] < 0:
        raise UserError(
            f"{path}: a damaged checkpoint: {place.partition('.')[0]} is nested deeper than "
            f"{DEEPEST} levels or holds more than {MOST_VALUES:,} values"
        )
    if value is None or type(value) in (bool, int, float, str):
        return value
    if type(value) in (list, tuple):
        return [_plain(path, v, f"{place}[{i}]", depth - 1, budget) for i, v in enumerate(value)]
    SavedValues(path, value, place)
    return {k: _plain(path, v, f"{place}.{k}", depth - 1, budget) for k, v in value.items()}


def box_score_threshold(path: str, config: Mapping[str, Any] | None, *, default: float) -> float:
    """Return the confidence above which a run took detected boxes, by its configuration."""
    data = SavedValues(path, dict(config or {}), "config").within("data", {})
    return float(data.number("box_score_threshold", 0, 1, default))


def checked_sampling(path: str, values: Any) -> dict[str, Any]:
    """Check how frames are to be sampled; return what `FrameSampling` takes."""
    said = SavedValues(path, values, "sampling")
    checked: dict[str, Any] = {
        "num_frames": said.whole("num_frames", 1, MOST_FRAMES),
        "step": said.number("step", 0, LONGEST_STEP),
        "short_side_px": said.whole("short_side_px", 1, LARGEST_SIDE_PX),
        "pixel_mean": said.number("pixel_mean", -10, 10, 0.45),
        "pixel_std": said.number("pixel_std", 1e-6, 1e6, 0.225),
        "at_ends": said.one_of("at_ends", get_args(AtEnds), "repeat"),
    }
    said.refuse_others(checked)
    if checked["num_frames"] * checked["short_side_px"] ** 2 > MOST_PIXELS:
        frames, side = checked["num_frames"], checked["short_side_px"]
        raise UserError(
            f"{path}: a damaged checkpoint: sampling asks for {frames} frames of {side} x {side} "
            f"pixels, at most {MOST_PIXELS:,} pixels in all are required"
        )
    return checked


def checked_classes(path: str, values: Any) -> dict[str, Any]:
    """Check a label map; return what `ClassList` takes."""
    said = SavedValues(path, values, "label_map")
    names = said.texts("names")
    ids = said.wholes("ids", 0, LARGEST_WHOLE)
    groups = None if said.raw("groups", None) is None else said.texts("groups")
    exclusive = {}
    if said.raw("exclusive", None) is not None:
        by_name = said.within("exclusive")
        exclusive = {name: by_name.wholes(name, 0, len(names) - 1) for name in by_name.names()}
    said.refuse_others(("names", "ids", "groups", "exclusive"))
    _refuse_twice(said, "names", names)
    _refuse_twice(said, "ids", ids)
    if groups is not None and len(groups) != len(names):
        said.refuse("groups", groups, f"a group for each of the {len(names)} classes is")
    members = [column for group in exclusive.values() for column in group]
    if len(set(members)) < len(members):
        said.refuse("exclusive", exclusive, "each column once in exclusive groups is")
    return {"names": names, "ids": ids, "groups": groups, "exclusive": exclusive}


def _refuse_twice(said: SavedValues, what: str, values: Sequence[Any]) -> None:
    seen: set[Any] = set()
    for index, value in enumerate(values):
        if value in seen:
            said.refuse(f"{what}[{index}]", value, "one that no class before has is")
        seen.add(value)


def checked_network(path: str, values: Any) -> dict[str, Any]:
    """Check the numbers that a network is built from; return those of them that are there."""
    said = SavedValues(path, values, "network")
    task = said.one_of("task", ("actions", "classification"))
    checks: dict[str, Any] = {
        "num_classes": lambda name: said.whole(name, 1, MOST_CLASSES),
        "hidden": lambda name: said.whole(name, 1, MOST_WIDTH),
        "dropout": lambda name: said.number(name, 0, 1),
        "pixel_mean": lambda name: said.number(name, -10, 10),
        "pixel_std": lambda name: said.number(name, 1e-6, 1e6),
    }
    if task == "actions":
        checks |= {
            "res5_stride": lambda name: said.one_of(name, (1, 2)),
            "roi_size": lambda name: said.whole(name, 1, 64),
            "roi_pool": lambda name: said.one_of(name, get_args(RoiPool)),
            "context": lambda name: said.one_of(name, get_args(Context)),
            "unit_features": said.flag,
            "exclusive": said.flag,
        }
    said.refuse_others(("task", "x3d", *checks))
    said.whole("num_classes", 1, MOST_CLASSES)  # the one that has no usual value
    there = {name: check(name) for name, check in checks.items() if name in said.names()}
    return {"task": task, "x3d": _checked_trunk(said.within("x3d")), **there}


def _checked_trunk(said: SavedValues) -> dict[str, Any]:
    checks: dict[str, Any] = {
        "num_frames": lambda name: said.whole(name, 1, MOST_FRAMES),
        "step": lambda name: said.number(name, 0, LONGEST_STEP),
        "train_crop": lambda name: said.whole(name, 1, LARGEST_SIDE_PX),
        "train_short_side": lambda name: list(said.wholes(name, 1, LARGEST_SIDE_PX)),
        "test_crop": lambda name: said.whole(name, 1, LARGEST_SIDE_PX),
        "width_factor": lambda name: said.number(name, SMALLEST_FACTOR, LARGEST_FACTOR),
        "depth_factor": lambda name: said.number(name, SMALLEST_FACTOR, LARGEST_FACTOR),
        "bottleneck_factor": lambda name: said.number(name, SMALLEST_FACTOR, LARGEST_FACTOR),
        "width_divisor": lambda name: said.whole(name, 1, 4096),
    }
    said.refuse_others(checks)
    required = list(checks)[:5]
    checked = {n: check(n) for n, check in checks.items() if n in said.names() or n in required}
    if len(checked["train_short_side"]) != 2:
        said.refuse("train_short_side", checked["train_short_side"], "two numbers are")
    return checked
