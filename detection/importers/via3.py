"""VIA 3 projects (video and image annotator): regions with times, and temporal segments.

https://gitlab.com/vgg/via/-/blob/master/via-3.x.y/CodeDoc.md: `metadata` has a view `vid` (one
file), times `z` in seconds, a region `xy` in pixels of the frame as shown, and values `av` of the
project's attributes. A region has one time; what has two and no region is a temporal segment. Of an
image file (a frame of a video, by its name) a region has no time.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from detection.errors import Problems, UserError, printable
from detection.formats.json_text import read_json_object
from detection.importers.coco_shapes import FieldError, number_of
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.regions import Regions, SegmentUse, TemporalSegment
from detection.importers.source_videos import find_video
from detection.importers.via_attributes import RegionWords, ViaAttribute, ViaRules
from detection.importers.via_shapes import box_of_xy

ANCHORS = ("FILE1_Z1_XY1", "FILE1_Z0_XY1")  # of a region in a video's frame, of one in an image
SEGMENT = "FILE1_Z2_XY0"
KINDS: Mapping[int, Literal["text", "one", "several"]] = {
    1: "text", 2: "several", 3: "one", 4: "one", 5: "one",
}  # fmt: skip
IMAGE, VIDEO = 2, 4
_PARTS = ("attribute", "file", "view", "metadata")


def read_via3_videos(
    path: str | Path,
    videos: str | Path,
    *,
    rules: ViaRules | None = None,
    naming: FrameNaming | None = None,
    size: tuple[float, float] | None = None,
    segments: SegmentUse = "auto",
) -> AnnotatedData:
    """Read a project; the videos that it names lie below `videos`.

    size: (width, height) of image files, None: the video's.  segments: see `Regions`. Raises
    `UserError` naming the file and the item in it (`metadata.1_aB3.xy`).
    """
    values = read_json_object(path)
    _check_version(path, values)
    reader = _Reader(str(path), values, Path(videos), rules or ViaRules())
    reader.frames = NamedFrames(videos, str(path), naming or FrameNaming(), size)
    return reader.read(segments)


def _check_version(path: str | Path, values: Mapping[str, Any]) -> None:
    if "_via_img_metadata" in values:
        version = printable(str(values.get("_via_data_format_version", "2"))[:20])
        raise UserError(f"{path}: a project of VIA {version}, VIA 3 is required (via2 reads it)")
    for part in _PARTS:
        if not isinstance(values.get(part), dict):
            found = "no" if part not in values else "not an object,"
            raise UserError(f"{path}: {found} '{part}': a project of VIA 3 is required")
    project = values.get("project")
    stated = project.get("data_format_version") if isinstance(project, dict) else None
    if stated is not None and not (isinstance(stated, str) and stated.startswith("3.")):
        shown = printable(str(stated)[:20])
        raise UserError(
            f"{path}: project.data_format_version: {shown} found, 3 is required (3.x.y)"
        )


@dataclass
class _File:
    """A file of the project; video: None for an image."""

    name: str
    video: AnnotatedVideo | None


class _Reader:
    frames: NamedFrames

    def __init__(self, path: str, values: Mapping[str, Any], folder: Path, rules: ViaRules) -> None:
        self.path, self.values, self.folder, self.rules = path, values, folder, rules
        self.problems = Problems()
        self.counts: Counter[str] = Counter()
        self.videos: dict[str, AnnotatedVideo] = {}

    def read(self, segments: SegmentUse) -> AnnotatedData:
        known, acting_of_segments = self._attributes()
        self.problems.raise_if_any()
        words = RegionWords.of(self.path, known, self.rules)
        files = self._each("file", self._file)
        self.problems.raise_if_any()
        views = self._each("view", lambda view: self._file_of_view(view, files))
        self.problems.raise_if_any()
        regions = Regions(self.path, self.rules.shapes)
        for key, item in self.values["metadata"].items():
            place = f"metadata.{printable(str(key)[:40])}"
            try:
                self._metadata(item, place, views, words, acting_of_segments, regions)
            except ValueError as error:
                self._bad(place, error)
        self.problems.raise_if_any()
        for file in files.values():
            if file.video is None:
                video, when = self.frames.find(file.name)
                regions.see(video, when)
        both = set(self.videos) & set(self.frames.videos)
        if both:
            raise UserError(f"{self.path}: '{sorted(both)[0]}' is there as a video and as images")
        found = [*self.videos.values(), *self.frames.videos.values()]
        notes = regions.hand_over(found, segments)
        if self.counts["deleted"]:
            notes.append(f"{self.counts['deleted']:,} deleted regions left out")
        classes = list(dict.fromkeys([*words.classes, *regions.segment_classes]))
        return AnnotatedData(found, classes, words.exclusive, [*words.notes, *notes])

    def _each(self, part: str, make: Any) -> dict[str, Any]:
        made = {}
        for key, item in self.values[part].items():
            place = f"{part}.{printable(str(key)[:40])}"
            try:
                made[key] = make(_object(item))
            except ValueError as error:
                self._bad(place, error)
        return made

    def _bad(self, place: str, error: ValueError) -> None:
        field = f".{error.field}" if isinstance(error, FieldError) else ""
        self.problems.add(self.path, place + field, printable(str(error)))

    def _attributes(self) -> tuple[dict[str, ViaAttribute], dict[str, ViaAttribute]]:
        """Return the attributes of regions and those of temporal segments, by id."""
        regions, segments = {}, {}
        for key, item in self.values["attribute"].items():
            place = f"attribute.{printable(str(key)[:40])}"
            try:
                attribute, anchor = _attribute(_object(item))
            except ValueError as error:
                self._bad(place, error)
                continue
            if anchor in ANCHORS:
                regions[key] = attribute
            elif anchor == SEGMENT:
                segments[key] = attribute
        return regions, segments

    def _file(self, item: Mapping[str, Any]) -> _File:
        kind = item.get("type")
        names = [item.get("fname"), item.get("src")]
        texts = [_path_of(name) for name in names if isinstance(name, str) and name]
        if not texts:
            raise FieldError("fname", "a name is required and not there")
        if kind == IMAGE:
            self.frames.find(texts[0])  # says what is wrong with it
            return _File(texts[0], None)
        if kind != VIDEO:
            raise FieldError("type", f"{str(kind)[:20]}: an image (2) or a video (4) is required")
        error: ValueError | None = None
        for text in texts:
            try:
                path = find_video(self.folder, text)
            except ValueError as refused:
                error = error or refused
                continue
            name = path.relative_to(self.folder).as_posix()
            made = AnnotatedVideo(name, path, self.path, False, None)
            return _File(text, self.videos.setdefault(name, made))
        assert error is not None
        raise error

    def _file_of_view(self, view: Mapping[str, Any], files: Mapping[str, _File]) -> _File | None:
        """Return the file of a view, None for a view of several."""
        listed = view.get("fid_list")
        if not isinstance(listed, list) or not listed:
            raise FieldError("fid_list", "a list of a file's id is required")
        if len(listed) > 1:
            return None
        file = files.get(_id(listed[0], "fid_list"))
        if file is None:
            raise FieldError("fid_list", f"{str(listed[0])[:40]} is no file's id")
        return file

    def _metadata(
        self,
        item: Any,
        place: str,
        views: Mapping[str, _File | None],
        words: RegionWords,
        of_segments: Mapping[str, ViaAttribute],
        regions: Regions,
    ) -> None:
        item = _object(item)
        view = _id(item.get("vid"), "vid")
        if view not in views:
            raise FieldError("vid", f"{view[:40]} is no view's id")
        file = views[view]
        if item.get("flg") in (1, 3):
            self.counts["deleted"] += 1
            return
        z, xy, av = item.get("z", []), item.get("xy", []), item.get("av", {})
        if not isinstance(z, list) or not isinstance(xy, list) or not isinstance(av, dict):
            raise ValueError("lists z and xy and an object av are required")
        times_s = [number_of(time_s, "z") for time_s in z]
        if file is None:
            raise FieldError("vid", "a view of several files; one is required")
        if not xy:
            if len(times_s) == 2 and file.video is not None:
                plain = RegionWords(self.rules, dict(of_segments), None, set(), [], {}, [])
                actions = plain.actions(av) if of_segments else ()
                regions.segments.append(
                    TemporalSegment(file.video, times_s[0], times_s[1], actions)
                )
            elif len(times_s) == 1 or len(times_s) > 2:
                raise FieldError("z", f"{len(times_s)} times without a region: two are required")
            return
        if file.video is None:
            video, when = self.frames.find(file.name)
        elif len(times_s) == 1:
            video, when = file.video, times_s[0]
        else:
            raise FieldError("z", f"{len(times_s)} times of a region: one is required")
        name, box = box_of_xy(xy)
        if not regions.takes(video, when, name, box):
            return
        assert box is not None
        made = AnnotatedBox(when, box, words.actions(av), words.person_of(av), place)
        regions.add(video, made)


def _attribute(item: Mapping[str, Any]) -> tuple[ViaAttribute, str]:
    name, anchor, kind = item.get("aname"), item.get("anchor_id"), item.get("type")
    if not isinstance(name, str) or not name.strip():
        raise FieldError("aname", "a name is required")
    if not isinstance(kind, int) or kind not in KINDS:
        raise FieldError("type", f"{str(kind)[:20]}: one of 1 to 5 is required")
    options = item.get("options") or {}
    if not isinstance(options, dict) or not all(isinstance(v, str) for v in options.values()):
        raise FieldError("options", "an object of texts is required")
    return ViaAttribute(name, KINDS[kind], dict(options)), str(anchor)


def _object(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"an object is required, found {str(item)[:40]}")
    return item


def _id(value: Any, field: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise FieldError(field, f"a number or a text is required, found {str(value)[:40]}")
    return str(value)


def _path_of(name: str) -> str:
    """Return the path in an address, without what leads to the file; a plain name as it is."""
    if "://" in name:
        return unquote(urlsplit(name).path).rpartition("/")[2] or name
    return name.rpartition("/")[2] if name.startswith("/") else name
