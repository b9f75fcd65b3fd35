"""Which frames a view or a random clip holds, by frames that carry their number."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from detection.datasets.clip_list import ClipList
from detection.datasets.clips import ClipDataset, ViewBatches, Views, collate_clips
from detection.datasets.transforms import TrainTransform
from detection.errors import UserError
from detection.structures import Clip, ClipSampling

FPS = 30


class Numbered:
    """A made-up video whose frame n is grey of n, with its left, middle and right marked."""

    def __init__(self, frames, width=90, height=40):
        self.frames, self.size = frames, (width, height)

    def span_s(self):
        return 1.0, 1.0 + self.frames / FPS

    def ends_s(self):
        return 1.0, 1 + (self.frames - 1) / FPS

    def read(self, times_s, *, short_side=None, keyframes_s=()):
        number = np.clip(np.round((np.asarray(times_s) - 1) * FPS), 0, self.frames - 1)
        width, height = self.size
        frames = np.zeros((len(number), 3, height, width), np.uint8)
        frames[:, 0] = number[:, None, None]
        frames[:, 1] = np.arange(width)[None, None]
        return Clip(torch.from_numpy(frames), 1 + number / FPS)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None


def clips_of(count, tmp_path):
    names = tuple(f"v{number}" for number in range(count))
    return ClipList(
        tmp_path / "list.csv",
        names,
        tuple(tmp_path / name for name in names),
        tuple(range(1, count + 1)),
        np.eye(count, dtype=np.float32),
    )


def dataset(tmp_path, *, frames=100, views=None, count=2, crop=40, seed=0, at_ends="repeat"):
    return ClipDataset(
        clips_of(count, tmp_path),
        open_video=lambda _: Numbered(frames),
        transform=TrainTransform(crop=crop, short_side=(40, 40), flip=0),
        sampling=ClipSampling(4, 2, at_ends),
        views=views,
        seed=seed,
    )


def numbers(sample):
    return sample.frames[0, :, 0, 0].tolist()


def test_views_are_spread_over_the_whole_video(tmp_path):
    data = dataset(tmp_path, views=Views(3))
    got = [numbers(sample) for sample in data.__getitems__([(0, p) for p in range(3)])]
    # 100 frames, the last expected time is the end of the last frame: the frame itself is taken.
    assert got == [[0, 2, 4, 6], [47, 49, 51, 53], [94, 96, 98, 99]]


def test_one_view_is_the_middle(tmp_path):
    (sample,) = dataset(tmp_path, views=Views(1)).__getitems__([(0, 1)])
    assert numbers(sample) == [47, 49, 51, 53]
    assert (sample.video, sample.key) == (1, "v1")
    assert sample.labels.tolist() == [0, 1]


def test_three_crops_cover_the_long_side(tmp_path):
    data = dataset(tmp_path, views=Views(2, 3))
    samples = data.__getitems__([(0, p) for p in range(6)])
    lefts = [int(sample.frames[1, 0, 0, 0]) for sample in samples]
    assert lefts == [0, 25, 50] * 2
    assert [numbers(sample)[0] for sample in samples] == [0] * 3 + [94] * 3


def test_a_video_shorter_than_a_clip_lies_in_its_middle(tmp_path):
    for views in (None, Views(1), Views(5)):
        (sample,) = dataset(tmp_path, frames=4, views=views).__getitems__([(0, 0)])
        assert numbers(sample) == [0, 1, 3, 3]


@pytest.mark.parametrize("frames, expected", [(1, [0] * 4), (4, [0, 1, 2, 3]), (5, [0, 1, 3, 4])])
def test_a_clip_longer_than_its_video_is_spread_over_it(tmp_path, frames, expected):
    for views in (None, Views(1), Views(5)):
        data = dataset(tmp_path, frames=frames, views=views, at_ends="inside")
        assert numbers(data.__getitems__([(0, 0)])[0]) == expected
    usual, inside = (dataset(tmp_path, at_ends=ends) for ends in ("repeat", "inside"))
    a, b = (numbers(data.__getitems__([(3, 1)])[0]) for data in (usual, inside))
    assert a == b


def test_random_clips_depend_on_seed_epoch_and_position_alone(tmp_path):
    data = dataset(tmp_path)
    indices = [(epoch, video) for epoch in range(40) for video in range(2)]
    together = data.__getitems__(indices)
    alone = [data.__getitems__([index])[0] for index in indices]
    assert all(torch.equal(a.frames, b.frames) for a, b in zip(together, alone, strict=True))
    starts = [numbers(sample)[0] for sample in together]
    assert len(set(starts)) > 20 and min(starts) < 20 and max(starts) > 75, "all over the video"
    other = dataset(tmp_path, seed=1).__getitems__(indices)
    assert starts != [numbers(sample)[0] for sample in other]


def test_batches_of_views_are_shared_whole(tmp_path):
    data = dataset(tmp_path, views=Views(2), count=5)
    whole = list(ViewBatches(data, batch_size=3))
    assert sum(whole, []) == [(0, position) for position in range(10)]
    parts = [list(ViewBatches(data, batch_size=3, share=(rank, 2))) for rank in range(2)]
    assert sorted(sum(parts[0] + parts[1], [])) == sum(whole, [])
    some = list(ViewBatches(data, batch_size=3, every=2))
    assert [position // 2 for _, position in sum(some, [])] == [0, 0, 2, 2, 4, 4]
    batch = collate_clips(data.__getitems__(whole[0]))
    assert batch.videos.tolist() == [0, 0, 1] and batch.frames.shape == (3, 3, 4, 40, 40)


def test_what_cannot_be_opened_is_named_with_its_row(tmp_path):
    def broken(path):
        raise UserError(f"{path}: no frames")

    data = ClipDataset(
        clips_of(3, tmp_path),
        open_video=broken,
        transform=TrainTransform(crop=40, short_side=(40, 40)),
        sampling=ClipSampling(4, 2),
    )
    with pytest.raises(UserError, match=r"list.csv:1: .*v0: no frames"):
        data.check_videos()
    with pytest.raises(UserError, match=r"list.csv:3: .*v2: no frames"):
        data.__getitems__([(0, 2)])
    with pytest.raises(UserError, match=r"list.csv:2: .*\(2 of 3 videos cannot be read, data.max"):
        data.check_videos(most_unreadable=0.5)


def test_a_stated_share_may_be_unreadable(tmp_path):
    def one_broken(path):
        if path.name == "v1":
            raise UserError(f"{path}: no frames")
        return Numbered(100)

    data = ClipDataset(
        clips_of(4, tmp_path),
        open_video=one_broken,
        transform=TrainTransform(crop=40, short_side=(40, 40)),
        sampling=ClipSampling(4, 2),
    )
    (line,) = data.check_videos(most_unreadable=0.25)
    assert line.endswith("v1: no frames") and "list.csv:2" in line
    with pytest.raises(UserError, match="list.csv:2"):
        data.check_videos(most_unreadable=0.2)


@pytest.mark.parametrize("wrong", [(0, 1), (1, 2)])
def test_views_that_are_none(wrong):
    with pytest.raises(ValueError, match="1 or 3 crops"):
        Views(*wrong)
