"""Finds the videos that an annotation file names, below one folder, and gives them safe ids."""

from __future__ import annotations

import csv
import os
import re
import shutil
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from detection.datasets.plain_names import (
    VIDEO_SUFFIXES,
    is_plain,
    video_suffix,
    without_video_suffix,
)
from detection.errors import UserError, first_few, printable
from detection.files import replacing, sha256_of_text

SOURCES_FILE = "video_sources.csv"
MOST_ID_BYTES = 200  # in UTF-8; file systems take 255 with what is put around it
_YOUTUBE_ID = re.compile("[A-Za-z0-9_-]{11}")  # as AVA's videos have them
_FORBIDDEN = frozenset('/\\:*?"<>|')
# Names that Windows reserves for devices.
_RESERVED = {"CON", "PRN", "AUX", "NUL", *(f"{p}{n}" for p in ("COM", "LPT") for n in range(10))}


def video_ids(names: Sequence[str], *, ascii_only: bool = False) -> dict[str, str]:
    r"""Return for each FOLDER/NAME an id that every system takes as a file name, all different.

    NAME itself, composed (NFC) and without the video's suffix: letters, digits, signs and blanks of
    any script stay. What some file system forbids becomes `_` (control characters, `/ \ : * ? " <
    > |`), dots and dashes at the start (not those of YouTube's ids, which AVA's rows name) and dots
    and blanks at the end are removed, and eight
    hexadecimal digits of a hash of FOLDER/NAME follow; so they do after names of devices, names
    longer than 200 bytes, and those that two videos share. An id depends on no other videos but
    those of its own name. ascii_only: whatever is no `A-Za-z0-9_.-` becomes `_` too, as in the ids
    that published data sets have had from the first: others' box files know their videos by them.
    """
    bases = [unicodedata.normalize("NFC", _base(name)) for name in names]
    doubled = {base for base, count in Counter(map(_alike, bases)).items() if count > 1}
    ids: dict[str, str] = {}
    for name, base in zip(names, bases, strict=True):
        plain = "".join("_" if _is_forbidden(mark) else mark for mark in base)
        if ascii_only:
            plain = re.sub(r"[^A-Za-z0-9_.-]", "_", _base(name))[:150]
        if ascii_only or not _YOUTUBE_ID.fullmatch(base):
            plain = plain.strip().lstrip(".-").strip().rstrip(". ")
        if len(plain.encode()) > MOST_ID_BYTES or not plain:
            plain = plain.encode()[: MOST_ID_BYTES - 10].decode(errors="ignore").rstrip(". ")
            plain = plain or "_"
        reserved = plain.split(".")[0].strip().upper() in _RESERVED
        if plain != base or reserved or _alike(base) in doubled:
            plain = plain.encode()[: MOST_ID_BYTES - 10].decode(errors="ignore")
            digest = sha256_of_text(name.encode("utf-8", "surrogatepass"))
            plain = f"{plain.rstrip('. ')}-{digest[:8]}"
        ids[name] = plain
    if len({_alike(video_id) for video_id in ids.values()}) < len(ids):
        raise UserError("two videos have names that are equal as file names")
    return ids


def rename_notes(ids: Mapping[str, str]) -> list[str]:
    """Return a line about the videos whose ids are not their names, none where there are none.

    ids: as `video_ids` returns them.
    """
    renamed = [
        f"{printable(name)} -> {video_id}"
        for name, video_id in ids.items()
        if unicodedata.normalize("NFC", _base(name)) != video_id
    ]
    return [
        f"{len(renamed)} videos renamed (ids are file names on every system, one a video): "
        f"{first_few(renamed)}; {SOURCES_FILE} lists each"
    ] * bool(renamed)


def write_video_sources(folder: Path, ids: Mapping[str, str]) -> None:
    """Write the data set folder's list of videos and where each comes from, for the user to read.

    ids: id by the source's name or path. Rows of other videos that stand there already are kept.
    """
    rows = {video_id: name for name, video_id in ids.items()}
    path = folder / SOURCES_FILE
    if path.is_file():
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
            old = [row for row in csv.reader(file) if len(row) == 2][1:]
        rows = {**dict(old), **rows}
    with (
        replacing(path) as temporary,
        temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as file,
    ):  # file names that are not UTF-8 keep their bytes
        csv.writer(file).writerows([("video_id", "source"), *sorted(rows.items())])


def _is_forbidden(mark: str) -> bool:
    """Tell whether some file system, terminal or XML file does not take a character."""
    code = ord(mark)
    return mark in _FORBIDDEN or not is_plain(mark) or code in (0xFFFE, 0xFFFF)


def _alike(name: str) -> str:
    """Return what is equal for two names that a file system might take for one."""
    return unicodedata.normalize("NFC", name.casefold())


def _base(name: str) -> str:
    return _without_suffix(_parts(name)[-1])


def check_video_name(name: str) -> str:
    """Return a path that stays below its folder; raises ValueError for any other."""
    parts = _parts(name)
    if not name.strip() or not is_plain(name):
        raise ValueError(f"{name[:60]!r} is not a valid name of a video")
    if any(not part or part in (".", "..") for part in parts) or re.match(r"[A-Za-z]:", name):
        raise ValueError(f"{name!r} leads out of the folder of videos; a path below is required")
    return name


def find_video(folder: Path, name: str) -> Path:
    """Return the file of a video below `folder`: by its whole path, else by its last part.

    The name may lack the video's suffix. Raises ValueError for a name that leads out of the folder
    or is not found.
    """
    parts = _parts(check_video_name(name))
    for relative in (Path(*parts), Path(parts[-1])):
        stem = _without_suffix(relative.name)
        candidates = [relative, *(relative.with_name(stem + suffix) for suffix in VIDEO_SUFFIXES)]
        for candidate in candidates:
            path = folder / candidate
            if video_suffix(path.name) and _is_file(path):
                return path
        for path in _entries(folder / relative.parent):  # WALK.MP4 and walk.Mp4
            if path.name[: -len(video_suffix(path.name))] == stem and _is_file(path):
                return path
    suffixes = ", ".join(VIDEO_SUFFIXES[:5])
    raise ValueError(f"video {name!r} not found in {folder} ({suffixes}, ...)")


def list_videos(folder: Path) -> list[str]:
    """Return the names of the videos below a folder, sorted; linked folders are not searched.

    Raises `UserError` where there is none, for an unreadable folder, and for a video's name that is
    not a file (a broken link).
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: folder of videos not found")
    names = []
    for path in _below(folder):
        if video_suffix(path.name) and not path.is_dir():
            if not path.is_file():
                what = "a broken link" if path.is_symlink() else "not a regular file"
                raise UserError(f"{path}: {what}, a video is required")
            names.append(path.relative_to(folder).as_posix())
    if not names:
        raise UserError(f"{folder}: contains no video ({', '.join(VIDEO_SUFFIXES)})")
    return sorted(names)


def skipped_files(folder: Path) -> list[str]:
    """Return a line for each kind of entry that `list_videos` skips: other files, folder links."""
    found: dict[str, list[str]] = {"files without a video's suffix": [], "linked folders": []}
    for path in _below(folder):
        if path.is_dir():
            if path.is_symlink():
                found["linked folders"].append(path.relative_to(folder).as_posix())
        elif not video_suffix(path.name):
            found["files without a video's suffix"].append(path.relative_to(folder).as_posix())
    return [
        f"{len(names):,} {what} skipped: {first_few([*map(printable, sorted(names))])}"
        for what, names in found.items()
        if names
    ]


def _below(folder: Path) -> Iterator[Path]:
    """Yield every file and folder below; raises `UserError` for a folder that cannot be read."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be read ({error.strerror})") from error

    for place, folders, files in os.walk(folder, onerror=refuse):
        yield from (Path(place, name) for name in (*folders, *files))


def copy_or_link_video(source: Path, folder: Path, video_id: str, *, link: bool) -> Path:
    """Place a video in `folder` as ID.SUFFIX: hard-linked where `link` and possible, else copied.

    Raises `UserError` where it cannot be read or written.
    """
    target = folder / f"{video_id}{source.suffix.lower()}"
    try:
        copy_or_link(source, target, link=link)
    except OSError as error:
        raise UserError(f"{source}: cannot be copied to {folder} ({error.strerror})") from error
    return target


def copy_or_link(source: str | Path, target: str | Path, *, link: bool) -> None:
    """Hard-link `source` (of a symbolic link: its file) where `link` and possible, else copy it."""
    if link:
        try:
            os.link(Path(source).resolve(), target)
            return
        except OSError:
            Path(target).unlink(missing_ok=True)
    shutil.copyfile(source, target)


def _parts(name: str) -> list[str]:
    return name.replace("\\", "/").split("/")


def _without_suffix(name: str) -> str:
    """Remove all video suffixes: an id that ends in one would be mistaken for a file name."""
    shorter = without_video_suffix(name)
    return name if shorter == name else _without_suffix(shorter)


def _entries(folder: Path) -> list[Path]:
    """Return the video files directly in a folder, sorted; none where it is not a folder."""
    try:
        return sorted(path for path in folder.iterdir() if video_suffix(path.name))
    except OSError:  # not a folder, or a name too long for the file system
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long for the file system
        return False
