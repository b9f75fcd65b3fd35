import os
import pickle
import struct
from collections import OrderedDict

import numpy as np
import pytest

from detection.data.plain_pickle import read_plain_pickle
from detection.errors import UserError


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


def test_a_pickle_cannot_change_the_reader(tmp_path):
    """Setting attributes on what it was given changes a thing that is thrown away."""
    content = b"cnumpy\ndtype\n(N(dS'evil'\nI1\nstb."
    for _ in range(2):
        value = read_plain_pickle(written(tmp_path, content))
        assert value.evil == 1
    from detection.data import plain_pickle

    assert not hasattr(plain_pickle._number_dtype, "evil")


@pytest.mark.parametrize(
    "content", [b"", b"text", b"\x80\x04", bytes(100), pickle.dumps([1, 2, 3])[:-3], b"(lp0\nI1\n"]
)
def test_what_is_no_pickle_is_named_in_one_line(tmp_path, content):
    with pytest.raises(UserError, match=r"file\.pkl: not a pickle") as caught:
        read_plain_pickle(written(tmp_path, content))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone\.pkl: no such file"):
        read_plain_pickle(tmp_path / "gone.pkl")
