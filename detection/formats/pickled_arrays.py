"""Makes a pickle's numpy arrays and numbers without calling numpy's own unpickling functions.

A pickle names the functions that make its arrays and their arguments. numpy's own are unsafe:
`numpy.ndarray` with a buffer, or a dtype with another state, can read and write any memory. Here
replacements follow the few steps of a plain array of numbers, and check shape, dtype and number of
bytes before an array is made.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import printable

# dtypes: booleans, integers, floats of 16 to 64 bits.
_CODES = ("b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8")
_MAX_DIMENSIONS = 8
ONLY_PLAIN = "only plain containers and arrays are read from a pickle"
_KEYS = (str, bytes, int, float, bool, type(None))
_LATIN1 = ("latin1", "latin-1", "latin_1", "iso-8859-1")


class RefusedError(Exception):
    """A pickle requires something that is not supported; the text says what."""


class Name:
    """A function or type that a pickle names; called only by `call`."""

    __slots__ = ("make", "text")

    def __init__(self, text: str, make: Callable[..., Any] | None) -> None:
        self.text, self.make = text, make


class NumberType:
    """Replacement for a numpy dtype: kind of number and byte order."""

    __slots__ = ("dtype",)

    def __init__(self, code: str) -> None:
        self.dtype: np.dtype[Any] = np.dtype(code)

    def set_state(self, state: Any) -> None:
        """Set the byte order; refuse fields, sub-arrays and everything else in a state."""
        parts = state if type(state) is tuple else ()
        if not 5 <= len(parts) <= 9 or type(parts[0]) is not int:
            raise RefusedError("describes a type of numbers in an unknown way")
        order, inner = parts[1], parts[2:5]
        if type(order) is not str or order not in ("<", ">", "|", "=") or any(
            part is not None for part in inner
        ):  # fmt: skip
            raise RefusedError("holds an array with fields; only arrays of numbers are read")
        self.dtype = self.dtype.newbyteorder(order)  # type: ignore[arg-type]


class PendingArray:
    """Replacement for an array without content; `value` is the array after `set_state`.

    A second state is refused.
    """

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def set_state(self, state: Any) -> None:
        """Set (version, shape, dtype, column order, bytes), or the same without a version."""
        parts = state if type(state) is tuple else ()
        if len(parts) == 5 and type(parts[0]) is int:
            parts = parts[1:]
        if len(parts) != 4 or self.value is not None:
            raise RefusedError("describes an array in an unknown way")
        shape, kind, by_column, content = parts
        if type(by_column) not in (bool, int):
            raise RefusedError("describes an array in an unknown way")
        self.value = _array(content, kind, shape, by_column=bool(by_column))


def named(module: str, name: str) -> Name:
    """Return the replacement for a supported name; raises `RefusedError` for any other."""
    plain = module.replace("numpy._core", "numpy.core", 1).replace("__builtin__", "builtins", 1)
    if (plain, name) not in _MAKERS:
        asked = printable(f"{module[:60]}.{name[:60]}")
        raise RefusedError(f"asks for {asked}; {ONLY_PLAIN}")
    return Name(f"{module}.{name}", _MAKERS[plain, name])


def call(function: Any, arguments: Any) -> Any:
    """Return the result of a supported function; raises `RefusedError` for anything else."""
    if type(function) is not Name or function.make is None or type(arguments) is not tuple:
        what = function.text if type(function) is Name else f"a {type(function).__name__}"
        raise RefusedError(f"calls {what}; {ONLY_PLAIN}")
    return function.make(*arguments)


def keys_of(keys: list[Any]) -> list[Any]:
    """Return the keys of a dictionary or members of a set; refuse those that contain containers.

    Hashing recurses: tuples nested a million deep would crash the process.
    """
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        if not all(type(part) in _KEYS or isinstance(part, np.generic) for part in parts):
            what = f"a {type(key).__name__} as a key"
            raise RefusedError(f"has {what}; only text, numbers or tuples of them are")
    return keys


def _array(content: Any, kind: Any, shape: Any, *, by_column: bool) -> NDArray[Any]:
    """Return an array with its own memory; all arguments are checked before it is made."""
    if type(kind) is not NumberType:
        raise RefusedError("holds an array of an unknown type; only arrays of numbers are read")
    if type(content) is list:
        raise RefusedError("holds an array of objects; only arrays of numbers are read")
    raw = _bytes_of(content)
    sizes = shape if type(shape) is tuple else (shape,)
    if len(sizes) > _MAX_DIMENSIONS or any(type(n) is not int or n < 0 for n in sizes):
        many = f"more than {_MAX_DIMENSIONS} dimensions"
        raise RefusedError(f"holds an array of {many} or with an invalid size")
    promised = math.prod(sizes, start=kind.dtype.itemsize)
    if promised != len(raw):
        raise RefusedError(f"holds an array of {promised} bytes with {len(raw)} bytes in it")
    flat = np.frombuffer(raw, dtype=kind.dtype)
    if kind.dtype.kind == "b":
        flat = np.frombuffer(raw, np.uint8) != 0
    array: NDArray[Any] = flat.reshape(sizes, order="F" if by_column else "C")
    return array.astype(array.dtype.newbyteorder("="), copy=True)


def _bytes_of(content: Any) -> bytes:
    """Return an array's bytes; Python 2 writes them as text."""
    if type(content) is str:
        return content.encode("latin1")
    if type(content) is not bytes:
        raise RefusedError(f"holds an array made from a {type(content).__name__}")
    return content


def _number_type(code: Any = None, *_: Any) -> NumberType:
    text = code if type(code) is str else ""
    if re.sub(r"^[<>=|]", "", text) not in _CODES:
        shown = printable(f"{code}"[:40]) if type(code) in (str, int) else type(code).__name__
        raise RefusedError(f"holds an array of '{shown}'; only arrays of numbers are read")
    return NumberType(text)


def _pending_array(kind: Any = None, *_: Any) -> PendingArray:
    if type(kind) is not Name or kind.text != "numpy.ndarray":
        raise RefusedError("asks for an array of its own kind; only plain arrays are read")
    return PendingArray()


def _array_of_buffer(
    content: Any = None, kind: Any = None, shape: Any = None, order: Any = "C", *_: Any
) -> NDArray[Any]:
    if order not in ("C", "F"):
        raise RefusedError("describes an array in an unknown way")
    return _array(content, kind, shape, by_column=order == "F")


def _scalar(kind: Any = None, content: Any = None, *_: Any) -> Any:
    return _array(content, kind, (), by_column=False)[()]


def _encoded(text: Any = "", encoding: Any = "latin1", *_: Any) -> bytes:
    if type(text) is not str or type(encoding) is not str or encoding.lower() not in _LATIN1:
        raise RefusedError("asks for an encoding; only bytes as text are read from a pickle")
    return text.encode("latin1")


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise RefusedError("asks for bytes made from something else")
    return b""


def _set(items: Any = None, *more: Any) -> set[Any]:
    if more or not (items is None or type(items) in (list, tuple, set, frozenset)):
        raise RefusedError("makes a set in an unknown way")
    return set(keys_of(list(items or ())))


def _dictionary(items: Any = None, *more: Any) -> dict[Any, Any]:
    """Return a dictionary (ordered, as all are) for an OrderedDict of pairs."""
    pairs = [] if items is None else items
    if more or type(pairs) is not list or any(
        type(pair) not in (list, tuple) or len(pair) != 2 for pair in pairs
    ):  # fmt: skip
        raise RefusedError("makes a dictionary in an unknown way")
    return dict(zip(keys_of([key for key, _ in pairs]), [value for _, value in pairs], strict=True))


_MAKERS: dict[tuple[str, str], Callable[..., Any] | None] = {
    ("numpy", "ndarray"): None,  # an argument of _reconstruct; never called
    ("numpy", "dtype"): _number_type,
    ("numpy.core.multiarray", "_reconstruct"): _pending_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("_codecs", "encode"): _encoded,
    ("builtins", "bytes"): _no_bytes,
    ("builtins", "set"): _set,
    ("builtins", "frozenset"): lambda *arguments: frozenset(_set(*arguments)),
    ("collections", "OrderedDict"): _dictionary,
}
