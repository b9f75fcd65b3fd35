"""Whole runs of clip classification through train_ava.py, on clips of seconds."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from saved_weights import weights_of
from test_distributed import torchrun
from tiny_data import make_dataset

import train_ava
from ava_tools import import_dataset, score_views, visualize
from detection.config import load_config
from detection.datasets.clips import Views
from detection.engine import runs
from detection.engine.tasks.clip_scoring import VideoScores, count_view_macs
from detection.errors import EXIT_STOPPED, UserError
from detection.video.writer import VideoWriter

REPOSITORY = Path(__file__).resolve().parents[2]
SETTINGS = """
task: classification
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 72, color_jitter: 0.1}
classification: {test_clips: 2, test_crops: 3}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 3, batch_size: 4, lr: 0.05, warmup_epochs: 1}
evaluation: {every_epochs: 2, batch_size: 4}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def lists(tmp_path_factory):
    """Red and blue squares; a video shows either, and 'here' in any case."""
    folder = tmp_path_factory.mktemp("clips")
    make_dataset(folder / "data", train=6, val=3)
    assert import_dataset.main(
        ["clips", "--dataset", str(folder / "data"), "--out", str(folder / "lists")]
    ) in (0, None)
    return folder / "lists"


@pytest.fixture
def cfg(tmp_path, lists):
    """One class a video: the lists without 'here'."""
    for split in ("train", "val"):
        text = (lists / f"{split}.csv").read_text().replace(";be here", "")
        text = text.replace("../data", str(lists.parent / "data"))
        (tmp_path / f"{split}.csv").write_text(text)
    (tmp_path / "classes.txt").write_text("be red\nbe blue\n")
    path = tmp_path / "tiny.yaml"
    path.write_text(f"data: {{root: '{tmp_path}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    return path


def metrics_of(run: Path) -> dict:
    return json.loads((run / "metrics.json").read_text())


def test_lists_of_a_data_set_name_every_action_of_a_video(lists):
    assert (lists / "classes.txt").read_text().splitlines() == ["be red", "be blue", "be here"]
    with (lists / "train.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["path", "label"] and len(rows) == 7
    assert rows[1] == ["../data/videos/train_0.mp4", "be red;be here"]


def test_a_run_learns_and_leaves_a_folder_that_says_everything(tmp_path, cfg, capsys):
    """Scored on the clips that it has learned from."""
    options = ["data.val_split=train", "optim.epochs=12", "optim.batch_size=6", "model.dropout=0"]
    options += ["model.freeze_batch_norm=true", "optim.optimizer=adamw", "optim.lr=0.01"]
    assert train_ava.main(["--cfg", str(cfg), *options, "evaluation.every_epochs=6"]) == 0
    run, printed = tmp_path / "run", capsys.readouterr().out
    metrics = metrics_of(run)
    assert metrics["top1"] == 1.0 and metrics["num_videos"] == 6
    assert metrics["views"] == {"clips": 2, "crops": 3}
    assert "mean_ap" not in metrics
    assert metrics["gmacs_per_video"] == pytest.approx(6 * metrics["gmacs_per_view"])
    assert "top1 1.0000" in printed and "2 clips x 3 crops" in printed
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [event["top1"] for event in events if event["event"] == "evaluation"]
    assert events[-1]["event"] == "final" and events[-1]["top1"] == 1.0
    with (run / "predictions.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["label"] for row in rows] == [row["class_1"] for row in rows]
    assert all(
        float(row["score_1"]) + float(row["score_2"]) == pytest.approx(1, abs=1e-5) for row in rows
    )
    assert (run / "confusion.png").read_bytes().startswith(b"\x89PNG")
    assert (run / "per_class.csv").read_text().splitlines()[1] == "be red,1.000000,3"

    with pytest.raises(UserError, match="there are no boxes to draw"):
        visualize.main(["--run", str(run)])

    # The run folder alone is scored alike, and any views of it in one table.
    (run / "metrics.json").unlink()
    assert train_ava.main(["--eval-only", "--checkpoint", str(run)]) == 0
    again = metrics_of(run)
    assert {**again, "scoring_seconds": 0} == {**metrics, "scoring_seconds": 0}
    capsys.readouterr()
    table = tmp_path / "views.json"
    arguments = ["--checkpoint", str(run), "--clips", "1,2", "--crops", "1,3", "--json", str(table)]
    assert score_views.main(arguments) == 0
    rows = json.loads(table.read_text())
    assert [row["views"] for row in rows] == [
        {"clips": clips, "crops": crops} for crops in (1, 3) for clips in (1, 2)
    ]
    assert rows[3]["top1"] == metrics["top1"]
    assert rows[1]["gmacs_per_video"] == pytest.approx(2 * rows[0]["gmacs_per_view"])
    assert "GMAC/video" in capsys.readouterr().out


def test_a_stopped_and_resumed_run_equals_one_never_stopped(tmp_path, cfg, monkeypatch):
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'whole'}"])
    real, updates = runs.train_epochs, iter(range(1, 100))

    def stopped(*arguments, **options):
        options["should_stop"] = lambda: next(updates) >= 3
        return real(*arguments, **options)

    monkeypatch.setattr(runs, "train_epochs", stopped)
    code = train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'cut'}"])
    assert code == EXIT_STOPPED
    monkeypatch.setattr(runs, "train_epochs", real)
    assert train_ava.main(["--resume", str(tmp_path / "cut")]) == 0
    whole, cut = weights_of(tmp_path / "whole"), weights_of(tmp_path / "cut")
    assert all(torch.equal(whole[name], cut[name]) for name in whole)
    assert (tmp_path / "whole/predictions.csv").read_bytes() == (
        tmp_path / "cut/predictions.csv"
    ).read_bytes()


def test_two_processes_compute_what_one_computes(tmp_path, cfg):
    options = ["model.dropout=0", "model.freeze_batch_norm=true", "optim.epochs=2"]
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'one'}", *options])
    done = torchrun("train_ava.py", "--cfg", cfg, f"output={tmp_path / 'two'}", *options)
    one, two = weights_of(tmp_path / "one"), weights_of(tmp_path / "two")
    for name, value in one.items():
        if value.is_floating_point():
            atol = 1e-4 * float(value.abs().max()) + 1e-7
            assert torch.allclose(value, two[name], atol=atol), name
    first, second = metrics_of(tmp_path / "one"), metrics_of(tmp_path / "two")
    assert second["per_class"] == first["per_class"] and second["num_videos"] == 3
    assert done.stdout.count("top1") == 1, "one process speaks"


def test_several_classes_a_video_are_scored_by_map(tmp_path, lists, capsys):
    path = tmp_path / "multi.yaml"
    path.write_text(f"data: {{root: '{lists}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    assert train_ava.main(["--cfg", str(path), "classification.labels=multi"]) == 0
    metrics = metrics_of(tmp_path / "run")
    assert 0 < metrics["mean_ap"] <= 1 and "top1" not in metrics
    assert metrics["per_class"]["be here"] == 1.0, "every video shows it"
    assert metrics["num_ground_truth"] == {"be red": 2, "be blue": 1, "be here": 3}
    assert "mean_ap" in capsys.readouterr().out


def test_scores_are_averaged_over_views_or_the_largest_taken():
    scores = np.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]], np.float32)
    videos = np.array([0, 0, 2])
    mean, most = (VideoScores(3, 2, maximum=maximum) for maximum in (False, True))
    for found in (mean, most):
        found.add(videos, scores)
    assert mean.scores() == pytest.approx(np.array([[0.4, 0.6], [0, 0], [0.5, 0.5]]))
    assert most.scores() == pytest.approx(np.array([[0.6, 0.8], [0, 0], [0.5, 0.5]]))
    assert mean.num_views.tolist() == [2, 0, 1]
    # However the views are shared, the result is the same.
    for maximum, whole in ((False, mean), (True, most)):
        parts = [VideoScores(3, 2, maximum=maximum) for _ in range(2)]
        parts[0].add(videos[:1], scores[:1])
        parts[1].add(videos[1:], scores[1:])
        parts[0].merge(parts[1])
        assert parts[0].scores() == pytest.approx(whole.scores())


def test_gmacs_of_a_view_are_those_of_the_reference():
    from detection.models.classifier import build_classifier
    from detection.models.x3d import VARIANTS

    model = build_classifier(VARIANTS["xs"])
    macs = count_view_macs(model, num_frames=4, size_px=160)
    assert macs / 1e9 == pytest.approx(0.605, abs=5e-4)
    assert next(model.parameters()).device.type == "cpu", "counted on a copy"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.csv": ""}, "train.csv: lists no video"),
        (
            {"train.csv": "path,label\n{video},be green\n"},
            "train.csv:2: label 'be green' is not one",
        ),
        ({"val.csv": "gone.mp4 0\n"}, "val.csv:1: .*gone.mp4: video file not found"),
        ({"val.csv": "classes.txt 0\n"}, "val.csv:1: .*classes.txt: not a video"),
        ({"val.csv": "cut.mp4 0\n"}, "val.csv:1: .*cut.mp4: .*cut short"),
        ({"val.csv": "sound.wav 0\n"}, "val.csv:1: .*sound.wav: contains no video stream"),
        ({"classes.txt": None}, "classes.txt: file of class names not found"),
    ],
)
def test_bad_lists_end_a_run_before_its_folder_is_made(tmp_path, cfg, lists, change, message):
    video = lists.parent / "data/videos/train_0.mp4"
    (tmp_path / "cut.mp4").write_bytes(video.read_bytes()[:300])
    write_sound(tmp_path / "sound.wav")
    for name, text in change.items():
        if text is None:
            (tmp_path / name).unlink()
        else:
            (tmp_path / name).write_text(text.format(video=video))
    with pytest.raises(UserError, match=message):
        train_ava.main(["--cfg", str(cfg)])
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("data.val_boxes=det", "data.val_boxes has no use with task 'classification'"),
        ("model.roi_size=5", "model.roi_size has no use"),
        ("task=actions", "classification.test_clips has no use with task 'actions'"),
        ("classification.test_crop_px=100", "test crop of 100 px is larger"),
        ("classification.test_crops=2", "classification.test_crops"),
        ("optim.warmup_updates=3", "warmup_updates and warmup_epochs"),
        ("data.root=gone", "gone: folder not found"),
    ],
)
def test_options_that_make_no_sense_are_refused(cfg, option, message):
    with pytest.raises(UserError, match=message):
        train_ava.main(["--cfg", str(cfg), option])


def test_weights_of_the_other_task_are_refused_by_name(tmp_path, cfg, lists):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    actions = tmp_path / "actions.yaml"
    settings = SETTINGS.replace("task: classification", "").replace(
        "classification: {test_clips: 2, test_crops: 3}", ""
    )
    actions.write_text(f"data: {{root: '{lists.parent / 'data'}'}}\n{settings}")
    with pytest.raises(UserError, match="for task 'classification', one for task 'actions'"):
        train_ava.main(
            ["--eval-only", "--checkpoint", str(tmp_path / "run"), "--cfg", str(actions)]
        )


def test_a_checkpoint_of_clips_starts_a_network_of_actors(tmp_path, cfg, lists):
    """The way X3D is used: pre-trained on clips, then fine-tuned on people."""
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    actions = tmp_path / "actions.yaml"
    settings = SETTINGS.replace("task: classification", "").replace(
        "classification: {test_clips: 2, test_crops: 3}", ""
    )
    actions.write_text(
        f"data: {{root: '{lists.parent / 'data'}'}}\noutput: '{tmp_path / 'actors'}'\n{settings}"
    )
    weights = tmp_path / "run/checkpoints/last.pt"
    train_ava.main(["--cfg", str(actions), f"model.pretrained={weights}", "optim.epochs=1"])
    log = (tmp_path / "actors/log.jsonl").read_text()
    assert "2 of 3 classes taken over" in log


def write_sound(path: Path) -> None:
    """A second of silence."""
    import wave

    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))


@pytest.mark.real_data
def test_kinetics_weights_know_archery(tmp_path, real_data):
    """One crop and three of a Kinetics clip, by the configuration for Kinetics."""
    weights = real_data / "weights" / "x3d_xs_k400_from_int8.pyth"
    names = real_data / "weights" / "kinetics_id_to_classname.json"
    if not weights.is_file() or not (real_data / "clips/archery.mp4").is_file():
        pytest.skip(f"no Kinetics weights or clip in {real_data}")
    own = tmp_path / "own.pt"
    subprocess.run(
        [sys.executable, "-m", "ava_tools.convert", "--checkpoint", str(weights)]
        + ["--variant", "xs", "--label-map", str(names), "--to", "own", "--out", str(own)],
        check=True,
        cwd=REPOSITORY,
        capture_output=True,
    )
    (tmp_path / "val.csv").write_text("archery.mp4 5\n")  # Kinetics' number of archery
    overrides = [f"data.root={tmp_path}", f"data.label_map={names}", "workers=0", "device=cpu"]
    overrides += [f"classification.video_folder={real_data / 'clips'}"]
    cfg = str(REPOSITORY / "configs/kinetics_x3d_xs.yaml")
    assert load_config(cfg).classification.test_crops == 3
    run = runs.open_for_evaluation(own, cfg=cfg, overrides=overrides)
    for views in (Views(3, 1), Views(2, 3)):
        score = run.task.score_views(run.model, views)
        assert score.accuracy.top1 == 1.0
        assert score.scores[0].max() > 0.95
        assert score.scores[0].sum() == pytest.approx(1, abs=1e-5)


def test_variable_rates_and_sizes_share_a_batch(tmp_path, cfg):
    """Views are squares of one size, whatever the videos are."""
    noise = np.random.default_rng(0)
    rows = []
    for number, (width, height, fps) in enumerate([(120, 90, 10), (80, 120, 25), (90, 90, 7)]):
        path = tmp_path / f"v{number}.mp4"
        with VideoWriter(path, width=width, height=height, fps=fps) as writer:
            for _ in range(fps):
                writer.write(noise.integers(0, 255, (height, width, 3)).astype(np.uint8))
        rows.append(f"{path.name} {number % 2}")
    (tmp_path / "train.csv").write_text("\n".join(rows))
    (tmp_path / "val.csv").write_text("\n".join(rows))
    assert train_ava.main(["--cfg", str(cfg), "optim.epochs=1"]) == 0
    assert metrics_of(tmp_path / "run")["num_videos"] == 3


def test_videos_that_cannot_be_read_are_named_replaced_and_answered_wrongly(tmp_path, cfg, capsys):
    good = (tmp_path / "val.csv").read_text()
    (tmp_path / "cut.mp4").write_bytes(b"no video")
    for split in ("train", "val"):
        with (tmp_path / f"{split}.csv").open("a") as file:
            file.write("cut.mp4,be red\n")
    options = ["data.max_unreadable=0.4", "optim.epochs=2", "evaluation.every_epochs=1"]
    assert train_ava.main(["--cfg", str(cfg), *options]) == 0
    printed = capsys.readouterr()
    assert "train.csv:8" in printed.err and "cut.mp4: not a video" in printed.err
    assert "1 videos could not be read and count as answered wrongly" in printed.out
    metrics = metrics_of(tmp_path / "run")
    assert (metrics["num_videos"], metrics["unreadable_videos"]) == (4, 1)
    (tmp_path / "val.csv").write_text(good)
    out = f"output={tmp_path / 'readable'}"
    train_ava.main(["--eval-only", "--checkpoint", str(tmp_path / "run"), out])
    readable = metrics_of(tmp_path / "readable")
    assert metrics["top1"] * 4 == pytest.approx(readable["top1"] * 3)
