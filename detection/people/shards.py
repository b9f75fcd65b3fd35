"""What several processes have found so far for one output, kept so that nothing is done twice.

Beside an output OUT lies, while it is being made, the folder `OUT.parts`: one append-only file per
process (`shard-1-of-2.part`) and a lock. A part file holds one line per batch,

    checksum number count-of-unreadable digest-of-inputs JSON

the first one being the header: what the run was asked for. A line that was cut short by a kill or a
power cut fails its checksum, and with all that follows it counts as not there. So does a line whose
inputs were others than they are now: its batch is done again. A later line for a batch with fewer
unreadable keyframes stands in for an earlier one.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, Self

from detection.errors import UserError
from detection.unfinished import hold, let_go

HEADER = -1  # in place of a batch's number
_NO_INPUTS = "-"
WAIT_S = 600.0
_ALONE, _TOGETHER, _MERGING = "alone", "together", "merging"

Options = Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Shard:
    """The `index`-th (from 0) of `count` processes that share one work."""

    index: int = 0
    count: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.index < self.count:
            raise ValueError(f"no shard {self.index} of {self.count}")

    def __str__(self) -> str:
        return f"{self.index + 1}/{self.count}"

    def numbers(self, total: int) -> range:
        """Return which of `total` batches are this process's."""
        return range(self.index, total, self.count)

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read `2/8`: the second of eight."""
        match = re.fullmatch(r"(\d+)/(\d+)", text)
        index, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= index <= count:
            raise UserError(f"shard '{text}': K/N with K from 1 to N is required, such as 2/8")
        return cls(index - 1, count)

    @classmethod
    def of_torchrun(cls) -> Shard:
        """Return the shard that torchrun's RANK and WORLD_SIZE name; 1/1 without torchrun."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


@dataclass(frozen=True)
class Record:
    """Where the result of a batch stands."""

    path: Path
    offset: int
    unreadable: int


class Parts:
    """The folder of unfinished work of one output; a context manager that holds it.

    options: what decides the result; parts of other options are refused, or removed with
    `overwrite`.  inputs: a digest (a word) of what each batch is read from, by its number. Several
    shards may work at a time, a process that is alone keeps all others out.

    Every process holds its own part file while it works. The folder's lock is held by a process
    that is alone until it ends, and by a shard for the time in which it begins, and looks
    whether it is the last, and for the seconds in which the last one merges.
    """

    def __init__(
        self,
        out: Path,
        *,
        shard: Shard,
        options: Options,
        inputs: Sequence[str] = (),
        overwrite: bool = False,
    ) -> None:
        self._out = out
        self._folder = out.with_name(out.name + ".parts")
        self._own = self._folder / f"shard-{shard.index + 1}-of-{shard.count}.part"
        self._shard = shard
        self._options = dict(options)
        self._inputs = inputs
        self._overwrite = overwrite
        self._file: BinaryIO | None = None
        self._lock = _FolderLock(self._folder, out)

    def __enter__(self) -> Self:
        alone = self._shard.count == 1
        self._lock.take(alone=alone)
        try:
            at_work = self._is_at_work()
            if alone and at_work:
                raise self._lock.busy()
            self._lock.write(_ALONE if alone else _TOGETHER)
            self._settle_other_runs(may_remove=self._overwrite and not at_work)
            self._open_own()
        except BaseException:
            self._let_go_own()
            self._lock.release()
            raise
        if not alone:
            self._lock.release()
        return self

    def __exit__(self, *_: object) -> None:
        locked = self._file is not None and (self._lock.held or self._lock.take_at_end())
        if locked and not self.records():
            self._own.unlink(missing_ok=True)  # it holds a header and nothing else
        self._let_go_own()
        self._lock.release()

    def _let_go_own(self) -> None:
        if self._file is not None:
            handle, file, self._file = self._file.fileno(), self._file, None
            with suppress(OSError):  # what the disk had no room for
                file.close()
            let_go(handle)

    def _is_at_work(self) -> bool:
        for path in self._paths():
            if (handle := hold(path, os.O_RDWR, if_unknown=True)) is None:
                return True
            let_go(handle)
        return False

    def records(self) -> dict[int, Record]:
        """Return where the best record of each batch stands; of equally good ones, the last."""
        found: dict[int, Record] = {}
        for path in self._paths():
            for line in _whole_lines(path):
                if line.number == HEADER or line.inputs != self._inputs_of(line.number):
                    continue
                known = found.get(line.number)
                if known is None or line.unreadable <= known.unreadable:
                    found[line.number] = Record(path, line.offset, line.unreadable)
        return found

    def outdated(self) -> set[int]:
        """Return the batches of which there are records, but only of other inputs than now."""
        numbers = {line.number for path in self._paths() for line in _whole_lines(path)}
        return numbers - {HEADER} - self.records().keys()

    def _inputs_of(self, number: int) -> str:
        return self._inputs[number] if number < len(self._inputs) else _NO_INPUTS

    def done(self) -> dict[int, Record]:
        """Return the batches that any process has finished, with nothing unreadable in them."""
        return {n: record for n, record in self.records().items() if not record.unreadable}

    def append(self, number: int, unreadable: int, content: Any) -> None:
        """Keep the result of a batch; it is on the disk when this returns."""
        assert self._file is not None
        self._file.write(_line(number, unreadable, self._inputs_of(number), content))
        self._file.flush()
        os.fsync(self._file.fileno())

    def claim_merge(self, num_batches: int) -> dict[int, Record] | None:
        """Return all records where every batch is done and this process is to write the output.

        None where a batch is missing, or another process writes the output. No process can append
        any more after it called this.
        """
        self._let_go_own()
        if self._shard.count > 1:
            if not self._lock.take_at_end():
                return None
            if self._is_at_work():
                self._lock.release()
                return None
            self._lock.write(_MERGING)
        records = self.records()
        return records if len(records) == num_batches else None

    def read(self, record: Record) -> Any:
        """Return the content of a record."""
        with record.path.open("rb") as file:
            file.seek(record.offset)
            parsed = _parse(file.readline())
        assert parsed is not None
        return json.loads(parsed[3])

    def remove(self) -> None:
        """Remove all parts: the output is there and whole."""
        for path in self._paths():
            path.unlink()

    def _paths(self) -> list[Path]:
        return sorted(self._folder.glob("shard-*.part"))

    def _settle_other_runs(self, *, may_remove: bool) -> None:
        """Refuse what a run with other options has left, or remove it."""
        for path in self._paths():
            first = next(_whole_lines(path), None)
            if first is None or first.number != HEADER:
                continue  # cut short in its first line: there is nothing in it
            theirs = json.loads(first.content)
            if theirs == self._options:
                continue
            if not may_remove:
                raise UserError(
                    f"{path}: left by a run with other options "
                    f"({differences(theirs, self._options)}); finish that run with its own "
                    f"command, or remove {self._folder}, or add --overwrite"
                )
            path.unlink()

    def _open_own(self) -> None:
        """Open this process's part behind its last whole line, the header being the first."""
        handle = hold(self._own, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        if handle is None:
            raise UserError(
                f"{self._out}: another process is doing shard {self._shard} of it already"
            )
        self._file = file = os.fdopen(handle, "ab", closefd=False)
        end = max((line.end for line in _whole_lines(self._own)), default=0)
        file.truncate(end)
        if not end:
            file.write(_line(HEADER, 0, _NO_INPUTS, self._options))
            file.flush()
            os.fsync(file.fileno())


def differences(theirs: Options, ours: Options) -> str:
    """Say in which options two runs differ."""
    named = []
    for key in sorted({*theirs, *ours}):
        first, second = theirs.get(key), ours.get(key)
        if first != second:
            long = len(str(first)) > 40 or len(str(second)) > 40
            named.append(key if long else f"{key} {first} there, {second} here")
    return "; ".join(named)


class _FolderLock:
    """A lock in a folder that comes and goes with the work.

    Its text says for what it is held: shards wait while another shard begins or merges, which takes
    seconds, and give up at once where a process works alone, which may take hours.
    """

    def __init__(self, folder: Path, out: Path) -> None:
        self._folder = folder
        self._path = folder / "lock"
        self._out = out
        self._handle: int | None = None

    @property
    def held(self) -> bool:
        return self._handle is not None

    def take(self, *, alone: bool) -> None:
        """Take the lock; `UserError` where another process is in the way."""
        give_up = time.monotonic() + WAIT_S
        text = None
        while not self._try():
            # Read twice: at first it may still be the text of the holder before.
            before, text = text, self._text()
            works_alone = text.startswith(_ALONE) and text == before
            if alone or works_alone or time.monotonic() > give_up:
                raise self.busy()
            time.sleep(0.1)

    def take_at_end(self) -> bool:
        """Take the lock unless another process merges, or works alone."""
        while not self._try():
            if self._text().startswith((_MERGING, _ALONE)):
                return False
            time.sleep(0.01)  # another shard just begins, or looks whether it is the last
        self.write(_TOGETHER)
        return True

    def busy(self) -> UserError:
        return UserError(
            f"{self._out}: another process is writing it ({self._text() or 'just begun'}); wait "
            "for it, or share the work with --shard or torchrun"
        )

    def write(self, what: str) -> None:
        """Write what the lock is held for."""
        assert self._handle is not None
        os.ftruncate(self._handle, 0)
        os.write(self._handle, f"{what}, process {os.getpid()} on {socket.gethostname()}".encode())

    def release(self) -> None:
        """Give the lock back; the folder goes where nothing but the lock is left in it."""
        if self._handle is not None:
            with suppress(OSError):  # another process removed it
                if [path.name for path in self._folder.iterdir()] == [self._path.name]:
                    self._path.unlink()
                    self._folder.rmdir()
            let_go(self._handle)
            self._handle = None

    def _try(self) -> bool:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # the folder went just now
                self._handle = hold(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND)
        except OSError as error:
            raise UserError(f"{self._folder}: cannot be written ({error.strerror})") from error
        return self.held

    def _text(self) -> str:
        try:
            return self._path.read_text(encoding="utf-8", errors="replace")
        except OSError:  # gone, or locked to the last byte
            return ""


def _line(number: int, unreadable: int, inputs: str, content: Any) -> bytes:
    text = f"{number} {unreadable} {inputs} {json.dumps(content, separators=(',', ':'))}".encode()
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> tuple[int, int, str, bytes] | None:
    """Return number, unreadable, inputs and JSON of a line, None for one that was cut short.

    A line without a digest is of a version that had none: its inputs are "", those of none.
    """
    checksum, _, rest = line.partition(b" ")
    if not rest.endswith(b"\n") or checksum != b"%08x" % zlib.crc32(rest[:-1]):
        return None
    number, unreadable, rest = rest.split(b" ", 2)
    inputs, _, content = rest.partition(b" ")
    if inputs[:1] in (b"{", b"["):
        return int(number), int(unreadable), "", rest
    return int(number), int(unreadable), inputs.decode(), content


class _Line(NamedTuple):
    """A whole line of a part file, which lies between `offset` and `end`."""

    offset: int
    end: int
    number: int
    unreadable: int
    inputs: str
    content: bytes


def _whole_lines(path: Path) -> Iterator[_Line]:
    """Yield the lines up to the first that was cut short."""
    offset = 0
    with path.open("rb") as file:
        for line in file:
            parsed = _parse(line)
            if parsed is None:
                return
            yield _Line(offset, offset + len(line), *parsed)
            offset += len(line)
