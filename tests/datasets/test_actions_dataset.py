from functools import partial

import cv2
import numpy as np
import pytest
import torch
from numbered_video import nearest, numbered_image, numbers_of, write_numbered

from detection.datasets.actions import AvaDataset
from detection.datasets.actor_table import build_actor_table
from detection.datasets.actor_tracks import track_actors
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import (
    DatasetFile,
    DatasetFolder,
    FramesPart,
    SplitPart,
    write_dataset_file,
)
from detection.datasets.loader import collate
from detection.datasets.open_video import open_video
from detection.datasets.transforms import EvalTransform, TrainTransform
from detection.errors import UserError
from detection.structures import ClipSampling, Keyframe, LabelMap

SAMPLING = ClipSampling(4, 12)
LABELS = LabelMap(("sit", "walk"), (11, 14))
ROWS = """\
one,1.0,0.1,0.1,0.3,0.9,11,0
one,1.0,0.1,0.1,0.3,0.9,14,0
one,1.0,0.6,0.1,0.9,0.9,14,1
one,2.0,0.6,0.1,0.9,0.9,14,1
one,3.48,0.0,0.0,0.1,0.1,11,0
two,0.5,0.2,0.2,0.8,0.8,11,0
"""
TIMES_S = [i / 25 for i in range(100)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    (root / "videos").mkdir()
    write_numbered(root / "videos" / "one.mp4", TIMES_S)
    write_numbered(root / "videos" / "two.mp4", TIMES_S, width=96, height=160)
    (root / "train.csv").write_text(ROWS)
    split = SplitPart(annotations="train.csv")
    write_dataset_file(root, DatasetFile(name="x", videos="videos", splits={"train": split}))
    return root


def dataset(root, transform, rows=None, seed=0, sampling=SAMPLING, **more):
    path = root / "train.csv"
    if rows is not None:
        path = root / "other.csv"
        path.write_text(rows)
    table = build_actor_table(read_ground_truth(path), LABELS, keep_empty=True)
    return AvaDataset(
        table,
        open_video=partial(open_video, DatasetFolder.open(root)),
        transform=transform,
        sampling=sampling,
        seed=seed,
        **more,
    )


def test_a_sample_is_the_clip_around_its_keyframe(root):
    data = dataset(root, EvalTransform(short_side=96))
    assert len(data) == 4
    sample = data[0]
    assert sample.keyframe == Keyframe("one", 1.0)
    assert numbers_of(sample.frames.permute(1, 0, 2, 3)) == nearest(TIMES_S, SAMPLING.times_s(1.0))
    assert sample.frames.shape == (3, 4, 96, 160) and sample.frames.dtype == torch.uint8
    assert sample.frames.is_contiguous()
    expected = torch.tensor([[16, 9.6, 48, 86.4], [96, 9.6, 144, 86.4]])
    torch.testing.assert_close(sample.boxes_px, expected)
    np.testing.assert_allclose(sample.boxes.xyxy_01[0], [0.1, 0.1, 0.3, 0.9], rtol=1e-6)
    assert sample.labels.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize("time_s", [0.0, 0.04, 0.52, 2.0, 3.6, 3.96])
@pytest.mark.parametrize(("num_frames", "step"), [(4, 12), (8, 30)])
def test_clips_kept_inside_their_video(root, time_s, num_frames, step):
    """Frames from 0 to 3.96 s; eight frames a second apart are longer than that."""
    rows = f"one,{time_s},0.1,0.1,0.3,0.9,11,0\n"
    sampling = ClipSampling(num_frames, step, "inside")
    data = dataset(root, EvalTransform(short_side=96), rows, sampling=sampling)
    required_s = sampling.times_s(time_s, within_s=(0.0, TIMES_S[-1]))
    found = numbers_of(data[0].frames.permute(1, 0, 2, 3))
    assert found == nearest(TIMES_S, required_s)
    assert len(set(found)) == num_frames and round(time_s * 25) in found
    repeating = ClipSampling(num_frames, step)
    usual = dataset(root, EvalTransform(short_side=96), rows, sampling=repeating)
    usual_s = repeating.times_s(time_s)
    fits = usual_s[0] >= 0 and usual_s[-1] <= TIMES_S[-1]
    assert (numbers_of(usual[0].frames.permute(1, 0, 2, 3)) == found) == fits


def test_samples_read_together_are_those_read_alone(root):
    for transform in (
        EvalTransform(short_side=64),
        TrainTransform(crop=64, short_side=(64, 66), color_jitter=0.2),
    ):
        data = dataset(root, transform, seed=5)
        indices = [(1, 2), (1, 0), (0, 3), (1, 1), (1, 0), (3, 0)]
        for index, together in zip(indices, data.__getitems__(indices), strict=True):
            alone = data[index]
            assert together.keyframe == alone.keyframe
            assert torch.equal(together.frames, alone.frames)
            assert torch.equal(together.boxes_px, alone.boxes_px)
            assert torch.equal(together.labels, alone.labels)


def test_choices_depend_on_seed_epoch_and_position_alone(root):
    data = dataset(root, TrainTransform(crop=64, short_side=(64, 90)), seed=1)
    again = dataset(root, TrainTransform(crop=64, short_side=(64, 90)), seed=1)
    other = dataset(root, TrainTransform(crop=64, short_side=(64, 90)), seed=2)
    assert torch.equal(data[2, 0].frames, again[2, 0].frames)
    assert any(not torch.equal(data[0, 0].frames, data[e, 0].frames) for e in range(1, 4))
    assert any(not torch.equal(data[e, 0].frames, other[e, 0].frames) for e in range(4))


def test_people_who_are_cropped_away_leave_with_their_labels(root):
    """Of the two people of keyframe 0 the crop shows one, both or none; all stays in step."""
    data = dataset(root, TrainTransform(crop=64, short_side=(96, 96), min_visible=0.5))
    counts = set()
    for epoch in range(30):
        sample = data[epoch, 0]
        counts.add(len(sample.boxes))
        assert len(sample.boxes_px) == len(sample.boxes) == len(sample.labels)
        for box, labels in zip(sample.boxes.xyxy_01, sample.labels.tolist(), strict=True):
            assert labels == ([1, 1] if box[0] < 0.5 else [0, 1])
        assert ((sample.boxes_px >= 0) & (sample.boxes_px <= 64)).all()
    assert {1} < counts


def test_a_keyframe_without_people(root):
    data = dataset(root, EvalTransform(short_side=96), rows="one,1.5\n")
    sample = data[0]
    assert sample.boxes_px.shape == (0, 4) and sample.labels.shape == (0, 2)


def test_frames_extracted_from_a_video_give_the_same_sample(root, tmp_path):
    (tmp_path / "frames" / "one").mkdir(parents=True)
    for number in range(100):
        image = numbered_image(number)[:, :, ::-1]
        cv2.imwrite(str(tmp_path / "frames" / "one" / f"one_{number + 1:06d}.jpg"), image)
    (tmp_path / "train.csv").write_text("one,1.0,0.1,0.1,0.3,0.9,11,0\n")
    file = DatasetFile(
        name="x",
        frames=FramesPart(folder="frames", fps=25),
        splits={"train": SplitPart(annotations="train.csv")},
    )
    write_dataset_file(tmp_path, file)
    for short_side in (96, 64):
        one = dataset(root, EvalTransform(short_side=short_side))[0]
        other = dataset(tmp_path, EvalTransform(short_side=short_side))[0]
        assert numbers_of(other.frames.permute(1, 0, 2, 3)) == numbers_of(
            one.frames.permute(1, 0, 2, 3)
        )
        assert (one.frames.float() - other.frames.float()).abs().mean() < 4


@pytest.mark.parametrize("time_s", ["4.0", "77"])
def test_a_keyframe_beyond_its_video_is_named_with_file_and_row(root, time_s):
    rows = ROWS + f"two,{time_s},0.1,0.1,0.3,0.9,11,0\n"
    data = dataset(root, EvalTransform(short_side=96), rows=rows)
    with pytest.raises(
        UserError, match=rf"other\.csv:7: .*two\.mp4: keyframe at {time_s}"
    ) as caught:
        data.__getitems__([0, 3, 4])
    assert "\n" not in str(caught.value)


def test_videos_are_checked_before_the_work_begins(root):
    data = dataset(root, EvalTransform(short_side=96))
    data.check_videos()
    data = dataset(root, EvalTransform(short_side=96), rows=ROWS + "two,77,0,0,1,1,11,0\n")
    with pytest.raises(
        UserError, match=r"other\.csv:7: keyframe at 77.0* s is outside video 'two'"
    ):
        data.check_videos()
    data = dataset(root, EvalTransform(short_side=96), rows=ROWS + "three,1,0,0,1,1,11,0\n")
    with pytest.raises(UserError, match=r"other\.csv:7: .*three\.mp4: video file not found"):
        data.check_videos()


def test_a_broken_video_is_named_with_the_row_that_needs_it(root):
    (root / "videos" / "broken.mp4").write_bytes(b"not a video")
    data = dataset(root, EvalTransform(short_side=96), rows="broken,1,0,0,1,1,11,0\n")
    for use in (lambda: data[0], lambda: data.output_size(0), data.check_videos):
        with pytest.raises(UserError, match=r"broken\.mp4: not a video"):
            use()
    assert data.output_size(0) == (0, 0)  # now it is known: one of those counted as unreadable


def test_output_size_is_the_size_of_the_sample(root):
    data = dataset(root, EvalTransform(short_side=50))
    for position in range(len(data)):
        assert data.output_size(position) == tuple(data[position].frames.shape[2:])


def test_a_sample_of_people_who_are_followed_has_their_box_in_each_frame(root):
    rows = (
        "one,1.0,0.1,0.2,0.3,0.8,11,4\none,2.0,0.5,0.2,0.7,0.8,11,4\n"
        "one,1.0,0.8,0.2,0.9,0.8,14,5\none,3.0\n"
    )
    table = dataset(root, EvalTransform(short_side=96), rows).table
    data = dataset(root, EvalTransform(short_side=96), rows, tracks=track_actors(table))
    sample = data[0]  # frames are required at 0.2, 0.6, 1 and 1.4 s
    assert sample.boxes_px.shape == (2, 4, 4)
    np.testing.assert_allclose(sample.boxes_px[0, :, 0] / 160, [0.1, 0.1, 0.1, 0.26], atol=1e-3)
    np.testing.assert_allclose(sample.boxes_px[1, :, 0] / 160, [0.8] * 4, atol=1e-3)
    np.testing.assert_allclose(sample.boxes.xyxy_01[:, 0], [0.1, 0.8], atol=1e-6)
    batch = collate([data[0], data[2], data[1]])
    assert batch.rois_px.shape == (3, 4, 5)
    assert batch.rois_px[:, :, 0].tolist() == [[0] * 4, [0] * 4, [2] * 4]
    torch.testing.assert_close(batch.rois_px[:2, :, 1:], sample.boxes_px)
