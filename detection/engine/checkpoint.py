"""A run's checkpoints: weights, and all that it takes to go on as if never stopped."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from detection.checkpoints.plain_file import SavedValues
from detection.config import AnyConfig, PeopleConfig, config_to_dict, same_kind_from_dict
from detection.engine.loop import Progress
from detection.engine.saved_training import (
    checked_optimizer,
    checked_progress,
    checked_random,
    checked_scaler,
    checked_weights,
    training_values,
)
from detection.engine.update import Updater, restore_random_state
from detection.errors import UserError
from detection.files import replacing

if TYPE_CHECKING:
    from detection.engine.tasks.base import SavedRun


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
    save(
        path,
        model if updater.average is None else updater.average.model,
        {
            "progress": dataclasses.asdict(progress),
            "optimizer": updater.optimizer.state_dict(),
            "scaler": updater.scaler.state_dict(),
            "random": list(random_states),
            "unreadable": list(unreadable),
            "data": dict(data or {}),
            "followed_weights": None if updater.average is None else model.state_dict(),
        },
    )


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
    said = training_values(file.path, file.training)
    saved = checked_progress(said, progress)
    states = said.listed("random")
    for index, state in enumerate(states):
        checked_random(file.path, state, f"training.random[{index}]")
    optimizer = checked_optimizer(file.path, said, updater.optimizer)
    scaler = checked_scaler(said) if updater.scaler.is_enabled() else None
    followed = None if updater.average is None else followed_weights(file, model)
    updater.optimizer.load_state_dict(optimizer)
    if scaler is not None:
        updater.scaler.load_state_dict(scaler)
    for name, value in saved.items():
        setattr(progress, name, value)
    if updater.average is not None and followed is not None:
        updater.average.restore(file.state, updates=progress.update)
        model.load_state_dict(followed)
    if len(states) != processes:
        return False
    try:
        restore_random_state(states[rank])
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        raise UserError(
            f"{file.path}: a damaged checkpoint: training.random[{rank}] is no state of random "
            f"generators ({error})"
        ) from error
    return True


def followed_weights(file: SavedRun, model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights as last updated, which the file's own are an average of.

    Raises `UserError` where the run kept no average, or where they are not `model`'s.
    """
    if file.training.get("followed_weights") is None:
        raise UserError(f"{file.path}: the run kept no averaged weights (optim.ema_decay)")
    said = SavedValues(file.path, file.training, "training")
    return checked_weights(file.path, said, "followed_weights", model)


def check_configuration(file: SavedRun, config: AnyConfig, *, changeable: Sequence[str]) -> None:
    """Refuse to go on by another configuration than the checkpoint's; list every difference."""
    before = same_kind_from_dict(config, file.config or {}, file.path)
    saved = dict(_flat(config_to_dict(before)))
    differences = [
        f"{name} is {value!r}, was {saved.get(name)!r}"
        for name, value in _flat(config_to_dict(config))
        if name not in changeable and value != saved.get(name)
    ]
    if differences:
        option = "start_from" if isinstance(config, PeopleConfig) else "pretrained"
        raise UserError(
            f"{file.path}: was written by another configuration than is asked for now: "
            f"{'; '.join(differences)}; start a new run, with model.{option}={file.path} say"
        )


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def keep_copy(last: Path, name: str, *, kept: int) -> None:
    """Keep a checkpoint under another name too, and of such copies the newest `kept`."""
    with replacing(last.with_name(f"{name}.pt")) as temporary:
        shutil.copyfile(last, temporary)
    prefix = name.rpartition("_")[0]
    copies = sorted(last.parent.glob(f"{prefix}_*.pt"), key=lambda path: path.stat().st_mtime_ns)
    for old in copies[:-kept]:
        old.unlink()
