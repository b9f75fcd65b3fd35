"""What runs of `train_people` have from the common engine, asked through the command alone."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from tiny_data import make_dataset

from ava_tools.train_people import main
from detection.config import people_config_from_dict
from detection.engine.distributed import ALONE
from detection.engine.tasks.people import PeopleTask
from detection.errors import UserError
from detection.people.weights import read_people_file


@pytest.fixture
def data(tmp_path):
    return make_dataset(tmp_path / "data", train=6, val=2)


@pytest.fixture
def cfg(tmp_path, data):
    values = {
        "data": {"root": str(data), "held_out_share": 0.3},
        "output": str(tmp_path / "run"),
        "device": "cpu",
        "workers": 0,
        "picture": {"short_side_px": 64, "long_side_px": 96},
        "optim": {"epochs": 2, "batch_size": 4, "warmup_updates": 1, "lr": 0.001},
    }
    path = tmp_path / "people.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def events(run, name):
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [line for line in lines if line["event"] == name]


def checkpoint(run, name="last"):
    return torch.load(run / "checkpoints" / f"{name}.pt", weights_only=True)


def test_an_edited_configuration_is_refused_on_resuming_with_the_differences(tmp_path, cfg):
    run = tmp_path / "run"
    assert main(["--cfg", str(cfg)]) == 0
    before = (run / "log.jsonl").read_text()
    text = (run / "config.yaml").read_text()
    edited = text.replace("  lr: 0.001\n", "  lr: 0.05\n")
    edited = edited.replace("color_jitter: 0.2", "color_jitter: 0")
    (run / "config.yaml").write_text(edited)
    differences = r"picture.color_jitter is 0.0, was 0.2; optim.lr is 0.05, was 0.001"
    with pytest.raises(UserError, match=f"another configuration .*{differences}") as caught:
        main(["--resume", str(run)])
    assert "model.start_from=" in str(caught.value) and "\n" not in str(caught.value)
    assert (run / "log.jsonl").read_text() == before
    (run / "config.yaml").write_text(text)
    assert main(["--resume", str(run), "workers=1", "checkpoint_minutes=2"]) == 0


def test_a_damaged_video_costs_its_keyframes_and_not_the_run(tmp_path, data, cfg, capsys):
    (data / "videos/train_1.mp4").write_bytes(b"no video")
    command = ["--cfg", str(cfg), "data.held_out_share=0"]
    with pytest.raises(UserError, match="train_1.mp4: not a video"):
        main(command)
    assert not (tmp_path / "run").exists()
    assert main([*command, "data.max_unreadable=0.2"]) == 0
    told = events(tmp_path / "run", "unreadable")
    assert len(told) == 4, "two keyframes, in two epochs"
    assert all("train_1.mp4" in line["message"] for line in told)
    assert "cannot be read: " in capsys.readouterr().err
    assert len(events(tmp_path / "run", "update")) == 6
    with pytest.raises(UserError, match="train_1.mp4"):
        main([*command, "data.max_unreadable=0.1", "--overwrite"])


def open_saved(run, *overrides):
    """Open the last weights as scoring does."""
    file = read_people_file(run / "checkpoints" / "last.pt", weights_only=True)
    config = people_config_from_dict(file.config, "test", overrides)
    task = PeopleTask(config)
    task.read_boxes(device=torch.device("cpu"), processes=ALONE)
    return task.open_saved(file)


def test_what_every_task_has(tmp_path, cfg):
    """Averaged weights, accumulated passes, kept epochs: off by default."""
    run = tmp_path / "run"
    assert main(["--cfg", str(cfg)]) == 0
    assert checkpoint(run)["training"]["followed_weights"] is None
    assert not (run / "tensorboard").exists()
    assert not list((run / "checkpoints").glob("epoch_*"))
    assert len(events(run, "update")) == 4
    for name in ("loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"):
        assert all(line[name] >= 0 for line in events(run, "update"))
    options = ["optim.ema_decay=0.5", "optim.accumulate=2"]
    options += [
        "checkpoints_kept=1",
        "evaluation.every_epochs=1",
        "optim.epochs=4",
        "seed=0",
    ]
    assert main(["--cfg", str(cfg), "--overwrite", *options]) == 0
    assert len(events(run, "update")) == 4
    assert [line["epoch"] for line in events(run, "held_out")] == [0, 1, 2, 3]
    assert [p.name for p in (run / "checkpoints").glob("epoch_*")] == ["epoch_0004.pt"]
    content = checkpoint(run)
    followed = content["training"]["followed_weights"]
    assert any(not torch.equal(followed[k], v) for k, v in content["model_state"].items())
    network = open_saved(run).network.state_dict()
    assert all(torch.equal(network[name], value) for name, value in content["model_state"].items())
    network = open_saved(run, "evaluation.use_average=false").network.state_dict()
    assert all(torch.equal(network[name], value) for name, value in followed.items())


def test_people_training_is_shown_in_tensorboard(tmp_path, cfg):
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    assert main(["--cfg", str(cfg), "tensorboard=true"]) == 0
    assert list((tmp_path / "run" / "tensorboard").glob("events*"))


def test_the_mean_of_accumulated_passes_is_what_is_learned_from(tmp_path, cfg):
    """The loss of an update is the mean over its passes, and so are its parts."""
    run = tmp_path / "run"
    options = ["optim.accumulate=3", "optim.batch_size=2", "data.held_out_share=0"]
    assert main(["--cfg", str(cfg), *options]) == 0
    for line in events(run, "update"):
        parts = [value for name, value in line.items() if name.startswith("loss_")]
        assert sum(parts) == pytest.approx(line["loss"], abs=1e-4)
        assert 0 < line["loss"] < 5


@pytest.mark.parametrize("share", [0.3, 0])
def test_the_best_threshold_goes_into_the_scored_checkpoint(tmp_path, cfg, capsys, share):
    run = tmp_path / "run"
    command = ["--cfg", str(cfg), f"data.held_out_share={share}", "evaluation.score_floor=0.0"]
    assert main(command) == 0
    metrics = json.loads((run / "metrics.json").read_text())
    assert 0 <= metrics["best_score"] <= 1
    assert metrics["best_score_of"] == ("held_out" if share else "val")
    assert metrics["score_threshold"] == (metrics["best_score"] if share else None)
    assert read_people_file(run).best_score == metrics["best_score"]
    assert not share or checkpoint(run)["best_score"] is None, "other weights, which none scored"
    capsys.readouterr()
    assert main(["--eval-only", "--checkpoint", str(run)]) == 0
    assert "--person-score" not in capsys.readouterr().out
    path = run / "checkpoints" / ("best.pt" if share else "last.pt")
    content = torch.load(path, weights_only=True)
    del content["best_score"]  # an older file
    torch.save(content, path)
    assert main(["--eval-only", "--checkpoint", str(run)]) == 0
    said = f"detect_actions --person-score {metrics['best_score']:.2f}"
    assert said in capsys.readouterr().out
    assert "best_score" not in torch.load(path, weights_only=True), "scoring changes no weights"


def test_averaged_weights_scored_without_their_average_keep_no_threshold(tmp_path, cfg):
    options = ["optim.ema_decay=0.5", "evaluation.use_average=false", "evaluation.score_floor=0.0"]
    assert main(["--cfg", str(cfg), *options]) == 0
    assert read_people_file(tmp_path / "run").best_score is None
