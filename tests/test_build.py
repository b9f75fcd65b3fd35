"""What options of the network and the optimiser change in what is built."""

from __future__ import annotations

import pytest
import torch

from detection.build import build_model, build_optimizer
from detection.config import RunConfig, config_from_dict
from detection.errors import UserError


def config(**groups: dict[str, object]) -> RunConfig:
    model = {"variant": "xs", "head_width": 16, **groups.pop("model", {})}
    return config_from_dict({"data": {"root": "none"}, "model": model, **groups}, "test")


@pytest.mark.parametrize("share", [0.5, 0.1])
def test_every_action_starts_from_the_required_probability(share: float) -> None:
    torch.manual_seed(0)
    model = build_model(config(model={"first_probability": share}), num_classes=5)
    torch.testing.assert_close(torch.sigmoid(model.head.classes.bias), torch.full((5,), share))


def test_the_second_beta_reaches_adamw_alone() -> None:
    options = {"optimizer": "adamw", "beta2": 0.95, "momentum": 0.8}
    chosen = config(optim=options)
    model = build_model(chosen, num_classes=2)
    optimizer = build_optimizer(chosen, model, head=model.head)
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.95)}
    plain = config(optim={"optimizer": "sgd"})
    assert isinstance(build_optimizer(plain, model, head=model.head), torch.optim.SGD)


@pytest.mark.parametrize(
    "wrong", [{"optim": {"beta2": 1}}, {"model": {"first_probability": 0}}], ids=str
)
def test_limits_are_refused(wrong: dict[str, dict[str, object]]) -> None:
    with pytest.raises(UserError):
        config(**wrong)
