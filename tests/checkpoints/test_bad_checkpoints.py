"""Checkpoints whose values or weights are wrong: each is one line, wherever it is read."""

from __future__ import annotations

import copy
import dataclasses
import functools
import io
import math
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ava_tools import convert, inspect_model
from detection.checkpoints import load, plain_file
from detection.checkpoints.file import read_checkpoint, read_model_file
from detection.checkpoints.load import (
    build_network,
    describe_network,
    load_network,
    load_pretrained,
)
from detection.checkpoints.weights import find_state
from detection.engine.checkpoint import restore_training, save_checkpoint
from detection.engine.ema import WeightAverage
from detection.engine.loop import Progress
from detection.engine.tasks.x3d import save_network
from detection.engine.update import Updater, random_state
from detection.errors import UserError
from detection.models.action_detector import ActionDetector, build_detector
from detection.models.actor_head import ActorHeadDescription
from detection.models.x3d import X3DDescription

READER = "detection.checkpoints.file.read_saved_content"


TINY = X3DDescription(2, 5, 32, (32, 40), 32, width_factor=0.5, depth_factor=0.3)
MISSING = object()
BAD = (MISSING, None, "x", 0, -1, 1e12, math.nan, [], {"x": 1}, True)


def build() -> ActionDetector:
    torch.manual_seed(0)
    return build_detector(TINY, ActorHeadDescription(3, hidden=8))


def prepared(network: ActionDetector) -> Updater:
    """A run that has done a step, so that its optimiser has something to keep."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    for weight in network.parameters():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    average = WeightAverage(network, decay=0.9)
    device = torch.device("cpu")
    return Updater(network, optimizer, lambda *_: None, device=device, average=average)  # type: ignore[arg-type, return-value]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from detection.config import config_from_dict
    from detection.structures import LabelMap

    path = tmp_path_factory.mktemp("run") / "checkpoints" / "last.pt"
    network = build()
    save_checkpoint(
        path,
        save=functools.partial(
            save_network,
            config=config_from_dict({"data": {"root": "x"}}, "a test"),
            label_map=LabelMap(("sit", "stand", "run"), (1, 2, 5), ("a", "a", "b")),
            exclusive={"pose": (0, 1)},
        ),
        model=network,
        updater=prepared(network),
        progress=Progress(epoch=1, update=3),
        random_states=[random_state()],
    )
    return path


def places(value: Any, prefix: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every key of a checkpoint, but for single weights, of which the first few stand for all."""
    if prefix:
        yield prefix
    if isinstance(value, dict):
        few = prefix[-1:] in (("model_state",), ("followed_weights",), ("state",))
        few = few or prefix[:1] == ("config",)
        for key in list(value)[: 2 if few else None]:
            yield from places(value[key], (*prefix, key))
    elif isinstance(value, list) and len(value) < 10:
        for index, item in enumerate(value[:1]):
            yield from places(item, (*prefix, index))


def changed(content: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy, all but the place shared with the original."""
    first, *rest = place
    result = copy.copy(content)
    if rest:
        result[first] = changed(content[first], tuple(rest), value)
    elif value is MISSING:
        del result[first]
    else:
        result[first] = value
    return result


def test_any_bad_value_at_any_place_is_one_line_or_harmless(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    network = build()
    updater = prepared(network)
    refused = tried = 0
    for place in places(content):
        for value in BAD:
            bad = changed(content, place, value)
            monkeypatch.setattr(READER, lambda _, bad=bad: (bad, ()))
            tried += 1
            try:
                file = read_checkpoint(checkpoint)
                if place[0] == "training":
                    restore_training(
                        file, model=network, updater=updater, progress=Progress(), processes=1
                    )
                    updater.optimizer.step()
                elif place[0] not in ("config", "model_state"):
                    load_network(file)
                    out = ["--checkpoint", str(checkpoint), "--out", str(tmp_path / "out")]
                    convert.main(out)
            except UserError as error:
                refused += 1
                assert "\n" not in str(error) and len(str(error)) < 600, (place, value)
                assert str(checkpoint) in str(error), (place, value)
            except Exception as error:
                raise AssertionError(f"{place} = {value!r}: {error!r}") from error
    assert tried > 700 and refused > tried / 2


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        ("sampling.num_frames", 0, "sampling.num_frames is 0, a whole number from 1 to 4,096"),
        ("sampling.num_frames", "x", "sampling.num_frames is 'x'"),
        ("sampling.num_frames", 1e12, "sampling.num_frames is 1000000000000.0"),
        ("sampling.step", math.inf, "sampling.step is inf, a number from 0"),
        ("sampling.short_side_px", 10**9, "sampling.short_side_px is 1000000000"),
        ("sampling.short_side_px", True, "sampling.short_side_px is True"),
        ("sampling.extra", 1, "sampling.extra is 1, an unknown name"),
        ("label_map.ids", [1, 2, 1], r"label_map.ids\[2\] is 1, one that no class before has"),
        ("label_map.names", ["a", "b", "a"], r"label_map.names\[2\] is 'a'"),
        ("label_map.names", ["a", "b", "\x1b[31m"], "label_map"),
        ("label_map.groups", ["a"], "a group for each of the 3 classes"),
        ("label_map.exclusive", {"p": [0, 3]}, "label_map.exclusive.p"),
        ("config", "text", "config is 'text', names with values are required"),
        ("config.data", [], r"config.data is a list of 0"),
        ("network.hidden", 10**6, "weights of another shape"),
        ("network.x3d.width_factor", 60.0, "parameters, at most|another shape"),
        ("network.task", "poetry", "network.task is 'poetry', one of 'actions'"),
        ("training", "x", "training is 'x'"),
        ("version", True, "format version True"),
    ],
)
def test_named_cases(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, place: str, value: object, says: str
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    bad = changed(content, tuple(place.split(".")), value)
    monkeypatch.setattr(READER, lambda _: (bad, ()))
    if value == ["a", "b", "\x1b[31m"]:
        assert "\x1b" not in plain_file.brief(value[2])  # type: ignore[index]
        return
    with pytest.raises(UserError, match=says):
        load_network(read_model_file(checkpoint))


def test_nested_and_endless_configurations_are_refused(checkpoint: Path) -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = [deep]
    endless: dict[str, Any] = {}
    endless["again"] = endless
    bomb: Any = [1]
    for _ in range(12):
        bomb = [bomb] * 4
    for config in ({"a": deep}, endless, {"a": bomb}):
        with pytest.raises(UserError, match=r"nested deeper than 16|more than 100,000"):
            plain_file.checked_config("a.pt", config)


# ---------------------------------------------------------------- weights


def with_weight(path: Path, out: Path, name: str, value: Any, key: str = "model_state") -> Path:
    content = torch.load(path, weights_only=True)
    content[key] = {**content[key], name: value}
    torch.save(content, out)
    return out


WEIGHT = "trunk.stem.spatial.weight"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda w: w.flatten().index_fill(0, torch.tensor([1, 2]), math.nan).view_as(w), "2 of "),
        (lambda w: torch.full_like(w, math.inf), "not finite"),
        (lambda w: torch.full_like(w, 1e300, dtype=torch.float64), "not finite"),
        (lambda w: w.to(torch.int64), "whole numbers"),
        (lambda w: w.to(torch.complex64), "complex"),
        (lambda w: w.to("meta"), "meta device"),
        (lambda w: torch.zeros(1).expand(w.shape), "more than the file holds"),
        (lambda w: torch.zeros(3, 3).to_sparse(), "sparse|damaged"),
        (lambda w: w[:1].clone(), "another shape"),
    ],
)
def test_weights_that_no_network_can_use(
    make: Any, says: str, checkpoint: Path, tmp_path: Path
) -> None:
    good = torch.load(checkpoint, weights_only=True)["model_state"][WEIGHT]
    own = with_weight(checkpoint, tmp_path / "own.pt", WEIGHT, make(good))
    with pytest.raises(UserError, match=says) as caught:
        load_network(read_model_file(own))
    assert "own.pt" in str(caught.value) and "\n" not in str(caught.value)
    if "shape" not in says:
        assert "stem.spatial" in str(caught.value) or "damaged" in says


def test_every_kind_of_file_goes_through_the_rule(checkpoint: Path, tmp_path: Path) -> None:
    from detection.checkpoints.weights import TABLES, to_their_names

    with torch.no_grad():
        state = load_network(read_model_file(checkpoint)).state_dict()
        state[WEIGHT] = state[WEIGHT] * math.nan
    for naming in TABLES:
        torch.save({"state_dict": to_their_names(state, naming)}, tmp_path / "theirs.pt")
        with pytest.raises(UserError, match="not finite"):
            read_model_file(tmp_path / "theirs.pt")
    plain_file.write_safetensors(tmp_path / "a.safetensors", state, {})
    with pytest.raises(UserError, match="not finite"):
        read_model_file(tmp_path / "a.safetensors")
    with pytest.raises(UserError, match="not finite"):
        find_state("x.pth", {"model": {"a": torch.tensor([math.inf])}})


def test_a_negative_variance_is_no_number_after_its_root(checkpoint: Path, tmp_path: Path) -> None:
    name = "trunk.stem.norm.running_var"
    bad = torch.load(checkpoint, weights_only=True)["model_state"][name] - 2
    with pytest.raises(UserError, match="negative variance"):
        read_model_file(with_weight(checkpoint, tmp_path / "a.pt", name, bad))


def test_weights_that_an_average_follows_are_checked_too(checkpoint: Path) -> None:
    file = read_checkpoint(checkpoint)
    training = {**file.training, "followed_weights": dict(file.training["followed_weights"])}
    training["followed_weights"][WEIGHT] = torch.full_like(file.state[WEIGHT], math.nan)
    network = build()
    with pytest.raises(UserError, match="not finite"):
        restore_training(
            dataclasses.replace(file, training=training),
            model=network,
            updater=prepared(network),
            progress=Progress(),
        )


# ---------------------------------------------------------------- files


def test_every_changed_byte_of_a_part_is_seen(checkpoint: Path, tmp_path: Path) -> None:
    whole = checkpoint.read_bytes()
    members = zipfile.ZipFile(io.BytesIO(whole)).infolist()
    for member in [m for m in members if m.file_size > 100][:12]:
        at = member.header_offset + 30 + len(member.filename) + 70  # within the part's own bytes
        at = whole.index(zipfile.ZipFile(io.BytesIO(whole)).read(member), member.header_offset)
        damaged = bytearray(whole)
        damaged[at + member.file_size // 2] ^= 0x10
        (tmp_path / "a.pt").write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.pt: truncated or damaged: its part .* checksum"):
            read_model_file(tmp_path / "a.pt")


def test_archives_of_another_form(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "packed.pt"
    with (
        zipfile.ZipFile(checkpoint) as old,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for member in old.infolist():
            new.writestr(member.filename, old.read(member))
    with pytest.raises(UserError, match="not in torch.save's form"):
        read_model_file(out)
    with zipfile.ZipFile(tmp_path / "script.pt", "w") as script:
        script.writestr("m/constants.pkl", b"\x80\x02N.")
        script.writestr("m/data.pkl", b"\x80\x02N.")
    with pytest.raises(UserError, match=r"TorchScript program .*torch.jit.load"):
        read_model_file(tmp_path / "script.pt")


def test_packed_and_encrypted_members_are_refused_whatever_their_size(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", os.urandom(5000))  # which packing does not make smaller
    with pytest.raises(UserError, match="not in torch.save's form"):
        plain_file.check_archive(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"x" * 100)
    plain_file.check_archive(path)
    locked = bytearray(path.read_bytes())
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(locked)
    with pytest.raises(UserError, match="not in torch.save's form"):
        plain_file.check_archive(path)


def test_a_network_of_more_parameters_than_the_bound_is_not_built(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert load.MOST_PARAMETERS == 200_000_000
    small = build()
    numbers = describe_network(small)
    size = sum(p.numel() for p in small.parameters())
    monkeypatch.setattr(load, "MOST_PARAMETERS", size)
    build_network(numbers, source="a.pt")
    monkeypatch.setattr(load, "MOST_PARAMETERS", size - 1)
    with pytest.raises(UserError, match=f"a.pt: .* one of {size:,} parameters, at most"):
        build_network(numbers, source="a.pt")


def test_too_little_memory_is_no_damage(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you"
    for error in (RuntimeError(words), MemoryError()):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(torch, "load", fail)
        with pytest.raises(UserError, match=r"last\.pt: not enough memory"):
            read_model_file(checkpoint)


def test_safetensors_that_are_not_to_be_trusted(tmp_path: Path) -> None:
    import json

    path = tmp_path / "a.safetensors"
    deep = "[" * 100_000 + "]" * 100_000
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    headers = [
        json.dumps({"__metadata__": {"x3d_action_detection": deep}, "a": entry}),
        json.dumps({"a": entry, "b": entry}),
        json.dumps({"a": {**entry, "shape": [1 << 62]}}),
        '{"a":' + deep + "}",
        "{",
    ]
    for header in headers:
        path.write_bytes(len(header).to_bytes(8, "little") + header.encode() + bytes(4))
        with pytest.raises(UserError, match="safetensors") as caught:
            read_model_file(path)
        assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    path.write_bytes((1 << 29).to_bytes(8, "little") + b"{" + bytes(50))
    with pytest.raises(UserError, match="safetensors"):
        read_model_file(path)


def test_safetensors_on_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import errno

    from detection.files import CannotWriteError

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(CannotWriteError, match="No space left"):
        plain_file.write_safetensors(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, {})
    assert not list(tmp_path.iterdir())


def test_names_that_cannot_be_opened(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    for name in ("x" * 5000, str(loop), "a\0b"):
        with pytest.raises(UserError, match="cannot be opened|not found") as caught:
            read_model_file(name)
        assert len(str(caught.value)) < 400


def test_a_run_folder_is_its_last_checkpoint(checkpoint: Path, tmp_path: Path) -> None:
    run = checkpoint.parent.parent
    assert load_pretrained(build(), run).source == str(checkpoint)
    out = tmp_path / "a.safetensors"
    assert convert.main(["--checkpoint", str(run), "--out", str(out)]) == 0
    inspect_model.main(["--checkpoint", str(run), "--no-timing"])
    with pytest.raises(UserError, match="it is not a run"):
        load_pretrained(build(), tmp_path)


# ---------------------------------------------------------------- wrappers


class Wrapped(nn.Module):
    """A trainer's own module, as Lightning's are."""

    def __init__(self, network: nn.Module, attribute: str) -> None:
        super().__init__()
        setattr(self, attribute, network)
        self.loss = nn.BCEWithLogitsLoss(pos_weight=torch.ones(3))


def wrappings(network: ActionDetector) -> dict[str, Any]:
    averaged = torch.optim.swa_utils.AveragedModel(network)
    lightning = Wrapped(network, "model").state_dict()
    other = Wrapped(network, "net").state_dict()
    state = network.state_dict()
    inner = {k.replace("trunk.", "trunk._orig_mod."): v for k, v in state.items()}
    return {
        "AveragedModel": averaged.state_dict(),
        "Lightning": {"state_dict": lightning, "hyper_parameters": {"lr": 1}},
        "Lightning, another name": {"state_dict": other},
        "DeepSpeed": {"module": state, "optimizer": None, "dp_world_size": 1},
        "torchvision's average alone": {"model_ema": averaged.state_dict(), "epoch": 3},
        "keys within keys": {"model": {"state_dict": state}},
        "ema": {"ema": {"module": state}},
        "compiled": {"model": {f"_orig_mod.{k}": v for k, v in state.items()}},
        "compiled within": {"model": inner},
        "FSDP": {"model": {f"_fsdp_wrapped_module.{k}": v for k, v in state.items()}},
    }


def test_weights_as_other_trainers_wrap_them(tmp_path: Path) -> None:
    source = build()
    for kind, content in wrappings(source).items():
        torch.save(content, tmp_path / "a.pt")
        target = build()
        with torch.no_grad():
            target.trunk.stem.spatial.weight.zero_()
        report = load_pretrained(target, tmp_path / "a.pt")
        assert torch.equal(target.trunk.stem.spatial.weight, source.trunk.stem.spatial.weight), kind
        assert not report.missing and not report.unexpected, kind
        if "Lightning" in kind:
            assert any("left out" in note and "loss.pos_weight" in note for note in report.notes)


def test_two_sets_of_weights_are_said(tmp_path: Path) -> None:
    source, average = build(), build()
    with torch.no_grad():
        average.head.classes.bias.fill_(7)
    torch.save({"model": source.state_dict(), "model_ema": average.state_dict()}, tmp_path / "a.pt")
    target = build()
    report = load_pretrained(target, tmp_path / "a.pt")
    assert torch.equal(target.head.classes.bias, source.head.classes.bias)
    assert report.notes == (
        "weights of 'model' are taken; the file has averaged ones too: model_ema",
    )


def test_two_weights_of_one_name_are_refused(tmp_path: Path) -> None:
    state = build().state_dict()
    torch.save({"model": {**state, f"module.{WEIGHT}": state[WEIGHT]}}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=f"two of its weights are called {WEIGHT}"):
        read_model_file(tmp_path / "a.pt")


def test_what_is_left_over_is_refused_and_has_a_door(tmp_path: Path) -> None:
    state = {**build().state_dict(), "neck.weight": torch.ones(2), "neck.bias": torch.ones(2)}
    torch.save({"model": state}, tmp_path / "a.pt")
    with pytest.raises(UserError, match=r"2 weights have no place.*neck.*model.allow_unused"):
        load_pretrained(build(), tmp_path / "a.pt")
    for door in (True, ["neck."], ("neck.weight", "neck.bias")):
        assert len(load_pretrained(build(), tmp_path / "a.pt", allow_unused=door).unexpected) == 2
    with pytest.raises(UserError, match="1 weights have no place"):
        load_pretrained(build(), tmp_path / "a.pt", allow_unused=["neck.weight"])


def test_configuration_nodes_of_hydra_are_not_in_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys
    import types

    class DictConfig:
        def __setstate__(self, state: object) -> None:
            raise AssertionError("run from a file")

    DictConfig.__module__, DictConfig.__qualname__ = "omegaconf.dictconfig", "DictConfig"
    module = types.ModuleType("omegaconf.dictconfig")
    module.DictConfig = DictConfig  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", module)
    node = DictConfig()
    node.__dict__.update(lr=0.1, kind=int)
    torch.save({"state_dict": build().state_dict(), "cfg": node}, tmp_path / "a.pt")
    assert not load_pretrained(build(), tmp_path / "a.pt").missing
