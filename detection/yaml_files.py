"""YAML files read strictly: every mistake is one line with file, line and what is required.

PyYAML keeps the last of two equal keys in silence, follows aliases without an end and pydantic's
messages are for programmers; all of that is put right here, for configurations, data set files and
command-line overrides alike. This file does not import torch.
"""

from __future__ import annotations

import copy
import dataclasses
import difflib
import functools
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from detection.bounds import DEEPEST, MOST_VALUES
from detection.errors import UserError, printable
from detection.files import read_text
from detection.option_names import hint_for

LIMIT_BYTES = 1 << 20  # the longest configuration has a few thousand
T = TypeVar("T")
Key = tuple[str, ...]


@dataclass
class YamlValues:
    """The mapping of a YAML file, and where each key stands.

    places: "FILE:LINE" of every key, or "command line: 'a.b=value'" where an override set it.
    source: what errors about no single key are named after.
    """

    source: str
    values: dict[str, Any]
    places: dict[Key, str] = field(default_factory=dict)
    _overrides: dict[Key, str] = field(default_factory=dict)
    _of_file: dict[str, Any] | None = None  # as the file has it, without overrides

    def override(self, overrides: Sequence[str]) -> None:
        """Apply `a.b=value` texts, values in YAML; raises `UserError` for any other form."""
        for override in overrides:
            place = f"command line: '{_short(override)}'"
            name, separator, text = override.partition("=")
            keys = tuple(name.strip().split("."))
            if not separator or not all(key.strip() == key and key for key in keys):
                raise UserError(f"{place} is not of the form a.b=value")
            if name.startswith("-"):
                raise UserError(f"{place}: options are written a.b=value, without dashes before")
            if self._of_file is None:
                self._of_file = copy.deepcopy(self.values)
            places: dict[Key, str] = {}
            value = _Document(text, functools.partial(_always, place)).read(keys, places)
            self._set(keys, value, place)
            self.places |= places

    def check(self, adapter: TypeAdapter[T], *, known: Collection[str] = (), word: str) -> T:
        """Turn the values into what the adapter makes; the first problem becomes one line.

        known: dotted keys, for hints about misspelt ones. word: what a key is called ("option").
        """
        try:
            return adapter.validate_python(self.values)
        except ValidationError as error:
            problems = error.errors()
            keys = tuple(str(part) for part in problems[0]["loc"])
            more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
            place = self._place_of(keys, problems[0], adapter)
            raise UserError(
                f"{place}: {_sentence(keys, problems[0], known, word)}{more}"
            ) from error

    def _place_of(self, keys: Key, problem: Mapping[str, Any], adapter: TypeAdapter[Any]) -> str:
        """Say where a problem comes from: an override where the file alone has no problem there."""
        spots = (keys[:n] for n in range(len(keys), 0, -1))
        place = next((self.places[spot] for spot in spots if spot in self.places), self.source)
        within = [text for spot, text in self._overrides.items() if spot[: len(keys)] == keys]
        if not within or place in within:
            return place
        try:
            adapter.validate_python(self._of_file)
        except ValidationError as error:
            before = error.errors()[0]
            if (before["loc"], before["msg"]) == (problem["loc"], problem["msg"]):
                return place
        return ", ".join(["command line: " + within[0], *within[1:3]])

    def _set(self, keys: Key, value: Any, place: str) -> None:
        target = self.values
        for key in keys[:-1]:
            if target.get(key) is None:
                target[key] = {}
            target = target[key]
            if not isinstance(target, dict):
                raise UserError(f"{place}: '{key}' holds a value, not options")
        target[keys[-1]] = value
        for known in [spot for spot in self.places if spot[: len(keys)] == keys]:
            del self.places[known]  # what stood there in the file is gone
        self.places[keys] = place
        self._overrides[keys] = place.removeprefix("command line: ")


def read_yaml(path: str | Path, *, what: str = "YAML file") -> YamlValues:
    """Read a file that holds one mapping; an empty file is an empty mapping.

    what: how the file is called in errors. Raises `UserError` for a missing file, one above 1 MiB,
    text that is not UTF-8 or not YAML, a key given twice, tags other than YAML's plain ones,
    nesting above 16 levels, an alias to itself, aliases that stand for more than 100,000 values
    together, and content that is no mapping.
    """
    path = Path(path)
    text = read_text(path, what=what, limit_bytes=LIMIT_BYTES)
    places: dict[Key, str] = {}
    document = _Document(text, lambda line: str(path) if line is None else f"{path}:{line}")
    values = document.read((), places)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{path}: keys and values are required, found a {type(values).__name__}")
    return YamlValues(str(path), values, places)


def expand_home(path: str | None) -> str | None:
    """Return a path with `~` or `~user` at its start replaced by the home folder.

    Raises ValueError where the user is unknown: a folder of that name would be made otherwise.
    """
    if path is None or not path.startswith("~"):
        return path
    try:
        return str(Path(path).expanduser())
    except RuntimeError as error:
        user = path.partition("/")[0]
        message = f"there is no home folder for '{user}'; ./{user} is a folder called so"
        raise ValueError(message) from error


def _always(place: str, _line: int | None) -> str:
    return place


def find_configuration(name: str | Path) -> Path:
    """Return the path of a file, or of the shipped configuration of this name; the file wins.

    Raises `UserError` that tells similar names where there is neither.
    """
    path = Path(name)
    folder = Path(__file__).parent / "configs"  # of an installation; a checkout has it one above
    folder = folder if folder.is_dir() else folder.parent.parent / "configs"
    shipped = {file.stem: file for file in sorted(folder.glob("*.yaml"))}
    if str(name) in shipped and not path.is_file():
        return shipped[str(name)]
    if os.path.lexists(path):
        return path
    near = difflib.get_close_matches(path.stem, shipped, n=3)
    if not near and path.parts == (path.stem,):
        near = list(shipped)
    hint = f", did you mean {' or '.join(repr(one) for one in near)}?" if near else ""
    raise UserError(f"{path}: configuration file not found{hint}")


class _Loader(yaml.SafeLoader):
    """PyYAML's parser, which goes no deeper than `DEEPEST`; dates are texts like any other."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own form)
        first: [
            (tag, pattern)
            for tag, pattern in resolvers
            if not tag.endswith((":timestamp", ":value"))
        ]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose what follows; refuse what is nested too deep."""
        self.depth += 1
        if self.depth > DEEPEST:
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.MarkedYAMLError(
                problem=f"nested deeper than {DEEPEST} levels", problem_mark=mark
            )
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


class _Document:
    """One YAML document, turned into plain values: each alias gets values of its own.

    place: names a line (None: the whole) in errors.
    """

    def __init__(self, text: str, place: Callable[[int | None], str]) -> None:
        self._text = text
        self._place = place
        self._left = MOST_VALUES
        self._open: list[yaml.Node] = []

    def read(self, prefix: Key, places: dict[Key, str]) -> Any:
        """Return the values; note under `prefix` where each key stands."""
        self._places = places
        try:
            self._loader = _Loader(self._text)
            node = self._loader.get_single_node()
        except yaml.reader.ReaderError as error:
            row = self._text.count("\n", 0, error.position) + 1
            message = f"YAML error: a character U+{int(error.character):04X}, which YAML forbids"
            raise self._error(row, message) from error
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            parts = (getattr(error, "context", None), getattr(error, "problem", None))
            problem = ": ".join(part for part in parts if part) or str(error)
            place = None if mark is None else mark.line + 1
            raise self._error(place, f"YAML error: {_short(problem)}") from error
        return None if node is None else self._value(node, prefix)

    def _error(self, line: int | None, message: str) -> UserError:
        return UserError(f"{self._place(line)}: {message}")

    def _value(self, node: yaml.Node, key: Key) -> Any:
        line = node.start_mark.line + 1
        self._left -= 1
        if self._left < 0:
            raise self._error(
                line, f"more than {MOST_VALUES:,} values, each alias counted with all it stands for"
            )
        if any(node is outer for outer in self._open):
            raise self._error(line, "an alias stands for what it is in itself")
        if len(self._open) >= DEEPEST:
            raise self._error(line, f"nested deeper than {DEEPEST} levels through aliases")
        tag = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node, yaml.MappingNode) and tag == "map":
            self._open.append(node)
            values: Any = self._mapping(node, key)
            self._open.pop()
            return values
        if isinstance(node, yaml.SequenceNode) and tag == "seq":
            self._open.append(node)
            values = [self._value(item, (*key, str(i))) for i, item in enumerate(node.value)]
            self._open.pop()
            return values
        if isinstance(node, yaml.ScalarNode) and tag in ("str", "int", "float", "bool", "null"):
            return self._scalar(node, tag)
        raise self._error(
            line, f"YAML error: the tag {_short(node.tag)} is not read, plain values are required"
        )

    def _scalar(self, node: yaml.ScalarNode, tag: str) -> Any:
        try:
            return getattr(self._loader, f"construct_yaml_{tag}")(node)
        except (ValueError, KeyError, IndexError, OverflowError) as error:
            line = node.start_mark.line + 1
            raise self._error(
                line, f"YAML error: '{_short(node.value)}' is no {tag} that can be read"
            ) from error

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, Any]:
        values: dict[str, Any] = {}
        merged: list[yaml.Node] = []
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise self._error(line, "a list or a mapping as a key, a text is required")
            name = key_node.value
            if name in values or (key_node.tag.endswith(":merge") and merged):
                dotted = ".".join((*key, name))
                raise self._error(line, f"key '{_short(dotted)}' is given twice")
            if key_node.tag.endswith(":merge"):
                several = isinstance(value_node, yaml.SequenceNode)
                merged = list(value_node.value) if several else [value_node]
                continue
            self._places[(*key, name)] = self._place(line)
            values[name] = self._value(value_node, (*key, name))
        for source in merged:
            places, self._places = self._places, {}
            lower = self._value(source, key)
            places, self._places = self._places, places
            if not isinstance(lower, dict):
                line = source.start_mark.line + 1
                raise self._error(line, "<< takes mappings, found something else")
            values = lower | values
            for spot, place in places.items():
                self._places.setdefault(spot, place)
        return values


class ConfigurationFiles(Generic[T]):
    """Reads and writes configurations of one kind, a pydantic dataclass with an `output` option."""

    def __init__(self, kind: type[T]) -> None:
        self._kind = kind
        self._adapter = TypeAdapter(kind)

    def load(self, path: str | Path, overrides: Sequence[str] = ()) -> T:
        """Read a file and apply `a.b=value` overrides; `output` null: runs/ and the file's name.

        path: a file's, or the name of a shipped configuration, such as "demo_x3d_xs". Raises
        `UserError` for a missing file, a YAML error, an unknown or doubled key, a wrong type.
        """
        file = read_yaml(find_configuration(path), what="configuration file")
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


def _sentence(keys: Key, problem: Mapping[str, Any], known: Collection[str], word: str) -> str:
    name = _short(".".join(keys))
    if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        section = problem["input"]
        if isinstance(section, dict) and section and len(keys) < DEEPEST:
            deeper = next(iter(section))  # what is meant says more than the section it stands in
            return _sentence((*keys, deeper), {**problem, "input": section[deeper]}, known, word)
        return f"unknown {word} '{name}'{hint_for('.'.join(keys), known, word)}"
    if problem["type"] in ("missing", "missing_argument"):
        return f"{word} '{name}' is required and not given"
    message = printable(problem["msg"].removeprefix("Value error, "))
    if problem["type"] == "value_error":
        return f"{name}: {message}" if name else message
    found = _brief(problem["input"])
    return f"{name}: {message[0].lower()}{message[1:]}, got {found}"


def _brief(value: Any) -> str:
    if isinstance(value, (dict, list, tuple)) and len(value) > 10:
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and value.bit_length() > 1000:
        return f"a whole number of {value.bit_length()} bits"
    return _short(repr(value))


def _short(text: str, longest: int = 100) -> str:
    text = printable(text)
    return text if len(text) <= longest else f"{text[:longest]}..."
