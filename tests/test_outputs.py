"""What an output option names survives: devices, pipes, links, and files where folders go."""

from __future__ import annotations

import importlib
import os
import shutil
import stat
import sys

import pytest
import torch
from tiny_data import make_dataset
from tiny_pipeline import save_tiny_run

from ava_tools import cli
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.x3d import VARIANTS
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import PeopleNetworkNumbers, save_people_file
from detection.structures import ClipSampling, LabelMap

# Options that name a file: {o} is where it goes; {w} is the world below.
FILES = [
    "check {w}/set --no-videos --json {o}",
    "convert --checkpoint {w}/x2d.pt --to own --out {o}",
    "convert --checkpoint {w}/x2d.pt --to safetensors --out {o}",
    "evaluate {files} --json {o}",
    "evaluate {files} --csv {o}",
    "evaluate {files} --html {o}",
    "export_labels via3 --dataset {w}/set --split val --out {o}",
    "make_demo --out {w}/demo --num-train 1 --num-val 1 --keyframes 2 --sheet {o}",
    "report_boxes --dataset {w}/set --split val --boxes {w}/boxes.csv --json {o}",
    "report_boxes --dataset {w}/set --split val --boxes {w}/boxes.csv --html {o}",
    "report_boxes --dataset {w}/set --split val --boxes {w}/boxes.csv --png {o}",
    "verify {w}/set --json {o}",
    "visualize --video {w}/set/videos/val_0.mp4 {files} --out {o}",
    "visualize --video {w}/set/videos/val_0.mp4 {files} --keyframes-only --sheet {o}",
]
# Options that name a folder.
FOLDERS = [
    "check {w}/set --out {o}",
    "detect_actions {w}/set/videos/val_0.mp4 --checkpoint {w}/run --people {w}/small.pt --out {o}",
    "export_cvat --dataset {w}/set --split val --out {o}",
    "import_dataset videos --source {w}/set/videos --out {o}",
    "import_dataset clips --dataset {w}/set --out {o}",
    "make_demo --num-train 1 --num-val 1 --keyframes 2 --overwrite --out {o}",
    "prepare --dataset {w}/set --jobs 1 --out {o}",
    "download --dataset ava-v2.2 --what annotations --base-url http://127.0.0.1:9 "
    "--attempts 1 --out {o}",
    "visualize --dataset {w}/set --split val --review --out {o}",
    "train_ava --cfg configs/demo_x3d_xs.yaml data.root={w}/set output={o} --overwrite",
    "train_people --cfg configs/people_demo.yaml data.root={w}/set output={o} --overwrite",
    "expand --cfg configs/expand_demo.yaml output={o}",
    # a table that keeps unfinished work beside it, which a device has no room for
    "detect_people --dataset {w}/set --split val --weights {w}/small.pt --device cpu --workers 0 "
    "--quiet --out {o}",
]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    make_dataset(folder / "set", train=1, val=1)
    rows = (folder / "set/annotations/val.csv").read_text().splitlines()
    scored = [",".join([*row.split(",")[:7], "0.9"]) for row in rows]
    (folder / "detections.csv").write_text("\n".join(scored) + "\n")
    boxes = {",".join([*row.split(",")[:6], "", "0.9"]) for row in rows}
    (folder / "boxes.csv").write_text("\n".join(sorted(boxes)) + "\n")
    torch.manual_seed(0)
    x2d = build_detector(VARIANTS["x2d"], ActorHeadDescription(2))
    save_model_file(
        folder / "x2d.pt",
        x2d.state_dict(),
        network=describe_network(x2d),
        classes=LabelMap(("sit", "stand"), (11, 12), ("PERSON_MOVEMENT",) * 2),
        sampling=ClipSampling(1, 1),
        short_side_px=128,
    )
    network = build_people_network("small", num_classes=1, short_side_px=64, long_side_px=96)
    numbers = PeopleNetworkNumbers("small", 64, 96)
    save_people_file(folder / "small.pt", network, numbers=numbers, classes=["person"])
    save_tiny_run(folder / "run")
    return folder


def run(line, world, out, monkeypatch, capfd):
    name = line.split()[0]
    module = importlib.import_module("train_ava" if name == "train_ava" else f"ava_tools.{name}")
    files = (
        f"--ground-truth {world}/set/annotations/val.csv --detections {world}/detections.csv "
        f"--label-map {world}/set/annotations/label_map.pbtxt"
    )
    monkeypatch.setattr(sys, "argv", line.format(w=world, o=out, files=files).split())
    code = cli.exit_code_of(module.main)
    printed = capfd.readouterr()
    assert "Traceback" not in printed.err
    return code, printed.err


@pytest.fixture
def null(tmp_path):
    """A device of our own like /dev/null: a fault here must not cost the machine its own."""
    try:
        os.mknod(tmp_path / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("device nodes can be made by root alone")
    return tmp_path / "null"


@pytest.mark.parametrize("line", FILES)
def test_a_device_is_written_into_and_stays(world, null, monkeypatch, capfd, line):
    code, errors = run(line, world, null, monkeypatch, capfd)
    assert code in (0, 1), errors
    assert null.stat().st_rdev == os.makedev(1, 3)
    assert [path.name for path in null.parent.iterdir()] == ["null"]


@pytest.mark.parametrize("line", FILES)
def test_a_link_stays_and_the_file_that_it_names_is_written(
    world, tmp_path, monkeypatch, capfd, line
):
    link, file = tmp_path / "link", tmp_path / "disk" / "file"
    file.parent.mkdir()
    link.symlink_to(file)
    code, errors = run(line, world, link, monkeypatch, capfd)
    assert code in (0, 1), errors
    assert link.is_symlink() and file.stat().st_size > 0
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["disk", "file", "link"]


@pytest.mark.parametrize("line", FOLDERS)
@pytest.mark.parametrize("kind", ["pipe", "null", "file", "circle"])
def test_a_folder_is_not_made_of_what_is_none(world, tmp_path, monkeypatch, capfd, line, kind):
    place = tmp_path / kind
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "null":
        try:
            os.mknod(place, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("device nodes can be made by root alone")
    elif kind == "file":
        if line.startswith("detect_people"):
            return  # which is what it writes
        place.write_text("precious")
    else:
        place.symlink_to(place)
    before = place.lstat()
    code, errors = run(line, world, place, monkeypatch, capfd)
    assert code == 2, errors
    assert errors.rstrip("\n").count("\n") <= 2 and "error: " in errors
    after = place.lstat()
    assert (after.st_mode, after.st_rdev) == (before.st_mode, before.st_rdev)
    assert kind != "file" or place.read_text() == "precious"
    assert [path.name for path in tmp_path.iterdir()] == [kind]


FOLLOWED = [line for line in FOLDERS if line.split()[0] in (
    "check", "detect_actions", "export_cvat", "import_dataset", "make_demo", "prepare", "visualize"
)]  # fmt: skip


@pytest.mark.parametrize("line", FOLLOWED)
def test_a_link_to_a_folder_is_followed(world, tmp_path, monkeypatch, capfd, line):
    link, folder = tmp_path / "link", tmp_path / "disk" / "folder"
    folder.mkdir(parents=True)
    link.symlink_to(folder)
    code, errors = run(line, world, link, monkeypatch, capfd)
    assert code in (0, 1), errors
    assert link.is_symlink() and folder.is_dir() and any(folder.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "link"]
    shutil.rmtree(folder)


# Commands that print what they found, beside those above that write.
SHOWN = [
    "detect_actions {w}/set/videos/val_0.mp4 --checkpoint {w}/run --people {w}/small.pt --out {o}",
    "detect_people --dataset {w}/set --split val --weights {w}/small.pt --device cpu --workers 0 "
    "--quiet --out {o}",
    "expand --replay paper",
    "export_cvat --dataset {w}/set --split val --out {o}",
    "import_dataset clips --dataset {w}/set --out {o}",
    "inspect_model --variant x2d --no-timing",
    "prepare --dataset {w}/set --jobs 1 --out {o}",
    "train_ava --list-options",
    "train_people --list-options",
]


@pytest.mark.parametrize("line", [*FILES, *SHOWN])
def test_a_reader_that_left_ends_every_command_without_a_traceback(
    world, tmp_path, monkeypatch, capfd, line
):
    reader, writer = os.pipe()
    os.close(reader)
    before = os.dup(1)
    os.dup2(writer, 1)
    os.close(writer)
    try:
        monkeypatch.setattr(sys, "stdout", cli._Output(sys.__stdout__))
        code, errors = run(line, world, tmp_path / "out", monkeypatch, capfd)
        code = cli._flushed(code)
    finally:
        os.dup2(before, 1)
        os.close(before)
    assert code == (75 if line.split()[0] not in SILENT else 0), errors
    assert "error" not in errors


SILENT = ("detect_actions",)  # what it says of a file goes to stderr
