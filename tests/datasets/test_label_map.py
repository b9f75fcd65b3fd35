from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.label_map import OBJECT, PERSON, POSE, read_label_map, write_label_map
from detection.datasets.plain_names import is_plain
from detection.errors import UserError
from detection.structures import LabelMap


def write(tmp_path, text: str):
    path = tmp_path / "map.pbtxt"
    path.write_text(text, encoding="utf-8")
    return path


LABEL_DIALECT = """
label {
  name: "sit"
  label_id: 11
  label_type: PERSON_MOVEMENT
}
label {
  name: "watch (a person)"
  label_id: 80
  label_type: PERSON_INTERACTION
}
"""
ITEM_DIALECT = (
    'item {\n  name: "sit"\n  id: 11\n}\nitem {\n  name: "watch (a person)"\n  id: 80\n}\n'
)


def test_lines_of_numbers_and_names_are_a_label_map(tmp_path):
    text = "\n11: sit\n80 : watch (a person)\n"
    both = LabelMap(("sit", "watch (a person)"), (11, 80), (POSE, PERSON))
    assert read_label_map(write(tmp_path, text)) == both
    assert read_label_map(write(tmp_path, '2: a "b": c {x}\r\n1: d')).names == ('a "b": c {x}', "d")


@pytest.mark.parametrize(
    "text, message",
    [
        ("1: a\nitem {", r"map\.pbtxt:2: expected `11: name`, found 'item {'"),
        ("1: a\n1: b", r"map\.pbtxt:2: 1 is there twice"),
        ("1: a\n2: a", r"map\.pbtxt:2: 'a' is there twice"),
        ("0: a", r":1: the id of 'a' must be a whole number from 1"),
        ("1: a\n99999999999999999999999: b", r":2: the id of 'b' must be a whole number"),
        ("1: a\n2:", r":2: expected `11: name`"),
        ("1: a\x1b", r"no valid class name"),
    ],
)
def test_a_bad_line_of_a_label_map_is_named(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_label_map(write(tmp_path, text))


def test_both_dialects_say_the_same(tmp_path):
    first = read_label_map(write(tmp_path, LABEL_DIALECT))
    second = read_label_map(write(tmp_path, ITEM_DIALECT))
    assert first == second == LabelMap(("sit", "watch (a person)"), (11, 80), (POSE, PERSON))


def test_order_of_the_file_is_the_order_of_columns(tmp_path):
    text = "item { name: 'zebra' id: 7 }\nitem { id: 2, name: 'ant' }  # comment\n"
    label_map = read_label_map(write(tmp_path, text))
    assert label_map.names == ("zebra", "ant")
    assert label_map.index_by_id == {7: 0, 2: 1}
    assert label_map.index_by_name == {"zebra": 0, "ant": 1}
    assert label_map.groups is None


def test_groups_are_given_to_avas_own_classes_only(tmp_path):
    own = 'item {\n  name: "walk"\n  id: 1\n}\nitem {\n  name: "stand"\n  id: 3\n}\n'
    assert read_label_map(write(tmp_path, own)).groups is None
    ava = own.replace("id: 1", "id: 14").replace("id: 3", "id: 12")
    ava += 'item {\n  name: "carry/hold (an object)"\n  id: 17\n}\n'
    assert read_label_map(write(tmp_path, ava)).groups == (POSE, POSE, OBJECT)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        (
            'item {\n  name: "a"\n  id: 1\n}\nitem {\n  name: "b"\n  id: 1\n}\n',
            5,
            "1 is there twice",
        ),
        ('item {\n  name: "a"\n  id: 1\n}\nitem {\n  name: "a"\n  id: 2\n}\n', 5, "'a' is there"),
        ('item {\n  name: "a"\n}\n', 1, "no id"),
        ("item {\n  id: 4\n}\n", 1, "no name"),
        ('item {\n  name: "a"\n  id: 0\n}\n', 1, "from 1, not 0"),
        ('item {\n  name: "a"\n  id: one\n}\n', 1, "from 1, not one"),
        ('item {\n  name: "a"\n  id: 1\n', 1, "no closing"),
        ('item {\n  name "a"\n  id: 1\n}\n', 2, "expected `key: value`"),
        ("video,0902,0.1,0.2\n", 1, "expected `item {`"),
        ('item {\n  name: "a\n  id: 1\n}\n', 2, "cannot read"),
        ('item {\n  name: "a"\n  id: 1\n  id: 2\n}\n', 4, "'id' is there twice in one block"),
        ('item {\n  name: "a"\n  id: ' + "9" * 5000 + "\n}\n", 1, "at most 2147483647"),
        ('item {\n  name: "a"\n  id: 2147483648\n}\n', 1, "at most 2147483647"),
        ('item {\n  name: "a"\n  id: -1\n}\n', 1, "from 1, not -1"),
        ('item {\n  name: "\x1b[31mred"\n  id: 1\n}\n', 1, "no valid class name"),
        ('item {\n  name: "a\\nb"\n  id: 1\n}\n', 1, "no valid class name"),
        ('item {\n  name: "\\033[2J"\n  id: 1\n}\n', 1, "no valid class name"),
        ('item {\n  name: "a\u2028b"\n  id: 1\n}\n', 1, "no valid class name"),
        ('item {\n  name: "\\377"\n  id: 1\n}\n', 2, "is not UTF-8 text"),
        ('item {\n  name: " "\n  id: 1\n}\n', 1, "no valid class name"),
    ],
)
def test_errors_name_the_line(tmp_path, text, line, words):
    path = write(tmp_path, text)
    with pytest.raises(UserError) as error:
        read_label_map(path)
    assert str(error.value).startswith(f"{path}:{line}: ")
    assert words in str(error.value)


def test_empty_and_binary_files(tmp_path):
    with pytest.raises(UserError, match="no class"):
        read_label_map(write(tmp_path, ""))
    path = tmp_path / "binary.pbtxt"
    path.write_bytes(bytes(range(128, 256)))
    with pytest.raises(UserError, match=r"binary\.pbtxt:1: not UTF-8 text"):
        read_label_map(path)


def test_letters_written_as_bytes_and_other_encodings(tmp_path):
    """Protocol buffers write other scripts as octal bytes."""
    path = write(tmp_path, 'item { name: "caf\\303\\251 \\"x\\"" id: 1 }\r\n')
    assert read_label_map(path).names == ('caf\xe9 "x"',)
    path.write_bytes("\ufeffitem { name: 'a' id: 1 }\r".encode())
    assert read_label_map(path).names == ("a",)
    path.write_bytes("item { name: 'a' id: 1 }".encode("utf-16"))
    with pytest.raises(UserError, match="looks like UTF-16"):
        read_label_map(path)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12).filter(
                lambda name: name.strip() and is_plain(name)
            ),
            st.integers(1, 10**6),
        ),
        min_size=1,
        unique_by=(lambda pair: pair[0], lambda pair: pair[1]),
    ),
    st.booleans(),
)
def test_written_maps_come_back(tmp_path_factory, pairs, with_groups):
    names, ids = zip(*pairs, strict=True)
    label_map = LabelMap(names, ids, ("GROUP",) * len(ids) if with_groups else None)
    path = tmp_path_factory.mktemp("map") / "map.pbtxt"
    write_label_map(path, label_map)
    assert read_label_map(path) == label_map


@pytest.mark.real_data
def test_avas_own_maps(real_data, tmp_path):
    full = read_label_map(real_data / "ava" / "ava_action_list_v2.2.pbtxt")
    scored = read_label_map(real_data / "ava" / "ava_action_list_v2.2_for_activitynet_2019.pbtxt")
    assert (len(full), len(scored)) == (80, 60)
    by_id = dict(zip(full.ids, zip(full.names, full.groups, strict=True), strict=True))
    for name, class_id, group in zip(scored.names, scored.ids, scored.groups, strict=True):
        assert by_id[class_id] == (name, group)


def test_chosen_classes_keep_what_is_left_of_their_groups():
    label_map = LabelMap(
        ("sit", "stand", "run", "eat"),
        (11, 12, 10, 17),
        ("a", "a", "a", "b"),
        {"pose": (0, 1, 2), "hands": (3,)},
    )
    chosen = label_map.select([2, 0, 3])
    left = {"pose": (1, 0)}
    assert chosen == LabelMap(("run", "sit", "eat"), (10, 11, 17), ("a", "a", "b"), left)
    assert label_map.select([3]) == LabelMap(("eat",), (17,), ("b",))
