"""Errors that a user can cause and correct: one line, what was found, what is required, where."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

EXIT_WRONG = 2  # something that a user can correct, in one line on stderr
EXIT_SOME_FAILED = 3  # the others are done; which ones failed, and why, is written down
EXIT_STOPPED = 75  # stopped before the end, saved, to be called again (EX_TEMPFAIL of sysexits.h)


class UserError(ValueError):
    """Something a user can correct: a bad file, row, option or value.

    Commands print it as one line and end with exit code 2; every other exception is a fault of this
    project and keeps its traceback.
    """

    exit_code = EXIT_WRONG


class NotFoundError(UserError):
    """A file is not there: unlike one that cannot be read, that may be as it should be."""


class ProcessLostError(UserError):
    """A process that a command works with was ended from outside; what was done is kept.

    The same command again (or `--resume`) goes on: exit code 75.
    """

    exit_code = EXIT_STOPPED


def at_row(path: str | Path, place: int | str | None, message: str) -> UserError:
    """Build a `UserError` that opens with the file and the place in it.

    place: a line, from 1 (`rows.csv:17:`); a path in JSON (`file.json: annotations[17].bbox:`);
    None: the whole file.
    """
    return UserError(f"{place_in(path, place)}: {message}")


def place_in(path: str | Path, place: int | str | None) -> str:
    """Return a file and a place in it (see `at_row`) in words."""
    if place is None:
        return str(path)
    return f"{path}: {place}" if isinstance(place, str) else f"{path}:{place}"


def printable(text: str) -> str:
    r"""Return `text` on one line, with control characters written out (`\x1b` for escape).

    Names come from files of others: printed as they are they could move the cursor, change colours
    or the window's title. Everything that a command prints of such names goes through here.
    """
    return "".join(
        character
        if character.isprintable()
        else " "
        if character in "\n\t"
        else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def first_few(texts: Sequence[str], *, most: int = 3, separator: str = "; ") -> str:
    """Return the first `most` texts, joined, and the number of the others."""
    more = [f"and {len(texts) - most} more"] if len(texts) > most else []
    return separator.join([*texts[:most], *more])


class Problems:
    """Many bad rows as one `UserError`: the first ten in words, the rest as a count."""

    MAX_REPORTED = 10

    def __init__(self) -> None:
        self.rows: list[UserError] = []
        self.count = 0

    def add(self, path: str | Path, place: int | str | None, message: str) -> None:
        """Note what is wrong at a place (see `at_row`) of a file; the same again is one."""
        problem = at_row(path, place, message)
        if self.rows and str(self.rows[-1]) == str(problem):
            return
        self.count += 1
        if self.count <= self.MAX_REPORTED:
            self.rows.append(problem)

    def raise_if_any(self) -> None:
        """Raise `UserError` where a row was bad."""
        if not self.count:
            return
        text = "; ".join(map(str, self.rows))
        if self.count > self.MAX_REPORTED:
            text += f"; and {self.count - self.MAX_REPORTED} more bad rows"
        raise UserError(text)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that memory could not be had, in Python's words or PyTorch's."""
    # PyTorch's class by its name: most commands that ask have not loaded it.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    words = ("DefaultCPUAllocator", "not enough memory", "t allocate memory", "out of memory")
    return isinstance(error, RuntimeError) and any(word in str(error) for word in words)
