"""People checkpoints, torchvision's weights, and what is said about wrong ones."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch

from detection.errors import UserError
from detection.people import weights as weights_module
from detection.people.torchvision_rcnn import build_people_network
from detection.people.weights import (
    PeopleNetworkNumbers,
    coco_classes,
    find_people_file,
    load_people_detector,
    read_people_file,
    save_people_file,
    start_from_weights,
)

NUMBERS = PeopleNetworkNumbers("small", 64, 96)


def save_small(path, *, classes=("person",), seed=0, **more):
    torch.manual_seed(seed)
    network = build_people_network(
        "small", num_classes=len(classes), short_side_px=64, long_side_px=96
    )
    save_people_file(path, network, numbers=NUMBERS, classes=classes, **more)
    return network


@pytest.fixture(scope="module")
def mobile(tmp_path_factory):
    """A state dict of the mobile network with COCO's classes, random."""
    path = tmp_path_factory.mktemp("mobile") / "mobile.pth"
    torch.manual_seed(0)
    torch.save(build_people_network("mobile_320", num_classes=90).state_dict(), path)
    return path


def test_own_checkpoint_comes_back_whole(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "last.pt"
    network = save_small(path, config={"seed": 3}, training={"progress": {"epoch": 2}})
    file = read_people_file(path)
    assert (file.numbers, file.classes, file.config) == (NUMBERS, ("person",), {"seed": 3})
    assert file.training == {"progress": {"epoch": 2}}
    assert read_people_file(path, weights_only=True).training == {}
    for key, value in file.build_network().state_dict().items():
        assert torch.equal(value, network.state_dict()[key]), key


def test_run_folder_gives_its_best_weights(tmp_path):
    last = tmp_path / "checkpoints" / "last.pt"
    save_small(last)
    assert find_people_file(tmp_path) == last
    save_small(tmp_path / "checkpoints" / "best.pt", seed=1)
    assert find_people_file(tmp_path).name == "best.pt"
    detector = load_people_detector(tmp_path)
    assert "small" in detector.name
    assert str(tmp_path) in detector.name


def test_classes_are_chosen_by_name(tmp_path):
    save_small(tmp_path / "farm.pt", classes=("pig", "mouse"))
    both = load_people_detector(tmp_path / "farm.pt", score_floor=0.0)
    mice = load_people_detector(tmp_path / "farm.pt", actor_classes=["mouse"], score_floor=0.0)
    image = torch.zeros(3, 64, 96, dtype=torch.uint8)
    assert both.actor_labels == (1, 2)
    assert mice.actor_labels == (2,)
    assert len(both.detect([image])[0])
    with pytest.raises(UserError, match=r"no class 'mouze' among its 2; did you mean mouse\?"):
        load_people_detector(tmp_path / "farm.pt", actor_classes=["mouze"])
    with pytest.raises(UserError, match="it knows pig, mouse"):
        load_people_detector(tmp_path / "farm.pt", actor_classes=["person"])


def test_torchvision_weights_find_persons_unless_told_otherwise(mobile):
    assert coco_classes()[0] == "person"
    assert len(coco_classes()) == 90
    assert load_people_detector(mobile, network="mobile_320").actor_labels == (1,)
    animals = load_people_detector(
        mobile, network="mobile_320", actor_classes=["cow", "sheep"], score_floor=0.0
    )
    assert animals.actor_labels == (20, 21)  # COCO's own numbers
    (found,) = animals.detect([torch.zeros(3, 32, 48, dtype=torch.uint8)])
    assert found.xyxy_01.shape == (len(found), 4)


def test_frozen_norms_have_no_counters(mobile, tmp_path):
    """Torchvision's files of frozen BatchNorm lack num_batches_tracked."""
    state = torch.load(mobile, weights_only=True)
    state = {"module." + k: v for k, v in state.items() if "num_batches_tracked" not in k}
    torch.save(state, tmp_path / "frozen.pth")
    assert load_people_detector(tmp_path / "frozen.pth", network="mobile_320").name


def test_weights_with_nameless_classes(tmp_path):
    torch.manual_seed(0)
    state = build_people_network("mobile_320", num_classes=3).state_dict()
    torch.save({"model": state}, tmp_path / "three.pth")
    with pytest.raises(UserError, match="3 classes without names: actor classes are required"):
        load_people_detector(tmp_path / "three.pth", network="mobile_320")
    chosen = load_people_detector(
        tmp_path / "three.pth", network="mobile_320", actor_classes=["2", "3"]
    )
    assert chosen.actor_labels == (2, 3)


def test_wrong_files_are_one_line(tmp_path, mobile):
    save_small(tmp_path / "small.pt")
    torch.save({"a": torch.zeros(2)}, tmp_path / "other.pth")
    (tmp_path / "empty.pt").touch()
    (tmp_path / "folder").mkdir()
    wrong = [
        (tmp_path / "none.pt", None, "file of weights or run folder not found"),
        (tmp_path / "folder", None, "it is not a run"),
        (tmp_path / "empty.pt", None, "an empty file"),
        (tmp_path / "small.pt", "mobile", "a 'small' network, not 'mobile'"),
        (tmp_path / "small.pt", "yolo", "not one of small, mobile_320"),
        (mobile, "small", "not of 'small': of mobile_320 or mobile"),
        (mobile, "resnet50_v2", "weights of another network, not of 'resnet50_v2'"),
        (tmp_path / "other.pth", "mobile", "not of torchvision's Faster R-CNN"),
        ("coco", "small", "no COCO weights for the 'small' network; there are for mobile_320"),
        ("coco:yolo", None, "no COCO weights for the 'yolo' network"),
        ("coco:", None, "no COCO weights for the '' network"),
        ("coco:mobile", "mobile_320", "another network than 'mobile_320' is named"),
    ]
    for path, network, message in wrong:
        with pytest.raises(UserError, match=message) as caught:
            load_people_detector(path, network=network)
        assert "\n" not in str(caught.value)


def test_damaged_checkpoints(tmp_path):
    save_small(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    for change, message in (
        ({"version": 99}, "format version 99"),
        ({"network": {"name": "small"}}, "damaged"),
        ({"classes": []}, "damaged"),
        ({"network": {**content["network"], "name": "yolo"}}, "damaged"),
        ({"model_state": {}}, "weights of another network"),
        *(
            (
                {"network": {**content["network"], side: bad}},
                f"a damaged checkpoint: network.{side} is {bad!r}, a whole",
            )
            for side in ("short_side_px", "long_side_px")
            for bad in (15, 8193, 320.0, True, "320")
        ),
    ):
        torch.save({**content, **change}, tmp_path / "b.pt")
        with pytest.raises(UserError, match=message):
            load_people_detector(tmp_path / "b.pt")
    whole = (tmp_path / "a.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="cut.pt: truncated or damaged"):
        load_people_detector(tmp_path / "cut.pt")


class Bomb:
    def __reduce__(self):
        return os.system, ("echo no > exploded",)


def test_nothing_in_a_file_is_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"format": "people-detector", "bomb": Bomb()}, "bomb.pt")
    with pytest.raises(UserError, match="refused: it asks for"):
        load_people_detector("bomb.pt")
    assert not (tmp_path / "exploded").exists()


def test_coco_is_fetched_for_the_named_network(monkeypatch, mobile):
    state = torch.load(mobile, weights_only=True)
    monkeypatch.setattr(weights_module, "_download_coco", lambda name: (str(mobile), dict(state)))
    assert load_people_detector("coco", network="mobile").name == "mobile (coco)"


def test_detectron2_weights_go_to_its_adapter(monkeypatch):
    from detection.people import detectron2_rcnn

    asked = []
    monkeypatch.setattr(
        detectron2_rcnn, "load_detectron2_detector", lambda *a, **k: asked.append((a, k)) or "d2"
    )
    assert load_people_detector("x.pth", detectron2_config="zoo.yaml") == "d2"
    load_people_detector("coco", detectron2_config="zoo.yaml", actor_classes=["cow"])
    assert [args for args, _ in asked] == [("zoo.yaml", "x.pth"), ("zoo.yaml", None)]
    assert asked[1][1]["actor_classes"] == ["cow"]


def test_start_from_other_classes_leaves_the_last_layer_random(mobile):
    torch.manual_seed(5)
    network = build_people_network("mobile_320", num_classes=1)
    before = {key: value.clone() for key, value in network.state_dict().items()}
    start_from_weights(network, "mobile_320", mobile)
    theirs = torch.load(mobile, weights_only=True)
    for key, value in network.state_dict().items():
        if key.startswith("roi_heads.box_predictor."):
            assert torch.equal(value, before[key])
        else:
            assert torch.equal(value, theirs[key]), key


def test_start_from_own_run_takes_everything(tmp_path):
    save_small(tmp_path / "checkpoints" / "last.pt", seed=1)
    torch.manual_seed(2)
    network = build_people_network("small", num_classes=1, short_side_px=80)
    start_from_weights(network, "small", tmp_path)
    saved = read_people_file(tmp_path).state
    assert all(np.array_equal(v, saved[k]) for k, v in network.state_dict().items())
    with pytest.raises(UserError, match="weights of another network, not of 'mobile'"):
        start_from_weights(
            build_people_network("mobile", num_classes=1, short_side_px=64), "mobile", tmp_path
        )


@pytest.mark.parametrize("value", [None, "x", 0, -1, 1e12, float("nan"), [], {}, True])
def test_any_bad_value_is_one_line(tmp_path, monkeypatch, value):
    save_small(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    numbers = content["network"]
    changes = [{key: value} for key in content]
    changes += [{"network": {**numbers, key: value}} for key in numbers]
    for change in changes:
        bad = {**content, **change}
        monkeypatch.setattr(weights_module, "read_saved_content", lambda _, bad=bad: (bad, ()))
        try:
            load_people_detector(tmp_path / "a.pt")
        except UserError as error:
            assert "\n" not in str(error) and "a.pt" in str(error)
        else:
            known = {"config", "training"} | ({"best_score"} if value in (None, 0) else set())
            assert set(change) <= known, change


def test_weights_that_are_not_finite_are_refused(tmp_path, mobile):
    save_small(tmp_path / "a.pt")
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    name = "roi_heads.box_predictor.cls_score.weight"
    content["model_state"][name][0, :3] = float("nan")
    torch.save(content, tmp_path / "bad.pt")
    with pytest.raises(UserError, match=rf"not finite .*{name}: 3 of"):
        load_people_detector(tmp_path / "bad.pt")
    state = torch.load(mobile, weights_only=True)
    state[name][0, 0] = float("inf")
    torch.save(state, tmp_path / "bad.pth")
    for call in (
        lambda: load_people_detector(tmp_path / "bad.pth", network="mobile_320"),
        lambda: start_from_weights(
            build_people_network("mobile_320", num_classes=1), "mobile_320", tmp_path / "bad.pth"
        ),
    ):
        with pytest.raises(UserError, match=rf"not finite .*{name}: 1 of"):
            call()


def test_wrapped_weights_of_torchvision_load(tmp_path, mobile):
    state = torch.load(mobile, weights_only=True)
    for content in (
        {
            "model_ema": {"n_averaged": torch.tensor(3)}
            | {f"module.{k}": v for k, v in state.items()}
        },
        {"model": {f"_orig_mod.{k}": v for k, v in state.items()}, "epoch": 3},
        {"state_dict": {f"model.{k}": v for k, v in state.items()}},
    ):
        torch.save(content, tmp_path / "a.pth")
        assert load_people_detector(tmp_path / "a.pth", network="mobile_320").actor_labels == (1,)
