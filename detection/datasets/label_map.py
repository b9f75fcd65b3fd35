"""Label maps (`*.pbtxt`) as AVA writes them: files of `detection.structures.LabelMap`.

Two dialects circulate and both are read: `label { name: "sit" label_id: 11 label_type: ... }` (all
80 classes) and `item { name: "sit" id: 11 }` (the 60 classes that are scored). So are lines
`11: sit`, as in MMAction2's `label_map.txt`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from detection.datasets.plain_names import check_class_name
from detection.errors import UserError, at_row, printable
from detection.files import read_text, write_text
from detection.structures import LabelMap

POSE, OBJECT, PERSON = "PERSON_MOVEMENT", "OBJECT_MANIPULATION", "PERSON_INTERACTION"

# A map without label types is taken for AVA's own when its ids and names agree with these.
_AVA_LANDMARKS = {
    3: "crouch/kneel",
    8: "lie/sleep",
    11: "sit",
    12: "stand",
    14: "walk",
    17: "carry/hold (an object)",
    80: "watch (a person)",
}


def read_label_map(path: str | Path) -> LabelMap:
    """Read any dialect; classes keep the order of the file.

    Raises `UserError` with the line of what is wrong.
    """
    path = Path(path)
    text = read_text(path, what="label map")
    seen_names: dict[str, int] = {}
    seen_ids: dict[int, int] = {}
    groups: list[str | None] = []
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    blocks = _lines(path, text) if _LINE.fullmatch(first) else _blocks(path, text)
    for line, fields in blocks:
        name, class_id, group = _class_of(path, line, fields)
        for value, seen in ((name, seen_names), (class_id, seen_ids)):
            if value in seen:
                before = seen[value]  # type: ignore[index]
                raise at_row(path, line, f"{value!r} is there twice (first in line {before})")
        seen_names[name] = seen_ids[class_id] = line
        groups.append(group)
    if not seen_names:
        raise UserError(f"{path}: no class in this label map (expected blocks `item {{ ... }}`)")
    names, ids = tuple(seen_names), tuple(seen_ids)
    if any(groups):
        return LabelMap(names, ids, tuple(group or "OTHER" for group in groups))
    return LabelMap(names, ids, _ava_groups(names, ids))


def label_map_of(path: Path, names: Mapping[int, str]) -> LabelMap:
    """Return the classes of a file by id, in its order; raises `UserError` for an invalid name."""
    try:
        for name in names.values():
            check_class_name(name)
        return LabelMap(tuple(names.values()), tuple(names))
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error


def is_ava(label_map: LabelMap) -> bool:
    """Say whether the classes are AVA's own (all 80, or the 60 that are scored)."""
    return _ava_groups(label_map.names, label_map.ids) is not None


def write_label_map(path: str | Path, label_map: LabelMap) -> None:
    """Write the `label` dialect where there are groups, else the `item` dialect."""
    blocks = []
    for column, (name, class_id) in enumerate(zip(label_map.names, label_map.ids, strict=True)):
        quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
        if label_map.groups is None:
            blocks.append(f"item {{\n  name: {quoted}\n  id: {class_id}\n}}\n")
        else:
            group = label_map.groups[column]
            blocks.append(
                f"label {{\n  name: {quoted}\n  label_id: {class_id}\n  label_type: {group}\n}}\n"
            )
    write_text(path, "".join(blocks))


_LINE = re.compile(r"(\d+)\s*:\s*(\S.*)")
_END = (0, "mark", "")  # of the tokens
_TOKEN = re.compile(
    r"""(?P<skip>[\s,;]+|\#[^\n]*)|(?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')"""
    r"""|(?P<mark>[{}:])|(?P<word>[^\s{}:,;"'\#]+)"""
)


def _tokens(path: Path, text: str) -> Iterator[tuple[int, str, str]]:
    """Yield (line, kind, text) of every word, string and mark."""
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise at_row(path, line, f"cannot read {text[position : position + 20]!r}")
        if match.lastgroup != "skip":
            yield line, str(match.lastgroup), match.group()
        line += match.group().count("\n")
        position = match.end()


def _lines(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the fields of every `11: sit`."""
    for line, content in enumerate(text.split("\n"), 1):
        if not content.strip():
            continue
        match = _LINE.fullmatch(content.strip())
        if match is None:
            raise at_row(path, line, f"expected `11: name`, found {content.strip()[:40]!r}")
        yield line, {"id": match[1], "name": match[2]}


def _blocks(path: Path, text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the first line and the fields of every `item { ... }` or `label { ... }`."""
    tokens = _tokens(path, text)
    for line, _, word in tokens:
        if word not in ("item", "label"):
            raise at_row(path, line, f"expected `item {{` or `label {{`, found {word!r}")
        _, _, opening = next(tokens, _END)
        if opening == ":":
            _, _, opening = next(tokens, _END)
        if opening != "{":
            raise at_row(path, line, f"expected `{{` after {word!r}")
        yield line, _fields(path, line, tokens)


def _fields(path: Path, start: int, tokens: Iterator[tuple[int, str, str]]) -> dict[str, str]:
    """Read `key: value` pairs up to the closing brace."""
    fields: dict[str, str] = {}
    for line, kind, key in tokens:
        if key == "}":
            return fields
        (_, _, colon), (_, value_kind, text) = next(tokens, _END), next(tokens, _END)
        if kind != "word" or colon != ":" or value_kind == "mark":
            raise at_row(path, line, f"expected `key: value`, found {key!r}")
        if key in fields:
            raise at_row(path, line, f"'{key}' is there twice in one block")
        fields[key] = _unescaped(path, line, text[1:-1]) if value_kind == "string" else text
    raise at_row(path, start, "this block has no closing `}`")


_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))")
_SHORT = {"n": b"\n", "t": b"\t", "r": b"\r", "a": b"\a", "b": b"\b", "f": b"\f", "v": b"\v"}


def _unescaped(path: Path, line: int, text: str) -> str:
    r"""Return a quoted text as protocol buffers mean it: `\303\251` are the bytes of one letter."""

    def byte_of(match: re.Match[str]) -> str:
        octal, hexadecimal, short = match.groups()
        if short is not None:
            content = _SHORT.get(short, short.encode())
        else:
            content = bytes([int(octal, 8) & 255 if octal else int(hexadecimal, 16)])
        return content.decode("utf-8", "surrogateescape")

    whole = _ESCAPE.sub(byte_of, text)
    try:
        return whole.encode("utf-8", "surrogateescape").decode("utf-8")
    except UnicodeDecodeError as error:
        raise at_row(path, line, f"{text[:40]!r} is not UTF-8 text") from error


def _class_of(path: Path, line: int, fields: dict[str, str]) -> tuple[str, int, str | None]:
    name = fields.get("name")
    id_text = fields.get("id", fields.get("label_id"))
    if not name:
        raise at_row(path, line, "this class has no name")
    if id_text is None:
        raise at_row(path, line, f"class {name!r} has no id (expected `id: 1` or `label_id: 1`)")
    try:
        check_class_name(name)
    except ValueError as error:
        raise at_row(path, line, str(error)) from error
    digits = id_text if id_text.isascii() and id_text.isdecimal() and len(id_text) < 20 else "0"
    if not 1 <= int(digits) < 2**31:
        shown = printable(id_text[:40]) + "..." * (len(id_text) > 40)
        message = f"the id of {name!r} must be a whole number from 1, not {shown}"
        raise at_row(path, line, message + " (at most 2147483647)" * (len(id_text) > 9))
    return name, int(id_text), fields.get("label_type")


def _ava_groups(names: tuple[str, ...], ids: tuple[int, ...]) -> tuple[str, ...] | None:
    """AVA's groups by id, for its own classes: 1 to 14, 15 to 63 and 64 to 80."""
    known = [(i, n) for i, n in zip(ids, names, strict=True) if i in _AVA_LANDMARKS]
    if max(ids) > 80 or not known or any(_AVA_LANDMARKS[i] != name for i, name in known):
        return None
    return tuple(POSE if i <= 14 else OBJECT if i <= 63 else PERSON for i in ids)
