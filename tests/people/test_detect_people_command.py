"""python -m ava_tools.detect_people, with a real network of random weights."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from tiny_data import make_dataset

from ava_tools.detect_people import main
from detection.datasets.actor_table import read_actor_table
from detection.datasets.ava_csv import read_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.errors import ProcessLostError, UserError
from detection.people.box_workers import FoundBatch
from detection.people.register import check_box_name, register_boxes
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.structures import ActorBoxes


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "small.pt"
    numbers = PeopleNetworkNumbers("small", 64, 96)
    network = build_people_network("small", num_classes=1, short_side_px=64, long_side_px=96)
    save_people_file(path, network, numbers=numbers, classes=["person"])
    return path


@pytest.fixture
def root(tmp_path):
    return make_dataset(tmp_path / "tiny", train=2, val=2)


def arguments(root, weights, out, *more):
    return [
        *("--dataset", str(root), "--split", "val", "--weights", str(weights), "--out", str(out)),
        *("--device", "cpu", "--workers", "0", "--quiet", *map(str, more)),
    ]


def test_boxes_are_made_named_and_found_by_training(root, weights, capsys):
    out = root / "annotations" / "boxes_small.csv"
    assert main(arguments(root, weights, out, "--register", "small")) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    rows = read_person_boxes(out)
    assert last.startswith(f"{len(rows):,} boxes at 4 keyframes (0 with no person), 0 unreadable")
    assert rows.score is not None and (rows.score >= 0.05).all() and len(rows) > 0
    folder = DatasetFolder.open(root)
    table = read_actor_table(folder, "val", folder.read_label_map(), boxes="small")
    assert table.num_actors == len(rows)
    assert [str(key) for key in table.keyframes()] == [
        f"val_{n} at {t}.000 s" for n in range(2) for t in (1, 2)
    ]
    assert main(arguments(root, weights, out, "--register", "small")) == 0
    assert "already made with these options, kept" in capsys.readouterr().out


def test_the_score_floor_holds(root, weights, tmp_path):
    """Random weights score all boxes much alike: the floor is put into the middle of them."""
    main(arguments(root, weights, tmp_path / "low.csv"))
    low = read_person_boxes(tmp_path / "low.csv").score
    floor = round(float(np.median(low)), 6)
    main(arguments(root, weights, tmp_path / "high.csv", "--score-floor", floor))
    high = read_person_boxes(tmp_path / "high.csv").score
    assert 0 < len(high) < len(low)
    assert high.min() >= floor - 1e-6 and low.min() < floor


def test_two_processes_as_torchrun_starts_them(root, weights, tmp_path, monkeypatch, capsys):
    main(arguments(root, weights, tmp_path / "one.csv", "--batch-size", 1))
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("1", "0"):
        monkeypatch.setenv("RANK", rank)
        main(arguments(root, weights, tmp_path / "two.csv", "--batch-size", 1))
    assert (tmp_path / "two.csv").read_bytes() == (tmp_path / "one.csv").read_bytes()
    assert "shard 2/2: 2 keyframes done" in capsys.readouterr().out


def test_shares_given_by_hand_and_merged_without(root, weights, tmp_path):
    main(arguments(root, weights, tmp_path / "one.csv", "--batch-size", 1))
    out = tmp_path / "shared.csv"
    main(arguments(root, weights, out, "--batch-size", 1, "--shard", "2/3"))
    assert not out.exists()
    main(arguments(root, weights, out, "--batch-size", 1))
    assert out.read_bytes() == (tmp_path / "one.csv").read_bytes()


def apart(root, weights, out, *more):
    """The arguments, less those of a process that reads and detects by itself."""
    given = arguments(root, weights, out, "--batch-size", 1, *more)
    place = given.index("--workers")
    return given[:place] + given[place + 2 :]


@pytest.mark.parametrize(
    "how", [("--jobs", 2), pytest.param(("--engine", "ray", "--jobs", 2), marks=pytest.mark.ray)]
)
def test_workers_make_the_file_that_one_process_makes(root, weights, tmp_path, capsys, how):
    if "ray" in how:
        pytest.importorskip("ray")
    (root / "videos" / "val_1.mp4").write_bytes(b"no video")
    main(arguments(root, weights, tmp_path / "one.csv", "--batch-size", 1, "--threads", 1))
    main(arguments(root, weights, tmp_path / "two.csv", "--batch-size", 1, "--shard", "1/4"))
    capsys.readouterr()
    main(apart(root, weights, tmp_path / "two.csv", "--threads", 1, *how))
    assert "2 unreadable, 3 just now" in capsys.readouterr().out  # the first was done
    for suffix in (".csv", ".unreadable.csv"):
        made = (tmp_path / "two.csv").with_suffix(suffix)
        assert made.read_bytes() == (tmp_path / "one.csv").with_suffix(suffix).read_bytes()


def test_a_batch_that_ends_its_workers_ends_the_command(
    root, weights, tmp_path, monkeypatch, capsys
):
    """What was done is kept; it is no batch of unreadable keyframes."""
    monkeypatch.setattr("detection.people.box_table.open_box_worker", open_deadly_worker)
    with pytest.raises(ProcessLostError, match="signal 9 .*what was done is kept, give the same"):
        main(apart(root, weights, tmp_path / "boxes.csv", "--jobs", 2))
    assert not (tmp_path / "boxes.csv").exists()
    main(arguments(root, weights, tmp_path / "boxes.csv", "--batch-size", 1))
    assert re.search("3 with no person.*, 1 just now", capsys.readouterr().out)


def open_deadly_worker(*options):
    return die_on_two


def die_on_two(batch, on_progress):
    if batch.number == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    found = tuple(ActorBoxes.empty() for _ in batch.keyframes)
    return FoundBatch(batch.number, batch.keyframes, found, ())


def test_options_that_workers_leave_without_meaning_are_refused(root, weights, tmp_path):
    with pytest.raises(UserError, match="--workers read for one process"):
        main(arguments(root, weights, tmp_path / "b.csv", "--jobs", 2))
    with pytest.raises(UserError, match="--engine ray is required"):
        main(arguments(root, weights, tmp_path / "b.csv", "--address", "auto"))


def test_other_times(root, weights, tmp_path):
    main(arguments(root, weights, tmp_path / "seconds.csv", "--every", 1))
    assert len(read_person_boxes(tmp_path / "seconds.csv").keyframes()) == 6
    (tmp_path / "keys.csv").write_text("train_1,0.3\n")
    main(arguments(root, weights, tmp_path / "k.csv", "--keyframes", tmp_path / "keys.csv"))
    assert [str(k) for k in read_person_boxes(tmp_path / "k.csv").keyframes()] == [
        "train_1 at 0.300 s"
    ]


def test_keyframes_that_are_not_looked_at_are_told(root, weights, tmp_path, capsys):
    keys = tmp_path / "keys.csv"
    for rows, told in (
        ("val_0,1\nval_0,2\nval_1,1\nval_1,2\n", ""),
        ("val_0,1\nval_0,2\nVAL_1,1\n", "videos: 1 of 2 of split 'val' are not in the keyframes"),
        ("val_0,1\nval_0,2\nval_1,1\n", "keyframes: 1 of 4 of split 'val' are not in the keyf"),
    ):
        keys.write_text(rows)
        main(arguments(root, weights, tmp_path / "k.csv", "--keyframes", keys, "--overwrite"))
        said = [x for x in capsys.readouterr().err.splitlines() if "are not in" in x]
        assert [line.startswith(f"warning: {told}") for line in said] == [True] * bool(told)


def test_a_missing_video_is_counted_and_the_rest_done(root, weights, tmp_path, capsys):
    (root / "videos" / "val_0.mp4").unlink()
    assert main(arguments(root, weights, tmp_path / "boxes.csv")) == 0
    captured = capsys.readouterr()
    assert re.search(r"boxes at 2 keyframes .*, 2 unreadable", captured.out.splitlines()[-1])
    assert "2 keyframes of 1 videos cannot be read" in captured.err
    assert (tmp_path / "boxes.unreadable.csv").read_text().startswith("val_0,0001,")


def test_a_missing_video_does_not_stop_every_second(root, weights, tmp_path, capsys):
    (root / "videos" / "val_1.mp4").write_bytes(b"no video")
    assert main(arguments(root, weights, tmp_path / "boxes.csv", "--every", 1)) == 0
    assert "boxes at 3 keyframes" in capsys.readouterr().out
    listed = (tmp_path / "boxes.unreadable.csv").read_text()
    assert listed.startswith("val_1,0000,") and listed.count("\n") == 1


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (("--weights", "no.pt"), "no.pt: file of weights or run folder not found"),
        (("--split", "test"), "split 'test' not found"),
        (("--dataset", "nowhere"), "dataset.yaml: file not found"),
        (("--actor-class", "persn"), "did you mean person"),
        (("--batch-size", "0"), "--batch-size must be at least 1"),
        (("--shard", "9/8"), "K/N with K from 1 to N is required"),
        (("--device", "warp"), "--device 'warp'"),
        (("--device", "cuda:99"), "PyTorch finds"),
        (("--half",), "half precision .* needs a GPU"),
        (("--every-second", "--keyframes", "x.csv"), "exclude each other"),
        (("--every", "0", "--every-second"), "--every-second and --every exclude each other"),
        (("--register", "a/b"), "cannot name boxes"),
        (("--register", "ground-truth"), "cannot name boxes"),
        (("--register", "mine"), "lies outside the data set folder"),
        (("--out", "."), "is a folder"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    root, weights, tmp_path, monkeypatch, changes, words
):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=words) as caught:
        main([*arguments(root, weights, "boxes.csv"), *changes])
    assert "\n" not in str(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


def test_help_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from ava_tools.detect_people import main\nmain(['--help'])"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}  # noqa: PTH109
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0 and "torchrun" in done.stdout


BLOCK = """\
# my own data
name: mine   # a name
label_map: map.pbtxt
videos: videos
splits:
  train:
    annotations: train.csv  # the first half
    # not yet: exclusions

  val:
    annotations: val.csv

evaluation: {protocol: frame-map}
"""


@pytest.mark.parametrize(
    "text",
    [
        BLOCK,
        BLOCK.replace("val.csv\n", "val.csv\n    boxes:\n        old: b/old.csv  # older\n"),
        BLOCK.replace("val.csv\n", "val.csv\n    boxes: {old: b/old.csv}\n"),
        BLOCK.replace("val.csv\n", "val.csv\n    boxes: {}\n"),
        BLOCK.replace("  val:\n    annotations: val.csv\n", "  val: {annotations: val.csv}\n"),
        BLOCK.replace("val.csv\n", "val.csv\n    boxes: {new: x.csv}\n"),
        BLOCK[: BLOCK.index("\n\nevaluation")],
        BLOCK.replace("annotations: val.csv", "'annotations':\n      val.csv"),
    ],
)
def test_registering_keeps_the_text_of_dataset_yaml(tmp_path, text):
    (tmp_path / "dataset.yaml").write_text(text)
    folder = DatasetFolder.open(tmp_path)
    expected = folder.file.model_dump()
    boxes = expected["splits"]["val"]["boxes"]
    relative = check_box_name(folder, "val", "new", tmp_path / "b" / "new, 1.csv", overwrite=True)
    register_boxes(folder, "val", "new", relative)
    now = (tmp_path / "dataset.yaml").read_text()
    assert DatasetFolder.open(tmp_path).file.model_dump() == {
        **expected,
        "splits": {
            **expected["splits"],
            "val": {**expected["splits"]["val"], "boxes": {**boxes, "new": "b/new, 1.csv"}},
        },
    }
    kept = [line for line in text.splitlines() if "#" in line]
    assert [line for line in now.splitlines() if "#" in line] == kept
    register_boxes(folder, "train", "first", "a.csv")  # by a process that read the file before
    assert set(DatasetFolder.open(tmp_path).file.splits["val"].boxes) == {*boxes, "new"}
    assert DatasetFolder.open(tmp_path).file.splits["train"].boxes == {"first": "a.csv"}


def test_registering_where_splits_share_their_text(tmp_path):
    text = BLOCK.replace("train:\n", "train: &both\n").replace(
        "  val:\n    annotations: val.csv\n", "  val: *both\n"
    )
    (tmp_path / "dataset.yaml").write_text(text)
    register_boxes(DatasetFolder.open(tmp_path), "val", "new", "new.csv")
    content = yaml.safe_load((tmp_path / "dataset.yaml").read_text())
    assert "boxes" not in content["splits"]["train"]
    assert content["splits"]["val"]["boxes"] == {"new": "new.csv"}


def test_a_name_that_is_taken_is_not_taken_again(root):
    register_boxes(DatasetFolder.open(root), "val", "mine", "annotations/boxes.csv")
    folder, other = DatasetFolder.open(root), root / "annotations" / "other.csv"
    with pytest.raises(UserError, match="has boxes 'mine' already"):
        check_box_name(folder, "val", "mine", other, overwrite=False)
    assert check_box_name(folder, "train", "mine", other, overwrite=False)
    for path in (root / "dataset.yaml", root / "annotations" / "val.csv"):
        with pytest.raises(UserError, match="would replace a file of the data set"):
            check_box_name(folder, "val", "x", path, overwrite=True)
    with pytest.raises(UserError, match="outside"):
        check_box_name(
            folder, "val", "x", root / "annotations" / ".." / ".." / "x.csv", overwrite=True
        )
