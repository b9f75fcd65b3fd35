"""Imports "CVAT for images 1.1": boxes of a video's frames, or of images named by video and frame.

https://docs.cvat.ai/docs/other/xml_format: `<image id name width height>`; the frames of a video
task are called `frame_000123`, counted from 0. CVAT lists every frame, whether anyone looked at it
or not.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from detection.errors import Problems, UserError, printable
from detection.importers.class_names import name_key
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.cvat import cvat_files, video_of_task
from detection.importers.cvat_actions import ActionRules, Vocabulary
from detection.importers.cvat_shapes import CvatBox
from detection.importers.cvat_xml import CvatFile, CvatImage, CvatTask, CvatTrack, read_cvat
from detection.importers.frame_names import FrameNaming, NamedFrames
from detection.importers.regions import Regions
from detection.importers.via_attributes import PERSON_NAMES

_OF_VIDEO = re.compile(r"frame_([0-9]{1,9})")


def read_cvat_images(
    source: str | Path,
    videos: str | Path,
    *,
    rules: ActionRules | None = None,
    shapes: Literal["unjudged", "hull"] = "unjudged",
    naming: FrameNaming | None = None,
    person: str | None = None,
    keep_occluded: bool = True,
    keep_empty: bool = False,
) -> AnnotatedData:
    """Read one file, or all XML and ZIP files of a folder, for the videos below `videos`.

    person: attribute that tells people apart, None: by its name.  keep_empty: images without a
    person are keyframes without persons.  Raises `UserError` naming file and line.
    """
    files = [read_cvat(path, of_images=True) for path in cvat_files(Path(source))]
    for file in files:
        if not file.images:
            raise UserError(f"{file.path}: contains no <image>")
        file.tracks = [
            CvatTrack("", label, image.task_id, box.line, [box])
            for image in file.images
            for label, box in image.shapes
        ]
    named = _person_attribute(files, person)
    for file in files:
        _take_out(file, named)
    vocabulary = Vocabulary.of(files, rules or ActionRules(), unit="boxes")
    regions = Regions(str(source), shapes)
    found: dict[str, AnnotatedVideo] = {}
    counts: Counter[str] = Counter()
    problems = Problems()
    for file in files:
        frames = NamedFrames(videos, file.path, naming or FrameNaming())
        of_tasks: dict[str, AnnotatedVideo] = {}
        for image in file.images:
            try:
                video, when = _frame_of(file, image, frames, of_tasks, Path(videos), len(files))
                video = _joined(found, video, image)
                boxes = _boxes_of(video, when, image, vocabulary, regions, keep_occluded, named)
            except ValueError as error:
                if isinstance(error, UserError):
                    raise
                problems.add(file.path, image.line, printable(str(error)))
                continue
            if not boxes and keep_empty:
                regions.see(video, when)
            counts["empty"] += not boxes
    problems.raise_if_any()
    notes = regions.hand_over(list(found.values()), "leave-out")
    if counts["empty"] and not keep_empty:
        notes.append(
            f"{counts['empty']:,} images without a person are no keyframes: CVAT lists every frame "
            "(--keep-empty takes them as keyframes without persons)"
        )
    return AnnotatedData(
        list(found.values()), vocabulary.classes, vocabulary.exclusive, [*vocabulary.notes, *notes]
    )


def _frame_of(
    file: CvatFile,
    image: CvatImage,
    frames: NamedFrames,
    of_tasks: dict[str, AnnotatedVideo],
    videos: Path,
    num_files: int,
) -> tuple[AnnotatedVideo, float]:
    """Return an image's video and frame from 0, or time; raises ValueError."""
    match = _OF_VIDEO.fullmatch(image.name)
    if not match:
        return frames.find(image.name)
    if int(match[1]) != image.number:
        raise ValueError(f"image id {image.number} is called '{image.name}': one frame is required")
    if image.task_id not in of_tasks:
        task = _task_of(file, image.task_id)
        video = video_of_task(file, task, videos, alone=num_files == 1)
        of_tasks[image.task_id] = AnnotatedVideo(video.name, video.path, file.path, True, None)
    return of_tasks[image.task_id], image.number


def _task_of(file: CvatFile, task_id: str) -> CvatTask:
    found = [task for task in file.tasks if task.fields.get("id") == task_id]
    if task_id and not found:
        raise ValueError(f"task_id {task_id[:40]!r} is no task's id")
    if not found and len(file.tasks) > 1:
        raise ValueError(f"an image without task_id, and {len(file.tasks)} tasks")
    return found[0] if found else (file.tasks or [CvatTask()])[0]


def _joined(
    found: dict[str, AnnotatedVideo], video: AnnotatedVideo, image: CvatImage
) -> AnnotatedVideo:
    """Return the video of that name, of one size and counted in one way; raises ValueError."""
    video = found.setdefault(video.name, video)
    width, height = image.size_px
    size = float(width), float(height)
    if min(size) < 1:
        raise ValueError(f"<image> of {width}x{height}: 1x1 or more is required")
    video.set_size(size)
    return video


def _boxes_of(
    video: AnnotatedVideo,
    when: float,
    image: CvatImage,
    vocabulary: Vocabulary,
    regions: Regions,
    keep_occluded: bool,
    named: str | None,
) -> int:
    """Add the boxes of an image; return how many persons it shows."""
    persons = 0
    for label, box in image.shapes:
        if label and label not in vocabulary.persons:
            continue
        if box.occluded and not keep_occluded:
            continue
        persons += 1
        if regions.takes(video, when, box.shape, box.hull_px):
            actions = vocabulary.actions(label, _without(box.attributes, named))
            person = _person_of(box, named)
            regions.add(video, AnnotatedBox(when, box.hull_px, actions, person, box.line))
    return persons


def _person_of(box: CvatBox, named: str | None) -> str | None:
    value = box.attributes.get(named, "").strip() if named is not None else ""
    return value[:200] or None


def _without(values: Mapping[str, str], named: str | None) -> dict[str, str]:
    return {name: value for name, value in values.items() if name != named}


def _person_attribute(files: Sequence[CvatFile], person: str | None) -> str | None:
    """Return the attribute that tells people apart, None where there is none."""
    names = dict.fromkeys(
        name
        for file in files
        for name in [
            *(attribute.name for listed in file.labels.values() for attribute in listed),
            *(name for track in file.tracks for box in track.boxes for name in box.attributes),
        ]
    )
    if person is None:
        likely = [name for name in names if name_key(name) in PERSON_NAMES]
        return min(likely, key=lambda name: PERSON_NAMES.index(name_key(name)), default=None)
    if person not in names:
        listed = ", ".join(printable(name) for name in [*names][:20]) or "none"
        said = f"--person-attribute '{printable(person)}': not found (it has: {listed})"
        raise UserError(f"{files[0].path}: {said}")
    return person


def _take_out(file: CvatFile, named: str | None) -> None:
    """Leave the person's attribute out of those that may be actions."""
    if named is None:
        return
    for label, attributes in file.labels.items():
        file.labels[label] = [attribute for attribute in attributes if attribute.name != named]
    for track in file.tracks:
        boxes = track.boxes
        track.boxes = [replace(b, attributes=_without(b.attributes, named)) for b in boxes]
