"""Everything in which learning actions and learning clips differ; the loop and runs know no more.

Legend: R rows of a batch that have labels (actors, or clips), A classes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from detection.checkpoints.load import Network
from detection.datasets.loader import ClipLoader, TrainBatches
from detection.engine.distributed import Processes
from detection.engine.metrics_log import MetricsLog
from detection.structures import LabelMap


@dataclass(frozen=True)
class Evaluation:
    """How good the weights are while they learn: the task's metric, and the same of each class."""

    score: float
    per_class: Mapping[str, float]


class Task(Protocol):
    """One task on one data set, as a configuration asks for it.

    name: as configurations and checkpoints say it.  metric: of the number by which epochs are
    compared.  label_map: the classes that are learned; classes_path: the file they come from.
    exclusive: groups of its columns of which a person does at most one at a time, by name.
    """

    name: str
    metric: str
    label_map: LabelMap
    classes_path: Path
    exclusive: Mapping[str, tuple[int, ...]]

    @property
    def data_files(self) -> Mapping[str, Path | str]:
        """What says what is learned and scored: files, or texts."""

    def build_model(self) -> Network:
        """Build the network with random weights drawn from the global generator."""

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """Read and check what is scored on, before anything is written or computed."""

    def training_batches(
        self, *, device: torch.device, processes: Processes
    ) -> tuple[ClipLoader[Any], TrainBatches]:
        """Read and check what is learned from; return it and the order of this process's part."""

    def fit_probe(self, model: Network, *, device: torch.device, processes: Processes) -> str:
        """Fit the last layer to what the weights already see; return what was done, in words."""

    def loss(self, logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, int]:
        """Return the summed loss of (R, A) logits and labels, and the number of terms summed.

        An update minimises the sum over all its batches and processes, divided by all their terms.
        """

    def score(self, model: Network) -> Evaluation:
        """Return `metric` of the weights as they are, for comparing epochs."""

    def report(self, model: Network, folder: Path, log: MetricsLog) -> None:
        """Score everything with the weights as they are; write, log and print the results."""
