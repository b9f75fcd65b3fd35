"""Reads "CVAT for video 1.1" and "CVAT for images 1.1": boxes with attributes, each with its line.

https://docs.cvat.ai/docs/other/xml_format. Document types and entity declarations are refused, so
nothing in a file can be expanded or fetched.
"""

from __future__ import annotations

import lzma
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, NoReturn
from xml.parsers import expat

from detection.errors import Problems, UserError, at_row, printable
from detection.importers.cvat_shapes import SHAPES, CvatBox, shape_of

_MAX_DEPTH = 32
_MAX_TEXT = 1 << 20
_MAX_BYTES = 1 << 30  # of XML, in an archive or not
_MAX_KEPT = 2_000_000  # boxes and other elements kept in memory, per file
_PIECE = 1 << 20
# Old versions of expat parse an incomplete element from its start again with every piece.
_MAX_SILENT = 4 << 20
_BAD_ARCHIVE = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, NotImplementedError, RuntimeError, EOFError,
)  # fmt: skip


@dataclass
class CvatTrack:
    """One person through time.

    track_id: id in the file.
    label: name of its label.
    task_id: "" where the file has one task.
    line: line of the file.
    boxes: ascending by frame.
    """

    track_id: str
    label: str
    task_id: str
    line: int
    boxes: list[CvatBox] = field(default_factory=list)


@dataclass
class CvatAttribute:
    """An attribute of a label.

    name: of the attribute.
    kind: select, radio, checkbox, number or text.
    values: possible values.
    """

    name: str = ""
    kind: str = ""
    values: tuple[str, ...] = ()


@dataclass
class CvatTask:
    """One video's task, or one job of it.

    fields: as in the file: `source` is the video's name in CVAT, `size` the number of frames.
    is_job: whether it is a job.
    """

    fields: dict[str, str] = field(default_factory=dict)
    is_job: bool = False

    def number(self, name: str) -> int | None:
        """Return a field that is a whole number, None where it is absent or something else."""
        text = self.fields.get(name, "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None

    @property
    def step(self) -> int:
        """Every how many frames of the video the task has a frame."""
        found = re.search(r"step\s*=\s*([1-9][0-9]{0,8})", self.fields.get("frame_filter", ""))
        return int(found[1]) if found else 1

    @property
    def size_px(self) -> tuple[int, int] | None:
        """(width, height) that the boxes refer to, None where unknown."""
        width, height = self.number("width"), self.number("height")
        return (width, height) if width and height else None


@dataclass
class CvatImage:
    """An image, in "CVAT for images".

    number: its `id`.  name: as CVAT calls it.  task_id: "" where the file has one task.  size_px:
    (width, height).  line: of the file.  shapes: label and shape; frames are the image's number.
    """

    number: int
    name: str
    task_id: str
    size_px: tuple[int, int]
    line: int
    shapes: list[tuple[str, CvatBox]] = field(default_factory=list)


@dataclass
class CvatFile:
    """The content of a file.

    path: the file, for messages.
    tasks: one, or those of a project.
    labels: attributes by label, in the file's order.
    tracks: the tracks of all tasks.
    images: those of "CVAT for images".
    """

    path: str
    tasks: list[CvatTask] = field(default_factory=list)
    labels: dict[str, list[CvatAttribute]] = field(default_factory=dict)
    tracks: list[CvatTrack] = field(default_factory=list)
    images: list[CvatImage] = field(default_factory=list)


def read_cvat(path: str | Path, *, of_images: bool = False) -> CvatFile:
    """Read an XML file, or the `annotations.xml` of a ZIP file as CVAT exports it.

    of_images: "CVAT for images" is required, else "CVAT for video".  Raises `UserError` naming file
    and line of what is wrong (at most ten, then a count).
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"{path}: file not found")
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as file:
                if file.read(4) == b"PK\x03\x04":
                    raise UserError(f"{path}: an archive that is cut short")
                file.seek(0)
                return _Reader(str(path), of_images).read(file)
        with zipfile.ZipFile(path) as archive:
            name = _annotations_in(path, archive)
            with archive.open(name) as member:
                return _Reader(printable(f"{path}/{name}"), of_images).read(member)
    except (*_BAD_ARCHIVE, OSError) as error:
        reason = printable(f"{error}")[:200]
        raise UserError(f"{path}: cannot be read ({reason})") from error


def _annotations_in(path: Path, archive: zipfile.ZipFile) -> str:
    """Return the name of the annotation file in an archive; nothing is unpacked to disk."""
    members = [m for m in archive.infolist() if m.filename.split("/")[-1] == "annotations.xml"]
    if len(members) != 1:
        raise UserError(
            f"{path}: {len(members)} files annotations.xml in this archive, one is required "
            "(export as 'CVAT for video 1.1')"
        )
    if members[0].flag_bits & 1:
        raise UserError(f"{path}: encrypted; an archive without a password is required")
    if members[0].file_size > _MAX_BYTES:
        raise UserError(
            f"{path}: {members[0].file_size:,} bytes of XML when unpacked, at most {_MAX_BYTES:,} "
            "are read; export the tasks one by one"
        )
    return members[0].filename


class _Reader:
    """Parses a file element by element; keeps only tracks or images, labels and tasks."""

    def __init__(self, path: str, of_images: bool) -> None:
        self.file = CvatFile(path)
        self.of_images = of_images
        self.image: CvatImage | None = None
        self.problems = Problems()
        self.stack: list[str] = []
        self.text: list[str] = []
        self.text_length = 0
        self.label = ""
        self.label_attributes: list[CvatAttribute] = []
        self.track: CvatTrack | None = None
        self.shape: _OpenShape | None = None
        self.element: _OpenShape | None = None  # a part of a skeleton
        self.attribute_name = ""
        self.events = self.kept = 0

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
            self._feed(file)
        except expat.ExpatError as error:
            reason = expat.ErrorString(error.code)
            raise at_row(path, error.lineno, f"not XML, or cut short ({reason})") from error
        except (ValueError, LookupError) as error:
            if isinstance(error, UserError):
                raise
            message = f"not XML, or in an unsupported encoding ({error})"
            raise at_row(path, self.line, message) from error
        for track in self.file.tracks:
            self._check_order(track)
        self.problems.raise_if_any()
        return self.file

    def _feed(self, file: IO[bytes]) -> None:
        """Feed the file to the parser piece by piece, with a limit on the size of one element."""
        read = silent = 0
        while piece := file.read(_PIECE):
            read += len(piece)
            if read > _MAX_BYTES:
                raise UserError(
                    f"{self.file.path}: more than {_MAX_BYTES:,} bytes of XML; export the tasks "
                    "one by one"
                )
            events = self.events
            self.parser.Parse(piece, False)
            silent = silent + len(piece) if self.events == events else 0
            if silent >= _MAX_SILENT:
                raise self._error(f"an element or a comment of more than {_MAX_SILENT:,} bytes")
        self.parser.Parse(b"", True)

    def _keep(self) -> None:
        """Count one more element kept in memory."""
        self.kept += 1
        if self.kept > _MAX_KEPT:
            raise self._error(
                f"more than {_MAX_KEPT:,} boxes, tracks and labels; export the tasks one by one"
            )

    @property
    def line(self) -> int:
        return int(self.parser.CurrentLineNumber)

    def _error(self, message: str) -> UserError:
        return at_row(self.file.path, self.line, message)

    def _refuse(self, *_: object) -> NoReturn:
        raise self._error("a document type or entity, which CVAT's files do not have")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.stack and name != "annotations":
            raise self._error(f"<{name[:40]}>: CVAT's <annotations> is required")
        self.events += 1
        self.stack.append(name)
        if len(self.stack) > _MAX_DEPTH:
            raise self._error(f"elements nested deeper than {_MAX_DEPTH}")
        self.text, self.text_length = [], 0
        if self.stack[1:2] == ["meta"]:
            self._start_meta(name)
        elif name == "image" and len(self.stack) == 2:
            self._start_image(attributes)
        elif name == "track" and len(self.stack) == 2:
            if self.of_images:
                raise self._error("this is 'CVAT for video'; 'cvat' reads it")
            self._keep()
            track_id, label, task = (attributes.get(key, "") for key in ("id", "label", "task_id"))
            self.track = CvatTrack(track_id, label, task, self.line)
        elif (self.track or self.image) is not None and len(self.stack) == 3:
            self.shape = None
            if name in SHAPES:
                self._keep()
                self.shape = _OpenShape(name, attributes, self.line)
        elif self.shape is not None and len(self.stack) == 4 and name in SHAPES:
            self._keep()
            self.element = _OpenShape(name, attributes, self.line)
        elif name == "attribute" and len(self.stack) == 4:
            self.attribute_name = attributes.get("name", "")

    def _start_image(self, attributes: Mapping[str, str]) -> None:
        if not self.of_images:
            raise self._error(
                "this is 'CVAT for images', which 'cvat-images' reads; or export the task as 'CVAT "
                "for video 1.1'"
            )
        self._keep()
        numbers = []
        for name in ("id", "width", "height"):
            text = attributes.get(name, "")
            if not (text.isascii() and text.isdigit() and len(text) < 10):
                raise self._error(f"<image>: {name}: a number is required, found {text[:40]!r}")
            numbers.append(int(text))
        number, width, height = numbers
        name, task = attributes.get("name", ""), attributes.get("task_id", "")
        self.image = CvatImage(number, name, task, (width, height), self.line)

    def _start_meta(self, name: str) -> None:
        if name in ("task", "job"):
            self._keep()
            self.file.tasks.append(CvatTask(is_job=name == "job"))
        elif name == "label":
            self._keep()
            self.label, self.label_attributes = "", []
        elif name == "attribute":
            self._keep()
            self.label_attributes.append(CvatAttribute())

    def _characters(self, text: str) -> None:
        self.events += 1
        self.text_length += len(text)
        if self.text_length > _MAX_TEXT:
            raise self._error("a text of more than a million characters")
        self.text.append(text)

    def _end(self, name: str) -> None:
        self.events += 1
        text = "".join(self.text)
        self.stack.pop()
        parent = self.stack[-1] if self.stack else ""
        if self.stack[1:2] == ["meta"]:
            self._end_meta(name, parent, text.strip())
        elif name == "attribute" and self.shape is not None and len(self.stack) == 3:
            self.shape.attributes[self.attribute_name] = text.strip()
        elif self.element is not None and len(self.stack) == 3:
            self._end_element()
        elif self.shape is not None and len(self.stack) == 2:
            self._end_shape()
        elif name == "track" and self.track is not None and not self.stack[1:]:
            self.file.tracks.append(self.track)
            self.track = None
        elif name == "image" and self.image is not None and not self.stack[1:]:
            self.file.images.append(self.image)
            self.image = None
        self.text, self.text_length = [], 0

    def _end_element(self) -> None:
        assert self.shape is not None and self.element is not None
        part, self.element = self.element, None
        frame = str(self.image.number) if self.image else self.shape.values.get("frame", "0")
        values = {**part.values, "frame": frame}
        try:
            self.shape.elements.append(shape_of(part.name, values, part.line, {}))
        except ValueError as error:
            self.problems.add(self.file.path, part.line, str(error))

    def _end_shape(self) -> None:
        assert self.shape is not None
        shape, self.shape = self.shape, None
        if self.image is not None:
            self._add_to_image(shape, self.image)
            return
        assert self.track is not None
        boxes = self.track.boxes
        # Most boxes of a track have equal attributes: they share one dictionary.
        same = boxes and boxes[-1].attributes == shape.attributes
        attributes = boxes[-1].attributes if same else shape.attributes
        try:
            boxes.append(shape_of(shape.name, shape.values, shape.line, attributes, shape.elements))
        except ValueError as error:
            self.problems.add(self.file.path, shape.line, str(error))

    def _add_to_image(self, shape: _OpenShape, image: CvatImage) -> None:
        values = {**shape.values, "frame": str(image.number)}
        try:
            made = shape_of(shape.name, values, shape.line, shape.attributes, shape.elements)
        except ValueError as error:
            self.problems.add(self.file.path, shape.line, str(error))
            return
        image.shapes.append((shape.values.get("label", ""), made))

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
        """Sort a track by frame; report frames listed twice; carry attributes over to later boxes.

        Two `outside` boxes of one frame are accepted: CVAT's merged jobs write them.
        """
        track.boxes.sort(key=lambda box: box.frame)
        kept: list[CvatBox] = []
        attributes: Mapping[str, str] = {}
        for box in track.boxes:
            before = kept[-1] if kept else None
            if before is not None and before.frame == box.frame:
                if not (before.outside and box.outside):
                    twice = f"track {track.track_id or '?'} has frame {box.frame} twice"
                    message = f"{twice} (first in line {before.line})"
                    self.problems.add(self.file.path, box.line, message)
                continue
            if any(attributes.get(name) != value for name, value in box.attributes.items()):
                attributes = {**attributes, **box.attributes}
            kept.append(replace(box, attributes=attributes))
        track.boxes = kept


@dataclass
class _OpenShape:
    """A shape whose element is still open."""

    name: str  # CVAT's, of the shape
    values: Mapping[str, str]  # XML attributes of the element
    line: int
    attributes: dict[str, str] = field(default_factory=dict)  # CVAT's, by name
    elements: list[CvatBox] = field(default_factory=list)  # parts of a skeleton
