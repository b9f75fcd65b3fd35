"""`python -m ava_tools.convert`, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ava_tools import convert, inspect_model
from ava_tools.cli import run_command
from detection.checkpoints.file import (
    read_model_file,
    save_model_file,
)
from detection.checkpoints.load import describe_network, load_network
from detection.checkpoints.weights import recognise, to_their_names
from detection.errors import UserError
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription, build_classifier
from detection.models.x3d import VARIANTS
from detection.structures import ClipSampling, LabelMap

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An X2D in SlowFast's form with norms that are no identities."""
    torch.manual_seed(0)
    network = build_classifier(VARIANTS["x2d"], HeadDescription(6))
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                random = torch.rand(value.shape)
                value.copy_(random + 0.5 if "var" in name else (random - 0.5) * 0.2)
    path = tmp_path_factory.mktemp("theirs") / "x2d.pyth"
    content = {"model_state": to_their_names(network.state_dict(), "slowfast"), "epoch": 3}
    torch.save(content, path)
    return path


@pytest.mark.parametrize("form", ["safetensors", "own", "slowfast", "pytorchvideo", "mmaction2"])
def test_every_form_gives_the_same_answers(form: str, theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "converted"
    assert convert.main(["--checkpoint", str(theirs), "--to", form, "--out", str(out)]) == 0
    file = read_model_file(out)
    assert file.naming == ("own" if form == "safetensors" else form)
    before, after = load_network(read_model_file(theirs)), load_network(file)
    frames = torch.randint(0, 256, (2, 3, 1, 112, 128), dtype=torch.uint8)
    with torch.no_grad():
        expected, found = before.position_logits(frames), after.position_logits(frames)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_slowfast_to_slowfast_changes_no_bit(theirs: Path, tmp_path: Path) -> None:
    out = tmp_path / "again.pyth"
    convert.main(["--checkpoint", str(theirs), "--to", "slowfast", "--out", str(out)])
    first = torch.load(theirs, weights_only=True)["model_state"]
    second = torch.load(out, weights_only=True)["model_state"]
    assert first.keys() == second.keys()
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert recognise(second) == "slowfast"


def test_safetensors_keep_all_that_a_run_needs(tmp_path: Path) -> None:
    detector = build_detector(VARIANTS["x2d"], ActorHeadDescription(2), res5_stride=1)
    classes = LabelMap(("sit", "stand"), (11, 12), ("PERSON_MOVEMENT",) * 2)
    sampling = ClipSampling(1, 1)
    save_model_file(
        tmp_path / "a.pt",
        detector.state_dict(),
        network=describe_network(detector),
        classes=classes,
        sampling=sampling,
        short_side_px=128,
        config={"seed": 3},
    )
    out = tmp_path / "a.safetensors"
    convert.main(["--checkpoint", str(tmp_path / "a.pt"), "--out", str(out)])
    file = read_model_file(out)
    assert (file.classes, file.sampling, file.config) == (classes, sampling, {"seed": 3})
    assert (file.short_side_px, file.network) == (128, describe_network(detector))
    assert load_network(file).trunk.res5_stride == 1


def test_what_another_form_cannot_hold_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    detector = build_detector(
        VARIANTS["x2d"], ActorHeadDescription(2, context="frame", exclusive=True)
    )
    save_model_file(
        tmp_path / "a.pt",
        detector.state_dict(),
        network=describe_network(detector),
        classes=LabelMap(("sit", "stand"), (11, 12)),
        sampling=ClipSampling(8, 2.5, "inside"),
        short_side_px=128,
    )
    usual = ["--checkpoint", str(tmp_path / "a.pt"), "--out", str(tmp_path / "b")]
    convert.main([*usual, "--to", "own"])
    assert "note" not in capsys.readouterr().out
    convert.main([*usual, "--to", "slowfast"])
    assert capsys.readouterr().out.splitlines()[0] == (
        "note: slowfast's form holds weights alone; left out: context=frame, exclusive=True, "
        "sampling (8 frames, step 2.5, short side 128, inside the video), 2 class names"
    )


def test_class_names_come_from_a_map(theirs: Path, tmp_path: Path) -> None:
    names = tmp_path / "kinetics.json"
    for content in ({f"c{i}": i for i in range(6)}, {str(i): f"c{i}" for i in range(6)}):
        names.write_text(json.dumps(content))
        out = tmp_path / "a.pt"
        convert.main(
            [
                "--checkpoint",
                str(theirs),
                "--to",
                "own",
                "--label-map",
                str(names),
                "--out",
                str(out),
            ]
        )
        classes = read_model_file(out).classes
        assert classes is not None and classes.names == ("c0", "c1", "c2", "c3", "c4", "c5")


class Malicious:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def test_bad_input_ends_with_one_line_and_two(
    theirs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A map that does not fit, a malicious file, a text, by the way out that every command has."""
    small = tmp_path / "small.json"
    small.write_text('{"a": 0, "b": 1}')
    evil = tmp_path / "evil.pth"
    torch.save({"model_state": {}, "x": Malicious(tmp_path / "executed")}, evil)
    text = tmp_path / "text.pth"
    text.write_text("weights, honestly")
    out = tmp_path / "out.pt"
    write = ("--to", "own", "--out", out)
    for main, arguments, says in (
        (convert.main, ("--checkpoint", theirs, "--label-map", small, *write), "2 classes, the"),
        (convert.main, ("--checkpoint", evil, *write), "refused"),
        (convert.main, ("--checkpoint", text, *write), "not a checkpoint"),
        (convert.main, ("--checkpoint", tmp_path / "none", *write), "not found"),
        (inspect_model.main, ("--checkpoint", evil), "refused"),
    ):
        monkeypatch.setattr(sys, "argv", ["command", *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            run_command(main)
        said = capsys.readouterr()
        assert caught.value.code == 2
        assert said.out == ""
        assert said.err.startswith("error: ") and said.err.count("\n") == 1
        assert says in said.err
    assert not out.exists() and not (tmp_path / "executed").exists()


def test_the_commands_process_ends_with_two(tmp_path: Path) -> None:
    evil = tmp_path / "evil.pth"
    torch.save({"model_state": {}, "x": Malicious(tmp_path / "executed")}, evil)
    command = [sys.executable, "-m", "ava_tools.inspect_model", "--checkpoint", str(evil)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert not (tmp_path / "executed").exists()


def test_other_bad_input_is_an_error_of_the_user(theirs: Path, tmp_path: Path) -> None:
    from detection.errors import UserError

    for content in ('{"a": 0, "b": 2}', "[1]", "{", '{"a": "x"}'):
        bad = tmp_path / "bad.json"
        bad.write_text(content)
        with pytest.raises(UserError, match="bad.json"):
            convert.main(
                ["--checkpoint", str(theirs), "--label-map", str(bad), "--out", str(tmp_path / "o")]
            )
    resnet = tmp_path / "resnet.pth"
    torch.save({"conv1.weight": torch.zeros(64, 3, 7, 7)}, resnet)
    for command in (convert.main, inspect_model.main):
        extra = ["--out", str(tmp_path / "o")] if command is convert.main else []
        with pytest.raises(UserError, match="not an X3D network"):
            command(["--checkpoint", str(resnet), *extra])
    assert not (tmp_path / "o").exists()


def test_help_shows_an_example_without_loading_torch() -> None:
    code = (
        "import sys; from ava_tools import convert, inspect_model\n"
        "for tool in (convert, inspect_model):\n"
        "    try: tool.main(['--help'])\n"
        "    except SystemExit: pass\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("examples:") == 2


def test_weights_left_over_have_a_door(theirs: Path, tmp_path: Path) -> None:
    from detection.errors import UserError

    content = torch.load(theirs, weights_only=True)
    content["model_state"]["neck.weight"] = torch.zeros(3)
    torch.save(content, tmp_path / "more.pyth")
    arguments = ["--checkpoint", str(tmp_path / "more.pyth"), "--out", str(tmp_path / "o")]
    with pytest.raises(UserError, match=r"neck\.weight .*--allow-unused of convert"):
        convert.main(arguments)
    assert convert.main([*arguments, "--allow-unused"]) == 0
    inspect_model.main([*arguments[:2], "--allow-unused", "--no-timing"])


def test_outputs_that_are_no_plain_files(theirs: Path, tmp_path: Path) -> None:
    from detection.errors import UserError

    real = tmp_path / "real.pt"
    link = tmp_path / "link.pt"
    link.symlink_to(real)
    for form in ("own", "safetensors", "slowfast"):
        given = ["--checkpoint", str(theirs), "--to", form, "--out"]
        assert convert.main([*given, "/dev/null"]) == 0
        assert not Path("/dev/null").is_file()
        convert.main([*given, str(link)])
        assert link.is_symlink() and read_model_file(real).state
        for out in (tmp_path, tmp_path / ("x" * 300)):
            with pytest.raises(UserError, match="cannot be written") as caught:
                convert.main([*given, str(out)])
            assert "\n" not in str(caught.value)


def test_lists_of_classes_that_are_hostile(theirs: Path, tmp_path: Path) -> None:
    from detection.errors import UserError

    bad = tmp_path / "bad.json"
    for content in (b"\xff\xfe{", b"[" * 100_000, b'{"a": 1e999}', b'{"a": null}', b'{"a": [0]}'):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"bad\.json") as caught:
            convert.main(
                ["--checkpoint", str(theirs), "--label-map", str(bad), "--out", str(tmp_path / "o")]
            )
        assert "\n" not in str(caught.value)


def test_a_run_folder_stands_for_its_last_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As for every command; an empty folder and one without a checkpoint are named."""
    run = tmp_path / "runs" / "mine_x3d_xs"
    (run / "checkpoints").mkdir(parents=True)
    labels = LabelMap(("sit", "stand"), (1, 2))
    for name, classes in (("best.pt", 80), ("last.pt", 2)):
        model = build_detector(VARIANTS["xs"], ActorHeadDescription(classes))
        save_model_file(
            run / "checkpoints" / name,
            model.state_dict(),
            network=describe_network(model),
            classes=labels if classes == 2 else None,
            sampling=ClipSampling(4, 3.0),
            short_side_px=96,
        )
    out = tmp_path / "out.pt"
    assert convert.main(["--checkpoint", str(run), "--to", "own", "--out", str(out)]) == 0
    converted = read_model_file(out)
    assert converted.classes == labels and converted.short_side_px == 96
    capsys.readouterr()
    shown = []
    for path in (run, run / "checkpoints" / "last.pt"):
        assert inspect_model.main(["--checkpoint", str(path), "--no-timing", "--json"]) == 0
        shown.append(json.loads(capsys.readouterr().out))
    assert shown[0] == shown[1] and (shown[0]["frames"], shown[0]["size_px"]) == (4, 96)
    for command, more in ((inspect_model.main, ()), (convert.main, ("--out", str(tmp_path / "o")))):
        for folder in (tmp_path, run / "checkpoints"):
            with pytest.raises(UserError, match="no checkpoints/last.pt in this folder, it is not"):
                command(["--checkpoint", str(folder), *more])
    assert not (tmp_path / "o").exists()
