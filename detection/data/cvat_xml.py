"""Reads "CVAT for video 1.1" files: tracks of boxes with attributes, each with its line.

https://docs.cvat.ai/docs/other/xml_format. A document type or an entity of one's own is refused
unread, so nothing in a file can be expanded or fetched.
"""

from __future__ import annotations

import lzma
import math
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

from detection.errors import Problems, UserError, at_row

_MAX_DEPTH = 32
_MAX_TEXT = 1 << 20
_MAX_BYTES = 4 << 30  # of XML in an archive
_BAD_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError,
)  # fmt: skip
_OTHER_SHAPES = ("polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton")


@dataclass(frozen=True)
class CvatBox:
    """One box of a track. frame: from 0.  box_px: x1, y1, x2, y2.  outside: the person is gone."""

    frame: int
    box_px: tuple[float, float, float, float]
    outside: bool
    occluded: bool
    attributes: Mapping[str, str]
    line: int


@dataclass
class CvatTrack:
    """One person through time; boxes ascend by frame. task_id: "" where the file has one task."""

    track_id: str
    label: str
    task_id: str
    line: int
    boxes: list[CvatBox] = field(default_factory=list)


@dataclass
class CvatAttribute:
    """What may be said about a label. kind: select, radio, checkbox, number, text."""

    name: str = ""
    kind: str = ""
    values: tuple[str, ...] = ()


@dataclass
class CvatTask:
    """One video's task. source: the file's name in CVAT; size_px: (width, height) or None."""

    fields: dict[str, str] = field(default_factory=dict)

    def number(self, name: str) -> int | None:
        """Return a field that is a whole number, None where it is absent or no number."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    @property
    def size_px(self) -> tuple[int, int] | None:
        """Frame size that the boxes refer to."""
        width, height = self.number("width"), self.number("height")
        return (width, height) if width and height else None


@dataclass
class CvatFile:
    """A whole file. labels: attributes by label, in the file's order.  other_shapes: not boxes."""

    path: str
    tasks: list[CvatTask] = field(default_factory=list)
    labels: dict[str, list[CvatAttribute]] = field(default_factory=dict)
    tracks: list[CvatTrack] = field(default_factory=list)
    other_shapes: int = 0


def read_cvat(path: str | Path) -> CvatFile:
    """Read an XML file, or the `annotations.xml` of a ZIP file as CVAT exports it.

    Raises `UserError` naming file and line of what is wrong (ten at most, then a count).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            return _Reader(str(path)).read(file)
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.split("/")[-1] == "annotations.xml"]
            if len(names) != 1:
                raise UserError(
                    f"{path}: {len(names)} files annotations.xml in this archive, one is wanted "
                    "(export as 'CVAT for video 1.1')"
                )
            if archive.getinfo(names[0]).file_size > _MAX_BYTES:
                raise UserError(f"{path}: {names[0]} is larger than {_MAX_BYTES >> 30} GiB")
            with archive.open(names[0]) as member:
                return _Reader(f"{path}/{names[0]}").read(member)
    except (*_BAD_ARCHIVE, OSError) as error:
        raise UserError(f"{path}: an archive that cannot be read ({error})") from error


class _Reader:
    """Walks through a file element by element; keeps only what is wanted."""

    def __init__(self, path: str) -> None:
        self.file = CvatFile(path)
        self.problems = Problems()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.text_length = 0
        self.label = ""
        self.label_attributes: list[CvatAttribute] = []
        self.track: CvatTrack | None = None
        self.box: dict[str, Any] | None = None
        self.attribute_name = ""

    def read(self, file: IO[bytes]) -> CvatFile:
        path = self.file.path
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.CharacterDataHandler = self._characters
        self.parser.StartDoctypeDeclHandler = self._refuse
        self.parser.EntityDeclHandler = self._refuse
        self.parser.ExternalEntityRefHandler = self._refuse
        try:
            self.parser.ParseFile(file)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise at_row(path, error.lineno, f"not XML, or cut short ({reason})") from error
        except (ValueError, LookupError) as error:
            if isinstance(error, UserError):
                raise
            raise at_row(path, self.line, f"not XML that can be read ({error})") from error
        for track in self.file.tracks:
            self._check_order(track)
        self.problems.raise_if_any()
        return self.file

    @property
    def line(self) -> int:
        return int(self.parser.CurrentLineNumber)

    def _refuse(self, *_: object) -> NoReturn:
        raise at_row(
            self.file.path, self.line, "a document type or entity, which no file of CVAT's has"
        )

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.stack and name != "annotations":
            raise at_row(
                self.file.path, self.line, f"<{name[:40]}> is no file of CVAT's (<annotations>)"
            )
        self.stack.append(name)
        if len(self.stack) > _MAX_DEPTH:
            raise at_row(self.file.path, self.line, "elements in elements, too deep for CVAT")
        self.text, self.text_length = [], 0
        if self.stack[1:2] == ["meta"]:
            self._start_meta(name)
        elif name == "image" and len(self.stack) == 2:
            raise at_row(
                self.file.path,
                self.line,
                "this is 'CVAT for images'; export the task as 'CVAT for video 1.1'",
            )
        elif name == "track" and len(self.stack) == 2:
            self.track = CvatTrack(
                attributes.get("id", ""),
                attributes.get("label", ""),
                attributes.get("task_id", ""),
                self.line,
            )
        elif self.track is not None and len(self.stack) == 3:
            self._start_shape(name, attributes)
        elif name == "attribute" and len(self.stack) == 4:
            self.attribute_name = attributes.get("name", "")

    def _start_meta(self, name: str) -> None:
        if name in ("task", "job"):
            self.file.tasks.append(CvatTask())
        elif name == "label":
            self.label, self.label_attributes = "", []
        elif name == "attribute":
            self.label_attributes.append(CvatAttribute())

    def _start_shape(self, name: str, attributes: dict[str, str]) -> None:
        self.box = None
        if name in _OTHER_SHAPES:
            self.file.other_shapes += 1
        elif name == "box":
            self.box = {**attributes, " line": self.line, " attributes": {}}

    def _characters(self, text: str) -> None:
        self.text_length += len(text)
        if self.text_length > _MAX_TEXT:
            raise at_row(self.file.path, self.line, "a text of more than a million characters")
        self.text.append(text)

    def _end(self, name: str) -> None:
        text = "".join(self.text)
        self.stack.pop()
        parent = self.stack[-1] if self.stack else ""
        if self.stack[1:2] == ["meta"]:
            self._end_meta(name, parent, text.strip())
        elif name == "attribute" and self.box is not None:
            self.box[" attributes"][self.attribute_name] = text.strip()
        elif name == "box" and self.box is not None and self.track is not None:
            try:
                self.track.boxes.append(_box_of(self.box))
            except ValueError as error:
                self.problems.add(self.file.path, self.box[" line"], str(error))
            self.box = None
        elif name == "track" and self.track is not None and not self.stack[1:]:
            self.file.tracks.append(self.track)
            self.track = None
        self.text, self.text_length = [], 0

    def _end_meta(self, name: str, parent: str, text: str) -> None:
        tasks = self.file.tasks
        if parent in ("task", "job", "original_size") and tasks:
            tasks[-1].fields.setdefault(name, text)
        elif name == "label":
            if self.label:
                self.file.labels.setdefault(self.label, self.label_attributes)
        elif parent == "label" and name == "name":
            self.label = text
        elif parent == "attribute" and self.label_attributes:
            attribute = self.label_attributes[-1]
            if name == "name":
                attribute.name = text
            elif name == "input_type":
                attribute.kind = text.lower()
            elif name == "values":
                values = (value.strip() for value in text.split("\n"))
                attribute.values = tuple(value for value in values if value)

    def _check_order(self, track: CvatTrack) -> None:
        """Sort a track by frame; one frame twice is a problem. What is said once holds on."""
        track.boxes.sort(key=lambda box: box.frame)
        for before, after in zip(track.boxes, track.boxes[1:], strict=False):
            if before.frame == after.frame:
                self.problems.add(
                    self.file.path,
                    after.line,
                    f"track {track.track_id or '?'} has frame {after.frame} twice "
                    f"(first in line {before.line})",
                )
        said: dict[str, str] = {}
        for position, box in enumerate(track.boxes):
            said = {**said, **box.attributes}
            track.boxes[position] = replace(box, attributes=said)


def _box_of(values: Mapping[str, Any]) -> CvatBox:
    """Check one <box>; raises ValueError saying what is wrong."""
    for name in ("frame", "xtl", "ytl", "xbr", "ybr"):
        if name not in values:
            raise ValueError(f"<box> without {name}")
    frame = values["frame"]
    if not (frame.isascii() and frame.isdigit() and len(frame) < 10):
        raise ValueError(f"frame must be a whole number from 0, found {frame[:40]!r}")
    edges = []
    for name in ("xtl", "ytl", "xbr", "ybr"):
        try:
            edges.append(float(values[name]))
        except ValueError:
            raise ValueError(f"{name} must be a number, found {values[name][:40]!r}") from None
        if not math.isfinite(edges[-1]):
            raise ValueError(f"{name} must be a finite number, found {values[name][:40]!r}")
    flags = []
    for name in ("outside", "occluded"):
        text = values.get(name, "0").strip().lower()
        if text not in ("0", "1", "true", "false"):
            raise ValueError(f"{name} must be 0 or 1, found {text[:40]!r}")
        flags.append(text in ("1", "true"))
    x1, y1, x2, y2 = edges
    return CvatBox(
        int(frame), (x1, y1, x2, y2), flags[0], flags[1], values[" attributes"], values[" line"]
    )
