"""Exported people detectors find PyTorch's boxes; what is kept is theirs; bad input is one line."""

from __future__ import annotations

import functools
import json
import shutil
import sys
import tempfile
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_exports import exported as exported_actions
from tiny_exports import need
from tiny_people import frame, save_tiny_people, tiny_people
from torch import nn

from detection.errors import UserError
from detection.export import kept
from detection.export.artefact import hash_weights, read_artefact, run_beside
from detection.export.runtimes import RuntimeChoice
from detection.export.session import Threads
from detection.files import CannotWriteError
from detection.people import exported as exported_module
from detection.people.dense import _CeilPool, check_parts, put_in_place
from detection.people.export_card import boxes_apart
from detection.people.exported import export_people, open_sessions, read_people_artefact
from detection.people.weights import load_people_detector, open_for_export

PACKAGE = {"openvino": "openvino", "onnxruntime": "onnx"}
CASES = [("openvino", "small"), ("onnxruntime", "small"), ("openvino", "mobile_320")]
FLOOR = 0.02  # of scores


@functools.cache
def place(name: str) -> Path:
    """Return a run folder of a detector, which all tests share; exports are kept in it."""
    run = Path(tempfile.mkdtemp(prefix="people_"))
    save_tiny_people(run / "checkpoints/last.pt", name, best_score=0.4)
    return run


@functools.cache
def pair(runtime: str, name: str):
    """Return a detector by PyTorch and by a runtime."""
    need(PACKAGE[runtime])
    choice = RuntimeChoice(runtime)
    plain = load_people_detector(place(name), score_floor=FLOOR)
    return plain, load_people_detector(place(name), score_floor=FLOOR, runtime=choice)


def assert_alike(found, expected, image):
    size_px = (image.shape[2], image.shape[1])
    assert len(found) == len(expected)
    for px, score in (
        boxes_apart(expected, found, size_px=size_px),
        boxes_apart(found, expected, size_px=size_px),
    ):
        assert px < 1e-2 and score < 1e-3


def copy_of(tmp_path, runtime="openvino"):
    """Return a run of one's own, and the folder of its export."""
    pair(runtime, "small")
    shutil.copytree(place("small"), tmp_path / "run")
    return tmp_path / "run", tmp_path / "run/exported" / PACKAGE[runtime]


def one_line(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(("runtime", "name"), CASES)
def test_boxes_are_pytorchs_whatever_the_frames_size(runtime, name):
    plain, by_runtime = pair(runtime, name)
    assert plain.runtime == "torch" and by_runtime.runtime.startswith(runtime)

    @settings(max_examples=10, deadline=None, derandomize=True)
    @given(st.integers(0, 99), st.integers(1, 140), st.integers(1, 140), st.integers(1, 3))
    def check(seed, height, width, number):
        frames = [frame(height, width, seed + each) for each in range(number)]
        pairs = zip(by_runtime.detect(frames), plain.detect(frames), frames, strict=True)
        for found, expected, image in pairs:
            assert_alike(found, expected, image)

    check()


@pytest.mark.parametrize("runtime", PACKAGE)
@pytest.mark.parametrize(("height", "width"), [(1, 1), (3, 300), (300, 2), (9, 91), (720, 1280)])
def test_tiny_narrow_and_large_frames(runtime, height, width):
    plain, by_runtime = pair(runtime, "small")
    image = frame(height, width, 5)
    (found,), (expected,) = by_runtime.detect([image]), plain.detect([image])
    assert_alike(found, expected, image)


@pytest.mark.parametrize("runtime", PACKAGE)
def test_no_frames_nobody_and_no_proposals(runtime):
    pair(runtime, "small")
    choice = RuntimeChoice(runtime)
    picky = load_people_detector(place("small"), score_floor=0.9999, runtime=choice)
    assert picky.detect([]) == [] and len(picky.detect([frame(64, 96)])[0]) == 0
    picky.network.rpn.score_thresh = 1.0  # of proposals
    assert [len(found) for found in picky.detect([frame(64, 96), frame(64, 96)])] == [0, 0]


def test_several_threads_get_their_own_boxes():
    plain, by_runtime = pair("openvino", "small")
    images = [frame(40 + 3 * seed, 64, seed) for seed in range(12)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda image: by_runtime.detect([image])[0], images))
    for image, boxes in zip(images, found, strict=True):
        assert_alike(boxes, plain.detect([image])[0], image)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 4), (5, 2), (6, 8), (7, 7)])
def test_pools_of_odd_maps_are_exported_as_other_layers_that_give_the_same(height, width):
    maps = torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(1))
    pool = nn.AvgPool2d(2, ceil_mode=True)
    assert torch.allclose(_CeilPool(pool)(maps), pool(maps), atol=1e-6)


class Stale:
    """A program that gives what it gave for other frames."""

    def run_all(self, inputs):
        maps = torch.zeros(1, 64, 3, 4)
        return [maps.numpy(), torch.zeros(1, 10, 3, 4).numpy(), torch.zeros(1, 40, 3, 4).numpy()]


def test_maps_of_another_call_are_refused():
    network = put_in_place(tiny_people(), {"features": Stale(), "boxes": Stale()}, {"0": 8})
    network.backbone(torch.zeros(1, 3, 24, 32))
    for frames in (torch.zeros(2, 3, 24, 32), torch.zeros(1, 3, 24, 40), torch.zeros(1, 3, 8, 32)):
        assert "--runtime torch can" in one_line(network.backbone, frames)


def test_an_export_that_gives_other_numbers_is_not_kept(tmp_path, monkeypatch):
    need("openvino")
    opened = open_for_export(place("small"))
    other = tiny_people()
    with torch.no_grad():
        other.roi_heads.box_predictor.cls_score.bias[1] += 0.1
    monkeypatch.setattr(exported_module, "fold_for_inference", lambda network: other)
    said = one_line(export_people, opened.network, opened.facts, tmp_path / "out", "openvino")
    assert "gives numbers up to" in said and not (tmp_path / "out").exists()


def test_numbers_that_are_none_are_no_small_difference(monkeypatch):
    pair("openvino", "small")
    artefact = read_people_artefact(place("small") / "exported/openvino")
    network = open_for_export(place("small")).network.eval()
    assert check_parts(network, open_sessions(artefact, Threads(1))) < 1e-4
    network.rpn.head.cls_logits.bias.data[0] = float("nan")
    assert "nan" in one_line(check_parts, network, open_sessions(artefact, Threads(1)))


def test_a_folder_says_what_it_is_made_of_and_is_a_detector_by_itself(tmp_path):
    _, folder = copy_of(tmp_path)
    artefact = read_people_artefact(folder)
    assert artefact.weights == hash_weights(open_for_export(place("small")).network.state_dict())
    assert artefact.facts.classes == ("person",) and artefact.maps == {"0": 8}
    shutil.move(folder, tmp_path / "alone")
    plain, _ = pair("openvino", "small")
    for path in (tmp_path / "alone", tmp_path / "alone/features.xml"):
        alone = load_people_detector(path, score_floor=FLOOR)
        assert alone.best_score == 0.4 and alone.sides_px == plain.sides_px
    image = frame(70, 90)
    assert_alike(alone.detect([image])[0], plain.detect([image])[0], image)


def test_it_is_exported_once_and_kept_until_the_weights_change(tmp_path, monkeypatch):
    run, folder = copy_of(tmp_path)
    made, notes = [], []
    export = exported_module.export_people
    monkeypatch.setattr(exported_module, "export_people", lambda *a: made.append(a) or export(*a))
    choice = RuntimeChoice("openvino", on_note=notes.append)
    load_people_detector(run, runtime=choice)
    assert not made and not notes
    content = (folder / "boxes.bin").read_bytes()
    (folder / "boxes.bin").write_bytes(content[:-4])
    load_people_detector(run, runtime=choice)
    assert len(made) == 1 and "boxes.bin: changed since it was exported" in notes[0]
    assert (folder / "boxes.bin").read_bytes() == content
    save_tiny_people(run / "checkpoints/last.pt", seed=5)
    changed = load_people_detector(run, score_floor=FLOOR, runtime=choice)
    plain = load_people_detector(run, score_floor=FLOOR)
    image = frame(64, 96)
    assert len(made) == 2
    assert_alike(changed.detect([image])[0], plain.detect([image])[0], image)


def test_weights_in_no_run_keep_their_export_beside_them(tmp_path):
    need("openvino")
    path = save_tiny_people(tmp_path / "people.pt")
    load_people_detector(path, runtime=RuntimeChoice("openvino"))
    assert (tmp_path / "people_exported/openvino/artefact.json").is_file()


def test_where_nothing_can_be_written_it_is_exported_for_this_time(tmp_path, monkeypatch):
    need("openvino")
    path = save_tiny_people(tmp_path / "people.pt")

    def refuse(*_, **__):
        raise CannotWriteError("exported: cannot be written (Read-only file system)")

    monkeypatch.setattr(kept, "only_writer", refuse)
    notes = []
    choice = RuntimeChoice("openvino", on_note=notes.append)
    detector = load_people_detector(path, score_floor=FLOOR, runtime=choice)
    assert len(detector.detect([frame(64, 96)])[0]) and "for this time alone" in notes[-1]
    assert [each.name for each in tmp_path.iterdir()] == ["people.pt"]


def test_changed_files_and_other_weights_are_refused(tmp_path):
    run, folder = copy_of(tmp_path)
    save_tiny_people(run / "checkpoints/last.pt", seed=5)
    assert "other weights than" in one_line(load_people_detector, folder)
    path = folder / "artefact.json"
    text = path.read_text()
    for change in (text.replace('"0": 8', '"0": 4'), text.replace("person", "pigeon")):
        path.write_text(change)
        assert "changed since it was exported" in one_line(load_people_detector, folder)
    path.write_text(text)
    (folder / "features.xml").unlink()
    assert "features.xml: cannot be read" in one_line(load_people_detector, folder)


def test_exports_of_actions_and_people_are_not_mistaken(tmp_path):
    _, folder = copy_of(tmp_path)
    assert "a people detector, an action network is required" in one_line(read_artefact, folder)
    _, actions = exported_actions("torch")
    said = one_line(load_people_detector, actions.folder)
    assert "an action network, a people detector is required" in said
    assert run_beside(folder) == tmp_path / "run"


def test_what_a_runtime_cannot_is_one_line(tmp_path, monkeypatch):
    _, folder = copy_of(tmp_path)
    opened = open_for_export(place("small"))
    said = one_line(export_people, opened.network, opened.facts, tmp_path / "x", "torch")
    assert "PyTorch runs the checkpoint itself" in said
    for asked in ("torch", "onnxruntime"):
        said = one_line(load_people_detector, folder, runtime=RuntimeChoice(asked))
        assert f"exported for openvino, {asked} cannot run it" in said
    assert "a 'small' network" in one_line(load_people_detector, folder, network="mobile")
    said = one_line(
        load_people_detector, place("small"), device="cuda", runtime=RuntimeChoice("openvino")
    )
    assert "on a CPU here" in said
    monkeypatch.setitem(sys.modules, "openvino", None)
    said = one_line(load_people_detector, place("small"), runtime=RuntimeChoice("openvino"))
    assert "openvino is not installed" in said and "pip install" in said


def test_pytorch_goes_on_where_it_may_and_says_so(monkeypatch):
    need("openvino")

    def fails(*_, **__):
        raise UserError("openvino cannot convert the network (odd operator)")

    monkeypatch.setattr(exported_module, "open_people_beside", fails)
    notes = []
    choice = RuntimeChoice("openvino", may_fall_back=True, on_note=notes.append)
    detector = load_people_detector(place("small"), score_floor=FLOOR, runtime=choice)
    assert detector.runtime == "torch" and len(detector.detect([frame(64, 96)])[0])
    assert notes == ["openvino cannot convert the network (odd operator); PyTorch finds people"]
    asked = RuntimeChoice("openvino")
    assert "odd operator" in one_line(load_people_detector, place("small"), runtime=asked)


def test_a_description_without_a_program_or_classes_is_refused(tmp_path):
    from detection.export.artefact import write_signed

    _, folder = copy_of(tmp_path)
    content = json.loads((folder / "artefact.json").read_text())
    del content["sha256"]
    files = dict(content["files"])
    del files["boxes.xml"]
    for change, words in (
        ({"files": files}, "names no boxes.xml"),
        ({"classes": []}, "no classes and maps"),
        ({"maps": {}}, "no classes and maps"),
        ({"maps": {"0": 0}}, "maps.0"),
        ({"network": {**content["network"], "name": "resnet18"}}, "network.name"),
        ({"form": "tensorrt"}, "form"),
    ):
        write_signed(folder, {**content, **change})
        assert words in one_line(read_people_artefact, folder), change


def test_the_order_of_maps_is_the_networks():
    network = tiny_people("mobile_320")
    expected = network.backbone(torch.zeros(1, 3, 64, 64))
    assert isinstance(expected, OrderedDict)
    _, by_runtime = pair("openvino", "mobile_320")
    found = by_runtime.network.backbone(torch.zeros(1, 3, 64, 64))
    assert list(found) == list(expected)
    assert [each.shape for each in found.values()] == [each.shape for each in expected.values()]
