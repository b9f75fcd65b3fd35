"""Runs that learn and are scored on streams: probe, fine-tuning, and the film that is judged."""

from __future__ import annotations

import json

import numpy as np
import pytest
import tiny_data
import tiny_labels
import torch

import train_ava
from detection import build
from detection.checkpoints.file import read_checkpoint, read_model_file
from detection.checkpoints.load import load_network
from detection.config import config_from_dict, load_config
from detection.datasets.ava_csv import read_detections
from detection.datasets.folder import DatasetFolder
from detection.datasets.loader import collate
from detection.engine.probe import collect_features, fit_linear
from detection.errors import UserError
from detection.models.action_detector import weighted_mean
from detection.pipeline import ActionDetectorPipeline, PipelineOptions
from detection.structures import ActorBoxes

STREAM = ("clip.stream=true", "clip.at_ends=inside")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("streams")
    tiny_data.make_dataset(folder / "data", train=4, val=2)
    tiny_labels.write_configuration(folder)
    words = ["--cfg", str(folder / "tiny.yaml"), f"data.root={folder / 'data'}"]
    assert train_ava.main([*words, f"output={folder / 'run'}", *STREAM]) == 0
    return folder


def test_the_probe_is_fitted_to_streams_and_the_checkpoint_remembers(trained):
    file = read_checkpoint(trained / "run")
    assert file.sampling.stream and file.sampling.at_ends == "inside"
    config = load_config(trained / "run" / "config.yaml", [])
    folder = DatasetFolder.open(config.data.root)
    table = build.read_train_table(config, folder, folder.read_label_map())
    batch = collate(build.build_val_dataset(config, folder, table).__getitems__(range(len(table))))
    sampling = config.clip.sampling
    assert batch.frames.shape[2] == 2 * sampling.num_frames
    wanted = [sampling.weights(key.time_s, within_s=(0.0, 2.9)) for key in batch.keyframes]
    np.testing.assert_array_equal(batch.weights.numpy(), np.stack(wanted))
    model = load_network(file)
    features, labels = collect_features(model, [batch], device=torch.device("cpu"))
    weights, biases = fit_linear(
        features, labels, parts=model.head.feature_parts, l2=config.probe.l2
    )
    fitted = (features @ weights.T + biases).sigmoid()
    with torch.inference_mode():
        found = model(*batch.inputs).sigmoid()
    assert (found - fitted).abs().max() < 0.02


class OfValidation:
    """Finds the boxes of the ground truth."""

    name = "of validation"

    def __init__(self, boxes):
        self.boxes = boxes

    def detect(self, images):
        return [ActorBoxes(self.boxes, np.ones(len(self.boxes), np.float32)) for _ in images]


def test_a_film_has_the_scores_that_scoring_its_keyframes_has(trained, tmp_path):
    config = load_config(trained / "run" / "config.yaml", [])
    folder = DatasetFolder.open(config.data.root)
    table = build.read_val_table(config, folder, folder.read_label_map())
    keyframe, boxes = table.keyframe(0), table.boxes(0)
    batch = collate(build.build_val_dataset(config, folder, table).__getitems__([0]))
    with torch.inference_mode():
        wanted = load_network(read_checkpoint(trained / "run"))(*batch.inputs).sigmoid().numpy()
    detector = ActionDetectorPipeline.from_checkpoint(
        trained / "run",
        people=OfValidation(boxes.xyxy_01),
        options=PipelineOptions(smoothing_s=0.0, keyframe_interval_s=0.5),
    )
    film = folder.video_path(keyframe.video_id)
    list(detector.run(film, out=tmp_path / "out", film=False, page=False))
    rows = read_detections(tmp_path / "out" / "detections.csv")
    found = rows.select(rows.time_us == round(1e6 * keyframe.time_s)).score
    assert found.reshape(wanted.shape) == pytest.approx(wanted, abs=1e-4)


def test_fine_tuning_on_streams_and_scoring_the_run_again_agree(trained):
    words = ["--cfg", str(trained / "tiny.yaml"), f"data.root={trained / 'data'}", *STREAM]
    run = trained / "tuned"
    assert train_ava.main([*words, f"output={run}", "optim.epochs=1"]) == 0
    before = json.loads((run / "metrics.json").read_text())
    assert train_ava.main(["--eval-only", "--checkpoint", str(run)]) == 0
    after = json.loads((run / "metrics.json").read_text())
    assert after["mean_ap"] == before["mean_ap"] and after["per_class"] == before["per_class"]
    assert read_model_file(run / "checkpoints" / "last.pt").sampling.stream


@pytest.mark.parametrize(
    "clip", [{"stream": True}, {"stream": True, "at_ends": "inside", "step": 0}]
)
def test_a_stream_without_steps_or_beyond_the_ends_is_refused(clip):
    with pytest.raises(UserError, match="stream needs at_ends: inside, and a step above 0"):
        config_from_dict({"data": {"root": "x"}, "clip": clip}, "a test")


def test_whole_clips_know_no_streams():
    clip = {"stream": True, "at_ends": "inside"}
    with pytest.raises(UserError, match="clip.stream has no use with task 'classification'"):
        config_from_dict({"data": {"root": "x"}, "task": "classification", "clip": clip}, "a test")


def test_a_checkpoint_whose_stream_repeats_edge_frames_is_damaged(trained, tmp_path):
    content = torch.load(trained / "run" / "checkpoints" / "last.pt", weights_only=True)
    content["sampling"]["at_ends"] = "repeat"
    torch.save(content, tmp_path / "damaged.pt")
    with pytest.raises(UserError, match="a damaged checkpoint: a stream's clips need"):
        read_model_file(tmp_path / "damaged.pt")


def test_means_of_streams_are_weighted():
    maps = torch.arange(24.0).reshape(2, 1, 3, 2, 2)
    weights = torch.tensor([[0.5, 0.5, 0], [0, 0, 1]])
    found = weighted_mean(maps, weights)
    assert found.shape == (2, 1, 1, 2, 2)
    assert torch.equal(found[0, :, 0], maps[0, :, :2].mean(1))
    assert torch.equal(found[1, :, 0], maps[1, :, 2])
