"""Names of classes as users write them: several in one field, and one name in two spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from detection.errors import UserError, first_few, printable

# Marks between two names; a comma or slash within brackets belongs to the name, as in AVA's
# "talk to (e.g., self, a person, a group)".
USUAL_SEPARATORS = ",;|"


def split_names(text: str, separators: str) -> list[str]:
    """Return the names in `text`, each once, without blanks around them, in their order.

    separators: each of its characters ends a name ("": the text is one name), except within round
    brackets.
    """
    names = [part.strip() for part in _parts(text, separators)]
    return list(dict.fromkeys(name for name in names if name))


def checked_separators(text: str, *, option: str) -> str:
    """Return the separators given to `option`; raises `UserError` for characters of names.

    These are letters, digits, blanks, brackets, quotes, hyphens and underscores.
    """
    bad = [mark for mark in text if mark.isalnum() or mark.isspace() or mark in "()'\"_-"]
    if bad or not text:
        raise UserError(
            f"{option} {printable(text)!r}: marks such as '{USUAL_SEPARATORS}' are required"
        )
    return text


def name_key(name: str) -> str:
    """Return a key that ignores case, blanks, `_`, `-` and the Unicode form of a name."""
    return re.sub(r"[\s_\-]+", " ", unicodedata.normalize("NFKC", name).casefold()).strip()


def near_duplicates(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Return the groups of names that differ only in case, blanks, `_`, `-` or Unicode form.

    Groups and their members keep the order of `names`.
    """
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(name_key(name), {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def several_in_one(names: Iterable[str], separators: str = USUAL_SEPARATORS) -> list[str]:
    """Return the names that look like several in one, `walk, sit` or `walk|sit`, each once."""
    return [name for name in dict.fromkeys(names) if len(split_names(name, separators)) > 1]


def name_warnings(names: Iterable[str], *, split_option: str | None = None) -> list[str]:
    """Return warnings, a line each, about class names that look unintended.

    split_option: the command's option that would split `walk, sit`.
    """
    names = list(names)
    lines = []
    twins = near_duplicates(names)
    if twins:
        groups = [" and ".join(f"'{printable(name)}'" for name in group) for group in twins]
        lines.append(
            f"warning: {len(twins)} class{'es' * (len(twins) > 1)} in several spellings, which are "
            f"kept apart: {first_few(groups)}"
        )
    joined = several_in_one(names)
    if joined:
        quoted = [f"'{printable(name)}'" for name in joined]
        advice = f" ({split_option} splits them)" if split_option else ""
        lines.append(
            f"warning: {len(joined)} class name{'s' * (len(joined) > 1)} like several in one, "
            f"taken as one each: {first_few(quoted)}{advice}"
        )
    return lines


def _parts(text: str, separators: str) -> list[str]:
    """Split at separators outside round brackets; unbalanced brackets are ordinary text."""
    parts, start, depth = [], 0, 0
    counts_brackets = text.count("(") == text.count(")")
    for place, mark in enumerate(text):
        if counts_brackets and mark in "()":
            depth = max(0, depth + (1 if mark == "(" else -1))
        elif mark in separators and not depth:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]
