"""Fields of comma-separated text into numbers, many at once.

Eight characters of a field are read as one 64-bit word, so that a column of decimal numbers costs
a dozen array operations. Plain text only: `OddFile` says that quotes, odd line ends and the like
are for the row-by-row reader.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

CHUNK_BYTES = 1 << 20  # larger ones make every temporary array cost fresh pages
_PAD = 16  # bytes around a chunk, so that words before and after a field can be read
_COMMA, _NEWLINE, _RETURN = 44, 10, 13

U64 = np.uint64
_DOTS, _ZEROS = U64(0x2E2E2E2E2E2E2E2E), U64(0x3030303030303030)
_LOW7, _HIGH = U64(0x7F7F7F7F7F7F7F7F), U64(0x8080808080808080)
_OVER_9 = U64(0x7676767676767676)
_ALL = U64(0xFFFFFFFFFFFFFFFF)
# Masks of the last n bytes of a little-endian word, and of the first n.
_LAST = np.array([0] + [(2**64 - 1) ^ (2 ** (64 - 8 * n) - 1) for n in range(1, 9)], U64)
_FIRST = np.array([2 ** (8 * n) - 1 for n in range(9)], U64)
_TEN = np.array([10**n for n in range(19)], U64)
_TEN_FLOAT = np.array([float(10**n) for n in range(19)])


@dataclass
class Fields:
    """Where the C fields of the R rows of a chunk lie.

    data: bytes with padding.  words: the eight bytes from each position on.
    first: (R,) where rows start.  ends: (C, R) where fields end.
    """

    data: NDArray[np.uint8]
    words: NDArray[np.uint64]
    first: NDArray[np.int64]
    ends: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def start(self, column: int) -> NDArray[np.int64]:
        """Return where the fields (R,) of a column start."""
        return self.ends[column - 1] + 1 if column else self.first

    def rows(self, chosen: NDArray[np.int64]) -> Fields:
        """Return some of the rows."""
        return Fields(self.data, self.words, self.first[chosen], self.ends[:, chosen])

    def text(self, column: int, row: int) -> str:
        """Return one field; raises UnicodeDecodeError."""
        start = self.ends[column - 1, row] + 1 if column else self.first[row]
        return self.data[start : self.ends[column, row]].tobytes().decode()


@dataclass
class Numbers:
    """R decimal numbers: mantissa / 10**decimals. odd: rows that need the slow way."""

    mantissa: NDArray[np.uint64]
    decimals: NDArray[np.int64]
    odd: NDArray[np.int64]

    def as_float(self) -> NDArray[np.float64]:
        """Return the nearest doubles: both numbers are exact, and division rounds correctly."""
        values = self.mantissa.astype(np.float64) / _TEN_FLOAT[self.decimals]
        return np.asarray(values, np.float64)


class OddFile(Exception):  # noqa: N818  (not an error: the file goes the slow way)
    """Something that only the row-by-row reader understands."""


def chunks(path: Path) -> Iterator[bytes]:
    """Yield whole lines, about `CHUNK_BYTES` at a time."""
    rest = b""
    with path.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            block = rest + block
            cut = block.rfind(b"\n") + 1
            if cut:
                yield block[:cut]
            rest = block[cut:]
            if len(rest) > CHUNK_BYTES:
                raise OddFile
    if rest:
        yield rest + b"\n"


def split(chunk: bytes) -> tuple[dict[int, Fields], dict[int, NDArray[np.int64]]]:
    """Find the fields of a chunk of whole lines.

    Returns (fields, line numbers from 0 within the chunk), both by number of columns.
    """
    if b'"' in chunk or b"\0" in chunk:
        raise OddFile
    data = np.zeros(len(chunk) + 2 * _PAD, np.uint8)
    data[_PAD:-_PAD] = np.frombuffer(chunk, np.uint8)
    words: NDArray[np.uint64] = np.ndarray(len(data) - 7, "<u8", data, strides=(1,))
    place = np.flatnonzero((data == _COMMA) | (data == _NEWLINE))
    num_lines = chunk.count(b"\n")
    count = len(place) // num_lines
    line_ends = np.arange(count - 1, len(place), count) if count else np.zeros(0, np.int64)
    alike = len(line_ends) * count == len(place) and len(line_ends) == num_lines
    if not alike or (data[place[line_ends]] != _NEWLINE).any():
        alike = False
        line_ends = np.flatnonzero(data[place] == _NEWLINE)
    ends_of_lines = place[line_ends]
    first = np.concatenate([[_PAD], ends_of_lines[:-1] + 1])
    if b"\r" in chunk:
        returns = data[ends_of_lines - 1] == _RETURN
        if chunk.count(b"\r") != np.count_nonzero(returns):
            raise OddFile
        place[line_ends] -= returns
    if alike:
        ends = place.reshape(-1, count).T
        return {count: Fields(data, words, first, ends)}, {count: np.arange(num_lines)}
    columns = np.diff(line_ends, prepend=-1)
    fields, lines = {}, {}
    for count in np.unique(columns).tolist():
        chosen = np.flatnonzero(columns == count)
        ends = place[line_ends[chosen] + np.arange(1 - count, 1)[:, None]]
        fields[count] = Fields(data, words, first[chosen], ends)
        lines[count] = chosen
    return fields, lines


def decimals(fields: Fields, column: int) -> Numbers:
    """Read plain decimal numbers (digits and at most one dot, 16 characters) of one column."""
    end = fields.ends[column]
    length = end - fields.start(column)
    value, dot, bad = _word(fields.words[end - 8], np.clip(length, 0, 8))
    has_dot, after = dot != 0, _digits_after(dot)
    if length.max(initial=0) > 8:
        high, high_dot, high_bad = _word(fields.words[end - 16], np.clip(length - 8, 0, 8))
        in_high = high_dot != 0
        bad |= high_bad | (has_dot & in_high)
        value += high * _TEN[8]
        after = np.where(in_high, _digits_after(high_dot) + 8, after)
        has_dot |= in_high
    after = np.where(bad, 0, after)  # of several dots it is no number at all
    # The dot was read as a digit 0: take it out of the number.
    whole = value // _TEN[after + 1]
    value = np.where(has_dot, value - U64(9) * whole * _TEN[after], value)
    bad |= (length < 1 + has_dot) | (length > 16)
    return Numbers(value, after, np.flatnonzero(bad))


def _word(
    word: NDArray[np.uint64], length: NDArray[np.int64]
) -> tuple[NDArray[np.uint64], NDArray[np.uint64], NDArray[np.bool_]]:
    """Return (number, mark of the dot, is bad) of the last `length` characters of each word."""
    word = _ZEROS ^ ((word ^ _ZEROS) & _LAST[length])
    dot = word ^ _DOTS
    dot = ~(((dot & _LOW7) + _LOW7) | dot | _LOW7)  # 0x80 in the byte of a dot
    digits = word ^ _ZEROS ^ ((dot >> U64(7)) * U64(0x1E))  # '.' ^ '0' is 0x1E
    bad = ((digits | (digits + _OVER_9)) & _HIGH) != 0
    bad |= (dot & (dot - U64(1))) != 0
    pairs = digits * U64(10) + (digits >> U64(8))
    low = U64(0x000000FF000000FF)
    number = (pairs & low) * U64(100 + (1000000 << 32))
    number += ((pairs >> U64(16)) & low) * U64(1 + (10000 << 32))
    return number >> U64(32), dot, bad


def _digits_after(dot: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Return how many characters of a word follow its dot, 0 without one."""
    # The mark in byte p of 8 moves byte 7 - p of this number to the top: its value is 7 - p.
    return (((dot >> U64(7)) * U64(0x0706050403020100)) >> U64(56)).astype(np.int64)


def changes(fields: Fields, first: int, last: int) -> NDArray[np.int64]:
    """Return the rows whose text from one column to another differs from the row before.

    The first row is always among them.
    """
    start = fields.start(first)
    length = fields.ends[last] - start
    changed = np.ones(len(start), bool)
    changed[1:] = length[1:] != length[:-1]
    longest, shortest = int(length.max(initial=0)), int(length.min(initial=0))
    for offset in range(0, longest, 8):
        at = start + offset
        if offset + 8 <= shortest:
            word = fields.words[at]
        else:
            word = fields.words[np.minimum(at, len(fields.words) - 1)]
            word &= _FIRST[np.clip(length - offset, 0, 8)]
        changed[1:] |= word[1:] != word[:-1]
    return np.flatnonzero(changed)
