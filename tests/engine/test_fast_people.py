"""People who run: a box that stands still misses what they do, one that follows them does not."""

from __future__ import annotations

import json

import fast_people
import numpy as np
import pytest
import tiny_labels
import torch
import yaml

import train_ava
from ava_tools.cli import exit_code_of
from detection import build
from detection.checkpoints.file import read_checkpoint
from detection.checkpoints.load import load_network
from detection.config import load_config
from detection.datasets.ava_csv import read_detections
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import collate
from detection.errors import UserError
from detection.pipeline import ActionDetectorPipeline, PipelineOptions

OPTIONS = {
    "clip": {"num_frames": 4, "step": 3, "test_short_side_px": 96},
    "model": {"context": "none", "depth_factor": 0.4},
    "probe": {"keyframes_per_video": 8},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("fast")
    fast_people.make_dataset(root / "data")
    fast_people.make_dataset(root / "no_ids", person_ids=False)
    merged = {**tiny_labels.OPTIONS}
    for section, values in OPTIONS.items():
        merged[section] = {**merged[section], **values}
    original, tiny_labels.OPTIONS = tiny_labels.OPTIONS, merged
    try:
        path = tiny_labels.write_configuration(root)
    finally:
        tiny_labels.OPTIONS = original
    assert yaml.safe_load(path.read_text())["clip"]["test_short_side_px"] == 96
    return root


def trained(root, name, *options, data="data"):
    run = root / name
    words = ["--cfg", str(root / "tiny.yaml"), f"data.root={root / data}", f"output={run}"]
    assert train_ava.main([*words, *options]) == 0
    return run


def mean_ap(run):
    return json.loads((run / "metrics.json").read_text())["mean_ap"]


@pytest.fixture(scope="module")
def tube(root):
    return trained(root, "tube", "model.actor_input=tube")


def test_a_still_box_fails_where_one_that_follows_does_not(root, tube):
    still = mean_ap(trained(root, "still"))
    assert mean_ap(tube) > 0.95
    assert mean_ap(tube) >= still + 0.2


SQUARES = ("model.actor_input=tube+crop", "model.time_parts=2", "model.crop_px=48")


def test_squares_and_stretches_of_time_are_learned_from(root):
    run = trained(root, "squares", *SQUARES)
    assert mean_ap(run) > 0.95
    head = read_checkpoint(run).network.head
    assert (head.actor_input, head.time_parts, head.crop_px) == ("tube+crop", 2, 48)


def test_a_run_that_was_fine_tuned_on_tubes_is_scored_again_alike(root):
    small = ("clip.train_short_side_px=[96,96]", "clip.train_crop_px=96", "clip.box_jitter=0.1")
    run = trained(root, "tuned", *SQUARES, *small, "optim.epochs=1")
    before = mean_ap(run)
    assert train_ava.main(["--eval-only", "--checkpoint", str(run)]) == 0
    assert mean_ap(run) == pytest.approx(before, abs=1e-6)


def test_a_video_has_the_scores_that_scoring_its_keyframes_has(root, tube, tmp_path):
    """Of detected people, who are followed from frame to frame."""
    config = load_config(tube / "config.yaml", [])
    folder = DatasetFolder.open(config.data.root)
    table = build.read_val_table(config, folder, folder.read_label_map())
    dataset = build.build_val_dataset(config, folder, table)
    options = PipelineOptions(smoothing_s=0.0, keyframe_interval_s=0.2, people_per_keyframe=6)
    detector = ActionDetectorPipeline.from_checkpoint(
        tube, people=fast_people.LaneDetector(), options=options
    )
    video = table.video_names[0]
    out = tmp_path / "out"
    list(detector.run(folder.video_path(video), out=out, film=False, page=False))
    rows = read_detections(out / "detections.csv")
    model = load_network(read_checkpoint(tube))
    compared = 0
    for position in np.flatnonzero(table.video_index == 0)[1:-1].tolist():
        batch = collate(dataset.__getitems__([position]))
        with torch.inference_mode():
            expected = model(*batch.inputs).sigmoid().numpy()
        here = rows.select(rows.time_us == table.time_us[position])
        for actor, box in enumerate(batch.boxes[0].xyxy_01):
            near = np.abs(here.boxes_01 - box).max(1) < 0.05
            found = dict(zip(here.action_id[near].tolist(), here.score[near].tolist(), strict=True))
            assert found == pytest.approx({1: expected[actor, 0], 2: expected[actor, 1]}, abs=0.15)
            compared += 1
    assert compared == 2 * (len(fast_people.KEYFRAMES_S) - 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["model.actor_input=tube", "clip.stream=true", "clip.at_ends=inside"],
            "clip.stream takes the mean over its frames .* model.actor_input 'roi' and",
        ),
        (
            ["model.time_parts=2", "clip.stream=true", "clip.at_ends=inside"],
            "clip.stream takes the mean over its frames .* model.time_parts 1 are required",
        ),
        (["model.time_parts=5"], "model.time_parts=5 needs as many frames, clip.num_frames is 4"),
        (["model.actor_input=path"], "model.actor_input"),
    ],
)
def test_what_a_clip_cannot_give_is_refused_before_anything_is_read(root, options, message):
    with pytest.raises(UserError, match=message):
        load_config(root / "tiny.yaml", options)


def test_a_person_with_two_boxes_is_named_before_a_run_begins(root, tmp_path, capsys):
    data = tmp_path / "data"
    fast_people.make_dataset(data, train=2, val=1)
    path = data / "annotations" / "train.csv"
    lines = path.read_text().splitlines()
    lines[1] = lines[1].rsplit(",", 1)[0] + "," + lines[0].rsplit(",", 1)[1]
    path.write_text("\n".join(lines) + "\n")
    words = ["--cfg", str(root / "tiny.yaml"), f"data.root={data}", f"output={tmp_path / 'run'}"]
    assert exit_code_of(lambda _: train_ava.main([*words, "model.actor_input=tube"])) == 2
    assert "train.csv:2: train_0" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
