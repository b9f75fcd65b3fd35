"""Which attributes of VIA's regions are actions and which names the person; VIA 2 and 3 alike.

An attribute of several options (checkboxes) is as many actions; each option of a radio or dropdown
attribute is one, and those of one attribute exclude each other. The values of a text attribute are
actions where it is given by name, or where it is the only attribute beside the person's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from detection.datasets.plain_names import check_class_name
from detection.errors import UserError, first_few, printable
from detection.importers.class_names import name_key, name_warnings, split_names
from detection.importers.cvat_actions import NO_ACTION

# Names of attributes, as `name_key` has them, that tell people apart; the likeliest first.
PERSON_NAMES = (
    "person", "person id", "personid", "track", "track id", "trackid", "id", "instance id",
    "actor", "actor id", "subject", "subject id",
)  # fmt: skip
_MAX_NAME = 200


@dataclass
class ViaAttribute:
    """An attribute of regions.

    name: as shown.  kind: text; one or several of the options.  options: name by id.
    """

    name: str
    kind: Literal["text", "one", "several"]
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ViaRules:
    """What the user chose.

    attributes: those that are actions; empty: all of options, else the only text.  person: that
    which names the person; None: by its name.  separators: marks between several actions in one
    text.  shapes: what becomes of persons without a rectangle, as in `CocoRules`.
    """

    attributes: tuple[str, ...] = ()
    person: str | None = None
    separators: str = ""
    shapes: Literal["unjudged", "hull"] = "unjudged"


@dataclass
class RegionWords:
    """The actions and persons of a file.

    acting: attributes whose values are actions, by key.  person: key of the person's, or None.
    classes: in the order of the file.  exclusive: by attribute.  notes: a line each.
    """

    rules: ViaRules
    acting: dict[str, ViaAttribute]
    person: str | None
    doubled: set[str]
    classes: list[str]
    exclusive: dict[str, list[str]]
    notes: list[str]

    @classmethod
    def of(cls, path: str, known: Mapping[str, ViaAttribute], rules: ViaRules) -> RegionWords:
        """Choose among attributes (by the key that regions use); raises `UserError`."""
        person = _person_of(path, known, rules)
        acting, notes = _acting_of(path, known, person, rules)
        count = Counter(name for a in acting.values() for name in a.options.values())
        doubled = {name for name, times in count.items() if times > 1}
        words = cls(rules, acting, person, doubled, [], {}, notes)
        for attribute in acting.values():
            try:
                parts = [words.classes_in(attribute, value) for value in attribute.options.values()]
            except ValueError as error:
                raise UserError(f"{path}: attribute {attribute.name!r:.60}: {error}") from error
            named = [name for part in parts for name in part]
            words.classes += named
            if attribute.kind == "one" and len(named) > 1 and all(len(p) < 2 for p in parts):
                words.exclusive[attribute.name] = list(dict.fromkeys(named))
        words.classes = list(dict.fromkeys(words.classes))
        for name in words.classes:
            if len(name) > _MAX_NAME:
                raise UserError(
                    f"{path}: '{printable(name[:40])}...' has {len(name):,} characters, the name "
                    f"of a class at most {_MAX_NAME}"
                )
        if acting:
            listed = first_few([printable(a.name) for a in acting.values()], separator=", ")
            of_whom = ""
            if person is not None:
                of_whom = f", persons are told apart by {printable(known[person].name)}"
            words.notes.append(f"actions are the attributes {listed}{of_whom}")
        words.notes += name_warnings(words.classes, split_option="--split-values")
        return words

    def classes_in(self, attribute: ViaAttribute, value: str) -> list[str]:
        """Return the classes of a value, none for "no action"; raises ValueError."""
        parts = split_names(value, self.rules.separators)
        said = [part for part in parts if part.lower() not in NO_ACTION]
        prefix = f"{attribute.name}: " if value in self.doubled else ""
        return [check_class_name(prefix + part) for part in said]

    def actions(self, values: Mapping[str, Any]) -> tuple[str, ...]:
        """Return the actions of a region; raises ValueError naming what is wrong."""
        found: list[str] = []
        for key, attribute in self.acting.items():
            for value in _values_of(attribute, values.get(key)):
                found += self.classes_in(attribute, value)
        return tuple(dict.fromkeys(found))

    def person_of(self, values: Mapping[str, Any]) -> str | None:
        """Return the person's id, None where a region names none; raises ValueError."""
        value = values.get(self.person) if self.person is not None else None
        if value in (None, ""):
            return None
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"the person must be a text, found {str(value)[:40]}")
        return str(value).strip()[:_MAX_NAME]


def attribute_names(names: Sequence[str]) -> list[str]:
    """Return names of attributes for an export, all different, none that would name the person."""
    made: list[str] = []
    for name in names:
        while name_key(name) in (*PERSON_NAMES, *map(name_key, made)):
            name = f"{name} action"
        made.append(name)
    return made


def _values_of(attribute: ViaAttribute, value: Any) -> list[str]:
    """Return the names of what a region says of an attribute."""
    if value is None or value == "":
        return []
    if isinstance(value, dict) and attribute.kind == "several":  # VIA 2's checkboxes
        ids = [name for name, ticked in value.items() if ticked not in (False, "false", "", 0)]
    elif isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"attribute '{attribute.name}': a text is required, found {value!r:.40}")
    elif attribute.kind == "several":  # VIA 3's checkboxes
        ids = [part.strip() for part in str(value).split(",") if part.strip()]
    else:
        ids = [str(value)]
    if attribute.kind == "text":
        return ids
    for option in ids:
        if option not in attribute.options:
            known = first_few([printable(name) for name in attribute.options], separator=", ")
            raise ValueError(
                f"attribute '{attribute.name}' has the options {known or '(none)'}, found "
                f"{option[:40]!r}"
            )
    return [attribute.options[option] for option in ids]


def _person_of(path: str, known: Mapping[str, ViaAttribute], rules: ViaRules) -> str | None:
    if rules.person is not None:
        found = [key for key, attribute in known.items() if attribute.name == rules.person]
        if not found:
            raise _not_found(path, "--person-attribute", rules.person, known)
        return found[0]
    named = {key: name_key(a.name) for key, a in known.items() if a.name not in rules.attributes}
    likely = [key for key, name in named.items() if name in PERSON_NAMES]
    return min(likely, key=lambda key: PERSON_NAMES.index(named[key]), default=None)


def _acting_of(
    path: str, known: Mapping[str, ViaAttribute], person: str | None, rules: ViaRules
) -> tuple[dict[str, ViaAttribute], list[str]]:
    others = {key: attribute for key, attribute in known.items() if key != person}
    for name in rules.attributes:
        if all(attribute.name != name for attribute in others.values()):
            raise _not_found(path, "--attributes", name, others)
    if rules.attributes:
        return {key: a for key, a in others.items() if a.name in rules.attributes}, []
    acting = {key: a for key, a in others.items() if a.kind != "text"}
    texts = [printable(a.name) for a in others.values() if a.kind == "text"]
    if acting or not texts:
        left = f"text attributes not used as actions: {first_few(texts, separator=', ')}"
        return acting, [f"{left} (--attributes NAME uses one)"] * bool(texts)
    if len(texts) > 1:
        raise UserError(
            f"{path}: {len(texts)} text attributes ({first_few(texts, separator=', ')}): "
            "--attributes NAME says which are actions"
        )
    return others, []


def _not_found(path: str, option: str, name: str, known: Mapping[str, ViaAttribute]) -> UserError:
    has: Sequence[str] = [printable(attribute.name) for attribute in known.values()]
    listed = first_few(has, most=20, separator=", ") or "none"
    return UserError(f"{path}: {option} '{printable(name)}': not found (it has: {listed})")
