"""Every kind of finding is found with its line, and a clean data set has none."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import make_dataset

from ava_tools import check as command
from detection.checks.dataset import check_dataset, keyframes_to_show
from detection.checks.findings import Findings
from detection.checks.rows import check_rows, group
from detection.datasets.ava_csv import AvaRows
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.structures import Keyframe, LabelMap


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "tiny", train=3, val=2)


@pytest.fixture
def root(original, tmp_path):
    shutil.copytree(original, tmp_path / "tiny")
    return tmp_path / "tiny"


def checked(root, **options):
    return check_dataset(DatasetFolder.open(root), **options)


def kinds(check):
    return {kind: times for (kind, _), times in check.findings.counts.items()}


def add_rows(root, *rows, split="train"):
    path = root / "annotations" / f"{split}.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, *rows]) + "\n")
    return len(lines) + 1


def only(check, kind):
    (finding,) = [f for f in check.findings.kept if f.kind == kind]
    return finding


def test_a_clean_data_set_has_nothing_but_statistics(root):
    check = checked(root)
    assert check.ok and kinds(check) == {}
    stats = check.statistics["train"]
    assert (stats.num_videos, stats.num_keyframes, stats.num_boxes, stats.num_rows) == (3, 6, 6, 12)
    assert stats.people_per_keyframe == {1: 6} and stats.without_action == 0
    assert stats.boxes_per_class == {"be red": 4, "be blue": 2, "be here": 6}
    assert len(stats.height_quantiles) == 5 and 0 < stats.height_quantiles[2] < 1


@pytest.mark.parametrize(
    "row, kind, level, message",
    [
        ("train_0,1,.5,.1,1.4,.9,3", "box outside the frame", "error", "1.4"),
        ("train_0,1,50,10,90,90,3", "box outside the frame", "error", "pixels?"),
        ("train_0,1,.5,.1,.5,.9,3", "box without area", "error", "no area"),
        ("train_0,1,.5,.1,.4,.9,3", "box without area", "error", "inside out"),
        ("train_0,1,.5,.1,.6,.9,4", "unknown class", "error", "action id 4"),
        ("train_0,77,.5,.1,.6,.9,3", "time outside the video", "error", "shows 0.000 to 3.0"),
        ("train_0,soon,.5,.1,.6,.9,3", "unreadable row", "error", "time must be a number"),
        ("train_0,1,.5", "unreadable row", "error", "found 3"),
        ("gone,1,.5,.1,.6,.9,3", "video", "error", "video file not found"),
        ("val_0,1,.5,.1,.6,.9,3", "split leak", "error", "in split train and in split val"),
        ("Train 0,1,.5,.1,.6,.9,3", "ids nearly the same", "warning", "differ in case or marks"),
    ],
)
def test_a_bad_row_is_named_by_file_and_line(root, row, kind, level, message):
    line = add_rows(root, row)
    check = checked(root)
    found = only(check, kind)
    assert found.level == level and message in found.message
    assert check.ok == (level == "warning" and "video" not in kinds(check))
    if kind not in ("video", "split leak", "ids nearly the same"):
        assert found.path.endswith("train.csv") and found.line == line
        assert str(found).startswith(f"{root}/annotations/train.csv:{line}: ")


def test_rows_twice_are_named_with_the_first(root):
    first = (root / "annotations" / "train.csv").read_text().splitlines()[2]
    line = add_rows(root, first)
    found = only(checked(root), "duplicate row")
    assert found.line == line and "the same as line 3:" in found.message


def persons(root, *rows, exclusive=""):
    (root / "annotations" / "train.csv").write_text("".join(f"train_0,1,{r}\n" for r in rows))
    if exclusive:
        with (root / "dataset.yaml").open("a") as file:
            file.write(f"exclusive: {exclusive}\n")
    return checked(root, splits=["train"])


def test_one_person_with_two_boxes_and_two_boxes_on_one_person(root):
    check = persons(root, ".1,.1,.4,.9,3,1", ".5,.1,.8,.9,3,1", ".51,.1,.81,.9,3,2")
    assert only(check, "one person, two boxes").line == 2
    assert "line 1" in only(check, "one person, two boxes").message
    assert only(check, "two boxes on one person").line == 3
    assert "line 2" in only(check, "two boxes on one person").message
    assert check.ok


def test_exclusive_classes_of_one_person(root):
    box = ".1,.1,.4,.9"
    check = persons(
        root, f"{box},3,1", f"{box},9,1", f"{box},7,1", f".5,{box[3:]},7,2", f"{box},3,1",
        exclusive="{colour: [be red, be blue]}",
    )  # fmt: skip
    found = only(check, "exclusive classes")
    assert found.line == 3 and found.message == (
        "'be blue' and 'be red' (line 1) exclude each other (colour)"
    )
    assert not check.ok and kinds(check)["duplicate row"] == 1


def test_exclusive_classes_that_the_label_map_lacks_are_an_error(root):
    check = persons(root, ".1,.1,.4,.9,3,1", exclusive="{colour: [be red, be green]}")
    assert "names 'be green'" in only(check, "label map").message


def test_a_class_without_example_in_val_is_a_warning(root):
    path = root / "annotations" / "val.csv"
    path.write_text(
        "".join(r for r in path.read_text().splitlines(True) if r.strip().split(",")[6] != "7")
    )
    check = checked(root)
    found = only(check, "class without example")
    assert check.ok and found.path == str(path) and "be blue" in found.message


def test_the_same_file_under_another_name_in_val_is_a_leak(root):
    shutil.copy(root / "videos" / "train_1.mp4", root / "videos" / "copy.mp4")
    add_rows(root, "copy,1,.1,.1,.5,.5,3", split="val")
    found = only(checked(root), "split leak")
    assert "the same file as" in found.message and "train and val" in found.message


def test_boxes_on_another_clock_are_an_error(root):
    boxes = root / "annotations" / "boxes.csv"
    boxes.write_text("train_0,0901,.1,.1,.5,.5,,0.9\n")
    text = (root / "dataset.yaml").read_text()
    line = "    annotations: annotations/train.csv\n"
    text = text.replace(line, line + "    boxes: {them: annotations/boxes.csv}\n")
    (root / "dataset.yaml").write_text(text)
    assert "share no keyframe" in only(checked(root), "person boxes").message
    boxes.write_text("train_0,1,.1,.1,.5,.5,,0.9\n")
    assert checked(root).ok


def test_missing_files_and_an_empty_split_are_findings(root):
    (root / "annotations" / "val.csv").unlink()
    (root / "annotations" / "train.csv").write_text("")
    (root / "annotations" / "label_map.pbtxt").write_text("item {")
    check = checked(root)
    assert kinds(check) == {"file": 2, "label map": 1} and not check.ok
    assert only(check, "label map").line == 1


def test_the_command_says_it_in_words_images_and_json(root, tmp_path, capsys):
    assert command.main([str(root)]) == 0
    printed = capsys.readouterr().out
    assert "nothing odd" in printed and "train: 3 videos, 6 keyframes" in printed
    assert (root / "check" / "keyframes.png").stat().st_size > 10_000
    assert not (root / "check" / "suspicious.png").exists()
    line = add_rows(root, "train_0,1,.5,.1,1.4,.9,3", "train_0,1,.5,.1,.5,.9,9")
    out = tmp_path / "found.json"
    assert command.main([str(root), "--json", str(out), "--out", str(tmp_path / "pictures")]) == 1
    assert f"train.csv:{line}: the box reaches outside" in capsys.readouterr().out
    assert (tmp_path / "pictures" / "suspicious.png").stat().st_size > 5_000
    values = json.loads(out.read_text())
    assert not values["ok"] and values["errors"] == 2
    assert values["counts"] == {"box outside the frame": 1, "box without area": 1}
    assert values["findings"][0]["line"] == line and values["findings"][0]["time_s"] == 1
    assert values["splits"]["train"]["num_boxes"] == 8
    with pytest.raises(Exception, match="file not found"):
        command.main([str(tmp_path)])


def test_many_findings_are_counted_and_a_few_worded(root):
    add_rows(root, *(f"train_0,1,.5,.{i:03d}1,1.4,.9,3" for i in range(100)))
    check = checked(root, kept_per_kind=7)
    assert kinds(check)["box outside the frame"] == 100
    assert len([f for f in check.findings.kept if f.kind == "box outside the frame"]) == 7
    shown = keyframes_to_show(check, count=3, seed=0, suspicious=True)
    assert shown == {"train": [("train_0", 1.0)]}


LABELS = LabelMap(("a", "b", "c"), (1, 2, 3))
ROW = st.tuples(
    st.sampled_from(["u", "v"]), st.sampled_from([1, 2]), st.sampled_from([0.0, -0.0, 0.1]),
    st.sampled_from([0.4, 0.41]), st.sampled_from([-1, 1, 2, 3]), st.sampled_from([1, 2]),
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(ROW, max_size=12))
def test_groups_agree_with_dictionaries(drawn):
    rows = AvaRows.from_rows(
        [Keyframe(video, time_s) for video, time_s, *_ in drawn],
        boxes_01=[(x1, 0, x2, 1) for _, _, x1, x2, *_ in drawn],
        action_id=[action for *_, action, _ in drawn],
        person_id=[person for *_, person in drawn],
    )
    actors = group(rows)
    keys = [(video, time_s, person, x1 + 0.0, x2) for video, time_s, x1, x2, _, person in drawn]
    distinct = list(dict.fromkeys(keys))
    assert len(actors.first_row) == len(distinct)
    assert len(set(zip(actors.of_row.tolist(), keys, strict=True))) == len(distinct)
    assert len(actors.keyframe_row) == len({key[:2] for key in keys})
    assert (np.diff(actors.keyframe) >= 0).all()
    findings = Findings()
    check_rows(rows, LABELS, exclusive={"g": (0, 1)}, findings=findings)
    counts = {kind: n for (kind, _), n in findings.counts.items()}
    doubles = len(drawn) - len({(*k, d[4]) for k, d in zip(keys, drawn, strict=True)})
    assert counts.get("duplicate row", 0) == doubles
    acting = {(k, d[4]) for k, d in zip(keys, drawn, strict=True) if d[4] in (1, 2)}
    assert counts.get("exclusive classes", 0) == len(acting) - len({k for k, _ in acting})
    people = {(*key[:2], key[2]) for key in distinct}
    assert counts.get("one person, two boxes", 0) == len(distinct) - len(people)


def test_ava_classes_that_are_not_scored_are_no_errors():
    scored = LabelMap(("sit", "stand", "walk"), (11, 12, 14))
    rows = AvaRows.from_rows(
        [Keyframe("u", 902.0)] * 3, boxes_01=[(0, 0, 1, 1)] * 3, action_id=[11, 16, 81]
    )
    findings = Findings()
    check_rows(rows, scored, exclusive={}, findings=findings)
    assert dict(findings.counts) == {
        ("class that is not scored", "warning"): 1,
        ("unknown class", "error"): 1,
    }


def test_two_splits_may_share_one_file_by_their_lists(root):
    both = [(root / "annotations" / f"{split}.csv").read_text() for split in ("train", "val")]
    (root / "annotations" / "train.csv").write_text("".join(both))
    for split in ("train", "val"):
        names = [p.stem for p in sorted((root / "videos").glob(f"{split}_*"))]
        (root / "annotations" / f"{split}.txt").write_text("\n".join(names))
    text = "name: t\nvideos: videos\nsplits:\n"
    for split in ("train", "val"):
        text += (
            f"  {split}: {{annotations: annotations/train.csv, videos: annotations/{split}.txt}}\n"
        )
    (root / "dataset.yaml").write_text(text)
    check = checked(root)
    assert kinds(check) == {} and check.statistics["val"].num_videos == 2
    (root / "annotations" / "val.txt").write_text("val_0\nunseen\n")
    check = checked(root)
    assert "val_1" in [f for f in check.findings.kept if f.kind == "video not listed"][0].message
    assert "unseen" in only(check, "video without rows").message


def test_thousands_of_boxes_at_one_keyframe_are_a_finding_and_take_no_time():
    count = 20_000
    left = np.linspace(0, 0.5, count)
    rows = AvaRows.from_rows(
        [Keyframe("u", 0.0)] * count,
        boxes_01=np.stack([left, left, left + 0.1, left + 0.4], axis=1),
        action_id=[1] * count,
    )
    findings = Findings()
    check_rows(rows, LABELS, exclusive={}, findings=findings)
    assert findings.counts["crowded keyframe", "warning"] == 1


@pytest.mark.parametrize("content", [b"item {", b"\xff\xfe", b"", None])
def test_an_unreadable_label_map_and_differing_class_ids_are_findings(root, capsys, content):
    """Without a label map each split has the ids that stand in it: they need not be the same."""
    path = root / "annotations" / "label_map.pbtxt"
    path.unlink() if content is None else path.write_bytes(content)
    add_rows(root, "train_0,1,.1,.1,.5,.5,11")
    add_rows(root, "val_0,1,.1,.1,.5,.5,12", split="val")
    assert command.main([str(root), "--pictures", "0"]) == 1
    printed = capsys.readouterr().out
    assert "error: label map: 1" in printed and "1 errors" in printed
    assert re.search(r"^action 11 +1 +0$", printed, re.M)
    assert re.search(r"^action 12 +0 +1$", printed, re.M)


def test_a_disk_that_takes_no_sheets_is_one_line_after_the_findings(root, capsys, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(root / "check"))

    monkeypatch.setattr("detection.drawing.annotated_video.write_sheet", read_only)
    out = root / "found.json"
    with pytest.raises(
        UserError, match=r"check: the sheets of frames cannot be written \(Read-only"
    ):
        command.main([str(root), "--json", str(out)])
    assert "nothing odd" in capsys.readouterr().out
    assert json.loads(out.read_text())["ok"]


def test_who_reads_the_findings_and_goes_is_no_fault_of_the_sheets(root):
    """`check data | head`: the reader has gone when the first sheet is named."""
    reader, writer = os.pipe()
    os.close(reader)
    ended = subprocess.run(
        [sys.executable, "-m", "ava_tools.check", str(root), "--pictures", "1"],
        stdout=writer, stderr=subprocess.PIPE, text=True, check=False,
        cwd=Path(command.__file__).parents[1],
    )  # fmt: skip
    os.close(writer)
    assert ended.returncode == 75, ended.stderr
    assert "error" not in ended.stderr


@pytest.mark.parametrize("place", ["detection.checks.headers.open_video", "_digest"])
def test_a_video_that_the_disk_does_not_give_is_a_finding(root, monkeypatch, place):
    shutil.copy(root / "videos" / "train_1.mp4", root / "videos" / "train_0.mp4")

    def broken(*_, **__):
        raise OSError(errno.EIO, "Input/output error", "videos/train_0.mp4")

    if place == "_digest":
        place = "detection.checks.dataset._digest"
    monkeypatch.setattr(place, broken)
    check = checked(root, kept_per_kind=1)
    assert only(check, "video").message == "Input/output error"
    assert only(check, "video").path == "videos/train_0.mp4" and not check.ok


def test_a_split_without_a_label_is_an_error(root):
    (root / "annotations" / "val.csv").write_text("val_0,1,.1,.1,.5,.5,\n")
    check = checked(root)
    assert "not a single label" in only(check, "no label").message and not check.ok


def list_videos(root, *names):
    (root / "annotations" / "val.txt").write_text("\n".join(names), encoding="utf-8")
    text = (root / "dataset.yaml").read_text()
    line = "    annotations: annotations/val.csv\n"
    (root / "dataset.yaml").write_text(
        text.replace(line, line + "    videos: annotations/val.txt\n")
    )


def test_ids_of_a_list_that_nearly_agree_are_one_finding_with_the_cause(root):
    list_videos(root, "val_0", "Val_1")
    check = checked(root)
    assert kinds(check)["video not listed"] == 1 and "video without rows" not in kinds(check)
    assert "in upper and lower case alone: 'val_1' and 'Val_1'" in only(
        check, "video not listed"
    ).message  # fmt: skip


def test_exclusions_of_one_other_video_are_named(root):
    text = (root / "dataset.yaml").read_text()
    line = "    annotations: annotations/val.csv\n"
    text = text.replace(line, line + "    exclusions: annotations/excluded.csv\n")
    (root / "dataset.yaml").write_text(text)
    (root / "annotations" / "excluded.csv").write_text("val_0,1\nval_01,1\nother,1\n")
    message = only(checked(root), "exclusions").message
    assert "excluded videos: 2 of 3 of the exclusions are not in split 'val'" in message
    assert "other" in message


def test_names_are_printed_with_their_control_characters_written_out(root, capsys):
    path = root / "annotations" / "label_map.pbtxt"
    path.write_text(path.read_text().replace("be blue", "be \x1b[31mblue"))
    add_rows(root, "\x1b]0;t\x07,1,.1,.1,.5,.5,3")
    assert command.main([str(root), "--pictures", "0"]) == 1
    printed = capsys.readouterr()
    assert not set(printed.out + printed.err) & {"\x1b", "\x07"}
    assert r"be \x1b[31mblue" in printed.out
