"""Width, depth and bottleneck of X3D by numbers in a configuration, for both tasks."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from ava_tools import inspect_model
from detection import build
from detection.checkpoints.load import describe_network
from detection.config import config_from_dict
from detection.errors import UserError
from detection.models.counting import count_parameters
from detection.models.x3d import VARIANTS

XS_CLIP = {"num_frames": 4, "step": 12, "train_crop_px": 160, "test_short_side_px": 182}
XS_CLIP["train_short_side_px"] = (182, 228)


def config_of(task, **model):
    values = {"data": {"root": "x"}, "task": task, "clip": XS_CLIP, "model": model}
    return config_from_dict(values, "test")


def built(config, classes=400):
    with torch.device("meta"):
        if config.task == "actions":
            return build.build_model(config, num_classes=classes)
        return build.build_classification_model(config, num_classes=classes)


@pytest.mark.parametrize(
    ("start", "factors", "same_as"),
    [
        ("x2d", {"depth_factor": 2.2, "bottleneck_factor": 2.25}, "m"),
        ("m", {"depth_factor": 5}, "l"),
        ("xs", {"depth_factor": 5.0, "width_factor": 2.9}, "xl"),
        ("xl", {"depth_factor": 1, "bottleneck_factor": 1, "width_factor": 2}, "x2d"),
    ],
)
@pytest.mark.parametrize("task", ["actions", "classification"])
def test_factors_make_the_published_variants(task, start, factors, same_as):
    """Parameters as docs/models.md lists them for 400 classes."""
    ours = built(config_of(task, variant=start, **factors))
    theirs = built(config_of(task, variant=same_as))
    assert count_parameters(ours) == count_parameters(theirs)
    assert ours.trunk.description == theirs.trunk.description
    if task == "classification":
        known = {"m": 3_794_322, "l": 6_153_432, "xl": 11_095_904, "x2d": 1_633_560}
        assert count_parameters(ours).all == known[same_as]


@pytest.mark.parametrize("task", ["actions", "classification"])
@pytest.mark.parametrize(
    "factors", [{"width_factor": 1.3}, {"depth_factor": 0.4}, {"bottleneck_factor": 3.1}]
)
def test_a_network_has_the_channels_and_blocks_of_its_description(task, factors):
    config = config_of(task, variant="x2d", **factors)
    expected = dataclasses.replace(
        VARIANTS["x2d"],
        num_frames=4,
        step=12,
        train_crop=160,
        train_short_side=(182, 228),
        test_crop=182,
        **factors,
    )
    assert build.describe_trunk(config) == expected
    trunk = built(config).trunk
    blocks = tuple(len(stage) for stage in trunk.stages)
    assert blocks == expected.stage_depths
    inner = tuple(stage[0].expand.weight.shape[0] for stage in trunk.stages)
    assert inner == expected.inner_channels
    assert trunk.stem.spatial.weight.shape[0] == expected.stem_channels


def test_slowfast_widths_of_xl():
    model = built(config_of("classification", variant="xl", width_divisor=1))
    assert model.trunk.description.stage_channels == (35, 70, 139, 278)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"width_factor": 0}, "model.width_factor"),
        ({"depth_factor": -1}, "model.depth_factor"),
        ({"bottleneck_factor": "wide"}, "model.bottleneck_factor"),
        ({"width_divisor": 0}, "model.width_divisor"),
        ({"gamma_w": 2}, "unknown option 'model.gamma_w'"),
    ],
)
def test_numbers_that_make_no_network_are_refused(model, message):
    with pytest.raises(UserError, match=message):
        config_of("actions", **model)


def test_weights_of_another_shape_are_refused_by_name(tmp_path):
    from detection.structures import LabelMap

    with torch.random.fork_rng():
        small = config_of("classification", variant="x2d", head_width=16, width_factor=0.5)
        model = build.build_classification_model(small, num_classes=2)
    assert describe_network(model).trunk.width_factor == 0.5
    path = tmp_path / "weights.pt"
    torch.save({"model_state": model.state_dict()}, path)
    classes = LabelMap(("a", "b"), (0, 1))
    for factor, message in (("width_factor", "of another shape"), ("depth_factor", "is it this")):
        wider = config_of(
            "classification",
            **{"variant": "x2d", "head_width": 16, "width_factor": 0.5, factor: 1.5},
            pretrained=str(path),
        )
        other = build.build_classification_model(wider, num_classes=2)
        with pytest.raises(UserError, match=message):
            build.start_from_pretrained(wider, other, classes)


def test_inspect_model_counts_a_clip_classification_configuration(tmp_path, capsys):
    cfg = tmp_path / "clips.yaml"
    cfg.write_text(
        "data: {root: gone}\ntask: classification\nmodel: {variant: xs}\n"
        "clip: {num_frames: 4, step: 12, train_short_side_px: [182, 228], train_crop_px: 160,\n"
        "  test_short_side_px: 182}\n"
    )
    inspect_model.main(["--cfg", str(cfg), "--no-timing"])
    printed = capsys.readouterr().out
    assert "400 classes (no lists at gone to ask, Kinetics has as many)" in printed
    assert "3,794,322" in printed and "0.605 GMAC" in printed
