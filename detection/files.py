"""Files and folders written whole or not at all; text read one way; what a file is known by."""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from detection.errors import NotFoundError, UserError, at_row
from detection.unfinished import (
    hold,
    is_held,
    left_behind,
    let_go,
    unfinished_file,
    unfinished_folder,
)

_DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO}

# In a folder whose disk locks files alone, the one that `only_writer` locks; it stays.
LOCK_NAME = ".lock"
DATASET_FILE = "dataset.yaml"  # by which a data set folder is known


class CannotWriteError(UserError):
    """No room, or no leave to write: other files in the same place would fare no better."""


class BusyError(UserError):
    """Another process writes there: it may be done a little later."""


def why_not_written(error: BaseException) -> str:
    """Return the system's words for what is behind an error of writing."""
    while isinstance(error, CannotWriteError) and error.__cause__ is not None:
        error = error.__cause__
    return getattr(error, "strerror", None) or str(error)


@contextmanager
def naming(path: str | Path) -> Iterator[None]:
    """Say of whatever cannot be written in the block that it is `path` (`CannotWriteError`)."""
    try:
        yield
    except (OSError, CannotWriteError) as error:
        raise CannotWriteError(f"{path}: cannot be written ({why_not_written(error)})") from error


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; when the block ends well it becomes `path`.

    The temporary name keeps the suffix (writers choose a format by it). When the block raises,
    the temporary file is removed and what stood at `path` before stays as it was. The data reach
    the disk before the rename, so that a power cut leaves the old file or the new one.

    A link is followed: the file that it names is replaced, the link stays. A device or a pipe
    (`/dev/null`, `/dev/stdout`) is written into, never replaced. What a killed writer of the same
    output left is removed (`detection.unfinished`). Raises `CannotWriteError` where
    the file cannot be written, and `UserError` for a folder or a socket.
    """
    named, path = Path(path), behind_links(path)
    into = _is_written_into(named, path)
    place = Path(tempfile.gettempdir()) if into else path.parent
    name = str(path.absolute()) if into else path.name
    with naming(named):
        place.mkdir(parents=True, exist_ok=True)
    temporary: Path | None = None
    try:
        with unfinished_file(place, name, named.suffix) as temporary:
            yield temporary
            if into:
                _pour(temporary, path)
            else:
                _settle(temporary)
                temporary.replace(path)
    except (OSError, RuntimeError) as error:  # torch wraps what its writer meets
        reason = _no_room(error)
        if reason is None and isinstance(error, OSError):
            about_it = {None if temporary is None else str(temporary), str(path)}
            if temporary is None or str(error.filename) in about_it:
                reason = error.strerror
        if reason is None:
            raise
        changed = "" if temporary is None or into else "; nothing was changed"
        raise CannotWriteError(f"{named}: cannot be written ({reason}){changed}") from error


def _settle(temporary: Path) -> None:
    """Bring a file to the disk, with the rights that a new file has."""
    with temporary.open("rb") as written:
        os.fsync(written.fileno())
        if os.fstat(written.fileno()).st_nlink == 1:  # else a hard link: its rights are another's
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)


def _pour(temporary: Path, path: Path) -> None:
    with temporary.open("rb") as written:
        try:
            with path.open("wb") as output:
                shutil.copyfileobj(written, output)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error


def behind_links(path: str | Path) -> Path:
    """Return the place that a link names; a link to nothing names what is to be made.

    Raises `CannotWriteError` for a link that leads to itself and a name that cannot be looked up.
    """
    path = Path(path)
    try:
        return path.resolve() if path.is_symlink() else path
    except (OSError, RuntimeError) as error:  # a link that leads to itself is a RuntimeError too
        reason = "a link that leads nowhere"
        if isinstance(error, OSError) and error.errno != errno.ELOOP:
            reason = error.strerror or reason
        raise CannotWriteError(f"{path}: cannot be written ({reason})") from error


def _is_written_into(named: Path, path: Path) -> bool:
    """Tell whether `path` is a device or a pipe; raise `UserError` for what no file can replace."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return False
    except OSError as error:
        raise CannotWriteError(f"{named}: cannot be written ({error.strerror})") from error
    if stat.S_ISDIR(mode):
        raise CannotWriteError(f"{named}: cannot be written (is a folder, a file is required)")
    if stat.S_ISSOCK(mode):
        raise CannotWriteError(f"{named}: cannot be written (is a socket, a file is required)")
    return not stat.S_ISREG(mode)


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
        with naming(named):
            _tidy(named, out)
            _refuse_occupied(named, out, overwrite=overwrite)
            out.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{out.name}-building-"
            building = stack.enter_context(unfinished_folder(out.parent, prefix))
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


@contextmanager
def adding_to_folder(out: str | Path) -> Iterator[Path]:
    """Yield an empty folder beside `out`; when the block ends well its files are in `out`, all.

    A folder that is absent appears with all of them at once. In one that is there they replace
    those of their names, and its other files stay; what cannot be put in place leaves it as it was.
    What killed processes left is removed. Raises `CannotWriteError`.
    """
    named, out = Path(out), behind_links(out)
    with ExitStack() as stack:
        with naming(named):
            out.parent.mkdir(parents=True, exist_ok=True)
            prefix = f".{out.name}-building-"
            with left_behind(out.parent, prefix) as unfinished:
                for folder in unfinished:
                    shutil.rmtree(folder, ignore_errors=True)
            building = stack.enter_context(unfinished_folder(out.parent, prefix))
        yield building
        with naming(named):
            building.chmod(0o755)
            if not out.is_dir():
                building.rename(out)
                return
            replaced = stack.enter_context(unfinished_folder(out.parent, f".{out.name}-replaced-"))
            _move_files(building, out, replaced)


def _move_files(source: Path, target: Path, replaced: Path) -> None:
    """Move the files of `source` to `target`, those in their way to `replaced`; or none of them."""
    moved: list[str] = []
    try:
        for path in sorted(source.iterdir()):
            there = target / path.name
            if there.is_dir():
                raise OSError(errno.EISDIR, f"{path.name} is a folder there", str(there))
            if os.path.lexists(there):
                there.rename(replaced / path.name)
            moved.append(path.name)
            path.rename(there)
    except OSError:
        for name in moved:
            with suppress(FileNotFoundError):
                (target / name).unlink()
            if os.path.lexists(replaced / name):
                (replaced / name).rename(target / name)
        raise


def _refuse_occupied(named: Path, out: Path, *, overwrite: bool) -> None:
    if out.exists() and not out.is_dir():
        raise UserError(f"{named}: is there already and is no folder")
    occupied = out.is_dir() and any(out.iterdir())
    if occupied and not overwrite:
        raise UserError(f"{named}: is there already; --overwrite replaces it")
    if occupied and not (out / DATASET_FILE).is_file():
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


# Of this project alone, in a folder that all programs of a machine share.
_TEMPORARY = ".x3d-action-detection-copies-"


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Yield an empty folder among this machine's temporary files; it is removed at the end.

    Of a killed process it stays until `remove_dead_temporary_folders`. Raises `CannotWriteError`.
    """
    place = Path(tempfile.gettempdir())
    with ExitStack() as stack:
        with naming(place):
            folder = stack.enter_context(unfinished_folder(place, _TEMPORARY))
        yield folder


def remove_dead_temporary_folders() -> None:
    """Remove what `temporary_folder` made for processes of this user that are gone."""
    with (
        suppress(OSError),
        left_behind(Path(tempfile.gettempdir()), _TEMPORARY) as folders,
    ):
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def only_writer(
    folder: str | Path, *, busy: str, may_wait: Callable[[], bool] = lambda: False
) -> Iterator[int]:
    """Hold `folder` (made where it is absent) for one writing process at a time.

    Yields the handle of `detection.unfinished.hold`. A process that ends in any way lets go, also
    while processes that it forked live on. A folder that was made here and is still empty at the
    end is removed. may_wait: asked again and again whether to wait for another process that holds
    it. Raises `BusyError` with `busy` where it is not waited for.
    """
    folder = Path(folder)
    absent = [place for place in (folder, *folder.parents) if not place.exists()]
    while (handle := _hold_folder(folder)) is None:
        if not may_wait():
            raise BusyError(f"{folder}: {busy}")
        time.sleep(_POLL_S)
    try:
        yield handle
    finally:
        if is_held(handle):  # else this is a forked process, which holds nothing
            with suppress(OSError):  # another process has written into one of them
                for place in absent:
                    place.rmdir()
            let_go(handle)


_MOST_TRIES = 100
_POLL_S = 0.1


def _hold_folder(folder: Path, tries: int = _MOST_TRIES) -> int | None:
    """Hold a folder, or a file in it where its disk (NFS) locks only what can be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return hold(folder)
        except OSError as error:
            if error.errno != errno.EBADF and os.name != "nt":
                raise
            return hold(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        if isinstance(error, FileNotFoundError) and tries:
            return _hold_folder(folder, tries - 1)  # removed just now, or never to be (`/proc`)
        raise CannotWriteError(f"{folder}: cannot be written ({error.strerror})") from error


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal; raises as `identity_of`."""
    _check_bytes(Path(path), Path(path).stat())
    with Path(path).open("rb") as whole:
        return hashlib.file_digest(whole, "sha256").hexdigest()


def sha256_of_text(text: str | bytes) -> str:
    """Return the SHA-256 of a text in UTF-8, or of bytes, in hexadecimal."""
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def _check_bytes(path: Path, status: os.stat_result) -> None:
    """Raise OSError for what has no bytes of its own: opening a pipe waits for its writer."""
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))


_SAMPLE_BYTES = 1 << 16
_SAMPLES = 64


def identity_of(path: str | Path, *, samples: int = _SAMPLES) -> dict[str, int | str]:
    """Return what tells a file's or folder's content from another's, quickly.

    A file: `bytes`, `modified_ns` and `sha256`: of all of it up to 4 MiB, else of 64 evenly spaced
    pieces of 64 KiB, the first and the last among them (`samples` pieces, 2 at least, where there
    are very many files). A folder: the number of files in it, and
    the digest of their names, sizes and times. The same name with another content, and the same
    content at another place, are so told apart from an unchanged input. Raises `OSError`, also for
    a pipe, a socket or a device.
    """
    path = Path(path)
    status = path.stat()
    digest = hashlib.sha256()
    if stat.S_ISDIR(status.st_mode):
        files = sorted(place for place in path.rglob("*") if place.is_file())
        for place in files:
            facts = place.stat()
            row = f"{place.relative_to(path)}\0{facts.st_size}\0{facts.st_mtime_ns}\n"
            digest.update(os.fsencode(row))
        return {"files": len(files), "sha256": digest.hexdigest()}
    _check_bytes(path, status)
    size = status.st_size
    with path.open("rb") as file:
        if size <= _SAMPLE_BYTES * samples:
            digest.update(file.read(_SAMPLE_BYTES * samples))
        else:
            for i in range(samples):
                file.seek((size - _SAMPLE_BYTES) * i // (samples - 1))
                digest.update(file.read(_SAMPLE_BYTES))
    return {"bytes": size, "modified_ns": status.st_mtime_ns, "sha256": digest.hexdigest()}


def read_content(path: str | Path, *, what: str, limit_bytes: int, missing: str = "file") -> bytes:
    """Return the bytes of a file that is read whole.

    what, missing: how the file is called in errors, and where there is none. Raises `UserError`
    where it is missing (`NotFoundError`), no regular file, larger than `limit_bytes`, or cannot be
    read.
    """
    path = Path(path)
    with _reading(path, missing):
        size = _check_regular(path, what)
        if size > limit_bytes:
            raise UserError(f"{path}: {size:,} bytes, at most {limit_bytes:,} are read of a {what}")
        return path.read_bytes()


@contextmanager
def _reading(path: Path, missing: str) -> Iterator[None]:
    """Say in one line why a file cannot be read; missing: what there is none of."""
    try:
        yield
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"{path}: {missing} not found") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _check_regular(path: Path, what: str) -> int:
    """Return the size of a file in bytes; `UserError` for what has none of its own."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(f"{path}: no regular file, a {what} is required")
    return status.st_size


def read_text(path: str | Path, *, what: str = "file", limit_bytes: int = 1 << 30) -> str:
    """Return the text of a file: UTF-8 with or without a byte-order mark, any line ends.

    what: how the file is called in errors, as in "label map". Raises `UserError` where it is
    missing, no regular file, larger than `limit_bytes`, not UTF-8, or holds NUL bytes.
    """
    path = Path(path)
    content = read_content(path, what=what, missing=what, limit_bytes=limit_bytes)
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _not_utf8(path, line, content, what) from error
    if "\0" in text:
        raise at_row(path, text.count("\n", 0, text.index("\0")) + 1, f"a NUL byte in a {what}")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def read_lines(path: str | Path, *, what: str = "file") -> list[str]:
    """Return a text file's lines without blanks around them; empty lines are left out.

    The file is read by `read_text` and raises what it raises.
    """
    lines = (line.strip() for line in read_text(path, what=what).split("\n"))
    return [line for line in lines if line]


def text_lines(path: str | Path, *, what: str = "file") -> Iterator[str]:
    """Yield a text file's lines with a newline each, whatever their ends were in the file.

    As `read_text` (UTF-8, byte-order mark, errors), for tables too long to be held whole.
    """
    path = Path(path)
    with _reading(path, what):
        _check_regular(path, what)
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, 1):
                if "\0" in line:
                    raise at_row(path, number, f"a NUL byte in a {what}")
                yield line
    except UnicodeDecodeError:
        _name_bad_line(path, what)
        raise


def _name_bad_line(path: Path, what: str) -> None:
    """Raise `UserError` for the first line that is not UTF-8."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise _not_utf8(path, number, line, what) from error


def _not_utf8(path: Path, line: int, content: bytes, what: str) -> UserError:
    utf16 = ", it looks like UTF-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
    return at_row(path, line, f"not UTF-8 text{utf16}; a {what} in UTF-8 is required")


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
