"""COCO-style JSON of videos: `images` with a video and a frame (or time), `annotations` with boxes.

Form: https://cocodataset.org/#format-data. Two spellings of an image: CocoVID's `video_id` (of the
list `videos`) and `frame_id`, or plain `video` and `frame`; `time` (seconds) stands in for the
frame. Which of several numbers is the frame's: `coco_frames`. An image that names no video is a
frame by its `file_name` alone, as in `walk/000123.jpg` (`frame_names`). Actions are an annotation's
`actions` (names or category ids), else its category where the categories are actions, else its
`attributes` (`{"wave": true, "pose": "sit"}`). Persons: `track_id`, `instance_id` or `person_id`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, first_few, printable
from detection.formats.json_text import read_json_object
from detection.importers.class_names import split_names
from detection.importers.coco_frames import FIELDS, frame_numbers
from detection.importers.coco_shapes import (
    FieldError,
    box_around,
    box_of,
    number_of,
    shape_without_box,
)
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.source_videos import find_video

# What annotation tools note beside the actions.
_NO_ACTIONS = (
    "occluded", "rotation", "track_id", "keyframe", "outside", "iscrowd", "truncated", "difficult",
    "score", "confidence", "crowd", "ignore", "is_crowd", "generated", "reviewed", "id", "source",
)  # fmt: skip
_NOTHING = ("", "none", "__undefined__")
_PERSONS = ("person", "people", "persons", "human", "pedestrian", "man", "woman", "child", "player")
_FRACTION_LIMIT = 1.05  # as in tables: rounding may push an edge this far over 1


@dataclass(frozen=True)
class CocoRules:
    """What the user chose.

    first_frame: number of a video's first frame.  frame_field: the field that numbers the frames.
    attributes: those that are actions.  categories: those that are taken.  shapes: what becomes of
    persons without a box: their keyframes are left out, or their hulls taken.  unit: of the boxes.
    separators: marks between several actions in one name ("": names are taken whole).  naming: of
    images that only name a file.
    """

    first_frame: int = 0
    frame_field: str | None = None
    attributes: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    shapes: Literal["unjudged", "hull"] = "unjudged"
    unit: Literal["auto", "pixels", "fractions"] = "auto"
    separators: str = ""
    naming: FrameNaming = FrameNaming()


@dataclass
class _Image:
    video: AnnotatedVideo
    when: float
    boxes: list[AnnotatedBox] = field(default_factory=list)
    unjudged: bool = False


def read_coco_videos(
    path: str | Path, videos: str | Path, *, rules: CocoRules | None = None
) -> AnnotatedData:
    """Read a file; boxes are `[x, y, width, height]` in pixels of the size that the image states.

    videos: folder of the videos that it names.
    Raises `UserError` naming the file and the path of the item in it (`annotations[17].bbox`).
    """
    values = read_json_object(path)
    for key in ("images", "annotations", "categories"):
        if not isinstance(values.get(key), list):
            required = "lists images, annotations and categories are required"
            raise UserError(f"{path}: {required}; no '{key}'")
    return _Reader(Path(path), values, Path(videos), rules or CocoRules()).read()


class _Reader:
    def __init__(
        self, path: Path, values: Mapping[str, Any], folder: Path, rules: CocoRules
    ) -> None:
        self.path, self.values, self.folder = path, values, folder
        self.rules = rules
        self.frames = NamedFrames(folder, str(path), rules.naming)
        self.problems = Problems()
        self.videos: dict[str, AnnotatedVideo] = {}
        self.names: dict[str, str] = {}
        self.attribute_values: dict[str, dict[str, None]] = {}
        self.acting: frozenset[str] | None = None  # attributes that are actions; None: categories
        self.taken: frozenset[str] = frozenset()  # names of the categories that are taken
        self.counts: Counter[str] = Counter()
        self.notes: list[str] = []

    def read(self) -> AnnotatedData:
        video_names = self._each("videos", lambda v: str(_need(v, "name", "file_name")))
        categories = self._each("categories", lambda c: check_class_name(str(_need(c, "name"))))
        self.problems.raise_if_any()
        numbers = self._numbers()
        images = self._each("images", lambda image: self._image(image, video_names, numbers))
        self.problems.raise_if_any()
        self._choose(list(dict.fromkeys(categories.values())))
        for position, annotation in enumerate(self.values["annotations"]):
            place = f"annotations[{position}]"
            try:
                self._annotation(annotation, images, categories, place)
            except ValueError as error:
                self._bad(place, error)
        self.problems.raise_if_any()
        self._hand_over(images)
        groups = {
            name: list(values) for name, values in self.attribute_values.items() if len(values) > 1
        }
        names = [name for name in dict.fromkeys(categories.values()) if name in self.taken]
        classes = [] if self.acting is not None else self._split(names)
        return AnnotatedData(list(self.videos.values()), classes, groups, self.notes)

    def _each(self, key: str, make: Any) -> dict[str, Any]:
        """Return what `make` makes of each item of a list, by the item's id."""
        made: dict[str, Any] = {}
        for position, item in enumerate(self.values.get(key) or []):
            try:
                identity = _key(_need(item, "id"), "id")
                if identity in made:
                    raise FieldError("id", f"id {item['id']!r} is there twice")
                made[identity] = make(item)
            except ValueError as error:
                self._bad(f"{key}[{position}]", error)
        return made

    def _bad(self, place: str, error: ValueError) -> None:
        """Note what is wrong with an item, and in which of its fields where the error says so."""
        field = f".{error.field}" if isinstance(error, FieldError) else ""
        self.problems.add(self.path, place + field, str(error))

    def _numbers(self) -> dict[int, Any]:
        """Return each image's frame number by the identity of the image; notes which it is."""
        dicts = [image for image in self.values["images"] if isinstance(image, dict)]
        images = [i for i in dicts if "time" not in i and not _names_only_a_file(i)]
        videos = [str(i.get("video_id", i.get("video", i.get("video_name")))) for i in images]
        try:
            name, numbers, notes = frame_numbers(images, videos, self.rules.frame_field)
        except ValueError as error:
            raise UserError(f"{self.path}: {error}") from error
        self.notes += notes
        whole = {id(image): number for image, number in zip(images, numbers, strict=False)}
        return {
            id(image): image[name] if name in FIELDS and name in image else whole.get(id(image))
            for image in images
        }

    def _image(
        self, image: Mapping[str, Any], video_names: Mapping[str, str], numbers: Mapping[int, Any]
    ) -> _Image:
        if _names_only_a_file(image):
            self.counts["named"] += 1
            video, when = self.frames.find(image["file_name"])
            return self._sized(image, self.videos.setdefault(video.name, video), when)
        if "video_id" in image:
            name = video_names.get(_key(image["video_id"], "video_id"))
            if name is None:
                raise FieldError("video_id", f"video_id {image['video_id']!r} is no video's id")
        else:
            name = str(_need(image, "video", "video_name"))
        by_frame = "time" not in image
        number = numbers.get(id(image)) if by_frame else image["time"]
        if number is None:
            number = _need(image, *FIELDS, "time")
        when = number_of(number, "frame" if by_frame else "time")
        if by_frame:
            first = self.rules.first_frame
            if when != int(when) or when < first:
                raise ValueError(f"frame must be whole and from {first} on, found {number}")
            when -= first
        if name not in self.names:
            file = find_video(self.folder, name)
            key = file.relative_to(self.folder).as_posix()
            self.videos.setdefault(key, AnnotatedVideo(key, file, str(self.path), by_frame, None))
            self.names[name] = key
        video = self.videos[self.names[name]]
        if video.by_frame != by_frame:
            raise ValueError(f"'{name}' has frames and times; one of both is required")
        return self._sized(image, video, when)

    def _sized(self, image: Mapping[str, Any], video: AnnotatedVideo, when: float) -> _Image:
        """Return an image of a video, all of whose images have one size."""
        width, height = (number_of(_need(image, side), side) for side in ("width", "height"))
        if width < 1 or height < 1:
            raise ValueError(f"width and height from 1 on are required, found {width:g}x{height:g}")
        video.set_size((width, height))
        return _Image(video, when)

    def _choose(self, categories: Sequence[str]) -> None:
        """Decide what is an action and which categories are taken; note it where it is a choice."""
        annotations = [a for a in self.values["annotations"] if isinstance(a, dict)]
        named: dict[str, None] = {}
        for annotation in annotations:
            attributes = annotation.get("attributes")
            for name, value in (attributes if isinstance(attributes, dict) else {}).items():
                if name not in _NO_ACTIONS and isinstance(value, bool | str):
                    named[name] = None
        for name in self.rules.attributes:
            if all(name not in (a.get("attributes") or {}) for a in annotations):
                raise UserError(f"{self.path}: --attributes {name}: no annotation has it")
        persons = [name for name in categories if name.strip().lower() in _PERSONS]
        explicit = any("actions" in annotation for annotation in annotations)
        bare = any(annotation.get("category_id") is None for annotation in annotations)
        attributes_act = bool(named) and (bool(persons) or len(categories) < 2 or bare)
        if self.rules.attributes:
            self.acting = frozenset(self.rules.attributes)
        elif explicit or attributes_act:
            self.acting = frozenset(named)
        elif named:
            self.notes.append(
                f"actions are the categories; attributes that were not taken: "
                f"{_some(list(named))} (--attributes takes them)"
            )
        for name in self.rules.categories:
            if name not in categories:
                known = _some(categories)
                raise UserError(f"{self.path}: --categories {name}: the file has {known}")
        chosen = self.rules.categories or (
            persons if self.acting is not None and persons and not explicit else categories
        )
        self.taken = frozenset(chosen)
        if self.acting is not None and self.acting:
            self.notes.append(f"actions are the attributes {_some(sorted(self.acting))}")

    def _annotation(
        self,
        annotation: Any,
        images: Mapping[str, _Image],
        categories: Mapping[str, str],
        place: str,
    ) -> None:
        image = images.get(_key(_need(annotation, "image_id"), "image_id"))
        if image is None:
            raise FieldError("image_id", f"image_id {annotation['image_id']!r} is no image's id")
        category = annotation.get("category_id")
        if category is not None and (
            self.acting is None or _key(category, "category_id") in categories
        ):
            name = _category(category, categories)
            if name not in self.taken:
                self.counts[f"other {name}"] += 1
                return
        if annotation.get("iscrowd") in (1, True):
            self.counts["crowd"] += 1
            image.unjudged = True
            return
        shape = shape_without_box(annotation)
        if shape is not None and self.rules.shapes == "unjudged":
            self.counts[f"shape {shape}"] += 1
            image.unjudged = True
            return
        if shape is not None:
            box, turned = box_around(annotation, shape), False
            self.counts[f"hull {shape}"] += 1
        else:
            box, turned = box_of(annotation)
        self.counts["turned"] += turned
        actions = tuple(self._split(self._actions(annotation, categories)))
        image.boxes.append(AnnotatedBox(image.when, box, actions, _person(annotation), place))

    def _actions(self, annotation: Mapping[str, Any], categories: Mapping[str, str]) -> list[str]:
        if self.acting is None:
            return [_category(annotation.get("category_id"), categories)]
        found: list[str] = []
        for action in _list_of(annotation.get("actions")):
            name = action if isinstance(action, str) else _category(action, categories, "actions")
            found.append(check_class_name(name))
        attributes = annotation.get("attributes") or {}
        if not isinstance(attributes, dict):
            raise FieldError("attributes", f"an object is required, found {str(attributes)[:40]}")
        for name, value in attributes.items():
            if name not in self.acting:
                continue
            if value is True:
                found.append(check_class_name(name))
            elif isinstance(value, str) and value.lower() not in _NOTHING:
                found.append(check_class_name(value))
                self.attribute_values.setdefault(name, {})[value] = None
        return found

    def _split(self, names: Sequence[str]) -> list[str]:
        """Return the names, each once; those that are several by the user's marks apart."""
        apart = [part for name in names for part in split_names(name, self.rules.separators)]
        return list(dict.fromkeys(apart if self.rules.separators else names))

    def _hand_over(self, images: Mapping[str, _Image]) -> None:
        """Give each video its boxes and its keyframes without persons; note what was left out."""
        boxes = [box.box for image in images.values() for box in image.boxes]
        fractions = self.rules.unit == "fractions" or (
            self.rules.unit == "auto"
            and bool(boxes)
            and all(edge <= _FRACTION_LIMIT for box in boxes for edge in box)
        )
        if fractions:
            self.notes.append(
                "boxes are taken as fractions of the frame, no number of them exceeds 1 "
                "(--boxes says otherwise)"
            )
        # Two images of one keyframe, one of them unjudged: nothing is known of the keyframe.
        unjudged = {(i.video.name, i.when) for i in images.values() if i.unjudged}
        peopled = {(i.video.name, i.when) for i in images.values() if i.boxes}
        lost = 0
        for image in images.values():
            if fractions:
                image.video.size = (1.0, 1.0)
            key = image.video.name, image.when
            if key in unjudged:
                lost += len(image.boxes)
            elif image.boxes:
                image.video.boxes += image.boxes
            elif key not in peopled:
                image.video.empty.append(image.when)
        self._note_counts(len(unjudged), lost)

    def _note_counts(self, unjudged: int, lost: int) -> None:
        kinds = {"crowd": "crowds (iscrowd)"}
        reasons = [
            f"{kinds.get(kind, kind.removeprefix('shape '))} ({count:,} times)"
            for kind, count in self.counts.items()
            if kind == "crowd" or kind.startswith("shape ")
        ]
        if unjudged:
            self.notes.append(
                f"warning: {unjudged:,} keyframes left out, not judged: a person is drawn there as "
                f"{', '.join(reasons)}, without a box of one person; {lost:,} boxes of others go "
                "with them (--shapes hull takes the upright boxes around shapes)"
            )
        hulls = [f"{k[5:]} ({n:,} times)" for k, n in self.counts.items() if k.startswith("hull ")]
        if hulls:
            self.notes.append(f"{', '.join(hulls)} taken as the upright boxes around them")
        if self.counts["named"]:
            rules = self.rules.naming
            of = "frame" if rules.fps is None else f"image, {rules.fps:g} a second"
            self.notes.append(
                f"{self.counts['named']:,} images are frames by the name of their file, the first "
                f"{of} is number {rules.first_frame} (--fps, --first-frame say otherwise)"
            )
        if self.counts["turned"]:
            self.notes.append(
                f"{self.counts['turned']:,} rotated boxes taken as the upright boxes around them"
            )
        others = [f"{k[6:]} ({n:,})" for k, n in self.counts.items() if k.startswith("other ")]
        if others:
            self.notes.append(
                f"taken: the categories {_some(sorted(self.taken))}; boxes of others left out: "
                f"{_some(others)} (--categories says otherwise)"
            )


def _some(names: Sequence[str]) -> str:
    return first_few([*map(printable, names)], separator=", ")


def _names_only_a_file(image: Mapping[str, Any]) -> bool:
    """Tell whether nothing but the name of its file says which frame an image is."""
    named = any(name in image for name in ("video_id", "video", "video_name"))
    return not named and isinstance(image.get("file_name"), str)


def _need(item: Any, *names: str) -> Any:
    if not isinstance(item, dict):
        raise ValueError(f"an object is required, found {str(item)[:40]}")
    for name in names:
        if name in item:
            return item[name]
    raise ValueError(f"'{' or '.join(names)}' is required and not there")


def _key(identity: Any, field: str) -> str:
    if isinstance(identity, bool) or not isinstance(identity, int | str):
        raise FieldError(field, f"a whole number or a text is required, found {str(identity)[:40]}")
    return str(identity)


def _person(annotation: Mapping[str, Any]) -> str | None:
    for name in ("track_id", "instance_id", "person_id"):
        if annotation.get(name) is not None:
            return _key(annotation[name], name)
    attributes = annotation.get("attributes")
    track = attributes.get("track_id") if isinstance(attributes, dict) else None
    return None if track is None else _key(track, "attributes.track_id")


def _category(identity: Any, categories: Mapping[str, str], field: str = "category_id") -> str:
    name = None if identity is None else categories.get(_key(identity, field))
    if name is None:
        raise FieldError(field, f"category {identity!r} is not in categories")
    return name


def _list_of(value: Any) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise FieldError("actions", f"a list is required, found {str(value)[:40]}")
    return value
