"""Files and folders on their way: whose they are, and whether their writer still lives.

A writer holds an advisory lock (flock) on what it is making. The system lets go of it when the
process ends in any way, SIGKILL and power cuts included, so that whatever is not locked was left
behind, and the next writer of the same output takes it over or removes it. What a living process
writes is never touched. Where a file system knows no locks nothing is taken for left behind.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_SLOTS = 1000
_SQUATTED = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EBUSY}


@contextmanager
def unfinished_file(folder: Path, name: str, suffix: str) -> Iterator[Path]:
    """Yield an empty file in `folder`, held for the output `name`; it is removed if still there.

    The names follow from the output's, so that what a killed writer left is taken over by the next
    one; several living writers of one output get a file each. Raises `OSError`.
    """
    stem = f".writing-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    for slot in range(_SLOTS):
        path = folder / f"{stem}-{slot}{suffix}"
        handle = _held_file(path)
        if handle is not None:
            break
    else:
        raise OSError(errno.EEXIST, f"{_SLOTS} unfinished files of this name are there")
    try:
        _remove_dead_file(folder / f"{stem}-{slot + 1}{suffix}")
        yield path
        if _is_still(path, os.fstat(handle)):  # else moved, and the name may be another's by now
            path.unlink()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        os.close(handle)


def _held_file(path: Path) -> int | None:
    """Open, lock and empty a file of our own; None where a living writer or a stranger has it."""
    while True:
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
            handle = os.open(path, flags, 0o600)
        except OSError as error:
            if error.errno in _SQUATTED and os.path.lexists(path):
                return None
            raise
        try:
            facts = os.fstat(handle)
            ours = stat.S_ISREG(facts.st_mode) and facts.st_uid == os.geteuid()
            if not ours or facts.st_nlink > 1 or not _lock(handle, if_unknown=facts.st_size == 0):
                os.close(handle)
                return None
            if _is_still(path, facts):
                os.ftruncate(handle, 0)
                return handle
            os.close(handle)  # its writer just moved it to its place: this name is free again
        except BaseException:
            os.close(handle)
            raise


def _remove_dead_file(path: Path) -> None:
    if os.path.lexists(path):
        handle = _held_file(path)
        if handle is not None:
            path.unlink(missing_ok=True)
            os.close(handle)


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new empty folder `parent/prefix...`, held; it is removed if still there.

    Raises `OSError`.
    """
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        handle = os.open(path, os.O_RDONLY)
        _lock(handle, if_unknown=True)
        if _is_still(path, os.fstat(handle)):
            break
        os.close(handle)  # taken for left behind in the moment before the lock
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        os.close(handle)


@contextmanager
def left_behind(parent: Path, prefix: str) -> Iterator[list[Path]]:
    """Yield the folders `parent/prefix...` that no living process holds; ours while it lasts."""
    held: dict[Path, int] = {}
    try:
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            if path.name.startswith(prefix) and path.is_dir() and not path.is_symlink():
                handle = os.open(path, os.O_RDONLY)
                if _lock(handle, if_unknown=False):
                    held[path] = handle
                else:
                    os.close(handle)
        yield list(held)
    finally:
        for handle in held.values():
            os.close(handle)


def _lock(handle: int, *, if_unknown: bool) -> bool:
    """Tell whether we hold the lock now; `if_unknown` where the file system knows no locks."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return if_unknown
    return True


def _is_still(path: Path, facts: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (facts.st_dev, facts.st_ino)
