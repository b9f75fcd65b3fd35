"""Identity of a detectron2 configuration: its text and that of all its base files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml

from detection.errors import UserError
from detection.files import read_text, sha256_of_text

_BASE = "_BASE_"
_MOST_BYTES = 1 << 20


def config_digest(path: str | Path) -> str:
    """Return a digest of a YAML file and of all files that its `_BASE_` leads to, in that order.

    An unreadable base counts as missing: the error is reported when the configuration is opened.
    Raises `UserError` if the first file is unreadable.
    """
    texts = [read_text(path, what="configuration")]
    for base in _bases(Path(path), {Path(path).resolve()}):
        try:
            texts.append(read_text(base, what="configuration", limit_bytes=_MOST_BYTES))
        except UserError:
            texts.append("not there")
    return sha256_of_text("\0".join(texts))


def _bases(path: Path, seen: set[Path]) -> Iterator[Path]:
    """Yield the base files of `path`, each once, nearest first."""
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
    """Yield the files named by a configuration's `_BASE_`, usually one."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    for key, value in root.value if isinstance(root, yaml.MappingNode) else []:
        if key.value == _BASE:
            entries = value.value if isinstance(value, yaml.SequenceNode) else [value]
            yield from (str(entry.value) for entry in entries)


def _home(name: str) -> Path:
    try:
        return Path(name).expanduser()
    except RuntimeError:  # unknown home folder
        return Path(name)
