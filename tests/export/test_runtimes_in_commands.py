"""Commands that run exported networks find what PyTorch finds; bad input is one line."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from tiny_data import make_dataset
from tiny_exports import need
from tiny_people import save_tiny_people
from tiny_pipeline import save_tiny_run, use_squares, write_squares

import train_ava
from ava_tools import detect_actions, detect_people, export
from detection.checkpoints.file import write_thresholds
from detection.errors import UserError
from detection.export import make
from detection.export.openvino_runtime import processor_has_bfloat16
from detection.structures import ClassThresholds

SETTINGS = """
clip: {num_frames: 2, step: 6, train_short_side_px: [64, 72], train_crop_px: 64,
  test_short_side_px: 64}
model: {variant: x2d, head_width: 16, dropout: 0.0}
optim: {epochs: 1, batch_size: 4, lr: 0.1}
workers: 0
threads: 1
device: cpu
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run of actions with a film, and its export by whatever runtime is installed."""
    folder = tmp_path_factory.mktemp("runtimes")
    save_tiny_run(folder / "run")
    write_squares(folder / "film.mp4", seconds=3)
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run that was trained on a data set."""
    folder = tmp_path_factory.mktemp("trained")
    data = make_dataset(folder / "data", train=3, val=2)
    begin = f"data: {{root: '{data}'}}\noutput: '{folder / 'run'}'\n"
    (folder / "cfg.yaml").write_text(begin + SETTINGS)
    assert train_ava.main(["--cfg", str(folder / "cfg.yaml")]) == 0
    return folder


@pytest.fixture(autouse=True)
def squares(monkeypatch, request):
    if "detector" in request.fixturenames:
        return
    use_squares(monkeypatch)


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A run of a people detector."""
    folder = tmp_path_factory.mktemp("detector")
    save_tiny_people(folder / "checkpoints/last.pt", best_score=0.5)
    return folder


def detect(place, out, *more, checkpoint=None, people="coco"):
    arguments = [str(place / "film.mp4"), "--checkpoint", str(checkpoint or place / "run")]
    arguments += ["--people", str(people), "--out", str(out), "--no-film", "--no-page", "--quiet"]
    assert detect_actions.main([*arguments, *more]) == 0
    scores = [
        keyframe["scores"]
        for line in (out / "tracks.jsonl").read_text().splitlines()
        for keyframe in json.loads(line)["keyframes"]
    ]
    events = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    told = [(e["track"], e["action"], e["start_s"], e["end_s"]) for e in events]
    return torch.tensor(scores), told


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_events_are_those_of_pytorch_and_the_second_time_nothing_is_exported(
    place, tmp_path, runtime, capsys, monkeypatch
):
    need({"onnxruntime": "onnx"}.get(runtime, runtime))
    scores, events = detect(place, tmp_path / "torch")
    assert "; runtime torch" in capsys.readouterr().err and len(events) > 2
    found, same = detect(place, tmp_path / "first", "--runtime", runtime)
    said = capsys.readouterr().err
    assert f"for {runtime}, once" in said and f"; runtime {runtime} " in said
    assert same == events and (found - scores).abs().max() < 1e-3
    monkeypatch.setattr(make, "export_network", None)
    again, same = detect(place, tmp_path / "again", "--runtime", runtime)
    assert torch.equal(again, found) and same == events
    folder = place / "run/exported" / {"onnxruntime": "onnx"}.get(runtime, runtime)
    given, same = detect(place, tmp_path / "given", "--runtime", "auto", checkpoint=folder)
    assert torch.equal(given, found) and same == events
    with pytest.raises(UserError, match="runtime"):  # results of another runtime are there
        detect(place, tmp_path / "torch", "--runtime", runtime)


def test_auto_goes_on_with_pytorch_where_the_network_cannot_be_exported(
    place, tmp_path, capsys, monkeypatch
):
    need("openvino")
    scores, events = detect(place, tmp_path / "torch")

    def fails(*_, **__):
        raise UserError("openvino cannot convert the network (odd operator)")

    monkeypatch.setattr("detection.pipeline.action_file.open_beside", fails)
    found, same = detect(place, tmp_path / "auto", "--runtime", "auto")
    assert torch.equal(found, scores) and same == events
    said = capsys.readouterr().err
    assert "(odd operator); PyTorch runs it" in said and "; runtime torch" in said
    with pytest.raises(UserError, match="odd operator"):
        detect(place, tmp_path / "asked", "--runtime", "openvino")


def test_half_precision_on_a_cpu_is_openvinos(place, tmp_path):
    with pytest.raises(UserError, match="a GPU, or --runtime openvino"):
        detect(place, tmp_path / "none", "--half")
    need("openvino")
    if not processor_has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    scores, _ = detect(place, tmp_path / "f32", "--runtime", "openvino")
    found, _ = detect(place, tmp_path / "bf16", "--runtime", "openvino", "--half")
    assert 1e-6 < (found - scores).abs().max() < 0.2


def test_thresholds_learned_after_the_export_count(place, tmp_path, capsys):
    need("openvino")
    run = shutil.copytree(place / "run", tmp_path / "run")
    detect(place, tmp_path / "before", "--runtime", "openvino", checkpoint=run)
    some = np.array([0.1, 0.2, 0.3])
    learned = ClassThresholds(
        some, some, some, np.array([5, 5, 5]), common=False, times_person_score=False, source="val"
    )
    write_thresholds(run / "checkpoints/last.pt", learned)
    capsys.readouterr()
    detect(place, tmp_path / "after", "--runtime", "openvino", checkpoint=run)
    said = capsys.readouterr().err
    assert "threshold" in said and "once" not in said, "the export of the same weights is kept"


def test_a_run_is_scored_by_a_runtime(trained, capsys):
    need("openvino")
    run = trained / "run"
    plain = json.loads((run / "metrics.json").read_text())["mean_ap"]
    arguments = ["--eval-only", "--checkpoint", str(run), "--runtime", "openvino"]
    assert train_ava.main([*arguments, f"output={trained / 'scored'}"]) == 0
    assert "runtime: openvino" in capsys.readouterr().out
    scored = json.loads((trained / "scored/metrics.json").read_text())
    assert scored["mean_ap"] == pytest.approx(plain, abs=1e-6)
    logged = [json.loads(line) for line in (trained / "scored/log.jsonl").read_text().splitlines()]
    assert any("openvino" in entry.get("runtime", "") for entry in logged)
    assert train_ava.main(["--eval-only", "--checkpoint", str(run / "exported/openvino")]) == 0
    beside = json.loads((run / "exported/openvino/metrics.json").read_text())
    assert beside["mean_ap"] == scored["mean_ap"]
    with pytest.raises(UserError, match="--runtime goes with --eval-only"):
        train_ava.main(["--cfg", str(trained / "cfg.yaml"), "--runtime", "openvino"])


def test_export_scores_a_data_set_before_and_after(trained, tmp_path, capsys):
    run, data, out = trained / "run", trained / "data", tmp_path / "out"
    arguments = ["--checkpoint", str(run), "--to", "torch", "--out", str(out)]
    scored = ["--dataset", str(data), "--split", "val"]
    assert export.main([*arguments, *scored]) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["metric"] == "frame-mAP" and card["clips_from"] == "all of data, val"
    assert card["clips"] == 4 and card["torch_metric"] == pytest.approx(card["rows"][0]["metric"])
    assert card["torch_metric"] == json.loads((run / "metrics.json").read_text())["mean_ap"]
    said = capsys.readouterr().out
    assert "frame-mAP" in said and f"--checkpoint {out}" in said
    for more, words in (
        (scored, "--overwrite replaces it"),
        (["--dataset", str(data)], "--dataset and --split go together"),
        (["data.val_boxes=people"], "go with --dataset"),
    ):
        with pytest.raises(UserError, match=words) as caught:
            export.main([*arguments, *more])
        assert "\n" not in str(caught.value)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(UserError, match="holds files but no exported network"):
        export.main([*arguments[:-1], str(tmp_path / "mine")])
    assert export.main([*arguments, "--overwrite", "--clips", "1"]) == 0
    assert json.loads((out / "card.json").read_text())["clips_from"] == "made-up"


def boxes_of(out):
    lines = (out / "tracks.jsonl").read_text().splitlines()
    keyframes = [keyframe for line in lines for keyframe in json.loads(line)["keyframes"]]
    return np.array([[*keyframe["box_01"], keyframe["person_score"]] for keyframe in keyframes])


def test_people_are_detected_by_the_runtime_too(place, detector, tmp_path, capsys, monkeypatch):
    need("openvino")
    _, events = detect(place, tmp_path / "torch", "--runtime", "torch", people=detector)
    capsys.readouterr()
    _, same = detect(place, tmp_path / "first", "--runtime", "openvino", people=detector)
    said = capsys.readouterr().err
    assert same == events and f"kept in {detector / 'exported/openvino'}" in said
    boxes, found = boxes_of(tmp_path / "torch"), boxes_of(tmp_path / "first")
    assert len(boxes) > 5 and np.abs(boxes - found).max() < 1e-4
    options = json.loads((tmp_path / "first/run.json").read_text())["options"]
    assert options["people_runtime"].startswith("openvino 2")
    assert "people_runtime" not in json.loads((tmp_path / "torch/run.json").read_text())["options"]
    monkeypatch.setattr("detection.people.exported.export_people", None)
    given = detector / "exported/openvino"
    detect(place, tmp_path / "given", "--runtime", "auto", people=given)
    assert np.array_equal(boxes_of(tmp_path / "given"), found)
    with pytest.raises(UserError, match="exported for openvino, torch cannot run it"):
        detect(place, tmp_path / "other", "--runtime", "torch", people=given)


def test_auto_finds_people_by_pytorch_where_they_cannot_be_exported(
    place, detector, tmp_path, capsys, monkeypatch
):
    need("openvino")

    def fails(*_, **__):
        raise UserError("openvino cannot convert the network (odd operator)")

    monkeypatch.setattr("detection.people.exported.open_people_beside", fails)
    detect(place, tmp_path / "auto", "--runtime", "auto", people=detector)
    said = capsys.readouterr().err
    assert "(odd operator); PyTorch finds people" in said and "; runtime openvino" in said
    with pytest.raises(UserError, match="odd operator"):
        detect(place, tmp_path / "asked", "--runtime", "openvino", people=detector)


def test_export_of_a_people_detector_has_a_card(trained, detector, tmp_path, capsys):
    need("openvino")
    out = tmp_path / "out"
    arguments = ["--checkpoint", str(detector), "--to", "openvino", "--out", str(out)]
    assert export.main([*arguments, "--clips", "1"]) == 0
    said = capsys.readouterr().out
    card = json.loads((out / "card.json").read_text())
    assert card["frames"] == 4 and card["boxes"] > 10 and card["frames_from"] == "made-up"
    assert card["box_difference_px"] < 1e-2 and card["score_difference"] < 1e-3
    assert f"--people {out}" in said and "| PyTorch, float32 |" in said
    assert card["weights"] in (out / "card.md").read_text()
    scored = ["--dataset", str(trained / "data"), "--split", "val", "--overwrite"]
    assert export.main([*arguments, *scored]) == 0
    card = json.loads((out / "card.json").read_text())
    assert card["frames_from"] == "keyframes of data, val" and card["frames"] == 4
    for more, words in (
        ([], "--overwrite replaces it"),
        ([*scored, "data.val_boxes=x"], "options are of action networks"),
    ):
        with pytest.raises(UserError, match=words):
            export.main([*arguments, *more])
    arguments[3] = "torch"
    with pytest.raises(UserError, match="PyTorch runs the checkpoint itself"):
        export.main([*arguments[:-1], str(tmp_path / "torch")])


def test_a_box_file_is_made_by_a_runtime(trained, detector, tmp_path):
    need("openvino")
    tables = []
    for runtime in ("torch", "openvino"):
        out = tmp_path / f"{runtime}.csv"
        arguments = ["--dataset", str(trained / "data"), "--split", "val", "--out", str(out)]
        arguments += ["--weights", str(detector), "--runtime", runtime, "--workers", "0"]
        assert detect_people.main([*arguments, "--device", "cpu", "--quiet"]) == 0
        rows = [line.split(",") for line in out.read_text().splitlines()]
        tables.append(np.array([[*row[2:6], row[7]] for row in rows], float))
        assert [row[0] for row in rows]
    assert tables[0].shape == tables[1].shape and np.abs(tables[0] - tables[1]).max() < 1e-3
    with pytest.raises(UserError, match="runtime"):  # boxes of another runtime are there
        detect_people.main([*arguments[:5], str(tmp_path / "torch.csv"), *arguments[6:]])
    with pytest.raises(UserError, match="detectors of detectron2 run in PyTorch"):
        detect_people.main([*arguments[:5], str(tmp_path / "x.csv"), *arguments[6:],
                            "--detectron2-config", "zoo.yaml"])  # fmt: skip
