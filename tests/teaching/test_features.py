"""Features are computed once, and found again whatever happened in between."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import torch

from detection.build import build_model, place_model
from detection.config import config_from_dict
from detection.datasets.ava_csv import read_ground_truth
from detection.datasets.folder import DatasetFolder
from detection.errors import UserError
from detection.teaching.features import FeatureStore, PersonKeyframes, compute_missing, feature_key

CPU = torch.device("cpu")


class World:
    """A data set of four videos, a tiny network that counts its clips, and who is to be seen."""

    def __init__(self, root: Path, **clip) -> None:
        self.folder = DatasetFolder.open(tiny_data.make_dataset(root, train=4, val=1))
        values = {
            "data": {"root": str(root)},
            "workers": 0,
            "clip": {"num_frames": 2, "step": 3, "test_short_side_px": 48, **clip},
            "model": {
                "variant": "xs",
                "depth_factor": 1.0,
                "width_factor": 1.0,
                "head_width": 16,
                "context": "frame",
            },
            "evaluation": {"batch_size": 2},
        }
        self.config = config_from_dict(values, "test")
        self.people = people_of(self.folder)
        self.open()

    def open(self, seed: int = 0) -> None:
        torch.manual_seed(seed)
        self.model = place_model(build_model(self.config, num_classes=3), CPU)
        self.clips = 0
        taken = self.model.actor_features

        def counting(frames, rois_px):
            self.clips += len(frames)
            return taken(frames, rois_px)

        self.model.actor_features = counting
        self.store = FeatureStore(
            self.folder, feature_key(self.model, self.config), num_features=32
        )

    def compute(self, people=None):
        wanted = self.people if people is None else people
        return compute_missing(self.store, self.config, self.model, wanted, device=CPU)

    def features(self, video_id: str):
        features, found = self.store.read(video_id, self.people[video_id])
        assert found.all()
        return features


def people_of(folder: DatasetFolder) -> dict[str, PersonKeyframes]:
    rows = read_ground_truth(folder.split("train").annotations)
    people = {}
    for number, name in enumerate(rows.video_names):
        mine = rows.select(rows.video_index == number)
        people[name] = PersonKeyframes(mine.time_us, mine.boxes_01)
    return people


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "data")


def test_they_are_what_the_last_layer_is_given_and_a_second_run_computes_nothing(world) -> None:
    computed, unreadable = world.compute()
    # Two keyframes of one person a video; ground truth has two rows (labels) for each.
    assert (computed, unreadable, world.clips) == (8, [], 8)
    first = {name: world.features(name) for name in world.people}
    assert all(np.abs(features).max() > 0 for features in first.values())
    world.open()
    assert world.compute() == (0, []) and world.clips == 0
    for name, features in first.items():
        np.testing.assert_array_equal(world.features(name), features)


def test_new_and_moved_boxes_alone_are_added(world) -> None:
    world.compute()
    before = world.features("train_0")
    old = world.people["train_0"]
    moved = PersonKeyframes(old.time_us, old.boxes_01 + [[0.01, 0, 0, 0]] * len(old))
    world.open()
    world.people = world.people | {"train_0": PersonKeyframes.joined([old, moved])}
    assert world.compute()[0] == 2 and world.clips == 2
    features = world.features("train_0")
    np.testing.assert_array_equal(features[: len(old)], before)
    assert np.abs(features[len(old) :] - before).max() > 1e-6
    # Six decimals, as some files have, find the box again.
    world.people["train_0"] = PersonKeyframes(old.time_us, old.boxes_01.round(6))
    world.open()
    assert world.compute()[0] == 0


def test_another_network_sampling_or_size_has_features_of_its_own(world) -> None:
    def key(**changes):
        config = world.config
        clip = dataclasses.replace(config.clip, **changes)
        return feature_key(world.model, dataclasses.replace(config, clip=clip))

    first = key()
    changed = [key(num_frames=3), key(step=4), key(test_short_side_px=64), key(at_ends="inside")]
    with torch.no_grad():
        world.model.head.classes.bias.add_(1)
        assert key() == first  # the last layer is what is being learned
        world.model.head.hidden.weight.mul_(1.01)
    changed.append(key())
    assert len({first, *changed}) == 6


def test_ended_between_two_videos_all_before_are_kept(world, monkeypatch) -> None:
    add, done = FeatureStore.add, []

    def ended(self, video_id, keys, features):
        if len(done) == 2:
            raise KeyboardInterrupt
        done.append(video_id)
        add(self, video_id, keys, features)

    monkeypatch.setattr(FeatureStore, "add", ended)
    with pytest.raises(KeyboardInterrupt):
        world.compute()
    monkeypatch.undo()
    world.open()
    assert world.compute()[0] == 4 and world.clips == 4
    resumed = {name: world.features(name) for name in world.people}
    for path in world.store.place.glob("*.npz"):
        path.unlink()
    world.compute()
    for name, features in resumed.items():
        np.testing.assert_array_equal(world.features(name), features)


@pytest.mark.parametrize("damage", ["cut", "other", "flipped", "empty", "video"])
def test_damaged_and_foreign_files_are_made_anew_and_named(world, damage, capsys) -> None:
    world.compute()
    expected = world.features("train_1")
    path = world.store.path("train_1")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "other":
        path.write_bytes(world.store.path("train_2").read_bytes())
    elif damage == "flipped":
        place = content.index(expected.tobytes()[:16])
        path.write_bytes(content[:place] + b"\x00\x00\x80\x3f" + content[place + 4 :])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        video = world.folder.video_path("train_1")
        video.write_bytes(world.folder.video_path("train_3").read_bytes())
    world.open()
    assert world.compute()[0] == 2 and world.clips == 2
    said = capsys.readouterr().err
    assert "train_1.npz: features are computed anew" in said and said.count("anew") == 1
    assert (world.features("train_1") == expected).all() == (damage != "video")


def test_a_video_that_cannot_be_read_is_named_and_the_others_go_on(world) -> None:
    world.folder.video_path("train_2").write_bytes(b"no video")
    computed, unreadable = world.compute()
    assert computed == 6 and len(unreadable) == 2 and "train_2" in unreadable[0]
    assert not world.store.read("train_2", world.people["train_2"])[1].any()
    tiny_data.make_dataset(world.folder.root.parent / "again", train=4, val=1)
    good = world.folder.root.parent / "again" / "videos" / "train_2.mp4"
    world.folder.video_path("train_2").write_bytes(good.read_bytes())
    world.open()
    assert world.compute() == (2, [])


def test_a_keyframe_outside_its_video_is_refused(world) -> None:
    old = world.people["train_0"]
    world.people["train_0"] = PersonKeyframes(old.time_us + 60_000_000, old.boxes_01)
    with pytest.raises(UserError, match="outside video 'train_0'"):
        world.compute()


def test_nobody_is_nothing_to_do(world) -> None:
    assert world.compute({}) == (0, []) and world.compute({"train_0": PersonKeyframes.none()}) == (
        0,
        [],
    )
    assert world.store.read("train_0", PersonKeyframes.none())[0].shape == (0, 32)
    assert not world.store.place.exists()
