"""BatchNorm that was folded into weights is kept frozen, unasked; a live one is trained."""

from __future__ import annotations

import pytest
import torch
from tiny_pipeline import LABELS, config
from torch import nn

from detection import build
from detection.checkpoints.file import read_model_file, save_model_file
from detection.checkpoints.load import describe_network, load_state
from detection.config import RunConfig, config_from_dict, config_to_dict
from detection.models.batch_norm import FrozenBatchNorm3d, has_folded_batch_norm
from detection.structures import ClipSampling


def norms_of(model: nn.Module) -> list[nn.BatchNorm3d]:
    return [child for child in model.modules() if isinstance(child, nn.BatchNorm3d)]


def weights(path, *, folded: bool):
    """Write a network's weights, each BatchNorm folded or with statistics of its own."""
    torch.manual_seed(0)
    model = build.build_model(config(), num_classes=len(LABELS))
    with torch.no_grad():
        for norm in norms_of(model):
            norm.weight.fill_(1)
            norm.bias.uniform_(-1, 1)
            norm.running_var.fill_(1 - 1e-5)
            if not folded:
                norm.running_mean.uniform_(-1, 1)
    save_model_file(
        path,
        model.state_dict(),
        network=describe_network(model),
        classes=LABELS,
        sampling=ClipSampling(4, 6),
        short_side_px=64,
        config=None,
    )
    return path


def started(path, **model_options) -> tuple[nn.Module, RunConfig, str]:
    values = config_to_dict(config())
    values["model"] |= {"pretrained": str(path), **model_options}
    settings = config_from_dict(values, "test")
    model = build.build_model(settings, num_classes=len(LABELS))
    report = build.start_from_pretrained(settings, model, LABELS)
    return model, settings, str(report)


def is_frozen(model: nn.Module) -> bool:
    (kind,) = {isinstance(norm, FrozenBatchNorm3d) for norm in norms_of(model)}
    return kind


@pytest.mark.parametrize(("folded", "asked", "frozen"), [
    (True, None, True), (False, None, False), (True, False, False), (False, True, True),
])  # fmt: skip
def test_folded_norms_are_frozen_where_nothing_else_was_asked(tmp_path, folded, asked, frozen):
    path = weights(tmp_path / "weights.pt", folded=folded)
    model, _, report = started(path, freeze_batch_norm=asked)
    assert is_frozen(model) is frozen
    assert ("kept frozen" in report) is (folded and asked is None)


def test_who_wants_statistics_anew_gets_them(tmp_path):
    path = weights(tmp_path / "weights.pt", folded=True)
    values = config_to_dict(config())
    values["model"] |= {"pretrained": str(path)}
    values["optim"] |= {"precise_bn_batches": 3}
    settings = config_from_dict(values, "test")
    model = build.build_model(settings, num_classes=len(LABELS))
    build.start_from_pretrained(settings, model, LABELS)
    assert not is_frozen(model)


def test_they_are_frozen_again_when_a_run_goes_on(tmp_path):
    path = weights(tmp_path / "weights.pt", folded=True)
    model, settings, _ = started(path)
    again = build.build_model(settings, num_classes=len(LABELS))
    load_state(again, read_model_file(path), class_names=LABELS.names)
    assert not is_frozen(again)
    assert build.freeze_parts(settings, again)
    assert is_frozen(again) and is_frozen(model)


def test_a_fresh_network_is_not_folded():
    assert not has_folded_batch_norm(build.build_model(config(), num_classes=2))
    assert not has_folded_batch_norm(nn.Linear(2, 2))


@pytest.mark.parametrize("part", ["weight", "running_mean", "running_var"])
def test_one_live_number_is_enough(tmp_path, part):
    model, _, _ = started(weights(tmp_path / "weights.pt", folded=True))
    assert has_folded_batch_norm(model)
    with torch.no_grad():
        getattr(norms_of(model)[-1], part)[0] += 0.01
    assert not has_folded_batch_norm(model)
