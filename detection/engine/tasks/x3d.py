"""What actions and whole clips have in common: an X3D network, its checkpoints, its optimiser."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detection import build
from detection.checkpoints.file import ModelFile, save_model_file
from detection.checkpoints.load import LoadReport, Network, describe_network, load_state
from detection.config import RunConfig, config_to_dict
from detection.engine.distributed import Processes
from detection.engine.tasks.base import BatchLoss
from detection.errors import UserError
from detection.relevance import Relevance
from detection.structures import ClassThresholds, LabelMap


class X3DTask:
    """The base of both tasks.

    label_map: the classes that are learned; classes_path: the file they come from.
    exclusive: groups of its columns of which a person does at most one at a time, by name.
    """

    name: str
    command = "python train_ava.py"
    evaluation_event = "evaluation"
    scores_last_epoch = False
    label_map: LabelMap
    classes_path: Path
    exclusive: Mapping[str, tuple[int, ...]]
    _config: RunConfig
    _device: torch.device
    _relevance: Relevance | None = None

    def initialize(self, model: nn.Module) -> LoadReport | None:
        """See `Task.initialize`."""
        return build.start_from_pretrained(self._config, _x3d(model), self.label_map)

    def load(self, model: nn.Module, file: ModelFile) -> None:
        """See `Task.load`."""
        load_state(_x3d(model), file, class_names=self.label_map.names)
        build.freeze_parts(self._config, _x3d(model))

    def check_fits(self, file: ModelFile) -> None:
        """Refuse weights of another task, or whose columns stand for other classes."""
        assert file.classes is not None and file.network is not None
        if file.network.task != self.name:
            raise UserError(
                f"{file.path}: a network for task '{file.network.task}', one for task "
                f"'{self.name}' is required"
            )
        label_map = self.label_map
        if (file.classes.names, file.classes.ids) != (label_map.names, label_map.ids):
            theirs, ours = set(file.classes.names), set(label_map.names)
            only = sorted(theirs ^ ours)[:3]
            what = f"among them {', '.join(only)}" if only else "in another order or with other ids"
            raise UserError(
                f"{file.path}: its {len(file.classes.names)} classes are not the {len(label_map)} "
                f"of {self.classes_path} ({what})"
            )

    def place(self, model: nn.Module, device: torch.device) -> Network:
        """See `Task.place`."""
        return build.prepare_to_train(self._config, build.place_model(_x3d(model), device), device)

    def begin(self, folder: Path) -> Mapping[str, Any]:
        """See `Task.begin`."""
        return {}

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """See `Task.build_optimizer`."""
        return build.build_optimizer(self._config, model, head=_x3d(model).head)

    def training_module(self, model: nn.Module) -> nn.Module:
        """See `Task.training_module`."""
        if self._config.compile:
            _x3d(model).trunk.compile()
        return model

    def fit_probe(
        self, model: nn.Module, *, device: torch.device, processes: Processes
    ) -> str | None:
        """See `Task.fit_probe`."""
        return None

    def loss(
        self, module: nn.Module, batch: Any, *, update: int = 0, num_updates: int = 1
    ) -> BatchLoss:
        """See `Task.loss`."""
        precision = build.build_precision(self._config, self._device)
        mixed = precision != torch.float32
        with torch.autocast(self._device.type, precision, enabled=mixed):
            logits = self.forward(module, batch)
            labels = batch.labels.to(self._device, non_blocking=True)
            return BatchLoss(*self.summed_loss(logits, labels))

    def summed_loss(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, int]:
        """Return the summed loss of (R, A) logits and labels, and the number of terms summed.

        R: rows of a batch that have labels (actors, or clips).  A: classes.
        """
        raise NotImplementedError

    def forward(self, model: nn.Module, batch: Any) -> Tensor:
        """Return the logits (R, A) of a batch."""
        inputs = (part.to(self._device, non_blocking=True) for part in batch.inputs)
        logits: Tensor = model(*inputs)
        return logits

    def save(self, path: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """See `Task.save`."""
        save_network(
            path,
            model,
            training,
            config=self._config,
            label_map=self.label_map,
            exclusive=self.exclusive,
            relevance=self._relevance,
        )


def save_network(
    path: str | Path,
    model: nn.Module,
    training: Mapping[str, Any],
    *,
    config: RunConfig,
    label_map: LabelMap,
    exclusive: Mapping[str, tuple[int, ...]],
    thresholds: ClassThresholds | None = None,
    relevance: Relevance | None = None,
) -> None:
    """Write a checkpoint that is enough to run the network, whole or not at all.

    exclusive: groups of the label map's columns, as `DatasetFolder.exclusive_groups` gives them.
    thresholds: one for each of the label map's classes, where any were learned.  relevance: of the
    boxes that are scored, where it was fitted.
    """
    model = _x3d(model)
    save_model_file(
        path,
        model.state_dict(),
        network=describe_network(model),
        classes=dataclasses.replace(label_map, exclusive=exclusive),
        sampling=config.clip.sampling,
        short_side_px=config.clip.test_short_side_px,
        config=config_to_dict(config),
        training=training,
        thresholds=thresholds,
        relevance=relevance,
    )


def _x3d(model: nn.Module) -> Network:
    assert isinstance(model, Network)
    return model
