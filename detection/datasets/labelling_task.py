"""What is being labelled in a data set: `labels.yaml` in its folder.

`ava_tools.label` writes it, and whatever reads the labels knows the classes from it:

    boxes: people
    split: all
    one_of: {pose: [stand, sit]}
    actions: [wave]
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Self

import yaml
from pydantic import ConfigDict, Field, TypeAdapter, model_validator
from pydantic.dataclasses import dataclass

from detection.datasets.folder import DatasetFolder
from detection.datasets.plain_names import check_class_name
from detection.errors import UserError
from detection.files import write_text
from detection.structures import LabelMap
from detection.yaml_files import read_yaml

TASK_FILE = "labels.yaml"


@dataclass(frozen=True, config=ConfigDict(extra="forbid"))
class LabellingTask:
    """Whose people are labelled, and with what.

    boxes: name of the person boxes, as `dataset.yaml` registers them.
    split: the split that has them.
    actions: classes that combine freely.
    one_of: classes by group, of which a person does at most one at a time.
    min_score: lowest person score that starts a track.
    min_length: tracks of fewer boxes are left out.
    """

    boxes: str = Field(min_length=1)
    split: str = Field(min_length=1)
    actions: tuple[str, ...] = ()
    one_of: dict[str, tuple[str, ...]] = Field(default_factory=dict)
    min_score: float = Field(default=0.5, ge=0, le=1, strict=True)
    min_length: int = Field(default=1, ge=1, strict=True)

    @model_validator(mode="after")
    def _valid_classes(self) -> Self:
        if not self.names:
            raise ValueError("no class to choose from: 'actions' or 'one_of' is required")
        for group, members in self.one_of.items():
            if len(members) < 2:
                raise ValueError(f"group '{group}' needs at least two classes")
        for name in (*self.names, *self.one_of):
            if check_class_name(name) != name.strip():
                raise ValueError(f"'{name}' has blanks around it")
        for name in self.names:
            if self.names.count(name) > 1:
                raise ValueError(f"class '{name}' is there twice")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """All classes, those of groups first."""
        return (*(name for group in self.one_of.values() for name in group), *self.actions)

    def label_map(self, folder: DatasetFolder | None = None) -> LabelMap:
        """Return the classes, with which exclude each other.

        folder: a data set whose label map has the same names gives their ids and order; otherwise
        ids count from 1 in the order of `names`.
        """
        named = LabelMap(self.names, tuple(range(1, len(self.names) + 1)))
        if folder is not None and (folder.root / folder.file.label_map).is_file():
            known = folder.read_label_map()
            if set(known.names) == set(self.names):
                named = known
        place = named.index_by_name
        groups = {g: tuple(place[name] for name in members) for g, members in self.one_of.items()}
        return dataclasses.replace(named, exclusive=groups)


_ADAPTER = TypeAdapter(LabellingTask)
_KEYS = tuple(field.name for field in dataclasses.fields(LabellingTask))


def read_labelling_task(root: str | Path) -> LabellingTask:
    """Read `root/labels.yaml`; raises `UserError` naming the file, line and key."""
    path = Path(root) / TASK_FILE
    if not path.is_file():
        raise UserError(
            f"{path}: file not found; python -m ava_tools.label --dataset {root} makes it"
        )
    return read_yaml(path).check(_ADAPTER, known=_KEYS, word="key")


def write_labelling_task(root: str | Path, task: LabellingTask) -> Path:
    """Write `root/labels.yaml` and return its path."""
    path = Path(root) / TASK_FILE
    values: dict[str, object] = {
        "boxes": task.boxes,
        "split": task.split,
        "one_of": {group: list(members) for group, members in task.one_of.items()},
        "actions": list(task.actions),
    }
    if task.min_score != 0.5:
        values["min_score"] = task.min_score
    if task.min_length != 1:
        values["min_length"] = task.min_length
    write_text(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100))
    return path
