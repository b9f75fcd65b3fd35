"""One description of a network: what a configuration asks for is what its checkpoint gives back."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch

from detection import build, config
from detection.checkpoints.file import read_checkpoint, save_model_file
from detection.checkpoints.load import build_network, describe_network
from detection.errors import UserError
from detection.models.actor_head import ActorHeadDescription
from detection.models.classifier import HeadDescription
from detection.structures import ClipSampling, LabelMap

REPOSITORY = Path(__file__).resolve().parents[2]
RENAMED = {"hidden": "head_width", "exclusive": "exclusive_actions"}
CLASSES = LabelMap(("sit", "stand", "run"), (1, 2, 5), None, {"pose": (0, 1)})


def other(kind: type, name: str) -> Any:
    """Return a value of a field that is not its default."""
    hint = get_type_hints(kind)[name]
    default = kind.__dataclass_fields__[name].default  # type: ignore[attr-defined]
    if hint is bool:
        return not default
    if get_args(hint):
        return next(value for value in get_args(hint) if value != default)
    if hint is int:
        return default // 2 or 2
    return default / 2


def config_of(task: str, **model: Any) -> config.RunConfig:
    tiny = {"variant": "x2d", "width_factor": 0.5, "depth_factor": 0.3, **model}
    clip: dict[str, Any] = {
        "num_frames": 3,
        "step": 2.5,
        "at_ends": "inside",
        "test_short_side_px": 64,
    }
    clip |= {"train_crop_px": 32, "train_short_side_px": [32, 40]}
    values = {"data": {"root": "x"}, "task": task, "model": tiny, "clip": clip}
    return config.config_from_dict(values, "a test")


HEAD_FIELDS = dataclasses.fields(ActorHeadDescription)[1:]  # all but num_classes


@pytest.mark.parametrize("field", HEAD_FIELDS, ids=lambda field: field.name)
def test_an_option_of_the_head_is_the_same_in_the_configuration(
    field: dataclasses.Field[Any],
) -> None:
    option = RENAMED.get(field.name, field.name)
    options: dict[str, Any] = config.ModelConfig.__pydantic_fields__  # type: ignore[attr-defined]
    assert option in options, f"detection/config.py: ModelConfig lacks {option}"
    asked, hints = options[option], get_type_hints(ActorHeadDescription)
    assert asked.annotation == hints[field.name], f"ModelConfig.{option}: type"
    assert asked.default == field.default, f"ModelConfig.{option}: default"
    limits = {
        name: getattr(limit, name)
        for limit in asked.metadata
        for name in ("ge", "gt", "le", "lt")
        if hasattr(limit, name)
    }
    if hints[field.name] in (int, float):
        assert set(field.metadata) == {"low", "high"}, f"{field.name}: between(low, high, default)"
        low, high = limits.get("ge", limits.get("gt")), limits.get("le", limits.get("lt"))
        assert (low, high) == (field.metadata["low"], field.metadata["high"]), (
            f"ModelConfig.{option} takes {low} to {high}, the description of the head "
            f"{field.metadata['low']} to {field.metadata['high']}"
        )
    if field.name not in {shared.name for shared in dataclasses.fields(HeadDescription)}:
        assert asked.json_schema_extra == {"task": "actions"}, f"{option}: _action_option"


@pytest.mark.parametrize("name", [field.name for field in HEAD_FIELDS])
def test_an_option_of_the_head_goes_from_the_configuration_to_the_checkpoint_and_back(
    name: str, tmp_path: Path
) -> None:
    option, value = RENAMED.get(name, name), other(ActorHeadDescription, name)
    asked = config_of("actions", **{option: value})
    head = build.describe_head(asked, num_classes=3)
    usual = ActorHeadDescription(3)
    assert dataclasses.replace(usual, **{name: value}) == head != usual
    model = build.build_model(asked, num_classes=3)
    save_model_file(
        tmp_path / "a.pt",
        model.state_dict(),
        network=describe_network(model),
        classes=CLASSES,
        sampling=asked.clip.sampling,
        short_side_px=64,
    )
    assert torch.load(tmp_path / "a.pt", weights_only=True)["network"][name] == value
    file = read_checkpoint(tmp_path / "a.pt")
    assert file.network is not None and file.network.head == head
    again = build_network(file.network, source="a.pt")
    assert describe_network(again) == describe_network(model) == file.network
    assert (file.classes, file.sampling) == (CLASSES, ClipSampling(3, 2.5, "inside"))


@pytest.mark.parametrize("field", dataclasses.fields(ActorHeadDescription), ids=lambda f: f.name)
def test_options_of_the_actor_head_alone_have_no_use_for_whole_clips(
    field: dataclasses.Field[Any],
) -> None:
    if field.name in {shared.name for shared in dataclasses.fields(HeadDescription)}:
        return
    option = RENAMED.get(field.name, field.name)
    with pytest.raises(UserError, match=f"model.{option} has no use with task 'classification'"):
        config_of("classification", **{option: other(ActorHeadDescription, field.name)})


def test_keys_of_a_checkpoint_stay(tmp_path: Path) -> None:
    model = build.build_model(config_of("actions"), num_classes=3)
    facts: dict[str, Any] = {"classes": CLASSES, "sampling": ClipSampling(3, 2), "short_side_px": 9}
    network = describe_network(model)
    save_model_file(tmp_path / "a.pt", model.state_dict(), network=network, **facts)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    assert " ".join(content) == (
        "format version model_state network label_map sampling config training"
    )
    assert " ".join(content["network"]) == (
        "task x3d num_classes hidden dropout pixel_mean pixel_std res5_stride roi_size roi_pool "
        "context unit_features exclusive actor_input crop_px time_parts"
    )
    assert " ".join(content["network"]["x3d"]) == (
        "num_frames step train_crop train_short_side test_crop width_factor depth_factor "
        "bottleneck_factor width_divisor"
    )
    assert content["label_map"] == {
        "names": ["sit", "stand", "run"],
        "ids": [1, 2, 5],
        "groups": None,
        "exclusive": {"pose": [0, 1]},
    }
    assert content["sampling"] == {
        "num_frames": 3,
        "step": 2,
        "short_side_px": 9,
        "pixel_mean": 0.45,
        "pixel_std": 0.225,
        "at_ends": "repeat",
    }
    clips = build.build_classification_model(config_of("classification"), num_classes=3)
    assert " ".join(describe_network(clips).numbers()) == (
        "task x3d num_classes hidden dropout pixel_mean pixel_std"
    )


def test_a_file_of_before_these_options_has_their_defaults(tmp_path: Path) -> None:
    model = build.build_model(config_of("actions"), num_classes=3)
    facts: dict[str, Any] = {"classes": CLASSES, "sampling": ClipSampling(3, 2), "short_side_px": 9}
    network = describe_network(model)
    save_model_file(tmp_path / "a.pt", model.state_dict(), network=network, **facts)
    content = torch.load(tmp_path / "a.pt", weights_only=True)
    first = {"task", "x3d", "num_classes", "hidden", "dropout", "res5_stride", "roi_size"}
    later = set(content["network"]) - first - {"pixel_std"}
    assert {"roi_pool", "pixel_mean"} < later
    for name in later:
        del content["network"][name]
    del content["network"]["x3d"]["width_divisor"], content["label_map"]["exclusive"]
    del content["sampling"]["at_ends"], content["sampling"]["pixel_std"]
    torch.save(content, tmp_path / "old.pt")
    file = read_checkpoint(tmp_path / "old.pt")
    assert file.network == network and file.sampling == facts["sampling"]
    assert file.classes == dataclasses.replace(CLASSES, exclusive={})


def test_the_spacing_of_frames_is_read_from_the_configuration_in_one_place() -> None:
    sources = [*(REPOSITORY / "detection").rglob("*.py"), *(REPOSITORY / "ava_tools").glob("*.py")]
    found = [
        f"{path.name}:{number}: {line.strip()}"
        for path in sources
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if re.search(r"(?<!sampling\.)\bclip\.(step|num_frames|at_ends)\b", line)
        and path.name not in ("config.py", "option_names.py")  # names in messages
    ]
    assert not found, "config.clip.sampling is required"
