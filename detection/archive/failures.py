"""failed.csv: the videos of a run that failed at every attempt, and why."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from typing import Protocol

from detection.errors import UserError, printable
from detection.transfer.places import exists, read_bytes, remove, shown_address, write_bytes

FAILURES_NAME = "failed.csv"
_COLUMNS = ("video", "attempts", "error")
_MOST_BYTES = 1 << 28


class FailedVideo(Protocol):
    """A video that failed, how often it was attempted, and what ended the last attempt."""

    @property
    def video(self) -> str:
        """Its name."""

    @property
    def attempts(self) -> int:
        """How often it was attempted."""

    @property
    def error(self) -> str:
        """What ended the last attempt, a line."""


def read_failures(root: str) -> dict[str, tuple[int, str]]:
    """Return the attempts and the error of each video that failed.csv names; none where it is not.

    root: path or address. Raises `UserError` where a file of that name is of something else.
    """
    place = f"{root.rstrip('/')}/{FAILURES_NAME}"
    if not exists(place):
        return {}
    text = read_bytes(place, _MOST_BYTES).decode("utf-8", "replace")
    try:
        rows = list(csv.reader(io.StringIO(text, newline="")))
    except csv.Error:
        rows = []
    if tuple(rows[0] if rows else ()) != _COLUMNS:
        raise UserError(f"{shown_address(place)}: not of this command; move it away")
    return {
        row[0]: (int(row[1]), row[2]) for row in rows[1:] if len(row) == 3 and row[1].isdecimal()
    }


def write_failures(root: str, failures: Iterable[FailedVideo]) -> None:
    """Write failed.csv whole, by video; remove it where none failed.

    root: path or address. Raises `UserError` where a file of that name is of something else.
    """
    place = f"{str(root).rstrip('/')}/{FAILURES_NAME}"
    head = ",".join(_COLUMNS) + "\n"
    if exists(place) and not read_bytes(place, _MOST_BYTES).startswith(head.encode()):
        raise UserError(f"{shown_address(place)}: not of this command; move it away")
    rows = sorted((each.video, each.attempts, each.error) for each in failures)
    if not rows:
        remove(place)
        return
    text = io.StringIO(newline="")
    text.write(head)
    csv.writer(text, lineterminator="\n").writerows(
        (printable(video), attempts, printable(error)) for video, attempts, error in rows
    )
    write_bytes(place, text.getvalue().encode())
