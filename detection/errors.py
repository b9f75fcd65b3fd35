"""Errors that a user can cause and mend: one line, what was found, what was wanted, where."""

from __future__ import annotations

from pathlib import Path


class UserError(ValueError):
    """Something a user can mend: a bad file, row, option or value.

    Commands print it as one line and end with exit code 2; every other exception is a fault of this
    project and keeps its traceback.
    """


def at_row(path: str | Path, line: int | None, message: str) -> UserError:
    """Build a `UserError` that opens with `path:line:` (from 1; None: the whole file)."""
    place = str(path) if line is None else f"{path}:{line}"
    return UserError(f"{place}: {message}")
