"""Reads and writes standard JSON; errors name the place.

NaN and infinity, which JSON does not have, are written as null and refused on reading.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.errors import UserError, at_row, printable
from detection.files import read_text


def json_text(values: Any, *, indent: int | None = 2, ensure_ascii: bool = True) -> str:
    """Return values (also in mappings, lists and tuples) as JSON, ending in a newline."""
    text = json.dumps(_plain(values), indent=indent, ensure_ascii=ensure_ascii, allow_nan=False)
    return text + "\n"


def read_json_object(path: str | Path) -> dict[str, Any]:
    """Read a file that holds one object.

    Raises `UserError` naming file, line and column for text that is not JSON; file and path, such
    as `annotations[17].bbox`, for a number that is not finite and a key that an object has twice.
    """
    values, text = _read(Path(path))
    if not isinstance(values, dict):
        found = "a list" if isinstance(values, list) else repr(text.strip()[:20])
        raise at_row(path, 1, f"not JSON of one object {{...}}: {found} found")
    return values


def read_json_list(path: str | Path) -> list[Any]:
    """Read a file that holds one list, as strictly; raises as `read_json_object` does."""
    values, text = _read(Path(path))
    if not isinstance(values, list):
        found = "an object" if isinstance(values, dict) else repr(text.strip()[:20])
        raise at_row(path, 1, f"not JSON of one list [...]: {found} found")
    return values


def _read(path: Path) -> tuple[Any, str]:
    """Return what a file holds, and its text."""
    text = read_text(path, what="JSON file")
    try:
        return _strictly(text, path), text
    except json.JSONDecodeError as error:
        message = f"not JSON, or cut short ({error.msg}, column {error.colno})"
        raise at_row(path, error.lineno, message) from error
    except RecursionError as error:
        raise UserError(f"{path}: lists in lists, too deep") from error


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _strictly(text: str, path: Path) -> Any:
    """Read JSON; where a value is none, read it once more to say where that value is."""
    try:
        return json.loads(
            text, parse_constant=_finite, parse_float=_finite, object_pairs_hook=_each_key_once
        )
    except json.JSONDecodeError:
        raise
    except ValueError:
        keeping_all = json.loads(
            text,
            parse_constant=_number,
            parse_float=_number,
            parse_int=_number,
            object_pairs_hook=_Pairs,
        )
        _name_bad_value(keeping_all, path, "")
        raise


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        raise ValueError
    return values


class _Pairs(list[tuple[str, Any]]):
    """The keys and values of an object, a key that is there twice among them."""


class _NotFinite(str):
    """The text of a number that is too large to be one, or NaN."""


def _number(text: str) -> float | _NotFinite:
    return float(text) if math.isfinite(float(text)) else _NotFinite(text)


def _name_bad_value(value: Any, path: Path, place: str) -> None:
    """Raise `UserError` for the first value, or its first part, that is not plain JSON."""
    if isinstance(value, _NotFinite):
        raise at_row(path, place, f"a finite number is required, found {value[:40]}")
    if isinstance(value, _Pairs):
        keys = set()
        for key, inner in value:
            name = printable(key[:40])
            inside = f"{place}.{name}" if place else name
            if key in keys:
                raise at_row(path, inside, "the key is there twice in one object")
            keys.add(key)
            _name_bad_value(inner, path, inside)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            _name_bad_value(inner, path, f"{place}[{number}]")
