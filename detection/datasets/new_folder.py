"""A folder made whole or not at all."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from detection.datasets.folder import FILE_NAME
from detection.errors import UserError
from detection.files import CannotWriteError, behind_links
from detection.unfinished import left_behind, unfinished_folder


@contextmanager
def new_dataset_folder(out: str | Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty folder beside `out`; when the block ends well it becomes `out`.

    overwrite: replace a data set folder that is there (never a folder that is something else).
    A link is followed: the folder that it names is made or replaced, the link stays. What a killed
    process left of the same output is removed; a data set that it had taken away to replace it is
    put back first, which is said on stderr. Raises `UserError` where `out` exists, before anything
    is done, and where it cannot be written.
    """
    named, out = Path(out), behind_links(out)
    with ExitStack() as stack:
        try:
            _tidy(named, out)
            _refuse_occupied(named, out, overwrite=overwrite)
            out.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{out.name}-building-"
            building = stack.enter_context(unfinished_folder(out.parent, prefix))
        except OSError as error:
            raise CannotWriteError(f"{named}: cannot be written ({error.strerror})") from error
        yield building
        try:
            building.chmod(0o755)
            _refuse_occupied(named, out, overwrite=overwrite)  # another process may have made it
            _put_in_place(building, out)
        except OSError as error:
            why = error.strerror
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                why = "another process made it meanwhile"
            raise CannotWriteError(f"{named}: cannot be written ({why})") from error


def _refuse_occupied(named: Path, out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{named}: is there already and is no folder")
    occupied = out.is_dir() and any(out.iterdir())
    if occupied and not overwrite:
        raise UserError(f"{named}: is there already; --overwrite replaces it")
    if occupied and not (out / FILE_NAME).is_file():
        raise UserError(f"{named}: is there already and is no data set folder, so it is kept")


def _put_in_place(building: Path, out: Path) -> None:
    """Rename `building` to `out`; what stands there is set aside before and removed after."""
    if not out.is_dir():
        building.rename(out)
        return
    with unfinished_folder(out.parent, f".{out.name}-replaced-") as replaced:
        out.rename(replaced / out.name)
        try:
            building.rename(out)
        except OSError:
            if not out.exists():
                (replaced / out.name).rename(out)
            raise


def _tidy(named: Path, out: Path) -> None:
    """Remove what dead processes left of this output; put back what they had set aside."""
    with left_behind(out.parent, f".{out.name}-replaced-") as replaced:
        for folder in replaced:
            aside = folder / out.name
            if aside.is_dir() and not out.exists():
                aside.rename(out)
                print(f"{named}: put back, a killed process had set it aside", file=sys.stderr)
            shutil.rmtree(folder, ignore_errors=True)
    with left_behind(out.parent, f".{out.name}-building-") as unfinished:
        for folder in unfinished:
            shutil.rmtree(folder, ignore_errors=True)
