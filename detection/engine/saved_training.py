"""What a checkpoint says of a run under way, checked before anything is put back.

Progress, optimiser, scaler and random generators come from a file: each is held against what the
run has now, so that a bad file is one line and not a traceback many steps later.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from detection.bounds import LARGEST_WHOLE
from detection.checkpoints.plain_file import SavedValues
from detection.checkpoints.weights import check_weights
from detection.errors import UserError

_ADAM = ("step", "exp_avg", "exp_avg_sq")  # what AdamW cannot do a step without


def training_values(path: str, training: Mapping[str, Any]) -> SavedValues:
    """Return the trainer's part of a file; raises `UserError` where there is none."""
    if not training or "progress" not in training:
        raise UserError(f"{path}: holds no training state to go on from")
    return SavedValues(path, dict(training), "training")


def checked_progress(said: SavedValues, usual: Any) -> dict[str, Any]:
    """Return the saved fields of a progress dataclass; `usual` is one at its defaults.

    Whole numbers are counts from -1 on, other numbers may be NaN (no score yet). Fields that the
    file does not have keep their defaults; ones that nobody knows are refused.
    """
    saved = said.within("progress")
    defaults = dataclasses.asdict(usual)
    saved.refuse_others(defaults)
    found: dict[str, Any] = {}
    for name in saved.names():
        if type(defaults[name]) is bool:
            found[name] = saved.flag(name)
        elif type(defaults[name]) is int:
            found[name] = saved.whole(name, min(0, defaults[name]), 1 << 53)
        elif type(defaults[name]) is float:
            found[name] = saved.number(name, -1e30, 1e30, nan=True)
        elif type(defaults[name]) is type(saved.raw(name)):
            found[name] = saved.raw(name)
        else:
            saved.refuse(name, saved.raw(name), f"a {type(defaults[name]).__name__} is")
    return found


def checked_optimizer(
    path: str, said: SavedValues, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """Return an optimiser's saved state where it fits the optimiser: groups, shapes, numbers."""
    saved = said.within("optimizer")
    groups = saved.listed("param_groups")
    sizes = [len(group["params"]) for group in optimizer.param_groups]
    found = [
        SavedValues(path, g, f"training.optimizer.param_groups[{i}]") for i, g in enumerate(groups)
    ]
    numbers = [group.wholes("params", 0, LARGEST_WHOLE) for group in found]
    if [len(group) for group in numbers] != sizes:
        saved.refuse("param_groups", groups, f"groups of {sizes} weights, as this run has, are")
    for group, own in zip(found, optimizer.param_groups, strict=True):
        group.number("lr", 0, 1e30)
        for name in group.names():
            if name != "params":
                _check_option(group, name, own.get(name))
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    order = [number for group in numbers for number in group]
    by_number = dict(zip(order, weights, strict=True))
    state = saved.raw("state")
    if type(state) is not dict or not set(state) <= set(by_number):
        saved.refuse("state", state, "the state of this run's weights, by their numbers, is")
    for number, values in state.items():
        _check_state(path, number, values, by_number[number], optimizer)
    usual = [{k: v for k, v in own.items() if k != "params"} for own in optimizer.param_groups]
    filled = [own | dict(group.items()) for own, group in zip(usual, found, strict=True)]
    return {"param_groups": filled, "state": state}


def _check_option(group: SavedValues, name: str, own: Any) -> None:
    """Refuse an option of another kind than the run's own, and negative numbers."""
    value = group.raw(name)
    if type(own) is bool and group.flag(name) != own:
        group.refuse(name, value, f"{own}, as in this run, is")
    elif type(own) is bool or (own is None and type(value) is bool):
        group.flag(name)
    elif type(own) in (int, float):
        group.number(name, 0, 1e30)
    elif type(own) in (list, tuple):
        numbers = group.listed(name)
        fit = len(numbers) == len(own) and all(
            type(number) in (int, float) and 0 <= number < 1 for number in numbers
        )
        if not fit:
            group.refuse(name, value, f"{len(own)} numbers from 0 to 1 are")
    elif value is not None and type(value) not in (str, int, float):
        group.refuse(name, value, "a plain value is")


def _check_state(
    path: str, number: int, values: Any, weight: Tensor, optimizer: torch.optim.Optimizer
) -> None:
    place = f"training.optimizer.state[{number}]"
    said = SavedValues(path, values, place)
    needed = _ADAM if isinstance(optimizer, torch.optim.AdamW) and said.names() else ()
    for name in needed:
        said.raw(name)
    for name, value in said.items():
        if value is None and name not in needed:
            continue
        if name == "step" and not 0 <= float(value if _is_count(value) else -1) <= 1 << 53:
            said.refuse(name, value, "a count of steps is")
        if isinstance(value, Tensor):
            if name == "exp_avg_sq" and value.numel() and float(value.min()) < 0:
                said.refuse(name, float(value.min()), "no mean square below 0 is")
            if value.numel() != 1 and value.shape != weight.shape:
                said.refuse(name, list(value.shape), f"a tensor of {list(weight.shape)} is")
            if name in ("exp_avg", "exp_avg_sq") and value.shape != weight.shape:
                said.refuse(name, list(value.shape), f"a tensor of {list(weight.shape)} is")
            check_weights(path, {f"{place}.{name}": value})
        elif name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            said.refuse(name, value, "a tensor is")
        else:
            said.number(name, -1e30, 1e30)


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.numel() == 1)


def checked_scaler(said: SavedValues) -> dict[str, Any]:
    """Return the saved state of a loss scaler."""
    saved = said.within("scaler")
    return {
        "scale": saved.number("scale", 1e-30, 1e30),
        "growth_factor": saved.number("growth_factor", 1, 1e6),
        "backoff_factor": saved.number("backoff_factor", 1e-6, 1),
        "growth_interval": saved.whole("growth_interval", 1, LARGEST_WHOLE),
        "_growth_tracker": saved.whole("_growth_tracker", 0, LARGEST_WHOLE),
    }


def checked_weights(path: str, said: SavedValues, name: str, model: nn.Module) -> dict[str, Tensor]:
    """Return saved weights where names and shapes are the network's own."""
    saved = said.within(name)
    own = model.state_dict()
    for key, value in own.items():
        found = saved.raw(key)
        if not isinstance(found, Tensor) or found.shape != value.shape:
            saved.refuse(key, found, f"a tensor of {list(value.shape)} is")
    saved.refuse_others(own)
    state = dict(saved.items())
    check_weights(path, state)
    return state


def checked_random(path: str, states: Any, place: str) -> dict[str, Any]:
    """Return the saved random states of one process (`detection.engine.update`)."""
    said = SavedValues(path, states, place)
    python = said.listed("python")
    if len(python) != 3 or type(python[1]) not in (list, tuple):
        said.refuse("python", python, "the state of Python's generator is")
    checked_torch_random(said, "torch", torch.get_rng_state())
    if "cuda" in said.names() and torch.cuda.is_available():
        checked_torch_random(said, "cuda", torch.cuda.get_rng_state())
    return dict(said.items())


def checked_torch_random(said: SavedValues, name: str, now: Tensor) -> Tensor:
    """Return a saved state of one of PyTorch's generators; `now` is what it looks like."""
    value = said.raw(name)
    is_state = isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 1
    if not is_state or (now.device.type == "cpu" and value.shape != now.shape):
        said.refuse(name, value, "the state of a random generator is")
    assert isinstance(value, Tensor)
    return value
