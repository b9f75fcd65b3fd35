"""Names that files of others give to classes, videos and splits, and what is a video's file."""

from __future__ import annotations

import unicodedata

VIDEO_SUFFIXES = (
    ".mp4", ".mkv", ".webm", ".avi", ".mov", ".m4v", ".ts", ".mpg", ".mpeg", ".mts", ".flv", ".wmv",
)  # fmt: skip

_DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def has_video_suffix(name: str) -> bool:
    """Tell whether a file's name is one of a video, in capitals or not."""
    return video_suffix(name) != ""


def video_suffix(name: str) -> str:
    """Return the suffix of a video's file name as it is written there, "" where it has none."""
    for suffix in VIDEO_SUFFIXES:
        if len(name) > len(suffix) and name.lower().endswith(suffix):
            return name[-len(suffix) :]
    return ""


def without_video_suffix(name: str) -> str:
    """Return a video's name less its suffix (`.mp4`, `.MOV`, ...); other names stay as they are."""
    suffix = video_suffix(name)
    return name[: -len(suffix)] if suffix else name


def is_plain(text: str) -> bool:
    """Tell whether a text is one line of whole characters, none of which acts on a terminal.

    Line and paragraph ends, control characters (escape), halves of characters, and marks that turn
    the direction of writing are refused; blanks, letters and signs of any script are not.
    """
    if text.isascii():
        return text.isprintable()
    odd = {"Cc", "Cs", "Zl", "Zp"}
    return not any(unicodedata.category(c) in odd or c in _DIRECTIONS for c in text)


def check_class_name(name: str) -> str:
    """Return the name of a class; raises ValueError for an empty one and for control characters.

    Names reach terminals, pages and pictures as they are.
    """
    if not name.strip() or not is_plain(name):
        raise ValueError(f"{name[:60]!r} cannot name a class: plain text on one line is required")
    return name


def check_video_id(text: str) -> str:
    """Return the id of a video without blanks around it; raises ValueError for what is none.

    Ids become names of files: no control characters, no path that leads elsewhere. FOLDER/NAME is
    an id, as some published tables have them.
    """
    name = text.strip()
    if not name:
        raise ValueError("the video id is empty")
    if not is_plain(name):
        raise ValueError(f"{name[:60]!r} cannot be a video id: plain text on one line is required")
    if "\\" in name or any(part in ("", ".", "..") for part in name.split("/")):
        raise ValueError(f"{name[:60]!r} cannot be a video id: it would be a path that leads away")
    return name
