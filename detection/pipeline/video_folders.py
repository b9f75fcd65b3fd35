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
        for name, path in _named(source, root, alone=len(sources) == 1):
            other = found.setdefault(name, path)
            if Path(other).resolve() != Path(path).resolve():
                raise UserError(f"{other} and {path} have one name: a run each is required")
    folders = name_folders(root, sorted(found))
    return [VideoFolder(name, found[name], root / folder) for name, folder in folders.items()]


def _named(source: str, root: Path, *, alone: bool) -> list[tuple[str, str]]:
    """Return (name, path) of a video, or of each one below a folder."""
    path = Path(source)
    if path.is_dir():
        below = PurePosixPath("" if alone else path.resolve().name)
        names = [name for name in list_videos(path) if not _is_result(path, name, root)]
        if not names:
            raise UserError(f"{source}: no video in it but those in {root}, where results go")
        return [((below / name).as_posix(), str(path / name)) for name in names]
    if path.is_file():
        return [(path.name, source)]
    if _is_stream(source):
        raise UserError(f"{source}: a camera, an address or standard input is run alone")
    raise UserError(f"{source}: video file or folder not found")


def _is_result(given: Path, name: str, root: Path) -> bool:
    """Tell whether a video below a folder that was given is of an earlier run."""
    path, root = (given / name).resolve(), root.resolve()
    if not path.is_relative_to(root):
        return False
    if not given.resolve().is_relative_to(root):
        return True
    # Results go among the videos.
    between = path.relative_to(given.resolve()).parents
    return any((given / place / STATE_NAME).is_file() for place in between if place.parts)


def _is_stream(source: str) -> bool:
    return source == STANDARD_INPUT or "://" in source or source.isdecimal()


def name_folders(root: Path, names: Sequence[str]) -> dict[str, str]:
    """Return the folder below `root` for the results of each video.

    It is the name without the suffix, or with it where that would be mistaken: another video of
    the folder, a folder or a file of the index is called so, or something else stands there.
    Results of an earlier run are used on, whichever of the two they are called.
    """
    taken = {name.casefold() for name in (*names, *INDEX_NAMES)}
    for name in names:
        taken |= {str(place).casefold() for place in PurePosixPath(name).parents}
    shorter = {name: _without_suffix(name) for name in names}
    counts = Counter(short.casefold() for short in shorter.values())
    chosen = {}
    for name, short in shorter.items():
        last = PurePosixPath(short).name
        own = counts[short.casefold()] == 1 and short.casefold() not in taken
        plain = own and not last.startswith(".")
        chosen[name] = _existing(root, name, short) or (
            short if plain and _owner(root / short) is None else name
        )
    return chosen


def _without_suffix(name: str) -> str:
    """Remove the suffix of the last part, unless nothing or a way up would be left."""
    path = PurePosixPath(name)
    last = without_video_suffix(path.name)
    return name if last in ("", ".", "..") else path.with_name(last).as_posix()


def _existing(root: Path, name: str, short: str) -> str | None:
    """Return the folder of a video that holds results of it already."""
    last = "".join(c if c.isprintable() else "?" for c in PurePosixPath(name).name)
    if (root / name / STATE_NAME).is_file() and _owner(root / name) in (last, ""):
        return name  # "": of a version that named no video, and all folders so
    return short if _owner(root / short) == last else None


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
