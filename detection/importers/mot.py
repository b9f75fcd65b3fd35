"""MOTChallenge text, both ways: a line for each person and action in a frame.

https://motchallenge.net/instructions/: `frame, id, left, top, width, height, conf, class,
visibility`; frames from 1, pixels from 1, conf 0 marks what does not count, id -1 is no identity.
CVAT and Datumaro write the same lines with pixels from 0 and a `labels.txt` beside them, a class a
line: https://docs.cvat.ai/docs/dataset_management/formats/format-mot/. A file is VIDEO.txt or
VIDEO/gt/gt.txt.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from detection.datasets.folder import DatasetFolder
from detection.datasets.plain_names import check_class_name
from detection.errors import Problems, UserError, printable
from detection.files import adding_to_folder, read_lines, read_text, write_text
from detection.formats.csv_rows import csv_rows, finite_number
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.exact_boxes import corner_and_size
from detection.importers.labels_out import (
    SplitVideo,
    check_names,
    counted_note,
    frames_of,
    nearest_frame_numbers,
    read_split_labels,
    size_note,
)
from detection.importers.source_videos import find_video

GT = Path("gt/gt.txt")
LABELS = "labels.txt"
_NO_ID, _NO_CLASS = -1, -1


def read_mot(
    source: str | Path,
    videos: str | Path,
    *,
    classes: Sequence[str] = (),
    first_pixel: int | None = None,
) -> AnnotatedData:
    """Read a file, or all of a folder; the videos that they are named after lie below `videos`.

    classes: names of classes 1, 2, ... where no `labels.txt` says them.  first_pixel: number of the
    leftmost pixel; None: 0 beside a `labels.txt`, else 1.  Lines of one frame, id and box are one
    person.  Raises `UserError` naming file and line.
    """
    counts, problems = _Counts(), Problems()
    found: list[AnnotatedVideo] = []
    names: dict[str, None] = dict.fromkeys(classes)
    origins = set()
    for path, name in _files(Path(source)):
        listed = path.parent / LABELS
        known = _labels(listed) if listed.is_file() else list(classes)
        names |= dict.fromkeys(known)
        origin = first_pixel if first_pixel is not None else int(not listed.is_file())
        origins.add(origin)
        try:
            file = find_video(Path(videos), name)
        except ValueError as error:
            problems.add(path, None, str(error))
            continue
        video = AnnotatedVideo(name, file, str(path), by_frame=True, size=None)
        video.boxes = _boxes(path, known, origin, counts, problems)
        found.append(video)
    problems.raise_if_any()
    pixels = " and ".join(f"from {origin}" for origin in sorted(origins))
    notes = [f"boxes count pixels {pixels} (--first-pixel says otherwise)"] * (first_pixel is None)
    return AnnotatedData(found, list(names), notes=[*notes, *counts.notes()])


@dataclass
class _Counts:
    ignored: int = 0

    def notes(self) -> list[str]:
        return ["frames without a line are no keyframes"] + (
            [f"{self.ignored:,} lines left out that do not count (conf 0)"] * bool(self.ignored)
        )


@dataclass
class _Person:
    """What the lines of one frame, id and box say."""

    line: int
    actions: list[str] = field(default_factory=list)


def _files(source: Path) -> list[tuple[Path, str]]:
    """Return each file and the name of its video."""
    if source.is_file():
        nested = source.name == GT.name and source.parent.name == GT.parent.name
        return [(source, source.resolve().parent.parent.name if nested else source.stem)]
    if not source.is_dir():
        raise UserError(f"{source}: file or folder not found")
    nested_files = sorted(path for path in source.rglob(GT.name) if path.parent.name == "gt")
    found = [(path, path.parent.parent.relative_to(source).as_posix()) for path in nested_files]
    if any(name == "." for _, name in found):
        found = [(path, path.resolve().parent.parent.name) for path in nested_files]
    plain = sorted(path for path in source.glob("*.txt") if path.name != LABELS)
    found += [(path, path.stem) for path in plain]
    if not found:
        raise UserError(f"{source}: contains no VIDEO.txt and no VIDEO/gt/gt.txt")
    return found


def _labels(path: Path) -> list[str]:
    names = [line.strip() for line in read_lines(path, what="list of classes")]
    while names and not names[-1]:
        names.pop()
    if not all(names) or len(set(names)) < len(names):
        raise UserError(f"{path}: a class a line is required, all different and none empty")
    return names


def _boxes(
    path: Path, classes: Sequence[str], origin: int, counts: _Counts, problems: Problems
) -> list[AnnotatedBox]:
    people: dict[tuple[int, int, tuple[float, float, float, float]], _Person] = {}
    first: dict[tuple[int, int], int] = {}
    text = read_text(path, what="MOT text")
    for line, cells in csv_rows(path, io.StringIO(text, newline="")):
        if not any(cell.strip() for cell in cells):
            continue
        try:
            frame, person, box, counted, number = _row(cells, origin)
            if not counted:
                counts.ignored += 1
                continue
            key = (frame, person, box)
            if key not in people and person != _NO_ID and (frame, person) in first:
                raise ValueError(
                    f"id {person} has another box in frame {frame}, line {first[frame, person]}"
                )
            first.setdefault((frame, person), line)
            told = people.setdefault(key, _Person(line))
            if number != _NO_CLASS:
                told.actions.append(_class_of(number, classes))
        except ValueError as error:
            problems.add(path, line, str(error))
    return [
        AnnotatedBox(
            frame - 1,
            box,
            tuple(dict.fromkeys(told.actions)),
            None if person == _NO_ID else str(person),
            told.line,
        )
        for (frame, person, box), told in people.items()
    ]


def _row(
    cells: Sequence[str], origin: int
) -> tuple[int, int, tuple[float, float, float, float], bool, int]:
    """Return frame, id, box, whether it counts, class; raises ValueError."""
    if not 7 <= len(cells) <= 10:
        raise ValueError(f"{len(cells)} numbers, 7 to 10 are required")
    names = ("frame", "id", "left", "top", "width", "height", "conf")
    values = [
        finite_number(cell, name, most=1e9) for cell, name in zip(cells[:7], names, strict=True)
    ]
    number = finite_number(cells[7], "class", most=1e9) if len(cells) > 7 else _NO_CLASS
    frame, person, left, top, width, height, conf = values
    if frame != int(frame) or frame < 1:
        raise ValueError(f"frame must be a whole number from 1, found {cells[0].strip()[:40]!r}")
    for value, name in ((person, "id"), (number, "class")):
        if value != int(value):
            raise ValueError(f"{name} must be a whole number, found {value:g}")
    x1, y1 = left - origin, top - origin
    box = (x1, y1, x1 + width, y1 + height)
    return int(frame), int(person), box, conf != 0, int(number)


def _class_of(number: int, classes: Sequence[str]) -> str:
    if not 1 <= number <= len(classes):
        known = (
            f"there are {len(classes)}" if classes else f"no {LABELS} and no --classes name them"
        )
        raise ValueError(f"class {number}: {known}")
    check_class_name(classes[number - 1])
    return classes[number - 1]


def write_mot(folder: DatasetFolder, split: str, out: Path) -> list[str]:
    """Write VIDEO/gt/gt.txt, labels.txt and VIDEO/seqinfo.ini of a split below the folder `out`.

    Pixels count from 0, as CVAT and Datumaro read them beside a `labels.txt`.  A person of several
    actions is several lines, of none one line of class -1; without an id: -1.  Returns what the
    form does not hold, a line each.  Raises `UserError`.
    """
    labels = read_split_labels(folder, split)
    check_names(labels)
    names = labels.label_map.names
    moved = inexact = lines = empty = boxes = 0
    with adding_to_folder(out) as building:
        for video in labels.videos:
            place = building / video.video_id
            text, facts, counted = _written(folder, video)
            write_text(place / GT, text)
            write_text(place / GT.parent / LABELS, "".join(f"{name}\n" for name in names))
            write_text(place / "seqinfo.ini", facts)
            boxes, empty = boxes + len(video.boxes), empty + len(video.empty_s)
            moved, inexact = moved + counted[0], inexact + counted[1]
            lines += text.count("\n")
    return [
        f"{len(labels.videos):,} videos, {boxes:,} boxes, {lines:,} lines",
        *labels.notes,
        *counted_note(
            moved, labels.num_keyframes, "keyframes moved", "to the nearest of the video's frames"
        ),
        *counted_note(
            empty, labels.num_keyframes, "keyframes", "without persons, which MOT text cannot hold"
        ),
        *size_note(inexact, boxes),
    ]


def _written(folder: DatasetFolder, video: SplitVideo) -> tuple[str, str, tuple[int, int]]:
    """Return gt.txt, seqinfo.ini, and how many times and boxes do not read back."""
    times_s, size_px = frames_of(folder, video)
    when_s = sorted({box.time_s for box in video.boxes})
    numbers, moved = nearest_frame_numbers(times_s, when_s)
    frame_of = dict(zip(when_s, numbers, strict=True))
    if len(set(numbers)) < len(numbers):
        raise UserError(
            f"video '{printable(video.video_id)}': two keyframes show one frame, MOT text counts "
            "frames"
        )
    rows, inexact = [], 0
    for box in video.boxes:
        edges, exact = corner_and_size(box.box_01, size_px)
        inexact += not exact
        person = _NO_ID if box.person is None else box.person
        for column in box.actions or (_NO_CLASS - 1,):
            row = (frame_of[box.time_s] + 1, person, *edges, 1, column + 1, 1)
            rows.append(row)
    rows.sort(key=lambda row: row[:2])
    text = "".join(",".join(f"{value!r}" for value in row) + "\n" for row in rows)
    span_s = times_s[-1] - times_s[0]
    rate = (len(times_s) - 1) / span_s if span_s > 0 else 1.0
    facts = (
        f"[Sequence]\nname={video.video_id}\nimDir=img1\nframeRate={rate:g}\n"
        f"seqLength={len(times_s)}\nimWidth={size_px[0]:g}\nimHeight={size_px[1]:g}\nimExt=.jpg\n"
    )
    return text, facts, (moved, inexact)
