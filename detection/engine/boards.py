"""Programs that draw a run's log: TensorBoard, MLflow, Weights & Biases; one small interface.

What is drawn is the same in all of them: curves by update, speed, scores, AP by class, images. Each
is an extra, opened when there is something to say.
"""

from __future__ import annotations

import functools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import cv2

from detection.config import BoardName, flat_options
from detection.errors import UserError
from detection.files import read_text, write_text

PROJECT = "x3d-action-detection"  # what runs are gathered under, where a program gathers them


class Sink(Protocol):
    """Takes numbers and images of one run."""

    def number(self, name: str, value: float, update: int) -> None:
        """Add a point of a curve."""

    def image(self, name: str, path: Path, update: int) -> None:
        """Show an image file."""

    def flush(self) -> None:
        """Write what was taken."""


class Board:
    """Draws what `MetricsLog` is told, in each of the programs that were asked for.

    names: of the programs.  folder: of the run.  options: of the run, shown where a program does.
    Raises `UserError` where a package is missing.
    """

    def __init__(
        self, names: Sequence[BoardName], folder: Path, options: Mapping[str, Any]
    ) -> None:
        plain = dict(flat_options(options))
        self._openers = [_OPENERS[name](folder, plain) for name in dict.fromkeys(names)]
        self._update = 0

    @functools.cached_property
    def _sinks(self) -> list[Sink]:
        return [open_() for open_ in self._openers]  # they make files: not before there is a word

    def write(self, event: str, values: Mapping[str, Any]) -> None:
        """Draw one event of the log; those without numbers are left out."""
        self._update = int(values.get("update", self._update))
        for name, value in numbers_of(event, values):
            for sink in self._sinks:
                sink.number(name, value, self._update)
        if event in _SCORES:
            for sink in self._sinks:
                sink.flush()

    def image(self, name: str, path: str | Path) -> None:
        """Show an image file; raises `UserError` where it is none."""
        if cv2.imread(str(path), cv2.IMREAD_COLOR_RGB) is None:
            raise UserError(f"{path}: not an image that can be read")
        for sink in self._sinks:
            sink.image(name, Path(path), self._update)
            sink.flush()


_SCORES = ("evaluation", "held_out", "final")


def numbers_of(event: str, values: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Yield the curves of an event, and their values."""
    found: dict[str, Any] = {}
    if event == "update":
        kept = (n for n in values if n in ("lr", "grad_norm") or n.startswith("loss"))
        found = {f"train/{name}": values[name] for name in kept}
    elif event in ("throughput", "epoch"):
        found = {"speed/clips_per_second": values.get("clips_per_second")}
        shares = values.get("shares", {}).items()
        found |= {f"speed/share_of_time_{name}": share for name, share in shares}
    elif event in _SCORES:
        found = {f"{event}/{n}": value for n, value in values.items() if isinstance(value, float)}
        found |= {f"ap_by_class/{n}": value for n, value in values.get("per_class", {}).items()}
    for name, value in found.items():
        if isinstance(value, int | float):
            yield name, value


def _tensorboard(folder: Path, options: Mapping[str, Any]) -> Callable[[], Sink]:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise _missing("tensorboard", "tensorboard") from error
    return lambda: _TensorBoard(SummaryWriter(str(folder / "tensorboard")))


class _TensorBoard:
    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.flush = writer.flush

    def number(self, name: str, value: float, update: int) -> None:
        self._writer.add_scalar(name, value, update)

    def image(self, name: str, path: Path, update: int) -> None:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR_RGB)
        self._writer.add_image(name, image, update, dataformats="HWC")


def _mlflow(folder: Path, options: Mapping[str, Any]) -> Callable[[], Sink]:
    try:
        import mlflow  # noqa: F401
        import sqlalchemy  # noqa: F401
    except ImportError as error:
        raise _missing("mlflow", "mlflow") from error
    return lambda: _MLflow(folder, options)


class _MLflow:
    """A run of MLflow: at MLFLOW_TRACKING_URI, else in mlflow.db beside the run folder."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        from mlflow.tracking import MlflowClient

        beside = folder.absolute().parent
        address = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{beside / 'mlflow.db'}"
        self._client: Any = MlflowClient(address)
        known = self._client.get_experiment_by_name(PROJECT)
        files = None if "MLFLOW_TRACKING_URI" in os.environ else (beside / "mlflow").as_uri()
        experiment = (
            self._client.create_experiment(PROJECT, artifact_location=files)
            if known is None
            else known.experiment_id
        )
        self._run = _known_run(folder, "mlflow", address)
        if self._run is None:
            self._run = self._client.create_run(experiment, run_name=folder.name).info.run_id
            _note_run(folder, "mlflow", address, self._run)
            for name, value in options.items():
                self._client.log_param(self._run, name, str(value)[:500])

    def number(self, name: str, value: float, update: int) -> None:
        self._client.log_metric(self._run, _plain(name), value, step=update)

    def image(self, name: str, path: Path, update: int) -> None:
        self._client.log_artifact(self._run, str(path))

    def flush(self) -> None:
        """Nothing waits."""


def _wandb(folder: Path, options: Mapping[str, Any]) -> Callable[[], Sink]:
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise _missing("wandb", "wandb") from error
    return lambda: _WandB(folder, options)


class _WandB:
    """A run of Weights & Biases; WANDB_MODE=offline keeps it in RUN/wandb."""

    def __init__(self, folder: Path, options: Mapping[str, Any]) -> None:
        import wandb

        self._wandb: Any = wandb
        known = _known_run(folder, "wandb", PROJECT)
        self._run: Any = wandb.init(
            project=PROJECT,
            name=folder.name,
            dir=str(folder),
            id=known,
            resume="allow" if known else None,
            config=dict(options),
            settings=wandb.Settings(silent=True),
        )
        _note_run(folder, "wandb", PROJECT, self._run.id)

    def number(self, name: str, value: float, update: int) -> None:
        self._run.log({name: value, "update": update})

    def image(self, name: str, path: Path, update: int) -> None:
        self._run.log({name: self._wandb.Image(str(path)), "update": update})

    def flush(self) -> None:
        """Nothing to do: a process of its own writes."""


_OPENERS: Mapping[str, Callable[[Path, Mapping[str, Any]], Callable[[], Sink]]] = {
    "tensorboard": _tensorboard,
    "mlflow": _mlflow,
    "wandb": _wandb,
}


def _missing(board: str, package: str) -> UserError:
    return UserError(
        f"{board} needs its package: pip install 'x3d-action-detection[{board}]' ({package})"
    )


def _plain(name: str) -> str:
    """Return a name of the characters that MLflow takes."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def _known_run(folder: Path, program: str, address: str) -> str | None:
    """Return the id under which a program knows the run in this folder, once it has begun."""
    path = folder / f"{program}_run.json"
    if not path.is_file():
        return None
    try:
        noted = json.loads(read_text(path))
        return str(noted["run"]) if noted["at"] == address else None
    except (ValueError, TypeError, LookupError) as error:
        raise UserError(f"{path}: damaged; remove it, and the run begins anew there") from error


def _note_run(folder: Path, program: str, address: str, run: str) -> None:
    write_text(
        folder / f"{program}_run.json", json.dumps({"at": address, "run": run}, indent=1) + "\n"
    )
