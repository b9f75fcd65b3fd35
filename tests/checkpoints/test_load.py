"""Weights in and out: whose names, what is refused, what a checkpoint holds."""

from __future__ import annotations

import argparse
import dataclasses
import os
import pickle
import subprocess
import sys
import time
import types
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detection.checkpoints.file import (
    read_model_file,
    save_model_file,
)
from detection.checkpoints.load import (
    describe_network,
    fold_pytorchvideo_shortcut,
    load_network,
    load_pretrained,
)
from detection.checkpoints.weights import TABLES, Naming, recognise, to_own_names, to_their_names
from detection.errors import UserError
from detection.models.action_detector import build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription, X3DClassifier, build_classifier
from detection.models.x3d import VARIANTS, X3DDescription
from detection.structures import ClipSampling, LabelMap

TINY = X3DDescription(2, 5, 64, (64, 80), 64, width_factor=1.0, depth_factor=1.0)


def random_classifier(
    description: X3DDescription = TINY, *, num_classes: int = 7, seed: int = 0
) -> X3DClassifier:
    """A network in which no two weights are alike, norms included."""
    torch.manual_seed(seed)
    network = build_classifier(description, HeadDescription(num_classes, hidden=32)).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                value.copy_(
                    torch.rand(value.shape) + 0.5
                    if "var" in name
                    else torch.randn(value.shape) * 0.1
                )
    return network


def saved(path: Path, content: object) -> Path:
    with path.open("wb") as opened:
        torch.save(content, opened)
    return path


def same_weights(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first if "batches" not in name
    )


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("naming", TABLES)
def test_names_go_there_and_back(naming: Naming) -> None:
    with torch.device("meta"):
        state = build_classifier(VARIANTS["m"]).state_dict()
    theirs = to_their_names(state, naming)
    assert len(theirs) == len(state)
    assert recognise(theirs) == naming
    ours, unknown = to_own_names(theirs, naming)
    assert not unknown
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in state.items()}


def test_each_table_writes_what_its_project_calls_things() -> None:
    state = {
        "trunk.stem.spatial.weight": torch.zeros(1),
        "trunk.stages.3.0.squeeze.restore.bias": torch.zeros(1),
        "trunk.stages.0.2.depthwise_norm.running_var": torch.zeros(1),
        "trunk.stages.1.0.shortcut_norm.weight": torch.zeros(1),
        "head.hidden.weight": torch.zeros(2048, 432),
    }
    assert list(to_their_names(state, "slowfast")) == [
        "s1.pathway0_stem.conv_xy.weight",
        "s5.pathway0_res0.branch2.se.fc2.bias",
        "s2.pathway0_res2.branch2.b_bn.running_var",
        "s3.pathway0_res0.branch1_bn.weight",
        "head.lin_5.weight",
    ]
    assert list(to_their_names(state, "pytorchvideo")) == [
        "blocks.0.conv.conv_t.weight",
        "blocks.4.res_blocks.0.branch2.norm_b.1.block.2.bias",
        "blocks.1.res_blocks.2.branch2.norm_b.0.running_var",
        "blocks.2.res_blocks.0.branch1_norm.weight",
        "blocks.5.pool.post_conv.weight",
    ]
    assert list(to_their_names(state, "mmaction2")) == [
        "conv1_s.conv.weight",
        "layer4.0.se_module.fc2.bias",
        "layer1.2.conv2.bn.running_var",
        "layer2.0.downsample.bn.weight",
        "cls_head.fc1.weight",
    ]
    assert to_their_names(state, "slowfast")["head.lin_5.weight"].shape == (2048, 432, 1, 1, 1)
    assert to_their_names(state, "mmaction2")["cls_head.fc1.weight"].shape == (2048, 432)


@pytest.mark.parametrize("naming", TABLES)
@pytest.mark.parametrize("wrapper", ["", "module.", "model.", "_orig_mod."])
def test_files_are_told_by_their_contents(naming: Naming, wrapper: str, tmp_path: Path) -> None:
    source = random_classifier()
    theirs = to_their_names(source.state_dict(), naming)
    if naming == "mmaction2":  # its recogniser keeps the trunk, but not the head, in `backbone.`
        theirs = {k if "cls_head" in k else f"backbone.{k}": v for k, v in theirs.items()}
    content = {"state_dict": OrderedDict((wrapper + key, value) for key, value in theirs.items())}
    path = saved(tmp_path / "looks_like_a_resnet.pkl", content)
    target = random_classifier(seed=1)
    report = load_pretrained(target, path)
    assert report.naming == naming
    assert (report.missing, report.unexpected, report.wrong_shape) == ((), (), ())
    assert same_weights(source, target)
    frames = torch.randint(0, 256, (1, 3, 2, 64, 64), dtype=torch.uint8)
    assert torch.equal(source(frames), target(frames))


def test_pytorchvideo_lacks_one_norm_and_it_is_said(tmp_path: Path) -> None:
    source = random_classifier()
    theirs = to_their_names(fold_pytorchvideo_shortcut(source.state_dict()), "pytorchvideo")
    assert len(theirs) == len(source.state_dict()) - 5
    path = saved(tmp_path / "X3D.pyth", {"model_state": theirs})
    target = random_classifier(seed=1)
    report = load_pretrained(target, path)
    assert "res2 shortcut" in str(report)
    frames = torch.randint(0, 256, (2, 3, 2, 64, 96), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(target(frames), source(frames), rtol=1e-4, atol=1e-5)


def test_slowfasts_rounding_of_xl_is_known(tmp_path: Path) -> None:
    small = dataclasses.replace(VARIANTS["xl"], depth_factor=0.5)
    slowfast = dataclasses.replace(small, width_divisor=1)
    with torch.device("meta"):
        shapes = build_classifier(slowfast).state_dict()
    state = {k: torch.zeros(v.shape, dtype=v.dtype) for k, v in shapes.items()}
    path = saved(tmp_path / "xl.pyth", {"model_state": to_their_names(state, "slowfast")})
    with pytest.raises(UserError, match="35, 70, 139, 278.*width_divisor=1"):
        load_pretrained(build_classifier(small), path)
    assert not load_pretrained(build_classifier(slowfast), path).missing


# ---------------------------------------------------------------- strictness


def test_a_classifier_starts_a_detector(tmp_path: Path) -> None:
    source = random_classifier(num_classes=7)
    path = saved(
        tmp_path / "k.pyth", {"model_state": to_their_names(source.state_dict(), "slowfast")}
    )
    detector = build_detector(TINY, ActorHeadDescription(3, hidden=32), res5_stride=1)
    fresh = detector.head.classes.weight.clone()
    report = load_pretrained(detector, path)
    assert report.missing == ("head.classes.weight", "head.classes.bias")
    assert "7 classes in the file, 3 required" in str(report)
    assert torch.equal(detector.head.hidden.weight, source.head.hidden.weight)
    assert torch.equal(detector.head.classes.weight, fresh)
    assert same_weights(detector.trunk, source.trunk)


def test_a_weight_that_would_stay_random_is_an_error(tmp_path: Path) -> None:
    state = random_classifier().state_dict()
    gone = "trunk.stages.2.1.expand.weight"
    del state[gone]
    path = saved(tmp_path / "a.pt", state)
    target = random_classifier(seed=1)
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(UserError, match=gone.replace(".", r"\.")):
        load_pretrained(target, path)
    assert all(torch.equal(before[n], v) for n, v in target.state_dict().items())
    report = load_pretrained(target, path, allow_random=("trunk.stages.2",))
    assert report.missing == (gone,)


def test_a_deeper_network_does_not_pass_unnoticed(tmp_path: Path) -> None:
    """L holds every name and shape of M: only what is left over tells them apart."""
    deep = dataclasses.replace(TINY, depth_factor=2.0)
    path = saved(tmp_path / "deep.pt", random_classifier(deep).state_dict())
    with pytest.raises(UserError, match="no place in the network"):
        load_pretrained(random_classifier(), path)
    assert load_pretrained(random_classifier(), path, allow_unused=True).unexpected


def test_another_shape_is_named(tmp_path: Path) -> None:
    wide = dataclasses.replace(TINY, width_factor=2.0)
    path = saved(tmp_path / "wide.pt", random_classifier(wide).state_dict())
    with pytest.raises(UserError, match=r"trunk.stem.spatial.weight: \[24, .*\[16, "):
        load_pretrained(random_classifier(), path)


def test_old_files_without_counters_load(tmp_path: Path) -> None:
    state = {k: v for k, v in random_classifier().state_dict().items() if "batches" not in k}
    assert not load_pretrained(random_classifier(seed=1), saved(tmp_path / "a.pt", state)).missing


def test_classes_are_taken_over_by_name(tmp_path: Path) -> None:
    source = random_classifier(num_classes=4)
    path = tmp_path / "own.pt"
    save_model_file(
        path,
        source.state_dict(),
        network=describe_network(source),
        classes=LabelMap(("run", "sit", "stand", "walk"), (1, 2, 3, 4)),
        sampling=source.trunk.description.sampling,
        short_side_px=source.trunk.description.test_crop,
    )
    detector = build_detector(TINY, ActorHeadDescription(3, hidden=32))
    fresh = detector.head.classes.weight.clone()
    report = load_pretrained(detector, path, class_names=("walk", "swim", "run"))
    assert "2 of 3" in str(report) and "fresh: swim" in str(report)
    classes, theirs = detector.head.classes, source.head.classes
    assert torch.equal(classes.weight[0], theirs.weight[3])
    assert torch.equal(classes.bias[2], theirs.bias[0])
    assert torch.equal(classes.weight[1], fresh[1])
    nobody = build_detector(TINY, ActorHeadDescription(2, hidden=32))
    report = load_pretrained(nobody, path, class_names=("fly", "swim"))
    assert "head.classes.weight" in report.missing
    # As many classes of other names: never by position.
    other = build_detector(TINY, ActorHeadDescription(4, hidden=32))
    load_pretrained(other, path, class_names=("sit", "run", "walk", "stand"))
    assert torch.equal(other.head.classes.weight, theirs.weight[[1, 0, 3, 2]])


def test_a_class_layer_of_more_features_is_said_to_start_fresh(tmp_path: Path) -> None:
    source = random_classifier(num_classes=7)
    detector = build_detector(TINY, ActorHeadDescription(3, hidden=32, time_parts=2))
    fresh = detector.head.classes.weight.clone()
    report = load_pretrained(detector, saved(tmp_path / "k.pyth", source.state_dict()))
    note = "class layer starts fresh: it has [7, 32] weights in the file, [3, 64] in the network"
    assert report.notes == (note,) and note in str(report)
    assert torch.equal(detector.head.classes.weight, fresh)
    assert same_weights(detector.trunk, source.trunk)


# ---------------------------------------------------------------- own checkpoints


def test_a_checkpoint_alone_is_enough_to_run(tmp_path: Path) -> None:
    torch.manual_seed(0)
    detector = build_detector(
        TINY,
        ActorHeadDescription(
            3,
            hidden=32,
            roi_size=5,
            roi_pool="mean",
            context="frame",
            unit_features=True,
            exclusive=True,
        ),
        res5_stride=1,
    ).eval()
    sampling = ClipSampling(2, 0.5)
    path = tmp_path / "checkpoints" / "last.pt"
    save_model_file(
        path,
        detector.state_dict(),
        network=describe_network(detector),
        classes=LabelMap(("a", "b", "c"), (3, 1, 70), ("x", "y", "z")),
        sampling=sampling,
        short_side_px=64,
        config={"model": {"variant": "xs"}},
        training={"epoch": 3, "rng": torch.get_rng_state(), "optimizer": {"state": {0: {}}}},
    )
    # In a fresh process, by torch's own safe loader.
    code = f"import torch; print(sorted(torch.load({str(path)!r}, weights_only=True)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "label_map" in out.stdout and "sampling" in out.stdout
    file = read_model_file(path)
    assert file.classes == LabelMap(("a", "b", "c"), (3, 1, 70), ("x", "y", "z"))
    assert (file.sampling, file.short_side_px) == (sampling, 64)
    assert file.network == describe_network(detector)
    assert file.config == {"model": {"variant": "xs"}}
    assert file.training["epoch"] == 3
    assert read_model_file(path, weights_only=True).training == {}
    again = load_network(file)
    frames = torch.randint(0, 256, (1, 3, 2, 64, 80), dtype=torch.uint8)
    rois = torch.tensor([[0.0, 5, 5, 60, 60]])
    with torch.no_grad():
        assert torch.equal(again(frames, rois), detector(frames, rois))


def test_other_than_plain_types_are_refused_when_saving(tmp_path: Path) -> None:
    network = random_classifier()
    for odd in (np.float64(1), Path("a"), ClipSampling(1, 1), {1, 2}):
        with pytest.raises(TypeError, match=r"training.*plain types"):
            save_model_file(
                tmp_path / "a.pt",
                network.state_dict(),
                network=None,
                classes=None,
                sampling=None,
                training={"epoch": odd},
            )
    assert not list(tmp_path.iterdir())


def test_a_label_map_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    network = random_classifier(num_classes=4)
    numbers = describe_network(network)
    arguments = {"network": numbers, "sampling": ClipSampling(2, 5), "short_side_px": 64}
    with pytest.raises(UserError, match="2 classes, the network 4"):
        save_model_file(
            tmp_path / "a.pt",
            network.state_dict(),
            classes=LabelMap(("a", "b"), (1, 2)),
            **arguments,
        )
    good = LabelMap(("a", "b", "c", "d"), (1, 2, 3, 4))
    save_model_file(tmp_path / "a.pt", network.state_dict(), classes=good, **arguments)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content["label_map"]["names"] = ["a"]
    with pytest.raises(UserError, match="1 classes, the network 4"):
        read_model_file(saved(tmp_path / "b.pt", content))


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("version", 99, "version 99"),
        ("sampling", {"frames": 3}, "damaged checkpoint"),
        (
            "sampling",
            {"num_frames": 1, "step": 1, "short_side_px": 64, "at_ends": "odd"},
            "sampling.at_ends is 'odd', one of 'repeat', 'inside' is required",
        ),
        ("label_map", [1], "damaged checkpoint"),
        ("model_state", None, "damaged checkpoint"),
    ],
)
def test_a_damaged_own_checkpoint_says_so(
    key: str, value: object, says: str, tmp_path: Path
) -> None:
    network = random_classifier()
    save_model_file(
        tmp_path / "a.pt", network.state_dict(), network=None, classes=None, sampling=None
    )
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    content[key] = value
    with pytest.raises(UserError, match=says):
        read_model_file(saved(tmp_path / "b.pt", content))


def test_numbers_that_make_no_network_say_so(tmp_path: Path) -> None:
    network = random_classifier()
    for change in ({"task": "poetry"}, {"x3d": {}}, {"widht": 3}):
        path = tmp_path / "a.pt"
        described = describe_network(network)
        save_model_file(path, network.state_dict(), network=described, classes=None, sampling=None)
        content = torch.load(path, weights_only=True)
        content["network"] |= change
        with pytest.raises(UserError, match="b.pt"):
            load_network(read_model_file(saved(tmp_path / "b.pt", content)))


# ---------------------------------------------------------------- files that are not to be trusted


class Malicious:
    """Unpickling this makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.folder),)


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """Path and a part of what is said, by kind."""
    good = random_classifier()
    content = {"model_state": good.state_dict()}
    whole = saved(folder / "good.pt", content).read_bytes()
    evil = {**content, "hook": Malicious(folder / "executed")}
    kinds: dict[str, tuple[Path, str]] = {
        "malicious": (saved(folder / "evil.pt", evil), "refused"),
        "missing": (folder / "absent.pt", "file or run folder not found"),
        "a whole model": (saved(folder / "model.pt", good), "refused"),
        "no weights": (saved(folder / "none.pt", {"epoch": 3}), "holds no weights"),
        "a list": (saved(folder / "list.pt", [1, 2]), "holds no weights"),
    }
    for name, data, says in (
        ("text", b"X3D-M, trained with love\n" * 9, "not a checkpoint"),
        ("empty", b"", "empty"),
        ("truncated", whole[: len(whole) // 2], "truncated"),
        ("cut at the start", whole[:40], "truncated"),
        ("noise", bytes(range(256)) * 4, "not a checkpoint"),
    ):
        path = folder / f"{name}.pt"
        path.write_bytes(data)
        kinds[name] = (path, says)
    with (folder / "old.pt").open("wb") as opened:
        torch.save(evil, opened, _use_new_zipfile_serialization=False)
    kinds["malicious, old format"] = (folder / "old.pt", "refused")
    with (folder / "plain.pkl").open("wb") as opened:
        pickle.dump(evil["hook"], opened)
    kinds["malicious, plain pickle"] = (folder / "plain.pkl", "nothing of it was run")
    resnet = {"conv1.weight": torch.zeros(64, 3, 7, 7), "bn1.weight": torch.zeros(64)}
    kinds["a ResNet"] = (saved(folder / "resnet.pt", resnet), "not an X3D network")
    slow = {"model_state": {"s1.pathway0_stem.conv.weight": torch.zeros(64, 3, 1, 7, 7)}}
    kinds["SlowFast's ResNet"] = (saved(folder / "slow.pt", slow), "not an X3D network")
    return kinds


def test_bad_files_get_a_clear_word_and_run_nothing(tmp_path: Path) -> None:
    for kind, (path, says) in bad_files(tmp_path).items():
        with pytest.raises(UserError) as caught:
            load_pretrained(random_classifier(), path)
        message = str(caught.value)
        assert says in message and str(path) in message, kind
        assert "\n" not in message, kind
    assert not (tmp_path / "executed").exists()


def test_the_malicious_file_is_malicious(tmp_path: Path) -> None:
    path = saved(tmp_path / "evil.pt", Malicious(tmp_path / "executed"))
    torch.load(path, weights_only=False)
    assert (tmp_path / "executed").is_dir()


def test_what_trainers_put_beside_weights_is_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CfgNode(dict):  # type: ignore[type-arg]
        def __setstate__(self, state: object) -> None:
            raise AssertionError("run from a file")

    module = types.ModuleType("yacs.config")
    module.CfgNode = CfgNode  # type: ignore[attr-defined]
    CfgNode.__module__, CfgNode.__qualname__ = "yacs.config", "CfgNode"
    monkeypatch.setitem(sys.modules, "yacs", types.ModuleType("yacs"))
    monkeypatch.setitem(sys.modules, "yacs.config", module)
    options = CfgNode(lr=0.1)
    options.__dict__["frozen"] = True
    source = random_classifier()
    content = {
        "state_dict": source.state_dict(),
        "epoch": np.int64(3),
        "cfg": options,
        "history": np.arange(4.0),
        "options": argparse.Namespace(lr=np.float32(0.1)),
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.1}]},
    }
    target = random_classifier(seed=1)
    load_pretrained(target, saved(tmp_path / "a.pt", content))
    assert same_weights(source, target)


# ---------------------------------------------------------------- real weights


@pytest.mark.real_data
def test_kinetics_weights_load_and_know_archery(real_data: Path) -> None:
    import json

    from detection.video.reader import VideoReader

    path = real_data / "weights" / "x3d_xs_k400_from_int8.pyth"
    networks = {name: build_classifier(VARIANTS[name]).eval() for name in ("xs", "s", "m")}
    for network in networks.values():
        report = load_pretrained(network, path)
        assert len(report.matched) == len(network.state_dict()) == 568
        assert (report.missing, report.unexpected, report.wrong_shape) == ((), (), ())
    with VideoReader(real_data / "clips" / "archery.mp4") as video:
        clip = video.read(ClipSampling(4, 12).times_s(video.info.duration_s / 2))
    frames = clip.frames.float()  # (T, 3, H, W)
    scale = 182 / min(frames.shape[2:])
    frames = nn.functional.interpolate(frames, scale_factor=scale, mode="bilinear", antialias=True)
    top, left = (frames.shape[2] - 160) // 2, (frames.shape[3] - 160) // 2
    frames = frames[:, :, top : top + 160, left : left + 160].round().clamp(0, 255)
    with torch.no_grad():
        scores = networks["xs"].probabilities(frames.to(torch.uint8).transpose(0, 1)[None])[0]
    names = json.loads((real_data / "weights" / "kinetics_id_to_classname.json").read_text())
    assert names[str(scores.argmax().item())] == "archery"
    assert scores.max() > 0.99


def test_loading_takes_under_a_second_beyond_reading(tmp_path: Path) -> None:
    """30 MB: X3D-L's weights and as much again beside them, as in a file with optimiser state."""
    network = build_classifier(VARIANTS["l"])
    state = network.state_dict()
    beside = {"state": {0: torch.zeros(1_600_000)}}
    path = saved(tmp_path / "l.pyth", {"model_state": state, "optimizer_state": beside})
    assert 29e6 < path.stat().st_size < 34e6
    start = time.process_time()
    load_pretrained(network, path)
    assert time.process_time() - start < 1.0
