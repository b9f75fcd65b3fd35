"""YAML files read strictly: every mistake is one line with file, line and what was wanted.

PyYAML keeps the last of two equal keys in silence and pydantic's messages are for programmers; both
are mended here, for configurations and data set files alike. This file does not import torch.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from detection.errors import UserError, at_row

T = TypeVar("T")
Key = tuple[str, ...]


@dataclass
class YamlValues:
    """The mapping of a YAML file, and where each key stands.

    places: "FILE:LINE" of every key, or "command line" where an override set it. source: what
    errors about no single key are named after.
    """

    source: str
    values: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)

    def override(self, overrides: Sequence[str]) -> None:
        """Apply `a.b=value` texts, values in YAML; raises `UserError` for any other form."""
        for override in overrides:
            name, separator, text = override.partition("=")
            keys = tuple(name.strip().split("."))
            if not separator or not all(keys):
                raise UserError(f"command line: '{override}' is not of the form a.b=value")
            try:
                value = yaml.safe_load(text)
            except yaml.YAMLError as error:
                raise UserError(f"command line: '{override}': the value is not YAML") from error
            self._set(keys, value, override)

    def check(self, wanted: TypeAdapter[T], *, known: Collection[str] = (), word: str) -> T:
        """Turn the values into what the adapter makes; the first problem becomes one line.

        known: dotted keys, for hints about misspelt ones. word: what a key is called ("option").
        """
        try:
            return wanted.validate_python(self.values)
        except ValidationError as error:
            problems = error.errors()
            keys = tuple(str(part) for part in problems[0]["loc"])
            spots = (keys[:n] for n in range(len(keys), 0, -1))
            place = next((self.places[spot] for spot in spots if spot in self.places), self.source)
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            raise UserError(
                f"{place}: {_sentence(keys, problems[0], known, word)}{more}"
            ) from error

    def _set(self, keys: Key, value: Any, override: str) -> None:
        target = self.values
        for key in keys[:-1]:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, dict):
                raise UserError(f"command line: '{override}': '{key}' holds a value, not options")
        target[keys[-1]] = value
        self.places[keys] = "command line"


def read_yaml(path: str | Path, *, what: str = "YAML file") -> YamlValues:
    """Read a file that holds one mapping; an empty file is an empty mapping.

    what: how a missing file is called. Raises `UserError` for a missing file, text that is not
    UTF-8 or not YAML, a key given twice, and content that is no mapping.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such {what}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text, a YAML file is wanted") from error
    places: dict[Key, str] = {}
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            _find_places(node, (), path, places)
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        problem = getattr(error, "problem", None) or str(error)
        raise at_row(path, mark.line + 1 if mark else None, f"YAML error: {problem}") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path}: keys and values wanted, found a {type(values).__name__}")
    return YamlValues(str(path), values, places)


class ConfigurationFiles(Generic[T]):
    """Reads and writes configurations of one kind, a pydantic dataclass with an `output` option."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._adapter = TypeAdapter(kind)

    def load(self, path: str | Path, overrides: Sequence[str] = ()) -> T:
        """Read a file and apply `a.b=value` overrides; `output` null: runs/ and the file's name.

        Raises `UserError` for a missing file, a YAML error, an unknown or doubled key, a wrong
        type.
        """
        file = read_yaml(path, what="configuration file")
        file.override(overrides)
        if file.values.get("output") is None:
            file.values["output"] = str(Path("runs") / Path(path).stem)
        return self._check(file)

    def from_dict(self, values: Mapping[str, Any], source: str, overrides: Sequence[str] = ()) -> T:
        """Check a plain dictionary (from a checkpoint, say) that errors call `source`."""
        file = YamlValues(source, copy.deepcopy(dict(values)))
        file.override(overrides)
        return self._check(file)

    def to_dict(self, config: T) -> dict[str, Any]:
        """Return plain types only, every option written out."""
        values: dict[str, Any] = self._adapter.dump_python(config, mode="json")
        return values

    def to_yaml(self, config: T) -> str:
        """Return the whole configuration as YAML."""
        return yaml.safe_dump(self.to_dict(config), sort_keys=False)

    def options(self) -> Iterator[tuple[str, str, str, str]]:
        """Yield (key, type, default, sentence) of every option, in the order of the fields."""
        yield from options_of(self._kind)

    def _check(self, file: YamlValues) -> T:
        known = [option[0] for option in self.options()]
        known += sorted({option.rpartition(".")[0] for option in known} - {""})
        return file.check(self._adapter, known=known, word="option")


def options_of(config: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield (dotted key, type, default, sentence) of every field of a pydantic dataclass."""
    for name, info in config.__pydantic_fields__.items():
        if dataclasses.is_dataclass(info.annotation):
            yield from options_of(info.annotation, f"{prefix}{name}.")
            continue
        kind = getattr(info.annotation, "__name__", None)
        if kind is None or "[" in str(info.annotation) or "|" in str(info.annotation):
            kind = str(info.annotation).replace("typing.", "")
        default = "required" if info.is_required() else repr(info.default)
        yield f"{prefix}{name}", kind, default, info.description or ""


def _find_places(node: yaml.Node, prefix: Key, path: Path, places: dict[Key, str]) -> None:
    """Note the line of every key; a key given twice is an error."""
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in places:
            raise at_row(path, line, f"key '{'.'.join(key)}' is given twice")
        places[key] = f"{path}:{line}"
        _find_places(value_node, key, path, places)


def _sentence(keys: Key, problem: Mapping[str, Any], known: Collection[str], word: str) -> str:
    name = ".".join(keys)
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        close = difflib.get_close_matches(name, known, n=1, cutoff=0.6)
        hint = f", did you mean '{close[0]}'?" if close else ""
        return f"unknown {word} '{name}'{hint}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{word} '{name}' is wanted and not given"
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "value_error":
        return f"{name}: {message}" if name else message
    return f"{name}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"
