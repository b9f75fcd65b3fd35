"""`visualize --run` of a run that `teach` wrote: the label page's people, as it scores them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import tiny_labels
import torch

import train_ava
from ava_tools import learn_thresholds, teach, visualize
from detection.checkpoints.file import read_checkpoint, write_thresholds
from detection.datasets.ava_csv import read_detections
from detection.errors import UserError
from detection.models.action_detector import ActionDetector
from detection.structures import ClassThresholds

RED, BLUE = ("be red", "be here"), ("be blue", "be here")


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A taught run of a data set without a label map of its own and without labels."""
    folder = tmp_path_factory.mktemp("taught")
    root = tiny_labels.make_raw(folder / "raw", videos=4)
    (root / "annotations" / "label_map.pbtxt").unlink()
    (root / "annotations" / "train.csv").write_text("")
    cfg = tiny_labels.write_configuration(folder)
    chosen = {"train_0": RED, "train_1": BLUE, "train_2": RED}
    tiny_labels.write_labels(root / "labels" / "labels.json", root, chosen)
    words = ["--dataset", str(root), "--cfg", str(cfg), "--quiet", "--out", str(folder / "run")]
    assert teach.main(words) == 0
    return folder


@pytest.fixture
def place(made, tmp_path) -> Path:
    for name in ("raw", "run"):
        shutil.copytree(made / name, tmp_path / name)
    return tmp_path


def draw(place: Path, *more: str) -> int:
    return visualize.main(["--run", str(place / "run"), "--data", str(place / "raw"), *more])


def test_it_is_drawn_with_everybody_and_a_page(place, monkeypatch, capsys) -> None:
    def computed(*_):
        raise AssertionError("features are kept, no clip needs to be read")

    monkeypatch.setattr(ActionDetector, "actor_features", computed)
    assert draw(place, "--videos", "1", "--sheet") == 0
    drawn = place / "run" / "visualize"
    assert (drawn / "train_0.mp4").is_file() and (drawn / "keyframes.png").is_file()
    assert (drawn / "review" / "review.html").is_file()
    assert "thresholds learned on" in capsys.readouterr().err
    rows = read_detections(place / "run" / "detections.csv")
    assert rows.video_names == tuple(f"train_{n}" for n in range(4)) and len(rows) == 4 * 2 * 3


def test_scores_are_those_that_its_thresholds_are_for(place) -> None:
    path = place / "run" / "checkpoints" / "last.pt"
    scores = []
    for product in (False, True):
        learned = ClassThresholds([0.1] * 3, [1] * 3, [1] * 3, [1] * 3, False, product, "x")
        write_thresholds(path, learned)
        draw(place, "--review")
        scores.append(read_detections(place / "run" / "detections.csv").score)
    torch.testing.assert_close(torch.tensor(scores[0] * 0.9), torch.tensor(scores[1]))


def test_a_detections_file_of_an_earlier_round_is_not_taken(place) -> None:
    draw(place, "--review")
    before = read_detections(place / "run" / "detections.csv").score
    path = place / "run" / "checkpoints" / "last.pt"
    content = torch.load(path, weights_only=True)
    content["model_state"]["head.classes.weight"].zero_()
    content["model_state"]["head.classes.bias"].zero_()
    torch.save(content, path)
    draw(place, "--review")
    after = read_detections(place / "run" / "detections.csv").score
    assert (after != before).any() and len(set(after.tolist())) == 1


def test_commands_of_other_runs_say_what_to_do(place) -> None:
    run = str(place / "run")
    with pytest.raises(UserError, match="a run of teach, which learns them itself"):
        learn_thresholds.main(["--run", run])
    with pytest.raises(UserError, match="a run of teach, which goes on with: .*ava_tools.teach"):
        train_ava.main(["--resume", run])


def test_detections_of_another_file_are_refused_beside_a_run(place, capsys) -> None:
    with pytest.raises(SystemExit):
        draw(place, "--detections", "x.csv")
    assert "a run has its own" in capsys.readouterr().err


def test_other_classes_than_now_and_no_labelling_task_are_named(place) -> None:
    tasks = place / "raw" / "labels.yaml"
    tasks.write_text(tasks.read_text().replace("be here", "be away"))
    with pytest.raises(UserError, match="was taught other classes than .*labels.yaml now has"):
        draw(place)
    tasks.unlink()
    with pytest.raises(UserError, match="ava_tools.label"):
        draw(place)
    assert read_checkpoint(place / "run").classes is not None
