"""A run's checkpoints: weights, and all that it takes to go on as if never stopped."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from detection.config import RunConfig, config_to_dict
from detection.data.label_map import LabelMap
from detection.engine.averaging import WeightAverage
from detection.engine.training import Progress
from detection.errors import UserError
from detection.models.checkpoint_file import (
    FrameSampling,
    ModelFile,
    read_model_file,
    save_model_file,
)
from detection.models.network import Network, network_numbers


def save_checkpoint(
    path: str | Path,
    *,
    config: RunConfig,
    label_map: LabelMap,
    model: Network,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    average: WeightAverage | None,
    random_states: Sequence[Mapping[str, Any]],
) -> None:
    """Write weights, optimiser, progress and random states, whole or not at all.

    Where averaged weights are kept, they are the file's weights, and those that they follow are
    part of its training state. random_states: `random_state()` of every process, by rank.
    """
    save_model_file(
        path,
        (model if average is None else average.model).state_dict(),
        network=network_numbers(model),
        classes=label_map,
        sampling=FrameSampling(
            num_frames=config.clip.num_frames,
            step=config.clip.step,
            short_side_px=config.clip.test_short_side_px,
            pixel_mean=model.pixels.mean,
            pixel_std=model.pixels.std,
        ),
        config=config_to_dict(config),
        training={
            "progress": dataclasses.asdict(progress),
            "optimizer": optimizer.state_dict(),
            "random": list(random_states),
            "followed_weights": None if average is None else model.state_dict(),
        },
    )


def restore_training(
    file: ModelFile,
    *,
    model: Network,
    average: WeightAverage | None,
    optimizer: torch.optim.Optimizer,
    progress: Progress,
    rank: int = 0,
    processes: int = 1,
) -> bool:
    """Put optimiser, progress and random states back as they were when the file was written.

    model: filled with the file's weights already; replaced by those that `average` follows.
    Returns False, and leaves the random state alone, where another number of processes wrote it.
    """
    training = file.training
    try:
        saved, states, groups = training["progress"], training["random"], training["optimizer"]
    except KeyError as error:
        raise UserError(f"{file.path}: holds no training state to go on from") from error
    optimizer.load_state_dict(groups)
    for name, value in saved.items():
        setattr(progress, name, value)
    if average is not None:
        average.restore(file.state, updates=progress.update)
        model.load_state_dict(followed_weights(file))
    if len(states) != processes:
        return False
    _restore_random_state(states[rank])
    return True


def followed_weights(file: ModelFile) -> dict[str, torch.Tensor]:
    """Return the weights as last updated, which the file's own are an average of.

    Raises `UserError` where the run kept no average.
    """
    weights = file.training.get("followed_weights")
    if weights is None:
        raise UserError(f"{file.path}: the run kept no averaged weights (optim.ema_decay)")
    return weights


def find_checkpoint(file_or_run: str | Path) -> Path:
    """Return the checkpoint file that a path names: itself, or a run folder's last one."""
    path = Path(file_or_run)
    if path.is_dir():
        last = path / "checkpoints" / "last.pt"
        if not last.is_file():
            raise UserError(f"{path}: no checkpoints/last.pt in this folder, it is not a run")
        return last
    if not path.is_file():
        raise UserError(f"{path}: no such checkpoint file or run folder")
    return path


def read_checkpoint(file_or_run: str | Path, *, weights_only: bool = False) -> ModelFile:
    """Read a checkpoint of this project that holds a network and its classes."""
    file = read_model_file(find_checkpoint(file_or_run), weights_only=weights_only)
    if file.network is None or file.classes is None or file.sampling is None:
        raise UserError(
            f"{file.path}: holds weights ({file.naming} names) but no network, classes and "
            "sampling; start a run from it with model.pretrained instead"
        )
    return file


def random_state() -> dict[str, Any]:
    """Return the state of this process's random generators, in plain types."""
    version, internal, gauss = random.getstate()
    states: dict[str, Any] = {
        "python": [version, list(internal), gauss],
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state_all()
    return states


def _restore_random_state(states: dict[str, Any]) -> None:
    version, internal, gauss = states["python"]
    random.setstate((version, tuple(internal), gauss))
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.device_count() == len(states["cuda"]):
        torch.cuda.set_rng_state_all(states["cuda"])
