"""Reads rows of comma-separated values, and numbers in them; says what is malformed, and where."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator
from pathlib import Path

from detection.errors import Problems, at_row

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab"}


def csv_rows(
    path: str | Path,
    lines: Iterable[str],
    *,
    delimiter: str = ",",
    problems: Problems | None = None,
    first_line: int = 1,
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line from 1 on which a row begins, its fields); a blank line has no fields.

    lines: of the file `path`, each with its newline; the first is `first_line`. An unclosed quote,
    or a field of more than 131,072 characters, raises `UserError` with the line, or is added to
    `problems` where given, which ends the rows.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + first_line
        try:
            fields = next(reader, None)
        except csv.Error as error:
            message = f"not a row of {_NAMES[delimiter]}-separated values ({error})"
            if problems is None:
                raise at_row(path, start, message) from error
            problems.add(path, start, message)
            return
        if fields is None:
            return
        yield start, fields


def finite_number(text: str, name: str, *, most: float = math.inf) -> float:
    """Return a number of at most `most` on either side of 0; raises ValueError naming it `name`."""
    shown = repr(text.strip()[:60]) + "..." * (len(text.strip()) > 60)
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{name} must be a number, found {shown}") from None
    if not math.isfinite(value) or abs(value) > most:
        raise ValueError(f"{name} must be a finite number, found {shown}")
    return value
