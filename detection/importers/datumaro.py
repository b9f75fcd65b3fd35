"""Imports Datumaro's JSON: frames with boxes whose attributes, or labels, are the actions.

https://openvinotoolkit.github.io/datumaro/latest/docs/data-formats/datumaro_format.html; CVAT
exports it too. `categories.label.labels[].name`; `items[]` with `id`, `image.path` or
`video_frame.{video_path, frame_index}`, and `annotations[]` of `type`, `bbox` [x, y, width,
height], `label_id`, `attributes`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, first_few, printable
from detection.formats.json_text import read_json_object
from detection.importers.class_names import split_names
from detection.importers.coco_shapes import box_of, number_of
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.cvat_actions import NO_ACTION
from detection.importers.cvat_shapes import Box
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.regions import Regions

# What tools note beside the actions.
_NO_ACTIONS = (
    "occluded", "rotation", "track_id", "keyframe", "outside", "is_crowd", "truncated", "difficult",
    "score", "visibility", "ignored", "generated", "reviewed", "id", "source", "text",
)  # fmt: skip
_SUBSETS = {"train": "train", "training": "train", "val": "val", "validation": "val", "test": "val"}
_WHOLE_FRAME = ("label", "caption")
_BOX_TYPE = "bbox"


@dataclass(frozen=True)
class DatumaroRules:
    """What the user chose.

    attributes: those that are actions; empty: each that is true or false, or text; where there is
    none, labels are.  labels: those of persons; empty: all.  separators: marks between several
    actions in one text.  shapes: what becomes of persons without a box, as in `CocoRules`.
    """

    attributes: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    separators: str = ""
    shapes: Literal["unjudged", "hull"] = "unjudged"


def read_datumaro(
    source: str | Path,
    videos: str | Path,
    *,
    rules: DatumaroRules | None = None,
    naming: FrameNaming | None = None,
) -> AnnotatedData:
    """Read a JSON file, or all of a folder (`annotations/train.json` ...).

    videos: folder of the videos that items name.  Files called train, val or test say the split,
    where each video is in one of them.  Raises `UserError` naming file and item.
    """
    return _Reader(Path(source), Path(videos), rules or DatumaroRules(), naming).read()


class _Reader:
    def __init__(
        self, source: Path, videos: Path, rules: DatumaroRules, naming: FrameNaming | None
    ) -> None:
        self.rules, self.videos = rules, videos
        self.frames = NamedFrames(videos, str(source), naming or FrameNaming())
        # A frame of a video is counted by the tool from 0, whatever images are called.
        self.by_number = NamedFrames(videos, str(source), FrameNaming())
        self.regions = Regions(str(source), rules.shapes)
        self.problems = Problems()
        self.whole_frames: Counter[str] = Counter()
        self.of_others = 0
        self.classes: dict[str, None] = {}
        self.files = [(path, read_json_object(path)) for path in _files(source)]

    def read(self) -> AnnotatedData:
        acting = self._acting()
        splits: dict[str, set[str]] = {}
        for path, values in self.files:
            labels = _labels(path, values)
            self._check_labels(path, labels)
            several = f"{path.name}: " if len(self.files) > 1 else ""
            for bare, item in _items(path, values):
                place = several + bare
                try:
                    video, when = self._frame_of(item)
                    splits.setdefault(video.name, set()).add(_SUBSETS.get(path.stem.lower(), ""))
                    self._take(video, when, item, place, labels, acting)
                except ValueError as error:
                    self.problems.add(self.frames.source_file, place, str(error))
        self.problems.raise_if_any()
        found = self._videos()
        notes = self._notes(acting) + self.regions.hand_over(found, "leave-out")
        if all(len(of) == 1 and of != {""} for of in splits.values()):
            for video in found:
                (video.split,) = splits[video.name]
        return AnnotatedData(found, list(self.classes), notes=notes)

    def _videos(self) -> list[AnnotatedVideo]:
        if self.by_number.videos and self.frames.videos:
            raise UserError(
                f"{self.frames.source_file}: items with video_frame beside items with images"
            )
        return list((self.by_number.videos or self.frames.videos).values())

    def _acting(self) -> list[str]:
        """Return the attributes that are actions."""
        seen: dict[str, None] = {}
        for path, values in self.files:
            for _, item in _items(path, values):
                for annotation in _list(item.get("annotations")):
                    said = annotation.get("attributes") if isinstance(annotation, dict) else None
                    for name, value in (said if isinstance(said, dict) else {}).items():
                        if isinstance(value, bool | str):
                            seen[name] = None
        unknown = [name for name in self.rules.attributes if name not in seen]
        if unknown:
            known = first_few([*map(printable, seen)], separator=", ") or "none"
            raise UserError(
                f"{self.files[0][0]}: attribute '{printable(unknown[0])}', has: {known}"
            )
        return list(self.rules.attributes) or [n for n in seen if n.lower() not in _NO_ACTIONS]

    def _check_labels(self, path: Path, labels: list[str]) -> None:
        unknown = [name for name in self.rules.labels if name not in labels]
        if unknown:
            known = first_few([*map(printable, labels)], separator=", ") or "none"
            raise UserError(f"{path}: label '{printable(unknown[0])}', has: {known}")

    def _frame_of(self, item: Mapping[str, Any]) -> tuple[AnnotatedVideo, float]:
        shown = item.get("video_frame")
        if isinstance(shown, dict):
            name, number = shown.get("video_path"), shown.get("frame_index")
            if not isinstance(name, str) or not isinstance(number, int) or not 0 <= number < 10**9:
                raise ValueError("video_frame needs video_path and frame_index, from 0")
            video, when = self.by_number.find(f"{name}/{number:09d}.jpg")
            return video, when
        image = item.get("image")
        name = image.get("path") if isinstance(image, dict) else None
        name = name or f"{item.get('id')}.jpg"
        if not isinstance(name, str):
            raise ValueError("an item needs image.path or an id that names video and frame")
        video, when = self.frames.find(name)
        size = image.get("size") if isinstance(image, dict) else None
        if isinstance(size, list) and len(size) == 2:
            height, width = (number_of(value, "image.size") for value in size)
            if height <= 0 or width <= 0:
                found = f"[{height:g}, {width:g}]"
                raise ValueError(f"image.size {found}: numbers above 0 are required")
            video.set_size((width, height))
        return video, when

    def _take(
        self,
        video: AnnotatedVideo,
        when: float,
        item: Mapping[str, Any],
        place: str,
        labels: list[str],
        acting: list[str],
    ) -> None:
        self.regions.see(video, when)
        for number, annotation in enumerate(_list(item.get("annotations"))):
            where = f"{place}.annotations[{number}]"
            try:
                if not isinstance(annotation, dict):
                    raise ValueError("an object is required")
                kind = str(annotation.get("type"))
                label = _label_of(annotation, labels)
                if kind in _WHOLE_FRAME:
                    self.whole_frames[kind] += 1
                elif self.rules.labels and label not in self.rules.labels:
                    self.of_others += 1
                else:
                    self._box(video, when, annotation, (kind, where), label, acting)
            except ValueError as error:
                self.problems.add(video.source_file, where, str(error))

    def _box(
        self,
        video: AnnotatedVideo,
        when: float,
        annotation: Mapping[str, Any],
        kind_and_place: tuple[str, str],
        label: str,
        acting: list[str],
    ) -> None:
        kind, where = kind_and_place
        box: Box | None
        if kind == _BOX_TYPE:
            box, turned = box_of(annotation)
            shape = "rotated box" if turned else "box"
        else:
            box, shape = _hull(annotation), kind
        actions = self._actions(annotation, label, acting)
        for name in actions:
            self.classes.setdefault(name)
        if self.regions.takes(video, when, shape, box):
            assert box is not None
            found = AnnotatedBox(when, box, actions, _person(annotation), where)
            self.regions.add(video, found)

    def _actions(
        self, annotation: Mapping[str, Any], label: str, acting: list[str]
    ) -> tuple[str, ...]:
        if not acting:
            return (check_class_name(label),) if label else ()
        said = annotation.get("attributes")
        found: list[str] = []
        for name in acting:
            value = said.get(name) if isinstance(said, dict) else None
            if value is True:
                found.append(name)
            elif isinstance(value, str):
                found += [
                    part for part in split_names(value, self.rules.separators)
                    if part.lower() not in NO_ACTION
                ]  # fmt: skip
        return tuple(dict.fromkeys(check_class_name(name) for name in found))

    def _notes(self, acting: list[str]) -> list[str]:
        listed = first_few([*map(printable, acting)], most=8, separator=", ")
        notes = [f"actions are {'the attributes ' + listed if acting else 'the labels'}"]
        if self.whole_frames:
            kinds = ", ".join(f"{kind} ({n:,} times)" for kind, n in self.whole_frames.items())
            notes.append(f"of whole frames, left out: {kinds}")
        if self.of_others:
            notes.append(f"{self.of_others:,} annotations of other labels left out")
        return notes


def _files(source: Path) -> list[Path]:
    if source.is_file():
        return [source]
    folder = source / "annotations" if (source / "annotations").is_dir() else source
    files = sorted(folder.glob("*.json")) if folder.is_dir() else []
    if not files:
        raise UserError(f"{source}: a JSON file, or a folder of them, is required")
    return files


def _labels(path: Path, values: Mapping[str, Any]) -> list[str]:
    categories = values.get("categories")
    told = categories.get("label") if isinstance(categories, dict) else None
    listed = told.get("labels") if isinstance(told, dict) else None
    if not isinstance(listed, list) or not isinstance(values.get("items"), list):
        raise UserError(f"{path}: `categories.label.labels` and `items` are required")
    names = [label.get("name") if isinstance(label, dict) else None for label in listed]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"{path}: a label without a name")
    return [str(name) for name in names]


def _items(path: Path, values: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, item in enumerate(_list(values.get("items"))):
        if not isinstance(item, dict):
            raise UserError(f"{path}: items[{number}]: an object is required")
        yield f"items[{number}]", item


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _label_of(annotation: Mapping[str, Any], labels: list[str]) -> str:
    number = annotation.get("label_id")
    if number is None:
        return ""
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(labels):
        raise ValueError(f"label_id {str(number)[:40]}: there are {len(labels)} labels")
    return labels[number]


def _person(annotation: Mapping[str, Any]) -> str | None:
    said = annotation.get("attributes")
    track = said.get("track_id") if isinstance(said, dict) else None
    if track is None and annotation.get("object_id", -1) != -1:
        track = annotation["object_id"]
    if track is None or track == -1:
        return None
    if isinstance(track, bool) or not isinstance(track, int | str) or not str(track).strip():
        raise ValueError(f"track_id {str(track)[:40]!r}: a whole number or a name is required")
    return str(track)


def _hull(annotation: Mapping[str, Any]) -> Box | None:
    """Return the upright box around points x, y, x, y ..., None where there are none."""
    points = [number_of(value, "points") for value in _list(annotation.get("points"))]
    if len(points) < 4 or len(points) % 2:
        return None
    x, y = points[::2], points[1::2]
    return min(x), min(y), max(x), max(y)
