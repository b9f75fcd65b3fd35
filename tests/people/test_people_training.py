"""Frames and boxes of training, what is learned from them, and runs that stop and go on."""

from __future__ import annotations

import functools
import json
import re

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_data import make_dataset

from detection.config import load_people_config, people_config_from_dict
from detection.datasets.ava_csv import AvaRows, write_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.datasets.held_out import read_boxes, read_training_boxes, split_by_source
from detection.datasets.loader import ClipLoader
from detection.datasets.open_video import open_video
from detection.datasets.people import PeopleBatch, PeopleFrames
from detection.datasets.people_transforms import (
    PeopleEvalTransform,
    PeopleTrainTransform,
    fitted_size,
)
from detection.datasets.workers import FixedBatches
from detection.engine import runs
from detection.engine.tasks.people import score_run
from detection.errors import UserError
from detection.people.torchvision_rcnn import build_people_network
from detection.people.training import NOT_TAUGHT, _without_likely_actors, detection_losses
from detection.structures import Keyframe

RED = (255, 0, 0)


def red_square(height, width, x1, y1, x2, y2):
    frame = np.full((height, width, 3), 60, np.uint8)
    frame[y1:y2, x1:x2] = RED
    return frame, np.asarray([[x1 / width, y1 / height, x2 / width, y2 / height]], np.float32)


def where_red(image):
    rows, columns = np.nonzero((image[..., 0] > 150) & (image[..., 1] < 60))
    return np.asarray([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 1), st.floats(1, 2))
def test_boxes_follow_their_pixels(seed, low, high):
    """Whatever scale, cut and mirror: what is red lies in the box, to a pixel."""
    frame, boxes = red_square(90, 120, 50, 30, 80, 70)
    transform = PeopleTrainTransform(
        short_side=72, long_side=200, scale=(low, high), flip=0.5, color_jitter=0, min_visible=0.5
    )
    size = transform.size(120, 90)
    image, boxes_px = transform(frame, size, boxes, np.random.default_rng(seed))
    assert image.shape == (72, 96, 3)
    assert image.dtype == np.uint8
    if len(boxes_px):
        np.testing.assert_allclose(boxes_px[0], where_red(image), atol=1.01)
        assert (boxes_px >= 0).all()
        assert (boxes_px <= [96, 72, 96, 72]).all()


def test_cut_away_people_are_left_out():
    frame, boxes = red_square(80, 80, 0, 0, 40, 40)
    transform = PeopleTrainTransform(
        short_side=80, long_side=80, scale=(2, 2), flip=0, color_jitter=0, min_visible=0.25
    )
    kept = [
        len(transform(frame, (80, 80), boxes, np.random.default_rng(seed))[1]) for seed in range(60)
    ]
    assert 0 < sum(kept) < 60


def test_colours_change_and_boxes_do_not():
    frame, boxes = red_square(64, 64, 10, 10, 40, 40)
    transform = PeopleTrainTransform(
        short_side=64, long_side=64, scale=(1, 1), flip=0, color_jitter=0.5, min_visible=0.25
    )
    images = [transform(frame, (64, 64), boxes, np.random.default_rng(s)) for s in range(5)]
    assert len({image.tobytes() for image, _ in images}) == 5
    for _, boxes_px in images:
        np.testing.assert_allclose(boxes_px, boxes * 64)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (320, 240, (144, 192)),
        (240, 320, (192, 144)),
        (1920, 1080, (144, 256)),
        (1000, 50, (13, 256)),
    ],
)
def test_whole_frames_meet_the_short_or_the_long_side(width, height, expected):
    assert fitted_size(width, height, 144, 256) == expected
    assert PeopleEvalTransform(short_side=144, long_side=256).size(width, height) == expected


def test_whole_frames_are_not_enlarged():
    assert PeopleEvalTransform(short_side=800, long_side=1333).size(320, 240) == (240, 320)


names = st.lists(st.text("abcd", min_size=1, max_size=3), min_size=1, max_size=30, unique=True)


@settings(deadline=None, max_examples=60)
@given(names, st.floats(0, 0.99), st.integers(0, 5))
def test_clips_of_one_source_are_held_out_together(sources, share, seed):
    videos = [f"{source}_take_{i}" for source in sources for i in range(1 + len(source))]
    pattern = r"^(.*)_take_\d+$"
    learned, held_out = split_by_source(videos, share=share, pattern=pattern, seed=seed)
    assert learned | held_out == set(videos)
    assert not learned & held_out
    assert learned
    source_of = {video: re.match(pattern, video).group(1) for video in videos}
    assert not {source_of[v] for v in learned} & {source_of[v] for v in held_out}
    assert bool(held_out) == (share > 0 and len(sources) > 1)
    again = split_by_source(videos[::-1], share=share, pattern=pattern, seed=seed)
    assert again == (learned, held_out)


def test_jhmdb_pattern_finds_the_film():
    """Names of JHMDB's clips end in what HMDB says of view and quality, and a number."""
    config = load_people_config("configs/people_jhmdb.yaml")
    films = {
        "April_09_brush_hair_u_nm_np1_ba_goo_0": "April_09",
        "April_09_brush_hair_u_nm_np1_ba_goo_1": "April_09",
        "Crash_stand_f_cm_np1_ri_bad_12": "Crash",
        "Fishing_For_People_pick_f_cm_np1_ri_med_2": "Fishing_For_People",
    }
    for video, film in films.items():
        assert re.search(config.data.source_pattern, video).group(1) == film


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data", train=6, val=2)


def test_each_distinct_box_once(tiny):
    """The tiny data set labels each square twice: 6 videos, 2 keyframes, one box."""
    folder = DatasetFolder.open(tiny)
    assert len(read_boxes(folder, "train")) == read_boxes(folder, "train").num_actors == 12
    parts = read_training_boxes(folder, "train", held_out_share=0.3, source_pattern=None, seed=0)
    assert (len(parts.learned), len(parts.held_out), len(parts.held_out_videos)) == (8, 4, 2)
    whole = read_training_boxes(folder, "train", held_out_share=0, source_pattern=None, seed=0)
    assert (len(whole.learned), len(whole.held_out), whole.held_out_videos) == (12, 0, ())


def test_no_box_to_learn_from(tmp_path):
    root = make_dataset(tmp_path / "data", train=1, val=1)
    no_person = AvaRows.from_rows([], boxes_01=np.zeros((0, 4)), action_id=[])
    write_ground_truth(root / "annotations" / "train.csv", no_person)
    folder = DatasetFolder.open(root)
    with pytest.raises(UserError, match="train.csv: no rows"):
        read_training_boxes(folder, "train", held_out_share=0, source_pattern=None, seed=0)
    path = root / "annotations" / "train.csv"
    path.write_text("train_0,1\n")
    with pytest.raises(UserError, match="train.csv: no box to learn from in split 'train'"):
        read_training_boxes(folder, "train", held_out_share=0, source_pattern=None, seed=0)


def frames(root, transform, **options):
    folder = DatasetFolder.open(root)
    return PeopleFrames(
        read_boxes(folder, "train"),
        open_video=functools.partial(open_video, folder),
        transform=transform,
        **options,
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_frames_do_not_depend_on_workers_or_on_what_is_kept(tiny, workers):
    transform = PeopleTrainTransform(
        short_side=48, long_side=96, scale=(0.7, 1.4), flip=0.5, color_jitter=0.2, min_visible=0.2
    )
    plain = frames(tiny, transform, seed=3)
    keeping = frames(tiny, transform, seed=3, keep_mb=1)
    order = FixedBatches([range(12)], batch_size=5)
    for _ in range(2):  # the second time from what was kept
        loaded = [
            p
            for batch in ClipLoader(keeping, order, collate=PeopleBatch, workers=workers)
            for p in batch.frames
        ]
        assert [p.keyframe for p in loaded] == plain.table.keyframes()
        for position, frame in enumerate(loaded):
            expected = plain[(0, position)]
            assert torch.equal(frame.image, expected.image)
            assert torch.equal(frame.boxes_px, expected.boxes_px)
    assert not torch.equal(plain[(1, 0)].image, plain[(0, 0)].image)


def test_missing_video_names_its_row(tmp_path):
    root = make_dataset(tmp_path / "data", train=2, val=1)
    (root / "videos" / "train_1.mp4").unlink()
    dataset = frames(root, PeopleEvalTransform(short_side=48, long_side=96))
    loader = ClipLoader(
        dataset, FixedBatches([range(4)], batch_size=4), collate=PeopleBatch, workers=1
    )
    with pytest.raises(UserError, match=r"train.csv:\d+: .*train_1.mp4: video file not found"):
        list(loader)


def small_network():
    torch.manual_seed(0)
    return build_people_network("small", num_classes=1, short_side_px=64)


def test_frames_without_people_teach_background():
    network = small_network().train()
    images = [torch.rand(3, 64, 96) for _ in range(2)]
    no_person = [torch.zeros(0, 4)] * 2
    losses = detection_losses(network, images, no_person)
    total = sum(losses.values())
    total.backward()
    assert torch.isfinite(total)
    assert losses["loss_box_reg"] == losses["loss_rpn_box_reg"] == 0
    assert losses["loss_classifier"] > 0
    assert network.roi_heads.box_predictor.cls_score.weight.grad.abs().sum() > 0


def test_losses_are_those_of_torchvision():
    network = small_network().train()
    images = [torch.rand(3, 64, 96) for _ in range(2)]
    boxes = [torch.tensor([[10.0, 5, 40, 60]]), torch.tensor([[50.0, 20, 90, 60], [0, 0, 30, 64]])]
    torch.manual_seed(1)
    ours = detection_losses(network, images, boxes)
    targets = [{"boxes": b, "labels": torch.ones(len(b), dtype=torch.int64)} for b in boxes]
    torch.manual_seed(1)
    theirs = network(images, targets)
    assert {k: pytest.approx(v.item()) for k, v in theirs.items()} == {
        k: v.item() for k, v in ours.items()
    }


def test_bf16_learns_the_same_within_its_digits():
    images = [torch.rand(3, 64, 96) for _ in range(2)]
    boxes = [torch.tensor([[10.0, 5, 40, 60]]), torch.tensor([[50.0, 20, 90, 60]])]
    sums, gradients = [], []
    for precision in (torch.float32, torch.bfloat16):
        network = small_network().train()
        losses = detection_losses(network, images, boxes, precision=precision)
        assert all(value.dtype == torch.float32 for value in losses.values())
        sum(losses.values()).backward()
        sums.append(sum(losses.values()).item())
        gradients.append(network.backbone.stem[0][0].weight.grad)
    assert sums[0] != sums[1]
    assert sums[1] == pytest.approx(sums[0], rel=0.1)
    assert gradients[1].dtype == torch.float32


def test_likely_actors_without_a_label_are_not_taught_as_background():
    labels = [torch.tensor([1, 0, 0]), torch.tensor([0])]
    logits = torch.tensor([[0.0, 9], [0, 9], [9, 0], [0, 1]])
    first, second = _without_likely_actors(labels, logits, 0.9)
    assert first.tolist() == [1, NOT_TAUGHT, 0]
    assert second.tolist() == [0]


def tiny_config(root, output, *overrides):
    values = {
        "data": {"root": str(root), "held_out_share": 0.3},
        "output": str(output),
        "picture": {"short_side_px": 64, "long_side_px": 96, "scale_jitter": [0.8, 1.25]},
        "optim": {"epochs": 4, "batch_size": 4, "warmup_updates": 2},
        "device": "cpu",
        "workers": 0,
    }
    return people_config_from_dict(values, "test", overrides)


def weights_of(run_folder):
    content = torch.load(run_folder / "checkpoints" / "last.pt", weights_only=True)
    return content["model_state"], content["training"]


@pytest.mark.parametrize(
    ("more", "old_form"),
    [
        ([], False),
        ([], True),
        (["optim.ema_decay=0.6", "optim.precise_bn_batches=1"], False),
    ],
    ids=["plain", "a checkpoint of before", "averaged"],
)
def test_stopped_and_resumed_equals_never_stopped(tiny, tmp_path, monkeypatch, more, old_form):
    assert runs.train(*runs.start(tiny_config(tiny, tmp_path / "whole", *more), overwrite=False))

    updates = iter(range(100))
    parts = runs.start(tiny_config(tiny, tmp_path / "parts", *more), overwrite=False)
    with monkeypatch.context() as patch:
        patch.setattr(runs, "stop_signals", _StopAt(lambda: next(updates) == 2))
        assert not runs.train(*parts)  # in the middle of the second epoch
    _, training = weights_of(tmp_path / "parts")
    assert (training["progress"]["epoch"], training["progress"]["batch"]) == (1, 1)
    if old_form:
        write_as_before(tmp_path / "parts")
    resumed = runs.resume(tmp_path / "parts", overrides=[], load=load_people_config)
    assert runs.train(*resumed)

    (one, first), (other, second) = weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")
    for key in one:
        assert torch.equal(one[key], other[key]), key
    assert first["progress"] == second["progress"]
    assert torch.equal(first["random"][0]["torch"], second["random"][0]["torch"])
    if "optim.ema_decay=0.6" in more:
        followed = second["followed_weights"]
        assert any(not torch.equal(other[key], followed[key]) for key in other)
        for key, value in first["followed_weights"].items():
            assert torch.equal(value, followed[key]), key


def write_as_before(run_folder):
    """Give a checkpoint the form of those that were written before people shared the engine."""
    path = run_folder / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    training = content["training"]
    progress = training["progress"]
    names = {"epoch": "epoch", "batch": "batch", "update": "update", "best_epoch": "best_epoch"}
    names["best_ap50"] = "best_score"
    content["training"] = {
        "progress": {old: progress[new] for old, new in names.items()},
        "optimizer": training["optimizer"],
        "data": training["data"],
        "random": training["random"][0]["torch"],
        "random_cuda": [],
    }
    config = content["config"]
    for name in ("tensorboard", "checkpoints_kept"):
        del config[name]
    for name in ("accumulate", "ema_decay", "schedule", "warmup_start", "beta2"):
        del config["optim"][name]
    del config["data"]["max_unreadable"], config["evaluation"]["use_average"]
    torch.save(content, path)
    (run_folder / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


class _StopAt:
    """In place of `stop_signals`: asks to stop when told so."""

    def __init__(self, should_stop):
        self.should_stop = should_stop

    def __call__(self):
        return self

    def __enter__(self):
        return self.should_stop

    def __exit__(self, *_):
        return None


def test_small_network_learns_the_tiny_squares(tiny, tmp_path):
    """From nothing to every square, in seconds; scored on videos it has not seen."""
    config = tiny_config(
        tiny,
        tmp_path / "run",
        "optim.epochs=30",
        "optim.lr=0.002",
        "data.held_out_share=0",
    )
    assert runs.train(*runs.start(config, overwrite=False))
    metrics = score_run(tmp_path / "run")
    assert metrics["val"]["num_pictures"] == 4
    assert metrics["val"]["ap50"] > 0.6
    assert metrics["held_out"] is None
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    losses = [line["loss"] for line in log if line["event"] == "epoch"]
    assert np.mean(losses[-3:]) < 0.5 * np.mean(losses[:3])


def test_a_loss_that_is_no_number_ends_the_run(tiny, tmp_path):
    config = tiny_config(
        tiny,
        tmp_path / "run",
        "optim.lr=1e30",
        "optim.clip_grad_norm=null",
        "optim.warmup_updates=0",
    )
    run, training = runs.start(config, overwrite=False)
    with pytest.raises(UserError, match=r"the loss became .*train_\d at .*lower optim.lr"):
        runs.train(run, training)
    kept = torch.load(tmp_path / "run/checkpoints/before_not_finite.pt", weights_only=True)
    assert kept["training"]["progress"]["update"] == training.progress.update == 1
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, kept["model_state"][name]), name
    assert all(
        bool(torch.isfinite(v).all()) for n, v in kept["model_state"].items() if "running" in n
    )


def test_frozen_norms_keep_their_statistics(tiny, tmp_path):
    config = tiny_config(tiny, tmp_path / "run", "model.freeze_batch_norm=true", "optim.epochs=1")
    run, training = runs.start(config, overwrite=False)
    before = {k: v.clone() for k, v in run.model.state_dict().items()}
    assert runs.train(run, training)
    after = run.model.state_dict()
    assert torch.equal(
        after["backbone.stem.0.1.running_mean"], before["backbone.stem.0.1.running_mean"]
    )
    assert torch.equal(after["backbone.stem.0.1.weight"], before["backbone.stem.0.1.weight"])
    assert not torch.equal(after["backbone.stem.0.0.weight"], before["backbone.stem.0.0.weight"])


def test_other_data_than_keyframes_of_the_table_are_not_needed(tiny):
    """Labels play no part: a keyframe is known by video and time alone."""
    table = read_boxes(DatasetFolder.open(tiny), "val")
    assert table.keyframe(0) == Keyframe("val_0", 1.0)
    assert table.labels(0).sum() == 0
