"""A model folder: the same network after it as before, and one line for each that is bad."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_pipeline import LABELS, save_tiny_classifier, save_tiny_run

from detection import from_pretrained, load_network, save_pretrained
from detection.checkpoints.file import read_model_file, write_thresholds
from detection.checkpoints.load import load_pretrained
from detection.checkpoints.plain_file import find_checkpoint
from detection.errors import UserError
from detection.structures import ClassThresholds


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = save_tiny_run(tmp_path_factory.mktemp("run") / "tiny", step=7.3)
    score = np.array([0.31, 0.5, 0.123456789])
    learned = ClassThresholds(
        score, score, np.full(3, np.nan), np.array([3, 4, 0]), True, True, "val, boxes"
    )
    write_thresholds(folder / "checkpoints" / "last.pt", learned)
    return folder


@pytest.fixture(scope="module")
def made(run, tmp_path_factory) -> Path:
    return save_pretrained(run, tmp_path_factory.mktemp("made") / "model")


@pytest.fixture
def folder(made, tmp_path) -> Path:
    return shutil.copytree(made, tmp_path / "model")


def sign(folder: Path) -> None:
    """Write SHA256SUMS anew, as whoever changed a file could."""
    names = sorted(p.name for p in folder.iterdir() if p.is_file() and p.name != "SHA256SUMS")
    hashes = [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]
    lines = [f"{digest}  {name}\n" for digest, name in zip(hashes, names, strict=True)]
    (folder / "SHA256SUMS").write_text("".join(lines))


def change(folder: Path, edit) -> None:
    """Change config.json, signed."""
    values = json.loads((folder / "config.json").read_text())
    edit(values)
    (folder / "config.json").write_text(json.dumps(values))
    sign(folder)


def refusal(folder) -> str:
    with pytest.raises(UserError) as caught:
        read_model_file(folder)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_is_the_run_to_the_bit(run, made):
    before, after = read_model_file(run), from_pretrained(made)
    for name in ("network", "classes", "sampling", "short_side_px", "config", "relevance"):
        assert getattr(before, name) == getattr(after, name), name
    for name in ("score", "precision", "recall", "examples"):
        values = (getattr(file.thresholds, name) for file in (before, after))
        np.testing.assert_array_equal(*values)
    assert after.thresholds.source == "val, boxes" and after.thresholds.common
    frames = torch.randint(0, 256, (1, 3, 4, 64, 80), dtype=torch.uint8)
    rois_px = torch.tensor([[0, 2.0, 3.0, 40.0, 50.0]])
    with torch.no_grad():
        logits = [load_network(file)(frames, rois_px) for file in (before, after)]
    assert torch.equal(*logits)
    assert after.notes == () and after.training == {}


def test_a_classifier_is_too(tmp_path):
    run = save_tiny_classifier(tmp_path / "run")
    made = save_pretrained(run, tmp_path / "model")
    frames = torch.randint(0, 256, (1, 3, 4, 64, 80), dtype=torch.uint8)
    with torch.no_grad():
        before, after = (load_network(read_model_file(place))(frames) for place in (run, made))
    assert torch.equal(before, after)


def test_what_it_says_can_be_read_by_others(made):
    values = json.loads((made / "config.json").read_text())
    assert values["label_map"]["names"] == list(LABELS.names)
    assert values["label_map"]["exclusive"] == {"colour": [0, 1]}
    assert values["sampling"]["step_s"] == pytest.approx(7.3 / 30)
    assert values["sampling"]["short_side_px"] == 64 and values["network"]["pixel_mean"] == 0.45
    assert values["folder"]["version"] == 1 and values["folder"]["people"] is None
    lines = (made / "SHA256SUMS").read_text().splitlines()
    for line in lines:
        digest, name = line.split("  ")
        assert hashlib.sha256((made / name).read_bytes()).hexdigest() == digest
    assert {line.split("  ")[1] for line in lines} == {
        "README.md",
        "config.json",
        "model.safetensors",
    }


def test_its_weights_alone_stand_for_the_folder(made):
    assert find_checkpoint(made / "model.safetensors") == made / "config.json"
    assert read_model_file(made / "model.safetensors").classes.names == LABELS.names


def test_it_starts_another_network(made):
    network = load_network(read_model_file(made))
    with torch.no_grad():
        network.head.hidden.weight.zero_()
    report = load_pretrained(network, made, class_names=LABELS.names)
    assert not report.missing and bool(network.head.hidden.weight.any())


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_a_file_that_is_missing_is_named(name, folder):
    (folder / name).unlink()
    assert f"{folder / name}: not found" in refusal(folder)


def test_an_empty_folder_is_no_model(tmp_path):
    assert "not a run" in refusal(tmp_path) and "config.json" in refusal(tmp_path)
    with pytest.raises(UserError, match="no model folder"):
        from_pretrained(tmp_path)
    with pytest.raises(UserError, match="folder not found"):
        from_pretrained(tmp_path / "absent")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_changed_file_is_named_with_both_hashes(name, folder):
    stated = hashlib.sha256((folder / name).read_bytes()).hexdigest()
    content = bytearray((folder / name).read_bytes())
    content[-3] ^= 1
    (folder / name).write_bytes(content)
    said = refusal(folder)
    assert said.startswith(f"{folder / name}: changed")
    assert stated[:16] in said and hashlib.sha256(content).hexdigest()[:16] in said


def test_other_files_are_ignored_but_named(folder):
    (folder / "modeling.py").write_text("raise SystemExit('was run')")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    (folder / ".gitattributes").write_text("")
    (folder / "exported").mkdir()
    (note,) = from_pretrained(folder).notes
    assert "ignored: modeling.py, pytorch_model.bin" in note and ".git" not in note


def test_a_card_may_be_rewritten(folder):
    (folder / "README.md").write_text("better words")
    (note,) = from_pretrained(folder).notes
    assert "README.md: changed" in note
    (folder / "README.md").unlink()
    assert from_pretrained(folder).notes == ()


@pytest.mark.parametrize(
    "line",
    ["{} ../evil", "{}  ../evil", "{}  /etc/passwd", "{}  a/../../b", "{}  C:\\x", "{}  people\\x",
     "abc  config.json", "{}", "\x1b[2J", "{}  config.json\n{}  config.json"],
)  # fmt: skip
def test_sums_that_lead_out_of_the_folder_or_are_none_are_refused_by_line(line, folder):
    old = (folder / "SHA256SUMS").read_text()
    (folder / "SHA256SUMS").write_text(old + line.replace("{}", "0" * 64) + "\n")
    said = refusal(folder)
    assert f"{folder / 'SHA256SUMS'}:4:" in said or ":5:" in said
    assert said.isprintable()


def test_a_file_without_a_hash_is_not_read(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "config" not in line))
    assert "has no hash of config.json" in refusal(folder)
    (folder / "SHA256SUMS").write_text("")
    assert "has no hash of config.json" in refusal(folder)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda v: v.update(version=2), "format version 2, this program reads 1"),
        (lambda v: v["folder"].update(version=2), "model folder of version 2"),
        (lambda v: v["folder"].update(people="../other"), "folder.people is '../other'"),
        (lambda v: v["folder"].update(people="/etc"), "folder.people"),
        (lambda v: v["folder"].update(people="coco:../x"), "folder.people"),
        (lambda v: v["folder"].update(weights_sha256="0" * 64), "files of two models"),
        (lambda v: v["folder"].update(weights_sha256=7), "folder.weights_sha256"),
        (lambda v: v["folder"].update(auto_map={}), "auto_map"),
        (lambda v: v.pop("folder"), "folder is missing"),
        (lambda v: v.update(model_state={}), "model_state"),
        (lambda v: v.update(auto_map={"AutoModel": "evil.py"}), "auto_map"),
        (lambda v: v.update(format="bert"), "of the format 'bert'"),
        (lambda v: v.pop("format"), "states no format"),
        (lambda v: v["network"]["x3d"].update(width_factor=1e9), "width_factor"),
        (lambda v: v["network"].update(num_classes=4), "num_classes|classes"),
        (lambda v: v["sampling"].update(num_frames=10**9), "num_frames"),
        (lambda v: v["sampling"].update(step_s=0.5), "step_s is 0.5"),
        (lambda v: v["sampling"].pop("step_s"), "step_s is missing"),
        (lambda v: v["thresholds"].update(score=[2, 0, 0]), r"score\[0\]"),
        (lambda v: v["label_map"]["names"].pop(), "2 classes, the network 3"),
    ],
)
def test_a_description_that_is_wrong_is_refused_by_its_key(edit, words, folder):
    change(folder, edit)
    with pytest.raises(UserError, match=words) as caught:
        load_network(read_model_file(folder))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"format": NaN}', '{"a": 1, "a": 2}', "[" * 100_000, "\x00"]
)
def test_a_description_that_is_no_json_is_refused(text, folder):
    (folder / "config.json").write_text(text)
    sign(folder)
    assert str(folder / "config.json") in refusal(folder)


def test_weights_of_another_kind_are_refused(folder):
    torch.save({"a": torch.zeros(2)}, folder / "model.safetensors")
    digest = hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()
    change(folder, lambda values: values["folder"].update(weights_sha256=digest))
    assert "safetensors" in refusal(folder)


def test_a_folder_of_others_beside_a_checkpoint_is_left_alone(run, tmp_path):
    path = shutil.copy(run / "checkpoints" / "last.pt", tmp_path / "theirs.pt")
    (tmp_path / "config.json").write_text('{"architectures": ["Bert"]}')
    assert read_model_file(path).classes.names == LABELS.names
    assert "states no format" in refusal(tmp_path) or "SHA256SUMS: not found" in refusal(tmp_path)


def test_a_model_made_again_from_its_folder_is_the_same(made, tmp_path):
    again = save_pretrained(made, tmp_path / "again")
    for name in ("config.json", "model.safetensors"):
        assert (again / name).read_bytes() == (made / name).read_bytes()


def test_a_network_without_classes_cannot_be_saved(run, tmp_path):
    file = dataclasses.replace(read_model_file(run), classes=None, thresholds=None)
    with pytest.raises(UserError, match="no network with classes"):
        save_pretrained(file, tmp_path / "model")
    assert not (tmp_path / "model").exists()
