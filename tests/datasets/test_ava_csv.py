from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets import ava_csv_bulk, ava_csv_rows
from detection.datasets.ava_csv import (
    AvaRows,
    format_time,
    read_detections,
    read_ground_truth,
    read_keyframe_list,
    read_person_boxes,
    time_us_of,
    write_detections,
    write_ground_truth,
    write_keyframe_list,
    write_person_boxes,
)
from detection.datasets.ava_csv_rows import DETECTIONS, GROUND_TRUTH, PERSON_BOXES, parse_time_us
from detection.errors import UserError
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

GOOD = "-5KQ66BBWC4,0902,0.077,0.151,0.283,0.811,80,1\n"


def write(tmp_path, text: str | bytes, name: str = "rows.csv"):
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_ground_truth_row(tmp_path):
    rows = read_ground_truth(write(tmp_path, GOOD + GOOD.replace("0902", "903.5")))
    assert rows.video_names == ("-5KQ66BBWC4",)
    assert rows.time_us.tolist() == [902_000_000, 903_500_000]
    assert rows.boxes_01[0].tolist() == [0.077, 0.151, 0.283, 0.811]
    assert (rows.action_id[0], rows.person_id[0], rows.line.tolist()) == (80, 1, [1, 2])
    assert rows.score is None
    assert rows.keyframe(1) == Keyframe("-5KQ66BBWC4", 903.5)
    assert rows.warnings == ()


def test_two_column_rows_are_keyframes_without_people(tmp_path):
    rows = read_ground_truth(write(tmp_path, "b,1.25\n" + GOOD + "a,0902\na,0902\n"))
    assert len(rows) == 1
    assert rows.line.tolist() == [2]
    assert rows.keyframes() == [
        Keyframe("-5KQ66BBWC4", 902.0), Keyframe("a", 902.0), Keyframe("b", 1.25),
    ]  # fmt: skip
    alone = read_ground_truth(write(tmp_path, "a,0902\n"))
    assert (len(alone), alone.keyframes()) == (0, [Keyframe("a", 902.0)])


def test_person_boxes_have_empty_missing_or_real_labels(tmp_path):
    text = "".join(f"v,0902,0.036,0.098,0.550,0.979,{label},0.995518\n" for label in ("", -1, 12))
    rows = read_person_boxes(write(tmp_path, text))
    assert rows.action_id.tolist() == [-1, -1, 12]
    assert rows.score.tolist() == [0.995518] * 3


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        (("0.4", "85.2", "3"), ":2: score 85.2 looks like per cent; a probability from 0 to 1"),
        (("97", "85.2", "30"), r":1: score 97 looks like per cent.*\(3 of 3 scores are outside\)"),
        (("0.4", "6.5", "-2"), r":2: score 6.5 looks like a logit.*\(2 of 3 scores are outside\)"),
        (("0.4", "0.5", "-2"), ":3: score -2 looks like a logit; a probability from 0 to 1"),
        (("0.4", "1.4", "0.2"), ":2: score 1.4; a probability from 0 to 1 is required"),
        (("0.4", "3000", "0.2"), ":2: score 3000; a probability from 0 to 1 is required"),
        (("0", "1", "1.0000001"), None),
    ],
)
def test_scores_of_person_boxes_are_probabilities(tmp_path, scores, words):
    path = write(tmp_path, "".join(f"v,1,0.1,0.1,0.2,0.2,,{score}\n" for score in scores))
    if words is None:
        assert len(read_person_boxes(path)) == 3
        return
    with pytest.raises(UserError, match=words) as caught:
        read_person_boxes(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_person_boxes_are_in_the_frame(tmp_path):
    path = write(tmp_path, "v,1,0.1,0.1,0.2,0.2,,0.5\nv,1,1.2,0.1,1.4,0.2,,0.5\n")
    with pytest.raises(UserError, match=r":2: x1 = 1.2 is outside \[0, 1\]"):
        read_person_boxes(path)


def test_detections_with_tracks_and_odd_values(tmp_path):
    text = "v,1,0.1,0.1,0.2,0.2,3,0.5,7\nv,1,-0.2,0.1,1.2,0.2,3,1.5,8\n"
    rows = read_detections(write(tmp_path, text))
    assert rows.track_id.tolist() == [7, 8]
    assert len(rows.warnings) == 2
    assert "1 of 2 scores are outside [0, 1], the first in line 2: 1.5" in rows.warnings[0]
    assert "1 of 2 boxes reach outside the frame, the first in line 2" in rows.warnings[1]


@pytest.mark.parametrize(
    "scores, cause", [((97.5, 3), "per cent"), ((-2.5, 7), "logits"), ((0.5, 1.5), None)]
)
def test_scores_in_another_unit_are_told_with_their_likely_cause(tmp_path, scores, cause):
    text = "".join(f"v,1,0.1,0.1,0.2,0.2,3,{score}\n" for score in scores)
    (warning,) = read_detections(write(tmp_path, text)).warnings
    assert ("likely cause" in warning) == (cause is not None)
    assert cause is None or f"likely cause: {cause}, where" in warning


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n") * 3,
        "\ufeff" + GOOD * 3,
        (GOOD * 3).rstrip("\n"),
        GOOD + "\n" + GOOD + "\n\n" + GOOD,
        GOOD.replace("-5KQ66BBWC4", '"-5KQ66BBWC4"') * 3,
        GOOD.replace(",0.077", ", 0.077") * 3,
        GOOD.replace("0.077", "7.7e-2") * 3,
        GOOD.replace("0.077", ".077").replace("0902", "902.0") * 3,
        GOOD.replace("0.077", "0.07700000000000000000") * 3,
        GOOD.replace("0.077", "+0.077").replace(",1\n", ",1.0\n") * 3,
    ],
)
def test_spellings_of_the_same_rows(tmp_path, text):
    rows = read_ground_truth(write(tmp_path, text))
    assert rows.video_names == ("-5KQ66BBWC4",)
    assert rows.boxes_01.tolist() == [[0.077, 0.151, 0.283, 0.811]] * 3
    assert rows.time_us.tolist() == [902_000_000] * 3
    assert rows.person_id.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("v,0902,0.1,0.1,0.2,0.2", "expected 8 columns"),
        ("v,0902,0.1,0.1,0.2,0.2,1,1,1", "found 9"),
        ("v", "found 1"),
        ("v,0902,0.1,0.1,0.2,1.5,1,1", "y2 = 1.5 is outside [0, 1]"),
        ("v,0902,10,20,200,300,1,1", "pixels?"),
        ("v,0902,0.3,0.1,0.2,0.2,1,1", "inside out, x1 > x2"),
        ("v,0902,0.1,0.5,0.2,0.2,1,1", "inside out, y1 > y2"),
        ("v,0902,nan,0.1,0.2,0.2,1,1", "x1 must be a finite number, found 'nan'"),
        ("v,0902,0.1,inf,0.2,0.2,1,1", "y1 must be a finite number"),
        ("v,0902,0.1,0.1,0.2,abc,1,1", "y2 must be a number, found 'abc'"),
        ("v,0902,0.1,0.1,0.2,0.2,sit,1", "action_id must be a number, found 'sit'"),
        ("v,0902,0.1,0.1,0.2,0.2,1.5,1", "action_id must be a whole number, found '1.5'"),
        ("v,0902,0.1,0.1,0.2,0.2,-3,1", "action_id must be a whole number from 0"),
        ("v,soon,0.1,0.1,0.2,0.2,1,1", "time must be a number, found 'soon'"),
        ("v,-1,0.1,0.1,0.2,0.2,1,1", "time must be from 0"),
        ("v,1e300,0.1,0.1,0.2,0.2,1,1", "time must be from 0"),
        (",0902,0.1,0.1,0.2,0.2,1,1", "the video id is empty"),
    ],
)
def test_a_bad_row_is_named(tmp_path, bad, words):
    path = write(tmp_path, GOOD + GOOD + bad + "\n" + GOOD)
    with pytest.raises(UserError) as error:
        read_ground_truth(path)
    assert str(error.value).startswith(f"{path}:3: ")
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("v,0902,0.1,0.1,0.2,0.2,1,nan", "score must be a finite number, found 'nan'"),
        ("v,0902,0.1,0.1,0.2,0.2,1,inf", "score must be a finite number"),
        ("v,0902,0.1,0.1,0.2,0.2,1,", "score must be a number, found ''"),
        ("v,0902,0.1,0.1,0.2,0.2,,0.5", "action_id must be a number, found ''"),
        ("v,0902,0.1,0.1,0.2,0.2,1", "expected 8 or 9 columns"),
        ("v,0902,0.1,0.1,0.2,0.2,1,0.5,x", "track_id must be a number"),
    ],
)
def test_a_bad_detection_is_named(tmp_path, bad, words):
    path = write(tmp_path, "v,0902,0.1,0.1,0.2,0.2,1,0.5\n" + bad + "\n")
    with pytest.raises(UserError) as error:
        read_detections(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert words in str(error.value)


def test_ten_bad_rows_then_a_count(tmp_path):
    path = write(tmp_path, GOOD + "v,x\n" * 37)
    with pytest.raises(UserError) as error:
        read_ground_truth(path)
    message = str(error.value)
    assert message.count("time must be a number") == 10
    assert f"{path}:11: " in message and f"{path}:12: " not in message
    assert message.endswith("; and 27 more bad rows")
    assert "\n" not in message


@pytest.mark.parametrize("read", [read_ground_truth, read_detections, read_person_boxes])
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no rows"),
        (b"\n\n\n", "no rows"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", ":1: not UTF-8 text"),
        (b"v,0902,\xff\xfe,0.1,0.2,0.2,1,1\n", ":1: not UTF-8 text"),
        (b"v,0902\nv,0903,\0\n", ":2: a NUL byte"),
        ("v,0902\n".encode("utf-16"), ":1: not UTF-8 text, it looks like UTF-16"),
        ("v,0902\nv,0903\ncaf\xe9,0904\n".encode("latin-1"), ":3: not UTF-8 text"),
        (b"v;0902;0.1;0.1;0.2;0.2;1;1\n", "commas are required between columns, not semicolons"),
        (b"v\t0902\t0.1\t0.1\t0.2\t0.2\t1\t1\n", "commas are required .* not tabs"),
        (b'v,0902\n"v,0903\nv,0904\n', ":2: not a row of comma-separated values"),
        (b"x" * 300_000, "not a row of comma-separated values"),
    ],
)
def test_files_that_are_none(tmp_path, read, content, words):
    path = write(tmp_path, content)
    with pytest.raises(UserError, match=words) as error:
        read(path)
    assert str(path) in str(error.value)


def test_missing_files_and_pipes(tmp_path):
    with pytest.raises(UserError, match=r"none\.csv: table.* not found"):
        read_ground_truth(tmp_path / "none.csv")
    os.mkfifo(tmp_path / "pipe.csv")
    for read in (read_ground_truth, read_keyframe_list):
        with pytest.raises(UserError, match="no regular file"):
            read(tmp_path / "pipe.csv")


def test_blanks_around_ids_and_lone_returns_change_nothing(tmp_path):
    plain = read_ground_truth(write(tmp_path, GOOD * 2))
    for text in (GOOD.replace("-5KQ", " -5KQ").replace("C4,", "C4 ,") + GOOD, "\ufeff" + GOOD * 2):
        rows = read_ground_truth(write(tmp_path, text))
        assert rows.keyframes() == plain.keyframes()
    rows = read_ground_truth(write(tmp_path, (GOOD * 2).replace("\n", "\r").encode()))
    assert rows.keyframes() == plain.keyframes() and len(rows) == 2


@pytest.mark.parametrize(
    "video", ["\x1b[2J", "a\x7f", "a\u202eb", "..", "../a", "/a", "a//b", "a\\b", '"a\nb"']
)
def test_an_id_that_would_act_elsewhere_is_named_by_row(tmp_path, video):
    for text, read in (
        (GOOD + GOOD.replace("-5KQ66BBWC4", video), read_ground_truth),
        (f"v,0902\n{video},0903\n", read_keyframe_list),
    ):
        with pytest.raises(UserError, match=r"rows\.csv:[23]: .*cannot be a video id") as error:
            read(write(tmp_path, text))
        assert "\n" not in str(error.value) and "\x1b" not in str(error.value)
    folder = read_ground_truth(write(tmp_path, GOOD.replace("-5KQ66BBWC4", "Class/v_Class_g01")))
    assert folder.video_names == ("Class/v_Class_g01",)


@pytest.mark.parametrize("text", [str(2**63), "9" * 5000, "1e300", str(-(2**63) - 1)])
def test_a_number_too_large_for_an_id_is_named(tmp_path, text):
    for number in (text, str(2**63 - 1)):
        path = write(tmp_path, GOOD + GOOD.replace(",1\n", f",{number}\n"))
        if number == text:
            with pytest.raises(UserError, match=r"rows\.csv:2: person_id must be") as error:
                read_ground_truth(path)
            assert len(str(error.value)) < 400
        else:
            assert read_ground_truth(path).person_id.tolist() == [1, 2**63 - 1]


def test_keyframe_list(tmp_path):
    rows = read_keyframe_list(write(tmp_path, "b,0903\r\na,902.5\n\n"))
    assert rows == {Keyframe("b", 903.0), Keyframe("a", 902.5)}
    assert read_keyframe_list(write(tmp_path, "")) == frozenset()
    with pytest.raises(UserError, match=r":2: expected 2 columns"):
        read_keyframe_list(write(tmp_path, "a,1\na,1,2\n"))
    path = tmp_path / "again.csv"
    write_keyframe_list(path, rows)
    assert path.read_text() == "a,902.500000\nb,0903\n"


@pytest.mark.parametrize(
    ("time_s", "text"),
    [(902, "0902"), (902.0, "0902"), (0, "0000"), (1.5, "1.500000"), (12345.0, "12345"),
     (2 / 3, "0.666667"), (0.9999999, "0001")],
)  # fmt: skip
def test_times(time_s, text):
    assert format_time(time_s) == text
    assert time_us_of(float(text)) == time_us_of(time_s)


@settings(deadline=None, max_examples=300)
@given(
    st.one_of(
        st.floats(-1e9, 2e9),
        st.floats(-1e-5, 1e-5),
        st.floats(0, 3),
        st.sampled_from([-2.317689, 0.9999996, 0.99999949, 59.9999995, 1e9, -0.0, 5e-7, -5e-7]),
        st.floats(),
    )
)
def test_a_time_that_is_written_is_read_back_and_no_other_is_written(time_s):
    try:
        text = format_time(time_s)
    except UserError as error:
        assert not -4.9e-7 <= time_s <= 1e9 and "\n" not in str(error)
        return
    assert parse_time_us(text) == time_us_of(time_s)
    assert abs(float(text) - time_s) <= 5.1e-7 * max(1, abs(time_s) / 1e6)


def test_a_time_before_0_is_refused_by_every_writer(tmp_path):
    early = Keyframe("v", -2.317689)
    rows = AvaRows.from_rows([early], boxes_01=[[0, 0, 1, 1]], action_id=[1])
    empty = AvaRows.from_rows([], boxes_01=[], action_id=[], empty_keyframes=[early])
    boxes = ActorBoxes(np.array([[0, 0, 1, 1]], np.float32), np.ones(1, np.float32))
    found = Detections(early, boxes, np.ones((1, 1), np.float32))
    for write_it in (
        lambda path: write_ground_truth(path, rows),
        lambda path: write_ground_truth(path, empty),
        lambda path: write_detections(path, [found], LabelMap(("a",), (1,))),
        lambda path: write_person_boxes(path, [(early, boxes)]),
        lambda path: write_keyframe_list(path, [early]),
    ):
        with pytest.raises(UserError, match="time -2.317689 s cannot be written"):
            write_it(tmp_path / "t.csv")
    assert not list(tmp_path.iterdir())


# --- the two readers agree ------------------------------------------------------------------


NUMBER = st.one_of(
    st.floats(0, 1).map(repr),
    st.floats(0, 1, width=32).map(lambda v: f"{v:.6g}"),
    st.integers(0, 1000).map(lambda v: f"{v / 1000:.3f}"),
    st.sampled_from(["0", "1", "1.0", ".5", "0.", "1e-05", "0.000000", "0.1234567890123456789"]),
)
VIDEO = st.sampled_from(["v", "-5KQ66BBWC4", "a.b", "a video of a long name, no", "ü", "v "]).map(
    lambda name: name.replace(",", ";")
)
TIME = st.one_of(
    st.integers(0, 10**6).map(lambda v: f"{v:04d}"),
    st.floats(0, 10**6).map(repr),
    st.sampled_from(["902.000000", "1.0000005", "1.00000049999", "902.", "12345678.123456"]),
)
ID = st.sampled_from(["0", "1", "12", "0080", "2147483647"])


@st.composite
def row_text(draw, last):
    corners = sorted(draw(st.tuples(NUMBER, NUMBER)), key=float)
    others = sorted(draw(st.tuples(NUMBER, NUMBER)), key=float)
    box = [corners[0], others[0], corners[1], others[1]]
    if last is None:
        return ",".join([draw(VIDEO), draw(TIME)])
    return ",".join([draw(VIDEO), draw(TIME), *box, draw(ID), draw(last)])


def same(first, second):
    for name in vars(first):
        one, other = getattr(first, name), getattr(second, name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, name
            assert one.shape == other.shape, name
            assert one.tobytes() == other.tobytes(), name
        else:
            assert one == other, name


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_both_readers_give_the_same_bits(tmp_path_factory, data):
    form, last = data.draw(
        st.sampled_from([(GROUND_TRUTH, ID), (DETECTIONS, NUMBER), (PERSON_BOXES, NUMBER)])
    )
    rows = data.draw(st.lists(st.one_of(row_text(last), row_text(None)), min_size=1, max_size=12))
    times = data.draw(st.integers(1, 3))
    end = data.draw(st.sampled_from(["\n", "\r\n"]))
    text = "".join((row + end) * times for row in rows)
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_bytes(text.encode())
    bulk = ava_csv_bulk.read_rows_bulk(path, form)
    assert bulk is not None
    same(bulk, ava_csv_rows.read_rows(path, form))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_file_is_never_read_differently(tmp_path_factory, data):
    form, last = data.draw(st.sampled_from([(GROUND_TRUTH, ID), (DETECTIONS, NUMBER)]))
    rows = data.draw(st.lists(row_text(last), min_size=1, max_size=6))
    content = bytearray("".join(row + "\n" for row in rows).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at : at + data.draw(st.integers(0, 2))] = data.draw(
            st.sampled_from([b",", b"\n", b"-", b".", b" ", b"e", b'"', b"\r", b"\xff", b"", b"7"])
        )
        if not content:
            return
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_bytes(bytes(content))
    try:
        required = ava_csv_rows.read_rows(path, form)
    except UserError:
        assert ava_csv_bulk.read_rows_bulk(path, form) is None
        return
    bulk = ava_csv_bulk.read_rows_bulk(path, form)
    if bulk is not None:
        same(bulk, required)


def test_rows_that_cross_the_border_of_a_chunk(tmp_path, monkeypatch):
    text = "".join(
        f"video{i % 7},{i:04d},0.{i:03d},0.1,0.9,0.{i + 200:04d},{i},0.{i:06d}\n"
        for i in range(300)
    )
    path = write(tmp_path, text)
    whole = ava_csv_bulk.read_rows_bulk(path, DETECTIONS)
    monkeypatch.setattr("detection.formats.csv_words.CHUNK_BYTES", 101)
    same(ava_csv_bulk.read_rows_bulk(path, DETECTIONS), whole)


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_bad_rows_among_many_are_looked_for_in_their_chunks_alone(tmp_path, monkeypatch, end):
    rows = [f"v{i % 7},{i:04d},0.{i:03d},0.1,0.9,0.9,{i},{i}" for i in range(600)]
    rows[560] = ""
    rows[50], rows[550], rows[599] = "v,soon,0,0,1,1,1,1", "v,1,0,0,1,7,1,1", "v,1"
    rows[551] = "v,1,0.5,0,0.1,1,1,1"
    path = write(tmp_path, "\ufeff" + end.join(rows) + end)
    with pytest.raises(UserError) as slow:
        ava_csv_rows.read_rows(path, GROUND_TRUTH)
    assert ":51: " in str(slow.value) and ":551: " in str(slow.value)
    read = []
    real = ava_csv_bulk.note_bad_rows

    def noted(path, lines, *rest, **named):
        lines = list(lines)
        read.extend(lines)
        real(path, lines, *rest, **named)

    monkeypatch.setattr("detection.formats.csv_words.CHUNK_BYTES", 1000)
    monkeypatch.setattr(ava_csv_bulk, "note_bad_rows", noted)
    with pytest.raises(UserError) as quick:
        read_ground_truth(path)
    assert str(quick.value) == str(slow.value)
    assert 0 < len(read) < 150
    # Where no row is bad, all are read one by one after all; so where a quote may hold line ends.
    for line, words in ((50, "v,1e1,0,0,1,1,1,1"), (50, '"v",1,0,0,1,1,1,1')):
        good = [row for i, row in enumerate(rows) if i not in (550, 551, 560)]
        good[line] = words
        assert len(read_ground_truth(write(tmp_path, end.join(good) + end))) == 596


# --- writing ---------------------------------------------------------------------------------


def test_written_ground_truth_comes_back(tmp_path):
    rows = AvaRows.from_rows(
        [Keyframe("a, b", 1.5), Keyframe('say "x"', 902)],
        boxes_01=[[0.1, 1 / 3, 0.5, 1.0], [0, 0, 1e-5, 1]],
        action_id=[3, -1],
        person_id=[0, 1],
        empty_keyframes=[Keyframe("c", 3.0)],
    )
    path = tmp_path / "gt.csv"
    write_ground_truth(path, rows)
    again = read_ground_truth(path)
    assert again.boxes_01.tolist() == rows.boxes_01.tolist()
    assert again.action_id.tolist() == [3, -1]
    assert again.person_id.tolist() == [0, 1]
    assert again.keyframes() == rows.keyframes()
    assert path.read_text().splitlines()[-1] == "c,0003"


def test_written_detections_have_the_same_float32(tmp_path):
    rng = np.random.default_rng(0)
    scores = (10.0 ** rng.uniform(-9, 0, (3, 4))).astype(np.float32)
    boxes = np.sort(rng.random((3, 2, 2)).astype(np.float32), axis=1).reshape(3, 4)
    found = Detections(Keyframe("v", 2.5), ActorBoxes(boxes, np.full(3, 0.5, np.float32)), scores)
    no_person = Detections(Keyframe("v", 3), ActorBoxes.empty(), np.zeros((0, 4), np.float32))
    label_map = LabelMap(("a", "b", "c", "d"), (4, 3, 2, 1))
    path = tmp_path / "det.csv"
    write_detections(path, [found, no_person], label_map)
    rows = read_detections(path)
    assert rows.score.astype(np.float32).reshape(3, 4).tolist() == scores.tolist()
    assert rows.boxes_01[::4].astype(np.float32).tolist() == boxes.tolist()
    assert rows.action_id[:4].tolist() == [4, 3, 2, 1]
    write_detections(path, [found], label_map, multiply_person_score=True)
    halved = read_detections(path).score.astype(np.float32).reshape(3, 4)
    assert halved.tolist() == (scores * np.float32(0.5)).tolist()
    with pytest.raises(ValueError, match="4 score columns, 1 classes"):
        write_detections(path, [found], LabelMap(("a",), (1,)))


def test_a_failed_write_leaves_what_was_there(tmp_path):
    path = write(tmp_path, "old\n", "det.csv")

    def broken():
        yield Detections(Keyframe("v", 1), ActorBoxes.empty(), np.zeros((0, 1), np.float32))
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_detections(path, broken(), LabelMap(("a",), (1,)))
    assert path.read_text() == "old\n"
    assert list(tmp_path.iterdir()) == [path]


def test_written_person_boxes_come_back(tmp_path):
    boxes = ActorBoxes(np.array([[0.1, 0.2, 0.3, 0.4]], np.float32), np.array([0.9], np.float32))
    path = tmp_path / "boxes.csv"
    write_person_boxes(
        path, [(Keyframe("v", 902), boxes), (Keyframe("v", 903), ActorBoxes.empty())]
    )
    assert path.read_text() == "v,0902,0.1,0.2,0.3,0.4,,0.9\n"
    assert read_person_boxes(path).score.tolist() == [0.9]


def test_select_and_empty_rows():
    rows = AvaRows.from_rows([], boxes_01=[], action_id=[])
    assert (len(rows), rows.keyframes()) == (0, [])
    rows = AvaRows.from_rows(
        [Keyframe("a", 1), Keyframe("b", 2)], boxes_01=np.zeros((2, 4)), action_id=[1, 2],
        score=[0.1, 0.2],
    )  # fmt: skip
    chosen = rows.select(np.array([False, True]))
    assert chosen.keyframes() == [Keyframe("b", 2.0)]
    assert chosen.score.tolist() == [0.2]
    with pytest.raises(ValueError, match="score has 1 rows, video_index 2"):
        AvaRows.from_rows(
            [Keyframe("a", 1)] * 2, boxes_01=np.zeros((2, 4)), action_id=[1, 2], score=[0.1]
        )


@pytest.mark.real_data
def test_real_labels(real_data):
    rows = read_ground_truth(real_data / "ava" / "ava_sub6_val_v2.2.csv")
    assert (len(rows), len(rows.video_names)) == (26_129, 6)
    boxes = {(rows.keyframe(i), *box) for i, box in enumerate(rows.boxes_01.tolist())}
    assert len(boxes) == 9_854
    same(
        ava_csv_bulk.read_rows_bulk(real_data / "ava" / "ava_sub23_train_v2.2.csv", GROUND_TRUTH),
        ava_csv_rows.read_rows(real_data / "ava" / "ava_sub23_train_v2.2.csv", GROUND_TRUTH),
    )
