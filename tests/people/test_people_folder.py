"""A people detector as a folder of its own, and below a network's."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from fake_hub import install
from tiny_people import frame, save_tiny_people, tiny_people
from tiny_pipeline import save_tiny_run

from detection import from_pretrained, save_pretrained
from detection.checkpoints.file import read_model_file
from detection.checkpoints.model_folder import people_of_folder
from detection.errors import UserError
from detection.people.weights import (
    PeopleFile,
    find_people_file,
    is_people_file,
    load_people_detector,
    read_people_file,
)
from detection.pipeline.networks import find_people


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("people") / "run" / "checkpoints"
    return save_tiny_people(folder / "best.pt", best_score=0.37).parent.parent


@pytest.fixture(scope="module")
def made(weights, tmp_path_factory) -> Path:
    return save_pretrained(weights, tmp_path_factory.mktemp("made") / "people")


@pytest.fixture(scope="module")
def together(weights, tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("together")
    return save_pretrained(save_tiny_run(place / "run"), place / "model", people=weights)


def test_the_same_boxes_are_found(weights, made):
    images = [frame(70, 90), frame(64, 64, seed=1)]
    before, after = (load_people_detector(place).detect(images) for place in (weights, made))
    assert sum(map(len, before)) > 0
    for one, other in zip(before, after, strict=True):
        assert (one.xyxy_01 == other.xyxy_01).all() and (one.score == other.score).all()
    file, again = read_people_file(weights), from_pretrained(made)
    assert isinstance(again, PeopleFile) and is_people_file(made)
    assert again.numbers == file.numbers and again.classes == file.classes
    assert again.best_score == 0.37
    assert all(torch.equal(file.state[name], again.state[name]) for name in file.state)


def test_it_goes_with_a_network(together, made):
    people = people_of_folder(together)
    assert people == together / "people" == find_people(together)
    assert find_people(together / "config.json") == people
    assert from_pretrained(people).best_score == 0.37
    assert (people / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    names = [line.split("  ")[1] for line in (together / "SHA256SUMS").read_text().splitlines()]
    assert "people/model.safetensors" in names and "people/SHA256SUMS" in names


def test_coco_stays_a_name_and_none_is_none(tmp_path):
    run = save_tiny_run(tmp_path / "run")
    notes: list[str] = []
    alone = save_pretrained(run, tmp_path / "alone", on_note=notes.append)
    assert people_of_folder(alone) is None and "--people" in notes[0]
    with pytest.raises(UserError, match="no people detector"):
        find_people(alone)
    (alone / "people").mkdir()  # not of the model
    with pytest.raises(UserError, match="no people detector"):
        find_people(alone)
    named = save_pretrained(run, tmp_path / "named", people="coco:mobile_320")
    assert find_people(named) == "coco:mobile_320" and not (named / "people").exists()


def test_a_changed_detector_is_refused_by_its_file(together, tmp_path):
    folder = shutil.copytree(together, tmp_path / "model")
    path = folder / "people" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"{path}: changed"):
        find_people(folder)
    shutil.rmtree(folder / "people")
    with pytest.raises(UserError, match="people"):
        find_people(folder)


def test_what_lies_in_its_folder_and_is_not_of_it_is_named(together, tmp_path):
    folder = shutil.copytree(together, tmp_path / "model")
    (folder / "people" / "more.py").write_text("")
    assert any("people/more.py" in note for note in from_pretrained(folder).notes)


def test_torchvisions_own_form_becomes_ours(tmp_path):
    network = tiny_people("mobile_320", num_classes=90)
    torch.save(network.state_dict(), tmp_path / "fasterrcnn_320.pth")
    made = save_pretrained(tmp_path / "fasterrcnn_320.pth", tmp_path / "model")
    file = from_pretrained(made)
    assert file.numbers.name == "mobile_320" and file.classes[0] == "person"
    assert json.loads((made / "config.json").read_text())["format"] == "people-detector"
    assert load_people_detector(made).best_score == 0.5


def test_other_detectors_cannot_go_with_it(tmp_path):
    run = save_tiny_run(tmp_path / "run")
    (tmp_path / "yolox.onnx").write_bytes(b"\x08\x07")
    with pytest.raises(UserError, match="ONNX"):
        save_pretrained(run, tmp_path / "model", people=tmp_path / "yolox.onnx")
    with pytest.raises(UserError, match="none goes with it"):
        save_pretrained(save_tiny_people(tmp_path / "people.pt"), tmp_path / "model", people="coco")
    assert not (tmp_path / "model").exists()


def test_a_network_is_no_detector_and_the_reverse(together, made):
    with pytest.raises(UserError, match="not an X3D network"):
        read_model_file(made)
    with pytest.raises(UserError, match="not a checkpoint of train_people"):
        read_people_file(together)


def test_the_hub_has_detectors_too(made, monkeypatch, tmp_path):
    hub = install(monkeypatch, tmp_path / "hub")
    shutil.copytree(made, hub.root / "user" / "people")
    assert is_people_file("hub:user/people")
    assert load_people_detector("hub:user/people").best_score == 0.37
    assert find_people_file("hub:user/people").name == "config.json"
