"""The folder of a run: one writer at a time, never made over anything that is not a run."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from detection.checkpoints.plain_file import MODEL_CONFIG
from detection.config import AnyConfig
from detection.engine.distributed import ALONE, Processes
from detection.engine.environment import describe_environment
from detection.errors import UserError
from detection.files import LOCK_NAME, naming, only_writer, write_text

# What a run has before its first checkpoint; losing it loses nothing.
_OF_A_START = (
    "config.yaml",
    "environment.json",
    "log.jsonl",
    "held_out_videos.txt",
    "checkpoints",
    "tensorboard",
    "mlflow_run.json",
    "wandb_run.json",
    "wandb",
)
_BUILDING = ".run-"  # of a start under way, or killed

TAUGHT_FILE = "teach.json"  # by which a run of teaching is known


@contextmanager
def only_run(
    folder: Path, processes: Processes = ALONE, *, option: str = "output=FOLDER"
) -> Iterator[None]:
    """Hold a run's folder, from before anything in it is looked at until the run has ended.

    Of several processes the first holds it for all. Raises `UserError`, in all of them, where
    another run holds it, or where it cannot be written.  option: that names another folder.
    """
    with ExitStack() as held:

        def hold() -> None:
            check_writable(folder)
            busy = f"another run writes here; wait for its end, or choose another with {option}"
            held.enter_context(only_writer(folder, busy=busy))

        processes.by_first(hold)
        yield


def folder_of(config: AnyConfig) -> Path:
    """Return the folder that a configuration's run goes to."""
    return Path(config.output or "runs/unnamed")


def results_folder(checkpoint: str, config: AnyConfig, overrides: Sequence[str]) -> Path:
    """Return where scores of a checkpoint go: beside its run, or `output` of an override."""
    if config.output and any(override.startswith("output=") for override in overrides):
        return Path(config.output)
    beside = Path(checkpoint).parent
    if Path(checkpoint).name == MODEL_CONFIG:
        raise UserError(f"{beside}: a model folder, in which no results are kept: output=FOLDER")
    return beside.parent if beside.name == "checkpoints" else beside


def check_run_folder(folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder in use; only a run is ever replaced, never other files."""
    if not folder.exists() or not any(_is_content(found) for found in folder.iterdir()):
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
        raise UserError(f"{place}: a file, a run folder is required") from error
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def make_run_folder(folder: Path, *, config_yaml: str, seed: int, processes: int = 1) -> None:
    """Empty the folder, which the caller holds, and put config.yaml and environment.json into it.

    The folder itself stays, and with it the lock on it. What is new is written before anything old
    is removed; config.yaml is replaced last, so that a start that is killed leaves a run.
    """
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.glob(f"{_BUILDING}*"):  # of starts that were killed
            _remove(left)
        with tempfile.TemporaryDirectory(prefix=_BUILDING, dir=folder) as temporary:
            new = Path(temporary)
            write_text(new / "config.yaml", config_yaml)
            environment = describe_environment(sys.argv, seed, processes=processes)
            write_text(new / "environment.json", json.dumps(environment, indent=2) + "\n")
            for old in folder.iterdir():
                if _is_content(old) and old.name != "config.yaml":
                    _remove(old)
            for name in ("config.yaml", "environment.json"):
                (new / name).rename(folder / name)
        (folder / "checkpoints").mkdir()


def check_begins_again(folder: Path) -> None:
    """Refuse to begin a run without a last checkpoint again where that would lose anything."""
    checkpoints = sorted(path.name for path in (folder / "checkpoints").glob("[!.]*.pt"))
    if checkpoints:
        raise UserError(
            f"{folder}: no checkpoints/last.pt in this folder; go on from one of the others "
            f"(--resume {folder / 'checkpoints' / checkpoints[-1]})"
        )
    content = {found.name for found in folder.iterdir() if _is_content(found)}
    others = sorted(name for name in content.difference(_OF_A_START) if name[0] != ".")
    if others:
        raise UserError(
            f"{folder}: no checkpoints/last.pt to go on from, but {', '.join(others[:3])}; begin "
            f"again with --cfg {folder / 'config.yaml'} --overwrite"
        )


def _is_content(path: Path) -> bool:
    """Tell what a person may need from what a start, under way or killed, has left."""
    return path.name != LOCK_NAME and not path.name.startswith(_BUILDING)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
