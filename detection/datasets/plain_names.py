"""Checks names of classes and videos in users' files, and recognises file names of videos."""

from __future__ import annotations

import unicodedata

VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".mts", ".flv", ".wmv",
)  # fmt: skip

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def video_suffix(name: str) -> str:
    """Return the suffix of a video's file name as written (any case), "" where it has none."""
    for suffix in VIDEO_SUFFIXES:
        if len(name) > len(suffix) and name.lower().endswith(suffix):
            return name[-len(suffix) :]
    return ""


def without_video_suffix(name: str) -> str:
    """Return a name without a video's suffix (`.mp4`, `.MOV`, ...); other names unchanged."""
    suffix = video_suffix(name)
    return name[: -len(suffix)] if suffix else name


def is_plain(text: str) -> bool:
    """Return whether a text is one line of valid characters that cannot control a terminal.

    Not allowed are line and paragraph ends, control characters (escape), surrogates, and marks that
    change the direction of writing; letters, blanks and signs of any script are.
    """
    if text.isascii():
        return text.isprintable()
    odd = {"Cc", "Cs", "Zl", "Zp"}
    return not any(unicodedata.category(c) in odd or c in _DIRECTIONS for c in text)


def check_class_name(name: str) -> str:
    """Return the name of a class; raises ValueError for an empty one and for control characters.

    Names are printed on terminals, pages and frames unchanged.
    """
    if not name.strip() or not is_plain(name):
        raise ValueError(f"{name[:60]!r} is no valid class name: plain text on one line required")
    return name


def check_video_id(text: str) -> str:
    """Return the id of a video without blanks around it; raises ValueError for an invalid one.

    Ids become file names: no control characters, no path out of the folder. FOLDER/NAME is valid:
    some published tables have such ids.
    """
    name = text.strip()
    if not name:
        raise ValueError("the video id is empty")
    if not is_plain(name):
        raise ValueError(f"{name[:60]!r} cannot be a video id: plain text on one line is required")
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name[:60]!r} cannot be a video id: it would be a path that leads away")
    return name
