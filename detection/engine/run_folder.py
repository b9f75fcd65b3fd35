"""The folder of a run: made once, never over anything that is not a run."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from detection.engine.environment import describe_environment
from detection.errors import UserError
from detection.files import write_text


def check_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder in use or unwritable; only a run is ever replaced, never other files."""
    check_writable(folder)
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


def check_writable(folder: Path) -> None:
    """Raise `UserError` where no file can be written into a folder that is there or to be made."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    try:
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(b" ")
    except NotADirectoryError as error:
        raise UserError(f"{place}: a file, a run folder is wanted") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def make_run_folder(folder: Path, *, config_yaml: str, seed: int, processes: int = 1) -> None:
    """Make the folder anew, with config.yaml and environment.json; whole, or not at all."""
    folder = folder.absolute()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".run-", dir=folder.parent) as temporary:
        new, old = Path(temporary) / "new", Path(temporary) / "old"
        (new / "checkpoints").mkdir(parents=True)
        write_text(new / "config.yaml", config_yaml)
        environment = describe_environment(sys.argv, seed, processes=processes)
        write_text(new / "environment.json", json.dumps(environment, indent=2) + "\n")
        if folder.exists():
            folder.rename(old)
        new.rename(folder)
