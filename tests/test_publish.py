"""`publish`: a folder others can use, its card, and where such a folder is taken."""

from __future__ import annotations

import html
import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from fake_hub import install
from tiny_data import make_dataset
from tiny_people import save_tiny_people
from tiny_pipeline import save_tiny_run, write_squares

import train_ava
from ava_tools import convert, detect_actions, inspect_model, learn_thresholds, publish, visualize
from detection import from_pretrained, save_pretrained
from detection.checkpoints.file import read_model_file, save_model_file
from detection.errors import UserError
from detection.publishing.card import escaped
from detection.structures import LabelMap

CFG = """
data: {root: ROOT}
device: cpu
workers: 0
clip: {num_frames: 4, step: 3, train_short_side_px: [64, 64], train_crop_px: 64,
       test_short_side_px: 64}
model: {variant: xs, width_factor: 1.0, depth_factor: 1.0, head_width: 16}
optim: {epochs: 1, batch_size: 4}
"""


def test_names_of_classes_stay_legible_where_they_are_no_markup():
    assert escaped("swing_baseball, cc-by-4.0") == "swing_baseball, cc-by-4.0"
    assert escaped("_a_b__c_") == "&#95;a_b&#95;&#95;c&#95;"
    assert escaped("www.x.de 1. 2") == "www&#46;x&#46;de 1&#46; 2"


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A run of one epoch, its people detector beside it, and the data set it is of."""
    place = tmp_path_factory.mktemp("trained")
    root = make_dataset(place / "tiny_data", train=2, val=2)
    (place / "cfg.yaml").write_text(CFG.replace("ROOT", str(root)))
    train_ava.main(["--cfg", str(place / "cfg.yaml"), f"output={place / 'run'}"])
    save_tiny_people(place / "run" / "people.pt", best_score=0.01)
    return place / "run"


@pytest.fixture(scope="module")
def made(trained, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("made") / "model"
    assert publish.main([str(trained), "--out", str(out), "--licence", "CC-BY-4.0"]) == 0
    return out


def card_of(folder: Path) -> tuple[dict, str]:
    """Return the metadata and the rest of a card."""
    _, front, text = (folder / "README.md").read_text(encoding="utf-8").split("---\n", 2)
    return yaml.safe_load(front), text


def test_the_card_says_what_the_run_measured(trained, made):
    metadata, text = card_of(made)
    assert metadata["license"] == "cc-by-4.0"
    assert metadata["library_name"] == "x3d-action-detection"
    metrics = json.loads((trained / "metrics.json").read_text())
    assert f"frame-mAP **{metrics['mean_ap']:.4f}** at IoU 0.5" in text
    for name, ap in metrics["per_class"].items():
        labels = metrics["num_ground_truth"][name]
        assert re.search(rf"^\| {name} \| \d \| {ap:.4f} \| {labels} \| ", text, re.MULTILINE)
    words = html.unescape(text)
    assert metrics["boxes"] in words and metrics["protocol"] in words
    assert "Data set: tiny (made up" in words and "trained on train, measured on val" in words
    assert "Licence of the data and the weights: CC-BY-4.0." in words
    assert "0.1 s apart" in words and "demonstration" in words
    block = re.search(r"```python\n(.*?)```", text, re.DOTALL)[1]
    compile(block, "card", "exec")
    assert block.count("\n") == 3 and "@inproceedings{feichtenhofer2020x3d" in text


def test_nothing_of_this_machine_is_in_it(trained, made, capsys):
    for path in made.rglob("*"):
        if path.is_file() and path.suffix != ".safetensors":
            assert str(trained.parent) not in path.read_text(), path
    assert from_pretrained(made).config["data"]["root"] == "tiny_data"
    assert read_model_file(trained).config["data"]["root"] == str(trained.parent / "tiny_data")


def test_what_was_not_measured_or_stated_is_not_said(trained, tmp_path, capsys):
    best = tmp_path / "best.pt"
    shutil.copy(trained / "checkpoints" / "last.pt", best)
    publish.main([str(best), "--out", str(tmp_path / "model")])
    metadata, text = card_of(tmp_path / "model")
    assert "license" not in metadata and "not stated by who published it" in text
    assert "Not measured" in text and "frame-mAP" not in text and "--people coco" in text
    assert "no people detector goes with it" in capsys.readouterr().err


def test_figures_are_of_the_weights_that_were_scored_alone(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(run / "checkpoints" / "last.pt", run / "checkpoints" / "best.pt")
    publish.main([str(run / "checkpoints" / "best.pt"), "--out", str(tmp_path / "model")])
    assert "Not measured" in card_of(tmp_path / "model")[1]


@pytest.mark.parametrize("damage", ["", "[1]", '{"mean_ap": NaN}', "{" * 10_000])
def test_damaged_figures_are_refused(damage, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "metrics.json").write_text(damage)
    with pytest.raises(UserError, match=re.escape(str(run / "metrics.json"))):
        save_pretrained(run, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_figures_of_another_kind_are_left_out(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    odd = {"mean_ap": "<b>", "per_class": [1], "boxes": {}, "protocol": 7, "other_boxes": [3, {}]}
    (run / "metrics.json").write_text(json.dumps(odd))
    text = card_of(save_pretrained(run, tmp_path / "model"))[1]
    assert "frame-mAP **-**" in text and "<b>" not in text


HOSTILE = (
    "<script>alert(1)</script>",
    "a | b | c",
    "[x](javascript:alert(1)) ![y](https://evil.example/z.png)",
    "`code` **bold** _it_ ~~no~~ # head",
    "https://evil.example www.evil.example @user",
    "\u202egnp\x1b[2J\nnext line",
    "---\nlicense: mit",
    "&lt;img src=x onerror=alert(1)&gt;",
)


def test_hostile_names_are_shown_as_they_are(trained, tmp_path):
    file = read_model_file(trained)
    names = (HOSTILE[0], HOSTILE[1], HOSTILE[2] + "x" * 1000)
    save_model_file(
        tmp_path / "evil.pt",
        file.state,
        network=file.network,
        classes=LabelMap(names, (1, 2, 3), None, {HOSTILE[3]: (0, 1)}),
        sampling=file.sampling,
        short_side_px=64,
        config={"data": {"root": "<b>data</b>|"}, "model": {"pretrained": "/home/me/<b>.pth"}},
    )
    publish.main([str(tmp_path / "evil.pt"), "--out", str(tmp_path / "m"), "--licence", HOSTILE[6]])
    metadata, text = card_of(tmp_path / "m")
    assert metadata["license"] == "other" and metadata["license_name"] == "--- license: mit"
    for mark in ("<", "](", "javascript:", "https://evil", "**bold", "a | b"):
        assert mark not in text, mark
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 5 and len({line.count("|") for line in rows}) == 1
    assert html.unescape(rows[2].split("|")[1].strip()) == HOSTILE[0]
    assert "Training started from <b>.pth." in html.unescape(text) and "/home/me" not in text


@pytest.mark.parametrize("name", HOSTILE)
def test_escaping_keeps_the_words_and_no_markup(name):
    text = escaped(name)
    assert re.fullmatch(r"(?:[\w ,-]|(?<=\d)\.(?=\d)|&#\d+;)*", text) and "\n" not in text
    assert not re.search(r"(?<![^\W_])_|_(?![^\W_])", text)  # it would be emphasis
    if name.isprintable():
        assert html.unescape(text) == name


def test_a_folder_of_something_else_is_kept(trained, made, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for out, words in (
        (tmp_path / "mine", "holds files but no model"),
        (trained, "holds files but no model"),
        (made, "--overwrite replaces it"),
        (made / "README.md", "no folder"),
    ):
        with pytest.raises(UserError, match=words):
            publish.main([str(trained), "--out", str(out)])
    with pytest.raises(UserError, match="holds files but no model"):
        publish.main([str(trained), "--out", str(tmp_path / "mine"), "--overwrite"])
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"


def test_overwriting_replaces_the_model_and_keeps_what_else_is_there(trained, made, tmp_path):
    out = shutil.copytree(made, tmp_path / "model")
    (out / ".git").mkdir()
    (out / "people" / "model.safetensors").write_bytes(b"old")
    publish.main([str(trained), "--out", str(out), "--overwrite", "--licence", "mine"])
    assert (out / ".git").is_dir() and from_pretrained(out).notes == ()
    assert from_pretrained(out / "people").best_score == 0.01
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model"]


def test_it_is_uploaded_where_asked(trained, tmp_path, monkeypatch, capsys):
    hub = install(monkeypatch, tmp_path / "hub")
    out = tmp_path / "model"
    with pytest.raises(UserError, match="user/name is required"):
        publish.main([str(trained), "--out", str(out), "--push", "no name"])
    assert not out.exists() and not hub.calls
    publish.main([str(trained), "--out", str(out), "--push", "user/model"])
    assert "uploaded: https://hub.example/user/model" in capsys.readouterr().out
    assert (hub.root / "user/model/people/model.safetensors").is_file()
    assert "--checkpoint hub:user/model" in card_of(out)[1]


def test_detect_actions_finds_the_same_with_it(trained, made, tmp_path, monkeypatch):
    hub = install(monkeypatch, tmp_path / "hub")
    shutil.copytree(made, hub.root / "user" / "model")
    video = write_squares(tmp_path / "video.mp4", seconds=1.5)
    found = []
    for number, source in enumerate((trained, made, "hub:user/model")):
        out = tmp_path / f"found{number}"
        plain = ["--no-film", "--no-page", "--quiet", "--runtime", "torch"]
        code = detect_actions.main(
            [str(video), "--checkpoint", str(source), "--out", str(out), *plain]
        )
        assert code == 0
        names = ("detections.csv", "tracks.jsonl", "events.jsonl")
        found.append([(out / name).read_bytes() for name in names])
    assert found[0] == found[1] == found[2] and len(found[0][0]) > 100


def test_it_is_scored_as_its_run_was(trained, made, tmp_path, capsys):
    root = f"data.root={trained.parent / 'tiny_data'}"
    with pytest.raises(UserError, match="output=FOLDER"):
        train_ava.main(["--eval-only", "--checkpoint", str(made), root])
    out = tmp_path / "scored"
    train_ava.main(["--eval-only", "--checkpoint", str(made), root, f"output={out}"])
    first, again = (json.loads((p / "metrics.json").read_text()) for p in (trained, out))
    assert first["per_class"] == again["per_class"]


def test_a_run_starts_from_it(trained, made, tmp_path):
    options = [f"model.pretrained={made}", f"output={tmp_path / 'next'}"]
    train_ava.main(["--cfg", str(trained.parent / "cfg.yaml"), *options])
    event = json.loads((tmp_path / "next" / "log.jsonl").read_text().splitlines()[0])
    log = (tmp_path / "next" / "log.jsonl").read_text()
    assert f"{made / 'config.json'}" in log and event


def test_other_commands_take_it(trained, made, tmp_path, capsys):
    assert inspect_model.main(["--checkpoint", str(made), "--no-timing"]) == 0
    assert "own names" in capsys.readouterr().out
    out = tmp_path / "back.pt"
    assert convert.main(["--checkpoint", str(made), "--to", "own", "--out", str(out)]) == 0
    before, after = read_model_file(trained), read_model_file(out)
    assert all(torch.equal(before.state[name], after.state[name]) for name in before.state)
    assert (before.thresholds is None) == (after.thresholds is None)
    with pytest.raises(UserError, match="--eval-only"):
        visualize.main(["--run", str(made)])
    with pytest.raises(UserError, match="learned in the run"):
        learn_thresholds.main(["--run", str(made)])


def test_relevance_follows_the_detector_into_the_folder(tmp_path):
    """It is known by the detector's file, which has another form in the folder."""
    import numpy as np

    from detection.files import sha256_of
    from detection.people.box_origin import origin_of_detector
    from detection.relevance import FEATURES, BoxOrigin, Relevance

    run = save_tiny_run(tmp_path / "run")
    people = save_tiny_people(run / "people.pt")
    file = read_model_file(run)
    for detector in (f"weights {sha256_of(people)}", "weights of another"):
        origin = BoxOrigin("det", detector)
        relevance = Relevance(FEATURES, np.ones(len(FEATURES)), 0.5, origin, 0.05, 9, 4, 2)
        save_model_file(
            run / "checkpoints" / "last.pt", file.state, network=file.network,
            classes=file.classes, sampling=file.sampling, short_side_px=64, relevance=relevance,
        )  # fmt: skip
        out = save_pretrained(run, tmp_path / f"model{len(detector)}")
        found = from_pretrained(out).relevance.origin.detector
        of_folder = origin_of_detector(out / "people", torch.device("cpu")).detector
        assert (found == of_folder) == (detector != "weights of another")
