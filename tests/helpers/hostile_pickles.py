"""Pickles written by hand, step by step, each of which no file of annotations or weights holds.

Run as a program it reads every one with the restricted reader, and prints what it said; a crash of
the process is then seen from outside.
"""

from __future__ import annotations

import pickle
import struct
import sys
from pathlib import Path

import numpy as np


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def octets(value: bytes) -> bytes:
    return b"B" + struct.pack("<I", len(value)) + value


def whole(value: int) -> bytes:
    raw = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return b"\x8a" + bytes([len(raw)]) + raw


def name(module: str, of: str) -> bytes:
    return f"c{module}\n{of}\n".encode()


def sequence(*items: bytes) -> bytes:
    return b"(" + b"".join(items) + b"t"


def call(function: bytes, *arguments: bytes) -> bytes:
    return function + sequence(*arguments) + b"R"


NDARRAY = name("numpy", "ndarray")
RECONSTRUCT = name("numpy.core.multiarray", "_reconstruct")
SCALAR = name("numpy.core.multiarray", "scalar")
FROM_BUFFER = name("numpy.core.numeric", "_frombuffer")
ENCODE = name("_codecs", "encode")
PENDING = call(RECONSTRUCT, NDARRAY, sequence(whole(0)), octets(b"b"))


def dtype(code: str, order: str | None = "<") -> bytes:
    made = call(name("numpy", "dtype"), text(code), b"\x89", b"\x88")
    if order is None:
        return made
    return made + sequence(
        whole(3), text(order), b"N", b"N", b"N", whole(-1), whole(-1), whole(0)
    ) + b"b"  # fmt: skip


def array(shape: bytes, kind: bytes, content: bytes, *, by_column: bytes = b"\x89") -> bytes:
    return PENDING + sequence(whole(1), shape, kind, by_column, content) + b"b"


GOOD = array(sequence(whole(2)), dtype("i4"), octets(struct.pack("<2i", 3, -4)))


def bomb(depth: int) -> bytes:
    """A list of ten times the list before, each by its place in the memo."""
    steps = b"](K\x01K\x02eq\x00"
    for level in range(depth):
        before = b"h" + bytes([level])
        steps += b"0](" + before * 10 + b"eq" + bytes([level + 1])
    return steps


def state(order: str = "<", inner: bytes = b"N", names: bytes = b"N", fields: bytes = b"N"):
    return sequence(
        whole(3), text(order), inner, names, fields, whole(8), whole(8), whole(63)
    )  # fmt: skip


def again(steps: bytes, kept: bytes, times: int = 400) -> bytes:
    """Do the same with one value (`KEPT` in the steps) many times, and let go of what comes out."""
    return kept + b"q\x000(" + (steps + b"0") * times + b"l"


KEPT = b"h\x00"
COPIED = 200_000
DEEP = 200_000
ONE = sequence(whole(1))
EIGHT = octets(bytes(8))

HOSTILE: dict[str, bytes] = {
    # The real type called with an object type and a buffer of the file's: reads and writes memory.
    "ndarray called": b"cnumpy\nndarray\n(K\x01\x85X\x01\x00\x00\x00OC\x08AAAAAAAAtR.",
    "ndarray called with a type": call(NDARRAY, ONE, dtype("i8"), EIGHT),
    "ndarray made anew": NDARRAY + sequence(ONE) + b"\x81",
    "ndarray made anew with words": NDARRAY + sequence(ONE) + b"}\x92",
    "ndarray by INST": b"(K\x01inumpy\nndarray\n",
    "ndarray by OBJ": b"(" + NDARRAY + b"K\x01o",
    "ndarray itself": NDARRAY,
    "ndarray inside": b"](" + NDARRAY + b"e",
    "ndarray as a key": b"}" + NDARRAY + b"K\x01s",
    "ndarray changed": NDARRAY + b"}" + text("x") + b"K\x01s" + b"b",
    "ndarray of another module": name("numpy.core", "ndarray"),
    "dotted name": b"\x80\x04" + text("numpy") + text("ndarray.__new__") + b"\x93",
    "name that is no text": b"\x80\x04K\x01K\x02\x93",
    "subclass": call(RECONSTRUCT, name("numpy", "matrix"), sequence(whole(0)), octets(b"b")),
    "a set as the array's kind": call(
        RECONSTRUCT, name("builtins", "set"), sequence(whole(0)), octets(b"b")
    ),
    "a value as the array's kind": call(RECONSTRUCT, b"N", sequence(whole(0)), octets(b"b")),
    "reconstruct without arguments": call(RECONSTRUCT),
    "unfinished array": PENDING,
    "unfinished array inside": b"]" + PENDING + b"a",
    "array finished twice": GOOD + sequence(whole(1), ONE, dtype("i8"), b"\x89", EIGHT) + b"b",
    "array finished twice by the memo": PENDING + b"q\x00" + sequence(
        whole(1), ONE, dtype("i8"), b"\x89", EIGHT
    ) + b"b0h\x00" + sequence(whole(1), ONE, dtype("i8"), b"\x89", EIGHT) + b"b",
    "array with words as state": PENDING + b"}" + text("shape") + whole(9) + b"sb",
    "state of five texts": PENDING + sequence(*[text("x")] * 5) + b"b",
    "appended to an array": b"]q\x00" + GOOD + b"K\x01a",
    "items set in an array": GOOD + b"K\x00K\x01s",
    "items added to an array": GOOD + b"(K\x01\x90",
    "object type": array(ONE, dtype("O8", "|"), b"]" + b"}a"),
    "object type, no order": array(ONE, dtype("O", None), EIGHT),
    "list as content": array(ONE, dtype("i8"), b"]K\x01a"),
    "bytes of a void": array(ONE, dtype("V8", "|"), EIGHT),
    "text type": array(ONE, dtype("S8", "|"), EIGHT),
    "unicode type": array(ONE, dtype("U2"), EIGHT),
    "dates": array(ONE, dtype("M8"), EIGHT),
    "complex": array(ONE, dtype("c8"), EIGHT),
    "long double": array(ONE, dtype("f16"), octets(bytes(16))),
    "structured type": array(ONE, dtype("i4,i4", None), EIGHT),
    "sub-array type": array(ONE, dtype("(1000000,)i8", None), EIGHT),
    "sub-array by number": array(ONE, dtype("2i4", None), EIGHT),
    "type of a list": call(name("numpy", "dtype"), b"](" + text("f4") + b"e"),
    "type of words": call(name("numpy", "dtype"), b"}"),
    "type of a number": call(name("numpy", "dtype"), whole(7)),
    "type of nothing": call(name("numpy", "dtype")),
    "type by another name": call(name("numpy", "float32"), whole(3)),
    "type with fields": dtype("f4", None) + state(
        names=sequence(text("a")), fields=b"}" + text("a") + sequence(dtype("O8", None), whole(0))
        + b"s"
    ) + b"b",
    "type with a sub-array": dtype("f4", None) + state(
        inner=sequence(dtype("O8", None), sequence(whole(1 << 40)))
    ) + b"b",
    "type with a sub-array of numbers": dtype("f4", None) + state(
        inner=sequence(dtype("f4", None), sequence(whole(2)))
    ) + b"b",
    "type of an unknown order": dtype("f4", "x"),
    "type of a long order": dtype("f4", "<O"),
    "type of a short state": dtype("f4", None) + sequence(whole(3), text("<")) + b"b",
    "type with words as state": dtype("f4", None) + b"}" + text("kind") + text("O") + b"sb",
    "type itself": dtype("f4"),
    "huge shape": array(sequence(whole(1 << 62)), dtype("i8"), EIGHT),
    "product that overflows": array(
        sequence(*[whole(1 << 32)] * 4), dtype("i1", "|"), octets(b"")
    ),
    "product that wraps to eight": array(
        sequence(whole((1 << 61) + 1), whole(8)), dtype("i1", "|"), EIGHT
    ),
    "negative sizes": array(sequence(whole(-1), whole(-8)), dtype("i1", "|"), EIGHT),
    "one negative size": array(sequence(whole(-1)), dtype("i8"), EIGHT),
    "size as a fraction": array(sequence(b"G" + struct.pack(">d", 1.0)), dtype("i8"), EIGHT),
    "size as a truth": array(sequence(b"\x88"), dtype("i8"), EIGHT),
    "size as an array": array(GOOD, dtype("i8"), EIGHT),
    "sixty dimensions": array(sequence(*[whole(1)] * 60), dtype("i8"), EIGHT),
    "content too short": array(sequence(whole(2)), dtype("i8"), EIGHT),
    "content too long": array(ONE, dtype("i4"), EIGHT),
    "content as a number": array(ONE, dtype("i8"), whole(7)),
    "content as wide text": array(ONE, dtype("i8"), text("\u20ac" * 8)),
    "no type": array(ONE, b"N", EIGHT),
    "a name as type": array(ONE, NDARRAY, EIGHT),
    "buffer too short": call(FROM_BUFFER, EIGHT, dtype("i8"), sequence(whole(9)), text("C")),
    "buffer in no order": call(FROM_BUFFER, EIGHT, dtype("i8"), ONE, text("K")),
    "buffer of objects": call(FROM_BUFFER, EIGHT, dtype("O", None), ONE, text("C")),
    "buffer without a type": call(FROM_BUFFER, EIGHT),
    "number of objects": call(SCALAR, dtype("O", None), EIGHT),
    "number too long": call(SCALAR, dtype("i4"), EIGHT),
    "number of nothing": call(SCALAR),
    "encoded otherwise": call(ENCODE, text("abc"), text("rot13")),
    "encoded by zip": call(ENCODE, octets(b"abc"), text("zlib")),
    "encoded with errors": call(ENCODE, text("\u20ac"), text("latin1"), text("namereplace")),
    "encoding as a list": call(ENCODE, text("abc"), b"]"),
    "bytes of a length": call(name("builtins", "bytes"), whole(1 << 40)),
    "set of a text": call(name("builtins", "set"), text("abc")),
    "set changed": b"\x8f}" + text("x") + b"K\x01sb",
    "function changed": ENCODE + b"}" + text("x") + b"K\x01sb",
    "dictionary changed": b"}}" + text("x") + b"K\x01sb",
    "value called": call(b"K\x01", b"K\x02"),
    "text called": call(text("os"), b"K\x02"),
    "called with a list": ENCODE + b"]" + b"R",
    "registry, one byte": b"\x82\x01",
    "registry, two bytes": b"\x83\x01\x00",
    "registry, four bytes": b"\x84\x01\x00\x00\x00",
    "outside, by text": b"Pthing\n",
    "outside, by value": text("thing") + b"Q",
    "buffer out of band": b"\x80\x05\x97",
    "buffer out of band, read only": b"\x80\x05K\x01\x98",
    "system": call(name("os", "system"), text("true")),
    "import": call(name("builtins", "__import__"), text("os")),
    "get attribute": call(name("builtins", "getattr"), b"K\x01", text("real")),
    "load": call(name("numpy", "load"), text("/etc/passwd")),
    "reader's own": name("detection.formats.pickled_arrays", "call"),
    "huge bytes claimed": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"abc",
    "huge text claimed": b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"abc",
    "huge byte array claimed": b"\x80\x05\x96" + struct.pack("<Q", 1 << 50) + b"abc",
    "huge frame claimed": b"\x80\x04\x95" + struct.pack("<Q", 1 << 60)[:4],
    "4 GB of bytes claimed": b"B\xff\xff\xff\xff",
    "huge number claimed": b"\x8b\xff\xff\xff\x7f",
    "number of 255 bytes": b"\x8a\xff" + bytes(255),
    "number of 5,000 digits": b"L" + b"9" * 5000 + b"L\n",
    "number of 100,000 bytes": b"\x8b" + struct.pack("<I", 100_000) + b"\x7f" * 100_000,
    "number that is none": b"I1_000\n",
    "place 2^31 of the memo": b"K\x01r\xff\xff\xff\x7f" + b"jj\x00\x00\x00",
    "empty place of the memo": b"h\x07",
    "bomb of lists": bomb(40),
    "bomb of arrays": array(
        sequence(whole(100_000)), dtype("i1", "|"), octets(bytes(100_000))
    ) + b"q\x000](" + b"h\x00" * 2000 + b"e",
    # A few bytes hand the same megabyte to a call again and again; nothing of it stays.
    "arrays copied": again(
        call(FROM_BUFFER, KEPT, dtype("i1", "|"), sequence(whole(COPIED)), text("C")),
        octets(bytes(COPIED)),
    ),
    "arrays copied by their states": again(
        array(sequence(whole(COPIED)), dtype("i1", "|"), KEPT), octets(bytes(COPIED))
    ),
    "texts copied": again(call(ENCODE, KEPT, text("latin1")), text("a" * COPIED)),
    "sets copied": again(call(name("builtins", "set"), KEPT), b"](" + b"N" * COPIED + b"e"),
    "dictionaries copied": again(
        call(name("collections", "OrderedDict"), KEPT), b"](" + b"NN\x86" * COPIED + b"e"
    ),
    "millions of empty sets": b"(" + b"\x8f" * 2_000_001 + b"l",
    "list within itself": b"]q\x00h\x00a",
    "dictionary within itself": b"}q\x00K\x01h\x00s",
    "tuple within itself": b"]q\x00(h\x00tq\x01a",
    "hundreds of thousands of lists deep": b"]" * DEEP + b"a" * (DEEP - 1),
    "hundreds of thousands of tuples deep": b")" + b"\x85" * DEEP,
    "hundreds of thousands of tuples deep as a key": b"})" + b"\x85" * DEEP + b"K\x01s",
    "hundreds of thousands of tuples deep in a set": b"\x8f()" + b"\x85" * DEEP + b"\x90",
    "hundreds of thousands of dictionaries deep": b"}K\x00" * DEEP + b"N" + b"s" * DEEP,
    "a list as a key": b"}]K\x01s",
    "an array as a key": b"}" + GOOD + b"K\x01s",
    "a frozen set as a key": b"}(\x91K\x01s",
    "odd number of items": b"(K\x01d",
    "an end within marks": b"K\x01(",
    "two values": b"K\x01K\x02",
    "below a mark": b"K\x01(\x85",
    "no mark": b"K\x01t",
    "list that is none": b"}K\x01a",
    "set that is none": b"](K\x01\x90",
    "unknown step": b"\xff",
    "protocol 9": b"\x80\x09K\x01",
    "half a character": text("x")[:-1] + b"\xff",
    "text without quotes": b"Sabc\n",
    "name that is no UTF-8": b"c\xff\n\xff\n",
    "steering marks in a name": b"c\x1b[2Jos\nsystem\n",
}  # fmt: skip


def mutated(generator: np.random.Generator, content: bytes) -> bytes:
    """Return `content` with bytes changed, cut out, doubled or cut off."""
    data = bytearray(content)
    for _ in range(int(generator.integers(1, 6))):
        place = int(generator.integers(0, len(data)))
        size = int(generator.integers(1, 9))
        how = int(generator.integers(0, 5))
        if how == 0:
            data[place] = int(generator.integers(0, 256))
        elif how == 1:
            del data[place : place + size]
        elif how == 2:
            data[place:place] = data[place : place + size]
        elif how == 3:
            data[place : place + 1] = b"\x8e\x8b\x96R\x81bast\x93cujBX"[size : size + 1]
        else:
            data[place:place] = generator.bytes(size)
        if not data:
            return b"."
    return bytes(data)


def valid() -> list[bytes]:
    """Return pickles of annotations and weights, in every protocol."""
    tubes = {
        "labels": ["sit", "wave"],
        "gttubes": {"a/b": {1: [np.arange(10, dtype=np.float32).reshape(2, 5)]}},
        "nframes": {"a/b": np.int64(2)},
        "train_videos": [["a/b"]],
        "resolution": {"a/b": (240, 320)},
        "others": ({1, 2}, frozenset([3]), b"bytes", 1.5, None, True, "caf\u00e9"),
    }
    weights = {"model": {"w": np.ones((2, 3), np.float16, order="F")}, "__author__": "me"}
    return [pickle.dumps(v, p) for v in (tubes, weights) for p in range(6)] + [GOOD + b"."]


def main(folder: Path, mutations: int, seed: int) -> None:
    import resource

    from detection.errors import UserError
    from detection.formats.safe_pickle import read_plain_pickle

    resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))
    path = folder / "file.pkl"
    if not mutations:
        for case, content in HOSTILE.items():
            path.write_bytes(content + b"." if content[-1:] != b"." else content)
            try:
                read_plain_pickle(path)
                print(f"READ {case}")
            except UserError as error:
                print(f"{case}: {error}" if str(error).count("\n") == 0 else f"LINES {case}")
    generator = np.random.default_rng(seed)
    originals = valid()
    read = 0
    for number in range(mutations):
        path.write_bytes(mutated(generator, originals[number % len(originals)]))
        try:
            read_plain_pickle(path)
            read += 1
        except UserError as error:
            assert "\n" not in str(error), error
    print(f"{read} of {mutations} read")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
