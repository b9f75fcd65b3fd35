import os
import pickle
import re
import struct
import subprocess
import sys
from collections import OrderedDict
from pathlib import Path

import hostile_pickles
import numpy as np
import pytest

from detection.errors import UserError
from detection.formats.safe_pickle import read_plain_pickle


def written(tmp_path, content):
    path = tmp_path / "file.pkl"
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_plain_values_and_arrays_of_every_protocol(tmp_path, protocol):
    values = {
        "labels": ["a", "b"],
        "tubes": {"x/y": {3: [np.arange(10, dtype=np.float32).reshape(2, 5)]}},
        "others": (1, 2.5, None, True, {4, 5}, b"bytes", np.int64(7), np.zeros((0, 5))),
    }
    found = read_plain_pickle(written(tmp_path, pickle.dumps(values, protocol=protocol)))
    assert found["labels"] == ["a", "b"]
    array = found["tubes"]["x/y"][3][0]
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, values["tubes"]["x/y"][3][0])
    assert found["others"][:7] == values["others"][:7]
    assert found["others"][7].shape == (0, 5)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_ordered_dictionaries(tmp_path, protocol):
    values = OrderedDict([("b", np.arange(3)), ("a", OrderedDict())])
    found = read_plain_pickle(written(tmp_path, pickle.dumps(values, protocol=protocol)))
    assert list(found) == ["b", "a"]
    assert found["b"].tolist() == [0, 1, 2]
    assert found["a"] == {}


def test_arrays_and_text_of_python_2(tmp_path):
    """As Python 2 writes them: bytes as text, to be read as Latin-1."""
    numbers = struct.pack("<2f", -1.5, 3e8)
    assert max(numbers) > 127
    content = (
        b"(dp1\nS'caf\\xe9'\np2\ncnumpy.core.multiarray\n_reconstruct\np3\n(cnumpy\nndarray\np4\n"
        b"(I0\ntp5\nS'b'\np6\ntp7\nRp8\n(I1\n(I2\ntp9\ncnumpy\ndtype\np10\n(S'f4'\np11\nI0\nI1\n"
        b"tp12\nRp13\n(I3\nS'<'\np14\nNNNI-1\nI-1\nI0\ntp15\nbI00\nS"
        + repr(numbers)[1:].encode()
        + b"\np16\ntp17\nbs."
    )
    found = read_plain_pickle(written(tmp_path, content))
    assert list(found) == ["café"]
    assert found["café"].tolist() == [-1.5, np.float32(3e8)]


class Payload:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("wrap", [lambda p: p, lambda p: {"labels": [p]}], ids=["bare", "inside"])
def test_no_code_is_run(tmp_path, protocol, wrap):
    mark = tmp_path / "was_here"
    for payload in (
        Payload(os.mkdir, str(mark)),
        Payload(eval, f"__import__('os').mkdir({str(mark)!r})"),
        Payload(np.load, str(mark)),
        Payload(np.fromfile, str(mark)),
    ):
        content = pickle.dumps(wrap(payload), protocol=protocol)
        with pytest.raises(UserError, match=r"file\.pkl: asks for .*only plain containers"):
            read_plain_pickle(written(tmp_path, content))
    assert not mark.exists()


@pytest.mark.parametrize(
    "content",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"c__builtin__\ngetattr\n(cos\nsystem\nS'x'\ntR.",
        b"(S'true'\nios\nsystem\n.",
        b"cnumpy.core.multiarray\nfromfile\n.",
        b"cnumpy\nload\n.",
        b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__class__\x93.",
        b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.dump\x93.",
        b"\x80\x02\x82\x01.",
        b"Pthing\n.",
    ],
)
def test_no_name_but_those_of_arrays(tmp_path, content):
    with pytest.raises(UserError, match="file.pkl: "):
        read_plain_pickle(written(tmp_path, content))


def test_arrays_of_objects_are_refused(tmp_path):
    content = pickle.dumps(np.array([{}, []], dtype=object))
    with pytest.raises(UserError, match="only arrays of numbers"):
        read_plain_pickle(written(tmp_path, content))


def test_hostile_pickles_end_in_one_line_each_and_the_process_lives(tmp_path):
    """In a process of its own, with 3 GB of memory: a crash is seen from outside."""
    done = subprocess.run(
        [sys.executable, str(Path(hostile_pickles.__file__)), str(tmp_path), "300", "5"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr[-2000:])
    assert re.fullmatch(r"\d+ of 300 read", done.stdout.strip())
    done = subprocess.run(
        [sys.executable, str(Path(hostile_pickles.__file__)), str(tmp_path), "0", "0"],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stdout[-300:], done.stderr[-2000:])
    *said, _ = done.stdout.splitlines()
    path = tmp_path / "file.pkl"
    assert len(said) == len(hostile_pickles.HOSTILE)
    for case, line in zip(hostile_pickles.HOSTILE, said, strict=True):
        assert line.startswith(f"{case}: {path}: ") and line.isprintable(), line
        assert len(line) < len(case) + len(str(path)) + 250


@pytest.mark.parametrize(
    "case, message",
    [
        ("ndarray called", "calls numpy.ndarray; only plain containers"),
        ("bomb of lists", "far larger than the file"),
        ("bomb of arrays", "far larger than the file"),
        ("arrays copied", "far larger than the file"),
        ("arrays copied by their states", "far larger than the file"),
        ("texts copied", "far larger than the file"),
        ("sets copied", "far larger than the file"),
        ("dictionaries copied", "far larger than the file"),
        ("millions of empty sets", "more than 2,000,000 lists, sets"),
        ("list within itself", "holds a value within itself"),
        ("hundreds of thousands of lists deep", "deeper than 64"),
        ("hundreds of thousands of tuples deep as a key", "has a tuple as a key"),
        ("product that wraps to eight", "of 18446744073709551624 bytes with 8 bytes in it"),
        ("one negative size", "an invalid size"),
        ("content too long", "of 4 bytes with 8 bytes in it"),
        ("type with a sub-array of numbers", "array with fields"),
        ("array finished twice", "changes what it was given"),
        ("registry, one byte", "what Python's registry holds"),
    ],
)
def test_a_hostile_pickle_is_refused_for_its_own_reason(tmp_path, case, message):
    content = hostile_pickles.HOSTILE[case] + b"."
    with pytest.raises(UserError, match=message):
        read_plain_pickle(written(tmp_path, content))


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("code", ["b1", "i1", "u2", "i4", "i8", "u8", "f2", "f4", "f8"])
def test_arrays_of_all_numbers_orders_and_layouts_come_out_native_and_writeable(
    tmp_path, code, order
):
    array = np.arange(24).reshape(2, 3, 4).astype(np.dtype(code).newbyteorder(order))
    values = [array, np.asfortranarray(array), array[..., :0], array[1, 1, 1]]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        found = read_plain_pickle(written(tmp_path, pickle.dumps(values, protocol)))
        for one, expected in zip(found, values, strict=True):
            np.testing.assert_array_equal(one, expected)
            assert one.dtype == np.dtype(code) and one.dtype.isnative
        assert all(one.flags.writeable and one.flags.owndata for one in found[:3])


def test_an_array_named_twice_is_one_array(tmp_path):
    array = np.arange(3)
    first, second = read_plain_pickle(written(tmp_path, pickle.dumps([array, array])))
    assert first is second and first.tolist() == [0, 1, 2]


def test_a_file_too_large_or_no_regular_file_is_refused_unread(tmp_path):
    path = written(tmp_path, pickle.dumps(list(range(100))))
    with pytest.raises(UserError, match=r"bytes, at most 50 are read of a pickle"):
        read_plain_pickle(path, limit_bytes=50)
    os.mkfifo(tmp_path / "pipe.pkl")
    for place in (tmp_path / "pipe.pkl", tmp_path, Path("/dev/zero")):
        with pytest.raises(UserError, match="no regular file"):
            read_plain_pickle(place)


def test_reading_ends_after_ten_million_steps(tmp_path, monkeypatch):
    monkeypatch.setattr("detection.formats.safe_pickle._MAX_STEPS", 50)
    assert read_plain_pickle(written(tmp_path, b"](" + b"N" * 40 + b"e.")) == [None] * 40
    with pytest.raises(UserError, match="more than 50 steps"):
        read_plain_pickle(written(tmp_path, b"](" + b"N" * 60 + b"e."))


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x04", bytes(100), pickle.dumps([1, 2, 3])[:-3], b"(lp0\nI1\n"]
)
def test_what_is_no_pickle_is_named_in_one_line(tmp_path, content):
    with pytest.raises(UserError, match=r"file\.pkl: not a pickle") as caught:
        read_plain_pickle(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pkl: file not found"):
        read_plain_pickle(tmp_path / "gone.pkl")
