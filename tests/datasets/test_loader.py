import os
import re
import shutil
import signal
from functools import partial

import numpy as np
import pytest
import torch
from numbered_video import write_numbered

from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import build_actor_table
from detection.datasets.ava_csv import AvaRows
from detection.datasets.folder import DatasetFile, DatasetFolder, SplitPart
from detection.datasets.loader import ClipLoader, EvalBatches, TrainBatches, collate
from detection.datasets.open_video import open_video
from detection.datasets.transforms import EvalTransform, TrainTransform
from detection.errors import UserError
from detection.structures import ActorBoxes, ClipSampling, Keyframe, LabelMap, Sample

LABELS = LabelMap(("sit", "walk"), (11, 14))
SIZES = {"a": (160, 96), "b": (96, 160), "c": (160, 96)}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "videos").mkdir()
    for name, (width, height) in SIZES.items():
        write_numbered(
            root / "videos" / f"{name}.mp4",
            [i / 25 for i in range(80)],
            width=width,
            height=height,
        )
    return root


def dataset(root, transform, *, extra=(), empty=()):
    keyframes = [Keyframe(video, t / 2) for video in "abc" for t in range(1, 6)] + list(extra)
    generator = np.random.default_rng(0)
    rows, boxes = [], []
    for keyframe in keyframes:
        for _ in range(generator.integers(1, 4)):
            corner = generator.uniform(0, 0.5, 2)
            boxes.append([*corner, *(corner + generator.uniform(0.1, 0.5, 2))])
            rows.append(keyframe)
    actions = generator.choice(LABELS.ids, len(rows))
    table = build_actor_table(
        AvaRows.from_rows(rows, boxes_01=boxes, action_id=actions, empty_keyframes=empty),
        LABELS,
        keep_empty=True,
    )
    file = DatasetFile(name="x", videos="videos", splits={"t": SplitPart(annotations="t.csv")})
    return AvaDataset(
        table,
        open_video=partial(open_video, DatasetFolder(root, file)),
        transform=transform,
        sampling=ClipSampling(4, 6),
        seed=3,
    )


def train_set(root, **options):
    return dataset(root, TrainTransform(crop=64, short_side=(64, 80)), **options)


def same(one, other):
    return (
        one.keyframes == other.keyframes
        and torch.equal(one.frames, other.frames)
        and torch.equal(one.rois_px, other.rois_px)
        and torch.equal(one.labels, other.labels)
    )


def test_batches_are_the_same_whatever_the_number_of_workers(root):
    data = train_set(root)
    runs = []
    for workers in (0, 1, 2):
        order = TrainBatches(data.table.keyframes(), batch_size=4, seed=7)
        loader = ClipLoader(data, order, collate=collate, workers=workers)
        run = []
        for epoch in (0, 1):
            order.set_epoch(epoch)
            run.append(list(loader))
        runs.append(run)
    for run in runs[1:]:
        for epoch in (0, 1):
            pairs = zip(runs[0][epoch], run[epoch], strict=True)
            assert all(same(one, other) for one, other in pairs)
    assert runs[0][0][0].keyframes != runs[0][1][0].keyframes


def test_a_run_goes_on_at_the_batch_where_it_stopped(root):
    data = train_set(root)
    order = TrainBatches(data.table.keyframes(), batch_size=4, seed=7)
    order.set_epoch(2)
    whole = list(ClipLoader(data, order, collate=collate))
    resumed = TrainBatches(data.table.keyframes(), batch_size=4, seed=7)
    resumed.set_epoch(2, start_batch=2)
    rest = list(ClipLoader(data, resumed, collate=collate))
    assert len(whole) == len(order) == len(resumed) == 4
    assert len(rest) == 2 and all(same(a, b) for a, b in zip(whole[2:], rest, strict=True))


def test_an_epoch_holds_every_keyframe_once(root):
    data = train_set(root)
    order = TrainBatches(data.table.keyframes(), batch_size=4)
    loader = ClipLoader(data, order, collate=collate)
    keyframes = [key for batch in loader for key in batch.keyframes]
    assert sorted(keyframes) == data.table.keyframes()


def test_some_keyframes_of_each_video(root):
    order = TrainBatches(train_set(root).table.keyframes(), batch_size=2, per_video=1)
    seen = set()
    for epoch in range(20):
        order.set_epoch(epoch)
        positions = [position for batch in order for _, position in batch]
        assert sorted(position // 5 for position in positions) == [0, 1, 2]
        seen.update(positions)
    assert seen == set(range(15))


def test_evaluation_batches_hold_one_size_and_every_keyframe_once(root):
    data = dataset(root, EvalTransform(short_side=64))
    order = EvalBatches(data, batch_size=4)
    batches = list(ClipLoader(data, order, collate=collate, workers=1))
    assert len(batches) == len(order)
    keyframes = [key for batch in batches for key in batch.keyframes]
    assert sorted(keyframes) == data.table.keyframes()
    for batch in batches:
        expected = {(107, 64) if SIZES[k.video_id][0] < 100 else (64, 107) for k in batch.keyframes}
        assert expected == {tuple(batch.frames.shape[3:])}
    assert max(len(batch.keyframes) for batch in batches) == 4


def test_evaluation_on_every_third_keyframe(root):
    data = dataset(root, EvalTransform(short_side=64))
    order = EvalBatches(data, batch_size=4, every=3)
    positions = sorted(position for batch in order for _, position in batch)
    assert positions == [0, 3, 5, 8, 10, 13]


def sample(people, size=(8, 8)):
    boxes = np.random.default_rng(people).uniform(0, 1, (people, 4)).astype(np.float32)
    return Sample(
        keyframe=Keyframe("v", float(people)),
        frames=torch.full((3, 2, *size), people, dtype=torch.uint8),
        boxes_px=torch.from_numpy(boxes * 8),
        boxes=ActorBoxes(boxes, np.ones(people)),
        labels=torch.ones(people, 5),
    )


def test_collate_numbers_the_clips_also_where_no_person_is():
    batch = collate([sample(2), sample(0), sample(1)])
    assert batch.frames.shape == (3, 3, 2, 8, 8)
    assert batch.rois_px[:, 0].tolist() == [0, 0, 2]
    assert torch.equal(batch.rois_px[2, 1:], sample(1).boxes_px[0])
    assert batch.labels.shape == (3, 5)
    assert [len(boxes) for boxes in batch.boxes] == [2, 0, 1]
    no_person = collate([sample(0)])
    assert no_person.rois_px.shape == (0, 5) and no_person.labels.shape == (0, 5)


def test_frames_are_never_padded():
    with pytest.raises(ValueError, match="must have one size"):
        collate([sample(1), sample(1, size=(8, 9))])


def test_a_keyframe_without_people_passes_through_the_workers(root):
    data = train_set(root, empty=[Keyframe("a", 0.75)])
    order = TrainBatches(data.table.keyframes(), batch_size=16)
    (batch,) = ClipLoader(data, order, collate=collate, workers=1)
    assert 0 in [len(boxes) for boxes in batch.boxes]


@pytest.mark.parametrize("workers", [0, 2])
def test_errors_of_users_come_out_of_workers_as_one_line(root, workers):
    data = train_set(root, extra=[Keyframe("a", 55.0)])
    order = TrainBatches(data.table.keyframes(), batch_size=4)
    with pytest.raises(UserError, match=r"a\.mp4: keyframe at 55\.000000 s is past") as caught:
        list(ClipLoader(data, order, collate=collate, workers=workers))
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)


@pytest.fixture(scope="module")
def half_broken(root, tmp_path_factory):
    """The same videos, of which one is damaged: its start can still be read."""
    other = tmp_path_factory.mktemp("broken")
    shutil.copytree(root / "videos", other / "videos")
    path = other / "videos" / "c.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: int(0.7 * len(content))])
    return other


def test_samples_that_cannot_be_read_are_named_counted_and_replaced(half_broken):
    data, told, runs = train_set(half_broken), [], []
    for workers in (0, 2):
        order = TrainBatches(data.table.keyframes(), batch_size=4, seed=7)
        loader = ClipLoader(
            data,
            order,
            collate=collate,
            workers=workers,
            on_unreadable="replace",
            most_unreadable=0.5,
        )
        loader.report_unreadable = told.append
        runs.append(list(loader))
        assert 0 < len(loader.unreadable) < 8
        assert all(re.search(r"c\.mp4: damaged", line) for line in loader.unreadable)
    assert told == 2 * loader.unreadable
    assert all(same(one, other) for one, other in zip(*runs, strict=True))
    assert [len(batch.keyframes) for batch in runs[0]] == [4, 4, 4, 3]


def test_in_scoring_such_samples_are_left_out_also_where_a_video_does_not_open(half_broken):
    (half_broken / "videos" / "b.mp4").write_bytes(b"no video")
    data = dataset(half_broken, EvalTransform(short_side=64))
    with pytest.raises(UserError, match=r"b\.mp4: not a video"):
        data.check_videos(most_unreadable=0.1)
    assert list(data.check_videos(most_unreadable=0.5)) == ["b"]
    loader = ClipLoader(
        data,
        EvalBatches(data, batch_size=4),
        collate=collate,
        on_unreadable="leave out",
        most_unreadable=0.9,
    )
    found = [key for batch in loader for key in batch.keyframes]
    assert len(found) + len(loader.unreadable) == 15
    assert len(set(found)) == len(found) >= 5
    assert not any(key.video_id == "b" for key in found)


def test_too_many_of_them_end_the_run(half_broken):
    data = train_set(half_broken)
    order = TrainBatches(data.table.keyframes(), batch_size=4)
    options = {"collate": collate, "on_unreadable": "replace"}
    with pytest.raises(UserError, match=r"of 15 samples of an epoch cannot be read"):
        list(ClipLoader(data, order, most_unreadable=0.05, **options))
    with pytest.raises(UserError, match=r"^\(memory\): [^ ]*\.mp4: "):
        list(ClipLoader(data, order, most_unreadable=0.0, **options))


class Dying:
    """A data set whose worker is killed."""

    def __len__(self):
        return 4

    def __getitems__(self, indices):
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_dies_is_one_line():
    order = TrainBatches([Keyframe("v", float(t)) for t in range(4)], batch_size=2)
    with pytest.raises(UserError, match="a process that reads samples is gone .*memory"):
        list(ClipLoader(Dying(), order, collate=collate, workers=1))


def test_our_own_faults_keep_their_traceback(root):
    data = train_set(root)
    data._transform = None
    with pytest.raises(AttributeError):
        list(ClipLoader(data, TrainBatches(data.table.keyframes(), batch_size=4), collate=collate))


@pytest.mark.parametrize("order", [TrainBatches, EvalBatches])
def test_a_batch_of_nothing_is_refused(root, order):
    data = dataset(root, EvalTransform(short_side=64))
    subject = data if order is EvalBatches else data.table.keyframes()
    with pytest.raises(ValueError, match="batch size"):
        order(subject, batch_size=0)
