"""`python -m ava_tools.inspect_model`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ava_tools import inspect_model
from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network
from detection.errors import UserError
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.x3d import VARIANTS
from detection.structures import ClipSampling


def test_the_family_is_printed_by_one_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert inspect_model.main(["--variant", "all"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    for words in (
        ("XS", "4 x 12", "3,794,322", "3,762,858", "0.60526", "0.83881"),
        ("S", "13 x 6", "3,794,322", "1.96289", "2.72193"),
        ("M", "16 x 5", "3,794,322", "4.73247", "6.18061", "3.107 M", "6.180"),
        ("L", "16 x 5", "6,153,432", "6,087,120", "18.36771", "24.76402"),
        ("XL", "16 x 5", "11,095,904", "11,000,260", "35.83763", "48.40685"),
        ("X2D", "1 x 1", "1,633,560", "0.02066"),
    ):
        assert all(word in lines[words[0]] for word in words), lines[words[0]]


def test_stages_add_up(capsys: pytest.CaptureFixture[str]) -> None:
    inspect_model.main(["--variant", "m", "--json", "--no-timing"])
    summary = json.loads(capsys.readouterr().out)
    stages = summary["stages"]
    assert [row["name"] for row in stages] == [
        "stem",
        "res2",
        "res3",
        "res4",
        "res5",
        "conv5",
        "head",
    ]
    assert sum(row["parameters"] for row in stages) == summary["parameters"]
    assert sum(row["macs"] for row in stages) == summary["macs"]
    assert stages[5]["output"] == [432, 16, 8, 8]
    assert [row["blocks"] for row in stages[1:5]] == [3, 5, 11, 7]


def test_actors_cost_head_only(capsys: pytest.CaptureFixture[str]) -> None:
    counts = []
    for actors in ("0", "3"):
        inspect_model.main(["--variant", "xs", "--actors", actors, "--json", "--no-timing"])
        counts.append(json.loads(capsys.readouterr().out)["macs"])
    assert counts[1] - counts[0] == 3 * (432 * 2048 + 2048 * 80)


def test_milliseconds_and_memory_are_measured(capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--variant", "x2d", "--size", "64", "--repeats", "1", "--training", "--json"]
    inspect_model.main(arguments)
    summary = json.loads(capsys.readouterr().out)
    assert summary["inference_ms"] > 0 and summary["training_ms"] > 0
    assert summary["inference_peak_mb"] is None or summary["inference_peak_mb"] >= 0


def test_a_checkpoint_is_inspected_as_it_was_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with torch.device("meta"):
        shapes = build_detector(VARIANTS["x2d"], ActorHeadDescription(5), res5_stride=1)
    detector = shapes.to_empty(device="cpu")
    for value in detector.state_dict().values():
        value.zero_()
    save_model_file(
        tmp_path / "a.pt",
        detector.state_dict(),
        network=describe_network(detector),
        classes=None,
        sampling=ClipSampling(2, 3),
        short_side_px=96,
    )
    inspect_model.main(["--checkpoint", str(tmp_path / "a.pt"), "--no-timing"])
    out = capsys.readouterr().out
    assert "2 frames of 96 x 96 px" in out
    assert "192 x 2 x 6 x 6" in out  # res5 at 1/16
    assert "1 x 5" in out


def test_bad_values_end_with_two(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--variant", "m", "--size", "0"], ["--variant", "q"], []):
        with pytest.raises(SystemExit) as caught:
            inspect_model.main(arguments)
        assert caught.value.code == 2


def test_a_configuration_is_inspected_as_it_would_be_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"
    cfg = tmp_path / "small.yaml"
    cfg.write_text(
        f"data: {{root: {data}}}\n"
        "model: {variant: xs, res5_stride: 1, head_width: 64}\n"
        "clip: {num_frames: 2, test_short_side_px: 96, train_crop_px: 64, "
        "train_short_side_px: [64, 80]}\n"
    )
    inspect_model.main(["--cfg", str(cfg), "--no-timing"])
    out = capsys.readouterr().out
    assert "2 frames of 96 x 96 px" in out
    assert "80 classes (no data set" in out
    assert "432 x 2 x 6 x 6" in out  # res5 at 1/16
    assert f"{432 * 64 + 64 * 80 + 80:,}" in out
    (data / "annotations").mkdir(parents=True)
    (data / "annotations" / "label_map.pbtxt").write_text(
        'item { name: "sit" id: 1 }\nitem { name: "stand" id: 2 }\n'
    )
    (data / "annotations" / "train.csv").write_text("")
    (data / "dataset.yaml").write_text(
        "name: two\nmade_up: true\nvideos: videos\n"
        "splits: {train: {annotations: annotations/train.csv}}\n"
    )
    inspect_model.main(["--cfg", str(cfg), "--no-timing"])
    assert "2 classes (label map of" in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [["--size", "100000"], ["--frames", "99999999"], ["--actors", "-1"], ["--threads", "100000"]]
    + [["--classes", "0"], ["--repeats", "x"]],
)
def test_absurd_sizes_are_refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        inspect_model.main(["--variant", "x2d", *arguments])
    assert caught.value.code == 2
    assert "Traceback" not in capsys.readouterr().err


def test_too_little_memory_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(inspect_model, "measure", fail)
    with pytest.raises(UserError, match=r"not enough memory for 1 frames of 128 x 128"):
        inspect_model.main(["--variant", "x2d"])
    with pytest.raises(UserError, match="--device 'toaster': auto, cpu, cuda or cuda:N"):
        monkeypatch.undo()
        inspect_model.main(["--variant", "x2d", "--device", "toaster"])
