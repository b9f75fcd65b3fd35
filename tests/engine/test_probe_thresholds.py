"""A run of the probe alone learns thresholds from train, out of fold, beside val."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import tiny_data
import tiny_labels
import torch

import train_ava
from ava_tools import learn_thresholds as command
from detection.checkpoints.file import read_model_file
from detection.datasets.ava_csv import AvaRows
from detection.engine.probe import FOLDS, ProbeRows, scores_out_of_fold
from detection.evaluation.thresholds import HeldOutScores, learn_from_detections, learn_thresholds
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap

OUT_OF_FOLD = "train out of fold (4 folds of 4 videos, 8 people at keyframes)"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("probe")
    tiny_data.make_dataset(folder / "data", train=4, val=2)
    tiny_labels.write_configuration(folder)
    assert train(folder, "run") == 0
    return folder


def train(folder, name, *overrides):
    words = ["--cfg", str(folder / "tiny.yaml"), f"data.root={folder / 'data'}"]
    return train_ava.main([*words, f"output={folder / name}", *overrides])


def thresholds_of(run):
    return read_model_file(run / "checkpoints" / "last.pt").thresholds


def test_train_out_of_fold_counts_beside_val(trained):
    learned = thresholds_of(trained / "run")
    assert learned.source == f"val, ground-truth boxes, and {OUT_OF_FOLD}"
    assert learned.examples.tolist() == [2 + 4, 2 + 4, 4 + 8]
    written = json.loads((trained / "run" / "metrics.json").read_text())
    assert written["thresholds"]["source"] == learned.source
    assert sum(written["num_ground_truth"].values()) == 8  # the mAP is that of val alone


def test_a_finished_run_and_one_that_goes_on_learn_the_same(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    expected = thresholds_of(run)
    for again in (
        lambda: command.main(["--run", str(run)]),
        lambda: train_ava.main(["--resume", str(run)]),
    ):
        content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
        del content["thresholds"]
        torch.save(content, run / "checkpoints" / "last.pt")
        assert again() == 0
        found = thresholds_of(run)
        assert found.source == expected.source
        np.testing.assert_allclose(found.score, expected.score, atol=1e-4)


def test_a_layer_that_is_not_fitted_to_these_people_is_judged_on_val_alone(trained, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(trained / "run", run)
    content = torch.load(run / "checkpoints" / "last.pt", weights_only=True)
    content["model_state"]["head.classes.bias"] += 8
    torch.save(content, run / "checkpoints" / "last.pt")
    command.main(["--run", str(run)])
    assert thresholds_of(run).source == "val, ground-truth boxes"


def test_what_it_was_trained_on_is_judged_out_of_fold_alone(trained):
    assert train(trained, "same", "data.val_split=train") == 0
    learned = thresholds_of(trained / "same")
    assert learned.source == OUT_OF_FOLD and learned.examples.tolist() == [4, 4, 8]


def test_a_val_split_on_which_nobody_does_anything_leaves_the_other(trained, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(trained / "data", data)
    rows = (data / "annotations" / "val.csv").read_text().splitlines()
    nobody = [",".join([*row.split(",")[:6], ""]) for row in rows if row.split(",")[6] == "9"]
    (data / "annotations" / "val.csv").write_text("\n".join(nobody) + "\n")
    shutil.copy(trained / "tiny.yaml", tmp_path)
    assert train(tmp_path, "run", f"data.root={data}") == 0
    learned = thresholds_of(tmp_path / "run")
    assert learned.source == OUT_OF_FOLD and learned.examples.tolist() == [4, 4, 8]


@pytest.mark.parametrize("more", [["model.exclusive_actions=true"], ["optim.epochs=1"]])
def test_other_networks_are_judged_on_val_alone(trained, tmp_path, more):
    data = trained / "data"
    if "exclusive" in more[0]:  # one class a person is required
        data = tmp_path / "data"
        shutil.copytree(trained / "data", data)
        for path in (data / "annotations").glob("*.csv"):
            rows = [row for row in path.read_text().splitlines() if row.split(",")[6] != "9"]
            path.write_text("\n".join(rows) + "\n")
    shutil.copy(trained / "tiny.yaml", tmp_path)
    assert train(tmp_path, "run", f"data.root={data}", *more) == 0
    assert thresholds_of(tmp_path / "run").source == "val, ground-truth boxes"


def test_held_out_scores_are_those_of_layers_of_other_videos() -> None:
    generator = torch.Generator().manual_seed(0)
    labels = torch.eye(3)[torch.arange(24) % 2]
    features = torch.cat([labels, torch.randn(24, 3, generator=generator)], dim=1)
    index = np.repeat(np.arange(6), 4)
    rows = ProbeRows(features, labels, [f"v{number}" for number in index])
    held_out = rows.held_out((6,), 1e-2, name="train")
    assert held_out is not None and f"({FOLDS} folds of 6 videos, 24 people" in held_out.source
    expected = scores_out_of_fold(features, labels, index, (6,), 1e-2)
    np.testing.assert_array_equal(held_out.scores, expected.double().numpy())
    scores, is_true = held_out.judged()
    assert np.isfinite(scores).all() and not scores[:, 2].any() and not is_true[:, 2].any()
    one_video = ProbeRows(features, labels, ["v"] * 24)
    assert one_video.held_out((6,), 1e-2, name="train") is None


def test_both_kinds_of_scores_count_box_by_box() -> None:
    """Joined is as if all of them were of one split; what cannot be judged changes nothing."""
    generator = np.random.default_rng(0)
    label_map = LabelMap(("a", "b"), (1, 2))
    found, keys, boxes, ids, is_true = [], [], [], [], []
    for second in range(30):
        key, box = Keyframe("v", float(second)), [0.1, 0.1, 0.9, 0.9]
        found.append(Detections(key, ActorBoxes([box], [1.0]), generator.random((1, 2))))
        doing = second % 3
        keys.append(key), boxes.append(box), ids.append(doing or -1)
        is_true.append([doing == 1, doing == 2])
    truth = AvaRows.from_rows(keys, boxes_01=boxes, action_id=ids)
    scores = np.concatenate([one.action_scores for one in found])
    more, more_true = generator.random((20, 2)), generator.random((20, 2)) < 0.5

    def learn(beside):
        return learn_from_detections(
            found, truth, label_map, detected=False, source="val", beside=beside
        )

    joined = learn(HeldOutScores(more, more_true, "train out of fold"))
    plain = learn_thresholds(
        np.concatenate([scores, more]),
        np.concatenate([np.array(is_true), more_true]),
        source="",
    )
    np.testing.assert_allclose(joined.score, plain.score, atol=1e-6)
    assert joined.examples.tolist() == plain.examples.tolist()
    assert joined.source == "val, and train out of fold"
    nothing = learn(HeldOutScores(np.full((20, 2), np.nan), more_true, "train out of fold"))
    alone = learn(None)
    np.testing.assert_array_equal(nothing.score, alone.score)
    np.testing.assert_array_equal(nothing.precision, alone.precision)
    np.testing.assert_array_equal(nothing.recall, alone.recall)
    assert nothing.examples.tolist() == alone.examples.tolist()
    with pytest.raises(ValueError, match="together"):
        learn_from_detections(
            found, truth, label_map, detected=True, source="val",
            beside=HeldOutScores(more, more_true, "x"),
        )  # fmt: skip
