"""Label files: what is written is read, whatever else is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.label_file import (
    LabelFile,
    LabelledPerson,
    LabelledVideo,
    join_label_files,
    read_label_file,
    write_label_file,
)
from detection.errors import UserError
from detection.structures import LabelMap

CLASSES = LabelMap(("stand", "sit", "wave"), (1, 2, 5), None, {"pose": (0, 1)})


def person(number=3, labels=(1, 0, 1), time=1_000_000, box=(0.1, 0.2, 0.5, 0.6)):
    return LabelledPerson(
        number, np.array([time]), np.array([box], float), np.array([labels], bool)
    )


def file(path="a.json", who="a", people=(), nobody=(), undecided=1, name="walk"):
    times = np.array([1_000_000, 2_000_000])
    video = LabelledVideo(name, times, np.array([undecided, 0]), tuple(people), tuple(nobody))
    return LabelFile(str(path), "ab", who, "2026-11-29T05:00:00Z", "t", CLASSES, (video,))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.just(0)),
            st.tuples(*[st.floats(0, 0.5)] * 2, *[st.floats(0.5, 1)] * 2),
            st.sampled_from([(0, 0, 0), (1, 0, 1), (0, 1, 0)]),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(tmp_path_factory, drawn):
    people = [
        person(number if i is None else i, labels, box=box)
        for number, (i, box, labels) in enumerate(drawn, start=1)
    ][:1] + [person(None, labels, box=box) for _, box, labels in drawn[1:]]
    path = tmp_path_factory.mktemp("w") / "labels.json"
    write_label_file(path, file(people=people))
    found = read_label_file(path).videos[0]
    assert [p.person_id for p in found.people] == [p.person_id for p in people]
    for one, other in zip(found.people, people, strict=True):
        assert np.array_equal(one.boxes_01, other.boxes_01)
        assert np.array_equal(one.labels, other.labels)
        assert np.array_equal(one.times_us, other.times_us)


def test_a_file_that_ends_anywhere_is_refused_and_one_without_videos_is_read(tmp_path):
    path = tmp_path / "labels.json"
    write_label_file(path, file(people=[person()]))
    whole = path.read_bytes().rstrip()
    for end in range(len(whole)):
        path.write_bytes(whole[:end])
        with pytest.raises(UserError, match="labels.json"):
            read_label_file(path)
    write_label_file(path, replace(file(), videos=()))
    assert read_label_file(path).videos == ()


def change(*keys, value):
    def apply(values):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = value

    return apply


FIRST = ("videos", 0, "people", 0)


@pytest.mark.parametrize(
    ("apply", "said"),
    [
        (change("format", value="x"), "no label file"),
        (change("version", value=2), "version 2; version 1 is required"),
        (change("more", value=2), "unknown key 'more'"),
        (lambda values: values.pop("title"), "key 'title' is missing"),
        (change("exported", value="now"), "exported: a time such as"),
        (change("classes", 1, "name", value="stand"), "class 'stand' is there twice"),
        (change("classes", 1, "id", value=1), "class 1 is there twice"),
        (change("exclusive", "pose", value=["stand", "x"]), "'x' is no class"),
        (change("videos", 0, "id", value="a/b"), "would be a path"),
        (change("videos", 0, "keyframes", value=[2, 2]), r"keyframes\[1\]: must be more"),
        (change("videos", 0, "undecided", value=[1]), "1 numbers for 2 keyframes"),
        (change(*FIRST, "k", value=[2]), "whole number from 0 to 1"),
        (change(*FIRST, "k", value=[True]), "whole number from 0 to 1"),
        (change(*FIRST, "b", value=[0.1, 0.2, 1.5, 0.6]), r"x2 = 1.5 is outside"),
        (change(*FIRST, "b", value=[0.5, 0.2, 0.1, 0.6]), "inside out"),
        (change(*FIRST, "b", value=[0.5, 0.2, 0.1]), "3 numbers for 1 keyframes"),
        (change(*FIRST, "b", 0, value=float("nan")), "finite"),
        (change(*FIRST, "l", value=[[3]]), "class 3 is not in 'classes'"),
        (change(*FIRST, "l", value=[[1, 2]]), "'stand' and 'sit' of 'pose' exclude each other"),
        (change("people_count", value=2), "2 stated, 1 found"),
        (change("videos_count", value=2), "2 stated, 1 found"),
    ],
)
def test_each_fault_is_named(tmp_path, apply, said):
    path = tmp_path / "labels.json"
    write_label_file(path, file(people=[person()]))
    values = json.loads(path.read_text())
    apply(values)
    path.write_text(json.dumps(values))
    with pytest.raises(UserError, match=said):
        read_label_file(path)


def test_the_csv_of_an_older_page(tmp_path):
    (tmp_path / "c.csv").write_text("a,0001,0.1,0.1,0.5,0.5,11,1\n")
    with pytest.raises(UserError, match="make the page again"):
        read_label_file(tmp_path / "c.csv")


def test_the_last_export_of_one_annotator_counts():
    early = file("a.json", people=[person()])
    late = replace(
        file("b.json", people=[person(labels=(0, 1, 0))]), exported="2026-11-30T05:00:00Z"
    )
    joined = join_label_files([late, early])
    assert joined.paths == ("b.json",) and "a.json: passed over" in joined.notes[0]
    assert joined.videos[0].people[0].labels.tolist() == [[False, True, False]]


def test_annotators_who_agree_and_who_disagree():
    one = file("a.json", people=[person()])
    same = file("b.json", "b", people=[person(), person(4, box=(0, 0, 0.1, 0.1))], undecided=0)
    joined = join_label_files([one, same])
    assert [p.person_id for p in joined.videos[0].people] == [4, 3]
    assert joined.videos[0].undecided.tolist() == [0, 0]
    other = file("c.json", "c", people=[person(labels=(0, 1, 0))])
    said = (
        r"1 disagreement .*'walk' at 1.000 s, person 3 .*'stand', 'wave' in a.json, 'sit' in c.json"
    )
    with pytest.raises(UserError, match=said):
        join_label_files([one, other])
    with pytest.raises(UserError, match="nobody in d.json"):
        join_label_files([one, file("d.json", "d", nobody=[person(labels=(0, 0, 0))])])
    joined = join_label_files([one, other], prefer="c.json")
    assert joined.videos[0].people[0].labels.tolist() == [[False, True, False]]
    assert "decided by c.json" in joined.notes[0]
    with pytest.raises(UserError, match="no box there in e.json"):  # all is decided there
        join_label_files([one, file("e.json", "e", undecided=0)])
    with pytest.raises(UserError, match="not one of the files"):
        join_label_files([one], prefer="x.json")


def test_files_of_other_classes_and_none():
    other = replace(file("b.json"), classes=LabelMap(("stand", "sit", "run"), (1, 2, 5)))
    with pytest.raises(UserError, match=r"b.json: class 'run' \(5\) is not in a.json"):
        join_label_files([file(), other])
    with pytest.raises(UserError, match="at least one"):
        join_label_files([])
