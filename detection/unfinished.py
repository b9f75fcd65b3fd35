"""Files and folders on their way: who holds them, and whether their writer still lives.

A writer holds an advisory lock of the operating system on what it is making (`hold`). The system
lets go of it when the process ends in any way, SIGKILL and power cuts included, so that whatever is
not locked was left behind, and the next writer of the same output takes it over or removes it. What
a living process writes is never touched. Where a file system knows no locks nothing is taken for
left behind.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from detection.errors import UserError

_SLOTS = 1000
_SQUATTED = {errno.EACCES, errno.EPERM, errno.ELOOP, errno.ENXIO, errno.EISDIR, errno.EBUSY}
_NO_LOCKS = {errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK}
_FOLLOW_NOTHING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_held: set[int] = set()


def hold(path: Path, flags: int = os.O_RDONLY, *, if_unknown: bool | None = None) -> int | None:
    """Open and lock a file or folder; return the handle, open until `let_go` or the process's end.

    None where another process holds it. Forked processes hold nothing; a program that inherits a
    copy of the handle (`os.dup`) holds on after this one. if_unknown: whether it counts as held
    where the file system knows no locks; None: it does, and a line on stderr says so. Raises
    `OSError` where it cannot be opened (EBADF: a disk that locks only what can be written), and
    `UserError` where locking fails otherwise.
    """
    while True:
        handle = os.open(path, flags, 0o666)
        try:
            if not _lock(handle, path, if_unknown):
                return None
            with suppress(FileNotFoundError):  # removed or replaced before it was locked
                if os.path.samestat(os.fstat(handle), path.stat()):
                    _held.add(handle)
                    return handle
        finally:
            if handle not in _held:
                os.close(handle)


def is_held(handle: int) -> bool:
    """Tell whether this process holds it still: one that was forked does not."""
    return handle in _held


def let_go(handle: int) -> None:
    """Close what `hold` has opened."""
    if handle in _held:
        _held.discard(handle)
        os.close(handle)


def _forget_held() -> None:
    while _held:
        os.close(_held.pop())


# A lock lasts as long as any process has it open: forked ones must not keep it for a killed parent.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_held)


def _lock(handle: int, path: Path, if_unknown: bool | None) -> bool:
    from filelock import lock_descriptor  # takes time that most commands need not wait for

    try:
        return lock_descriptor(handle, blocking=False)
    except OSError as error:
        if if_unknown is not None:
            return if_unknown
        if error.errno == errno.EBADF:
            raise
        if error.errno not in _NO_LOCKS:
            raise UserError(f"{path}: cannot be locked ({error.strerror})") from error
        print(
            f"{path}: its disk knows no locks ({error.strerror}); see to it yourself that nothing "
            "else writes there",
            file=sys.stderr,
        )
        return True


@contextmanager
def unfinished_file(folder: Path, name: str, suffix: str) -> Iterator[Path]:
    """Yield an empty file in `folder`, held for the output `name`; it is removed if still there.

    The names follow from the output's, so that what a killed writer left is taken over by the next
    one; several living writers of one output get a file each. Raises `OSError`.
    """
    stem = f".writing-{hashlib.sha256(os.fsencode(name)).hexdigest()[:16]}"
    for slot in range(_SLOTS):
        path = folder / f"{stem}-{slot}{suffix}"
        if (handle := _held_file(path)) is not None:
            break
    else:
        raise OSError(errno.EEXIST, f"{_SLOTS} unfinished files of this name are there")
    try:
        _remove_dead_file(folder / f"{stem}-{slot + 1}{suffix}")
        yield path
        # Else it was moved, and the name may be another's by now.
        if is_held(handle) and _is_still(path, os.fstat(handle)):
            path.unlink()
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    finally:
        let_go(handle)


def _held_file(path: Path) -> int | None:
    """Open, lock and empty a file of our own; None where a living writer or a stranger has it."""
    while True:
        try:
            handle = os.open(path, os.O_RDWR | os.O_CREAT | _FOLLOW_NOTHING, 0o600)
        except OSError as error:
            if error.errno in _SQUATTED and os.path.lexists(path):
                return None
            raise
        try:
            facts = os.fstat(handle)
            ours = stat.S_ISREG(facts.st_mode) and _is_ours(facts)
            if not ours or facts.st_nlink > 1 or not _lock(handle, path, facts.st_size == 0):
                return None
            if _is_still(path, facts):
                os.ftruncate(handle, 0)
                _held.add(handle)
                return handle  # else its writer just moved it to its place: the name is free again
        finally:
            if handle not in _held:
                os.close(handle)


def _remove_dead_file(path: Path) -> None:
    if os.path.lexists(path):
        handle = _held_file(path)
        if handle is not None:
            path.unlink(missing_ok=True)
            let_go(handle)


@contextmanager
def unfinished_folder(parent: Path, prefix: str) -> Iterator[Path]:
    """Yield a new empty folder `parent/prefix...`, held; it is removed if still there.

    Raises `OSError`.
    """
    while True:
        path = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        with suppress(FileNotFoundError):  # taken for left behind just before the lock
            if (handle := hold(path, if_unknown=True)) is not None:
                break
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        let_go(handle)


@contextmanager
def left_behind(parent: Path, prefix: str) -> Iterator[list[Path]]:
    """Yield the folders `parent/prefix...` that no living process holds; ours while it lasts.

    Those of other users are left alone.
    """
    held: dict[Path, int] = {}
    try:
        for path in sorted(parent.iterdir()) if parent.is_dir() else []:
            with suppress(FileNotFoundError):  # another one just removed it
                if (
                    path.name.startswith(prefix)
                    and _is_own_folder(path)
                    and (handle := hold(path, if_unknown=False)) is not None
                ):
                    held[path] = handle
        yield list(held)
    finally:
        for handle in held.values():
            let_go(handle)


def _is_own_folder(path: Path) -> bool:
    facts = path.lstat()
    return stat.S_ISDIR(facts.st_mode) and _is_ours(facts)


def _is_ours(facts: os.stat_result) -> bool:
    return facts.st_uid == getattr(os, "geteuid", int)()


def _is_still(path: Path, facts: os.stat_result) -> bool:
    try:
        now = path.lstat()
    except FileNotFoundError:
        return False
    return (now.st_dev, now.st_ino) == (facts.st_dev, facts.st_ino)
