"""The learning rate as a function of the update, and who is decayed."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from detection.build import parameter_groups
from detection.config import OptimConfig
from detection.engine.optim import schedule_factor, set_learning_rate


def test_warmup_rises_linearly_and_cosine_falls_to_zero():
    factors = [
        schedule_factor(
            update, total_updates=14, schedule="cosine", warmup_updates=4, warmup_start=0.2
        )
        for update in range(15)
    ]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4] == 1.0
    assert factors[9] == pytest.approx(0.5)
    assert factors[14] == pytest.approx(0.0)
    assert all(a > b for a, b in zip(factors[4:], factors[5:], strict=False))


def test_step_plateau_and_constant():
    def step(update):
        return schedule_factor(
            update, total_updates=30, schedule="step", milestone_updates=(10, 20)
        )

    assert [step(9), step(10), step(20)] == pytest.approx([1.0, 0.1, 0.01])
    assert schedule_factor(5, total_updates=9, schedule="plateau", plateau_drops=2) == (
        pytest.approx(0.01)
    )
    assert schedule_factor(5, total_updates=9, schedule="constant") == 1.0
    with pytest.raises(ValueError, match="linear"):
        schedule_factor(5, total_updates=9, schedule="linear")


def test_norms_and_biases_are_not_decayed_frozen_parameters_left_out_and_head_scaled():
    trunk = nn.Sequential(nn.Conv3d(2, 3, 1), nn.BatchNorm3d(3))
    head = nn.Linear(3, 4)
    trunk[1].weight.requires_grad_(False)
    model = nn.ModuleList([trunk, head])
    groups = parameter_groups(model, weight_decay=0.3, head=head, head_lr_factor=5.0)
    found = {
        id(parameter): (group["weight_decay"], group["lr_factor"])
        for group in groups
        for parameter in group["params"]
    }
    assert found == {
        id(trunk[0].weight): (0.3, 1.0),
        id(trunk[0].bias): (0.0, 1.0),
        id(trunk[1].bias): (0.0, 1.0),
        id(head.weight): (0.3, 5.0),
        id(head.bias): (0.0, 5.0),
    }
    optimizer = torch.optim.SGD(groups, lr=0.1)
    set_learning_rate(optimizer, 0.02)
    assert sorted({group["lr"] for group in optimizer.param_groups}) == pytest.approx([0.02, 0.1])


def test_the_rate_grows_with_the_clips_of_an_update_where_asked():
    scaled = OptimConfig(batch_size=16, accumulate=64, lr=0.1, lr_batch=64)
    assert scaled.global_batch == 1024
    assert scaled.peak_lr == pytest.approx(1.6)
    assert OptimConfig(batch_size=16, accumulate=64, lr=0.1).peak_lr == 0.1
