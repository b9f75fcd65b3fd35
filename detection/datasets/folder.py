"""A data set folder and its `dataset.yaml`: the files of each split.

Without torch, so that commands for annotations start quickly. `detection.datasets.open_video` opens
the videos.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from detection.datasets.label_map import read_label_map
from detection.datasets.plain_names import VIDEO_SUFFIXES, video_suffix
from detection.errors import UserError
from detection.files import DATASET_FILE, write_text
from detection.structures import LabelMap
from detection.yaml_files import read_yaml

FILE_NAME = DATASET_FILE
_HOW_TO_MAKE_ONE = (
    "a data set folder is made by python -m ava_tools.make_demo, ava_tools.import_dataset "
    "or ava_tools.download"
)


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class FramesPart(_Part):
    """Extracted frames in place of videos: folder/ID/ID_000001.jpg, frame 1 at time `start_s`."""

    folder: str
    fps: float = Field(gt=0)
    start_s: float = 0.0


class SplitPart(_Part):
    """Files of one split, relative to the data set folder."""

    annotations: str
    exclusions: str | None = None
    videos: str | None = None
    boxes: dict[str, str] = Field(default_factory=dict)


class PeoplePart(_Part):
    """The people detector whose boxes the data set was labelled on.

    weights: as `detect_people --weights` takes them.  score: from which on a box is a person, by
    the weights' file; null where it tells none.
    """

    weights: str = Field(min_length=1)
    score: float | None = Field(default=None, ge=0, le=1)


class EvaluationPart(_Part):
    """protocol: name of the evaluation rules, null for the default of the times."""

    protocol: str | None = None


class DatasetFile(_Part):
    """The content of `dataset.yaml`, key by key."""

    name: str
    description: str = ""
    label_map: str = "annotations/label_map.pbtxt"
    videos: str | None = None
    frames: FramesPart | None = None
    splits: dict[str, SplitPart] = Field(min_length=1)
    evaluation: EvaluationPart = EvaluationPart()
    people: PeoplePart | None = None
    exclusive: dict[str, list[str]] = Field(default_factory=dict)
    made_up: bool = False
    how_to_get: str | None = None

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.videos is None) == (self.frames is None):
            raise ValueError("either 'videos' or 'frames' is required")
        return self

    @field_validator("exclusive")
    @classmethod
    def _disjoint_groups(cls, groups: dict[str, list[str]]) -> dict[str, list[str]]:
        group_of_class: dict[str, str] = {}
        for group, names in groups.items():
            if len(names) < 2:
                raise ValueError(f"group '{group}' needs at least two classes")
            for name in names:
                if name in group_of_class:
                    raise ValueError(f"class '{name}' is there twice")
                group_of_class[name] = group
        return groups


_ADAPTER = TypeAdapter(DatasetFile)


@dataclass(frozen=True)
class Split:
    """One split, with absolute or working-directory paths.

    name: of the split.
    annotations: ground truth.
    exclusions: list of excluded keyframes, None where there is none.
    videos: list of video ids, None where there is none.
    boxes: person box files by name.
    """

    name: str
    annotations: Path
    exclusions: Path | None
    videos: Path | None
    boxes: Mapping[str, Path]


@dataclass(frozen=True)
class DatasetFolder:
    """A data set folder with its checked `dataset.yaml`; made by `open`."""

    root: Path
    file: DatasetFile

    @classmethod
    def open(cls, root: str | Path, *, how_to_get: str | None = None) -> DatasetFolder:
        """Read `root/dataset.yaml`.

        how_to_get: the command that makes this folder, for the message where it is missing.
        Raises `UserError` naming the file and the key.
        """
        root = Path(root)
        path = root / FILE_NAME
        if not path.is_file():
            hint = f"make it with: {how_to_get}" if how_to_get else _HOW_TO_MAKE_ONE
            raise UserError(f"{path}: file not found; {hint}")
        known = tuple(DatasetFile.model_fields)
        return cls(root, read_yaml(path).check(_ADAPTER, known=known, word="key"))

    @property
    def name(self) -> str:
        """Name of the data set."""
        return self.file.name

    @property
    def label_map_path(self) -> Path:
        """The label map's file."""
        return self._existing(self.file.label_map, "label_map")

    def read_label_map(self) -> LabelMap:
        """Read the label map."""
        return read_label_map(self.label_map_path)

    def exclusive_groups(self, label_map: LabelMap) -> dict[str, tuple[int, ...]]:
        """Return the groups of mutually exclusive classes by name.

        A group is a tuple of columns of the label map; `dataset.yaml` lists them under `exclusive`.
        They are used to check and correct annotations; the model's probabilities stay independent.
        Raises `UserError` for a class that is not in the label map.
        """
        groups: dict[str, tuple[int, ...]] = {}
        for group, names in self.file.exclusive.items():
            for name in names:
                if name not in label_map.index_by_name:
                    raise UserError(
                        f"{self.root / FILE_NAME}: exclusive.{group} names '{name}', "
                        f"which is not a class of {self.file.label_map}"
                    )
            groups[group] = tuple(label_map.index_by_name[name] for name in names)
        return groups

    def split(self, name: str) -> Split:
        """Return a split whose files exist; raises `UserError` naming what is missing."""
        part = self.file.splits.get(name)
        if part is None:
            known = ", ".join(self.file.splits)
            raise UserError(f"{self.root / FILE_NAME}: split '{name}' not found, it has {known}")
        key = f"splits.{name}"
        return Split(
            name=name,
            annotations=self._existing(part.annotations, f"{key}.annotations"),
            exclusions=self._maybe(part.exclusions, f"{key}.exclusions"),
            videos=self._maybe(part.videos, f"{key}.videos"),
            boxes={box_name: self.root / path for box_name, path in part.boxes.items()},
        )

    def boxes_path(self, split: Split, name: str) -> Path:
        """Return the file of the person boxes called `name`; raises `UserError` where absent."""
        path = split.boxes.get(name)
        if path is None:
            known = ", ".join(split.boxes) or "none"
            raise UserError(
                f"{self.root / FILE_NAME}: split '{split.name}' has no boxes '{name}' "
                f"(it has: {known})"
            )
        if not path.is_file():
            raise UserError(
                f"{path}: file not found (boxes '{name}' of split '{split.name}'); make it with: "
                f"python -m ava_tools.detect_people --dataset {self.root} --split {split.name} "
                f"--weights FILE --out {path}"
            )
        return path

    def video_path(self, video_id: str) -> Path:
        """Return the file of a video (or its folder of frames); raises `UserError` where absent."""
        if not video_id or "/" in video_id or "\\" in video_id or video_id in (".", ".."):
            raise UserError(f"{self.root}: '{video_id}' is not a video id (it would be a path)")
        if self.file.frames is not None:
            folder = self.root / self.file.frames.folder / video_id
            if not folder.is_dir():
                raise UserError(f"{folder}: folder of frames not found{self._hint()}")
            return folder
        assert self.file.videos is not None
        path = self._video_files.get(video_id)
        if path is None:
            path = self.root / self.file.videos / f"{video_id}.mp4"
            if not path.is_file():
                raise UserError(f"{path}: video file not found{self._hint()}")
        return path

    @cached_property
    def _video_files(self) -> dict[str, Path]:
        assert self.file.videos is not None
        folder = self.root / self.file.videos
        if not folder.is_dir():
            raise UserError(f"{folder}: folder of videos not found{self._hint()}")
        files: dict[str, list[Path]] = {suffix: [] for suffix in VIDEO_SUFFIXES}
        for path in sorted(folder.iterdir()):
            if suffix := video_suffix(path.name):
                files[suffix.lower()].append(path)
        # Of several files of one id the first suffix of VIDEO_SUFFIXES wins.
        ordered = [path for same in files.values() for path in same]
        return {path.name[: -len(path.suffix)]: path for path in reversed(ordered)}

    def _maybe(self, relative: str | None, key: str) -> Path | None:
        return None if relative is None else self._existing(relative, key)

    def _existing(self, relative: str, key: str) -> Path:
        path = self.root / relative
        if not path.is_file():
            raise UserError(
                f"{path}: file not found, {self.root / FILE_NAME} names it as {key}{self._hint()}"
            )
        return path

    def _hint(self) -> str:
        return f"; make it with: {self.file.how_to_get}" if self.file.how_to_get else ""


def inside(root: Path, relative: str | Path, *, what: str) -> Path:
    """Return `root / relative` for writing; raises `UserError` where that is outside `root`.

    what: a name of the path for the error. `dataset.yaml` and tables may name files elsewhere for
    reading, but nothing is written outside the folder: absolute paths, paths with `..`, and links
    that lead out are refused.
    """
    relative = Path(relative)
    place = root / relative
    leads_out = relative.is_absolute() or ".." in relative.parts
    if leads_out or not place.resolve().is_relative_to(root.resolve()):
        raise UserError(
            f"{relative}: {what} lies outside the data set folder; a path within it is required"
        )
    return place


def write_dataset_file(root: str | Path, file: DatasetFile) -> None:
    """Write `root/dataset.yaml`."""
    values = file.model_dump(mode="json", exclude_defaults=True)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    write_text(Path(root) / FILE_NAME, text)
