"""Which videos a run over thousands of them was given: files, folders, lists, and remote ones."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from detection.datasets.plain_names import video_suffix
from detection.errors import Problems, UserError, first_few, place_in, printable
from detection.files import read_text
from detection.formats.csv_rows import csv_rows
from detection.importers.source_videos import check_video_name
from detection.pipeline.video_folders import named_videos
from detection.transfer.places import (
    is_remote,
    list_files,
    local_path,
    read_bytes,
    scheme_of,
    shown_address,
)
from detection.video.stream import STANDARD_INPUT

MOST_LIST_BYTES = 1 << 28
_LISTS = (".txt", ".csv")
_LIVE = frozenset(
    {"rtsp", "rtsps", "rtmp", "rtmps", "rtp", "srt", "rist", "udp", "tcp", "mms", "mmsh", "mmst"}
)
_PLAYLISTS = (".m3u8", ".mpd")
_NO_STREAM = "a camera, a stream or standard input, a video with an end is required"


@dataclass(frozen=True)
class ArchiveVideo:
    """A video of many.

    name: with its suffix, parts separated by `/`, distinct; below what was given.
    source: the path or the address of its file.
    """

    name: str
    source: str


class _Row(NamedTuple):
    """A video as it was given; place: the argument, or the list and its line."""

    name: str
    source: str
    place: str


def read_sources(sources: Sequence[str], root: str | Path) -> list[ArchiveVideo]:
    """Return the videos that were given, in order of their names.

    sources: each a video file, a folder, a list (.txt: a path or an address a line; .csv: columns
    `video` or `path`, and `name`), or the address of one of these. Relative paths of a list are
    below the list's own folder. A video of a list is called as its path there, or as the last part
    of an absolute path, one that leads up, or an address; `name` calls it otherwise.
    root: where results go, a path or an address; those of earlier runs are no videos.
    Raises `UserError`, a line with file and row, for an empty list or folder, what is not found,
    is named twice, has the name of another or one that leads out of `root`, and for streams.
    """
    found: dict[str, _Row] = {}
    for source in sources:
        for row in _rows_of(source, str(root), alone=len(sources) == 1):
            other = found.setdefault(row.name, row)
            if other.source != row.source and not _is_one_file(other.source, row.source):
                raise UserError(_two_of_a_name(row, other))
    _check_once(found.values())
    return [ArchiveVideo(name, found[name].source) for name in sorted(found)]


def _rows_of(source: str, root: str, *, alone: bool) -> list[_Row]:
    if _is_live(source) and not Path(source).exists():
        raise UserError(f"{shown_address(source)}: {_NO_STREAM}")
    if _last_part(source).lower().endswith(_LISTS) and (is_remote(source) or _is_file(source)):
        return _read_list(source)
    if not is_remote(source):
        place = local_path(root) if not is_remote(root) else Path(os.devnull)
        path = str(local_path(source))
        return [_Row(name, file, source) for name, file in named_videos(path, place, alone=alone)]
    if video_suffix(_last_part(source)) and not source.endswith("/"):
        return [_remote_row(_last_part(source), source)]
    return _remote_folder(source, root, alone=alone)


def _remote_folder(address: str, root: str, *, alone: bool) -> list[_Row]:
    shown, results = shown_address(address), f"{root.rstrip('/')}/"
    start = "" if alone else f"{_last_part(address)}/"
    rows = []
    for name, file, _ in list_files(address):
        if video_suffix(name) and not file.startswith(results):
            rows.append(_remote_row(start + name, file))
    if not rows:
        raise UserError(f"{shown}: contains no video")
    return rows


def _remote_row(name: str, address: str) -> _Row:
    shown = shown_address(address)
    try:
        return _Row(check_video_name(name), address, shown)
    except ValueError as error:
        raise UserError(f"{shown}: {error}") from error


def _read_list(source: str) -> list[_Row]:
    """Return the videos of a list; every row is looked at before anything is said of one."""
    shown, rows, problems = shown_address(source), list[_Row](), Problems()
    is_table = _last_part(source).lower().endswith(".csv")
    folder = source.rpartition("/")[0] if is_remote(source) else str(local_path(source).parent)
    names: dict[str, _Row] = {}
    files: dict[str, _Row] = {}
    for line, text, name in (_table if is_table else _lines)(shown, _list_text(source)):
        try:
            row = _row(text, name, folder, place_in(shown, line))
        except ValueError as error:
            problems.add(shown, line, str(error))
            continue
        rows.append(row)
        if (other := files.setdefault(row.source, row)) is not row:
            problems.add(shown, line, f"{shown_address(text)} is in {other.place} already")
        elif (other := names.setdefault(row.name, row)) is not row:
            problems.rows.append(UserError(_two_of_a_name(row, other)))
            problems.count += 1
    problems.raise_if_any()
    if not rows:
        raise UserError(f"{shown}: names no video")
    _check_found(shown, rows)
    return rows


def _lines(shown: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, path or address, "") of a text list."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.strip().startswith("#"):
            yield number, line.strip(), ""


def _table(shown: str, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, path or address, name or "") of a CSV list."""
    rows = csv_rows(shown, io.StringIO(text, newline=""))
    _, header = next(rows, (1, []))
    columns = [cell.strip().lower() for cell in header]
    paths = [column for column in columns if column in ("video", "path")]
    if len(paths) != 1 or columns.count("name") > 1:
        found = ", ".join(columns)[:80] or "none"
        required = "one column 'video' or 'path' is required, and at most one 'name'"
        raise UserError(f"{shown}:1: columns {found}; {required}")
    at, name_at = columns.index(paths[0]), columns.index("name") if "name" in columns else None
    for line, cells in rows:
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(columns):
            raise UserError(f"{shown}:{line}: {len(cells)} columns, {len(columns)} are required")
        yield line, cells[at].strip(), "" if name_at is None else cells[name_at].strip()


def _row(text: str, name: str, folder: str, place: str) -> _Row:
    """Return a list's video; raises ValueError for what is none."""
    if not text:
        raise ValueError("a path or an address of a video is required")
    if _is_live(text):
        raise ValueError(f"{shown_address(text)[:80]}: {_NO_STREAM}")
    if is_remote(text):
        return _Row(check_video_name(name or _last_part(text)), text, place)
    path = os.path.normpath(local_path(text))
    is_absolute = Path(path).is_absolute()
    is_below = not is_absolute and Path(path).parts[:1] != (os.pardir,)
    name = check_video_name(name or (path.replace(os.sep, "/") if is_below else _last_part(path)))
    if is_absolute:
        return _Row(name, path, place)
    joined = f"{folder}/{path}"
    return _Row(name, joined if is_remote(folder) else os.path.normpath(joined), place)


def _check_found(shown: str, rows: Sequence[_Row]) -> None:
    """Raise `UserError` where files of this machine are not there."""
    missing = [
        f"{r.place}: {r.source}" for r in rows if not is_remote(r.source) and not _is_file(r.source)
    ]
    if missing:
        count = f"{len(missing):,} of {len(rows):,} videos not found"
        raise UserError(f"{shown}: {count}: {first_few(missing)}")


def _check_once(rows: Iterable[_Row]) -> None:
    """Raise `UserError` for a file that two arguments name differently: it would count twice."""
    files: dict[str, _Row] = {}
    for row in rows:
        place = row.source if is_remote(row.source) else os.path.normpath(row.source)
        if (other := files.setdefault(place, row)) is not row:
            raise UserError(
                f"{shown_address(row.source)}: given twice, as {printable(other.name)} and as "
                f"{printable(row.name)}; once is required"
            )


def _two_of_a_name(row: _Row, other: _Row) -> str:
    return (
        f"{row.place}: {shown_address(row.source)} and {shown_address(other.source)} "
        f"({other.place}) have one name, {row.name}; a list with a column 'name' tells them apart"
    )


def _list_text(source: str) -> str:
    """Return a list's text with plain line ends."""
    if not is_remote(source):
        return read_text(local_path(source), what="list of videos", limit_bytes=MOST_LIST_BYTES)
    try:
        text = read_bytes(source, MOST_LIST_BYTES).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{shown_address(source)}: not UTF-8 text") from error
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _is_live(text: str) -> bool:
    scheme = scheme_of(text)
    is_playlist = scheme != "" and _last_part(text).lower().endswith(_PLAYLISTS)
    return text == STANDARD_INPUT or text.isdecimal() or scheme in _LIVE or is_playlist


def _last_part(text: str) -> str:
    """Return the name of the file or folder that a path or an address leads to."""
    if scheme_of(text) in ("http", "https"):
        text = unquote(urlsplit(text).path)
    return text.rstrip("/").rpartition("/")[2]


def _is_one_file(first: str, second: str) -> bool:
    if is_remote(first) or is_remote(second):
        return False
    return os.path.realpath(first) == os.path.realpath(second)


def _is_file(text: str) -> bool:
    try:
        return local_path(text).is_file()
    except (OSError, ValueError):  # a name too long for the file system, a NUL byte
        return False
