"""Two lists of ids that should agree: who has no partner, and what most likely keeps them apart.

Annotations, lists of videos, files on disk, box tables, exclusions and detections are joined by
video id, time and class id. What has no partner is simply not there for the rest of the program, so
every join is told in one sentence: counts, three examples a side, and the likely cause.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from detection.errors import printable

# Whose ids must all be found on the other side.
Must = Literal["both", "left", "right"]
EXAMPLES = 3
# Frame rates at which a file may count frames where seconds are required.
_FRAME_RATES = (24, 25, 30)
_VIDEOS_TRIED = 200


@dataclass(frozen=True)
class Mismatch:
    """Ids of two sides that do not agree; `str` is the sentence.

    left, right: what the sides are called.  num_left, num_right: distinct ids of each.
    num_only_left, num_only_right: those without a partner that matter.  only_left, only_right: up
    to three of them.  cause: what most likely keeps them apart, empty where nothing is seen.
    """

    what: str
    left: str
    right: str
    num_left: int
    num_right: int
    num_only_left: int
    num_only_right: int
    only_left: tuple[str, ...]
    only_right: tuple[str, ...]
    cause: str = ""

    def __str__(self) -> str:
        parts = []
        for count, total, mine, other, names in (
            (self.num_only_left, self.num_left, self.left, self.right, self.only_left),
            (self.num_only_right, self.num_right, self.right, self.left, self.only_right),
        ):
            if count:
                more = ", ..." if count > len(names) else ""
                some = ", ".join(names) + more
                parts.append(f"{count:,} of {total:,} of {mine} are not in {other} ({some})")
        cause = f"; likely cause: {self.cause}" if self.cause else ""
        return f"{self.what}: {'; '.join(parts)}{cause}"


def compare_ids(
    left: Collection[str],
    right: Collection[str],
    *,
    left_name: str,
    right_name: str,
    what: str = "videos",
    must: Must = "both",
) -> Mismatch | None:
    """Return what does not agree, None where nothing that matters does not.

    must: whose ids need a partner. The other side may hold more (a list of one split beside a file
    of two), but where those look like the ids that are missed, they are named too.
    """
    mine, theirs = set(left), set(right)
    only_left, only_right = mine - theirs, theirs - mine
    cause = _cause_of_names(only_left, only_right)
    told_left = only_left if must != "right" or cause else set()
    told_right = only_right if must != "left" or cause else set()
    if not told_left and not told_right:
        return None
    return Mismatch(
        what, left_name, right_name, len(mine), len(theirs), len(told_left), len(told_right),
        _some(told_left), _some(told_right), cause,
    )  # fmt: skip


def compare_times(
    left: Mapping[str, Collection[int]],
    right: Mapping[str, Collection[int]],
    *,
    left_name: str,
    right_name: str,
    must: Must = "both",
) -> Mismatch | None:
    """Compare the keyframes (microseconds by video id) of the videos that both sides have."""
    common = sorted(left.keys() & right.keys())
    pairs = {video: (set(left[video]), set(right[video])) for video in common}
    only_left = [(v, t) for v, (mine, theirs) in pairs.items() for t in mine - theirs]
    only_right = [(v, t) for v, (mine, theirs) in pairs.items() for t in theirs - mine]
    cause = _cause_of_times(pairs, left_name, right_name) if only_left or only_right else ""
    told_left = only_left if must != "right" or cause else []
    told_right = only_right if must != "left" or cause else []
    if not told_left and not told_right:
        return None
    return Mismatch(
        "keyframes", left_name, right_name,
        sum(len(mine) for mine, _ in pairs.values()),
        sum(len(theirs) for _, theirs in pairs.values()),
        len(told_left), len(told_right), _times(told_left), _times(told_right), cause,
    )  # fmt: skip


def printed_id(name: str) -> str:
    """Return an id as it is printed: quoted where its blanks or marks would not be seen."""
    plain = printable(name)
    odd = plain != name or not name.isascii() or name != name.strip() or " " in name or "," in name
    return f"'{plain}'" if odd or not name else plain


def _some(names: Collection[str]) -> tuple[str, ...]:
    return tuple(printed_id(name) for name in sorted(names)[:EXAMPLES])


def _times(keyframes: Iterable[tuple[str, int]]) -> tuple[str, ...]:
    return tuple(f"{printed_id(v)} at {t / 1e6:.10g} s" for v, t in sorted(keyframes)[:EXAMPLES])


def _plain_numbers(name: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", re.sub(r"(?<=\d)\.0+$", "", name))


def _visible(name: str) -> str:
    """Drop what is not seen: byte-order marks, zero-width characters, control characters."""
    return "".join(c for c in name if unicodedata.category(c) not in ("Cf", "Cc"))


# In this order: what each changes, and how it is called.
_WAYS: tuple[tuple[str, Callable[[str], str]], ...] = (
    ("in Unicode form alone (NFC and NFD)", lambda name: unicodedata.normalize("NFC", name)),
    ("in characters that are not seen (a byte-order mark?)", _visible),
    ("in blanks alone", lambda name: "".join(name.split())),
    ("in upper and lower case alone", str.casefold),
    ("in a suffix alone", lambda name: re.sub(r"\.[A-Za-z][A-Za-z0-9]{1,4}$", "", name)),
    ("in a folder alone", lambda name: name.replace("\\", "/").rsplit("/", 1)[-1]),
    ("in how a number is written alone", _plain_numbers),
    ("in blanks, dashes and underscores alone", lambda name: re.sub(r"[\s_-]+", "", name)),
)


def _in_all_ways(name: str) -> str:
    for _, change in _WAYS:
        name = change(name)
    return name.casefold()


def _cause_of_names(only_left: Collection[str], only_right: Collection[str]) -> str:
    """Say in what the ids without a partner differ, where leaving it out makes partners of them."""
    if not only_left or not only_right:
        return ""
    best, words = 0, ""
    for difference, change in (*_WAYS, ("in several such things", _in_all_ways)):
        by_plain = {change(name): name for name in sorted(only_right)}
        pairs = [(name, by_plain.get(change(name))) for name in sorted(only_left)]
        found = [(mine, theirs) for mine, theirs in pairs if theirs is not None]
        if len(found) > best:
            best = len(found)
            mine, theirs = found[0]
            count = "they differ " if best == 1 else f"{best:,} of them differ "
            words = f"{count}{difference}: {_escaped(mine)} and {_escaped(theirs)}"
    return words


def _escaped(name: str) -> str:
    r"""Return an id so that every difference is seen (`\u0301`, `\ufeff`)."""
    return ascii(name) if not name.isascii() else f"'{printable(name)}'"


def _cause_of_times(
    pairs: Mapping[str, tuple[set[int], set[int]]], left_name: str, right_name: str
) -> str:
    """Say which other reading of the times on the right makes (nearly) all of them agree."""
    tried = dict(list(pairs.items())[:_VIDEOS_TRIED])
    before = _matches(tried, lambda time: time)
    least = sum(min(len(mine), len(theirs)) for mine, theirs in tried.values())
    several = sum(min(len(mine), len(theirs)) > 1 for mine, theirs in tried.values())
    if not several:  # two single times agree after any shift
        return ""
    best, cause = before, ""
    for words, change in _readings(tried, left_name, right_name):
        after = _matches(tried, change, both="whole seconds" in words)
        if after > best and least - after <= (least - before) / 2:
            best, cause = after, words
    return cause


def _readings(
    pairs: Mapping[str, tuple[set[int], set[int]]], left_name: str, right_name: str
) -> Iterable[tuple[str, Callable[[int], int]]]:
    units = {"milliseconds": 1000} | {f"frame numbers ({r} a second)": r for r in _FRAME_RATES}
    for unit, rate in units.items():
        names = right_name, left_name
        for (mine, theirs), factor in ((names, 1 / rate), (names[::-1], float(rate))):
            words = f"the times of {mine} are {unit}, those of {theirs} seconds"
            yield words, lambda time, factor=factor: round(time * factor)  # type: ignore[misc]
    shift, times = _common_shift(pairs)
    if shift:
        late = "later" if shift < 0 else "earlier"
        yield (
            f"the times of {right_name} are {abs(shift) / 1e6:.6g} s {late} than those of "
            f"{left_name} in {times:,} videos (a frame or a keyframe counted from 1 or from 0?)",
            lambda time: time + shift,
        )
    one = "the times of one side are"
    yield f"{one} rounded to whole seconds", lambda time: round(time / 1e6) * 1_000_000
    yield f"{one} cut to whole seconds", lambda time: time // 1_000_000 * 1_000_000


def _common_shift(pairs: Mapping[str, tuple[set[int], set[int]]]) -> tuple[int, int]:
    """Return the difference between first times that most videos have, and how many have it."""
    shifts = Counter(min(mine) - min(theirs) for mine, theirs in pairs.values() if mine and theirs)
    return shifts.most_common(1)[0] if shifts else (0, 0)


def _matches(
    pairs: Mapping[str, tuple[set[int], set[int]]],
    change: Callable[[int], int],
    *,
    both: bool = False,
) -> int:
    """Count the times on the right that, read another way, are on the left (to a microsecond).

    both: read the left ones that way too.
    """
    count = 0
    for mine, theirs in pairs.values():
        mine = {change(time) for time in mine} if both else mine
        changed = {change(time) for time in theirs}
        near = sum(bool({t - 1, t, t + 1} & mine) for t in changed)
        count += min(near, len(mine))
    return count
