"""Whole runs of train_ava.py on a data set of seconds: folder, resume, scoring, bad input."""

from __future__ import annotations

import errno
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from tiny_data import LABELS, make_dataset

import train_ava
from ava_tools import evaluate
from ava_tools.cli import run_command
from detection import build
from detection.config import load_config
from detection.datasets.ava_csv import read_detections
from detection.datasets.folder import DatasetFolder, FramesPart, write_dataset_file
from detection.datasets.label_map import read_label_map, write_label_map
from detection.engine import runs
from detection.engine.tasks.actions import ActionTask
from detection.engine.tasks.base import Evaluation
from detection.errors import EXIT_STOPPED, UserError
from detection.evaluation.along_tracks import rows_along_tracks
from detection.people.beside_run import people_beside
from detection.structures import LabelMap
from detection.tracking.scoring import TrackScoring
from detection.video.reader import VideoReader

REPOSITORY = Path(__file__).resolve().parent.parent
SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64, color_jitter: 0.1}
model: {variant: x2d, head_width: 32, dropout: 0.1}
optim: {epochs: 3, batch_size: 4, lr: 0.1, warmup_updates: 2}
evaluation: {every_epochs: 2}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture
def cfg(tmp_path, dataset):
    path = tmp_path / "tiny.yaml"
    path.write_text(f"data: {{root: '{dataset}'}}\noutput: '{tmp_path / 'run'}'\n{SETTINGS}")
    return path


def state_of(run: Path) -> dict[str, torch.Tensor]:
    return torch.load(run / "checkpoints" / "last.pt", weights_only=True)["model_state"]


def assert_same_weights(run: Path, other: Path) -> None:
    ours, theirs = state_of(run), state_of(other)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)


def test_a_run_leaves_a_folder_that_says_everything(tmp_path, cfg, dataset, capsys):
    assert train_ava.main(["--cfg", str(cfg)]) == 0
    run, printed = tmp_path / "run", capsys.readouterr().out
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("learning_curve.png", "confusion.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert list(metrics["per_class"]) == list(LABELS.names)
    assert metrics["protocol"] == "activitynet-2018"
    assert metrics["num_ground_truth"] == {"be red": 2, "be blue": 2, "be here": 4}
    assert "ground-truth boxes" in metrics["boxes"] and "ground-truth boxes" in printed
    assert f"frame-mAP {metrics['mean_ap']:.4f}" in printed
    assert "made up" in printed
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("update") == 9
    assert [event["epoch"] for event in events if event["event"] == "evaluation"] == [1]
    assert events[-1]["mean_ap"] == metrics["mean_ap"]
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert (run / "checkpoints" / "best.pt").is_file()

    evaluate.main(
        ["--ground-truth", str(dataset / "annotations/val.csv")]
        + ["--detections", str(run / "detections.csv")]
        + ["--label-map", str(dataset / "annotations/label_map.pbtxt")]
        + ["--json", str(tmp_path / "again.json")]
    )
    again = json.loads((tmp_path / "again.json").read_text())
    assert again["mean_ap"] == pytest.approx(metrics["mean_ap"], abs=1e-9)


@pytest.mark.parametrize(
    ("stop_after", "options"), [(1, []), (3, ["optim.ema_decay=0.8"]), (7, [])]
)
def test_a_stopped_and_resumed_run_equals_one_never_stopped(
    tmp_path, cfg, capsys, monkeypatch, stop_after, options
):
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'whole'}", *options])
    real = runs.train_epochs
    updates = iter(range(1, 100))

    def stopped(*arguments, **options):
        options["should_stop"] = lambda: next(updates) >= stop_after
        return real(*arguments, **options)

    monkeypatch.setattr(runs, "train_epochs", stopped)
    code = train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'cut'}", *options])
    assert code == EXIT_STOPPED
    assert f"--resume {tmp_path / 'cut'}" in capsys.readouterr().out
    monkeypatch.setattr(runs, "train_epochs", real)
    assert train_ava.main(["--resume", str(tmp_path / "cut")]) == 0
    assert_same_weights(tmp_path / "whole", tmp_path / "cut")
    whole, cut = (
        json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("whole", "cut")
    )
    assert whole["per_class"] == cut["per_class"]


def test_averaged_weights_are_scored_and_those_they_follow_where_asked(tmp_path, cfg):
    def score(folder: str, *options: str) -> dict:
        options = ("evaluation.use_average=false", *options)
        run, output = str(tmp_path / folder), f"output={tmp_path / 'again'}"
        train_ava.main(["--eval-only", "--checkpoint", run, output, *options])
        return json.loads((tmp_path / "again" / "metrics.json").read_text())["per_class"]

    plain, averaged = tmp_path / "plain", tmp_path / "averaged"
    train_ava.main(["--cfg", str(cfg), f"output={plain}"])
    train_ava.main(["--cfg", str(cfg), f"output={averaged}", "optim.ema_decay=0.9"])
    followed = torch.load(averaged / "checkpoints/last.pt", weights_only=True)["training"]
    ours, theirs = state_of(plain), followed["followed_weights"]
    assert all(torch.equal(ours[name], theirs[name]) for name in ours), "it only looks on"
    name = "trunk.stem.spatial.weight"
    assert not torch.equal(state_of(averaged)[name], ours[name])
    first = json.loads((plain / "metrics.json").read_text())
    assert score("averaged") == first["per_class"]
    with pytest.raises(UserError, match=r"kept no averaged weights \(optim.ema_decay\)"):
        score("plain")


def test_a_linear_probe_alone_moves_nothing_but_the_last_layer(tmp_path, cfg, capsys):
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'first'}", "optim.epochs=1"])
    start = tmp_path / "first/checkpoints/last.pt"
    probe = ["--cfg", str(cfg), f"model.pretrained={start}", "probe.keyframes_per_video=2"]
    train_ava.main([*probe, f"output={tmp_path / 'probe'}", "optim.epochs=0"])
    assert "linear probe: the last layer fitted to" in capsys.readouterr().out
    before, after = state_of(tmp_path / "first"), state_of(tmp_path / "probe")
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert moved == {"head.classes.weight", "head.classes.bias"}
    assert (tmp_path / "probe" / "metrics.json").is_file()
    train_ava.main([*probe, f"output={tmp_path / 'on'}", "optim.epochs=1", "optim.ema_decay=0.9"])
    events = [json.loads(line) for line in (tmp_path / "on/log.jsonl").read_text().splitlines()]
    assert [event["event"] for event in events].count("probe") == 1
    with pytest.raises(UserError, match="probe needs model.pretrained"):
        train_ava.main(["--cfg", str(cfg), "probe.keyframes_per_video=2"])
    with pytest.raises(UserError, match="nothing is learned"):
        train_ava.main(["--cfg", str(cfg), "optim.epochs=0"])
    with pytest.raises(UserError, match=r"csv:\d+: \d+ boxes have more than one action"):
        train_ava.main([*probe, f"output={tmp_path / 'one'}", "model.exclusive_actions=true"])


def test_workers_do_not_change_the_result(tmp_path, cfg):
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'none'}", "optim.epochs=2"])
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'two'}", "optim.epochs=2", "workers=2"])
    assert_same_weights(tmp_path / "none", tmp_path / "two")


def test_a_checkpoint_alone_is_scored_like_its_run(tmp_path, cfg):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    run = tmp_path / "run"
    first = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").unlink()
    drawn = (run / "confusion.png").read_bytes()
    (run / "confusion.png").unlink()
    assert train_ava.main(["--eval-only", "--checkpoint", str(run)]) == 0
    assert (run / "confusion.png").read_bytes() == drawn
    assert json.loads((run / "metrics.json").read_text())["per_class"] == first["per_class"]
    lone = tmp_path / "lone.pt"
    shutil.copy(run / "checkpoints" / "last.pt", lone)
    out = tmp_path / "scored"
    train_ava.main(["--eval-only", "--checkpoint", str(lone), f"output={out}"])
    assert json.loads((out / "metrics.json").read_text())["per_class"] == first["per_class"]


def test_the_detector_overfits_ten_clips(tmp_path, cfg):
    """Scored on the ten keyframes that it has learned from."""
    train_ava.main(
        ["--cfg", str(cfg), "data.val_split=train", "optim.epochs=40", "optim.batch_size=10"]
        + ["clip.flip_probability=0", "model.dropout=0", "evaluation.every_epochs=100"]
    )
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["num_keyframes"] == 10
    assert metrics["mean_ap"] > 0.95


def test_more_classes_can_be_learned_than_are_scored(tmp_path, dataset, cfg):
    """AVA: a network of 80 classes, a mean over 60."""
    other = tmp_path / "data"
    shutil.copytree(dataset, other)
    scored = LabelMap(("be red", "be here"), (3, 9), None)
    shutil.copy(other / "annotations/label_map.pbtxt", other / "annotations/all.pbtxt")
    write_label_map(other / "annotations/label_map.pbtxt", scored)
    train_ava.main(
        ["--cfg", str(cfg), f"data.root={other}", "data.label_map=annotations/all.pbtxt"]
        + ["optim.epochs=1"]
    )
    run = tmp_path / "run"
    metrics = json.loads((run / "metrics.json").read_text())
    assert list(metrics["per_class"]) == ["be red", "be here"]
    ids = {row.split(",")[6] for row in (run / "detections.csv").read_text().splitlines()}
    assert ids == {"3", "7", "9"}


def test_detected_boxes_are_scored_and_named(tmp_path, dataset, cfg):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    other = tmp_path / "data"
    shutil.copytree(dataset, other)
    text = (other / "dataset.yaml").read_text()
    assert text.count("val.csv") == 1
    (other / "dataset.yaml").write_text(
        text.replace("val.csv", "val.csv\n    boxes: {det: annotations/boxes_det.csv}")
    )
    (other / "annotations/boxes_det.csv").write_text(
        "val_0,0001,0.1,0.1,0.5,0.9,,0.95\nval_0,0002,0.1,0.1,0.5,0.9,,0.50\n"
    )
    checkpoint = str(tmp_path / "run")
    options = [f"data.root={other}", "data.val_boxes=det", f"output={tmp_path / 'detected'}"]
    train_ava.main(["--eval-only", "--checkpoint", checkpoint, *options])
    metrics = json.loads((tmp_path / "detected" / "metrics.json").read_text())
    assert "detected boxes 'det'" in metrics["boxes"]
    rows = (tmp_path / "detected" / "detections.csv").read_text().splitlines()
    assert len(rows) == len(LABELS) and all(row.startswith("val_0,0001,") for row in rows)


def test_two_sets_of_boxes_are_scored_side_by_side(tmp_path, dataset, cfg, capsys):
    """Boxes that are the ground truth's must score as the ground truth's."""
    other = with_boxes(dataset, tmp_path / "data", "val")
    options = [f"data.root={other}", "optim.epochs=1", "data.val_boxes=det"]
    train_ava.main(["--cfg", str(cfg), *options, "data.also_score_boxes=[ground-truth]"])
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert "detected boxes 'det'" in metrics["boxes"]
    (beside,) = metrics["other_boxes"]
    assert "ground-truth boxes" in beside["boxes"]
    assert beside["per_class"] == metrics["per_class"]
    assert f"beside it: frame-mAP {beside['mean_ap']:.4f} with ground-truth" in (
        capsys.readouterr().out
    )


def test_action_scores_are_multiplied_by_the_persons_where_asked(tmp_path, dataset, cfg):
    other = with_boxes(dataset, tmp_path / "data", "val")
    options = [f"data.root={other}", "data.val_boxes=det"]
    train_ava.main(["--cfg", str(cfg), *options, "optim.epochs=1"])

    def scores(run: Path) -> list[float]:
        rows = (run / "detections.csv").read_text().splitlines()
        return [float(row.rpartition(",")[2]) for row in rows]

    again = tmp_path / "again"
    options += ["evaluation.multiply_person_score=true", f"output={again}"]
    train_ava.main(["--eval-only", "--checkpoint", str(tmp_path / "run"), *options])
    plain = scores(tmp_path / "run")
    assert scores(again) == pytest.approx([0.95 * score for score in plain], rel=1e-4)
    boxes = json.loads((again / "metrics.json").read_text())["boxes"]
    assert boxes.endswith("action scores multiplied by the box's score")


@pytest.mark.parametrize(
    ("score", "found"), [("95", "looks like per cent"), ("-0.4", "looks like a logit")]
)
def test_boxes_whose_scores_are_no_probabilities_are_refused(tmp_path, dataset, cfg, score, found):
    other = with_boxes(dataset, tmp_path / "data", "val")
    path = other / "annotations" / "det.csv"
    path.write_text(path.read_text().replace(",0.95", f",{score}"))
    with pytest.raises(UserError, match=rf"{path.name}:1: score {score} {found}; a probability"):
        train_ava.main(["--cfg", str(cfg), f"data.root={other}", "data.val_boxes=det"])
    assert not (tmp_path / "run" / "checkpoints").exists()


def test_scores_are_averaged_along_tracks_where_asked(tmp_path, dataset, cfg, capsys):
    other = with_boxes(dataset, tmp_path / "data", "val")
    options = [f"data.root={other}", "data.val_boxes=det"]
    run, again = tmp_path / "run", tmp_path / "again"
    train_ava.main(["--cfg", str(cfg), *options, "optim.epochs=1"])
    options += ["evaluation.track_reach_s=1e6", "evaluation.fill_misses=between"]
    capsys.readouterr()
    train_ava.main(["--eval-only", "--checkpoint", str(run), *options, f"output={again}"])
    metrics = json.loads((again / "metrics.json").read_text())
    assert metrics["boxes"].endswith(
        "scores averaged along each person's track within 1e+06 s, misses between two boxes of a "
        "track filled"
    )
    assert metrics["boxes"] in capsys.readouterr().out
    labels = read_label_map(other / "annotations" / "label_map.pbtxt")
    rows = read_detections(run / "detections.csv")
    how = TrackScoring(reach_s=1e6, fill="between")
    by_hand = rows_along_tracks(rows, labels, how, keyframes=rows.keyframes())
    ours = read_detections(again / "detections.csv")
    assert len(ours) == len(by_hand) >= len(rows)
    assert np.allclose(np.sort(ours.score), np.sort(by_hand.score), atol=1e-5)
    with pytest.raises(UserError, match="fill_misses: needs track_reach_s"):
        load_config(cfg, ["evaluation.fill_misses=between"])


def test_detected_boxes_that_fit_are_learned_from(tmp_path, dataset, cfg):
    other = with_boxes(dataset, tmp_path / "data", "train")
    folder = DatasetFolder.open(other)

    def label_counts(*options: str) -> list[int]:
        config = load_config(cfg, [f"data.root={other}", *options])
        return build.read_train_table(config, folder, LABELS).label_counts().tolist()

    assert label_counts() == [6, 4, 10]
    assert label_counts("data.train_boxes=det") == [12, 8, 20]
    with pytest.raises(UserError, match="no keyframe with persons"):
        label_counts("data.train_boxes=det", "data.box_score_threshold=0.99")
    with pytest.raises(UserError, match="unmatched_as_negatives needs train_boxes"):
        label_counts("data.unmatched_as_negatives=true")


def with_boxes(dataset: Path, copy: Path, split: str) -> Path:
    """Copy a data set and give a split the ground truth's boxes as the detected boxes 'det'."""
    shutil.copytree(dataset, copy)
    text = (copy / "dataset.yaml").read_text()
    assert text.count(f"{split}.csv") == 1
    (copy / "dataset.yaml").write_text(
        text.replace(f"{split}.csv", f"{split}.csv\n    boxes: {{det: annotations/det.csv}}")
    )
    rows = (copy / f"annotations/{split}.csv").read_text().splitlines()
    boxes = {",".join(row.split(",")[:6]) for row in rows}
    (copy / "annotations/det.csv").write_text("".join(f"{box},,0.95\n" for box in sorted(boxes)))
    return copy


def fail(capsys, arguments: list[str], monkeypatch) -> str:
    """Run the command as a program; return its one line on stderr, having seen exit code 2."""
    monkeypatch.setattr(sys, "argv", ["train_ava.py", *arguments])
    with pytest.raises(SystemExit) as caught:
        run_command(lambda _: train_ava.main(arguments))
    assert caught.value.code == 2
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1 and lines[-1] == errors[0]
    return errors[0]


def to_frames(root):
    """Make a folder of JPEG frames of each of a data set's videos."""
    for path in (root / "videos").iterdir():
        folder = root / "frames" / path.stem
        folder.mkdir(parents=True)
        with VideoReader(path) as video:
            for number, (_, image) in enumerate(video.frames(), start=1):
                cv2.imwrite(str(folder / f"{path.stem}_{number:06d}.jpg"), image[..., ::-1])
    file = DatasetFolder.open(root).file
    frames = FramesPart(folder="frames", fps=10, start_s=0)
    write_dataset_file(root, file.model_copy(update={"videos": None, "frames": frames}))


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("no dataset", "dataset.yaml: file not found; "),
        ("no video", "train_1.mp4: video file not found"),
        ("truncated video", "train_1.mp4"),
        ("text video", "train_1.mp4"),
        ("few columns", "train.csv:1: "),
        ("box outside", "train.csv:1: "),
        ("box inside out", "train.csv:1: "),
        ("unknown label", "train.csv:1: "),
        ("late keyframe", "train.csv:1: "),
        ("keyframe just past the last frame", "train.csv:1: "),
        ("keyframe just past the last frame of a folder", "train.csv:1: "),
    ],
)
def test_bad_data_is_one_line_before_anything_is_written(
    tmp_path, dataset, cfg, capsys, monkeypatch, damage, expected
):
    other = tmp_path / "data"
    if damage != "no dataset":
        shutil.copytree(dataset, other)
        video, csv = other / "videos/train_1.mp4", other / "annotations/train.csv"
        rows = csv.read_text().splitlines()
    if damage == "no video":
        video.unlink()
    elif damage == "truncated video":
        video.write_bytes(video.read_bytes()[:700])
    elif damage == "text video":
        video.write_text("not a video\n" * 50)
    elif damage == "few columns":
        csv.write_text("\n".join(["train_0,0001,0.1,0.2", *rows]) + "\n")
    elif damage == "box outside":
        csv.write_text("\n".join(["train_0,0001,0.1,0.2,1.4,0.9,3,0", *rows]) + "\n")
    elif damage == "box inside out":
        csv.write_text("\n".join(["train_0,0001,0.8,0.2,0.4,0.9,3,0", *rows]) + "\n")
    elif damage == "unknown label":
        csv.write_text("\n".join(["train_0,0001,0.1,0.2,0.4,0.9,55,0", *rows]) + "\n")
    elif damage == "late keyframe":
        csv.write_text("\n".join(["train_0,0044,0.1,0.2,0.4,0.9,3,0", *rows]) + "\n")
    elif damage.startswith("keyframe just past"):  # the last frame is at 2.9 s, of 10 a second
        csv.write_text("\n".join(["train_0,2.951,0.1,0.2,0.4,0.9,3,0", *rows]) + "\n")
        if damage.endswith("folder"):
            to_frames(other)
    message = fail(capsys, ["--cfg", str(cfg), f"data.root={other}"], monkeypatch)
    assert expected in message
    assert not (tmp_path / "run").exists()


def test_a_folder_is_never_replaced_unasked_and_never_unless_it_is_a_run(
    tmp_path, cfg, capsys, monkeypatch
):
    precious = tmp_path / "run" / "thesis.txt"
    precious.parent.mkdir()
    precious.write_text("text")
    assert "holds files but no run" in fail(capsys, ["--cfg", str(cfg)], monkeypatch)
    assert "no run" in fail(capsys, ["--cfg", str(cfg), "--overwrite"], monkeypatch)
    assert precious.read_text() == "text"
    (tmp_path / "run" / "config.yaml").write_text("seed: 1\n")
    assert "--resume" in fail(capsys, ["--cfg", str(cfg)], monkeypatch)


def test_bad_combinations_of_options(tmp_path, cfg, capsys, monkeypatch):
    assert "--cfg FILE is required" in fail(capsys, [], monkeypatch)
    assert "go together" in fail(capsys, ["--eval-only"], monkeypatch)
    assert "not a run" in fail(capsys, ["--resume", str(tmp_path)], monkeypatch)
    missing = ["--eval-only", "--checkpoint", str(tmp_path / "x.pt")]
    assert "checkpoint file or run folder not found" in fail(capsys, missing, monkeypatch)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("{}")
    resumed = ["--resume", str(tmp_path / "run"), "optim.lr=1"]
    assert "may change" in fail(capsys, resumed, monkeypatch)


def test_a_checkpoint_of_other_classes_is_refused(tmp_path, dataset, cfg, capsys, monkeypatch):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    other = tmp_path / "data"
    shutil.copytree(dataset, other)
    path = other / "annotations/label_map.pbtxt"
    path.write_text(path.read_text().replace("be red", "be green"))
    arguments = ["--eval-only", "--checkpoint", str(tmp_path / "run"), f"data.root={other}"]
    message = fail(capsys, arguments, monkeypatch)
    assert "be green" in message and "be red" in message


def test_real_ava_without_its_data_names_file_and_command(capsys, monkeypatch, tmp_path):
    message = fail(
        capsys,
        ["--cfg", str(REPOSITORY / "configs/ava_x3d_m.yaml"), f"data.root={tmp_path / 'ava'}"],
        monkeypatch,
    )
    assert "dataset.yaml: file not found" in message
    assert "python -m ava_tools.download --dataset ava-v2.2" in message


def test_help_does_not_load_torch():
    code = (
        "import sys, train_ava\n"
        "try: train_ava.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True, capture_output=True)


def test_a_run_goes_on_by_its_own_configuration_only_and_lists_what_differs(
    tmp_path, cfg, capsys, monkeypatch
):
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    path = tmp_path / "run" / "config.yaml"
    text = path.read_text().replace("lr: 0.1\n", "lr: 0.2\n").replace("seed: 0", "seed: 3")
    path.write_text(text)
    monkeypatch.setattr(runs, "open_task", None)  # no data is read before
    message = fail(capsys, ["--resume", str(tmp_path / "run"), "workers=1"], monkeypatch)
    assert "last.pt: was written by another configuration" in message
    assert "optim.lr is 0.2, was 0.1" in message and "seed is 3, was 0" in message
    assert "workers" not in message


def test_a_run_folder_that_cannot_be_written_is_refused_before_data_is_read(
    tmp_path, cfg, capsys, monkeypatch
):
    monkeypatch.setattr(runs, "open_task", None)
    message = fail(capsys, ["--cfg", str(cfg), f"output={cfg / 'run'}"], monkeypatch)
    assert message == f"error: {cfg}: a file, a run folder is required"
    monkeypatch.setattr(tempfile, "TemporaryFile", read_only)
    message = fail(capsys, ["--cfg", str(cfg)], monkeypatch)
    assert message == f"error: {tmp_path / 'run'}: cannot be written (Read-only file system)"


def read_only(**_: object) -> None:
    raise OSError(errno.EROFS, "Read-only file system")


def test_the_last_epochs_are_kept_and_one_of_them_can_be_gone_back_to(tmp_path, cfg):
    options = ["checkpoints_kept=2", "optim.ema_decay=0.8", "optim.precise_bn_batches=2"]
    train_ava.main(["--cfg", str(cfg), *options])
    run = tmp_path / "run"
    names = {path.name for path in (run / "checkpoints").iterdir()}
    assert names == {"last.pt", "best.pt", "epoch_0002.pt", "epoch_0003.pt"}
    whole = state_of(run)
    (run / "checkpoints" / "last.pt").unlink()
    train_ava.main(["--resume", str(run / "checkpoints" / "epoch_0002.pt")])
    again = state_of(run)
    assert all(torch.equal(whole[name], again[name]) for name in whole)


def test_a_damaged_video_is_named_replaced_and_counted_and_the_run_ends_well(
    tmp_path, dataset, cfg, capsys, monkeypatch
):
    other = tmp_path / "data"
    shutil.copytree(dataset, other)
    for name in ("train_1", "val_1"):
        video = other / f"videos/{name}.mp4"
        video.write_bytes(video.read_bytes()[: int(0.7 * video.stat().st_size)])
    options = [f"data.root={other}", "optim.epochs=1", "workers=1"]
    assert train_ava.main(["--cfg", str(cfg), *options, "data.max_unreadable=0.5"]) == 0
    run = tmp_path / "run"
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    lines = [event["message"] for event in events if event["event"] == "unreadable"]
    assert lines and all("train.csv:" in line and "train_1.mp4: " in line for line in lines)
    assert [event["event"] for event in events].count("update") == 3
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["unreadable_keyframes"] >= 1
    assert "could not be read and count as missed" in capsys.readouterr().out
    message = fail(capsys, ["--cfg", str(cfg), *options, "--overwrite"], monkeypatch)
    assert "data.max_unreadable=0.02 of them may be" in message and "train_1.mp4" in message


def test_tensorboard_shows_curves_classes_and_images(tmp_path, cfg):
    pytest.importorskip("tensorboard", reason="the tensorboard extra is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    assert (
        train_ava.main(
            ["--cfg", str(cfg), "optim.epochs=2", "evaluation.every_epochs=1", "tensorboard=true"]
        )
        == 0
    )
    board = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    tags = board.Tags()
    expected = {"train/loss", "train/lr", "speed/share_of_time_data", "final/mean_ap"}
    assert expected | {"ap_by_class/be red"} <= set(tags["scalars"])
    assert [event.step for event in board.Scalars("train/loss")] == list(range(1, 7))
    assert [event.step for event in board.Scalars("ap_by_class/be red")] == [3, 6]
    assert tags["images"] == ["predictions"]


@pytest.mark.parametrize(("scores", "kept"), [((0.3, 0.4), "probe"), ((0.4, 0.3), "fine_tuned")])
def test_fine_tuning_is_kept_only_where_it_beats_the_probe(
    tmp_path, cfg, capsys, monkeypatch, scores, kept
):
    train_ava.main(["--cfg", str(cfg), f"output={tmp_path / 'first'}", "optim.epochs=1"])
    given = iter(scores)
    monkeypatch.setattr(ActionTask, "score", lambda *_: Evaluation(next(given), {}))
    capsys.readouterr()
    train_ava.main(
        ["--cfg", str(cfg), f"model.pretrained={tmp_path / 'first'}", "optim.epochs=1"]
        + ["probe.keyframes_per_video=2", "probe.keep_unless_beaten=true", "optim.ema_decay=0.5"]
    )
    run = tmp_path / "run"
    probe = torch.load(run / "checkpoints/probe.pt", weights_only=True)["model_state"]
    same = all(torch.equal(probe[name], value) for name, value in state_of(run).items())
    assert same == (kept == "probe")
    verdict = "no better: the probe is kept" if kept == "probe" else "which is kept"
    assert verdict in capsys.readouterr().out
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    (contest,) = (event for event in events if event["event"] == "contest")
    assert (contest["fine_tuned"], contest["probe"], contest["kept"]) == (*scores, kept)


def test_a_run_keeps_the_name_of_the_people_it_was_labelled_on(tmp_path, cfg, dataset, capsys):
    folder = tmp_path / "data"
    shutil.copytree(dataset, folder)
    run = tmp_path / "run"
    train_ava.main(["--cfg", str(cfg), "optim.epochs=1"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.endswith(f"detect_actions VIDEO --checkpoint {run} --people coco")
    with (folder / "dataset.yaml").open("a") as file:
        file.write("people: {weights: 'coco:mobile', score: 0.5}\n")
    train_ava.main(["--cfg", str(cfg), "--overwrite", f"data.root={folder}", "optim.epochs=1"])
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"use it: python -m ava_tools.detect_actions VIDEO --checkpoint {run}"
    assert people_beside(run) == "coco:mobile"
