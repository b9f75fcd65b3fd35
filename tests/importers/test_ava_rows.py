"""AVA's own rows with a label map become a data set of the same rows."""

import pytest
from made_labels import imported, rows_of, write_labelled

from ava_tools import import_dataset
from detection.errors import UserError

ROWS = [
    "a,0001,0.077,0.151,0.283,0.811,3,1",
    "a,0001,0.077,0.151,0.283,0.811,17,1",
    "a,0001,0.5,0.151,0.9,0.811,24,0",
    "a,0004",
    "b,2.033333,0.1,0.2,0.3,0.9,,0",
    "b,0003,0.333333,0.1,0.999,0.9,31,5",
]
LINES = "3: stand\n10: sit\n17: talk to\n24: wave\n31: läuft 走\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return write_labelled(tmp_path_factory.mktemp("made") / "set", ROWS)


def write(folder, name, rows):
    (folder / name).write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    return folder / name


@pytest.fixture
def names(tmp_path):
    return write(tmp_path, "map.txt", [LINES])


def test_rows_stay_as_they_are(made, tmp_path, names):
    source = write(tmp_path, "r.csv", ROWS)
    rows = imported("ava", source, made, tmp_path / "out", "--label-map", names)
    assert rows == sorted(ROWS)
    assert "17" in (tmp_path / "out" / "annotations" / "label_map.pbtxt").read_text()


def test_rows_of_seven_columns_have_no_persons(made, tmp_path, names):
    source = write(tmp_path, "r.csv", ["a,1,0.1,0.1,0.2,0.2,3", "a,1,0.1,0.1,0.2,0.2,17"])
    rows = imported("ava", source, made, tmp_path / "out", "--label-map", names)
    assert rows == ["a,0001,0.1,0.1,0.2,0.2,17", "a,0001,0.1,0.1,0.2,0.2,3"]


def line(made, tmp_path, names, source, *more):
    words = ["ava", "--source", source, "--videos", made / "videos", "--out", tmp_path / "out"]
    labels = ["--label-map", names] if names else []
    return [str(word) for word in [*words, *labels, *more]]


def test_val_may_be_a_file_of_its_own(made, tmp_path, names):
    train, val = write(tmp_path, "t.csv", ROWS[:4]), write(tmp_path, "v.csv", ROWS[4:])
    assert import_dataset.main(line(made, tmp_path, names, train, "--val-source", val)) == 0
    assert rows_of(tmp_path / "out/annotations/train.csv") == sorted(ROWS[:4])
    assert rows_of(tmp_path / "out/annotations/val.csv") == sorted(ROWS[4:])


def test_unknown_actions_and_missing_videos_stop_or_are_counted(made, tmp_path, names, capsys):
    source = write(tmp_path, "r.csv", [*ROWS, "a,2,0.1,0.1,0.2,0.2,80,4", "c,1,0,0,1,1,3,1"])
    with pytest.raises(UserError, match=r"video 'c' not found in .*; .*r\.csv:7: action 80 is not"):
        import_dataset.main(line(made, tmp_path, names, source))
    more = "--skip-unknown-labels", "--leave-out-missing", "--val-share", "0"
    assert import_dataset.main(line(made, tmp_path, names, source, *more)) == 0
    printed = capsys.readouterr().out
    assert "1 rows of actions that are not in" in printed and "1 videos that are not in" in printed
    rows = rows_of(tmp_path / "out/annotations/train.csv")
    assert rows == sorted([*ROWS, "a,0002,0.1,0.1,0.2,0.2,,4"])


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (["video,time,x1,y1,x2,y2,action,person"], r"r\.csv:1: "),
        (["../a,1,0.1,0.1,0.2,0.2,3,1"], r"r\.csv:1: .*a path that leads away"),
        (["a,nan,0.1,0.1,0.2,0.2,3,1"], r"r\.csv:1: "),
        (["a,1,0.1,0.1,0.2,2,3,1"], r"r\.csv:1: "),
        (["a\x1b,1,0.1,0.1,0.2,0.2,3,1"], r"r\.csv:1: "),
        (["a,99,0.1,0.1,0.2,0.2,3,1"], r"r\.csv:1: a\.mp4: time 99 s"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(made, tmp_path, names, rows, said):
    with pytest.raises(UserError, match=said):
        import_dataset.main(
            line(made, tmp_path, names, write(tmp_path, "r.csv", rows), "--val-share", "0")
        )


def test_a_label_map_is_required_and_a_video_is_in_one_split(made, tmp_path, names):
    source = write(tmp_path, "r.csv", ROWS)
    with pytest.raises(UserError, match="--label-map FILE is required"):
        import_dataset.main(line(made, tmp_path, None, source))
    with pytest.raises(UserError, match="video 'a' is in train and in val"):
        import_dataset.main(line(made, tmp_path, names, source, "--val-source", source))
