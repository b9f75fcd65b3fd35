"""A run's checkpoints: weights, and all that it takes to go on as if never stopped.

What a file says of progress, optimiser, scaler and random generators is held against what the run
has now, so that a bad file is one line and not a traceback many steps later.
"""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from detection.bounds import LARGEST_WHOLE
from detection.checkpoints.plain_file import SavedValues
from detection.checkpoints.weights import check_weights
from detection.config import (
    AnyConfig,
    PeopleConfig,
    config_to_dict,
    flat_options,
    same_kind_from_dict,
)
from detection.engine.loop import Progress
from detection.engine.update import Updater, restore_random_state
from detection.errors import UserError
from detection.files import replacing

if TYPE_CHECKING:
    from detection.engine.tasks.base import SavedRun

_ADAM = ("step", "exp_avg", "exp_avg_sq")  # what AdamW cannot do a step without


def save_checkpoint(
    path: Path,
    *,
    save: Callable[[Path, nn.Module, Mapping[str, Any]], None],
    model: nn.Module,
    updater: Updater,
    progress: Progress,
    random_states: Sequence[Mapping[str, Any]],
    unreadable: Sequence[int] = (),
    data: Mapping[str, str] | None = None,
) -> None:
    """Write weights, optimiser, scaler, progress and random states, whole or not at all.

    Where averaged weights (EMA) are kept, they are the file's weights, and those that they follow
    are part of its training state.

    save: writes the network and the training state in the form of its task (`Task.save`).
    random_states: `random_state()` of every process, by rank.
    unreadable: samples of the epoch under way that each could not read.
    data: digests of the files that determine training and scoring data, as `digests` gives them.
    """
    training = {
        "progress": dataclasses.asdict(progress),
        "optimizer": updater.optimizer.state_dict(),
        "scaler": updater.scaler.state_dict(),
        "random": list(random_states),
        "unreadable": list(unreadable),
        "data": dict(data or {}),
        "followed_weights": None if updater.average is None else model.state_dict(),
    }
    save(path, model if updater.average is None else updater.average.model, training)


def restore_training(
    file: SavedRun,
    *,
    model: nn.Module,
    updater: Updater,
    progress: Progress,
    rank: int = 0,
    processes: int = 1,
) -> bool:
    """Put optimiser, progress and random states back as they were when the file was written.

    model: filled with the file's weights already; replaced by those that an average follows.
    Returns False, and leaves the random state alone, where another number of processes wrote it.
    """
    if "progress" not in file.training:
        raise UserError(f"{file.path}: holds no training state to go on from")
    said = SavedValues(file.path, file.training, "training")
    saved = _checked_progress(said, progress)
    states = said.listed("random")
    for index, state in enumerate(states):
        _check_random(file.path, state, f"training.random[{index}]")
    optimizer = _checked_optimizer(file.path, said, updater.optimizer)
    scaler = _checked_scaler(said) if updater.scaler.is_enabled() else None
    unaveraged = None if updater.average is None else unaveraged_weights(file, model)
    updater.optimizer.load_state_dict(optimizer)
    if scaler is not None:
        updater.scaler.load_state_dict(scaler)
    for name, value in saved.items():
        setattr(progress, name, value)
    if updater.average is not None and unaveraged is not None:
        updater.average.restore(file.state, updates=progress.update)
        model.load_state_dict(unaveraged)
    if len(states) != processes:
        return False
    try:
        restore_random_state(states[rank])
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        what = f"training.random[{rank}] is no state of random generators"
        raise UserError(f"{file.path}: a damaged checkpoint: {what} ({error})") from error
    return True


def unaveraged_weights(file: SavedRun, model: nn.Module) -> dict[str, Tensor]:
    """Return the weights as last updated, which the file's own are an average of.

    Raises `UserError` where the run kept no average, or where they are not `model`'s.
    """
    if file.training.get("followed_weights") is None:
        raise UserError(f"{file.path}: the run kept no averaged weights (optim.ema_decay)")
    saved = SavedValues(file.path, file.training, "training").within("followed_weights")
    own = model.state_dict()
    for key, value in own.items():
        found = saved.raw(key)
        if not isinstance(found, Tensor) or found.shape != value.shape:
            saved.refuse(key, found, f"a tensor of {list(value.shape)} is")
    saved.refuse_others(own)
    state = dict(saved.items())
    check_weights(file.path, state)
    return state


def check_configuration(file: SavedRun, config: AnyConfig, *, changeable: Sequence[str]) -> None:
    """Refuse to go on by another configuration than the checkpoint's; list every difference."""
    before = same_kind_from_dict(config, file.config or {}, file.path)
    saved = dict(flat_options(config_to_dict(before)))
    differences = [
        f"{name} is {value!r}, was {saved.get(name)!r}"
        for name, value in flat_options(config_to_dict(config))
        if name not in changeable and value != saved.get(name)
    ]
    if differences:
        option = "start_from" if isinstance(config, PeopleConfig) else "pretrained"
        raise UserError(
            f"{file.path}: was written by another configuration than is asked for now: "
            f"{'; '.join(differences)}; start a new run, with model.{option}={file.path} say"
        )


def keep_copy(last: Path, name: str, *, kept: int) -> None:
    """Keep a checkpoint under another name too, and of such copies the newest `kept`."""
    with replacing(last.with_name(f"{name}.pt")) as temporary:
        shutil.copyfile(last, temporary)
    prefix = name.rpartition("_")[0]
    copies = sorted(last.parent.glob(f"{prefix}_*.pt"), key=lambda path: path.stat().st_mtime_ns)
    for old in copies[:-kept]:
        old.unlink()


def _checked_progress(said: SavedValues, usual: Progress) -> dict[str, Any]:
    """Return the saved fields of a progress; `usual` is one at its defaults.

    Whole numbers are counts from -1 on, other numbers may be NaN (no score yet). Fields that the
    file does not have keep their defaults; unknown ones are refused.
    """
    saved = said.within("progress")
    defaults = dataclasses.asdict(usual)
    saved.refuse_others(defaults)
    found: dict[str, float] = {}
    for name in saved.names():
        if type(defaults[name]) is int:
            found[name] = saved.whole(name, min(0, defaults[name]), 1 << 53)
        else:
            found[name] = saved.number(name, -1e30, 1e30, nan=True)
    return found


def _checked_optimizer(
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
        fit = (type(number) in (int, float) and 0 <= number < 1 for number in numbers)
        if len(numbers) != len(own) or not all(fit):
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
            one_number = value.numel() == 1 and name not in ("exp_avg", "exp_avg_sq")
            if value.shape != weight.shape and not one_number:
                said.refuse(name, list(value.shape), f"a tensor of {list(weight.shape)} is")
            check_weights(path, {f"{place}.{name}": value})
        elif name in ("exp_avg", "exp_avg_sq", "momentum_buffer"):
            said.refuse(name, value, "a tensor is")
        else:
            said.number(name, -1e30, 1e30)


def _is_count(value: Any) -> bool:
    return type(value) in (int, float) or (isinstance(value, Tensor) and value.numel() == 1)


def _checked_scaler(said: SavedValues) -> dict[str, Any]:
    saved = said.within("scaler")
    return {
        "scale": saved.number("scale", 1e-30, 1e30),
        "growth_factor": saved.number("growth_factor", 1, 1e6),
        "backoff_factor": saved.number("backoff_factor", 1e-6, 1),
        "growth_interval": saved.whole("growth_interval", 1, LARGEST_WHOLE),
        "_growth_tracker": saved.whole("_growth_tracker", 0, LARGEST_WHOLE),
    }


def _check_random(path: str, states: Any, place: str) -> None:
    """Check the saved random states of one process (`detection.engine.update`)."""
    said = SavedValues(path, states, place)
    python = said.listed("python")
    if len(python) != 3 or type(python[1]) not in (list, tuple):
        said.refuse("python", python, "the state of Python's generator is")
    _check_torch_random(said, "torch", torch.get_rng_state())
    if "cuda" in said.names() and torch.cuda.is_available():
        _check_torch_random(said, "cuda", torch.cuda.get_rng_state())


def _check_torch_random(said: SavedValues, name: str, now: Tensor) -> None:
    """Check a saved state of one of PyTorch's generators; `now` is what it looks like."""
    value = said.raw(name)
    is_state = isinstance(value, Tensor) and value.dtype == torch.uint8 and value.ndim == 1
    if not is_state or (now.device.type == "cpu" and value.shape != now.shape):
        said.refuse(name, value, "the state of a random generator is")
