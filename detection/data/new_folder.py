"""A folder made whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.data.dataset_folder import FILE_NAME
from detection.errors import UserError


@contextmanager
def new_dataset_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`; when the block ends well it becomes `out`.

    overwrite: replace a data set folder that is there (never a folder that is something else).
    Raises `UserError` where `out` exists, before anything is done.
    """
    out = Path(out)
    if out.is_symlink() or (out.exists() and not out.is_dir()):
        raise UserError(f"{out}: is there already and is no folder")
    occupied = out.is_dir() and any(out.iterdir())
    if occupied and not overwrite:
        raise UserError(f"{out}: is there already; --overwrite replaces it")
    if occupied and not (out / FILE_NAME).is_file():
        raise UserError(f"{out}: is there already and is no data set folder, so it is kept")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        building = Path(tempfile.mkdtemp(prefix=f".{out.name}-building-", dir=out.parent))
    except OSError as error:
        raise UserError(f"{out}: cannot be written ({error.strerror})") from error
    try:
        yield building
        building.chmod(0o755)
        if out.is_dir():
            replaced = Path(tempfile.mkdtemp(prefix=f".{out.name}-replaced-", dir=out.parent))
            out.rename(replaced / out.name)
            building.rename(out)
            shutil.rmtree(replaced)
        else:
            building.rename(out)
    finally:
        shutil.rmtree(building, ignore_errors=True)
