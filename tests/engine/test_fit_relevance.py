"""Relevance beside a run: fitted on training videos, stored, used in scoring, refused elsewhere."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from tiny_data import LABELS, make_dataset

import train_ava
from detection.build import find_relevance_boxes
from detection.checkpoints.file import read_model_file
from detection.checkpoints.relevance_part import plain_relevance
from detection.checks.run import run_findings
from detection.config import load_config
from detection.datasets.actor_table import ActorTable, build_actor_table
from detection.datasets.ava_csv import (
    AvaRows,
    read_ground_truth,
    read_person_boxes,
    write_person_boxes,
)
from detection.datasets.folder import DatasetFolder
from detection.engine.fit_relevance import (
    fit_on_training_split,
    fit_relevance,
    fit_weights,
    relevance_rows,
)
from detection.engine.tasks.action_scoring import Scorer
from detection.errors import UserError
from detection.relevance import FEATURES, BoxOrigin, Relevance, relevance_features, stack_features
from detection.structures import ActorBoxes, Detections, Keyframe

SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 1, batch_size: 2, lr: 0.05}
evaluation: {every_epochs: 9}
workers: 0
threads: 1
device: cpu
"""
DETECTED = ["data.val_boxes=found", "data.box_score_threshold=0.05"]
TIMES_SCORE = [*DETECTED, "evaluation.multiply_person_score=true"]
FIT = [*TIMES_SCORE, "people.relevance=fit"]


def make_boxes(data: Path, split: str, *, name: str = "found", shift: float = 0.0) -> Path:
    """Write and register a detector's boxes: the labelled person, larger than two by-standers."""
    random = np.random.default_rng(len(split))
    truth = read_ground_truth(data / "annotations" / f"{split}.csv")
    rows: dict[Keyframe, ActorBoxes] = {}
    for row in range(len(truth)):
        key = Keyframe(truth.video_names[truth.video_index[row]], float(truth.time_us[row]) / 1e6)
        corners = random.uniform(0.1, 0.8, (2, 2))
        small = [(x, y, x + 0.1, y + 0.15) for x, y in corners]
        boxes = np.clip(np.array([truth.boxes_01[row] + shift, *small]), 0, 1)
        rows[key] = ActorBoxes(boxes, random.uniform(0.3, 0.9, 3))
    path = data / "annotations" / f"boxes_{name}_{split}.csv"
    write_person_boxes(path, sorted(rows.items(), key=lambda item: item[0]))
    text = (data / "dataset.yaml").read_text()
    entry = f"annotations: annotations/{split}.csv\n"
    boxes = f"{entry}    boxes:\n"
    line = f"      {name}: annotations/{path.name}\n"
    text = text.replace(boxes, boxes + line) if boxes in text else text.replace(entry, boxes + line)
    (data / "dataset.yaml").write_text(text)
    return path


def note(path: Path, weights: str) -> None:
    text = json.dumps({"options": {"weights": weights}})
    path.with_suffix(".made_by.json").write_text(text)


def train(folder: Path, *overrides: str, out: str = "run") -> None:
    text = f"data: {{root: '{folder / 'data'}'}}\noutput: '{folder / out}'\n{SETTINGS}"
    (folder / "tiny.yaml").write_text(text)
    assert train_ava.main(["--cfg", str(folder / "tiny.yaml"), *overrides]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("relevance")
    data = make_dataset(folder / "data", train=4, val=2)
    for split in ("train", "val"):
        make_boxes(data, split)
    make_boxes(data, "val", name="other", shift=0.02)
    train(folder, *FIT)
    return folder


def metrics_of(run: Path) -> dict[str, object]:
    values: dict[str, object] = json.loads((run / "metrics.json").read_text())
    return values


def test_a_run_fits_stores_and_names_it(trained: Path) -> None:
    stored = read_model_file(trained / "run" / "checkpoints" / "last.pt").relevance
    assert stored is not None and stored.origin == BoxOrigin("found")
    assert (stored.num_boxes, stored.num_labelled, stored.num_videos) == (24, 8, 4)
    assert stored.least_score == 0.05
    metrics = metrics_of(trained / "run")
    assert "times the probability that the person is one who is labelled" in str(metrics["boxes"])
    assert "fitted to 24 boxes of 4 videos" in str(metrics["relevance"])
    assert "boxes 'found' times relevance" in str(metrics["thresholds"])
    (start,) = [
        json.loads(line)
        for line in (trained / "run" / "log.jsonl").read_text().splitlines()
        if json.loads(line)["event"] == "start"
    ]
    assert start["relevance"].endswith("at 8 of 8 annotated keyframes")


def test_the_larger_person_is_the_labelled_one(trained: Path) -> None:
    stored = read_model_file(trained / "run" / "checkpoints" / "last.pt").relevance
    assert stored is not None
    people = ActorBoxes([(0.1, 0.1, 0.2, 0.25), (0.4, 0.4, 0.75, 0.85)], [0.6, 0.6])
    small, large = stored.probabilities(people)
    assert small < 0.1 and large > 0.9


def test_scoring_a_checkpoint_takes_what_it_holds(
    trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = trained / "run" / "checkpoints" / "last.pt"
    line = ["--eval-only", "--checkpoint", str(path)]
    assert train_ava.main([*line, f"output={tmp_path / 'again'}"]) == 0
    said = capsys.readouterr().out
    assert "(relevance)" in said and "relevance fitted to 24 boxes" in said
    again, first = metrics_of(tmp_path / "again"), metrics_of(trained / "run")
    assert again["mean_ap"] == first["mean_ap"] and again["boxes"] == first["boxes"]
    # The same network with and without: by-standers score less, and less often above the person.
    without = [f"output={tmp_path / 'off'}", "people.relevance=none"]
    assert train_ava.main([*line, *without]) == 0
    off = metrics_of(tmp_path / "off")
    assert "relevance" not in off and "labelled" not in str(off["boxes"])
    assert off["mean_ap"] < first["mean_ap"]  # type: ignore[operator]


def test_boxes_scored_beside_are_without_it(trained: Path, tmp_path: Path) -> None:
    line = ["--eval-only", "--checkpoint", str(trained / "run")]
    beside = [f"output={tmp_path / 'both'}", "data.also_score_boxes=[other]"]
    assert train_ava.main([*line, *beside]) == 0
    alone = [f"output={tmp_path / 'one'}", "data.val_boxes=other", "people.relevance=none"]
    assert train_ava.main([*line, *alone]) == 0
    both, one = metrics_of(tmp_path / "both"), metrics_of(tmp_path / "one")
    assert both["mean_ap"] == metrics_of(trained / "run")["mean_ap"]
    (other,) = both["other_boxes"]  # type: ignore[misc]
    assert (other["mean_ap"], other["boxes"]) == (one["mean_ap"], one["boxes"])


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["data.val_boxes=other"], "boxes 'found'.*boxes 'other'.*cannot be compared"),
        (["data.box_score_threshold=0.5"], "from 0.05 on, and not from 0.5 on"),
        (["data.val_boxes=ground-truth"], "needs data.val_boxes"),
        (["evaluation.multiply_person_score=false"], "needs evaluation.multiply_person_score"),
    ],
)
def test_other_boxes_are_refused_by_name(
    trained: Path, tmp_path: Path, overrides: Sequence[str], said: str
) -> None:
    line = ["--eval-only", "--checkpoint", str(trained / "run"), f"output={tmp_path / 'x'}"]
    with pytest.raises(UserError, match=said) as refused:
        train_ava.main([*line, *overrides])
    assert "\n" not in str(refused.value)


def test_boxes_of_another_detector_under_the_same_name_are_refused(
    trained: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(trained / "data", tmp_path / "data")
    boxes = {split: data / "annotations" / f"boxes_found_{split}.csv" for split in ("train", "val")}
    for path in boxes.values():
        note(path, "ab" * 32)
    train(tmp_path, *FIT)
    stored = read_model_file(tmp_path / "run" / "checkpoints" / "last.pt").relevance
    assert stored is not None and stored.origin.detector == f"weights {'ab' * 32}"
    line = ["--eval-only", "--checkpoint", str(tmp_path / "run"), f"output={tmp_path / 'x'}"]
    assert train_ava.main(line) == 0
    note(boxes["val"], "cd" * 32)
    with pytest.raises(UserError, match=r"abababababab\.\.\..*cdcdcdcdcdcd\.\.\. are given"):
        train_ava.main(line)
    with pytest.raises(UserError, match="people.relevance=fit: split 'train' has .* 'val' boxes"):
        train(tmp_path, *FIT, out="y")
    assert not (tmp_path / "y").exists()


def test_a_run_goes_on_with_the_relevance_of_its_checkpoint(trained: Path, tmp_path: Path) -> None:
    run = shutil.copytree(trained / "run", tmp_path / "run")
    before = read_model_file(run / "checkpoints" / "last.pt").relevance
    assert train_ava.main(["--resume", str(run)]) == 0
    after = read_model_file(run / "checkpoints" / "last.pt").relevance
    assert before is not None and after is not None
    assert plain_relevance(after) == plain_relevance(before)


def test_a_checkpoint_without_it_cannot_be_scored_with_it(trained: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.symlink_to(trained / "data")
    train(tmp_path, *TIMES_SCORE)
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    assert "relevance" not in torch.load(path, weights_only=True)
    assert "relevance" not in metrics_of(tmp_path / "run")
    with pytest.raises(UserError, match="holds no relevance"):
        train_ava.main(["--eval-only", "--checkpoint", str(path), "people.relevance=fit"])
    # Off, the run is the one that it would have been: fitting draws no random number.
    with_it = torch.load(trained / "run" / "checkpoints" / "last.pt", weights_only=True)
    for name, values in torch.load(path, weights_only=True)["model_state"].items():
        assert torch.equal(values, with_it["model_state"][name]), name


def test_the_training_split_needs_boxes_of_that_name(tmp_path: Path) -> None:
    make_boxes(make_dataset(tmp_path / "data", train=1, val=1), "val")
    with pytest.raises(UserError, match="split 'train' has no boxes 'found'") as refused:
        train(tmp_path, *FIT)
    assert str(refused.value).startswith("people.relevance=fit: ")
    assert not (tmp_path / "run").exists()


def test_check_names_what_a_run_would_be_refused_for(tmp_path: Path) -> None:
    data = make_dataset(tmp_path / "data", train=1, val=1)
    make_boxes(data, "val")
    (tmp_path / "a.yaml").write_text(f"data: {{root: '{data}'}}\n")
    config = load_config(tmp_path / "a.yaml", FIT)
    (found,) = run_findings(config, DatasetFolder.open(data), "a.yaml", weights=False)
    assert "split 'train' has no boxes 'found'" in found.message
    make_boxes(data, "train")
    assert run_findings(config, DatasetFolder.open(data), "a.yaml", weights=False) == []


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["people.relevance=fit"], "people.relevance 'fit' needs data.val_boxes"),
        ([*DETECTED, "people.relevance=fit"], "needs evaluation.multiply_person_score"),
        (["people.relevance=on"], "people.relevance"),
        (["task=classification", "people.relevance=fit"], "no use with task 'classification'"),
    ],
)
def test_options_that_do_not_go_together_are_refused(
    tmp_path: Path, overrides: Sequence[str], said: str
) -> None:
    (tmp_path / "a.yaml").write_text("data: {root: x}\n")
    with pytest.raises(UserError, match=said):
        load_config(tmp_path / "a.yaml", overrides)


# Rows and fit


def table(rows: dict[tuple[str, float], list[tuple[float, ...]]], score: float = 1) -> ActorTable:
    keys = [Keyframe(*key) for key, boxes in rows.items() for _ in boxes]
    boxes = [box for found in rows.values() for box in found]
    numbers = {"action_id": [-1] * len(boxes), "score": [score] * len(boxes)}
    values = AvaRows.from_rows(keys, boxes_01=boxes, **numbers)
    return build_actor_table(values, LABELS, labelled=False)


LEFT, RIGHT = (0.0, 0.0, 0.4, 1.0), (0.6, 0.0, 1.0, 1.0)


def test_rows_are_of_keyframes_with_boxes_and_ground_truth_both() -> None:
    detected = table({("a", 1): [LEFT, RIGHT], ("b", 1): [LEFT], ("c", 2): [RIGHT]}, score=0.5)
    labelled = table({("a", 1): [LEFT], ("a", 2): [LEFT], ("c", 2): [LEFT], ("c", 3): [LEFT]})
    rows = relevance_rows(detected, labelled)
    assert rows.labelled.tolist() == [True, False, False]
    assert (rows.keyframes, rows.annotated, len(np.unique(rows.videos))) == (2, 4, 2)
    expected = stack_features([detected.boxes(0), detected.boxes(2)])
    assert rows.features.shape == expected.shape == (3, len(FEATURES))
    np.testing.assert_array_equal(rows.features, expected)


@pytest.mark.parametrize("truth", [LEFT, (0.45, 0.45, 0.55, 0.55)])
def test_boxes_of_one_kind_alone_are_refused(truth: tuple[float, ...]) -> None:
    rows = relevance_rows(table({("a", 1): [LEFT]}), table({("a", 1): [truth]}))
    with pytest.raises(UserError, match=r"boxes.csv: [01] of 1 boxes from score 0.05 on"):
        fit_relevance(rows, origin=BoxOrigin("x"), least_score=0.05, source="boxes.csv")


def test_no_keyframe_in_common_is_refused() -> None:
    rows = relevance_rows(table({("a", 1): [LEFT]}), table({("a", 2): [LEFT]}))
    assert rows.features.shape == (0, len(FEATURES)) and rows.keyframes == 0
    with pytest.raises(UserError, match="0 of 0 boxes .* at 0 annotated keyframes"):
        fit_relevance(rows, origin=BoxOrigin("x"), least_score=0.05, source="boxes.csv")


def made_up(number: int = 300) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Keyframes of three people, of whom the largest is labelled."""
    random = np.random.default_rng(1)
    features, labelled = [], []
    for _ in range(number):
        corner, size = random.uniform(0, 0.5, (3, 2)), random.uniform(0.05, 0.5, (3, 2))
        boxes = ActorBoxes(np.concatenate([corner, corner + size], 1), random.uniform(0.1, 1, 3))
        features.append(relevance_features(boxes))
        labelled += (size.prod(1) == size.prod(1).max()).tolist()
    return np.concatenate(features), np.array(labelled)


def test_the_largest_person_is_told_from_the_others() -> None:
    features, labelled = made_up()
    weights, bias = fit_weights(features[:600], labelled[:600])
    logits = features[600:] @ weights + bias
    assert ((logits > 0) == labelled[600:]).mean() > 0.98


def test_features_that_do_not_vary_have_no_weight() -> None:
    features, labelled = made_up(50)
    still = np.concatenate([features, np.full((len(features), 1), 0.1)], axis=1)
    weights, bias = fit_weights(still, labelled)
    assert weights[-1] == 0
    expected, same_bias = fit_weights(features, labelled)
    np.testing.assert_allclose(weights[:-1], expected, rtol=1e-4, atol=1e-4)
    assert bias == pytest.approx(same_bias, abs=1e-3)
    alike = np.ones((4, len(FEATURES)))
    weights, bias = fit_weights(alike, np.array([True, False, False, False]))
    assert not weights.any() and bias == pytest.approx(np.log(1 / 3))


def test_units_of_features_do_not_change_the_probabilities() -> None:
    features, labelled = made_up(60)
    scale = np.geomspace(0.1, 100, features.shape[1])
    first, second = fit_weights(features, labelled), fit_weights(features * scale + 5, labelled)
    logits = [features @ first[0] + first[1], (features * scale + 5) @ second[0] + second[1]]
    np.testing.assert_allclose(logits[0], logits[1], atol=0.02)


# Order of the steps


def test_relevance_comes_before_the_mean_along_tracks(trained: Path) -> None:
    """Score times relevance is averaged, and what is averaged is multiplied."""
    config = load_config(trained / "run" / "config.yaml", ["evaluation.track_reach_s=1e6"])
    folder = DatasetFolder.open(config.data.root)
    found = read_model_file(trained / "run" / "checkpoints" / "last.pt").relevance
    assert found is not None
    weights = np.zeros(len(FEATURES))
    weights[FEATURES.index("score")] = 3.0
    model = dataclasses.replace(found, weights=weights, bias=-1.0)
    scorer = bare_scorer(config, folder, model)
    box = [(0.2, 0.2, 0.6, 0.8)]
    scores, actions = (0.9, 0.3), np.array([[0.8, 0.2, 0.4]], np.float32)
    scorer._evaluator.update(
        Detections(Keyframe("val_0", time_s), ActorBoxes(box, [score]), actions)
        for time_s, score in zip((1.0, 2.0), scores, strict=True)
    )
    scorer._weigh()
    mean = np.mean([s / (1 + np.exp(1 - 3 * s)) for s in scores])
    for one in scorer._evaluator.found()[:2]:
        np.testing.assert_allclose(one.boxes.score, [mean], rtol=1e-5)
        np.testing.assert_allclose(one.action_scores, actions * mean, rtol=1e-5)
    words = scorer.describe_boxes()
    steps = ("labelled (relevance)", "averaged along", "multiplied by the box's score")
    places = [words.index(step) for step in steps]
    assert places == sorted(places)


def bare_scorer(config: object, folder: DatasetFolder, relevance: Relevance) -> Scorer:
    """Return a scorer that is given detections, not clips."""
    return Scorer(
        config,  # type: ignore[arg-type]
        folder,
        folder.read_label_map(),
        None,  # type: ignore[arg-type]
        device=torch.device("cpu"),
        processes=None,  # type: ignore[arg-type]
        relevance=relevance,
    )


def test_boxes_below_the_threshold_of_scoring_are_not_fitted_to(trained: Path) -> None:
    config = load_config(trained / "run" / "config.yaml", ["data.box_score_threshold=0.6"])
    folder = DatasetFolder.open(config.data.root)
    fitted = fit_on_training_split(config, folder, folder.read_label_map())
    scores = read_person_boxes(folder.boxes_path(folder.split("train"), "found")).score
    assert scores is not None and 0 < (scores >= 0.6).sum() < 24
    assert fitted.relevance.num_boxes == (scores >= 0.6).sum()
    assert fitted.relevance.least_score == 0.6


def test_training_boxes_are_checked_without_reading_them(trained: Path, tmp_path: Path) -> None:
    data = shutil.copytree(trained / "data", tmp_path / "data")
    (data / "annotations" / "boxes_found_train.csv").write_text("nothing,of,a,box")
    config = load_config(trained / "run" / "config.yaml", [f"data.root={data}"])
    assert find_relevance_boxes(config, DatasetFolder.open(data)) == BoxOrigin("found")
