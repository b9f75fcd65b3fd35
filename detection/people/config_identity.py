"""What a configuration of detectron2's is known by: its text and that of all it builds on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from detection.errors import UserError
from detection.files import read_text, sha256_of_text

_BASE = "_BASE_"
_MOST_BYTES = 1 << 20


def config_digest(path: str | Path) -> str:
    """Return a digest of a YAML file and of every file that its `_BASE_` leads to, in that order.

    What cannot be read counts as not there, or as holding no `_BASE_`: whoever opens the
    configuration says what is wrong with it. Raises `UserError` for the first file alone.
    """
    texts = [read_text(path, what="configuration")]
    for base in _bases(Path(path), {Path(path).resolve()}):
        try:
            texts.append(read_text(base, what="configuration", limit_bytes=_MOST_BYTES))
        except UserError:
            texts.append("not there")
    return sha256_of_text("\0".join(texts))


def _bases(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the files that `path` builds on, each once, nearest first."""
    try:
        text = read_text(path, what="configuration", limit_bytes=_MOST_BYTES)
        named = list(_named_bases(text))
    except (UserError, yaml.YAMLError):
        return
    for name in named:
        base = path.parent / _home(name)
        if base.resolve() not in seen:
            seen.add(base.resolve())
            yield base
            yield from _bases(base, seen)


def _named_bases(text: str) -> Iterator[str]:
    """Yield what a configuration's `_BASE_` names: a file, seldom several."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == _BASE:
            entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (str(entry.value) for entry in entries)


def _home(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # nobody's home folder
        return Path(name)
