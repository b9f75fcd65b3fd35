"""Which videos a command was given, and in which folder the results of each belong."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from detection.datasets.plain_names import without_video_suffix
from detection.errors import UserError
from detection.files import read_text
from detection.importers.source_videos import list_videos
from detection.pipeline.segments import STATE_NAME
from detection.video.stream import STANDARD_INPUT

# Files of the index, beside the videos' folders.
INDEX_NAMES = ("index.html", "index.json", "events.csv", "events.jsonl")
# Files and folders that a run over thousands of videos makes there besides.
ARCHIVE_NAMES = (
    *("keyframes.parquet", "events.parquet", "videos.parquet", "keyframes.csv", "videos.csv"),
    *("failed.csv", "manifest.json"),
)


@dataclass(frozen=True)
class VideoFolder:
    """A video and where its results go.

    name: with its suffix, below what was given, parts separated by `/`; distinct in an index.
    source: what is opened.
    folder: of its results.
    """

    name: str
    source: str
    folder: Path


def is_one_video(sources: Sequence[str]) -> bool:
    """Tell whether these are one video, whose results are no part of an index."""
    return len(sources) == 1 and not Path(sources[0]).is_dir()


def find_videos(sources: Sequence[str], root: Path) -> list[VideoFolder]:
    """Return the videos that files and folders name, in order of their names.

    root: where results go. One video that is not in a folder has `root` itself; of others each has
    a folder below (`name_folders`), and results of earlier runs in there are no videos.
    Raises `UserError` for what is not found, folders without a video, two videos of one name, and
    a camera, an address or standard input among several.
    """
    if is_one_video(sources):
        source = sources[0]
        if not (_is_stream(source) or Path(source).is_file()):
            raise UserError(f"{source}: video file or folder not found")
        return [VideoFolder(source, source, root)]
    found: dict[str, str] = {}
    for source in sources:
        for name, path in named_videos(source, root, alone=len(sources) == 1):
            other = found.setdefault(name, path)
            if other != path and Path(other).resolve() != Path(path).resolve():
                raise UserError(f"{other} and {path} have one name: a run each is required")
    folders = name_folders(root, sorted(found))
    return [VideoFolder(name, found[name], root / folder) for name, folder in folders.items()]


def named_videos(source: str, root: Path, *, alone: bool) -> list[tuple[str, str]]:
    """Return (name, path) of a video, or of each one below a folder.

    root: where results go; results of earlier runs in there are no videos.
    alone: nothing else was given, so that names of a folder's videos do not begin with its own.
    Raises `UserError` for what is not found, a folder without a video, and what is no file.
    """
    path = Path(source)
    if path.is_dir():
        below = "" if alone else path.resolve().name
        given, out = path.resolve(), root.resolve()
        names = [name for name in list_videos(path) if not _is_result(given, name, out)]
        if not names:
            raise UserError(f"{source}: no video in it but those in {root}, where results go")
        start = f"{below}/" if below else ""
        return [(start + name, str(path / name)) for name in names]
    if path.is_file():
        return [(path.name, source)]
    if _is_stream(source):
        raise UserError(f"{source}: a camera, an address or standard input is run alone")
    raise UserError(f"{source}: video file or folder not found")


def _is_result(given: Path, name: str, root: Path) -> bool:
    """Tell whether a video below a folder that was given is of an earlier run.

    given, root: without links; linked folders are not searched, so that only the video may be one.
    """
    path = given / name
    if path.is_symlink():
        path = path.resolve()
    if not path.is_relative_to(root):
        return False
    if not given.is_relative_to(root):
        return True
    # Results go among the videos.
    if not path.is_relative_to(given):
        return False
    between = path.relative_to(given).parents
    return any((given / place / STATE_NAME).is_file() for place in between if place.parts)


def _is_stream(source: str) -> bool:
    return source == STANDARD_INPUT or "://" in source or source.isdecimal()


def name_folders(root: Path | None, names: Sequence[str]) -> dict[str, str]:
    """Return the folder below `root` for the results of each video.

    It is the name without the suffix, or with it where that would be mistaken: another video of
    the folder, a folder or a file of the index is called so, or something else stands there.
    Results of an earlier run are used on, whichever of the two they are called.
    root: None where what stands there does not count.
    """
    taken = {name.casefold() for name in (*names, *INDEX_NAMES, *ARCHIVE_NAMES)}
    places = {name.rpartition("/")[0] for name in names}
    taken |= {str(above).casefold() for place in places for above in _and_above(place)}
    shorter = {name: _without_suffix(name) for name in names}
    counts = Counter(short.casefold() for short in shorter.values())
    chosen = {}
    for name, short in shorter.items():
        own = counts[short.casefold()] == 1 and short.casefold() not in taken
        plain = own and not short.rpartition("/")[2].startswith(".")
        chosen[name] = (short if plain else name) if root is None else _at(root, name, short, plain)
    return chosen


def _and_above(place: str) -> tuple[PurePosixPath, ...]:
    path = PurePosixPath(place)
    return (path, *path.parents)


def _at(root: Path, name: str, short: str, plain: bool) -> str:
    """Choose one of two folders by what stands there; plain: nothing else is called `short`."""
    last = "".join(c if c.isprintable() else "?" for c in PurePosixPath(name).name)
    if (root / name / STATE_NAME).is_file() and _owner(root / name) in (last, ""):
        return name  # "": of a version that named no video, and all folders so
    owner = _owner(root / short)
    return short if owner == last or (plain and owner is None) else name


def _without_suffix(name: str) -> str:
    """Remove the suffix of the last part, unless nothing or a way up would be left."""
    path = PurePosixPath(name)
    last = without_video_suffix(path.name)
    return name if last in ("", ".", "..") else path.with_name(last).as_posix()


def _owner(folder: Path) -> str | None:
    """Return the file name of the video whose results a folder holds.

    "" where that is unknown, or something else is there; None: it is free.
    """
    if not folder.is_dir():
        return "" if folder.exists() or folder.is_symlink() else None
    if not (folder / STATE_NAME).is_file():
        return "" if any(not each.name.startswith(".") for each in folder.iterdir()) else None
    try:
        named = json.loads(read_text(folder / STATE_NAME))["inputs"]["video"]["named"]
    except (UserError, ValueError, LookupError, TypeError, RecursionError):
        return ""
    return Path(named).name if isinstance(named, str) else ""
