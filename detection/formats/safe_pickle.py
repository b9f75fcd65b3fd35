"""Reads pickles that contain plain values and arrays of numbers, and nothing else; runs no code.

JHMDB's and UCF101-24's annotation files and detectron2's weights are pickles. A pickle is a program
for a small stack machine; Python's own machine calls any function that a file names. The machine
here executes only the opcodes for plain values, in all protocols of Python 2 and 3, and uses
`pickled_arrays` for arrays; it refuses all others. `pickletools` of the standard library reads the
opcodes. Nothing is allocated by a size that a file claims: memory is bounded by the file's size.
"""

from __future__ import annotations

import codecs
import io
import pickle
import pickletools
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import UserError, printable
from detection.files import read_content
from detection.formats.pickled_arrays import (
    ONLY_PLAIN,
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
_PLACE_BYTES = 8  # counted for each item of a copied container
_MAX_DEPTH = 64
_MAX_INT_BYTES = 24  # in the file, as text or binary
_INTEGER = re.compile(rb"[+-]?[0-9]{1,20}L?\n")


def read_plain_pickle(path: str | Path, *, limit_bytes: int = _MAX_FILE_BYTES) -> Any:
    """Return the content of a pickle: containers, text, numbers, arrays of numbers.

    Text of Python 2 is read as Latin-1. limit_bytes: a larger file is refused. Raises `UserError`
    for a file that is not a pickle, is cut short, contains anything else, nests values deeper than
    64 or in themselves, or refers to values so often that they are much larger than the file.
    """
    path = Path(path)
    content = read_content(path, what="pickle", limit_bytes=limit_bytes)
    max_bytes = 4 * len(content) + (16 << 20)  # of its values
    try:
        value = _Machine(content, max_bytes).run()
        _check_plain(value, max_bytes)
        return value
    except RefusedError as error:
        raise UserError(f"{path}: {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: too little memory to read it") from error
    except (ValueError, TypeError, IndexError, KeyError, OverflowError, struct.error) as error:
        reason = printable(f"{type(error).__name__}: {error}")[:120]
        raise UserError(f"{path}: not a pickle, or cut short ({reason})") from error


class _Machine:
    """The stack machine of pickles: `run` executes the opcodes of `content` up to STOP."""

    def __init__(self, content: bytes, max_bytes: int) -> None:
        self.content = content
        self.file = io.BytesIO(content)
        self.stack: list[Any] = []
        self.marks: list[int] = []  # heights of the stack
        self.memo: dict[int, Any] = {}
        self.containers = 0
        self.bytes_left = max_bytes

    def run(self) -> Any:
        for _ in range(_MAX_STEPS):
            name, argument = self.next_step()
            if name == "STOP":
                if len(self.stack) != 1 or self.marks:
                    raise ValueError("values remain on the stack")
                return _finished(self.stack[0])
            self.containers += name in _MAKE_CONTAINERS
            if self.containers > _MAX_CONTAINERS:
                raise RefusedError(f"makes more than {_MAX_CONTAINERS:,} lists, sets and the like")
            if name in _LITERALS:
                self.push(argument)
            else:
                _ACTIONS[name](self, argument)
        raise RefusedError(f"takes more than {_MAX_STEPS:,} steps to read")

    def next_step(self) -> tuple[str, Any]:
        """Return the name of the next opcode and its argument, read by the standard library."""
        code = self.file.read(1)
        if not code:
            raise ValueError("the file ends before STOP")
        opcode = _OPCODES.get(code)
        if opcode is None:
            raise ValueError(f"byte {code[0]} at {self.file.tell() - 1} is no opcode of a pickle")
        name = opcode.name
        if name in _REFUSED:
            raise RefusedError(f"{_REFUSED[name]}; {ONLY_PLAIN}")
        if name == "STRING":  # Python 2's bytes, which `pickletools` would decode as ASCII
            quoted = pickletools.read_stringnl(self.file, decode=False)
            return name, codecs.escape_decode(quoted)[0].decode("latin1")
        start = self.file.tell()
        argument = opcode.arg.reader(self.file) if opcode.arg is not None else None
        if type(argument) is int:
            self.check_int(name, start)
            if name == "PROTO" and argument > pickle.HIGHEST_PROTOCOL:
                raise ValueError("of an unknown protocol")
        if type(argument) is str and "BINUNICODE" in name:
            argument.encode()  # raises for surrogates, which `pickletools` accepts
        return name, bytes(argument) if type(argument) is bytearray else argument

    def check_int(self, name: str, start: int) -> None:
        """Refuse numbers of more than 64 bits, and text that only Python reads as a number."""
        written = self.content[start : self.file.tell()]
        is_text = name in ("INT", "LONG", "PUT", "GET")
        if len(written) > _MAX_INT_BYTES or (is_text and not _INTEGER.fullmatch(written)):
            raise ValueError(f"{written[:40]!r} is not a whole number of 64 bits")

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def pop(self) -> Any:
        if len(self.stack) <= (self.marks[-1] if self.marks else 0):
            raise ValueError("an opcode requires a value on the stack")
        return self.stack.pop()

    def top(self) -> Any:
        value = self.pop()
        self.push(value)
        return value

    def pop_mark(self) -> list[Any]:
        """Remove and return the values above the last mark."""
        if not self.marks:
            raise ValueError("an opcode requires a mark on the stack")
        height = self.marks.pop()
        items = self.stack[height:]
        del self.stack[height:]
        return items

    def pop_several(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def drop(self) -> None:
        if self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self.pop()

    def put(self, place: int) -> None:
        self.memo[place] = self.top()

    def extend(self, kind: Any, items: Any) -> None:
        """Add items to the top of the stack, which must be a container that this machine made."""
        target = self.top()
        if type(target) is not kind:
            raise RefusedError(
                f"adds to a {type(target).__name__} as to a {kind.__name__}; {ONLY_PLAIN}"
            )
        target.extend(items) if kind is list else target.update(items)

    def global_name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str:
            raise ValueError("a name that is not text")
        self.push(named(module, name))

    def spend(self, arguments: Any) -> None:
        """Count the bytes passed to a call: seven bytes of a file can have a megabyte copied."""
        for value in arguments if type(arguments) is tuple else ():
            if type(value) in (str, bytes):
                self.bytes_left -= len(value)
            elif type(value) in _CONTAINERS:
                self.bytes_left -= _PLACE_BYTES * len(value)
        if self.bytes_left < 0:
            raise RefusedError(_TOO_OFTEN)

    def reduce(self) -> None:
        function, arguments = self.pop_several(2)
        self.spend(arguments)
        self.push(call(function, arguments))

    def build(self) -> None:
        """Set the state of an array or a dtype; nothing else has a state."""
        target, state = self.pop_several(2)
        if type(target) not in (PendingArray, NumberType):
            raise RefusedError(f"changes what it was given; {ONLY_PLAIN}")
        self.spend(state)
        target.set_state(state)
        self.push(_finished(target))


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(keys_of(items[::2]), items[1::2], strict=True))


def _finished(value: Any) -> Any:
    """Return the array for a `PendingArray` that has its content."""
    return value.value if type(value) is PendingArray and value.value is not None else value


_OPCODES = {opcode.code.encode("latin1"): opcode for opcode in pickletools.opcodes}
_LITERALS = frozenset((
    "NONE", "INT", "LONG", "BININT", "BININT1", "BININT2", "LONG1", "LONG4", "FLOAT", "BINFLOAT",
    "STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
))  # fmt: skip
_ACTIONS: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, number: None,  # checked by `next_step`
    "FRAME": lambda m, _: None,  # a hint for buffers
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "TUPLE1": lambda m, _: m.push((m.pop(),)),
    "TUPLE2": lambda m, _: m.push(tuple(m.pop_several(2))),
    "TUPLE3": lambda m, _: m.push(tuple(m.pop_several(3))),
    "TUPLE": lambda m, _: m.push(tuple(m.pop_mark())),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "LIST": lambda m, _: m.push(m.pop_mark()),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "DICT": lambda m, _: m.push(_pairs(m.pop_mark())),
    "EMPTY_SET": lambda m, _: m.push(set()),
    "FROZENSET": lambda m, _: m.push(frozenset(keys_of(m.pop_mark()))),
    "APPEND": lambda m, _: m.extend(list, [m.pop()]),
    "APPENDS": lambda m, _: m.extend(list, m.pop_mark()),
    "ADDITEMS": lambda m, _: m.extend(set, keys_of(m.pop_mark())),
    "SETITEM": lambda m, _: m.extend(dict, _pairs(m.pop_several(2))),
    "SETITEMS": lambda m, _: m.extend(dict, _pairs(m.pop_mark())),
    "MARK": lambda m, _: m.marks.append(len(m.stack)),
    "POP": lambda m, _: m.drop(),
    "POP_MARK": lambda m, _: None if m.pop_mark() else None,
    "DUP": lambda m, _: m.push(m.top()),
    "MEMOIZE": lambda m, _: m.put(len(m.memo)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda m, place: m.put(place)),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda m, i: m.push(_finished(m.memo[i]))),
    "GLOBAL": lambda m, pair: m.global_name(*pair.split(" ", 1)),
    "STACK_GLOBAL": lambda m, _: m.global_name(*m.pop_several(2)),
    "REDUCE": lambda m, _: m.reduce(),
    "BUILD": lambda m, _: m.build(),
}
_MAKE_CONTAINERS = frozenset((
    "EMPTY_TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "TUPLE", "EMPTY_LIST", "LIST", "EMPTY_DICT",
    "DICT", "EMPTY_SET", "FROZENSET", "REDUCE",
))  # fmt: skip
_TOO_OFTEN = "refers to values so often that they are far larger than the file"
_REFUSED = {
    **dict.fromkeys(("INST", "OBJ", "NEWOBJ", "NEWOBJ_EX"), "asks for an object"),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), "asks for what Python's registry holds"),
    **dict.fromkeys(("PERSID", "BINPERSID"), "refers to something outside the file"),
    **dict.fromkeys(("NEXT_BUFFER", "READONLY_BUFFER"), "refers to something outside the file"),
}


def _check_plain(root: Any, max_bytes: int) -> None:
    """Refuse other than plain values, and values of more than `max_bytes` when traversed.

    Values may be shared: two hundred bytes can describe nested lists of 10^30 items. The size of
    each container is computed once, with all that it contains.
    """
    weights: dict[int, tuple[int, int, int]] = {}  # items, bytes, depth; by container
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
    """Return the bytes of a value other than a container; refuse unfinished values."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if type(value) in (str, bytes):
        return len(value)
    if isinstance(value, (Name, NumberType, PendingArray)):
        raise RefusedError(
            f"leaves an array unfinished, or a name in place of a value; {ONLY_PLAIN}"
        )
    return 0
