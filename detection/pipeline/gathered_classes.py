"""Gathers the classes of a network of exclusive classes under names of one's own.

    classes:
      shooting a bow: [archery]
      riding a bicycle: [riding a bike, riding mountain bike]
    leave_out: [playing trumpet]
    others: true

classes: names of one's own, each with the network's names whose probabilities add up to it.
leave_out: classes of the network that are not asked for.
others: whether the network's other classes stay, under their own names (default: only where no
`classes` are given).
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError, printable
from detection.structures import LabelMap
from detection.yaml_files import YamlValues, read_yaml

_KEYS = ("classes", "leave_out", "others")


@dataclass(frozen=True)
class GatheredClasses:
    """The classes asked for, and what they are made of.

    label_map: A classes.
    gather: (K, A) 0 or 1: which of the network's K probabilities add up to each.
    """

    label_map: LabelMap
    gather: NDArray[np.float32]

    @classmethod
    def all_of(cls, classes: LabelMap) -> GatheredClasses:
        """Return the network's own classes."""
        return cls(classes, np.eye(len(classes), dtype=np.float32))

    def select(self, columns: list[int]) -> GatheredClasses:
        """Return some of the classes."""
        return GatheredClasses(self.label_map.select(columns), self.gather[:, columns])


def read_gathered_classes(path: str | Path, classes: LabelMap) -> GatheredClasses:
    """Read a file of gathered classes; `UserError` for names that the network does not have.

    classes: the network's.
    """
    file = read_yaml(path, what="file of gathered classes")
    for key in file.values:
        if key not in _KEYS:
            raise _problem(file, (str(key),), f"one of {', '.join(_KEYS)} is required")
    own = file.values.get("classes") or {}
    if not isinstance(own, dict):
        raise _problem(file, ("classes",), "names with lists of the network's names are required")
    taken: dict[int, str] = {}
    columns: dict[str, list[int]] = {}
    for name, parts in own.items():
        if not str(name).strip() or not str(name).isprintable():
            raise _problem(file, ("classes", str(name)), "a name that can be printed is required")
        columns[str(name)] = _columns(file, ("classes", str(name)), parts, classes, taken)
    left_out = file.values.get("leave_out") or []
    _columns(file, ("leave_out",), left_out, classes, taken)
    others = file.values.get("others", not own)
    if not isinstance(others, bool):
        raise _problem(file, ("others",), "true or false is required")
    if others:
        for column, name in enumerate(classes.names):
            if column not in taken:
                if name in columns:
                    raise _problem(
                        file, ("classes", name), "is also the name of another class of the network"
                    )
                columns[name] = [column]
    if not columns:
        raise UserError(f"{path}: no class remains")
    gather = np.zeros((len(classes), len(columns)), np.float32)
    for column, sources in enumerate(columns.values()):
        gather[sources, column] = 1
    label_map = LabelMap(tuple(columns), tuple(range(1, len(columns) + 1)), None)
    return GatheredClasses(label_map, gather)


def _columns(
    file: YamlValues, keys: tuple[str, ...], names: Any, classes: LabelMap, taken: dict[int, str]
) -> list[int]:
    names = [names] if isinstance(names, str) else names
    if not isinstance(names, list) or (not names and keys[0] == "classes"):
        raise _problem(file, keys, "a list of the network's class names is required")
    found = []
    for name in names:
        column = classes.index_by_name.get(str(name))
        if column is None:
            near = difflib.get_close_matches(str(name), classes.names, n=3)
            hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise _problem(file, keys, f"the network has no class '{printable(str(name))}'{hint}")
        if column in taken:
            raise _problem(file, keys, f"'{name}' is already part of '{taken[column]}'")
        taken[column] = keys[-1]
        found.append(column)
    return found


def _problem(file: YamlValues, keys: tuple[str, ...], problem: str) -> UserError:
    place = file.places.get(keys, file.source)
    return UserError(f"{place}: '{printable(keys[-1])}': {problem}")
