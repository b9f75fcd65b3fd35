from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detection.datasets.actor_table import (
    build_actor_table,
    read_actor_table,
    read_ground_truth_rows,
)
from detection.datasets.ava_csv import AvaRows, read_ground_truth
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart, write_dataset_file
from detection.datasets.label_map import write_label_map
from detection.errors import UserError
from detection.structures import Keyframe, LabelMap

LABELS = LabelMap(("sit", "walk", "talk"), (11, 14, 79))


def rows_of(text, tmp_path, name="rows.csv"):
    path = tmp_path / name
    path.write_text(text)
    return read_ground_truth(path)


def test_rows_become_keyframes_boxes_and_labels(tmp_path):
    rows = rows_of(
        "b,0902,0.1,0.1,0.5,0.9,79,0\n"
        "a,0903.5,0.2,0.2,0.3,0.3,14,1\n"
        "b,0902,0.6,0.1,0.9,0.9,14,1\n"
        "b,0902,0.1,0.1,0.5,0.9,11,0\n",
        tmp_path,
    )
    table = build_actor_table(rows, LABELS)
    assert table.keyframes() == [Keyframe("a", 903.5), Keyframe("b", 902.0)]
    assert table.num_actors == 3
    # Within a keyframe the order of the file.
    np.testing.assert_allclose(table.boxes(1).xyxy_01, [[0.1, 0.1, 0.5, 0.9], [0.6, 0.1, 0.9, 0.9]])
    assert table.labels(1).tolist() == [[1, 0, 1], [0, 1, 0]]
    assert table.labels(0).tolist() == [[0, 1, 0]]
    assert table.label_counts().tolist() == [1, 2, 1]
    assert table.boxes(1).score.tolist() == [1, 1]
    assert str(table.row_error(0, "no")) == f"{tmp_path / 'rows.csv'}:2: no"


def test_actors_of_several_actions_are_named_where_one_is_required(tmp_path):
    rows = rows_of("a,1,0.1,0.1,0.5,0.9,11,0\na,2,0.1,0.1,0.5,0.9,11,0\n", tmp_path)
    build_actor_table(rows, LABELS).check_one_label(why="x")
    again = "a,1,0.1,0.1,0.5,0.9,11,0\na,2,0.1,0.1,0.5,0.9,11,0\na,2,0.1,0.1,0.5,0.9,14,0\n"
    table = build_actor_table(rows_of(again, tmp_path), LABELS)
    with pytest.raises(
        UserError, match="csv:2: 1 boxes have more than one action.* x requires one"
    ):
        table.check_one_label(why="x")
    no_person = build_actor_table(rows_of("a,0902\n", tmp_path), LABELS, keep_empty=True)
    no_person.check_one_label(why="x")


def test_people_close_to_each_other_stay_two(tmp_path):
    """Grouping by rounded numbers makes one of them."""
    rows = rows_of(
        "a,0902,0.100,0.1,0.5,0.9,11,0\na,0902,0.101,0.1,0.5,0.9,14,1\n"
        "a,0903,0.1,0.1,0.5,0.9,11,0\na,0903,0.1,0.1,0.5,0.9,14,1\n",
        tmp_path,
    )
    table = build_actor_table(rows, LABELS)
    assert [len(table.boxes(i)) for i in range(2)] == [2, 2]
    assert table.labels(1).tolist() == [[1, 0, 0], [0, 1, 0]]  # same box, two person ids


box_numbers = st.sampled_from([0.0, 0.1, 0.1004, 0.2])
row_values = st.tuples(
    st.sampled_from("ab"),
    st.sampled_from([1.0, 1.000001, 2.5]),
    box_numbers,
    box_numbers,
    st.sampled_from([11, 14, 79]),
    st.integers(0, 1),
)


@settings(deadline=None, max_examples=150)
@given(st.lists(row_values, max_size=25))
def test_grouping_equals_a_dictionary(values):
    boxes = [(x, y, x + 0.5, y + 0.5) for _, _, x, y, _, _ in values]
    rows = AvaRows.from_rows(
        [Keyframe(video, time_s) for video, time_s, *_ in values],
        boxes_01=boxes,
        action_id=[value[4] for value in values],
        person_id=[value[5] for value in values],
    )
    expected = defaultdict(lambda: defaultdict(set))
    for (video, time_s, _, _, action, person), box in zip(values, boxes, strict=True):
        expected[Keyframe(video, time_s)][box, person].add(action)
    table = build_actor_table(rows, LABELS)
    assert table.keyframes() == sorted(expected)
    for position, keyframe in enumerate(table.keyframes()):
        actors = expected[keyframe]
        found = table.boxes(position).xyxy_01
        np.testing.assert_allclose(found, np.array([box for box, _ in actors], np.float32))
        labels = [[float(i in actions) for i in LABELS.ids] for actions in actors.values()]
        assert table.labels(position).tolist() == labels


def test_an_unknown_action_is_an_error_with_file_and_line(tmp_path):
    rows = rows_of("a,0902,0.1,0.1,0.5,0.9,11,0\na,0902,0.1,0.1,0.5,0.9,12,0\n", tmp_path)
    with pytest.raises(UserError, match=r"rows\.csv:2: action id 12 is not in the label map"):
        build_actor_table(rows, LABELS)


def test_unknown_actions_can_be_skipped_and_are_counted(tmp_path):
    rows = rows_of(
        "a,0902,0.1,0.1,0.5,0.9,11,0\na,0902,0.1,0.1,0.5,0.9,12,0\na,0902,0.2,0.1,0.5,0.9,13,1\n",
        tmp_path,
    )
    table = build_actor_table(rows, LABELS, skip_unknown_labels=True)
    assert table.skipped_labels == 2
    # The person is there and does none of the classes.
    assert table.labels(0).tolist() == [[1, 0, 0], [0, 0, 0]]


def test_excluded_keyframes_and_unlisted_videos_are_left_out(tmp_path):
    rows = rows_of(
        "".join(f"{v},{t},0.1,0.1,0.5,0.9,11,0\n" for v in "abc" for t in ("0902", "0903")),
        tmp_path,
    )
    table = build_actor_table(
        rows, LABELS, excluded={Keyframe("a", 902.0), Keyframe("z", 902.0)}, videos={"a", "c"}
    )
    assert table.keyframes() == [Keyframe("a", 903), Keyframe("c", 902), Keyframe("c", 903)]


def test_keyframes_without_people(tmp_path):
    rows = rows_of("a,0902,0.1,0.1,0.5,0.9,11,0\na,0901\nb,0905.25\nb,0906\n", tmp_path)
    assert build_actor_table(rows, LABELS).keyframes() == [Keyframe("a", 902)]
    table = build_actor_table(rows, LABELS, keep_empty=True, excluded={Keyframe("b", 906)})
    assert table.keyframes() == [Keyframe("a", 901), Keyframe("a", 902), Keyframe("b", 905.25)]
    assert [len(table.boxes(i)) for i in range(3)] == [0, 1, 0]
    assert table.labels(0).shape == (0, 3)
    assert "rows.csv: no" in str(table.row_error(0, "no"))


def test_nothing_at_all():
    rows = AvaRows.from_rows([], boxes_01=[], action_id=[])
    table = build_actor_table(rows, LABELS, keep_empty=True)
    assert len(table) == 0 and table.num_actors == 0 and table.keyframes() == []


@pytest.fixture
def folder(tmp_path):
    annotations = tmp_path / "annotations"
    annotations.mkdir()
    write_label_map(annotations / "label_map.pbtxt", LABELS)
    (annotations / "val.csv").write_text("a,0902,0.1,0.1,0.5,0.9,11,0\nb,0902,0,0,1,1,14,0\n")
    (annotations / "excluded.csv").write_text("b,0902\n")
    (annotations / "videos.txt").write_text("a.mkv\n\nb\n")
    (annotations / "boxes.csv").write_text(
        "a,0902,0.1,0.1,0.5,0.9,,0.95\na,0902,0.2,0.1,0.5,0.9,-1,0.5\n"
        "a,0903,0.2,0.1,0.5,0.9,,0.8\nb,0902,0.2,0.1,0.5,0.9,,1\n"
    )
    split = SplitPart(
        annotations="annotations/val.csv",
        exclusions="annotations/excluded.csv",
        videos="annotations/videos.txt",
        boxes={"found": "annotations/boxes.csv"},
    )
    write_dataset_file(tmp_path, DatasetFile(name="x", videos="videos", splits={"val": split}))
    return DatasetFolder.open(tmp_path)


def test_a_split_with_its_own_boxes(folder):
    table = read_actor_table(folder, "val", folder.read_label_map())
    assert table.keyframes() == [Keyframe("a", 902)]


def test_a_split_is_scored_against_its_own_videos(folder):
    (folder.root / "annotations" / "val.csv").write_text(
        "a,0902,0.1,0.1,0.5,0.9,11,0\nz,0902,0,0,1,1,14,0\nz,0903\nb,0903\n"
    )
    rows = read_ground_truth_rows(folder.split("val"))
    assert rows.keyframes() == [Keyframe("a", 902), Keyframe("b", 903)]


def test_a_split_with_found_boxes(folder):
    """All keyframes of the box file, ground truth or not; a score at the threshold stays."""
    table = read_actor_table(folder, "val", LABELS, boxes="found", score_threshold=0.8)
    assert table.keyframes() == [Keyframe("a", 902), Keyframe("a", 903)]
    assert table.boxes(0).score.tolist() == pytest.approx([0.95])
    assert table.labels(0).tolist() == [[0, 0, 0]]


def test_a_split_where_no_person_is_left(folder):
    (folder.root / "annotations" / "videos.txt").write_text("z\n")
    with pytest.raises(UserError, match=r"val\.csv: no keyframe with persons"):
        read_actor_table(folder, "val", LABELS)
    (folder.root / "annotations" / "videos.txt").write_text("\n")
    with pytest.raises(UserError, match=r"videos\.txt: contains no video id"):
        read_actor_table(folder, "val", LABELS)


@pytest.mark.real_data
def test_real_ava_rows_give_as_many_people_as_published(real_data):
    rows = read_ground_truth(real_data / "ava" / "ava_sub6_val_v2.2.csv")
    from detection.datasets.label_map import read_label_map

    label_map = read_label_map(real_data / "ava" / "ava_action_list_v2.2.pbtxt")
    table = build_actor_table(rows, label_map)
    assert table.num_actors == 9854 and table.label_counts().sum() == 26129
