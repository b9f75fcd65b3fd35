"""VIA 2 annotations of frames: images named by video and frame, rectangles in their pixels.

https://gitlab.com/vgg/via/-/blob/master/via-2.x.y/CodeDoc.md: a project, its annotations alone, or
the CSV form `filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,
region_attributes`. An image without regions is a keyframe without persons.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from detection.errors import Problems, UserError, at_row, printable
from detection.files import read_text
from detection.formats.csv_rows import csv_rows
from detection.formats.json_text import read_json_object
from detection.importers.custom import AnnotatedBox, AnnotatedData
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.regions import Regions
from detection.importers.via_attributes import RegionWords, ViaAttribute, ViaRules
from detection.importers.via_shapes import box_of_shape

COLUMNS = (
    "filename", "file_size", "file_attributes", "region_count", "region_id",
    "region_shape_attributes", "region_attributes",
)  # fmt: skip
_KINDS: Mapping[str, Literal["text", "one", "several"]] = {
    "text": "text", "checkbox": "several", "radio": "one", "dropdown": "one", "image": "one",
}  # fmt: skip

# Where a region stands, its image, and its shape and attributes; None: an image without regions.
_Region = tuple[str | int, str, tuple[dict[str, Any], dict[str, Any]] | None]


def read_via2_videos(
    path: str | Path,
    videos: str | Path,
    *,
    rules: ViaRules | None = None,
    naming: FrameNaming | None = None,
    size: tuple[float, float] | None = None,
) -> AnnotatedData:
    """Read a JSON or CSV file; the videos that its images name lie below `videos`.

    size: (width, height) of the images, None: the video's.  Raises `UserError` naming the file and
    the line or the item in it (`walk_000012.jpg.regions[3]`).
    """
    rules, problems = rules or ViaRules(), Problems()
    if Path(path).suffix.lower() == ".csv":
        known: dict[str, ViaAttribute] = {}
        listed = list(_csv_regions(Path(path), problems))
    else:
        values = read_json_object(path)
        _check_version(path, values)
        known = _attributes(path, values)
        listed = list(_json_regions(path, values, problems))
    problems.raise_if_any()
    _complete(path, known, listed)
    words = RegionWords.of(str(path), known, rules)
    frames = NamedFrames(videos, str(path), naming or FrameNaming(), size)
    regions = Regions(str(path), rules.shapes)
    for place, image, region in listed:
        try:
            _take(regions, frames, words, place, image, region)
        except ValueError as error:
            if isinstance(error, UserError):
                raise
            problems.add(path, place, printable(str(error)))
    problems.raise_if_any()
    found = list(frames.videos.values())
    notes = regions.hand_over(found, "leave-out")
    return AnnotatedData(found, words.classes, words.exclusive, [*words.notes, *notes])


def _take(
    regions: Regions,
    frames: NamedFrames,
    words: RegionWords,
    place: str | int,
    image: str,
    region: tuple[dict[str, Any], dict[str, Any]] | None,
) -> None:
    video, when = frames.find(image)
    regions.see(video, when)
    if region is None:
        return
    name, box = box_of_shape(region[0])
    if regions.takes(video, when, name, box):
        assert box is not None
        actions, person = words.actions(region[1]), words.person_of(region[1])
        regions.add(video, AnnotatedBox(when, box, actions, person, place))


def _check_version(path: str | Path, values: Mapping[str, Any]) -> None:
    if isinstance(values.get("project"), dict) and isinstance(values.get("metadata"), dict):
        version = values["project"].get("data_format_version", "3")
        shown = printable(str(version)[:20])
        raise UserError(f"{path}: a project of VIA {shown}, VIA 2 is required (via3 reads it)")
    stated = values.get("_via_data_format_version")
    if stated is not None and not (isinstance(stated, str) and stated.startswith("2.")):
        shown = printable(str(stated)[:20])
        raise UserError(f"{path}: _via_data_format_version: {shown} found, 2 is required (2.x.y)")


def _attributes(path: str | Path, values: Mapping[str, Any]) -> dict[str, ViaAttribute]:
    """Return the attributes that a project defines; none in annotations alone."""
    defined = values.get("_via_attributes", {})
    regions = defined.get("region", {}) if isinstance(defined, dict) else None
    if not isinstance(regions, dict):
        raise UserError(f"{path}: _via_attributes: an object with an object 'region' is required")
    found = {}
    for name, item in regions.items():
        place = f"_via_attributes.region.{printable(name[:40])}"
        kind = item.get("type") if isinstance(item, dict) else None
        if not isinstance(kind, str) or kind not in _KINDS:
            raise at_row(path, place, f"a type of {', '.join(_KINDS)} is required")
        options = item.get("options") or {}
        if not isinstance(options, dict):
            raise at_row(path, f"{place}.options", "an object is required")
        found[name] = ViaAttribute(name, _KINDS[kind], {option: option for option in options})
    return found


def _json_regions(
    path: str | Path, values: Mapping[str, Any], problems: Problems
) -> Iterator[_Region]:
    images = values.get("_via_img_metadata", values)
    if not isinstance(images, dict):
        raise UserError(f"{path}: _via_img_metadata: an object is required")
    for key, image in images.items():
        place = printable(key[:60])
        name = image.get("filename") if isinstance(image, dict) else None
        if not isinstance(name, str) or "regions" not in image:
            problems.add(path, place, "an image with filename and regions is required")
            continue
        listed = image["regions"]
        if isinstance(listed, dict):  # VIA 1
            listed = list(listed.values())
        if not isinstance(listed, list):
            problems.add(path, f"{place}.regions", "a list is required")
            continue
        if not listed:
            yield place, name, None
        for number, region in enumerate(listed):
            at = f"{place}.regions[{number}]"
            parts = region if isinstance(region, dict) else {}
            shape, said = parts.get("shape_attributes"), parts.get("region_attributes")
            if isinstance(shape, dict) and isinstance(said, dict):
                yield at, name, (shape, said)
            else:
                problems.add(path, at, "objects shape_attributes and region_attributes required")


def _csv_regions(path: Path, problems: Problems) -> Iterator[_Region]:
    text = read_text(path, what="CSV file of VIA")
    columns: dict[str, int] = {}
    for line, cells in csv_rows(path, io.StringIO(text, newline="")):
        if not any(cell.strip() for cell in cells):
            continue
        if not columns:
            names = [cell.strip().lstrip("#").strip() for cell in cells]
            missing = [name for name in ("filename", *COLUMNS[5:]) if name not in names]
            if missing:
                lacks = f"the header line lacks {' and '.join(missing)}"
                raise at_row(path, line, f"{lacks}; required: {','.join(COLUMNS)}")
            columns = {name: position for position, name in enumerate(names)}
            width = len(cells)
            continue
        if len(cells) != width:
            problems.add(path, line, f"{len(cells)} cells, the header has {width}")
            continue
        try:
            shape, said = (_cell(cells[columns[name]], name) for name in COLUMNS[5:])
        except ValueError as error:
            problems.add(path, line, printable(str(error)))
            continue
        yield line, cells[columns["filename"]], (shape, said) if shape else None
    if not columns:
        raise UserError(f"{path}: empty; a header line is required: {','.join(COLUMNS)}")


def _cell(text: str, name: str) -> dict[str, Any]:
    """Return the JSON object in a cell, an empty one for an empty cell; raises ValueError."""
    try:
        value = json.loads(text or "{}", parse_constant=_not_finite)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{name}: not JSON, found {text[:40]!r}") from error
    if not isinstance(value, dict):
        raise ValueError(f"{name}: an object is required, found {text[:40]!r}")
    return value


def _not_finite(text: str) -> float:
    raise ValueError(f"a finite number is required, found {text}")


def _complete(path: str | Path, known: dict[str, ViaAttribute], listed: list[_Region]) -> None:
    """Add the attributes and options of regions: only projects define them."""
    defined = set(known)
    for place, _, region in listed:
        for name, value in region[1].items() if region else ():
            several = isinstance(value, dict)
            attribute = known.setdefault(name, ViaAttribute(name, "several" if several else "one"))
            if name in defined and attribute.options:
                continue
            values = value if several else [value] if isinstance(value, str | int) else []
            for option in values:
                if option != "" and not isinstance(option, bool):
                    attribute.options[str(option)] = str(option)
            if several != (attribute.kind == "several") and attribute.kind != "text" and value:
                found = "ticks" if several else "one value"
                message = f"attribute {name!r:.60}: {found}, others of it are otherwise"
                raise at_row(path, place, message)
