"""COCO's people weights: by name, fetched once and checked; any file's network told by its keys."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest
import torch
from misbehaving_server import Page, running_server
from torchvision.models.detection import fasterrcnn_resnet50_fpn

from detection.checkpoints import hub
from detection.errors import UserError
from detection.people import coco
from detection.people.base import person_threshold
from detection.people.coco import COCO_FILES, coco_network, is_coco, tell_network
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import (
    PeopleNetworkNumbers,
    load_people_detector,
    read_people_file,
    save_people_file,
    start_from_weights,
    write_best_score,
)
from detection.transfer.download import TransferRules


def by_a_rule(name, num_classes=90):
    network = build_people_network(name, num_classes=num_classes)
    with torch.no_grad():
        for value in network.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.linspace(0.001, 0.01, value.numel()).view_as(value))
    return network.state_dict()


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    path = tmp_path_factory.mktemp("mobile") / "weights.pth"
    torch.save(by_a_rule("mobile_320"), path)
    return path


@pytest.fixture
def server():
    with running_server() as running:
        yield running


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.delenv("http_proxy", raising=False)
    values = {"attempts": 2, "timeout_s": 5.0, "min_bytes_per_s": 0.0, "backoff_s": 0.01}

    def hasty(rules):
        for field in dataclasses.fields(TransferRules):
            object.__setattr__(rules, field.name, values.get(field.name, 0.01))

    monkeypatch.setattr(TransferRules, "__init__", hasty)
    return tmp_path / "hub" / "checkpoints"


def publish(monkeypatch, name, url, sha256):
    monkeypatch.setitem(COCO_FILES, name, hub.Published(url, name, sha256))


def test_the_files_are_torchvisions_and_their_names_tell_the_hash():
    assert {name: entry.sha256_prefix for name, entry in COCO_FILES.items()} == {
        "mobile_320": "907ea3f9",
        "mobile": "fb6a3cc7",
        "resnet50_v2": "dd69338a",
    }
    for entry in COCO_FILES.values():
        assert entry.url.startswith("https://download.pytorch.org/models/fasterrcnn_")


@pytest.mark.parametrize(
    ("weights", "network", "device", "name"),
    [
        ("coco", None, "cpu", "mobile_320"),
        ("coco", None, "cuda", "resnet50_v2"),
        ("coco", "mobile", "cuda", "mobile"),
        ("coco:mobile", None, "cpu", "mobile"),
        ("coco:resnet50_v2", "resnet50_v2", "cpu", "resnet50_v2"),
    ],
)
def test_which_network_coco_means(weights, network, device, name):
    assert is_coco(weights) and not is_coco("cocoa")
    assert coco_network(weights, network=network, device=device) == name


def test_coco_is_fetched_once_resumed_and_found_again(mobile, server, cache, monkeypatch, capsys):
    data = mobile.read_bytes()
    server.pages["m-320.pth"] = Page(data, faults=["cut"])
    digest = hashlib.sha256(data).hexdigest()
    publish(monkeypatch, "mobile_320", f"{server.url}/m-320.pth", digest[:8])
    detector = load_people_detector("coco")
    assert detector.name == "mobile_320 (coco)" and detector.actor_labels == (1,)
    assert person_threshold(detector) == detector.best_score == 0.5
    assert server.ranges_asked("m-320.pth") == [None, f"bytes={len(data) // 2}-"]
    assert (cache / "m-320.pth").read_bytes() == data
    assert f"{len(data) / 1e6:.1f} MB from {server.url}/m-320.pth to {cache}" in (
        capsys.readouterr().err
    )
    load_people_detector("coco:mobile_320")
    network = build_people_network("mobile_320", num_classes=1)
    start_from_weights(network, "mobile_320", "coco")
    assert len(server.ranges_asked("m-320.pth")) == 2
    with pytest.raises(UserError, match="another network than 'mobile_320' is named"):
        start_from_weights(network, "mobile_320", "coco:mobile")


def test_what_cannot_be_fetched_is_one_line(mobile, server, cache, monkeypatch, capsys):
    def refused():
        with pytest.raises(UserError) as caught:
            load_people_detector("coco")
        assert "\n" not in str(caught.value)
        return str(caught.value)

    for url in ("http://no-such-host.invalid/m-320.pth", f"{server.url}/m-320.pth"):
        publish(monkeypatch, "mobile_320", url, "907ea3f9")
        message = refused()
        for part in (url, str(cache / "m-320.pth"), "begins with 907ea3f9", "same command again"):
            assert part in message
        assert capsys.readouterr().err == "", "the line of the error is the only one"
    server.pages["m-320.pth"] = Page(mobile.read_bytes())
    assert "the publisher says 907ea3f9" in refused()
    assert not (cache / "m-320.pth").exists()
    cache.mkdir(parents=True, exist_ok=True)
    (cache / "m-320.pth").write_bytes(mobile.read_bytes()[:5000])
    assert "or not all of it" in refused()
    other = {"s1.pathway0_stem.conv_xy.weight": torch.zeros(24, 3, 1, 3, 3)}
    torch.save({"model_state": other}, cache / "m-320.pth")
    publish(monkeypatch, "mobile_320", f"{server.url}/m-320.pth", None)
    assert "not of torchvision's Faster R-CNN" in refused()


@pytest.mark.parametrize(
    ("file", "name", "noted"),
    [
        ("fasterrcnn_mobilenet_v3_large_320_fpn-907ea3f9.pth", "mobile_320", False),
        ("fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth", "mobile", False),
        ("people.pth", "mobile_320", True),
    ],
)
def test_mobile_networks_are_told_apart_by_the_files_name(mobile, tmp_path, file, name, noted):
    (tmp_path / file).symlink_to(mobile)
    detector = load_people_detector(tmp_path / file)
    assert detector.name.startswith(f"{name} (")
    assert detector.sides_px[0] == (320 if name == "mobile_320" else 800)
    assert bool(detector.notes) == noted
    assert load_people_detector(tmp_path / file, network="mobile").name.startswith("mobile (")


def test_a_renamed_file_is_known_by_its_hash(mobile, tmp_path, monkeypatch):
    (tmp_path / "people.pth").symlink_to(mobile)
    digest = hashlib.sha256(mobile.read_bytes()).hexdigest()
    publish(monkeypatch, "mobile", "https://example.org/x.pth", digest[:8])
    detector = load_people_detector(tmp_path / "people.pth")
    assert detector.name.startswith("mobile (") and detector.notes == ()


def test_resnet_is_told_by_its_keys_and_the_older_one_is_named():
    with torch.device("meta"):
        ours = build_people_network("resnet50_v2", num_classes=1).state_dict()
        older = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None).state_dict()
    assert tell_network("a.pth", ours) == ("resnet50_v2", ())
    with pytest.raises(UserError, match="not of 'mobile': of resnet50_v2"):
        tell_network("a.pth", ours, network="mobile")
    with pytest.raises(UserError, match="fasterrcnn_resnet50_fpn_v2 alone is known"):
        tell_network("a.pth", older)
    with pytest.raises(UserError, match="weights of another network"):
        tell_network("a.pth", {})


def test_every_coco_network_has_a_threshold():
    assert coco.COCO_SCORES.keys() == COCO_FILES.keys()


def test_the_threshold_of_a_checkpoint_is_its_detectors(tmp_path):
    path = tmp_path / "a.pt"
    torch.manual_seed(0)
    network = build_people_network("small", num_classes=1, short_side_px=64, long_side_px=96)
    numbers = PeopleNetworkNumbers("small", 64, 96)
    training = {"progress": {"epoch": 2}}
    save_people_file(path, network, numbers=numbers, classes=["person"], training=training)
    assert read_people_file(path).best_score is None
    assert person_threshold(load_people_detector(path)) is None
    write_best_score(path, 0.62)
    file = read_people_file(path)
    assert (file.best_score, file.training) == (0.62, training)
    assert all(torch.equal(value, file.state[k]) for k, value in network.state_dict().items())
    assert person_threshold(load_people_detector(path)) == 0.62
    content = torch.load(path, weights_only=True)
    del content["best_score"]  # as older files are
    torch.save(content, path)
    assert read_people_file(path).best_score is None
    for bad in (1.5, -0.1, "0.5", float("nan"), True):
        torch.save({**content, "best_score": bad}, path)
        with pytest.raises(UserError, match="best_score is .*, a number from 0 to 1 is"):
            read_people_file(path)
    assert person_threshold(Nobody()) is None


class Nobody:
    """A detector of a user's own."""

    name = "nobody"

    def detect(self, images):
        raise NotImplementedError
