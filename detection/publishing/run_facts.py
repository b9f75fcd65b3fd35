"""What a run measured and on which data, as its folder says, for a model's card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.checkpoints.file import ModelFile
from detection.datasets.folder import FILE_NAME, DatasetFolder
from detection.errors import UserError
from detection.formats.json_text import read_json_object
from detection.people.weights import PeopleFile

METRICS_FILE = "metrics.json"


@dataclass(frozen=True)
class RunFacts:
    """What a run's folder says; empty for weights that lie alone.

    data: the data set's name; None: unknown.
    made_up: whether its videos are drawn by a program; None: unknown.
    train_split, val_split: of the data set, where they are known.
    metrics: what metrics.json holds, of these weights; empty where it is absent or of others.
    """

    data: str | None = None
    made_up: bool | None = None
    train_split: str | None = None
    val_split: str | None = None
    metrics: Mapping[str, Any] = field(default_factory=dict)

    def number(self, *keys: str) -> float | None:
        """Return a number of the metrics by its path of keys; None where there is none."""
        value: Any = self.metrics
        for key in keys:
            value = value.get(key) if isinstance(value, Mapping) else None
        return float(value) if type(value) in (int, float) else None

    def text(self, key: str) -> str | None:
        """Return a text of the metrics; None where there is none."""
        value = self.metrics.get(key)
        return value if isinstance(value, str) and value else None


def read_run_facts(model: ModelFile | PeopleFile) -> RunFacts:
    """Read what the run of a checkpoint says; `UserError` where its files are damaged.

    metrics.json is of a run's last weights (of people: of best.pt, where that is there): of other
    checkpoints nothing was measured.
    """
    path = Path(model.path)
    data = (model.config or {}).get("data")
    data = data if isinstance(data, Mapping) else {}
    splits = {name: _text(data.get(name)) for name in ("train_split", "val_split")}
    root = _text(data.get("root"))
    name, made_up = (None, None) if root is None else _data_set(Path(root))
    metrics: Mapping[str, Any] = {}
    run = path.parent.parent
    if path.parent.name == "checkpoints" and path.name == _measured(model, path.parent):
        file = run / METRICS_FILE
        metrics = read_json_object(file) if file.is_file() else {}
    return RunFacts(name, made_up, **splits, metrics=metrics)


def _measured(model: ModelFile | PeopleFile, checkpoints: Path) -> str:
    is_people = isinstance(model, PeopleFile)
    return "best.pt" if is_people and (checkpoints / "best.pt").is_file() else "last.pt"


def _data_set(root: Path) -> tuple[str | None, bool | None]:
    """Return a data set's name, and whether it is made up; its folder's name if gone."""
    if (root / FILE_NAME).is_file():
        try:
            folder = DatasetFolder.open(root)
        except UserError:  # damaged since: its name is all that is asked for
            return root.name or None, None
        return folder.name, folder.file.made_up
    return root.name or None, None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
