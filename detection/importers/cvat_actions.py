"""Chooses CVAT's labels that are persons and the attribute values that are classes.

A checkbox is an action; every value of a select or radio attribute is one, and the values of one
attribute exclude each other. The values of a text attribute are actions where it is given by name.
Where no label has attributes, the labels are the actions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from detection.errors import UserError, first_few, printable
from detection.importers.class_names import name_warnings, split_names
from detection.importers.cvat_xml import CvatAttribute, CvatFile

# Values that mean "none of these".
NO_ACTION = ("", "__undefined__", "undefined", "none", "nothing", "no action", "-")
_LISTS = ("select", "radio", "text")
_MAX_NAME = 200


@dataclass(frozen=True)
class ActionRules:
    """The user's choices.

    attributes: those whose values are actions; empty: all checkboxes, selects and radios.
    labels: those that are persons; empty: labels with such an attribute, or all where none has one.
    separators: marks between several names in one value; "": none.
    """

    attributes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    separators: str = ""


@dataclass
class Vocabulary:
    """The persons and classes of CVAT files.

    rules: the user's choices.
    persons: labels whose tracks are persons; others are ignored.
    kinds: kind of each attribute whose values are actions; empty: labels are the actions.
    doubled: values of several attributes, whose classes are named `attribute: value`.
    classes: names in the order of the files.
    exclusive: mutually exclusive classes by attribute.
    notes: what the user should know, a line each.
    """

    rules: ActionRules
    persons: tuple[str, ...]
    kinds: dict[str, str] = field(default_factory=dict)
    doubled: set[str] = field(default_factory=set)
    classes: list[str] = field(default_factory=list)
    exclusive: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @classmethod
    def of(
        cls, files: Sequence[CvatFile], rules: ActionRules, *, unit: str = "tracks"
    ) -> Vocabulary:
        """Collect labels and attributes of all files; raises `UserError` for an unknown choice.

        unit: what notes call a track.
        """
        labels = _label_names(files)
        unknown = [name for name in rules.labels if name not in labels]
        if unknown:
            raise UserError(
                f"{files[0].path}: label '{printable(unknown[0])}' not found (it has: "
                f"{_listed(labels)})"
            )
        candidates = rules.labels or tuple(labels)
        known, owners = _known_attributes(files, candidates)
        acting = _acting(files[0].path, known, rules)
        taken = [
            label for label in candidates
            if not acting or rules.labels or owners.get(label, set()) & set(acting)
        ]  # fmt: skip
        words = cls(rules, tuple(taken))
        if acting:
            words._add_attributes(acting)
        else:
            words._add([name for label in taken for name in words.names_in(label)])
        words._note_choices(files, known, unit)
        return words

    def _add_attributes(self, acting: Mapping[str, CvatAttribute]) -> None:
        self.kinds = {name: attribute.kind for name, attribute in acting.items()}
        values = {
            name: [name] if a.kind == "checkbox" else self._split(a.values)
            for name, a in acting.items()
        }
        count = Counter(value for group in values.values() for value in group)
        self.doubled = {name for name, times in count.items() if times > 1}
        for name, group in values.items():
            named = [self.class_of(name, value) for value in group]
            self._add(named)
            one_each = all(len(self.names_in(value)) <= 1 for value in acting[name].values)
            if self.kinds[name] in ("select", "radio") and len(named) > 1 and one_each:
                self.exclusive[name] = named

    def _add(self, names: Sequence[str]) -> None:
        for name in names:
            if len(name) > _MAX_NAME:
                raise UserError(
                    f"'{printable(name[:40])}...' has {len(name):,} characters, the name of a "
                    f"class at most {_MAX_NAME}"
                )
        self.classes = list(dict.fromkeys([*self.classes, *names]))

    def _split(self, values: Sequence[str]) -> list[str]:
        return list(dict.fromkeys(name for value in values for name in self.names_in(value)))

    def names_in(self, value: str) -> list[str]:
        """Return the names in a value, without those for "no action"."""
        return [n for n in split_names(value, self.rules.separators) if n.lower() not in NO_ACTION]

    def class_of(self, attribute: str, value: str) -> str:
        """Return the class of a value, with the attribute's name where two have that value."""
        return f"{attribute}: {value}" if value in self.doubled else value

    def actions(self, label: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return the actions of a box."""
        if not self.kinds:
            return tuple(self.names_in(label))
        found = []
        for name, value in values.items():
            kind = self.kinds.get(name)
            if kind == "checkbox":
                if value.lower() in ("true", "1"):
                    found.append(self.class_of(name, name))
            elif kind is not None:
                found += [self.class_of(name, part) for part in self.names_in(value)]
        return tuple(dict.fromkeys(found))

    def _note_choices(
        self, files: Sequence[CvatFile], known: Mapping[str, CvatAttribute], unit: str
    ) -> None:
        tracks = Counter(track.label for file in files for track in file.tracks)
        taken = [f"{printable(label)} ({tracks[label]} {unit})" for label in self.persons]
        what = "persons" if self.kinds else "persons and actions"
        self.notes.append(f"labels taken as {what}: {_list(taken) or 'none'} (--labels chooses)")
        left = [label for label in tracks if label not in self.persons]
        if left:
            counts = [f"{printable(label)} ({tracks[label]} {unit})" for label in left]
            why = "" if self.rules.labels else "they have no attribute for actions: "
            self.notes.append(f"labels left out, {why}{_list(counts)}")
        texts = [printable(n) for n, a in known.items() if a.kind == "text" and n not in self.kinds]
        if texts and not self.rules.attributes:
            self.notes.append(
                f"text attributes not used as actions: {_list(texts)} (--attributes NAME uses one)"
            )
        self.notes += name_warnings(self.classes, split_option="--split-values ',;|'")


def _label_names(files: Sequence[CvatFile]) -> list[str]:
    found = (label for f in files for label in [*f.labels, *(t.label for t in f.tracks)])
    return [label for label in dict.fromkeys(found) if label]


def _known_attributes(
    files: Sequence[CvatFile], labels: Sequence[str]
) -> tuple[dict[str, CvatAttribute], dict[str, set[str]]]:
    """Return the attributes of these labels by name, and the names by label."""
    known: dict[str, CvatAttribute] = {}
    owners: dict[str, set[str]] = {}
    chosen = set(labels)
    for file in files:
        for label, attributes in file.labels.items():
            for attribute in attributes if label in chosen else ():
                owners.setdefault(label, set()).add(attribute.name)
                before = known.setdefault(
                    attribute.name, CvatAttribute(attribute.name, attribute.kind)
                )
                if before.kind != attribute.kind:
                    raise UserError(
                        f"{file.path}: attribute '{printable(attribute.name)}' is a {before.kind} "
                        f"of one label and a {attribute.kind} of another; --labels chooses"
                    )
                if before.kind in _LISTS[:2]:
                    before.values = tuple(dict.fromkeys([*before.values, *attribute.values]))
    for file in files:
        _complete(file, chosen, known, owners)
    return known, owners


def _complete(
    file: CvatFile, labels: set[str], known: dict[str, CvatAttribute], owners: dict[str, set[str]]
) -> None:
    """Add the attributes and values of the boxes (some files have no header)."""
    seen: dict[str, dict[str, None]] = {}
    for track in file.tracks:
        if track.label in labels or not track.label:
            for box in track.boxes:
                for name, value in box.attributes.items():
                    seen.setdefault(name, {})[value] = None
                    owners.setdefault(track.label, set()).add(name)
    for name, values in seen.items():
        attribute = known.setdefault(name, CvatAttribute(name))
        if not attribute.kind:
            boolean = all(value.lower() in ("true", "false") for value in values)
            attribute.kind = "checkbox" if boolean else "select"
        if attribute.kind in _LISTS:
            attribute.values = tuple(dict.fromkeys([*attribute.values, *values]))


def _acting(
    path: str, known: Mapping[str, CvatAttribute], rules: ActionRules
) -> dict[str, CvatAttribute]:
    """Return the attributes whose values are actions; raises `UserError` for an unsuitable one."""
    if not rules.attributes:
        kinds = ("checkbox", "select", "radio")
        return {name: a for name, a in known.items() if a.kind in kinds}
    for name in rules.attributes:
        if name not in known:
            raise UserError(
                f"{path}: attribute '{printable(name)}' not found (it has: {_listed(list(known))})"
            )
        if known[name].kind not in ("checkbox", *_LISTS):
            raise UserError(
                f"{path}: attribute '{printable(name)}' is a {printable(known[name].kind)}; a "
                "checkbox, select, radio or text is required for actions"
            )
    return {name: a for name, a in known.items() if name in rules.attributes}


def _listed(names: Sequence[str]) -> str:
    return first_few([printable(name) for name in names], most=20, separator=", ") or "none"


def _list(names: Sequence[str]) -> str:
    return first_few(names, most=10, separator=", ")
