"""Files by path or by address: local ones, and whatever fsspec opens (`s3://`, `gs://`, `https://`).

Local paths need no package. fsspec is optional and imported here alone, and with it what it needs
for a kind of address: s3fs, gcsfs, aiohttp. User names, passwords and queries (signatures) of
addresses are in no message.
"""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from detection.errors import NotFoundError, UserError, printable
from detection.files import (
    CannotWriteError,
    naming,
    read_content,
    replacing,
    temporary_folder,
)

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_LOCAL = frozenset({"file", "local"})
_INSTALL = 'pip install "x3d-action-detection[remote]"'
_PACKAGES = {
    **{"http": "aiohttp", "https": "aiohttp", "s3": "s3fs", "s3a": "s3fs"},
    **{"gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "abfss": "adlfs", "az": "adlfs"},
}
# Whose errors tell what is wrong with an address, a bucket or a network.
_OWNERS = frozenset(
    {"aiohttp", "aiobotocore", "botocore", "s3fs", "gcsfs", "google", "adlfs", "azure", "fsspec"}
)
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
_CONNECT_S, _SILENT_S = 30.0, 60.0
_MOST_WORDS = 200
_NOT_WRITTEN = "cannot be written"


def is_remote(text: str) -> bool:
    """Tell whether a text is an address that fsspec opens: a scheme, but `file://`."""
    scheme = scheme_of(text)
    return scheme != "" and scheme not in _LOCAL


def scheme_of(text: str) -> str:
    """Return an address's scheme in small letters; "" for a path."""
    match = _SCHEME.match(text)
    return match[1].lower() if match else ""


def local_path(text: str | Path) -> Path:
    """Return the path of a local file, given as a path or as `file://`."""
    text = str(text)
    return Path(unquote(urlsplit(text).path)) if scheme_of(text) in _LOCAL else Path(text)


def shown_address(text: str | Path) -> str:
    """Return an address, or a text that holds some, without what could be a secret."""
    without_user = re.sub(r"(?<=://)[^/\s'\"]*@", "", str(text))
    return printable(re.sub(r"(://[^\s?'\"]*)\?[^\s'\")]*", r"\1?...", without_user))


def check_addresses(addresses: Iterable[str]) -> None:
    """Raise `UserError` for a kind of address (its scheme) whose package is not installed.

    Nothing is fetched: where a list names thousands, this is said before the first.
    """
    for address in {scheme_of(a): a for a in addresses if is_remote(a)}.values():
        _open(address)


def list_files(address: str, *, below: bool = True) -> list[tuple[str, str, int | None]]:
    """Return (name, address, bytes) of every file below a folder, sorted by name.

    name: relative to the folder, parts separated by `/`. bytes: None where a server does not say.
    below: those in its folders too.
    An empty folder has none. Raises `UserError` for what is not found, or is a file.
    """
    if not is_remote(address):
        return _list_local(local_path(address), below=below)
    with _remotely(address, "cannot be listed"):
        system, root = _open(address)
        root = root.rstrip("/")
        found = system.find(root, maxdepth=None if below else 1, detail=True)
        if not found and not system.exists(root):
            raise FileNotFoundError(root)
        if root in found:
            raise UserError(f"{shown_address(address)}: a file, a folder is required")
    base, rows = address.rstrip("/"), []
    is_web = scheme_of(address) in ("http", "https")
    for path, facts in found.items():
        relative = path[len(root) :].lstrip("/")
        if is_web and ("?" in relative or ".." in relative.split("/")):
            continue  # links of a page that order it anew, or lead away
        size = facts.get("size")
        name = unquote(relative) if is_web else relative
        rows.append((name, f"{base}/{relative}", None if size is None else int(size)))
    return sorted(rows)


def _list_local(folder: Path, *, below: bool = True) -> list[tuple[str, str, int | None]]:
    if not folder.is_dir():
        raise UserError(f"{folder}: folder not found")
    paths = [path for path in folder.glob("**/*" if below else "*") if path.is_file()]
    return sorted((p.relative_to(folder).as_posix(), str(p), p.stat().st_size) for p in paths)


def fetch(address: str, into: Path) -> Path:
    """Copy a file to the local path `into`, whole or not at all; return `into`.

    Raises `NotFoundError`, `UserError` where it cannot be read, and where it has another size in
    the end than its place says; `CannotWriteError` where `into` cannot be written.
    """
    with replacing(into) as temporary:
        if not is_remote(address):
            source = local_path(address)
            if not source.is_file():
                raise NotFoundError(f"{source}: file not found")
            shutil.copyfile(source, temporary)
            return into
        with _remotely(address, "cannot be read", own_file=temporary):
            system, path = _open(address)
            required = system.info(path).get("size")
            system.get_file(path, str(temporary))
            _check_size(address, temporary.stat().st_size, required)
    return into


@contextmanager
def reading(address: str) -> Iterator[Path]:
    """Yield a local path of a file: its own, or that of a copy that lasts as long as the block.

    Raises as `fetch`.
    """
    if not is_remote(address):
        yield local_path(address)
        return
    with temporary_folder() as folder:
        yield fetch(address, folder / _last_part(address))


@contextmanager
def writing(address: str) -> Iterator[Path]:
    """Yield a local path whose file is at the address once the block has ended.

    It is that of a local file itself: it is for the block to write it whole. Raises as `put_file`.
    """
    if not is_remote(address):
        yield local_path(address)
        return
    with temporary_folder() as folder:
        path = folder / _last_part(address)
        yield path
        put_file(path, address)


@contextmanager
def naming_address(copy: Path, address: str) -> Iterator[None]:
    """Say the address in place of its copy's path in the errors of the block (`UserError`)."""
    try:
        yield
    except UserError as error:
        error.args = (str(error).replace(str(copy), shown_address(address)),)
        raise


def _last_part(address: str) -> str:
    return PurePosixPath(address).name


def put_file(local: Path, address: str) -> None:
    """Copy a local file to an address, in place of what is there; its size there is checked.

    A bucket shows an object once it is whole; a local file is renamed. Raises `UserError`, where
    others would not be taken either (no rights, only for reading) `CannotWriteError`.
    """
    if not local.is_file():
        raise UserError(f"{local}: file not found")
    if not is_remote(address):
        with replacing(local_path(address)) as temporary:
            shutil.copyfile(local, temporary)
        return
    with _remotely(address, _NOT_WRITTEN):
        system, path = _open(address)
        system.put_file(str(local), path)
        system.invalidate_cache()
        _check_size(address, local.stat().st_size, system.info(path).get("size"))


def put_folder(local: Path, address: str, last: str) -> None:
    """Copy every file below a local folder to an address, `last` after all others.

    last: the file that says that all is there, relative to the folder. One of an earlier copy is
    removed first, so that it never stands beside files of two copies. Names that begin with a dot
    are those of unfinished files and locks, and are left out. Raises `UserError`.
    """
    if not (local / last).is_file():
        raise UserError(f"{local / last}: not found; a folder without it is not finished")
    names = [
        name
        for name, _, _ in _list_local(local)
        if name != last and not any(part.startswith(".") for part in name.split("/"))
    ]
    base = address.rstrip("/")
    remove(f"{base}/{last}")
    for name in (*names, last):
        put_file(local / name, f"{base}/{name}")


def exists(address: str) -> bool:
    """Tell whether a file or folder is there; raises `UserError` where that cannot be told."""
    if not is_remote(address):
        return local_path(address).exists()
    with _remotely(address, "cannot be read"):
        system, path = _open(address)
        try:
            system.info(path)
        except FileNotFoundError as error:
            if not _says_absent(error):
                raise
            return False
        return True


def read_bytes(address: str, limit: int) -> bytes:
    """Return the content of a file.

    Raises `NotFoundError`, and `UserError` for one that cannot be read or has more than `limit`
    bytes.
    """
    if not is_remote(address):
        return read_content(local_path(address), what="file", limit_bytes=limit)
    with _remotely(address, "cannot be read"):
        system, path = _open(address)
        size = system.info(path).get("size")
        if size is None or size <= limit:
            content: bytes = system.cat_file(path)
            size = len(content)
        if size > limit:
            found = f"{size:,} bytes, at most {limit:,} are read"
            raise UserError(f"{shown_address(address)}: {found}")
        return content


def write_bytes(address: str, content: bytes) -> None:
    """Write a small file in place of what is there; raises `UserError`."""
    if not is_remote(address):
        with replacing(local_path(address)) as temporary:
            temporary.write_bytes(content)
        return
    with temporary_folder() as folder:
        local = folder / "content"
        local.write_bytes(content)
        put_file(local, address)


def remove(address: str) -> None:
    """Remove a file; one that is not there is fine. Raises `UserError`."""
    if not is_remote(address):
        with naming(local_path(address)):
            local_path(address).unlink(missing_ok=True)
        return
    with _remotely(address, "cannot be removed"):
        system, path = _open(address)
        try:
            system.info(path)  # some remove what is not there without a word, some refuse
            system.rm_file(path)
        except FileNotFoundError as error:
            if not _says_absent(error):
                raise


def remove_empty_folder(address: str) -> None:
    """Remove a folder that is there and empty; buckets have none."""
    if not is_remote(address):
        with suppress(OSError):  # another process has files in it, or has removed it
            local_path(address).rmdir()


def _check_size(address: str, found: int, required: int | None) -> None:
    if required is not None and found != required:
        raise UserError(
            f"{shown_address(address)}: copied {found:,} bytes, {required:,} are required; "
            "it changed meanwhile, or the connection ended"
        )


def _open(address: str) -> tuple[Any, str]:
    """Return fsspec's file system of an address, and the path in it."""
    shown, scheme = shown_address(address), scheme_of(address)
    if "::" in address:
        raise UserError(f"{shown}: '::' in an address is unsupported; a plain one is required")
    try:
        import fsspec.core
    except ModuleNotFoundError as error:
        if error.name not in ("fsspec", "fsspec.core"):  # it is there, but lacks something itself
            raise
        raise UserError(f"{shown}: the fsspec package is required: {_INSTALL}") from error
    package = _PACKAGES.get(scheme)
    try:
        options = _web_options() if package == "aiohttp" else {}
        system, path = fsspec.core.url_to_fs(address, **options)
    except ImportError as error:
        more = "" if package in (None, "aiohttp") else f" {package}"
        said = f"the {package} package is required" if package else _words(error)
        raise UserError(f"{shown}: {said}: {_INSTALL}{more}") from error
    except ValueError as error:
        raise UserError(f"{shown}: unsupported address ({_words(error)})") from error
    system.invalidate_cache()  # others write there too
    return system, str(path)


def _web_options() -> dict[str, Any]:
    """Return options for http: proxies of the environment, files that take hours, no packing."""
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
    return {
        "simple_links": False,
        "headers": {"Accept-Encoding": "identity"},
        "client_kwargs": {"trust_env": True, "timeout": timeout},
    }


@contextmanager
def _remotely(address: str, what: str, *, own_file: Path | None = None) -> Iterator[None]:
    """Say in one line why something cannot be done at an address.

    own_file: a local file that is written; what is wrong with it is not the address's.
    """
    shown = shown_address(address)
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if own_file is not None and _is_about(error, own_file):
            raise
        if not _is_of_the_place(error):
            raise
        if isinstance(error, FileNotFoundError) and _says_absent(error):
            raise NotFoundError(f"{shown}: not found") from error
        rights = "no rights: " if isinstance(error, PermissionError) else ""
        kind = CannotWriteError if what == _NOT_WRITTEN and _is_refused(error) else UserError
        raise kind(f"{shown}: {what} ({rights}{_words(error)})") from error


def _is_refused(error: Exception) -> bool:
    """Tell what another attempt, and another file, would meet too from a network's bad day."""
    is_forbidden = getattr(_behind(error), "status", None) in (401, 403, 405, 501)
    return is_forbidden or isinstance(error, PermissionError | NotImplementedError)


def _says_absent(error: FileNotFoundError) -> bool:
    """Tell "not found" from a web server that could not be asked, which fsspec calls so too."""
    behind = _behind(error)
    return isinstance(behind, FileNotFoundError) or getattr(behind, "status", None) in (404, 410)


def _behind(error: BaseException) -> BaseException:
    cause = error.__cause__
    if not isinstance(error, FileNotFoundError) or cause is None:
        return error
    is_web = type(cause).__module__.startswith("aiohttp")
    return _behind(cause) if is_web or isinstance(cause, OSError) else error


def _is_about(error: Exception, path: Path) -> bool:
    if not isinstance(error, OSError):
        return False
    return error.errno in _DISK_FULL or str(error.filename) == str(path)


def _is_of_the_place(error: Exception) -> bool:
    """Tell whether an error is of a network, a bucket or a disk, not of this project."""
    owners = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError | NotImplementedError) or bool(owners & _OWNERS)


def _words(error: BaseException) -> str:
    """Return what an error says, on one line, without secrets."""
    error = _behind(error)
    status, said = getattr(error, "status", None), getattr(error, "strerror", None)
    if status == 0:  # without an answer to keep, its text is this number: too many redirects
        said = type(error).__name__
    elif isinstance(status, int):  # of a web server: its own text repeats the address
        said = f"the server answers {status} {getattr(error, 'message', '')}".rstrip()
    text = str(said or str(error) or type(error).__name__)
    return shown_address(" ".join(text.split()))[:_MOST_WORDS]
