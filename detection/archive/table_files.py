"""Where the tables of all videos stand: put in place whole, others' files left alone."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from detection.archive.csv_files import csv_head
from detection.archive.table_columns import TABLES, TableName
from detection.errors import UserError
from detection.files import naming, only_writer, replacing
from detection.transfer.places import (
    exists,
    is_remote,
    list_files,
    local_path,
    reading,
    remove,
    shown_address,
    writing,
)

MANIFEST_NAME = "manifest.json"
UNFINISHED = ".tables-unfinished"
IN_PARTS: tuple[TableName, ...] = ("keyframes", "events")


@contextmanager
def only_tables_writer(root: str | Path) -> Iterator[None]:
    """Hold a local folder while its tables are planned, written and put in place.

    Another run that ends there is waited for. Buckets have no locks: who ends last has all.
    """
    if is_remote(str(root)):
        yield
        return
    busy = "another process writes here"
    with only_writer(local_path(root), busy=busy, may_wait=lambda: True):
        yield


def check_tables(root: str | Path) -> None:
    """Raise `UserError` where something that is no table of ours stands in the place of one."""
    base = str(root).rstrip("/")
    for table in TABLES:
        other = f"{shown_address(base)}/{table}"
        for name in _files_of(base, f"{table}.parquet"):
            if not _is_part(name, table):
                raise UserError(f"{other}.parquet: holds {name}, not of this command; move it away")
        if exists(f"{base}/{table}.csv") and not _is_our_csv(base, table):
            raise UserError(f"{other}.csv: not of this command; move it away")


def remove_other_tables(root: str, kept: set[str]) -> None:
    """Remove what earlier runs left: parts beyond the last, and tables in the other format."""
    base = root.rstrip("/")
    had_csv = exists(f"{base}/keyframes.csv") and not exists(f"{base}/index.json")
    for table in TABLES:
        for name in _files_of(base, f"{table}.parquet"):
            whole = f"{table}.parquet/{name}".rstrip("/")
            if whole not in kept:
                remove(f"{base}/{whole}")
        is_ours = table != "events" or had_csv  # an index has one too
        if f"{table}.csv" not in kept and is_ours:
            remove(f"{base}/{table}.csv")
    if not is_remote(root):
        for table in IN_PARTS:
            folder = local_path(base) / f"{table}.parquet"
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
        shutil.rmtree(local_path(base) / UNFINISHED, ignore_errors=True)


def replace_parts(root: Path, name: str) -> None:
    """Put the new parts of a table in place of the old ones, all at once."""
    with naming(root / name):
        if (root / name).exists():
            (root / name).rename(root / UNFINISHED / f"{name}-replaced")
        (root / UNFINISHED / name).rename(root / name)


def join_parts(root: str, table: TableName, parts: Sequence[str]) -> None:
    """Write a CSV table of its parts, and remove them."""
    with new_file(f"{root.rstrip('/')}/{table}.csv") as path, path.open("wb") as whole:
        whole.write(csv_head(table).encode())
        for part in parts:
            with reading(part) as here, here.open("rb") as file:
                shutil.copyfileobj(file, whole)
    for part in parts:
        remove(part)


@contextmanager
def new_file(place: str) -> Iterator[Path]:
    """Yield a path of this machine whose file becomes the one at a path or an address."""
    with writing(place) as whole, replacing(whole) as path:
        yield path


def _is_our_csv(base: str, table: TableName) -> bool:
    head = csv_head(table).encode()
    with reading(f"{base}/{table}.csv") as path, naming(path), path.open("rb") as file:
        return file.read(len(head)) == head


def _is_part(name: str, table: TableName) -> bool:
    """Tell whether a file may stand in a table's place; "": the place is a file itself."""
    return (
        name == "" if table == "videos" else re.fullmatch(r"part-\d{5,}\.parquet", name) is not None
    )


def _files_of(base: str, name: str) -> list[str]:
    """Return the files below a folder, [""] where it is a file, none where it is not there."""
    place = f"{base}/{name}"
    if not exists(place):
        return []
    if not is_remote(base) and local_path(place).is_file():
        return [""]
    if is_remote(base) and name.startswith("videos."):
        return [""]
    return [file for file, _, _ in list_files(place)]
