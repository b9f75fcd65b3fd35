"""Files written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detection.errors import UserError

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}


class CannotWriteError(UserError):
    """No room, or no leave to write: other files in the same place would fare no better."""


def why_not_written(error: BaseException) -> str:
    """Return the system's words for what is behind an error of writing."""
    while isinstance(error, CannotWriteError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`.

    The temporary name keeps the suffix (writers choose a format by it). When the block raises,
    the temporary file is removed and what stood at `path` before stays as it was. The data reach
    the disk before the rename, so that a power cut leaves the old file or the new one.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=".writing-", suffix=path.suffix, dir=path.parent)
    except OSError as error:
        raise CannotWriteError(f"{path}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps what its writer meets
        reason = _no_room(error)
        if reason is None:
            raise
        raise CannotWriteError(
            f"{path}: cannot be written ({reason}); nothing was changed"
        ) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def only_writer(folder: str | Path, *, busy: str) -> Iterator[None]:
    """Hold `folder` (made where it is absent) for one writing process at a time.

    A process that ends in any way lets go. Raises `UserError` with `busy` where another holds it.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UserError(f"{folder}: {busy}") from error
        except OSError as error:
            raise UserError(f"{folder}: cannot be locked ({error.strerror})") from error
        yield
    finally:
        os.close(handle)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def _no_room(error: BaseException | None) -> str | None:
    """Return what the disk said where a write failed for want of room or rights."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            return error.strerror
        error = error.__cause__ or error.__context__
    return None


def write_text(path: str | Path, text: str) -> None:
    """Write `text` as UTF-8 through `replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
