"""Box tables: the same file however the work is cut, killed, shared out and taken up again."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import signal
import threading
import time

import numpy as np
import pytest
import torch
from fake_people import FakeDetector
from tiny_data import make_dataset

from detection.datasets.ava_csv import read_person_boxes, write_keyframe_list
from detection.datasets.folder import DatasetFolder
from detection.datasets.open_video import open_video
from detection.errors import UserError
from detection.people import keyframe_frames as keyframes
from detection.people.box_table import make_box_table, unreadable_path
from detection.people.keyframe_frames import batches_of, read_batches, scaled_short_side
from detection.people.shards import Parts, Shard
from detection.structures import ActorBoxes, Keyframe

OPTIONS = {"weights": "abc", "score_floor": 0.05}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return DatasetFolder.open(make_dataset(tmp_path_factory.mktemp("set") / "tiny"))


@pytest.fixture(scope="module")
def required(folder):
    """28 keyframes: four a video, some between frames."""
    return [
        Keyframe(f"{split}_{number}", time_s)
        for split, count in (("train", 5), ("val", 2))
        for number in range(count)
        for time_s in (0.0, 0.5, 1.26, 2.9)
    ]


def make(folder, required, out, **changes):
    detector = changes.pop("detector", None) or FakeDetector()
    settings = {"open_detector": lambda: detector, "options": OPTIONS, "batch_size": 3, **changes}
    return make_box_table(folder, required, out, **settings)


@pytest.fixture(scope="module")
def unbroken(folder, required, tmp_path_factory):
    """The bytes of a table made in one go."""
    out = tmp_path_factory.mktemp("unbroken") / "boxes.csv"
    make(folder, required, out)
    assert sorted(path.name for path in out.parent.iterdir()) == ["boxes.csv", "boxes.made_by.json"]
    return out.read_bytes()


def test_the_table_holds_what_the_detector_says_of_each_frame(folder, required, tmp_path):
    frames = []
    for key in required:
        with open_video(folder, key.video_id) as video:
            frames.append(video.read([key.time_s]).frames[0])
    detector = FakeDetector(empty_below=np.median([frame.numpy().mean() for frame in frames]))
    expected = [
        (key, *box, score)
        for key, boxes in zip(required, detector.detect(frames), strict=True)
        for box, score in zip(boxes.xyxy_01, boxes.score, strict=True)
    ]
    summary = make(folder, required, tmp_path / "boxes.csv", detector=detector)
    rows = read_person_boxes(tmp_path / "boxes.csv")
    found = [
        (rows.keyframe(i), *rows.boxes_01[i].astype(np.float32), np.float32(rows.score[i]))
        for i in range(len(rows))
    ]
    assert found == expected  # float32 for float32, in order of video and time
    assert summary.boxes == len(expected)
    assert 0 < summary.empty == len(required) - len({row[0] for row in expected}) < len(required)
    assert summary.keyframes == len(required)
    assert (rows.action_id == -1).all()


def test_batch_size_and_workers_change_nothing(folder, required, unbroken, tmp_path):
    for number, changes in enumerate(({"batch_size": 1}, {"batch_size": 50}, {"workers": 2})):
        out = tmp_path / f"{number}.csv"
        make(folder, required, out, **changes)
        assert out.read_bytes() == unbroken


def test_no_person_anywhere_is_an_empty_table(folder, required, tmp_path):
    summary = make(folder, required, tmp_path / "b.csv", detector=FakeDetector(empty_below=1e9))
    assert (summary.boxes, summary.empty) == (0, len(required))
    assert (tmp_path / "b.csv").read_bytes() == b""


def fork_and_kill(work, when) -> bool:
    """Run `work` in a child process and kill it when `when()` is true; say whether that was so."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    while not when():
        done, _ = os.waitpid(child, os.WNOHANG)
        if done:
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_is_killed_again_and_again_ends_in_the_same_file(
    folder, required, unbroken, tmp_path, workers
):
    out, luck, kills, records = tmp_path / "boxes.csv", random.Random(workers), 0, [0]
    part = tmp_path / "boxes.csv.parts" / "shard-1-of-1.part"

    def after_a_batch_more():
        now = part.read_bytes().count(b"\n") if part.is_file() else 0
        if now <= max(1, records[-1]):  # one line is the header
            return False
        records.append(now)
        time.sleep(luck.uniform(0, 0.04))
        return True

    for _ in range(4):
        slow = FakeDetector(delay_s=0.03)
        kills += fork_and_kill(
            lambda slow=slow: make(folder, required, out, detector=slow, workers=workers),
            after_a_batch_more,
        )
        assert not out.exists()
    last = FakeDetector()
    make(folder, required, out, detector=last, workers=workers)
    assert out.read_bytes() == unbroken
    assert kills == 4
    assert last.frames <= len(required) - 4 * 3  # what was done was not done again
    assert not list(tmp_path.glob("*.parts"))


@pytest.fixture
def whole_part(folder, required, tmp_path, monkeypatch):
    """The bytes of the part file of a run that did everything but write its table."""

    def disk_is_full(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("detection.people.box_table.write_person_boxes", disk_is_full)
        with pytest.raises(OSError, match="no space"):
            make(folder, required, tmp_path / "full.csv")
    part = (tmp_path / "full.csv.parts" / "shard-1-of-1.part").read_bytes()
    assert part.count(b"\n") == 1 + 10
    return part


def restore(out, part: bytes) -> None:
    parts = out.with_name(out.name + ".parts")
    parts.mkdir()
    (parts / "shard-1-of-1.part").write_bytes(part)


def test_a_part_cut_off_at_any_byte_is_taken_up(folder, required, unbroken, whole_part, tmp_path):
    size = len(whole_part)
    places = [0, 1, size - 1, size, *random.Random(0).sample(range(size), 12)]
    for number, place in enumerate(places):
        out, detector = tmp_path / f"{number}.csv", FakeDetector()
        restore(out, whole_part[:place])
        make(folder, required, out, detector=detector)
        assert out.read_bytes() == unbroken, place
        batches = max(0, whole_part[:place].count(b"\n") - 1)
        assert detector.frames == max(0, len(required) - 3 * batches)
        assert not list(tmp_path.glob(f"{number}.csv.parts"))


def test_a_part_with_garbage_behind_it_is_taken_up(
    folder, required, unbroken, whole_part, tmp_path
):
    half = whole_part[: whole_part[: len(whole_part) // 2].rfind(b"\n") + 1]
    for number, rest in enumerate((b"\0" * 700, b"12345678 1 0 []\n", b"\n", b"\xff 1\n")):
        out = tmp_path / f"{number}.csv"
        restore(out, half + rest)
        make(folder, required, out)
        assert out.read_bytes() == unbroken


def test_a_part_of_another_run_is_refused_in_one_line(folder, required, whole_part, tmp_path):
    out = tmp_path / "boxes.csv"
    restore(out, whole_part[:-5])
    part = out.with_name("boxes.csv.parts") / "shard-1-of-1.part"
    cases = (
        ({"options": {**OPTIONS, "score_floor": 0.1}}, "score_floor 0.05 there, 0.1 here"),
        ({"options": {**OPTIONS, "weights": "x" * 64}}, "weights"),
        ({"batch_size": 4}, "batch_size 3 there, 4 here"),
        ({"short_side_px": 48}, "short_side None there, 48 here"),
    )
    for changes, words in cases:
        with pytest.raises(UserError, match=words) as caught:
            make(folder, required, out, **changes)
        assert "--overwrite" in str(caught.value)
        assert part.read_bytes() == whole_part[:-5]  # nothing lost
    with pytest.raises(UserError, match="keyframes"):
        make(folder, required[1:], out)
    changes = {"options": {**OPTIONS, "score_floor": 0.1}, "overwrite": True}
    detector = FakeDetector()
    make(folder, required, out, detector=detector, **changes)
    assert detector.frames == len(required)
    assert sorted(path.name for path in tmp_path.glob("boxes*")) == [
        "boxes.csv",
        "boxes.made_by.json",
    ]


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_shards_one_after_the_other_give_the_same_file(folder, required, unbroken, tmp_path, order):
    out = tmp_path / "boxes.csv"
    first, second = FakeDetector(), FakeDetector()
    summary = make(folder, required, out, shard=Shard(order[0], 2), detector=first)
    assert not summary.complete and not out.exists()
    summary = make(folder, required, out, shard=Shard(order[1], 2), detector=second)
    assert summary.complete and out.read_bytes() == unbroken
    assert first.frames + second.frames == len(required)
    assert not list(tmp_path.glob("*.parts"))


def test_shards_at_the_same_time_give_the_same_file(folder, required, unbroken, tmp_path):
    for attempt in range(4):
        out, summaries = tmp_path / f"{attempt}.csv", []

        def run(index, out=out, summaries=summaries):
            slow = FakeDetector(delay_s=0.005 * index)
            summaries.append(make(folder, required, out, shard=Shard(index, 4), detector=slow))

        threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(summaries) == 4
        assert sum(summary.complete and not summary.kept for summary in summaries) == 1
        assert out.read_bytes() == unbroken
        assert not list(tmp_path.glob("*.parts"))


def test_of_processes_that_end_together_one_writes_the_table(folder, required, unbroken, tmp_path):
    """Each looks whether others are at work: none may leave the merge to one that has gone."""
    for attempt in range(8):
        out, children = tmp_path / f"{attempt}.csv", []
        for index in range(3):
            children.append(os.fork())
            if not children[-1]:
                code = 1
                with contextlib.suppress(BaseException):
                    code = 3 if make(folder, required, out, shard=Shard(index, 3)).kept else 0
                os._exit(code)
        codes = {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children}
        assert codes <= {0, 3}
        assert out.read_bytes() == unbroken
        assert not list(tmp_path.glob("*.parts"))


def test_none_merges_while_another_shard_is_at_work(folder, required, tmp_path):
    """All batches have a record, one of which a shard tries to better: it has to come first."""
    out, keys = tmp_path / "boxes.csv", [*required, Keyframe("val_1", 7.25)]  # past the end
    for index in range(2):
        make(folder, keys, out, shard=Shard(index, 2))
    seen = []

    class Interrupted(FakeDetector):
        def detect(self, images):
            seen.append(make(folder, keys, out, shard=Shard(0, 2)).complete)
            return super().detect(images)

    assert make(folder, keys, out, shard=Shard(1, 2), detector=Interrupted()).complete
    assert seen == [False]


def test_a_killed_shard_is_not_at_work(folder, required, unbroken, tmp_path):
    out = tmp_path / "boxes.csv"
    part = tmp_path / "boxes.csv.parts" / "shard-1-of-2.part"

    def work():
        make(
            folder, required, out, shard=Shard(0, 2), detector=FakeDetector(delay_s=0.05), workers=1
        )

    def begun():
        return part.is_file() and part.read_bytes().count(b"\n") > 1

    assert fork_and_kill(work, begun)
    make(folder, required, out)  # alone: refused while any shard is at work
    assert out.read_bytes() == unbroken and not list(tmp_path.glob("*.parts"))


def test_shards_that_fail_together_leave_nothing(folder, required, tmp_path):
    out, together = tmp_path / "boxes.csv", threading.Barrier(4)

    def fails():
        together.wait()
        raise UserError("no weights")

    def run(index):
        with pytest.raises(UserError, match="no weights"):
            make(folder, required, out, shard=Shard(index, 4), open_detector=fails)

    threads = [threading.Thread(target=run, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_taken_up_by_another_number_of_processes(folder, required, unbroken, tmp_path):
    out, last = tmp_path / "boxes.csv", FakeDetector()
    make(folder, required, out, shard=Shard(0, 3))
    make(folder, required, out, shard=Shard(1, 4))
    make(folder, required, out, detector=last)
    assert out.read_bytes() == unbroken
    assert last.frames < len(required) / 2


def test_more_shards_than_batches(folder, required, tmp_path):
    out = tmp_path / "boxes.csv"
    complete = [make(folder, required[:4], out, shard=Shard(i, 3)).complete for i in range(3)]
    assert complete == [False, True, True]  # the third finds the table there


def test_a_table_in_work_belongs_to_one_run(folder, required, unbroken, tmp_path):
    out, errors = tmp_path / "boxes.csv", []

    class Interrupted(FakeDetector):
        def detect(self, images):
            if not self.frames:
                for shard in (Shard(), Shard(1, 2)):
                    with pytest.raises(UserError, match="another process is writing it") as caught:
                        make(folder, required, out, shard=shard)
                    errors.append(str(caught.value))
            return super().detect(images)

    make(folder, required, out, detector=Interrupted())
    assert len(errors) == 2 and f"process {os.getpid()}" in errors[0]
    assert out.read_bytes() == unbroken


def test_one_shard_twice_at_a_time_is_refused(folder, required, unbroken, tmp_path):
    out = tmp_path / "boxes.csv"

    class Interrupted(FakeDetector):
        def detect(self, images):
            with pytest.raises(UserError, match="doing shard 1/2 of it already"):
                make(folder, required, out, shard=Shard(0, 2))
            with pytest.raises(UserError, match="another process is writing it"):
                make(folder, required, out)
            return super().detect(images)

    make(folder, required, out, shard=Shard(0, 2), detector=Interrupted())
    make(folder, required, out, shard=Shard(1, 2))
    assert out.read_bytes() == unbroken


def test_a_finished_table_is_kept_and_another_ones_place_is_not_taken(
    folder, required, unbroken, tmp_path
):
    out = tmp_path / "boxes.csv"
    make(folder, required, out)
    idle = FakeDetector()
    again = make(folder, required, out, detector=idle)
    assert again.kept and again.boxes and not idle.frames
    assert not list(tmp_path.glob("*.parts"))
    other = {**OPTIONS, "score_floor": 0.5}
    with pytest.raises(UserError, match="score_floor 0.05 there, 0.5 here.*--overwrite"):
        make(folder, required, out, options=other)
    (tmp_path / "boxes.made_by.json").unlink()
    with pytest.raises(UserError, match="nothing says with which"):
        make(folder, required, out)
    assert out.read_bytes() == unbroken
    make(folder, required, out, options=other, overwrite=True)
    made_by = json.loads((tmp_path / "boxes.made_by.json").read_text())
    assert made_by["options"]["score_floor"] == 0.5


def test_overwriting_goes_on_too_and_keeps_what_siblings_just_finished(
    folder, required, unbroken, tmp_path
):
    out, began_s = tmp_path / "boxes.csv", time.time() - 1
    out.write_text("other boxes")
    for index in range(2):
        make(folder, required, out, shard=Shard(index, 2), overwrite=True, began_s=began_s)
    late = FakeDetector()
    summary = make(
        folder, required, out, shard=Shard(0, 2), overwrite=True, began_s=began_s, detector=late
    )
    assert summary.kept and not late.frames and out.read_bytes() == unbroken
    later = time.time() + 60
    make(folder, required, out, overwrite=True, began_s=later, detector=late)
    assert late.frames == len(required)


def test_what_cannot_be_read_is_listed_and_the_rest_is_done(
    folder, required, unbroken, tmp_path, monkeypatch
):
    root = tmp_path / "tiny"
    shutil.copytree(folder.root, root)
    cut, gone, early = (root / "videos" / f"{name}.mp4" for name in ("train_1", "val_0", "val_1"))
    kept = {path: path.read_bytes() for path in (cut, gone)}
    cut.write_bytes(kept[cut][: len(kept[cut]) // 2])
    gone.unlink()
    damaged, out = DatasetFolder.open(root), tmp_path / "boxes.csv"
    late = Keyframe(early.stem, 7.25)  # past the end
    keys = [*required, late]
    summary = make(damaged, keys, out)
    assert summary.unreadable_videos == 3
    lines = unreadable_path(out).read_text().splitlines()
    assert len(lines) == summary.unreadable
    named = {tuple(line.split(",")[:2]) for line in lines}
    assert {("val_0", t) for t in ("0000", "0.500000", "1.260000", "2.900000")} <= named
    assert ("val_1", "7.250000") in named and any(video == "train_1" for video, _ in named)
    assert "past the last frame" in lines[-1] and "video file not found" in "".join(lines)
    without = [
        line for line in unbroken.decode().splitlines() if tuple(line.split(",")[:2]) not in named
    ]
    assert out.read_text().splitlines() == without

    for path, content in kept.items():
        path.write_bytes(content)
    detector = FakeDetector()
    repaired = make(DatasetFolder.open(root), keys, out, detector=detector)
    assert detector.frames < len(required) / 2  # only batches with a bad keyframe
    assert (repaired.unreadable, repaired.kept) == (1, False)
    assert out.read_bytes() == unbroken
    assert len(unreadable_path(out).read_text().splitlines()) == 1


def test_nothing_readable_at_all_is_an_error(folder, tmp_path):
    keys = [Keyframe("missing", 1.0), Keyframe("missing", 2.0)]
    with pytest.raises(UserError, match="no keyframe can be read.*missing.mp4"):
        make(folder, keys, tmp_path / "boxes.csv")
    assert list(tmp_path.iterdir()) == []


def test_a_detector_that_breaks_its_promise_is_caught_at_once(folder, required, tmp_path):
    class Broken(FakeDetector):
        def detect(self, images):
            box = np.array([[0.5, 0.5, 0.5, 0.9]])
            return [ActorBoxes(box, np.ones(1)) for _ in images]

    with pytest.raises(ValueError, match="fake: boxes"):
        make(folder, required, tmp_path / "boxes.csv", detector=Broken())
    assert list(tmp_path.iterdir()) == []


def test_frames_are_decoded_at_the_detectors_own_size(folder, required, tmp_path):
    class Sized(FakeDetector):
        sides_px = (36, 64)

    detectors = [Sized(), Sized(), FakeDetector()]
    make(folder, required, tmp_path / "a.csv", detector=detectors[0])
    make(folder, required, tmp_path / "b.csv", detector=detectors[1], short_side_px=54)
    make(folder, required, tmp_path / "c.csv", detector=detectors[2])
    sizes = [set(detector.sizes) for detector in detectors]
    assert sizes == [{(3, 36, 48)}, {(3, 54, 72)}, {(3, 72, 96)}]


@pytest.mark.parametrize(
    ("size", "sides", "required"),
    [
        ((96, 72), (320, 640), None),
        ((96, 72), (72, 96), None),
        ((1280, 720), (320, 640), 320),
        ((720, 1280), (320, 640), 320),
        ((2400, 600), (320, 640), 160),  # the long side decides
    ],
)
def test_the_short_side_that_fits(size, sides, required):
    assert scaled_short_side(size, sides) == required


def test_frames_come_in_order_whoever_reads_them(folder, required):
    batches = batches_of(required, 5)
    for workers in (0, 2):
        found = list(read_batches(folder, batches, [4, 0, 2], workers=workers))
        assert [batch.number for batch in found] == [4, 0, 2]
        assert [batch.keyframes for batch in found] == [batches[4], batches[0], batches[2]]
        for batch in found:
            for key, image in zip(batch.keyframes, batch.images, strict=True):
                with open_video(folder, key.video_id) as video:
                    assert torch.equal(image, video.read([key.time_s]).frames[0])


def test_which_keyframes(tmp_path):
    root = make_dataset(tmp_path / "tiny", train=2, val=1)
    folder = DatasetFolder.open(root)
    assert keyframes.annotated_keyframes(folder.split("train")) == [
        Keyframe(f"train_{n}", t) for n in range(2) for t in (1.0, 2.0)
    ]
    with (root / "annotations" / "train.csv").open("a") as file:
        file.write("train_1,1.5\ntrain_0,0000\n")  # no person there
    write_keyframe_list(root / "annotations" / "excluded.csv", [Keyframe("train_0", 1.0)])
    (root / "annotations" / "videos.txt").write_text("train_0\ntrain_1.mp4\nval_0\n")
    yaml = (root / "dataset.yaml").read_text()
    extra = "\n    exclusions: annotations/excluded.csv\n    videos: annotations/videos.txt"
    yaml = yaml.replace(
        "annotations: annotations/train.csv", "annotations: annotations/train.csv" + extra
    )
    (root / "dataset.yaml").write_text(yaml)
    folder = DatasetFolder.open(root)
    split = folder.split("train")
    assert keyframes.annotated_keyframes(split) == [
        Keyframe("train_0", 0.0),
        Keyframe("train_0", 2.0),
        Keyframe("train_1", 1.0),
        Keyframe("train_1", 1.5),
        Keyframe("train_1", 2.0),
    ]
    assert keyframes.regular_keyframes(folder, split, 1.0)[0] == [
        Keyframe(name, float(t))
        for name in ("train_0", "train_1", "val_0")
        for t in range(3)
        if (name, t) != ("train_0", 1)
    ]
    listed = tmp_path / "keys.csv"
    listed.write_text("b,0002\na,1.5\nb,2.000000\n")
    assert keyframes.listed_keyframes(listed) == [Keyframe("a", 1.5), Keyframe("b", 2.0)]
    with pytest.raises(UserError, match="no keyframe"):
        keyframes.check_any([], "x.csv")


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/2/3", ""])
def test_shards_that_are_none(text):
    with pytest.raises(UserError, match="K/N with K from 1 to N is required"):
        Shard.parse(text)


def test_shards_share_all_batches_once(monkeypatch):
    for total in (0, 1, 7):
        numbers = [n for index in range(3) for n in Shard(index, 3).numbers(total)]
        assert sorted(numbers) == list(range(total))
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "8")
    assert Shard.of_torchrun() == Shard.parse("4/8")


def test_the_better_record_of_a_batch_counts(tmp_path):
    out = tmp_path / "boxes.csv"
    for shard, unreadable in ((Shard(0, 3), 2), (Shard(1, 3), 0), (Shard(2, 3), 1)):
        with Parts(out, shard=shard, options={}) as parts:
            parts.append(0, unreadable, [unreadable])
    with Parts(out, shard=Shard(), options={}) as parts:
        assert parts.read(parts.records()[0]) == [0]
        assert set(parts.done()) == {0}
