"""Values of a checkpoint file, read as what they must be: known types, bounded sizes.

A file may come from anybody: nothing that stands in it is used before it went through here. Every
error is one line that names the place in the file, what was found and what is required.
"""

from __future__ import annotations

import dataclasses
import math
from collections import OrderedDict
from collections.abc import Collection, ItemsView, Mapping
from typing import Any, Literal, NoReturn, get_args, get_origin, get_type_hints

from detection.bounds import DEEPEST, MOST_VALUES
from detection.errors import UserError, printable

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

    def fields(self, kind: type) -> dict[str, Any]:
        """Return the fields of a dataclass, each checked by its type and bounds (`between`).

        One with a default may be absent; one that is a dataclass itself is left out.
        """
        types = get_type_hints(kind)
        return {
            field.name: self._typed(field.name, types[field.name], field.metadata)
            for field in dataclasses.fields(kind)
            if not dataclasses.is_dataclass(types[field.name])
            and (field.name in self._values or field.default is dataclasses.MISSING)
        }

    def _typed(self, name: str, kind: Any, bounds: Mapping[str, Any]) -> Any:
        if get_origin(kind) is Literal:
            return self.one_of(name, get_args(kind))
        if kind is bool:
            return self.flag(name)
        if get_origin(kind) is tuple:
            numbers = self.wholes(name, **bounds)
            if len(numbers) != len(get_args(kind)):
                self._refuse(name, numbers, "two numbers are")
            return numbers
        return (self.whole if kind is int else self.number)(name, **bounds)

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
