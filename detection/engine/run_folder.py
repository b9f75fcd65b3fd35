"""The folder of a run: made once, never over anything that is not a run."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from detection.engine.environment import describe_environment
from detection.errors import UserError
from detection.files import write_text


def check_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder in use; only a run is ever replaced, never somebody's other files."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: a file, a run folder is wanted")
    if not any(folder.iterdir()):
        return
    if not (folder / "config.yaml").is_file():
        raise UserError(f"{folder}: holds files but no run, choose another with output=FOLDER")
    if not overwrite:
        raise UserError(
            f"{folder}: exists; go on with --resume {folder}, replace it with --overwrite, or "
            "choose another with output=FOLDER"
        )


def make_run_folder(folder: Path, *, config_yaml: str, seed: int, processes: int = 1) -> None:
    """Make the folder anew, with config.yaml and environment.json."""
    if folder.exists():
        shutil.rmtree(folder)
    (folder / "checkpoints").mkdir(parents=True)
    write_text(folder / "config.yaml", config_yaml)
    environment = describe_environment(sys.argv, seed, processes=processes)
    write_text(folder / "environment.json", json.dumps(environment, indent=2) + "\n")
