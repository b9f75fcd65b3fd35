"""What the start of a training run would refuse, for one configuration."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeVar

from detection import build
from detection.checks.findings import Finding
from detection.config import RunConfig
from detection.datasets.folder import DatasetFolder
from detection.datasets.label_map import read_label_map
from detection.datasets.split_joins import require_labels
from detection.errors import UserError

T = TypeVar("T")


def run_findings(
    config: RunConfig, folder: DatasetFolder, cfg: str, *, weights: bool = True
) -> list[Finding]:
    """Return an error for each part of a run that cannot be built from its options and data.

    cfg: the configuration's file. weights: look at `model.pretrained` too.
    """
    found: dict[str, Finding] = {}

    def attempt(step: Callable[[], T]) -> T | None:
        try:
            return step()
        except (UserError, OSError) as error:
            advice = "change the options of the run, or the data set"
            found[str(error)] = Finding("run", "error", cfg, None, str(error), advice=advice)
        return None

    def on_boxes(name: str) -> RunConfig:
        return dataclasses.replace(config, data=dataclasses.replace(data, val_boxes=name))

    data = config.data
    path = data.label_map and folder.root / data.label_map
    label_map = attempt(lambda: read_label_map(path) if path else folder.read_label_map())
    if label_map is None:
        return list(found.values())
    if attempt(lambda: build.read_train_table(config, folder, label_map)) is not None:
        attempt(lambda: require_labels(folder, data.train_split, label_map))
    for name in (data.val_boxes, *data.also_score_boxes):
        attempt(lambda name=name: build.read_val_table(on_boxes(name), folder, label_map))  # type: ignore[misc]
    if config.people.relevance == "fit":
        attempt(lambda: build.find_relevance_boxes(config, folder))
    if weights:
        model = attempt(lambda: build.build_model(config, num_classes=len(label_map)))
        if model is not None:
            attempt(lambda: build.start_from_pretrained(config, model, label_map))
    return list(found.values())
