"""progress-*.json: how far runs over thousands of videos are, told to whoever asks from elsewhere.

Each command that is at work on an output has a file of its own, by its share, machine and process.
"""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence, Sized
from contextlib import suppress
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from detection.errors import UserError, printable
from detection.formats.json_text import json_text
from detection.pipeline.summary import counted, duration_text, work_text
from detection.transfer.places import (
    exists,
    list_files,
    read_bytes,
    remove,
    shown_address,
    write_bytes,
)

STATUS_NAMES = "progress*.json"
WRITE_EACH_S = 2.0
STALE_S = 30.0
_GONE_S = 3 * WRITE_EACH_S  # from then on it is looked for, where it ran on this machine
_FORMAT = 1
_MOST_BYTES = 1 << 20
_COUNTS = ("videos", "done", "kept", "failed", "busy", "spans", "spans_done")

RunState = Literal["running", "ended", "stopped", "broken"]


class CountedProgress(Protocol):
    """What a run has done so far: see `detection.archive.driver`."""

    videos: int
    done: int
    kept: int
    spans: int
    spans_done: int
    computed_s: float
    busy: int
    stopped: bool

    @property
    def failures(self) -> Sized:
        """Videos that failed."""


class StatusWriter:
    """Writes a run's file into its results; a context manager, whose end is written too.

    root: path or address. share: of which share of the videos it tells, as "2-of-8". What cannot be
    written is said once on stderr, and the run goes on. Files of the same share whose runs have
    ended or are gone are removed.
    """

    def __init__(self, root: str, *, share: str = "") -> None:
        self._root, self._share = str(root).rstrip("/"), share
        host = re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())
        name = "-".join(["progress", *filter(None, [share]), host, str(os.getpid())])
        self._place = f"{self._root}/{name}.json"
        self._began, self._began_s = time.time(), time.monotonic()
        self._written_s = -WRITE_EACH_S
        self._last: CountedProgress | None = None
        self._is_told = self._has_written = False

    def write(self, progress: CountedProgress) -> None:
        """Write it, unless it was written less than two seconds ago."""
        self._last = progress
        if time.monotonic() - self._written_s >= WRITE_EACH_S:
            self._write("running")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._last is not None:
            is_stopped = self._last.stopped
            self._write("broken" if error is not None else "stopped" if is_stopped else "ended")

    def _write(self, state: RunState) -> None:
        assert self._last is not None
        progress, seconds = self._last, time.monotonic() - self._began_s
        values = {
            "format": _FORMAT,
            "state": state,
            "videos": progress.videos,
            "done": progress.done,
            "kept": progress.kept,
            "failed": len(progress.failures),
            "busy": progress.busy,
            "spans": progress.spans,
            "spans_done": progress.spans_done,
            "computed_s": round(progress.computed_s, 3),
            "times_real_time": round(progress.computed_s / seconds, 3) if seconds > 0 else None,
            "left_s": _left_s(progress, seconds),
            "since": _utc_text(self._began),
            "written": _utc_text(time.time()),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "share": self._share,
        }
        try:
            if not self._has_written:
                self._remove_ended()
            self._has_written = True
            write_bytes(self._place, json_text(values).encode())
        except UserError as error:
            if not self._is_told:
                print(f"warning: {printable(str(error))}; the run goes on", file=sys.stderr)
            self._is_told = True
        self._written_s = time.monotonic()

    def _remove_ended(self) -> None:
        for place in _status_places(self._root):
            with suppress(UserError):  # damaged, or another run has just removed it
                values = _read(place)
                if values["share"] == self._share and not _is_running(values):
                    remove(place)


def status_lines(root: str, *, now: float | None = None) -> list[str]:
    """Return how far the run into a folder or address is, in lines.

    now: seconds since 1970, of this machine's clock unless given. Raises `UserError` where no run
    has told of itself.
    """
    now, lines = time.time() if now is None else now, list[str]()
    found = [_read(place) for place in _status_places(str(root).rstrip("/"))]
    shares = Counter(values["share"] for values in found)
    for values in sorted(found, key=lambda values: (values["share"], values["since"])):
        head = [f"share {values['share'].replace('-', ' ')}"] if values["share"] else []
        if shares[values["share"]] > 1:
            head.append(f"process {values['pid']} on {values['host']}")
        lines += [printable(", ".join(head)) + ":"] if head else []
        lines += _lines(values, now)
    if not lines:
        shown = shown_address(root)
        raise UserError(f"{shown}: no run with --engine has told of itself ({STATUS_NAMES})")
    return lines


def _status_places(root: str) -> list[str]:
    if not exists(root):
        return []
    files = list_files(root, below=False)
    return [place for name, place, _ in files if fnmatchcase(name, STATUS_NAMES)]


def _is_running(values: dict[str, Any]) -> bool:
    """Tell whether the run of a file may still write it."""
    written = datetime.fromisoformat(values["written"]).timestamp()
    if values["state"] != "running" or time.time() - written > STALE_S:
        return False
    return not _is_gone(values["host"], int(values["pid"]))


def _lines(values: dict[str, Any], now: float) -> list[str]:
    """Return the lines of one file."""
    counts = {name: values[name] for name in _COUNTS}
    words = [f"{counts['done']:,} of {counted(counts['videos'], 'video')} done"]
    more = (("kept", "found finished"), ("failed", "failed"), ("busy", "in other runs"))
    words += [f"{counts[name]:,} {text}" for name, text in more if counts[name]]
    if counts["spans"]:
        words.append(f"{counts['spans_done']:,} of {counts['spans']:,} spans of long videos")
    speed = f"{work_text(values['computed_s'])} of video"
    if values["times_real_time"] is not None:
        speed += f", {values['times_real_time']:.1f} times real time"
    where = f"since {values['since']} on {printable(values['host'])}, process {values['pid']}"
    return [", ".join(words), speed, where, _end_line(values, now)]


def _end_line(values: dict[str, Any], now: float) -> str:
    silent_s = now - datetime.fromisoformat(values["written"]).timestamp()
    state = values["state"]
    if state == "ended":
        return f"ended {values['written']}"
    if state == "stopped":
        return f"stopped {values['written']}; the same command goes on"
    if state == "broken":
        return f"ended by an error {values['written']}; the same command goes on"
    if silent_s > _GONE_S and _is_gone(values["host"], values["pid"]):
        return f"process {values['pid']} is gone; the same command goes on"
    if silent_s > STALE_S:
        silent = duration_text(silent_s)
        return (
            f"not heard of for {silent}: the process that leads it is gone, or cannot write; if it "
            "is gone, the same command goes on"
        )
    left_s = values["left_s"]
    return "running" if left_s is None else f"running, about {duration_text(left_s)} left"


def _is_gone(host: str, process: int) -> bool:
    """Tell whether a process of this machine has ended; False where that cannot be seen."""
    if os.name != "posix" or host != socket.gethostname() or process < 1:
        return False
    try:
        os.kill(process, 0)  # no signal: asks only
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # another user's
        return False
    return False


def _left_s(progress: CountedProgress, seconds: float) -> float | None:
    """Return about how long the rest takes, by the videos that were computed; None: not known."""
    computed = progress.done - progress.kept
    left = progress.videos - progress.done - len(progress.failures)
    return round(left * seconds / computed, 1) if computed > 0 else None


def _read(place: str) -> dict[str, Any]:
    content = read_bytes(place, _MOST_BYTES)
    try:
        values: dict[str, Any] = json.loads(content)
        if values["format"] != _FORMAT or not all(isinstance(values[n], int) for n in _COUNTS):
            raise ValueError("of another version")
        numbers: Sequence[Any] = (values["computed_s"], values["times_real_time"], values["left_s"])
        if not all(isinstance(number, int | float | None) for number in numbers):
            raise ValueError("numbers are required")
        datetime.fromisoformat(values["written"])
        values.setdefault("share", "")
        texts = ("state", "since", "host", "share")
        if not all(isinstance(values[name], str) for name in texts) or numbers[0] is None:
            raise ValueError("texts are required")
        int(values["pid"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{shown_address(place)}: damaged ({error!r})") from error
    return values


def _utc_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
