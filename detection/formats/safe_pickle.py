"""Reads pickles that hold plain values and arrays of numbers, and nothing else; runs nothing.

JHMDB's and UCF101-24's annotation files and detectron2's weights are pickles. A pickle is a
program for a small stack machine; Python's own machine calls what a file names, and changes what it
was given. The machine here knows the steps that make plain values, in all protocols of Python 2
and 3, and `pickled_arrays` for arrays; every other step ends in one line. It makes nothing by a
size that a file claims: what it makes is bounded by the file's own bytes.
"""

from __future__ import annotations

import codecs
import pickle
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import UserError, printable
from detection.files import read_content
from detection.formats.pickled_arrays import (
    Name,
    NumberType,
    PendingArray,
    RefusedError,
    call,
    keys_of,
    named,
)

_MAX_FILE_BYTES = 1 << 30
_MAX_STEPS = 10_000_000
_MAX_CONTAINERS = 2_000_000  # an empty set takes one byte of a file and 216 of memory
_PLACE_BYTES = 8  # what a place of a list or a set counts where it is copied
_MAX_DEPTH = 64
_MAX_LINE = 1 << 20
_MAX_INT_BYTES = 9  # 64 bits and a sign


def read_plain_pickle(path: str | Path, *, limit_bytes: int = _MAX_FILE_BYTES) -> Any:
    """Return what the pickle at `path` holds: containers, text, numbers, arrays of numbers.

    Text of Python 2 is read as Latin-1. limit_bytes: a larger file is refused. Raises `UserError`
    for a file that is no pickle, is cut short, asks for anything else, nests values deeper than
    64, in themselves, or so that they would be many times larger than the file.
    """
    path = Path(path)
    content = read_content(path, what="pickle", limit_bytes=limit_bytes)
    try:
        value = _Machine(content).run()
        _check_plain(value, len(content))
        return value
    except RefusedError as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: too little memory to read it") from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:120]
        raise UserError(f"{path}: not a readable pickle, or cut short ({reason})") from error


class _Machine:
    """The stack machine: `run` follows the steps of `content` until its end mark."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.position = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.containers = 0
        self.bytes_left = _limit_of(len(content))

    def run(self) -> Any:
        for _ in range(_MAX_STEPS):
            code = self.take(1)[0]
            if code == pickle.STOP[0]:
                if len(self.stack) != 1 or self.marks:
                    raise ValueError("its end leaves something behind")
                return _finished(self.stack[0])
            step = _STEPS.get(code)
            if step is None:
                what = _REFUSED.get(code)
                if what is None:
                    raise ValueError(f"byte {code} at {self.position - 1} is no step of a pickle")
                raise RefusedError(
                    f"{what}; only plain containers and arrays are read from a pickle"
                )
            self.containers += code in _MAKE_CONTAINERS
            if self.containers > _MAX_CONTAINERS:
                raise RefusedError(f"makes more than {_MAX_CONTAINERS:,} lists, sets and the like")
            step(self)
        raise RefusedError(f"takes more than {_MAX_STEPS:,} steps to read")

    def take(self, count: int) -> bytes:
        """Return the next bytes; what is claimed beyond the file's end makes nothing."""
        start = self.position
        if count > len(self.content) - start:
            raise ValueError(f"{count} bytes required at {start}, the file ends before")
        self.position = start + count
        return self.content[start : self.position]

    def sized(self, layout: str) -> bytes:
        """Return the bytes behind a length written in `layout`."""
        return self.take(self.number(layout))

    def number(self, layout: str) -> Any:
        return struct.unpack(layout, self.take(struct.calcsize(layout)))[0]

    def line(self) -> bytes:
        end = self.content.find(b"\n", self.position, self.position + _MAX_LINE)
        if end < 0:
            raise ValueError("a line without an end")
        return self.take(end + 1 - self.position)[:-1]

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("a step takes what is not there")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.stack.append(value)
        return value

    def pop_mark(self) -> list[Any]:
        """Return, and take from the stack, what lies above the last mark."""
        if not self.marks:
            raise ValueError("a step takes what is not there")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop_pair(self) -> list[Any]:
        second = self.pop()
        return [self.pop(), second]

    def push_three(self) -> None:
        third = self.pop()
        self.push((*self.pop_pair(), third))

    def pop_pairs(self) -> dict[Any, Any]:
        items = self.pop_mark()
        return dict(zip(keys_of(items[::2]), items[1::2], strict=True))

    def mark(self) -> None:
        self.marks.append(len(self.stack))

    def drop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def put(self, place: int) -> None:
        self.memo[place] = self.top()

    def get(self, place: int) -> None:
        self.push(_finished(self.memo[place]))

    def append(self, items: list[Any]) -> None:
        self.checked_top(list).extend(items)

    def add(self, items: list[Any]) -> None:
        self.checked_top(set).update(keys_of(items))

    def set_item(self, key: Any, value: Any) -> None:
        self.set_items(dict(zip(keys_of([key]), [value], strict=True)))

    def set_items(self, pairs: dict[Any, Any]) -> None:
        self.checked_top(dict).update(pairs)

    def checked_top(self, kind: type) -> Any:
        """Return the top of the stack, which must be a container that this machine made."""
        target = self.top()
        if type(target) is not kind:
            raise RefusedError(
                f"adds to a {type(target).__name__} as to a {kind.__name__}; only plain "
                "containers and arrays are read from a pickle"
            )
        return target

    def global_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is no text")
        self.push(named(module, name))

    def stack_global(self) -> None:
        self.global_name(*self.pop_pair())

    def spend(self, handed: Any) -> None:
        """Count what is handed to a call: seven bytes of a file can have a megabyte copied."""
        for value in handed if type(handed) is tuple else ():
            if type(value) in (str, bytes):
                self.bytes_left -= len(value)
            elif type(value) in _CONTAINERS:
                self.bytes_left -= _PLACE_BYTES * len(value)
        if self.bytes_left < 0:
            raise RefusedError(_TOO_OFTEN)

    def reduce(self) -> None:
        function, arguments = self.pop_pair()
        self.spend(arguments)
        self.push(call(function, arguments))

    def build(self) -> None:
        """Complete an array or a type of numbers; nothing else takes a state."""
        target, state = self.pop_pair()
        if type(target) not in (PendingArray, NumberType):
            raise RefusedError(
                "changes what it was given; only plain containers and arrays are read from a pickle"
            )
        self.spend(state)
        target.set_state(state)
        self.push(_finished(target))

    def protocol(self) -> None:
        if self.take(1)[0] > pickle.HIGHEST_PROTOCOL:
            raise ValueError("of an unknown protocol")


def _finished(value: Any) -> Any:
    """Return the array for a stand-in that has become one."""
    return value.value if type(value) is PendingArray and value.value is not None else value


def _text_int(line: bytes) -> int | bool:
    if line in (b"00", b"01"):
        return line == b"01"
    if not re.fullmatch(rb"[+-]?[0-9]{1,20}L?", line):
        raise ValueError(f"{line[:40]!r} is no whole number of 64 bits")
    return int(line.rstrip(b"L"))


def _text_float(line: bytes) -> float:
    if len(line) > 64:
        raise ValueError(f"{line[:40]!r} ... is no number")
    return float(line)


def _long(raw: bytes) -> int:
    if len(raw) > _MAX_INT_BYTES:
        raise ValueError(f"a whole number of {len(raw)} bytes")
    return int.from_bytes(raw, "little", signed=True)


def _quoted(line: bytes) -> str:
    """Return text that Python 2 wrote as in a program."""
    if len(line) < 2 or line[:1] != line[-1:] or line[:1] not in (b"'", b'"'):
        raise ValueError("text without quotes")
    return codecs.escape_decode(line[1:-1])[0].decode("latin1")  # type: ignore[attr-defined,no-any-return]


def _step(code: bytes, act: Callable[[_Machine], None]) -> tuple[int, Callable[[_Machine], None]]:
    return code[0], act


_STEPS: dict[int, Callable[[_Machine], None]] = dict(
    [
        _step(pickle.PROTO, lambda m: m.protocol()),
        _step(pickle.FRAME, lambda m: None if m.take(8) else None),  # a hint for buffers
        _step(pickle.NONE, lambda m: m.push(None)),
        _step(pickle.NEWTRUE, lambda m: m.push(True)),
        _step(pickle.NEWFALSE, lambda m: m.push(False)),
        _step(pickle.INT, lambda m: m.push(_text_int(m.line()))),
        _step(pickle.LONG, lambda m: m.push(_text_int(m.line()))),
        _step(pickle.BININT, lambda m: m.push(m.number("<i"))),
        _step(pickle.BININT1, lambda m: m.push(m.number("<B"))),
        _step(pickle.BININT2, lambda m: m.push(m.number("<H"))),
        _step(pickle.LONG1, lambda m: m.push(_long(m.sized("<B")))),
        _step(pickle.LONG4, lambda m: m.push(_long(m.sized("<I")))),
        _step(pickle.FLOAT, lambda m: m.push(_text_float(m.line()))),
        _step(pickle.BINFLOAT, lambda m: m.push(m.number(">d"))),
        _step(pickle.STRING, lambda m: m.push(_quoted(m.line()))),
        _step(pickle.BINSTRING, lambda m: m.push(m.sized("<I").decode("latin1"))),
        _step(pickle.SHORT_BINSTRING, lambda m: m.push(m.sized("<B").decode("latin1"))),
        _step(pickle.UNICODE, lambda m: m.push(m.line().decode("raw-unicode-escape"))),
        _step(pickle.BINUNICODE, lambda m: m.push(m.sized("<I").decode("utf-8"))),
        _step(pickle.SHORT_BINUNICODE, lambda m: m.push(m.sized("<B").decode("utf-8"))),
        _step(pickle.BINUNICODE8, lambda m: m.push(m.sized("<Q").decode("utf-8"))),
        _step(pickle.BINBYTES, lambda m: m.push(m.sized("<I"))),
        _step(pickle.SHORT_BINBYTES, lambda m: m.push(m.sized("<B"))),
        _step(pickle.BINBYTES8, lambda m: m.push(m.sized("<Q"))),
        _step(pickle.BYTEARRAY8, lambda m: m.push(m.sized("<Q"))),
        _step(pickle.EMPTY_TUPLE, lambda m: m.push(())),
        _step(pickle.TUPLE1, lambda m: m.push((m.pop(),))),
        _step(pickle.TUPLE2, lambda m: m.push(tuple(m.pop_pair()))),
        _step(pickle.TUPLE3, lambda m: m.push_three()),
        _step(pickle.TUPLE, lambda m: m.push(tuple(m.pop_mark()))),
        _step(pickle.EMPTY_LIST, lambda m: m.push([])),
        _step(pickle.LIST, lambda m: m.push(m.pop_mark())),
        _step(pickle.EMPTY_DICT, lambda m: m.push({})),
        _step(pickle.DICT, lambda m: m.push(m.pop_pairs())),
        _step(pickle.EMPTY_SET, lambda m: m.push(set())),
        _step(pickle.FROZENSET, lambda m: m.push(frozenset(keys_of(m.pop_mark())))),
        _step(pickle.APPEND, lambda m: m.append([m.pop()])),
        _step(pickle.APPENDS, lambda m: m.append(m.pop_mark())),
        _step(pickle.ADDITEMS, lambda m: m.add(m.pop_mark())),
        _step(pickle.SETITEM, lambda m: m.set_item(*m.pop_pair())),
        _step(pickle.SETITEMS, lambda m: m.set_items(m.pop_pairs())),
        _step(pickle.MARK, lambda m: m.mark()),
        _step(pickle.POP, lambda m: m.drop()),
        _step(pickle.POP_MARK, lambda m: None if m.pop_mark() else None),
        _step(pickle.DUP, lambda m: m.push(m.top())),
        _step(pickle.PUT, lambda m: m.put(int(_text_int(m.line())))),
        _step(pickle.BINPUT, lambda m: m.put(m.number("<B"))),
        _step(pickle.LONG_BINPUT, lambda m: m.put(m.number("<I"))),
        _step(pickle.MEMOIZE, lambda m: m.put(len(m.memo))),
        _step(pickle.GET, lambda m: m.get(int(_text_int(m.line())))),
        _step(pickle.BINGET, lambda m: m.get(m.number("<B"))),
        _step(pickle.LONG_BINGET, lambda m: m.get(m.number("<I"))),
        _step(pickle.GLOBAL, lambda m: m.global_name(m.line().decode(), m.line().decode())),
        _step(pickle.STACK_GLOBAL, lambda m: m.stack_global()),
        _step(pickle.REDUCE, lambda m: m.reduce()),
        _step(pickle.BUILD, lambda m: m.build()),
    ]
)
_MAKE_CONTAINERS = frozenset(
    code[0]
    for code in (
        (pickle.EMPTY_TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.TUPLE)
        + (pickle.EMPTY_LIST, pickle.LIST, pickle.EMPTY_DICT, pickle.DICT)
        + (pickle.EMPTY_SET, pickle.FROZENSET, pickle.REDUCE)
    )
)
_TOO_OFTEN = "names values so often that they are far larger than the file"
_REFUSED = {
    code[0]: what
    for codes, what in (
        ((pickle.INST, pickle.OBJ, pickle.NEWOBJ, pickle.NEWOBJ_EX), "asks for an object"),
        ((pickle.EXT1, pickle.EXT2, pickle.EXT4), "asks for what Python's registry holds"),
        (
            (pickle.PERSID, pickle.BINPERSID, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER),
            "refers to something outside the file",
        ),
    )
    for code in codes
}


def _limit_of(file_bytes: int) -> int:
    """Return how many bytes a file of so many may become."""
    return 4 * file_bytes + (16 << 20)


def _check_plain(root: Any, file_bytes: int) -> None:
    """Refuse what is no plain value, or grows far beyond the file when it is walked through.

    Values may be shared: two hundred bytes can name a list of lists of 10^30 places. Each container
    is weighed once, by what a walk through it would meet.
    """
    max_bytes = _limit_of(file_bytes)
    weights: dict[int, tuple[int, int, int]] = {}  # places, bytes, depth; by container
    open_now: set[int] = set()
    todo: list[tuple[Any, bool]] = [(root, False)]
    while todo:
        value, is_done = todo.pop()
        if is_done:
            weights[id(value)] = _weight_of(value, weights)
            open_now.discard(id(value))
            places, size, depth = weights[id(value)]
            if places > _MAX_STEPS or size > max_bytes:
                raise RefusedError(_TOO_OFTEN)
            if depth > _MAX_DEPTH:
                raise RefusedError(f"nests values deeper than {_MAX_DEPTH}")
        elif type(value) in _CONTAINERS and id(value) not in weights:
            if id(value) in open_now:
                raise RefusedError("holds a value within itself")
            open_now.add(id(value))
            todo.append((value, True))
            todo += [(part, False) for part in _parts(value) if type(part) in _CONTAINERS]
    if type(root) not in _CONTAINERS:
        _leaf_bytes(root)


_CONTAINERS = (list, tuple, dict, set, frozenset)


def _parts(value: Any) -> Any:
    return [part for pair in value.items() for part in pair] if type(value) is dict else value


def _weight_of(value: Any, weights: dict[int, tuple[int, int, int]]) -> tuple[int, int, int]:
    places, size, depth = 1, 0, 0
    for part in _parts(value):
        if type(part) in _CONTAINERS:
            more = weights[id(part)]
            places, size, depth = places + more[0], size + more[1], max(depth, more[2])
        else:
            places, size = places + 1, size + _leaf_bytes(part)
    return places, size, depth + 1


def _leaf_bytes(value: Any) -> int:
    """Return the bytes of a value that is no container; refuse what is no value."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if type(value) in (str, bytes):
        return len(value)
    if isinstance(value, (Name, NumberType, PendingArray)):
        raise RefusedError(
            "leaves an array unfinished, or a name in place of a value; only plain containers and "
            "arrays are read from a pickle"
        )
    return 0
