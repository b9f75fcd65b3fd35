"""The log in other programs: the same numbers under the same names in each."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from detection.engine import boards
from detection.engine.boards import Board, numbers_of
from detection.engine.metrics_log import MetricsLog
from detection.errors import UserError

EVENTS = [
    ("start", {"seed": 0}),
    ("update", {"update": 1, "loss": 0.9, "loss_boxes": 0.5, "lr": 0.1, "grad_norm": None}),
    ("epoch", {"clips_per_second": 7.5, "shares": {"data": 0.25}}),
    ("update", {"update": 2, "loss": 0.5, "lr": 0.1}),
    ("final", {"mean_ap": 0.25, "boxes": "b", "per_class": {"be <b>blue</b>, or red": 0.5}}),
]
OPTIONS = {"optim": {"lr": 0.1}, "seed": 3}


class Noted:
    def __init__(self):
        self.numbers, self.images, self.flushed = [], [], 0

    def number(self, name, value, update):
        self.numbers.append((name, value, update))

    def image(self, name, path, update):
        self.images.append((name, path.name, update))

    def flush(self):
        self.flushed += 1


def write_image(path):
    cv2.imwrite(str(path), np.zeros((8, 8, 3), np.uint8))
    return path


def test_numbers_of_events():
    assert dict(numbers_of("update", {"loss": 1.0, "lr": 2, "seconds": 3.0})) == {
        "train/loss": 1.0,
        "train/lr": 2,
    }
    assert list(numbers_of("update", {"loss": None})) == list(numbers_of("stopped", {})) == []


def test_every_program_is_told_the_same(tmp_path, monkeypatch):
    opened = {}

    def opener(name):
        def open_(folder, options):
            opened[name] = Noted()
            assert options == {"optim.lr": 0.1, "seed": 3}
            return lambda: opened[name]

        return open_

    monkeypatch.setattr(boards, "_OPENERS", {name: opener(name) for name in ("a", "b")})
    log = MetricsLog(tmp_path / "log.jsonl", board=Board(["a", "b", "a"], tmp_path, OPTIONS))
    for event, values in EVENTS:
        log.write(event, **values)
    log.board.image("sheet", write_image(tmp_path / "sheet.png"))
    assert opened["a"].numbers == opened["b"].numbers
    assert opened["a"].numbers == [
        ("train/loss", 0.9, 1),
        ("train/loss_boxes", 0.5, 1),
        ("train/lr", 0.1, 1),
        ("speed/clips_per_second", 7.5, 1),
        ("speed/share_of_time_data", 0.25, 1),
        ("train/loss", 0.5, 2),
        ("train/lr", 0.1, 2),
        ("final/mean_ap", 0.25, 2),
        ("ap_by_class/be <b>blue</b>, or red", 0.5, 2),
    ]
    assert opened["a"].images == [("sheet", "sheet.png", 2)] and opened["a"].flushed == 2
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == len(EVENTS)


def test_what_is_no_image_is_refused(tmp_path):
    (tmp_path / "sheet.png").write_text("text")
    with pytest.raises(UserError, match="sheet.png: not an image"):
        Board([], tmp_path, {}).image("sheet", tmp_path / "sheet.png")


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_missing_package_is_one_line(tmp_path, monkeypatch, name):
    import sys

    for module in ("torch.utils.tensorboard", "mlflow", "wandb"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"{name} needs its package: pip install .*\[{name}\]"):
        Board([name], tmp_path, {})
    assert not list(tmp_path.iterdir())


def test_mlflow_on_this_machine(tmp_path, monkeypatch):
    """Its own reader finds the curves; a run that goes on is the same run."""
    pytest.importorskip("mlflow", reason="the mlflow extra is not installed")
    pytest.importorskip("sqlalchemy", reason="the mlflow extra is not installed")
    from mlflow.tracking import MlflowClient

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    folder = tmp_path / "run"
    folder.mkdir()
    image = write_image(tmp_path / "sheet.png")
    for part in (EVENTS[:3], EVENTS[3:]):
        board = Board(["mlflow"], folder, OPTIONS)
        for event, values in part:
            board.write(event, values)
    board.image("sheet", image)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name(boards.PROJECT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.run_name == "run" and run.data.params == {"optim.lr": "0.1", "seed": "3"}
    points = client.get_metric_history(run.info.run_id, "train/loss")
    assert [(point.step, point.value) for point in points] == [(1, 0.9), (2, 0.5)]
    assert run.data.metrics["ap_by_class/be _b_blue_/b__ or red"] == 0.5
    assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["sheet.png"]
    assert {path.name for path in tmp_path.iterdir()} >= {"mlflow.db", "mlflow"}


def test_weights_and_biases_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="wandb is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    board = Board(["wandb"], tmp_path, OPTIONS)
    for event, values in EVENTS:
        board.write(event, values)
    board.image("sheet", write_image(tmp_path / "sheet.png"))
    board._sinks[0]._run.finish()
    (stored,) = (tmp_path / "wandb").glob("offline-run-*")
    assert list(stored.glob("run-*.wandb")) and (tmp_path / "wandb_run.json").is_file()
