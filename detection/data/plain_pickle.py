"""Reads pickles that hold plain values and numpy arrays, and nothing else; runs no code of theirs.

JHMDB's and UCF101-24's annotation files are Python 2 pickles. A pickle names functions that the
reader calls; here it may name only those that make an array or a string of bytes, and what is
called are stand-ins of ours.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import UserError

_NUMBERS = "biuf"


def read_plain_pickle(path: str | Path) -> Any:
    """Return what the pickle at `path` holds: containers, text, numbers, arrays of numbers.

    Text of Python 2 is read as Latin-1. Raises `UserError` for a file that is no pickle, is cut
    short, or asks for anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        return _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except _RefusedError as error:
        raise UserError(f"{path}: {error}") from error
    except Exception as error:
        # A damaged pickle makes the reader fail in any way at all; it has run none of its code.
        raise UserError(
            f"{path}: not a pickle that can be read, or cut short ({type(error).__name__}: {error})"
        ) from error


class _RefusedError(Exception):
    pass


class _PlainUnpickler(pickle.Unpickler):
    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, encoding="latin1")

    def find_class(self, module: str, name: str) -> Any:
        """Return the stand-in for what makes an array or bytes; refuse every other name."""
        if module.split(".")[0] == "numpy" and name == "ndarray":
            return np.ndarray
        plain = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        maker = _MAKERS.get((plain, name))
        if maker is None:
            raise _RefusedError(
                f"asks for {module}.{name}; only plain containers and arrays are read from a pickle"
            )
        # A new function each time: a pickle can set attributes on what it is given.
        return lambda *arguments: maker(*arguments)

    def persistent_load(self, pid: Any) -> Any:
        """Refuse references to things outside the file."""
        raise _RefusedError("refers to something outside the file")


def _number_dtype(code: Any, *_: Any) -> np.dtype[Any]:
    dtype = np.dtype(str(code))
    if dtype.kind not in _NUMBERS:
        raise _RefusedError(f"holds an array of '{code}'; only arrays of numbers are read")
    return dtype


def _empty_array(kind: Any, *_: Any) -> np.ndarray:
    """Return an array for the pickle to fill; its shape comes with its content."""
    if kind is not np.ndarray:
        raise _RefusedError(f"asks for an array of type {kind!r}")
    return np.ndarray((0,), dtype=np.uint8)


def _array_of_buffer(
    buffer: Any, dtype: np.dtype[Any], shape: tuple[int, ...], order: str, *_: Any
) -> np.ndarray:
    array: np.ndarray = np.frombuffer(buffer, dtype=dtype).reshape(shape, order=order)  # type: ignore[call-overload]
    return array


def _scalar(dtype: np.dtype[Any], content: Any) -> Any:
    raw = content.encode("latin1") if isinstance(content, str) else bytes(content)
    return np.frombuffer(raw, dtype=dtype, count=1)[0]


def _latin1_bytes(text: Any = "", *_: Any) -> bytes:
    return str(text).encode("latin1")


_MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    ("numpy", "dtype"): _number_dtype,
    ("numpy.core.multiarray", "_reconstruct"): _empty_array,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy.core.numeric", "_frombuffer"): _array_of_buffer,
    ("_codecs", "encode"): _latin1_bytes,
    ("builtins", "bytes"): _latin1_bytes,
    ("builtins", "set"): set,
    ("builtins", "frozenset"): frozenset,
    ("collections", "OrderedDict"): dict,  # keeps the order as well, and is filled the same way
}
