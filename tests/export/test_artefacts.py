"""What an exported network's folder says, and what of it is refused, in one line each."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import pytest
import torch
from tiny_exports import LABELS, exported, need, save_run, tiny_network

from detection.checkpoints.file import save_model_file
from detection.checkpoints.load import describe_network, load_network
from detection.errors import UserError
from detection.export import kept, make, onnx_runtime, openvino_runtime
from detection.export.artefact import (
    FrameLimits,
    find_artefact,
    hash_weights,
    place_beside,
    read_artefact,
    run_beside,
)
from detection.export.make import export_network, open_beside
from detection.export.networks import open_exported
from detection.export.program import frame_limits
from detection.export.runtimes import choose_runtime
from detection.export.session import Threads
from detection.export.torch_program import check_program
from detection.files import CannotWriteError

CPU = torch.device("cpu")
FORMS = ("onnx", "openvino", "torch")


def copy_of(form, tmp_path, kind="plain"):
    """Return the folder of an export of one's own, in a run of its own."""
    _, artefact = exported(form, kind)
    shutil.copytree(run_beside(artefact.folder), tmp_path / "run")
    return tmp_path / "run" / "exported" / form


def one_line(call, *arguments, **options):
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_says_all_that_is_needed_to_run_it(form):
    network, artefact = exported(form)
    file = read_artefact(artefact.folder).file
    assert file.classes == LABELS and file.network == describe_network(network)
    assert (file.sampling.num_frames, file.short_side_px) == (4, 64)
    assert artefact.weights == hash_weights(network.state_dict())
    card = json.loads((artefact.folder / "card.json").read_text())
    assert card["rows"][0]["score_difference"] < 1e-4 and card["clips"] >= 5
    assert "torch" in card["versions"] and card["clips_from"] == "made-up"
    assert "| PyTorch, float32 |" in (artefact.folder / "card.md").read_text()
    for path in (artefact.folder, artefact.program, artefact.folder / "artefact.json"):
        assert find_artefact(path) == artefact.folder
    assert find_artefact(run_beside(artefact.folder)) is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("be red", "be mad"), "changed since it was exported"),
        (lambda text: text.replace('"num_frames": 4', '"num_frames": 5'), "changed since"),
        (lambda text: text[:100], "not JSON"),
        (lambda text: "[]", "not JSON of one object"),
        (lambda text: "{}", "not the description of an exported network"),
    ],
)
def test_a_changed_description_is_refused(tmp_path, change, message):
    folder = copy_of("torch", tmp_path)
    path = folder / "artefact.json"
    path.write_text(change(path.read_text()))
    assert message in one_line(read_artefact, folder)


@pytest.mark.parametrize("form", FORMS)
def test_a_changed_or_missing_program_is_refused(tmp_path, form):
    folder = copy_of(form, tmp_path)
    name = "network.bin" if form == "openvino" else read_artefact(folder).program.name
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    assert f"{name}: changed since it was exported" in one_line(read_artefact, folder)
    (folder / name).unlink()
    assert f"{name}: cannot be read" in one_line(read_artefact, folder)


def test_a_file_elsewhere_is_none_of_the_program(tmp_path):
    folder = copy_of("torch", tmp_path)
    path = folder / "artefact.json"
    content = json.loads(path.read_text())
    del content["sha256"]
    content["files"] = {"../../checkpoints/last.pt": "0" * 64}
    from detection.export.artefact import _digest

    path.write_text(json.dumps({**content, "sha256": _digest(content)}))
    assert "is no file beside it" in one_line(read_artefact, folder)


def test_an_export_of_other_weights_than_its_runs_is_refused(tmp_path):
    folder = copy_of("torch", tmp_path)
    read_artefact(folder)
    network = tiny_network("plain")
    with torch.no_grad():
        network.head.classes.bias[0] += 1e-3
    save_model_file(
        tmp_path / "run/checkpoints/last.pt",
        network.state_dict(),
        network=describe_network(network),
        classes=LABELS,
        sampling=None,
    )
    assert "other weights than" in one_line(read_artefact, folder)
    shutil.move(folder, tmp_path / "elsewhere")
    assert read_artefact(tmp_path / "elsewhere").form == "torch"


@pytest.mark.parametrize("form", FORMS)
def test_frames_outside_what_was_exported_are_refused(form):
    _, artefact = exported(form)
    program = open_exported(artefact, threads=Threads(1))
    nobody = torch.zeros(0, 5)
    said = one_line(program, torch.zeros(1, 3, 5, 64, 64).byte(), nobody)
    assert "5 frames of 64 x 64 px" in said and "4 frames with sides of at least 1 px" in said
    assert "(B, 3, T, H, W)" in one_line(program, torch.zeros(3, 4, 64, 64).byte(), nobody)
    with pytest.raises(TypeError, match="uint8"):
        program(torch.zeros(1, 3, 4, 64, 64), nobody)


def test_limits_of_frames():
    classifier = tiny_network("classifier")
    slides = frame_limits(classifier, num_frames=8, short_side_px=64)
    assert slides == FrameLimits(4, longer=True, least_side_px=33)
    slides.check((1, 3, 9, 33, 70), "x")
    for shape in ((1, 3, 3, 64, 64), (1, 3, 4, 32, 64), (1, 3, 4, 64, 32)):
        assert "33 px" in one_line(slides.check, shape, "x")
    small = frame_limits(classifier, num_frames=2, short_side_px=32)
    assert small == FrameLimits(2, least_side_px=32, side_px=32)
    small.check((1, 3, 2, 32, 32), "x")
    assert "32 x 32 px are" in one_line(small.check, (1, 3, 2, 32, 33), "x")


def test_a_classifier_of_clips_smaller_than_its_window_is_exported(tmp_path):
    need("openvino")
    file = save_run(tmp_path / "run", "classifier", short_side_px=32)
    artefact = export_network(file, tmp_path / "out", "openvino")
    frames = torch.randint(0, 256, (2, 3, 4, 32, 32)).byte()
    program = open_exported(artefact, threads=Threads(1))
    with torch.inference_mode():
        expected = load_network(file)(frames)
    assert torch.allclose(program(frames), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("runtime", "package", "words"),
    [
        ("openvino", "openvino", "pip install openvino"),
        ("onnxruntime", "onnxruntime", "pip install onnx onnxscript onnxruntime"),
    ],
)
def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch, runtime, package, words):
    monkeypatch.setitem(sys.modules, package, None)
    said = one_line(choose_runtime, runtime, CPU)
    assert f"{runtime} is not installed" in said and words in said


def test_auto_takes_openvino_where_it_is_installed_and_the_device_is_a_cpu(monkeypatch):
    monkeypatch.setattr("detection.export.runtimes.find_spec", lambda name: None)
    assert choose_runtime("auto", CPU) == ("torch", "openvino is not installed")
    monkeypatch.setattr("detection.export.runtimes.find_spec", lambda name: SimpleNamespace())
    assert choose_runtime("auto", torch.device("cuda"))[0] == "torch"
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(__version__="1.0"))
    assert choose_runtime("auto", CPU)[0] == "openvino"
    assert choose_runtime("torch", CPU) == ("torch", "")
    said = one_line(choose_runtime, "openvino", torch.device("cuda", 0))
    assert "on a CPU here, the device is cuda:0" in said
    assert "'tensorrt'" in one_line(choose_runtime, "tensorrt", CPU)


def test_an_export_runs_by_its_own_runtime_alone():
    _, artefact = exported("torch")
    assert choose_runtime("auto", CPU, artefact=artefact)[0] == "torch"
    said = one_line(choose_runtime, "openvino", CPU, artefact=artefact)
    assert "exported for torch, openvino cannot run it" in said


@pytest.mark.parametrize("form", ["onnx", "torch"])
def test_bfloat16_is_openvinos_alone(form):
    _, artefact = exported(form)
    said = one_line(open_exported, artefact, threads=Threads(1), precision="bf16")
    assert "float32" in said and "--no-half" in said


class Odd(torch.nn.Module):
    def forward(self, frames):
        return torch.linalg.eigvals(frames.float())


@pytest.mark.parametrize(
    ("form", "write", "words"),
    [
        ("onnx", onnx_runtime.write_onnx, "ONNX cannot hold the network"),
        ("openvino", openvino_runtime.write_openvino, "openvino cannot convert the network"),
    ],
)
def test_an_operator_that_a_runtime_lacks_is_named(tmp_path, form, write, words):
    need(form)
    program = torch.export.export(Odd(), (torch.eye(3),))
    said = one_line(write, program, tmp_path)
    assert words in said and "aten.linalg_eig" in said


def test_a_program_that_gives_other_scores_is_not_kept(tmp_path, monkeypatch):
    file = save_run(tmp_path / "run")
    other = tiny_network("plain")
    with torch.no_grad():
        other.head.classes.weight.mul_(2)
    trace = make.trace
    monkeypatch.setattr(make, "trace", lambda network, **sizes: trace(other, **sizes))
    said = one_line(export_network, file, tmp_path / "out", "torch")
    assert "scores are up to" in said and not (tmp_path / "out").exists()


def test_a_hostile_program_of_pytorch_is_not_opened(tmp_path):
    _, artefact = exported("torch")
    check_program(artefact.program)
    hostile = tmp_path / "network.pt2"

    def rewrite(change):
        with zipfile.ZipFile(artefact.program) as old, zipfile.ZipFile(hostile, "w") as new:
            for name in old.namelist():
                new.writestr(name, change(name, old.read(name)))

    def load_file(name, content):
        wanted = b'"torch.ops.aten.relu.default"'
        return content.replace(wanted, b'"torch.load"') if name.endswith("model.json") else content

    rewrite(load_file)
    assert "refused" in one_line(check_program, hostile)
    unpickled = b'"use_pickle": true'
    rewrite(lambda name, content: content.replace(b'"use_pickle": false', unpickled))
    assert "refused" in one_line(check_program, hostile)


def test_a_network_is_exported_once_and_kept_until_its_weights_change(tmp_path, monkeypatch):
    file = save_run(tmp_path / "run")
    notes = []
    frames, boxes = torch.zeros(1, 3, 4, 64, 64).byte(), torch.tensor([[0, 4, 4, 50, 50.0]])
    first = open_beside(file, "torch", threads=Threads(1), on_note=notes.append)
    assert (tmp_path / "run/exported/torch/artefact.json").is_file() and len(notes) == 2
    made = []
    export = make.export_network
    monkeypatch.setattr(make, "export_network", lambda *a: made.append(a) or export(*a))
    again = open_beside(file, "torch", threads=Threads(1), on_note=notes.append)
    assert len(notes) == 2 and not made
    assert torch.equal(first(frames, boxes), again(frames, boxes))
    path = tmp_path / "run/exported/torch/network.pt2"
    path.write_bytes(path.read_bytes()[:-5])
    open_beside(file, "torch", threads=Threads(1), on_note=notes.append)
    assert len(made) == 1 and any("changed since it was exported" in note for note in notes)
    file.state["head.classes.bias"][1] += 2
    changed = open_beside(file, "torch", threads=Threads(1), on_note=notes.append)
    assert len(made) == 2 and (changed(frames, boxes) - first(frames, boxes))[0, 1] > 1.9


def test_where_nothing_can_be_written_it_is_exported_for_this_time(tmp_path, monkeypatch):
    file = save_run(tmp_path / "run")

    def refuse(*_, **__):
        raise CannotWriteError("run/exported: cannot be written (Read-only file system)")

    monkeypatch.setattr(kept, "only_writer", refuse)
    notes = []
    program = open_beside(file, "torch", threads=Threads(1), on_note=notes.append)
    assert program(torch.zeros(1, 3, 4, 64, 64).byte(), torch.zeros(0, 5)).shape == (0, 3)
    assert "for this time alone" in notes[-1] and not (tmp_path / "run/exported").exists()


def test_places_beside_checkpoints(tmp_path):
    run = tmp_path / "run"
    assert place_beside(run / "checkpoints/last.pt", "onnx") == run / "exported/onnx"
    assert place_beside(run / "checkpoints/best.pt", "onnx") == run / "exported/best_onnx"
    assert place_beside(tmp_path / "x3d.pyth", "torch") == tmp_path / "x3d_exported/torch"


def test_openvino_sends_no_statistics():
    need("openvino")
    openvino_runtime.load_openvino()
    assert not any(name.startswith("openvino_telemetry") for name in sys.modules)


LET_GO = """
import os, signal, sys, threading
from pathlib import Path
from detection.export.openvino_runtime import OpenVinoSession, processor_has_bfloat16
from detection.export.session import Threads
processor_has_bfloat16()
held = [OpenVinoSession(Path(sys.argv[1]), threads=Threads(1), precision="f32")]
thread = threading.Thread(target=held.clear)
thread.start()
thread.join()
signal.signal(signal.SIGTERM, lambda *_: print("handled"))
os.kill(os.getpid(), signal.SIGTERM)
"""


def test_a_signal_is_survived_where_another_thread_let_openvino_go(tmp_path):
    need("openvino")
    export_network(save_run(tmp_path / "run"), tmp_path / "exported", "openvino")
    program = tmp_path / "exported" / "network.xml"
    done = subprocess.run(
        [sys.executable, "-c", LET_GO, str(program)], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr
