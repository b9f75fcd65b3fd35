"""A frame goes through the trunk once: for keyframes of one clip, and for all box files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import tiny_data
import tiny_labels
import tiny_pipeline
import torch

from detection import build
from detection.config import load_config
from detection.datasets.actor_table import build_actor_table
from detection.datasets.actor_tracks import track_actors
from detection.datasets.ava_csv import AvaRows, write_ground_truth, write_person_boxes
from detection.datasets.folder import DatasetFolder, write_dataset_file
from detection.datasets.joined_tables import JoinedTracks, join_tables
from detection.datasets.loader import collate
from detection.engine.distributed import ALONE
from detection.engine.inference import detect
from detection.engine.tasks.actions import ActionTask
from detection.engine.tasks.together import score_together, split_detections
from detection.models.action_detector import ActionDetector
from detection.pipeline.scorers import KeyframeClip, RoiScorer
from detection.structures import ActorBoxes, Keyframe, LabelMap

CPU = torch.device("cpu")
CLIP = ("clip.num_frames=4", "clip.step=6", "clip.at_ends=inside")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three seconds at 10 frames a second, a person at every fifth; box files beside them."""
    root = tmp_path_factory.mktemp("data")
    tiny_data.make_dataset(root / "data", train=2, val=2)
    for number in (0, 1):  # no two frames alike
        path = root / "data" / "videos" / f"val_{number}.mp4"
        tiny_pipeline.write_squares(path, seconds=3.0, speed=19.0 + number)
    folder = DatasetFolder.open(root / "data")
    random = np.random.default_rng(4)
    keys = [Keyframe(f"val_{v}", round(0.1 * i, 3)) for v in (0, 1) for i in range(0, 30, 2)]
    truth = [[0.2, 0.2, 0.5 + 0.01 * i, 0.7] for i in range(len(keys))]
    actions = [(3, 7)[key.video_id == "val_1"] for key in keys]
    rows = AvaRows.from_rows(keys, boxes_01=truth, action_id=actions)
    write_ground_truth(folder.root / "annotations/val.csv", rows)
    for name, chosen in (("many", keys[1:]), ("few", [keys[0], keys[20]])):
        found = []
        for key in chosen:
            corners = random.uniform(0, 0.5, (2, 2))
            corners = np.concatenate([corners, corners + random.uniform(0.2, 0.5, (2, 2))], 1)
            found.append((key, ActorBoxes(corners, random.uniform(0.5, 1, 2))))
        write_person_boxes(folder.root / f"annotations/{name}.csv", found)
    boxes = {name: f"annotations/{name}.csv" for name in ("many", "few")}
    splits = dict(folder.file.splits)
    splits["val"] = splits["val"].model_copy(update={"boxes": boxes})
    write_dataset_file(folder.root, folder.file.model_copy(update={"splits": splits}))
    tiny_labels.write_configuration(root)
    return root


def config_of(data, *more):
    return load_config(data / "tiny.yaml", [f"data.root={data / 'data'}", *CLIP, *more])


def model_of(config):
    torch.manual_seed(0)
    folder = DatasetFolder.open(config.data.root)
    model = build.build_model(config, num_classes=3)
    build.start_from_pretrained(config, model, folder.read_label_map())
    torch.nn.init.normal_(model.head.classes.weight)
    return model.eval()


def count_clips(monkeypatch):
    seen = []
    maps = ActionDetector._maps

    def counted(self, frames, weights):
        seen.append(len(frames))
        return maps(self, frames, weights)

    monkeypatch.setattr(ActionDetector, "_maps", counted)
    return seen


@pytest.mark.parametrize("looks", ["roi", "tube"])
def test_keyframes_of_one_clip_share_it_and_lose_nothing(data, looks, monkeypatch):
    config = config_of(data, f"model.actor_input={looks}", "evaluation.batch_size=15")
    folder = DatasetFolder.open(config.data.root)
    table = build.read_val_table(config, folder, folder.read_label_map())
    dataset = build.build_val_dataset(config, folder, table)
    samples = dataset.__getitems__(range(15))
    together = collate(samples)
    alone = collate([dataclasses.replace(sample, same_clip=None) for sample in samples])
    assert len(alone.frames) == 15 and together.keyframes == alone.keyframes
    different = {sample.frames.numpy().tobytes() for sample in samples}
    assert len(together.frames) == len(different) < 15
    model = model_of(config)
    with torch.no_grad():
        expected, found = (model(*batch.inputs) for batch in (alone, together))
    assert found.shape == expected.shape == (15, 3)
    assert float((found - expected).abs().max()) < 1e-4
    seen = count_clips(monkeypatch)
    assert [one.keyframe for one in detect(model, [together], device=CPU)] == alone.keyframes
    assert seen == [len(different)]


def test_clips_that_differ_in_the_drawn_crop_are_not_shared(data):
    config = config_of(data)
    folder = DatasetFolder.open(config.data.root)
    table = build.read_val_table(config, folder, folder.read_label_map())
    dataset = build.build_train_dataset(
        dataclasses.replace(
            config,
            clip=dataclasses.replace(
                config.clip, train_short_side_px=(48, 60), train_crop_px=48
            ),
        ),
        folder,
        table,
    )  # fmt: skip
    samples = dataset.__getitems__([(epoch, 0) for epoch in range(6)])
    batch = collate(samples)
    assert len(batch.frames) > 1
    for sample in samples:
        assert any(torch.equal(sample.frames, clip) for clip in batch.frames)


@pytest.mark.parametrize("looks", ["roi", "tube"])
def test_all_box_files_are_scored_by_one_pass_as_each_alone(data, looks, monkeypatch):
    also = "data.also_score_boxes=[few,ground-truth]"
    words = ("data.val_boxes=many", "data.box_score_threshold=0.6", f"model.actor_input={looks}")
    config = config_of(data, *words, also, "evaluation.multiply_person_score=true")
    tracked = []
    monkeypatch.setattr(
        build, "track_actors", lambda table: tracked.append(1) or track_actors(table)
    )
    task = ActionTask(config)
    task.prepare_scoring(device=CPU, processes=ALONE)
    scorers, model = [task._scorer, *task._others], model_of(config)
    alone = [scorer.score(model) for scorer in scorers]
    seen = count_clips(monkeypatch)
    scores = score_together(scorers, model)
    assert sum(seen) <= 30  # keyframes of ground truth, which are all
    assert len(tracked) == (3 if looks == "tube" else 0), "each file's people are tracked once"
    for score, (result, found) in zip(scores, alone, strict=True):
        assert dict(score.result.per_class) == pytest.approx(dict(result.per_class), nan_ok=True)
        assert [one.keyframe for one in score.found] == [one.keyframe for one in found]
        for one, other in zip(score.found, found, strict=True):
            np.testing.assert_array_equal(one.boxes.xyxy_01, other.boxes.xyxy_01)
            np.testing.assert_allclose(one.action_scores, other.action_scores, atol=1e-4)
    assert [score.boxes[:20] for score in scores] == [
        "detected boxes 'many", "detected boxes 'few'", "ground-truth boxes (",
    ]  # fmt: skip


def test_of_a_clip_that_cannot_be_read_each_file_counts_its_own_keyframes(data, tmp_path):
    import shutil

    shutil.copytree(data / "data", tmp_path / "data")
    video = tmp_path / "data" / "videos" / "val_1.mp4"
    words = (f"data.root={tmp_path / 'data'}", "data.also_score_boxes=[few]")
    words += ("data.box_score_threshold=0.5",)
    config = config_of(data, *words)
    task = ActionTask(config)
    task.prepare_scoring(device=CPU, processes=ALONE)
    video.write_bytes(b"not a video any more")
    score, few = score_together([task._scorer, *task._others], model_of(config))
    assert len(score.unreadable) == 15
    there = {one.keyframe for one in score.found}
    assert len(score.unreadable) == 30 - len(there)
    assert all(line.startswith("val_1 at ") for line in score.unreadable)
    assert len(few.unreadable) == 2 - len(
        [k for k in there if k in {o.keyframe for o in few.found}]
    )


def rows_of(rows):
    keys = [Keyframe(video, time_s) for video, time_s, _ in rows]
    return build_actor_table(
        AvaRows.from_rows(keys, boxes_01=[box for *_, box in rows], action_id=[1] * len(rows)),
        LabelMap(("a",), (1,)),
    )


def test_tables_join_by_video_and_time_and_part_again():
    left, right = (0.1, 0.1, 0.2, 0.9), (0.5, 0.1, 0.6, 0.9)
    first = rows_of([("b", 1.0, left), ("b", 1.2, left), ("c", 0.0, left)])
    second = rows_of([("a", 0.5, right), ("b", 1.2, right), ("b", 1.4, right)])
    joined = join_tables([first, second])
    assert [str(key) for key in joined.keyframes()] == [
        str(key)
        for key in [
            Keyframe("a", 0.5),
            *(Keyframe("b", t) for t in (1.0, 1.2, 1.4)),
            Keyframe("c", 0),
        ]
    ]
    assert [len(joined.boxes(k)) for k in range(5)] == [1, 1, 2, 1, 1]
    np.testing.assert_allclose(joined.boxes(2).xyxy_01[:, 0], [0.1, 0.5])
    assert joined.labels(2).shape == (2, 1)
    tracks = JoinedTracks(joined, [track_actors(first), track_actors(second)])
    assert np.allclose(tracks.boxes_at(2, np.array([0.0, 9.0]))[:, :, 0], [[0.1] * 2, [0.5] * 2])


def test_arrays_that_are_the_same_frames_go_through_the_network_once(data):
    config = config_of(data)
    calls = []

    class Counting(torch.nn.Module):
        def forward(self, frames, rois_px):
            calls.append(len(frames))
            return model_of(config)(frames, rois_px)

    scorer = RoiScorer(Counting(), np.arange(3), 48, CPU, False)
    random = np.random.default_rng(0)
    frames = [random.integers(0, 256, (48, 64, 3), np.uint8) for _ in range(4)]
    others = [frame.copy() for frame in frames]
    box, two = np.float32([[0.1, 0.1, 0.6, 0.9]]), np.float32([[0.1, 0.1, 0.6, 0.9], [0, 0, 1, 1]])
    clips = [KeyframeClip(0.0, frames, box), KeyframeClip(0.1, others, two)]
    clips.append(KeyframeClip(0.2, frames, two))
    first, second, third = scorer.score(clips)
    assert calls == [2]
    assert [len(part) for part in (first, second, third)] == [1, 2, 2]
    np.testing.assert_allclose(third[:1], first, atol=1e-6)
    np.testing.assert_allclose(third, second, atol=1e-5)


def test_no_detections_are_split_into_none():
    table = rows_of([("a", 0.0, (0, 0, 1, 1))])
    assert split_detections([], [table, table]) == [[], []]
