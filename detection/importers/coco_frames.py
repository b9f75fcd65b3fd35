"""Which of a COCO file's numbers is the frame's: the source's own count, not a running one."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

FIELDS = ("frame", "frame_number", "frame_index", "frame_id")
FILE_NAME = "file_name"
_LAST_NUMBER = re.compile(r"(\d{1,9})\.[A-Za-z]{3,4}$")


def frame_numbers(
    images: Sequence[Mapping[str, Any]], videos: Sequence[str], chosen: str | None
) -> tuple[str | None, list[int | None], list[str]]:
    """Return the field that numbers the frames, the number of each image, and notes.

    videos: the video of each image.  chosen: the field, where the user says so.  None as the field:
    no image has any. Of several that disagree, one that merely counts a video's images on is not
    the frame's number. Raises ValueError where two fields disagree and neither only counts on.
    """
    found = {field: [_whole(image.get(field)) for image in images] for field in FIELDS}
    found[FILE_NAME] = [_of_name(image.get(FILE_NAME)) for image in images]
    there = [name for name, numbers in found.items() if numbers and None not in numbers]
    if chosen is not None:
        return chosen, found[chosen], []
    if FILE_NAME in there and len(there) > 1 and _running(found[FILE_NAME], videos):
        there.remove(FILE_NAME)
    if not there:
        field = next((name for name in FIELDS if any(name in image for image in images)), None)
        return field, found[field] if field else [], []
    telling = [name for name in there if not _running(found[name], videos)] or there[:1]
    first = telling[0]
    for other in telling[1:]:
        if not _alike(found[first], found[other]):
            place = next(
                i for i, (a, b) in enumerate(zip(found[first], found[other], strict=True)) if a != b
            )
            raise ValueError(
                f"image {images[place].get('id')!r} is {first} {found[first][place]} and {other} "
                f"{found[other][place]}: --frame-field says which is the video's own count"
            )
    numbers = [number for number in found[first] if number is not None]
    passed = [name for name in there if name not in telling]
    notes = []
    if passed or first == FILE_NAME:
        beside = f", not from {' and '.join(passed)}, which only counts the images on"
        notes.append(
            f"frame numbers are taken from {first} ({min(numbers)} to {max(numbers)})"
            f"{beside if passed else ''} (--frame-field says otherwise)"
        )
    return first, found[first], notes


def _running(numbers: Sequence[int | None], videos: Sequence[str]) -> bool:
    """Tell whether two or more numbers count on by 1, within each video or through the file."""
    known = [number for number in numbers if number is not None]
    if len(set(known)) < 2:
        return False
    if sorted(known) == list(range(min(known), min(known) + len(known))):
        return True
    by_video: dict[str, list[int]] = {}
    for number, video in zip(known, videos, strict=True):
        by_video.setdefault(video, []).append(number)
    return all(sorted(of) == list(range(min(of), min(of) + len(of))) for of in by_video.values())


def _alike(one: Sequence[int | None], other: Sequence[int | None]) -> bool:
    """Tell whether two counts are one, from 0 or from 1."""
    apart = {(a or 0) - (b or 0) for a, b in zip(one, other, strict=True)}
    return len(apart) == 1 and abs(apart.pop()) <= 1


def _whole(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e12:
        return None
    return int(value) if value == int(value) else None


def _of_name(name: Any) -> int | None:
    match = _LAST_NUMBER.search(name) if isinstance(name, str) else None
    return int(match.group(1)) if match else None
