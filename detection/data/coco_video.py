"""COCO-style JSON of videos: `images` with a video and a frame (or time), `annotations` with boxes.

Two spellings of an image: CocoVID's `video_id` (of the list `videos`) and `frame_id`, or plain
`video` and `frame`; `time` (seconds) stands in for the frame. Actions are an annotation's `actions`
(names or category ids) or `attributes` (`{"wave": true, "pose": "sit"}`) where the file has such,
else its category. Persons: `track_id`, `instance_id` or `person_id`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detection.data.json_places import read_json_lists
from detection.data.own_data import OwnBox, OwnVideo
from detection.data.source_videos import find_video
from detection.errors import Problems, UserError

# What annotation tools note beside the actions.
_NO_ACTIONS = ("occluded", "rotation", "track_id", "keyframe", "outside", "iscrowd", "truncated")
_NOTHING = ("", "none", "__undefined__")


@dataclass(frozen=True)
class CocoData:
    """What the file holds. classes: in the order of their ids."""

    videos: list[OwnVideo]
    classes: list[str]
    exclusive: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Image:
    video: OwnVideo
    moment: float
    scale: tuple[float, float]


def read_coco_videos(path: str | Path, videos: str | Path, *, first_frame: int = 0) -> CocoData:
    """Read a file; boxes are `[x, y, width, height]` in pixels.

    videos: folder of the videos that it names.  first_frame: number of the first frame.
    Raises `UserError` naming file and line of the item.
    """
    values, lines = read_json_lists(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(values.get(key), list):
            raise UserError(f"{path}: wanted lists images, annotations and categories; no '{key}'")
    return _Reader(Path(path), values, lines, Path(videos), first_frame).read()


class _Reader:
    def __init__(
        self,
        path: Path,
        values: Mapping[str, Any],
        lines: Mapping[str, list[int]],
        folder: Path,
        first_frame: int,
    ) -> None:
        self.path, self.values, self.lines, self.folder = path, values, lines, folder
        self.first_frame = first_frame
        self.problems = Problems()
        self.videos: dict[str, OwnVideo] = {}
        self.names: dict[str, str] = {}
        self.attribute_values: dict[str, dict[str, None]] = {}

    def read(self) -> CocoData:
        video_names = self._each("videos", lambda v: str(_need(v, "name", "file_name")))
        categories = self._each("categories", lambda c: str(_need(c, "name")))
        images = self._each("images", lambda image: self._image(image, video_names))
        self.problems.raise_if_any()
        acting = any(self._says_actions(a) for a in self.values["annotations"])
        peopled: set[tuple[str, float]] = set()
        for position, annotation in enumerate(self.values["annotations"]):
            line = self.lines["annotations"][position]
            try:
                image = images.get(_key(_need(annotation, "image_id")))
                if image is None:
                    raise ValueError(f"image_id {annotation['image_id']!r} is no image's id")
                box = OwnBox(
                    image.moment,
                    _box(annotation, image.scale),
                    self._actions(annotation, categories, acting),
                    _person(annotation),
                    line,
                )
            except ValueError as error:
                self.problems.add(self.path, line, str(error))
                continue
            image.video.boxes.append(box)
            peopled.add((image.video.name, image.moment))
        self.problems.raise_if_any()
        for image in images.values():
            if (image.video.name, image.moment) not in peopled:
                image.video.empty.append(image.moment)
        groups = {
            name: list(values) for name, values in self.attribute_values.items() if len(values) > 1
        }
        classes = [] if acting else list(dict.fromkeys(categories.values()))
        return CocoData(list(self.videos.values()), classes, groups)

    def _each(self, key: str, make: Any) -> dict[str, Any]:
        """Return what `make` makes of each item of a list, by the item's id."""
        made: dict[str, Any] = {}
        for position, item in enumerate(self.values.get(key) or []):
            line = self.lines.get(key, [0] * (position + 1))[position]
            try:
                if not isinstance(item, dict):
                    raise ValueError(f"{key}: an object is wanted, found {str(item)[:40]}")
                identity = _key(_need(item, "id"))
                if identity in made:
                    raise ValueError(f"{key}: id {item['id']!r} is there twice")
                made[identity] = make(item)
            except ValueError as error:
                self.problems.add(self.path, line or None, str(error))
        return made

    def _image(self, image: Mapping[str, Any], video_names: Mapping[str, str]) -> _Image:
        if "video_id" in image:
            name = video_names.get(_key(image["video_id"]))
            if name is None:
                raise ValueError(f"images: video_id {image['video_id']!r} is no video's id")
        else:
            name = str(_need(image, "video", "video_name"))
        by_frame = "time" not in image
        moment = _number(_need(image, "frame_id", "frame", "frame_index", "time"), "frame")
        if by_frame:
            if moment != int(moment) or moment < self.first_frame:
                raise ValueError(f"images: frame must be whole and from {self.first_frame} on")
            moment -= self.first_frame
        if name not in self.names:
            file = find_video(self.folder, name)
            key = file.relative_to(self.folder).as_posix()
            self.videos.setdefault(key, OwnVideo(key, file, str(self.path), by_frame, (1.0, 1.0)))
            self.names[name] = key
        video = self.videos[self.names[name]]
        if video.by_frame != by_frame:
            raise ValueError(f"images: '{name}' has frames and times; one of both is wanted")
        width, height = (_number(_need(image, side), side) for side in ("width", "height"))
        if width < 1 or height < 1:
            raise ValueError(f"images: a picture of {width:g}x{height:g}")
        return _Image(video, moment, (width, height))

    @staticmethod
    def _says_actions(annotation: Any) -> bool:
        if not isinstance(annotation, dict):
            return False
        attributes = annotation.get("attributes")
        named = attributes if isinstance(attributes, dict) else {}
        return "actions" in annotation or any(name not in _NO_ACTIONS for name in named)

    def _actions(
        self, annotation: Mapping[str, Any], categories: Mapping[str, str], acting: bool
    ) -> tuple[str, ...]:
        if not acting:
            return (_category(annotation.get("category_id"), categories),)
        found: list[str] = []
        for action in _list_of(annotation.get("actions")):
            found.append(action if isinstance(action, str) else _category(action, categories))
        attributes = annotation.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise ValueError("attributes: an object is wanted")
        for name, value in attributes.items():
            if name in _NO_ACTIONS:
                continue
            if value is True:
                found.append(name)
            elif isinstance(value, str) and value.lower() not in _NOTHING:
                found.append(value)
                self.attribute_values.setdefault(name, {})[value] = None
        return tuple(dict.fromkeys(found))


def _need(item: Any, *names: str) -> Any:
    if not isinstance(item, dict):
        raise ValueError(f"an object is wanted, found {str(item)[:40]}")
    for name in names:
        if name in item:
            return item[name]
    raise ValueError(f"'{' or '.join(names)}' is wanted and not there")


def _key(identity: Any) -> str:
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise ValueError(f"an id is a number or a text, found {str(identity)[:40]}")
    return str(identity)


def _number(value: Any, name: str) -> float:
    number = float(value) if isinstance(value, int | float) and abs(value) < 1e15 else math.nan
    if isinstance(value, bool) or not math.isfinite(number):
        raise ValueError(f"{name} must be a finite number, found {str(value)[:40]}")
    return number


def _box(
    annotation: Mapping[str, Any], scale: tuple[float, float]
) -> tuple[float, float, float, float]:
    values = annotation.get("bbox")
    if not isinstance(values, list) or len(values) != 4:
        raise ValueError("bbox must be [x, y, width, height]")
    x, y, width, height = (_number(value, "bbox") for value in values)
    if width <= 0 or height <= 0:
        raise ValueError(f"bbox has width {width:g} and height {height:g}")
    return x / scale[0], y / scale[1], (x + width) / scale[0], (y + height) / scale[1]


def _person(annotation: Mapping[str, Any]) -> str | None:
    for name in ("track_id", "instance_id", "person_id"):
        if annotation.get(name) is not None:
            return _key(annotation[name])
    attributes = annotation.get("attributes")
    track = attributes.get("track_id") if isinstance(attributes, dict) else None
    return None if track is None else _key(track)


def _category(identity: Any, categories: Mapping[str, str]) -> str:
    name = None if identity is None else categories.get(_key(identity))
    if name is None:
        raise ValueError(f"category {identity!r} is not in categories")
    return name


def _list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"actions: a list is wanted, found {str(value)[:40]}")
    return value
