"""The classes of another project's network, as a file beside its weights lists them.

A name a line, from column 0 on; or `N: name` lines, or JSON of id and name, in any order: columns
are those of ascending ids, which run from 0 or 1 on without a gap. JSON may be a list of names as
well; a `.pbtxt` is a label map.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from detection.datasets.clip_list import read_class_file
from detection.datasets.label_map import label_map_of, read_label_map
from detection.errors import UserError, at_row, printable
from detection.files import read_text
from detection.structures import LabelMap

_NUMBERED = re.compile(r"(\d{1,9})\s*:\s*(\S.*)")


def read_class_list(path: str | Path) -> LabelMap:
    """Read class names in the order of a network's columns.

    Raises `UserError` with the line of a name that is empty or a number that is there twice, for a
    number that is left out, and for lines of which only some have numbers.
    """
    path = Path(path)
    if path.suffix == ".pbtxt":
        return _in_columns(path, read_label_map(path))
    text = read_text(path, what="class list")
    if path.suffix == ".json" or text.lstrip().startswith(("{", "[")):
        return _in_columns(path, _of_json(path, text))
    lines = [line.strip() for line in text.rstrip().split("\n")] if text.strip() else []
    if not lines:
        raise UserError(f"{path}: names no class; a name a line is required")
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    have = [match is not None for match in numbered]
    if any(have) and not all(have):
        raise at_row(
            path,
            have.index(not have[0]) + 1,
            "some lines are `N: name` and some are not; one form for all lines is required",
        )
    classes: dict[int, str] = {}
    for number, (line, match) in enumerate(zip(lines, numbered, strict=True), 1):
        index, name = (number - 1, line) if match is None else (int(match[1]), match[2])
        if not name:
            raise at_row(path, number, "an empty line, a class name is required")
        if index in classes:
            raise at_row(path, number, f"class {index} is there twice")
        if name in classes.values():
            raise at_row(path, number, f"class '{printable(name[:60])}' is there twice")
        classes[index] = name
    return _in_columns(path, label_map_of(path, classes))


def _of_json(path: Path, text: str) -> LabelMap:
    if path.suffix == ".json":
        return read_class_file(path)
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: begins as JSON and is none ({error})") from error
    raise UserError(
        f"{path}: JSON ({type(values).__name__}); a name that ends in .json is required"
    )


def _in_columns(path: Path, classes: LabelMap) -> LabelMap:
    """Return the classes by ascending id; `UserError` unless ids are 0, 1, ... or 1, 2, ..."""
    by_id = dict(sorted(zip(classes.ids, classes.names, strict=True)))
    first = min(by_id, default=0)
    expected = range(first, first + len(by_id))
    left_out = next((number for number in expected if number not in by_id), None)
    if first not in (0, 1) or left_out is not None:
        found = f"class {left_out} is left out" if first in (0, 1) else f"the first is {first}"
        raise UserError(
            f"{path}: {found}; a network's columns are named one after the other, from 0 or 1 on"
        )
    return LabelMap(tuple(by_id.values()), tuple(by_id), None, {})
