"""What the loop, checkpoints and run folders ask of a task; they know no more about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from tqdm import tqdm

from detection.checkpoints.file import ModelFile
from detection.config import AnyConfig
from detection.datasets.actions import AvaDataset
from detection.datasets.clips import ClipDataset
from detection.datasets.loader import ClipLoader, TrainBatches, print_unreadable
from detection.engine.distributed import Processes
from detection.engine.metrics_log import MetricsLog

if TYPE_CHECKING:
    from detection.people.weights import PeopleFile

    SavedRun = ModelFile | PeopleFile

ItemT = TypeVar("ItemT")


class TrainingBatch(Protocol):
    """What the loop asks of a batch, whatever is trained."""

    @property
    def keys(self) -> Sequence[str]:
        """What messages call each sample."""


@dataclass(frozen=True)
class BatchLoss:
    """The loss of one batch.

    total: summed over its terms, a scalar with a gradient.
    terms: how many were summed. An update minimises the sum over all its batches and processes,
        divided by all their terms.
    parts: sums that make up the total, by name, for the log.
    """

    total: Tensor
    terms: int
    parts: Mapping[str, Tensor] = field(default_factory=dict)


@dataclass(frozen=True)
class Evaluation:
    """How good the weights are during training: the task's metric, and the same of each class."""

    score: float
    per_class: Mapping[str, float]


class Task(Protocol):
    """One task on one data set, as a configuration asks for it.

    name: as configurations and checkpoints have it.
    command: that trains it.
    metric: of the number by which epochs are compared.
    evaluation_event: the name of such a comparison in the log.
    scores_last_epoch: whether the last epoch is compared too (best.pt may then be the last).
    """

    name: str
    command: str
    metric: str
    evaluation_event: str
    scores_last_epoch: bool

    @property
    def data_files(self) -> Mapping[str, Path | str]:
        """What determines training and scoring data: files, or texts."""

    def build_model(self) -> nn.Module:
        """Build the network with random weights drawn from the global generator."""

    def initialize(self, model: nn.Module) -> object | None:
        """Load the weights that training starts from; return what to report about them."""

    def load(self, model: nn.Module, file: Any) -> None:
        """Load a checkpoint's weights to go on from."""

    def check_fits(self, file: Any) -> None:
        """Raise `UserError` for a checkpoint of another task, network or classes."""

    def place(self, model: nn.Module, device: torch.device) -> nn.Module:
        """Return the network on its device, ready to be trained or scored."""

    def prepare_scoring(self, *, device: torch.device, processes: Processes) -> None:
        """Read and check what is scored on, before anything is written or computed."""

    def training_batches(
        self, *, device: torch.device, processes: Processes
    ) -> tuple[ClipLoader[Any], TrainBatches]:
        """Read and check the training data; return it and the order of this process's part."""

    def begin(self, folder: Path) -> Mapping[str, Any]:
        """Write what the task keeps in a new run folder; return what the log's start says of it."""

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """Build the optimiser of the trainable parameters."""

    def training_module(self, model: nn.Module) -> nn.Module:
        """Return the module that `loss` calls; its parameters are those of the network."""

    def fit_probe(
        self, model: nn.Module, *, device: torch.device, processes: Processes
    ) -> str | None:
        """Fit the last layer to what the weights already see, where asked; say what was done."""

    def loss(
        self, module: nn.Module, batch: Any, *, update: int = 0, num_updates: int = 1
    ) -> BatchLoss:
        """Return the loss of a batch in the `update`-th (from 0) of the run's updates."""

    def forward(self, model: nn.Module, batch: Any) -> object:
        """Run the network over a batch, for the statistics of its BatchNorm."""

    def score(self, model: nn.Module) -> Evaluation | None:
        """Return `metric` of the weights as they are, for comparing epochs; None: nothing to."""

    def save(self, path: Path, model: nn.Module, training: Mapping[str, Any]) -> None:
        """Write a checkpoint, whole or not at all."""

    def report(self, model: nn.Module, folder: Path, log: MetricsLog) -> None:
        """Score the finished run; write, log and print the results."""


def check_videos(
    dataset: AvaDataset | ClipDataset, config: AnyConfig, processes: Processes
) -> None:
    """See that videos can be read; name those few that cannot, whose clips are then replaced."""
    unreadable = dataset.check_videos(
        show_progress=processes.is_first, most_unreadable=config.data.max_unreadable
    )
    if processes.is_first:
        for line in unreadable.values() if isinstance(unreadable, dict) else unreadable:
            print_unreadable(line)


def batch_progress(batches: Iterable[ItemT], what: str, processes: Processes) -> tqdm[ItemT]:
    """Return the batches, counted on the terminal by the first process; it goes when all are done.

    what: opens the line.
    """
    return tqdm(
        batches,
        desc=what,
        unit="batch",
        leave=False,
        dynamic_ncols=True,
        disable=not processes.is_first,
    )
