"""What the start of a run refuses `check` finds beforehand; `--decode` finds what `verify` does."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from test_train_ava import SETTINGS
from tiny_data import make_dataset

import train_ava
from ava_tools import check as command
from ava_tools import verify
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.prepare.dataset import prepare_dataset
from detection.prepare.video import PrepareOptions

BOX = ".1,.1,.5,.5"
GOOD = [f"val_{v},{t},{BOX},,0.9" for v in range(2) for t in (1, 2)]
BOXES = ("data.val_boxes=them", "data.box_score_threshold=0.5")


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "tiny", train=3, val=2)


@pytest.fixture
def root(original, tmp_path):
    shutil.copytree(original, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.fixture
def cfg(root, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(f"data: {{root: '{root}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    return path


def check(capsys, root, *arguments):
    code = command.main([str(root), "--pictures", "0", "--jobs", "1", *map(str, arguments)])
    return code, capsys.readouterr().out


def name_file(root, key, path, split="val"):
    text = (root / "dataset.yaml").read_text()
    line = f"    annotations: annotations/{split}.csv\n"
    (root / "dataset.yaml").write_text(text.replace(line, f"{line}    {key}: {path}\n"))


def add_row(root, row, split="val"):
    with (root / f"annotations/{split}.csv").open("a") as file:
        file.write(f"{row}\n")


def add_boxes(root, *rows):
    (root / "annotations/boxes.csv").write_text("".join(f"{row}\n" for row in rows))
    name_file(root, "boxes", "{them: annotations/boxes.csv}")


def missing_video(root):
    (root / "videos/val_1.mp4").unlink()


def no_video(root):
    (root / "videos/val_1.mp4").write_bytes(b"nothing" * 99)


def keyframe_past_the_end(root):
    add_row(root, f"val_1,4,{BOX},3")


def keyframe_just_past_the_end(root):
    add_row(root, f"val_1,3.04,{BOX},3")


def excluded_keyframes(root):
    text = "".join(f"val_{v},{t}\n" for v in range(2) for t in (1, 2))
    (root / "annotations/excluded.csv").write_text(text)
    name_file(root, "exclusions", "annotations/excluded.csv")


def broken_exclusions(root):
    (root / "annotations/excluded.csv").write_text("val_0\n")
    name_file(root, "exclusions", "annotations/excluded.csv")


def list_of_other_videos(root):
    (root / "annotations/val.txt").write_text("val_8\nval_9\n")
    name_file(root, "videos", "annotations/val.txt")


def keyframes_without_people(root):
    (root / "annotations/val.csv").write_text("val_0,1\nval_1,1\n")


def unknown_class(root):
    add_row(root, f"val_1,1,{BOX},8")


def label_map_of_other_classes(root):
    path = root / "annotations/label_map.pbtxt"
    path.write_text(re.sub(r"id: (\d)", r"id: 5\1", path.read_text()))


def no_label_to_learn(root):
    (root / "annotations/train.csv").write_text(f"train_0,1,{BOX},\n")


def boxes_of_unknown_videos(root):
    add_boxes(root, *GOOD, f"val_7,1,{BOX},,0.9")


def boxes_past_the_end(root):
    add_boxes(root, *GOOD, f"val_1,5,{BOX},,0.9")


def boxes_just_past_the_end(root):
    add_boxes(root, *GOOD, f"val_1,3.04,{BOX},,0.9")


@pytest.mark.parametrize(
    ("harm", "overrides", "message"),
    [
        (missing_video, (), "val_1.mp4: video file not found"),
        (no_video, (), "val_1.mp4: not a video"),
        (keyframe_past_the_end, (), r"val.csv:9: time 4 s, video 'val_1' shows 0.000 to 3.000 s"),
        (keyframe_just_past_the_end, (), "val.csv:9: .*keyframe at 3.040000 s"),
        (excluded_keyframes, (), "val.csv: no keyframe with a person .* all 4 of them are excl"),
        (broken_exclusions, (), "excluded.csv:1: "),
        (list_of_other_videos, (), "val.csv: no keyframe with a person in it"),
        (keyframes_without_people, (), "val.csv: no keyframe with a person in it"),
        (unknown_class, (), "val.csv:9: action id 8 is not in the label map"),
        (label_map_of_other_classes, (), "action id 53 is not|action id 3 is not in the label map"),
        (no_label_to_learn, (), "train.csv: not a single label of a class of the label map"),
        (boxes_of_unknown_videos, BOXES, "val_7.mp4: video file not found"),
        (boxes_past_the_end, BOXES, "boxes.csv:5: keyframe at 5.000000 s is outside video 'val_1'"),
        (boxes_just_past_the_end, BOXES, "boxes.csv:5: .*keyframe at 3.040000 s"),
    ],
    ids=lambda value: getattr(value, "__name__", "on"),
)
def test_what_a_run_refuses_is_found_beforehand(root, cfg, capsys, harm, overrides, message):
    harm(root)
    with pytest.raises(UserError):
        train_ava.main(["--cfg", str(cfg), *overrides])
    assert not (cfg.parent / "run/config.yaml").exists()
    code, printed = check(capsys, root)
    assert code == 1 and re.search(message, printed), printed


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.val_boxes=mine", "split 'val' has no boxes 'mine'"),
        ("data.also_score_boxes=[mine]", "split 'val' has no boxes 'mine'"),
        ("data.train_boxes=mine", "split 'train' has no boxes 'mine'"),
        ("data.box_score_threshold=0.95", "boxes.csv: no keyframe with persons"),
        ("data.label_map=annotations/few.pbtxt", "few.pbtxt"),
        ("model.exclusive_actions=true", "train.csv:1: 6 boxes have more than one action"),
        ("model.pretrained=weights.pt", "weights.pt"),
    ],
)
def test_options_of_a_run_that_it_would_refuse(root, cfg, capsys, override, message):
    add_boxes(root, *GOOD)
    more = ["data.val_boxes=them"] if "threshold" in override else []
    assert check(capsys, root, "--cfg", cfg, *more)[0] == 0
    with pytest.raises(UserError):
        train_ava.main(["--cfg", str(cfg), override, *more])
    code, printed = check(capsys, root, "--cfg", cfg, override, *more)
    assert code == 1 and message in printed and "error: run: 1" in printed


def test_a_configuration_of_another_task_and_options_without_one_are_refused(root, cfg):
    for arguments, message in (
        (["--cfg", cfg, "task=classification"], "task: actions is required"),
        (["data.val_boxes=mine"], "need --cfg"),
        (["--decode", "--no-videos"], "exclude each other"),
        (["--cfg", cfg, "data.val_split=test"], "split 'test' not found"),
    ):
        with pytest.raises(UserError, match=message):
            command.main([str(root), *map(str, arguments)])


def test_a_run_looks_at_its_splits_alone(root, cfg, capsys):
    add_row(root, f"val_1,1,{BOX},8")
    assert check(capsys, root, "--cfg", cfg, "data.val_split=train")[0] == 0
    assert check(capsys, root, "--cfg", cfg)[0] == 1


def test_prepared_videos_that_are_cut_too_tightly_for_a_run(root, cfg, capsys):
    out = root.parent / "out"
    prepare_dataset(
        DatasetFolder.open(root), out, options=PrepareOptions(short_side=64), clip_span_s=0.1
    )
    assert check(capsys, out)[0] == 0
    for more in ((), ("--decode",)):
        code, printed = check(capsys, out, "--cfg", cfg, *more)
        assert code == 1 and "error: cut too tightly: 5\n" in printed
        assert "was cut to 0.950 to 2.050 s, and clips of 0.40 s" in printed


def damage(root):
    path = root / "videos/val_1.mp4"
    data = bytearray(path.read_bytes())
    middle = len(data) * 2 // 3
    data[middle : middle + 200] = np.random.default_rng(0).bytes(200)
    path.write_bytes(data)


def test_damage_inside_a_video_is_found_by_decoding_as_verify_does(root, tmp_path, capsys):
    damage(root)
    code, printed = check(capsys, root)
    assert code == 0
    assert printed.endswith(
        "not looked at: the frames inside the videos (--decode), what a training run asks for "
        "(--cfg FILE)\n"
    )
    out = tmp_path / "found.json"
    code, printed = check(capsys, root, "--decode", "--json", out)
    assert code == 1 and "not looked at: what a training run asks for" in printed
    assert verify.main([str(root), "--jobs", "1"]) == 1
    (line,) = capsys.readouterr().out.splitlines()[:-1]
    assert line.startswith("val_1: ") and f"\n  {line}\n" in printed
    (finding,) = json.loads(out.read_text())["findings"]
    assert (finding["kind"], finding["level"], finding["video_id"]) == (
        "decoding",
        "error",
        "val_1",
    )
    assert f"val_1: {finding['message']}; {finding['advice']}" == line


def test_what_headers_show_is_not_said_again_by_decoding(root, capsys):
    missing_video(root)
    keyframe_past_the_end(root)
    add_row(root, f"val_0,7,{BOX},3")
    before, after = (check(capsys, root, *more)[1] for more in ((), ("--decode",)))
    assert before.splitlines()[:-1] == after.splitlines()[:-1]


def test_everything_is_looked_at_with_both_options(root, cfg, capsys):
    code, printed = check(capsys, root, "--cfg", cfg, "--decode")
    assert code == 0 and printed.endswith("nothing odd\n")
    assert "not looked at: the videos (--no-videos), what" in check(capsys, root, "--no-videos")[1]
