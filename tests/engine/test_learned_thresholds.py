"""Thresholds at the end of a run, and of a finished one; broken networks are named."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_data import LABELS, make_dataset
from torch import nn

import train_ava
from ava_tools import learn_thresholds, visualize
from detection.checkpoints.file import read_model_file, write_thresholds
from detection.datasets.ava_csv import write_person_boxes
from detection.drawing.actors import Actor, ShownLabel, keep_likely
from detection.errors import UserError
from detection.models.soundness import describe_large_logits, describe_thin_norm, largest_logit
from detection.structures import ActorBoxes, ClassThresholds, Keyframe

SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 2, batch_size: 2, lr: 0.05}
evaluation: {every_epochs: 9}
checkpoints_kept: 2
workers: 0
threads: 1
device: cpu
"""
MADE_UP = ClassThresholds([0.1] * 3, [1] * 3, [1] * 3, [1] * 3, True, False, "made up")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("learned")
    data = make_dataset(folder / "data", train=3, val=2)
    text = f"data: {{root: '{data}'}}\noutput: '{folder / 'run'}'\n{SETTINGS}"
    (folder / "tiny.yaml").write_text(text)
    assert train_ava.main(["--cfg", str(folder / "tiny.yaml")]) == 0
    return folder


@pytest.fixture
def place(trained, tmp_path):
    """A copy of the run, whose data stay where they are."""
    shutil.copytree(trained / "run", tmp_path / "run")
    return tmp_path


def thresholds_of(run):
    return read_model_file(run / "checkpoints" / "last.pt").thresholds


def test_training_ends_with_thresholds_in_checkpoint_and_metrics(trained):
    learned = thresholds_of(trained / "run")
    assert learned.source == "val, ground-truth boxes" and learned.common
    assert learned.examples.tolist() == [2, 2, 4] and not learned.times_person_score
    written = json.loads((trained / "run" / "metrics.json").read_text())["thresholds"]
    assert written["source"] == learned.source and written["common"] is True
    for column, name in enumerate(LABELS.names):
        each = written["classes"][name]
        assert each["threshold"] == pytest.approx(learned.score[column], abs=1e-6)
        assert each["examples"] == learned.examples[column]
    # Of the epochs kept none has thresholds: they are for the last weights.
    for path in (trained / "run" / "checkpoints").glob("epoch_*.pt"):
        assert read_model_file(path).thresholds is None


def test_scoring_a_run_changes_no_checkpoint(place, capsys):
    path = place / "run" / "checkpoints" / "last.pt"
    before = path.read_bytes()
    for checkpoint in (path, path.with_name("epoch_0001.pt")):
        assert train_ava.main(["--eval-only", "--checkpoint", str(checkpoint)]) == 0
        assert "thresholds of highest F1 on val, ground-truth boxes" in capsys.readouterr().out
    assert path.read_bytes() == before


def test_a_run_goes_on_bit_for_bit_from_a_file_with_thresholds(place, trained):
    folder = place / "run" / "checkpoints"
    write_thresholds(folder / "epoch_0001.pt", MADE_UP)
    (folder / "last.pt").unlink()
    assert train_ava.main(["--resume", str(folder / "epoch_0001.pt")]) == 0
    first, again = (
        torch.load(root / "run" / "checkpoints" / "last.pt", weights_only=True)
        for root in (trained, place)
    )
    for name, values in first["model_state"].items():
        assert torch.equal(values, again["model_state"][name]), name
    assert again["thresholds"] == first["thresholds"]


def test_a_run_that_was_killed_while_it_was_scored_learns_them_when_it_goes_on(place):
    path = place / "run" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    learned = content.pop("thresholds")
    torch.save(content, path)
    assert train_ava.main(["--resume", str(place / "run")]) == 0
    assert torch.load(path, weights_only=True)["thresholds"] == learned


def test_a_command_learns_them_for_a_finished_run(place, capsys):
    expected = thresholds_of(place / "run")
    write_thresholds(place / "run" / "checkpoints" / "last.pt", MADE_UP)
    assert learn_thresholds.main(["--run", str(place / "run")]) == 0
    said = capsys.readouterr().out
    assert "be red" in said and "stored in" in said and "one for all classes" in said
    np.testing.assert_array_equal(thresholds_of(place / "run").score, expected.score)


def test_detected_boxes_are_asked_for_by_name(tmp_path, place):
    data = make_dataset(tmp_path / "data", train=3, val=2)
    boxes = [
        (Keyframe(f"val_{number}", float(second)), ActorBoxes([(0, 0, 1, 1)], [0.9]))
        for number in (0, 1) for second in (1, 2)
    ]  # fmt: skip
    write_person_boxes(data / "annotations" / "whole.csv", boxes)
    text = (data / "dataset.yaml").read_text()
    entry = "annotations: annotations/val.csv"
    more = f"{entry}\n    boxes: {{whole: annotations/whole.csv}}"
    (data / "dataset.yaml").write_text(text.replace(entry, more))
    line = ["--run", str(place / "run"), f"data.root={data}", "data.val_boxes=whole"]
    before = thresholds_of(place / "run").score
    # A box of the whole frame overlaps nobody by half.
    with pytest.raises(UserError, match="cannot be learned"):
        learn_thresholds.main(line)
    np.testing.assert_array_equal(thresholds_of(place / "run").score, before)


@pytest.mark.parametrize(
    ("override", "said"),
    [("data.val_split=test", "test"), ("data.root=elsewhere", "elsewhere")],
)
def test_a_run_without_validation_data_is_refused(place, override, said):
    with pytest.raises(UserError, match=said) as refused:
        learn_thresholds.main(["--run", str(place / "run"), override])
    assert "\n" not in str(refused.value)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match="not found"):
        learn_thresholds.main(["--run", str(tmp_path / "nothing")])


def norm_with(**values):
    norm = nn.BatchNorm3d(3)
    with torch.no_grad():
        for name, value in values.items():
            getattr(norm, name)[1] = value
    return nn.Sequential(nn.Conv3d(3, 3, 1), norm)


def test_a_norm_that_divides_by_nothing_is_named():
    line = describe_thin_norm(norm_with(running_var=1e-8))
    assert "of 1 is 1.0e-08, near 0" in line and "by 316" in line and "freeze_batch_norm" in line
    assert describe_thin_norm(norm_with(running_var=1e-8, weight=0.1)) is None  # hardly counts
    assert describe_thin_norm(norm_with(running_var=1 - 1e-5)) is None  # folded
    assert describe_thin_norm(norm_with()) is None and describe_thin_norm(nn.Linear(2, 2)) is None


def test_logits_that_no_sound_network_gives_are_named():
    assert describe_large_logits(50) is None
    assert "a logit of 51" in describe_large_logits(50.6)
    assert largest_logit(torch.tensor([[1.0, -60.0]])) == 60
    assert largest_logit(torch.zeros(0, 3)) == 0


def test_a_broken_network_is_named_where_it_is_scored(place, capsys):
    path = place / "run" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    assert train_ava.main(["--eval-only", "--checkpoint", str(path)]) == 0
    assert "looks broken" not in capsys.readouterr().out
    name = next(key for key in content["model_state"] if key.endswith("running_var"))
    content["model_state"][name][0] = 0
    content["model_state"]["head.classes.bias"][0] = -80
    torch.save(content, path)
    assert train_ava.main(["--eval-only", "--checkpoint", str(path)]) == 0
    said = capsys.readouterr().out
    assert said.count("warning: the network looks broken") == 2
    assert name.removesuffix(".running_var") in said and "a logit of 80" in said
    assert len(json.loads((place / "run" / "metrics.json").read_text())["warnings"]) == 2


def test_drawing_and_review_of_a_run_go_by_them(place, capsys):
    run = place / "run"
    learned = ClassThresholds([0.11, 0.92, 0.33], [1] * 3, [1] * 3, [1] * 3, False, False, "val")
    write_thresholds(run / "checkpoints" / "last.pt", learned)
    visualize.main(["--run", str(run), "--review"])
    page = (run / "visualize" / "review" / "review.html").read_text().replace(" ", "")
    assert '"classThresholds":{"0":0.11,"1":0.92,"2":0.33}' in page
    assert "thresholds learned on val: be red 0.11" in capsys.readouterr().err
    opened = visualize._open_run(visualize._parse(["--run", str(run)]))
    assert opened.thresholds_by_name() == {"be red": 0.11, "be blue": 0.92, "be here": 0.33}
    look = visualize._run_jobs(visualize._parse(["--run", str(run), "--keyframes-only"]), opened)[0]
    assert look.class_thresholds == opened.thresholds_by_name()
    asked = visualize._open_run(visualize._parse(["--run", str(run), "--threshold", "0.4"]))
    assert asked.thresholds_by_name() == {}


def test_thresholds_of_products_do_not_fit_the_networks_own_scores(place, capsys):
    run = place / "run"
    learned = ClassThresholds([0.1] * 3, [1] * 3, [1] * 3, [1] * 3, False, True, "val, boxes 'a'")
    write_thresholds(run / "checkpoints" / "last.pt", learned)
    opened = visualize._open_run(visualize._parse(["--run", str(run)]))
    assert opened.thresholds_by_name() == {} and opened.thresholds_by_id(LABELS) == {}
    assert "0.3 is used" in capsys.readouterr().err


def test_labels_are_kept_by_the_threshold_of_their_class():
    labels = (ShownLabel("sit", 0.5), ShownLabel("wave", 0.45), ShownLabel("run", 0.2))
    actors = {1.0: (Actor(np.zeros(4), labels),)}
    kept = keep_likely(
        actors, score_threshold=0.3, top_k=3, class_thresholds={"sit": 0.6, "run": 0.1}
    )
    assert [label.name for label in kept[1.0][0].labels] == ["wave", "run"]
