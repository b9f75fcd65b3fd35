"""What can go wrong while videos are prepared: named, nothing half written, and it goes on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
import wave
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from numbered_dataset import make_dataset
from numbered_video import write_numbered

from ava_tools import prepare as command
from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import read_actor_table
from detection.datasets.ava_csv import write_person_boxes
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.datasets.open_video import open_video
from detection.datasets.transforms import EvalTransform
from detection.errors import UserError
from detection.files import only_writer
from detection.prepare.dataset import prepare_dataset
from detection.prepare.video import PrepareOptions, prepare_video
from detection.structures import ActorBoxes, ClipSampling, Keyframe
from detection.video.reader import VideoReader

SMALL = PrepareOptions(short_side=64)
REPOSITORY = Path(__file__).resolve().parents[2]


def source(tmp_path, names="ab", seconds=4, **options):
    root = make_dataset(tmp_path / "in", {name: [1.0, 2.0] for name in names}, **options)
    for name in names:
        write_numbered(root / f"videos/{name}.mp4", [i / 25 for i in range(25 * seconds)])
    return root


def prepare(root, out, **options):
    options.setdefault("options", SMALL)
    return prepare_dataset(DatasetFolder.open(root), out, **options)


def files(out):
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}


def pictures(path):
    """Return the times of a video's frames, and their RGB values."""
    with VideoReader(path) as reader:
        found = [
            (time_s, frame.to_ndarray(format="rgb24")) for time_s, frame in reader.decoded_frames()
        ]
    return [time_s for time_s, _ in found], np.array([rgb for _, rgb in found], np.int16)


def manifest(content):
    """Return what a manifest says, without size and hash of the video that was written."""
    facts = json.loads(content)
    return facts | {"own": {k: v for k, v in facts["own"].items() if k not in ("bytes", "sha256")}}


def assert_same(one, two):
    """Compare two folders to the bit, videos by their pictures.

    x264 does not write the same bits each time: one thread, the same frames, one file in fifty on a
    busy machine.
    """
    first, second = files(one), files(two)
    assert first.keys() == second.keys()
    for name in first:
        if name.endswith(".mp4"):
            (times_s, seen), (same_s, also) = pictures(one / name), pictures(two / name)
            assert times_s == same_s, name
            assert np.abs(seen - also).mean() < 1, name
        elif name.startswith("prepared/"):
            assert manifest(first[name]) == manifest(second[name]), name
        elif not name.endswith("dataset.yaml"):
            assert first[name] == second[name], name


def test_the_result_is_a_data_set_to_train_on(tmp_path):
    root = source(tmp_path)
    prepare(root, tmp_path / "out", options=PrepareOptions(short_side=48))
    folders = [DatasetFolder.open(place) for place in (root, tmp_path / "out")]
    samples = []
    for folder in folders:
        table = read_actor_table(folder, "train", folder.read_label_map())
        data = AvaDataset(
            table,
            open_video=lambda video_id, folder=folder: open_video(folder, video_id),
            transform=EvalTransform(short_side=48),
            sampling=ClipSampling(4, 5),
        )
        data.check_videos()
        samples.append(data[3])
    was, now = samples
    assert was.keyframe == now.keyframe == Keyframe("b", 2.0)
    assert was.boxes.xyxy_01 == pytest.approx(now.boxes.xyxy_01)
    assert np.abs(was.frames.float() - now.frames.float()).mean() < 12


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def sound(path):
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


def damaged(path):
    """Frames in the middle are not what the encoder wrote."""
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat")
    middle = start + (len(data) - start) // 2
    data[middle : middle + 400] = np.random.default_rng(0).bytes(400)
    path.write_bytes(data)


@pytest.mark.parametrize(
    "harm, message",
    [
        (cut, "cut short"),
        (sound, "contains no video stream"),
        (damaged, "damaged"),
        (lambda path: path.write_bytes(b""), "not a video"),
        (lambda path: path.write_bytes(b"<html>no video here</html>" * 99), "not a video"),
        (lambda path: path.unlink(), "video file not found"),
        (lambda path: (path.unlink(), path.mkdir()), "cannot be read"),
    ],
    ids=["cut", "sound", "damaged", "empty", "page", "missing", "folder"],
)
def test_a_bad_source_is_named_and_the_others_are_prepared(tmp_path, harm, message):
    root, out = source(tmp_path), tmp_path / "out"
    harm(root / "videos/b.mp4")
    report = prepare(root, out)
    assert report.prepared == ("a",) and list(report.failed) == ["b"]
    assert message in report.failed["b"] and "b.mp4" in report.failed["b"]
    assert "\n" not in report.failed["b"]
    assert sorted(files(out)) == ["prepared/a.json", "videos/a.mp4"]
    report = prepare(root, out, leave_out_broken=True)
    assert report.whole and report.kept == ("a",)
    folder = DatasetFolder.open(out)
    assert (out / "annotations/train_videos.txt").read_text() == "a\n"
    assert len(read_actor_table(folder, "train", folder.read_label_map())) == 2


def test_damage_is_tolerated_when_asked(tmp_path):
    root = source(tmp_path)
    damaged(root / "videos/b.mp4")
    options = PrepareOptions(short_side=64, damage="skip")
    report = prepare(root, tmp_path / "out", options=options)
    assert not report.failed
    assert all("damage put out of order" in said for said in report.repairs["b"])


def test_a_keyframe_past_the_end_is_named_with_its_row(tmp_path):
    root = make_dataset(tmp_path / "in", {"v": [1.0, 2.0, 9.0]})
    write_numbered(root / "videos/v.mp4", [i / 25 for i in range(100)])
    report = prepare(root, tmp_path / "out")
    assert "keyframe at 9.000000 s" in report.failed["v"] and "train.csv:3" in report.failed["v"]
    assert "past the last frame, which is shown at 3.960000 s" in report.failed["v"]
    assert not files(tmp_path / "out")


def test_a_keyframe_before_the_start_is_named_with_its_row(tmp_path):
    root = make_dataset(tmp_path / "in", {"v": [1.0, 8.0]})
    write_numbered(root / "videos/v.mp4", [7.3 + i / 25 for i in range(100)])
    report = prepare(root, tmp_path / "out")
    assert "train.csv:1) is before the first frame" in report.failed["v"]


def test_every_video_broken_makes_no_data_set(tmp_path):
    root = source(tmp_path)
    for name in "ab":
        (root / f"videos/{name}.mp4").unlink()
    assert not prepare(root, tmp_path / "out", leave_out_broken=True).whole
    assert not (tmp_path / "out/dataset.yaml").exists()


def test_command_ends_with_2_and_says_what_to_do(tmp_path, capsys):
    root = source(tmp_path)
    cut(root / "videos/b.mp4")
    arguments = ["--dataset", str(root), "--out", str(tmp_path / "out"), "--jobs", "1"]
    with pytest.raises(UserError, match=r"1 video\(s\).*--leave-out-broken"):
        command.main(arguments)
    assert "b: " in capsys.readouterr().out
    assert command.main([*arguments, "--leave-out-broken"]) == 0
    assert "--leave-out-broken" in DatasetFolder.open(tmp_path / "out").file.how_to_get


def test_again_keeps_what_is_there(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    prepare(root, out)
    before = files(out)
    os.utime(root / "videos/a.mp4")  # copied or touched: the same bytes
    assert prepare(root, out).kept == ("a", "b")
    assert files(out) == before


def test_what_changed_is_made_anew(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    prepare(root, out)
    shutil.copytree(out, tmp_path / "before")
    cut(out / "videos/a.mp4")
    (out / "prepared/b.json").write_text("{")
    assert prepare(root, out).prepared == ("a", "b")
    assert_same(out, tmp_path / "before")
    assert prepare(root, out, options=PrepareOptions(short_side=48)).prepared == ("a", "b")
    write_numbered(root / "videos/a.mp4", [i / 24 for i in range(90)])
    report = prepare(root, out, options=PrepareOptions(short_side=48))
    assert (report.prepared, report.kept) == (("a",), ("b",))


def test_a_folder_with_work_undone_is_no_data_set(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    prepare(root, out)
    cut(root / "videos/a.mp4")
    prepare(root, out)
    with pytest.raises(UserError, match="file not found"):
        DatasetFolder.open(out)
    write_numbered(root / "videos/a.mp4", [i / 25 for i in range(100)])
    prepare(root, out)
    assert DatasetFolder.open(out).file.videos == "videos"


def test_boxes_made_for_the_prepared_videos_stay_known(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    prepare(root, out)
    box = ActorBoxes(np.array([[0, 0, 1, 1]], np.float32), np.ones(1, np.float32))
    write_person_boxes(out / "annotations/boxes_own.csv", [(Keyframe("a", 1.0), box)])
    file = DatasetFolder.open(out).file
    part = file.splits["train"].model_copy(update={"boxes": {"own": "annotations/boxes_own.csv"}})
    write_dataset_file(out, file.model_copy(update={"splits": {"train": part}}))
    cut(out / "videos/a.mp4")
    prepare(root, out)
    assert DatasetFolder.open(out).file.splits["train"].boxes == {
        "own": "annotations/boxes_own.csv"
    }


def test_sources_may_be_deleted_when_their_work_is_done(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    prepare(root, out)
    (root / "videos/a.mp4").unlink()
    assert prepare(root, out).kept == ("a", "b")
    (out / "videos/a.mp4").unlink()
    report = prepare(root, out)
    assert "video file not found" in report.failed["a"] and report.kept == ("b",)


def test_only_some(tmp_path):
    root, out = source(tmp_path, "abc"), tmp_path / "out"
    assert prepare(root, out, only=["c", "a"]).prepared == ("c", "a")
    assert (out / "annotations/train_videos.txt").read_text() == "a\nc\n"
    with pytest.raises(UserError, match=r"--only zz: none of the 3 videos.*a, b, c"):
        prepare(root, out, only=["zz"])


def test_out_must_be_a_folder_of_its_own(tmp_path):
    root = source(tmp_path)
    with pytest.raises(UserError, match="source videos"):
        prepare(root, root)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/letter.txt").write_text("dear")
    with pytest.raises(UserError, match="was not made by prepare"):
        prepare(root, tmp_path / "other")
    with pytest.raises(UserError, match="no folder"):
        prepare(root, tmp_path / "other/letter.txt")
    with pytest.raises(UserError, match="cannot be written"):
        prepare(root, tmp_path / "other/letter.txt/deeper")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/prepared").mkdir()
    (tmp_path / "linked/videos").symlink_to(root / "videos")
    with pytest.raises(UserError, match="source videos"):
        prepare(root, tmp_path / "linked")


def test_no_annotation_file_is_written_outside(tmp_path):
    root, out = source(tmp_path), tmp_path / "deep/out"
    (tmp_path / "train.csv").write_bytes((root / "annotations/train.csv").read_bytes())
    text = (root / "dataset.yaml").read_text()
    (root / "dataset.yaml").write_text(text.replace("annotations/train.csv", "../train.csv"))
    with pytest.raises(UserError, match="outside the data set folder"):
        prepare(root, out)
    assert not (tmp_path / "deep/train.csv").exists()


def test_two_at_once_is_refused(tmp_path):
    root, out = source(tmp_path), tmp_path / "out"
    with (
        only_writer(out, busy="held by the test"),
        pytest.raises(UserError, match="another prepare"),
    ):
        (out / "prepared").mkdir()
        prepare(root, out)
    assert prepare(root, out).whole


@contextmanager
def files_no_larger_than(num_bytes):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.95])
def test_a_disk_that_takes_no_more_stops_everything(tmp_path, share):
    root, out = source(tmp_path, "a"), tmp_path / "out"
    prepare(root, tmp_path / "measured")
    size = (tmp_path / "measured/videos/a.mp4").stat().st_size
    with (
        files_no_larger_than(int(share * size)),
        pytest.raises(UserError, match="out/.*(cannot be written|cannot be read back)"),
    ):
        prepare(root, out)
    assert not files(out)
    assert prepare(root, out).prepared == ("a",)


def test_killed_and_started_again_gives_the_same(tmp_path):
    """As a power cut does, in the middle of the second and third of four videos."""
    names = "abcd"
    root = make_dataset(tmp_path / "in", {name: [1.0, 12.0] for name in names})
    for name in names:
        write_numbered(root / f"videos/{name}.mp4", [i / 25 for i in range(330)])
    out = tmp_path / "out"
    started = subprocess.Popen(
        [sys.executable, "-m", "ava_tools.prepare", "--dataset", root, "--out", out]
        + ["--short-side", "64", "--jobs", "2"],
        cwd=REPOSITORY,
        stderr=subprocess.DEVNULL,
    )
    try:
        end = time.monotonic() + 240
        while not list(out.glob("prepared/*.json")) and started.poll() is None:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        started.send_signal(signal.SIGKILL)
        started.wait()
    assert not (out / "dataset.yaml").exists()
    assert 1 <= len(list(out.glob("prepared/*.json"))) < 4
    report = prepare(root, out)
    assert report.whole and report.prepared
    prepare(root, tmp_path / "calm")
    assert not [name for name in files(out) if "writing" in name]
    assert_same(out, tmp_path / "calm")


def test_several_processes_do_what_one_does(tmp_path):
    root = source(tmp_path, "abc")
    cut(root / "videos/b.mp4")
    told = []
    report = prepare(root, tmp_path / "two", jobs=2, on_progress=told.append)
    assert sorted(report.prepared) == ["a", "c"] and "cut short" in report.failed["b"]
    assert sum(told) == pytest.approx(3.96 * 2.5, abs=3)
    prepare(root, tmp_path / "one")
    assert_same(tmp_path / "two", tmp_path / "one")


@pytest.mark.ray
def test_ray_does_what_one_process_does(tmp_path):
    pytest.importorskip("ray")
    root = source(tmp_path, "abc")
    cut(root / "videos/b.mp4")
    report = prepare(root, tmp_path / "two", jobs=2, engine="ray")
    assert sorted(report.prepared) == ["a", "c"] and "cut short" in report.failed["b"]
    prepare(root, tmp_path / "one")
    assert_same(tmp_path / "two", tmp_path / "one")


def test_a_video_whose_process_is_killed_is_tried_again_then_named(monkeypatch, tmp_path):
    """Such a video is not broken, so that no data set goes without it."""
    root = source(tmp_path, "ab")
    killing = partial(lost_with_a, root / "tries")
    with monkeypatch.context() as patch:
        patch.setattr("detection.prepare.dataset._open", killing)
        report = prepare(root, tmp_path / "out", jobs=2, leave_out_broken=True)
    assert report.prepared == ("b",) and not report.whole
    assert report.failed["a"] == "its process ended by signal 9 (out of memory?)"
    assert (root / "tries").read_text() == "xx"
    assert prepare(root, tmp_path / "out").prepared == ("a",)


def lost_with_a(tries, *, is_for_frames):
    return partial(die_on_a, tries)


def die_on_a(tries, job, on_progress):
    if job.video_id != "a":
        return prepare_video(job, on_progress)
    with tries.open("a") as file:
        file.write("x")
    os.kill(os.getpid(), signal.SIGKILL)


def test_manifests_name_the_source(tmp_path):
    root, out = source(tmp_path, "a"), tmp_path / "out"
    prepare(root, out)
    entry = json.loads((out / "prepared/a.json").read_text())
    assert entry["source"]["file"] == "a.mp4" and entry["asked"]["window_s"] == [0.0, 9.0]
