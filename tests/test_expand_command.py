"""The command: a real search on tiny data, the replay, and what users get wrong."""

from __future__ import annotations

import contextlib
import io
import json

import pytest
import torch
import yaml
from tiny_data import make_dataset

from ava_tools import expand
from detection.checkpoints.file import read_model_file
from detection.errors import UserError
from detection.expansion.inherit import copy_shared

SEARCH = {
    "target": 0.35,
    "cost": "macs",
    "axes": ["frames", "depth"],
    "start_from_parent": True,
    "basis": {"crop_px": 32, "width_factor": 0.5, "step": 6},
    "training": {
        "data": {"root": "", "val_boxes": "ground-truth"},
        "optim": {"epochs": 1, "batch_size": 5, "optimizer": "adamw", "lr": 0.001},
        "model": {"head_width": 16, "dropout": 0.0},
        "evaluation": {"every_epochs": 100},
        "workers": 0,
    },
}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_dataset(tmp_path_factory.mktemp("data") / "tiny", train=2, val=1)


@pytest.fixture(scope="module")
def finished(tmp_path_factory, data):
    """A search that ran to its end: a basis, one candidate, its contraction."""
    folder = tmp_path_factory.mktemp("expand")
    config = write(folder, data)
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert expand.main(["--cfg", str(config)]) == 0
    return folder, config, said.getvalue()


def write(folder, data, **changes):
    values = json.loads(json.dumps(SEARCH)) | changes
    values["training"]["data"]["root"] = str(data)
    values["output"] = str(folder / "search")
    path = folder / "expand_tiny.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def test_it_finds_a_network_below_the_target_and_writes_all(finished):
    folder, _, said = finished
    search = folder / "search"
    values = json.loads((search / "search.json").read_text())
    assert values["score"] == "frame-mAP"
    assert [step["number"] for step in values["steps"]][:2] == [0, 1]
    last = values["steps"][-1]
    assert last["candidates"][last["chosen"]]["cost"] <= 0.35
    assert last["contraction"]
    assert all(one["failure"] is None for step in values["steps"] for one in step["candidates"])
    (frames,) = values["steps"][1]["left_out"]  # two frames could only be taken back to one
    assert frames["axis"] == "frames"
    assert "contracted" in frames["reason"]
    for name in ("search.html", "search.png", "search.csv", "chosen.yaml", "search.yaml"):
        assert (search / name).stat().st_size > 0
    assert "data: made up" in said
    assert "step 1" in said


def test_train_ava_takes_the_network_as_it_is(finished):
    from detection.config import load_config

    folder, _, _ = finished
    config = load_config(folder / "search" / "chosen.yaml")
    values = json.loads((folder / "search" / "search.json").read_text())
    last = values["steps"][-1]
    name = last["candidates"][last["chosen"]]["network"]
    assert name.startswith(f"{config.clip.num_frames}x{config.clip.step:.6g}_32px")


def test_candidates_started_from_their_parent(finished):
    folder, _, _ = finished
    starts = sorted((folder / "search" / "candidates").rglob("initial.pt"))
    assert starts
    child = read_model_file(starts[0])
    basis = next((folder / "search" / "candidates").glob("1x6_*_w0.5_*"))
    parent = read_model_file(basis / "seed0" / "run" / "checkpoints" / "last.pt")
    name = "head.classes.weight"
    rows, columns = parent.state[name].shape
    assert torch.equal(child.state[name][:rows, :columns], parent.state[name])


def test_the_same_command_again_repeats_nothing(finished, capsys):
    folder, config, _ = finished
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("last.pt")}
    assert expand.main(["--cfg", str(config)]) == 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("last.pt")} == before
    assert "chosen" in capsys.readouterr().out


def test_a_folder_of_another_search_is_refused_with_the_differences(finished):
    folder, config, _ = finished
    costs = (folder / "search" / "costs.json").read_bytes()
    with pytest.raises(UserError, match=r"optim.lr: 0.001 there, 0.5 here; factor: 2.0 there"):
        expand.main(["--cfg", str(config), "factor=1.8", "training.optim.lr=0.5"])
    with pytest.raises(UserError, match=r"basis.crop_px: 32 there, 36 here"):
        expand.main(["--cfg", str(config), "basis.crop_px=36"])
    assert (folder / "search" / "costs.json").read_bytes() == costs
    assert expand.main(["--cfg", str(config), "jobs=3"]) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"target": 0.0001}, "lies below the basis"),
        ({"axes": ["height"]}, "axes"),
        ({"axes": ["width", "width"]}, "twice"),
        ({"speed": 3}, "unknown option 'speed'"),
        ({"basis": {"crop_px": 32, "wdth_factor": 1}}, "did you mean 'basis.width_factor'"),
    ],
)
def test_bad_searches_end_in_one_line(tmp_path, data, changes, words):
    config = write(tmp_path, data, **changes)
    with pytest.raises(UserError, match=words):
        expand.main(["--cfg", str(config)])
    assert not (tmp_path / "search" / "search.yaml").exists()


def test_bad_training_options_are_named(tmp_path):
    config = write(tmp_path, tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"nowhere.*file not found"):
        expand.main(["--cfg", str(config)])
    with pytest.raises(UserError, match=r"training: unknown option 'optim.lrr'"):
        expand.main(["--cfg", str(config), "training.optim.lrr=1"])


def test_a_folder_with_other_files_is_refused(tmp_path, data):
    config = write(tmp_path, data)
    (tmp_path / "search").mkdir()
    (tmp_path / "search" / "thesis.txt").write_text("mine")
    with pytest.raises(UserError, match="holds files but no search"):
        expand.main(["--cfg", str(config)])
    assert (tmp_path / "search" / "thesis.txt").read_text() == "mine"


def test_shared_weights_are_the_first_rows_and_columns():
    grown, parent = torch.zeros(4, 3, 1), torch.arange(6.0).reshape(2, 3, 1)
    copy_shared(grown, parent)
    assert torch.equal(grown[:2], parent)
    assert grown[2:].abs().sum() == 0
    smaller = torch.zeros(1, 2, 1)
    copy_shared(smaller, parent)
    assert torch.equal(smaller, parent[:1, :2])
    with pytest.raises(ValueError, match="axes"):
        copy_shared(torch.zeros(2), parent)
