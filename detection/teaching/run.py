"""The run folder that teaching writes: as good as one of `train_ava.py`, made again at each fit."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detection.config import RunConfig, config_to_yaml
from detection.datasets.folder import DatasetFolder
from detection.engine.environment import describe_environment
from detection.engine.run_folder import TAUGHT_FILE
from detection.engine.tasks.x3d import save_network
from detection.errors import UserError
from detection.files import LOCK_NAME, write_text
from detection.formats.json_text import json_text
from detection.models.action_detector import ActionDetector
from detection.people.beside_run import store_people
from detection.structures import ClassThresholds, LabelMap

SUMMARY_FILE = TAUGHT_FILE  # only a run that has it is ever written again


def check_taught_folder(run: Path) -> None:
    """Raise `UserError` for a folder that holds anything but a run of teaching."""
    if run.exists() and not run.is_dir():
        raise UserError(f"{run}: is a file, a run folder is required")
    if not run.is_dir() or (run / SUMMARY_FILE).is_file():
        return
    others = sorted(path.name for path in run.iterdir() if path.name != LOCK_NAME)
    if others:
        raise UserError(
            f"{run}: holds {others[0]} and no {SUMMARY_FILE}, so it is another run and is kept; "
            "choose another with --out"
        )


def write_taught_run(
    run: Path,
    model: ActionDetector,
    *,
    config: RunConfig,
    folder: DatasetFolder,
    label_map: LabelMap,
    summary: Mapping[str, Any],
    thresholds: ClassThresholds | None,
) -> None:
    """Write a run that `detect_actions --checkpoint RUN` opens; each file whole or not at all.

    The checkpoint comes last: until it is there, the last one stands.
    """
    write_text(run / SUMMARY_FILE, json_text(summary))
    write_text(run / "config.yaml", config_to_yaml(config))
    write_text(run / "environment.json", json_text(describe_environment(sys.argv, config.seed)))
    store_people(run, folder.file.people)
    save_network(
        run / "checkpoints" / "last.pt",
        model,
        {},
        config=config,
        label_map=label_map,
        exclusive=label_map.exclusive,
        thresholds=thresholds,
    )
