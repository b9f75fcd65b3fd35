"""What happens to a data set between labelling and teaching: one line, and nothing half done."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import tiny_labels

from ava_tools import import_dataset, label, teach
from detection.checkpoints.file import read_checkpoint
from detection.engine.run_folder import only_run
from detection.errors import UserError

RED, BLUE = ("be red", "be here"), ("be blue", "be here")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    root = tiny_labels.make_raw(folder / "raw", videos=4)
    (root / "annotations" / "label_map.pbtxt").unlink()
    for split in ("train", "val"):
        (root / "annotations" / f"{split}.csv").write_text("")
    tiny_labels.write_configuration(folder)
    return folder


@pytest.fixture
def root(made, tmp_path) -> Path:
    """Bare videos with people, of which three have labels."""
    shutil.copytree(made / "raw", tmp_path / "raw")
    shutil.copy(made / "tiny.yaml", tmp_path)
    write_labels(tmp_path / "raw")
    return tmp_path / "raw"


def write_labels(root: Path, name: str = "labels.json", chosen=None, **more) -> Path:
    chosen = chosen or {"train_0": RED, "train_1": BLUE, "train_2": RED}
    return tiny_labels.write_labels(root / "labels" / name, root, chosen, **more)


def run_teach(root: Path, *more: str) -> int:
    words = ["--dataset", str(root), "--cfg", str(root.parent / "tiny.yaml"), "--quiet"]
    return teach.main([*words, "--out", str(root.parent / "run"), *more])


def merge(root: Path, path: Path, *more: str) -> int:
    words = ["corrections", "--dataset", str(root), "--corrections", str(path)]
    return import_dataset.main([*words, "--out", str(root.parent / "out"), *more])


@pytest.mark.parametrize("name", ["train_1", "train_3"])
def test_a_video_that_was_removed_is_named_before_anything_is_computed(root, name, capsys) -> None:
    (root / "videos" / f"{name}.mp4").unlink()
    for command in (
        lambda: label.main(["--dataset", str(root), "--quiet"]),
        lambda: run_teach(root),
    ):
        with pytest.raises(UserError, match="people.csv: 1 video with people not there") as caught:
            command()
        assert f"{name}.mp4: video file not found" in str(caught.value)
    assert not capsys.readouterr().err
    assert not (root / "label").exists() and not (root / "features").exists()


def test_actions_written_with_a_comma_are_said_to_be_one_class(root, capsys) -> None:
    words = ["--dataset", str(root), "--quiet", "--overwrite", "--actions", "wave,sit", "run"]
    assert label.main(words) == 0
    said = capsys.readouterr()
    assert said.err.startswith("warning: 'wave,sit' is one class;") and "2 classes" in said.out


def test_labels_must_be_a_folder(root) -> None:
    shutil.rmtree(root / "labels")
    (root / "labels").write_text("x")
    with pytest.raises(UserError, match="labels: is a file, a folder of label files is required"):
        run_teach(root)


def test_damaged_features_are_computed_again_and_said_to_be_damaged(root, capsys) -> None:
    run_teach(root)
    first, second, *_ = sorted((root / "features").rglob("*.npz"))
    first.write_bytes(b"x")
    second.write_bytes(second.read_bytes()[:-30])
    capsys.readouterr()
    assert run_teach(root) == 0
    said = capsys.readouterr()
    assert said.err.count("features are computed anew (damaged)") >= 2
    assert "features: 4 computed" in said.out


def test_two_exports_of_one_annotator_count_once(root, capsys) -> None:
    write_labels(root, "again.json")
    later = {"exported": "2026-02-02T00:00:00Z"}
    write_labels(root, "more.json", {"train_3": RED}, **later)
    assert run_teach(root) == 0
    said = capsys.readouterr().out
    assert "again.json: passed over" in said and "as late an export of that page" in said
    assert "labels.json: passed over" in said and "more.json is a later export" in said
    assert "1 of 4 people decided" in said


def test_a_data_set_that_was_moved_is_taught_on_with_the_features_it_has(root, capsys) -> None:
    run_teach(root)
    moved = root.rename(root.with_name("moved"))
    capsys.readouterr()
    assert run_teach(moved) == 0
    assert "features: 0 computed" in capsys.readouterr().out
    assert json.loads((root.parent / "run" / "teach.json").read_text())["dataset"] == str(moved)


def test_names_of_any_script(root, capsys) -> None:
    names = {"train_0": "日本 語", "train_1": "näive ß", "train_2": "क्षि", "train_3": "a'b & c"}
    boxes = (root / "annotations" / "people.csv").read_text()
    for old, new in names.items():
        (root / "videos" / f"{old}.mp4").rename(root / "videos" / f"{new}.mp4")
        boxes = boxes.replace(f"{old},", f"{new},")
    (root / "annotations" / "people.csv").write_text(boxes)
    chosen = {names["train_0"]: RED, names["train_1"]: BLUE, names["train_3"]: RED}
    path = write_labels(root, chosen=chosen)
    assert label.main(["--dataset", str(root), "--quiet"]) == 0
    for computed in (8, 0):
        assert run_teach(root) == 0
        assert f"features: {computed} computed" in capsys.readouterr().out
    assert merge(root, path, "--val-videos", "日本 語") == 0
    videos = {path.stem for path in (root.parent / "out" / "videos").iterdir()}
    assert videos == set(chosen)


def test_a_name_that_would_become_another_is_refused(root) -> None:
    (root / "videos" / "train_0.mp4").rename(root / "videos" / "a<b.mp4")
    boxes = root / "annotations" / "people.csv"
    boxes.write_text(boxes.read_text().replace("train_0,", "a<b,"))
    path = write_labels(root, chosen={"a<b": RED, "train_1": BLUE})
    with pytest.raises(UserError, match="video 'a<b' would get another name, 'a_b-"):
        merge(root, path)
    assert not (root.parent / "out").exists()


def test_a_run_folder_that_another_one_holds_is_named_with_the_option_of_this_command(root) -> None:
    with only_run(root.parent / "run"), pytest.raises(UserError, match="writes here.*--out RUN"):
        run_teach(root)


def test_a_class_renamed_after_labelling_is_named(root) -> None:
    task = root / "labels.yaml"
    task.write_text(task.read_text().replace("be here", "be there"))
    with pytest.raises(UserError, match="other classes: it has 'be here'.*labels.yaml"):
        run_teach(root)


@pytest.mark.parametrize("kind", ["folder", "empty", "half", "csv", "link to nothing", "binary"])
def test_what_is_no_export_is_one_line_in_both_commands(root, kind) -> None:
    path = root / "labels" / "labels.json"
    content = path.read_bytes()
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(root / "nothing.json")
    else:
        path.write_bytes({
            "empty": b"", "half": content[: len(content) // 2], "binary": bytes(range(256)),
            "csv": b"train_0,1.000,0.1,0.1,0.5,0.5,1,0\n",
        }[kind])  # fmt: skip
    for command in (lambda: run_teach(root), lambda: merge(root, path)):
        with pytest.raises(UserError) as caught:
            command()
        assert str(path) in str(caught.value) and "\n" not in str(caught.value)
    assert not (root.parent / "out").exists() and not (root / "label").exists()
    assert not (root.parent / "run" / "teach.json").exists()


def test_what_stood_stays_when_a_round_cannot_be_written(root, monkeypatch) -> None:
    """A full disk at the checkpoint: the run before is whole, and the next round goes on."""
    run_teach(root)
    before = read_checkpoint(root.parent / "run").state
    write_labels(root, chosen={"train_0": RED, "train_1": BLUE})

    def full(*_args, **_more):
        raise OSError(28, "No space left on device", "last.pt")

    with monkeypatch.context() as patched:
        patched.setattr("detection.checkpoints.file.torch.save", full)
        with pytest.raises((UserError, OSError)):
            run_teach(root)
    after = read_checkpoint(root.parent / "run").state
    assert all((before[name] == after[name]).all() for name in before)
    assert not [path for path in (root.parent / "run").rglob(".*") if "last" in path.name]
    assert run_teach(root) == 0


@pytest.mark.parametrize("place", ["_complete", "write_label_map"])
def test_killed_in_the_middle_merging_leaves_no_data_set_and_can_be_given_again(
    root, place
) -> None:
    path = root / "labels" / "labels.json"
    words = ["corrections", "--dataset", str(root), "--corrections", str(path)]
    words += ["--out", str(root.parent / "out"), "--val-share", "0"]
    program = (
        "import os, sys\n"
        "from ava_tools.import_dataset import main\n"
        "from detection.importers import labelled\n"
        f"labelled.{place} = lambda *a, **k: os.kill(os.getpid(), 9)\n"
        "main(sys.argv[1:])\n"
    )
    killed = subprocess.run([sys.executable, "-c", program, *words], check=False, timeout=120)
    assert killed.returncode == -9
    assert not (root.parent / "out").exists()
    assert import_dataset.main(words) == 0
    assert sorted(path.name for path in root.parent.iterdir()) == [
        "out", "raw", "tiny.yaml",
    ]  # fmt: skip
