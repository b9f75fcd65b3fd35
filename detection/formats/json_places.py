"""JSON whose lists remember the line of each of their items."""

from __future__ import annotations

import json
import math
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from typing import Any

from detection.errors import UserError, at_row
from detection.files import read_text

_SPACE = " \t\r\n"


def read_json_lists(path: str | Path) -> tuple[dict[str, Any], dict[str, list[int]]]:
    """Read a file that holds one object; return it, and the lines of each list's items by key.

    Raises `UserError` naming file and line for text that is not UTF-8 or not JSON.
    """
    path = Path(path)
    text = read_text(path, what="JSON file")
    start = text.lstrip()[:1]
    if start and start != "{":
        found = "a list" if start == "[" else f"{text.strip()[:20]!r}"
        raise at_row(path, 1, f"not JSON of one object {{...}}, or cut short: {found} found")
    scanner = _Scanner(text)
    try:
        return scanner.document()
    except json.JSONDecodeError as error:
        raise at_row(path, error.lineno, f"not JSON, or cut short ({error.msg})") from error
    except RecursionError as error:
        raise UserError(f"{path}: lists in lists, too deep") from error
    except ValueError as error:  # such as a number of thousands of digits
        line = scanner.line_here()
        raise at_row(path, line, f"not JSON that can be read ({error})") from error


def _no_number(text: str) -> float:
    raise ValueError(f"{text} is no number of JSON")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is no finite number")
    return value


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {twice[:40]!r} is there twice in one object")
    return values


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.counted = 0
        self.line = 1
        self.decoder = json.JSONDecoder(
            parse_constant=_no_number, parse_float=_finite, object_pairs_hook=_each_key_once
        )
        self.lines: dict[str, list[int]] = {}

    def document(self) -> tuple[dict[str, Any], dict[str, list[int]]]:
        values: dict[str, Any] = {}
        self._take("{")
        if self._peek() == "}":
            self.position += 1
        else:
            while True:
                self._take('"')
                key, self.position = scanstring(self.text, self.position, True)
                if key in values:
                    self._fail(f"Key {key[:40]!r} is there twice")
                self._take(":")
                values[key] = self._list(key) if self._peek() == "[" else self._value()
                if not self._more("}"):
                    break
        if self._peek():
            self._fail("Extra data")
        return values, self.lines

    def _list(self, key: str) -> list[Any]:
        items: list[Any] = []
        lines = self.lines.setdefault(key, [])
        self._take("[")
        if self._peek() == "]":
            self.position += 1
            return items
        while True:
            self._peek()
            lines.append(self.line_here())
            items.append(self._value())
            if not self._more("]"):
                return items

    def _value(self) -> Any:
        self._peek()
        value, self.position = self.decoder.raw_decode(self.text, self.position)
        return value

    def _more(self, closing: str) -> bool:
        """Step over a comma (True) or the closing mark (False)."""
        mark = self._peek()
        if mark not in (",", closing) or not mark:
            self._fail("Expecting ',' delimiter")
        self.position += 1
        return mark == ","

    def _peek(self) -> str:
        while self.position < len(self.text) and self.text[self.position] in _SPACE:
            self.position += 1
        return self.text[self.position : self.position + 1]

    def _take(self, mark: str) -> None:
        if self._peek() != mark:
            self._fail(f"Expecting {mark!r}")
        self.position += 1

    def line_here(self) -> int:
        """Return the line of what is read next."""
        self.line += self.text.count("\n", self.counted, self.position)
        self.counted = self.position
        return self.line

    def _fail(self, message: str) -> None:
        raise json.JSONDecodeError(message, self.text, self.position)
