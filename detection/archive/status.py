"""progress.json: how far a run over thousands of videos is, told to whoever asks from elsewhere."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Sequence, Sized
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from detection.errors import UserError, printable
from detection.formats.json_text import json_text
from detection.pipeline.summary import counted, duration_text, work_text
from detection.transfer.places import (
    exists,
    is_remote,
    list_files,
    local_path,
    read_bytes,
    shown_address,
    write_bytes,
)

STATUS_NAME = "progress.json"
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
    """Writes progress.json into a run's results; a context manager, whose end is written too.

    root: path or address. share: of which share of the videos it tells, as "2-of-8": each has a
    file of its own. What cannot be written is said once on stderr, and the run goes on.
    """

    def __init__(self, root: str, *, share: str = "") -> None:
        name = f"progress-{share}.json" if share else STATUS_NAME
        self._place = f"{str(root).rstrip('/')}/{name}"
        self._began, self._began_s = time.time(), time.monotonic()
        self._written_s = -WRITE_EACH_S
        self._last: CountedProgress | None = None
        self._is_told = False

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
        }
        try:
            write_bytes(self._place, json_text(values).encode())
        except UserError as error:
            if not self._is_told:
                print(f"warning: {printable(str(error))}; the run goes on", file=sys.stderr)
            self._is_told = True
        self._written_s = time.monotonic()


def status_lines(root: str, *, now: float | None = None) -> list[str]:
    """Return how far the run into a folder or address is, in lines.

    now: seconds since 1970, of this machine's clock unless given. Raises `UserError` where no run
    has told of itself.
    """
    now, lines = time.time() if now is None else now, []
    names = _status_names(root)
    for name in names:
        values = _read(f"{str(root).rstrip('/')}/{name}")
        share = name.removesuffix(".json").removeprefix("progress").replace("-", " ").strip()
        if share:
            lines.append(f"share {share}:")
        lines += _lines(values, now)
    if not lines:
        shown = shown_address(root)
        raise UserError(f"{shown}: no run with --engine has told of itself ({STATUS_NAME})")
    return lines


def _status_names(root: str) -> list[str]:
    if not is_remote(root):
        return sorted(path.name for path in local_path(root).glob("progress*.json"))
    if not exists(root):
        return []
    names = [name for name, _, _ in list_files(root, below=False)]
    return sorted(n for n in names if n.startswith("progress") and n.endswith(".json"))


def _lines(values: dict[str, Any], now: float) -> list[str]:
    """Return the lines of one progress.json."""
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
        return "process {pid} is gone; the same command goes on".format_map(values)
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
        texts = ("state", "since", "host")
        if not all(isinstance(values[name], str) for name in texts) or numbers[0] is None:
            raise ValueError("texts are required")
        int(values["pid"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise UserError(f"{shown_address(place)}: damaged ({error!r})") from error
    return values


def _utc_text(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
