"""What a box table is known by: every option, every video, whole or half done."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal

import numpy as np
import pytest
from fake_people import FakeDetector
from tiny_data import make_dataset

from ava_tools.cli import exit_code_of
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.people.box_table import make_box_table
from detection.people.video_identity import video_digests
from detection.structures import ActorBoxes, Keyframe

OPTIONS = {"weights": "abc", "network": "n", "score_floor": 0.05, "half": False}
NAMES = [f"train_{number}" for number in range(4)]
REQUIRED = [Keyframe(name, time_s) for name in NAMES for time_s in (0.0, 0.5, 1.26)]


@pytest.fixture
def folder(tmp_path):
    return DatasetFolder.open(make_dataset(tmp_path / "tiny", train=4, val=1))


def make(folder, out, **changes):
    detector = changes.pop("detector", None) or FakeDetector()
    settings = {"open_detector": lambda: detector, "options": OPTIONS, "batch_size": 3, **changes}
    return make_box_table(folder, settings.pop("required", REQUIRED), out, **settings)


def replace_video(folder, name, by="val_0"):
    """Put another video of the same size and time at a video's place."""
    path = folder.root / "videos" / f"{name}.mp4"
    when, content = path.stat(), (folder.root / "videos" / f"{by}.mp4").read_bytes()
    path.write_bytes(content)
    os.utime(path, ns=(when.st_atime_ns, when.st_mtime_ns))


class Killed(FakeDetector):
    """Ends the run at its third batch."""

    batches = 0

    def detect(self, images):
        self.batches += 1
        if self.batches == 3:
            raise KeyboardInterrupt
        return super().detect(images)


@pytest.mark.parametrize("finished", [True, False])
def test_each_entry_of_the_key_alone_tells_it_apart(folder, tmp_path, finished):
    """All of them, whatever they are: one that comes later is tried as well."""
    out = tmp_path / "boxes.csv"
    make(folder, out)
    options = json.loads(out.with_suffix(".made_by.json").read_text())["options"]
    assert set(OPTIONS) | {"short_side", "batch_size", "keyframes"} == set(options)
    others = {**{name: {"options": {**OPTIONS, name: "z"}} for name in OPTIONS}}
    others["short_side"] = {"short_side_px": 48}
    others["batch_size"] = {"batch_size": 2}
    others["keyframes"] = {"required": REQUIRED[1:]}
    assert set(others) == set(options)
    if not finished:
        out.unlink()
        with pytest.raises(KeyboardInterrupt):
            make(folder, out, detector=Killed())
    for name, changes in others.items():
        with pytest.raises(UserError, match=rf"other options \({name}") as caught:
            make(folder, out, **changes)
        assert "\n" not in str(caught.value)


def test_a_finished_table_of_videos_that_changed_is_refused_and_named(folder, tmp_path):
    out = tmp_path / "boxes.csv"
    make(folder, out)
    first = out.read_bytes()
    assert make(folder, out).kept
    replace_video(folder, "train_2")
    with pytest.raises(UserError, match=r"of other videos \(1 of 4 have changed since: train_2\)"):
        make(folder, out)
    assert out.read_bytes() == first
    assert not make(folder, out, overwrite=True).kept
    assert out.read_bytes() != first
    make(folder, tmp_path / "new.csv")
    assert out.read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_a_video_replaced_between_a_kill_and_the_next_try_is_done_again(folder, tmp_path):
    out, again = tmp_path / "boxes.csv", FakeDetector()
    with pytest.raises(KeyboardInterrupt):
        make(folder, out, detector=Killed())
    replace_video(folder, "train_0")
    summary = make(folder, out, detector=again)
    assert summary.outdated == 1 and summary.new_keyframes == 9, "one of two batches stood"
    make(folder, tmp_path / "new.csv")
    assert out.read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_a_moved_data_set_is_the_same(folder, tmp_path):
    out = tmp_path / "boxes.csv"
    make(folder, out)
    moved = DatasetFolder.open(folder.root.rename(tmp_path / "elsewhere"))
    assert make(moved, out).kept


def test_a_video_that_changes_while_it_is_read_gives_no_table(folder, tmp_path):
    class Meddler(FakeDetector):
        def detect(self, images):
            replace_video(folder, "train_0")
            return super().detect(images)

    out = tmp_path / "boxes.csv"
    with pytest.raises(UserError, match="1 of 4 have changed since: train_0"):
        make(folder, out, detector=Meddler())
    assert not out.exists()
    make(folder, out)
    make(folder, tmp_path / "new.csv")
    assert out.read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_a_table_of_before_this_was_noted_is_refused_in_one_line(folder, tmp_path):
    out = tmp_path / "boxes.csv"
    make(folder, out)
    path = out.with_suffix(".made_by.json")
    content = json.loads(path.read_text())
    del content["videos"], content["summary"]["outdated"]
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="nothing says of which.*--overwrite"):
        make(folder, out)


def test_size_time_and_either_end_of_a_large_video_count(tmp_path):
    root = make_dataset(tmp_path / "tiny", train=1, val=1)
    folder = DatasetFolder.open(root)
    path = root / "videos" / "train_0.mp4"
    content = bytearray(300_000)
    path.write_bytes(content)
    os.utime(path, ns=(5, 5))
    seen = {video_digests(folder, ["train_0"])["train_0"]}
    for place in (0, len(content) - 1):
        content[place] = 1
        path.write_bytes(content)
        os.utime(path, ns=(5, 5))
        seen.add(video_digests(folder, ["train_0"])["train_0"])
    os.utime(path, ns=(5, 6))
    seen.add(video_digests(folder, ["train_0"])["train_0"])
    path.unlink()
    seen.add(video_digests(folder, ["train_0"])["train_0"])
    assert len(seen) == 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("where", ["score", "box"])
def test_boxes_and_scores_that_are_no_numbers_are_one_line(folder, tmp_path, bad, where):
    class Broken(FakeDetector):
        def _find(self, frame):
            boxes, scores = np.array([[0.1, 0.1, 0.5, 0.5]]), np.array([0.5])
            (boxes[0] if where == "box" else scores)[0] = bad
            return ActorBoxes(boxes, scores)

    with pytest.raises(UserError, match="train_0.*not finite") as caught:
        make(folder, tmp_path / "boxes.csv", detector=Broken())
    assert "\n" not in str(caught.value) and not (tmp_path / "boxes.csv").exists()


def test_a_batch_counts_as_done_once_it_is_on_the_disk(folder, tmp_path, monkeypatch):
    """Every record of a batch is synced before the next batch is looked at."""
    synced, fsync = [0], os.fsync

    def noted(handle):
        synced.append(max(synced[-1], os.fstat(handle).st_size))
        fsync(handle)

    class Watching(FakeDetector):
        def detect(self, frames):
            written = [p.stat().st_size for p in (tmp_path / "boxes.csv.parts").iterdir()]
            assert max(written, default=0) <= synced[-1]
            return super().detect(frames)

    monkeypatch.setattr(os, "fsync", noted)
    make(folder, tmp_path / "boxes.csv", detector=Watching())
    assert len(set(synced)) > len(REQUIRED) // 3


def test_a_killed_worker_is_one_line_with_75_and_the_same_command_goes_on(
    folder, tmp_path, monkeypatch, capfd
):
    """A real SIGKILL of the process that reads, while it has work before it."""

    class Killer(FakeDetector):
        def detect(self, images):
            found = super().detect(images)
            if self.frames == 3:
                for worker in multiprocessing.active_children():
                    os.kill(worker.pid, signal.SIGKILL)
            return found

    out = tmp_path / "boxes.csv"
    names = [f"train_{number}" for number in range(4)] + ["val_0"]
    required = [
        Keyframe(name, t) for name in names for t in np.arange(0, 2.9, 0.1).round(1).tolist()
    ]
    code = exit_code_of(
        lambda _: make(folder, out, detector=Killer(), workers=1, required=required) and 0
    )
    said = capfd.readouterr().err
    assert code == 75, said
    assert said.count("\n") == 1 and "Traceback" not in said
    assert "gone" in said and "what was done is kept, give the same command again" in said
    assert not out.exists() and (tmp_path / "boxes.csv.parts").is_dir()
    again = FakeDetector()
    make(folder, out, detector=again, workers=1, required=required)
    assert 0 < again.frames < len(required), "some of it was done"
    make(folder, tmp_path / "new.csv", required=required)
    assert out.read_bytes() == (tmp_path / "new.csv").read_bytes()


def test_a_place_that_takes_no_folder_is_said_at_once(folder):
    """Where the system answers "not found" however often it is asked to make one."""
    with pytest.raises(UserError, match=r"/proc/none.*cannot be written \(No such file"):
        make(folder, "/proc/none/boxes.csv")
