"""Model folders by name on the Hub: names, what is fetched, and what is said without a network."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from fake_hub import install
from tiny_pipeline import save_tiny_classifier, save_tiny_run

from detection import from_pretrained, load_network, save_pretrained
from detection.checkpoints.file import read_model_file
from detection.checkpoints.huggingface import (
    check_push_name,
    fetch_repository,
    is_repository_name,
    local_source,
    push_folder,
)
from detection.checkpoints.load import load_pretrained
from detection.checkpoints.network_file import read_network_file
from detection.errors import UserError


@pytest.fixture
def hub(monkeypatch, tmp_path):
    return install(monkeypatch, tmp_path / "hub")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("model")
    return save_pretrained(save_tiny_classifier(place / "run"), place / "model")


def test_what_is_pushed_comes_back_the_same(hub, folder, tmp_path):
    assert push_folder(folder, "user/tiny-x3d") == "https://hub.example/user/tiny-x3d"
    remote = hub.root / "user" / "tiny-x3d"
    assert sorted(p.name for p in remote.iterdir()) == sorted(p.name for p in folder.iterdir())
    (remote / "code.py").write_text("raise SystemExit")
    for source in ("user/tiny-x3d", "hub:user/tiny-x3d", "hub:user/tiny-x3d@v1.0"):
        file, own = from_pretrained(source), read_model_file(folder)
        assert not (Path(file.path).parent / "code.py").exists()
        assert file.classes == own.classes and file.sampling == own.sampling
        assert all(torch.equal(file.state[name], own.state[name]) for name in own.state)
    assert hub.calls[-1] == ("download", "user/tiny-x3d", "v1.0")
    network = load_network(read_network_file("hub:user/tiny-x3d"))
    with torch.no_grad():
        network.head.classes.weight.zero_()
    load_pretrained(network, "hub:user/tiny-x3d")
    assert torch.equal(network.head.classes.weight, own.state["head.classes.weight"])


def test_only_what_the_sums_name_is_uploaded(hub, folder, tmp_path):
    extra = folder / "notes_of_mine.txt"
    extra.write_text("private")
    try:
        push_folder(folder, "user/model")
    finally:
        extra.unlink()
    assert not (hub.root / "user" / "model" / extra.name).exists()


def test_without_a_network_the_address_and_the_place_are_named(hub, folder):
    hub.down = True
    with pytest.raises(UserError) as caught:
        from_pretrained("user/model")
    said = str(caught.value)
    assert "https://hub.example/user/model" in said and hub.constants.HF_HUB_CACHE in said
    assert "Cannot reach the server)" in said and "\n" not in said
    with pytest.raises(UserError, match="cannot be uploaded .*https://hub.example/user/model"):
        push_folder(folder, "user/model")


def test_without_the_package_it_is_said_how_to_get_it(monkeypatch, folder):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match=r"user/model: .*x3d-action-detection\[hub\]"):
        from_pretrained("user/model")
    assert from_pretrained(folder).classes is not None  # a folder needs no package


@pytest.mark.parametrize(
    "name",
    ["", "model", "user/", "/model", "user/a/b", "../model", "user/..", "user/.git", "user/a--b",
     "user/model.git", "user/mo del", "user/model\n", "-u/model", f"user/{'m' * 97}", "user/model@",
     "user/model@-x", "https://hub.example/user/model"],
)  # fmt: skip
def test_a_name_of_another_form_is_refused_before_anything_is_fetched(name, hub):
    assert not is_repository_name(name)
    with pytest.raises(UserError, match="user/name is required"):
        fetch_repository(name)
    with pytest.raises(UserError):
        local_source(f"hub:{name}")
    assert not hub.calls


def test_a_push_names_no_revision(hub):
    assert check_push_name("user/model") == "user/model"
    with pytest.raises(UserError, match="names a revision"):
        check_push_name("user/model@main")


def test_a_path_is_never_looked_for_on_the_hub_by_commands(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_tiny_run(tmp_path / "runs" / "mine")
    for source in ("runs/mine", "runs/absent"):
        assert local_source(source) == source
    with pytest.raises(UserError, match="runs/mine: no model folder"):
        from_pretrained("runs/mine")  # a path wins over a name
    assert not hub.calls
    with pytest.raises(UserError, match="runs/absent"):
        read_network_file("runs/absent")
    assert not hub.calls
