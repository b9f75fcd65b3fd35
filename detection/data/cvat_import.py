"""CVAT's tracks into people's boxes and actions at the moments that are trained and scored on.

A checkbox is an action; every value of a select or radio attribute is one, and the values of one
attribute exclude each other. Where no label has attributes the labels are the actions.
"""

from __future__ import annotations

import bisect
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.data.cvat_xml import (
    CvatAttribute,
    CvatBox,
    CvatFile,
    CvatTask,
    CvatTrack,
    read_cvat,
)
from detection.data.frame_times import nearest_frames
from detection.data.own_data import OwnBox, OwnVideo
from detection.data.source_videos import find_video
from detection.data.video import VideoReader
from detection.errors import Problems, UserError, at_row

# What people call "none of these" in a list of values.
NO_ACTION = ("", "__undefined__", "undefined", "none", "nothing", "no action", "-")
# A header tells the end of the last frame only about: no moment is made up this close to it.
END_MARGIN_S = 0.1
_SHAPE_TOLERANCE = 0.02


@dataclass(frozen=True)
class CvatData:
    """What the files hold. classes: in the order of the files; exclusive: groups of them."""

    videos: list[OwnVideo]
    classes: list[str]
    exclusive: dict[str, list[str]]
    notes: list[str] = field(default_factory=list)


def read_cvat_videos(
    source: str | Path,
    videos: str | Path,
    *,
    every_s: float = 1.0,
    attributes: Sequence[str] = (),
    keep_occluded: bool = True,
) -> CvatData:
    """Read one CVAT file, or all XML and ZIP files of a folder, for the videos below `videos`.

    every_s: seconds from moment to moment, counted on the video's own clock as AVA's are (0: every
    frame). A moment's boxes are those of the frame that is shown nearest to it. attributes: those
    that say actions (none: all checkboxes, selects and radios). Raises `UserError` naming file and
    line.
    """
    if every_s and not 0.01 <= every_s < 1e6:
        raise UserError(f"moments every {every_s:g} s: 0 (every frame) or 0.01 at least is wanted")
    files = [read_cvat(path) for path in _files(Path(source))]
    vocabulary = _Vocabulary.of(files, attributes)
    found: list[OwnVideo] = []
    place_of: dict[str, str] = {}
    problems = Problems()
    notes: Counter[str] = Counter()
    for file in files:
        for task, tracks in _tasks(file):
            video = _find(file, task, tracks, Path(videos), alone=len(files) == 1)
            if video.name in place_of:
                raise UserError(
                    f"{file.path}: video '{video.name}' is annotated in {place_of[video.name]} "
                    "already; one file per video is wanted"
                )
            place_of[video.name] = file.path
            _fill(video, file, task, tracks, vocabulary, every_s, keep_occluded, problems, notes)
            found.append(video)
    problems.raise_if_any()
    shapes = sum(file.other_shapes for file in files)
    if shapes:
        notes[f"{shapes} shapes that are no boxes left out"] += 1
    return CvatData(found, vocabulary.classes, vocabulary.exclusive, list(notes))


@dataclass
class _Vocabulary:
    """Which attribute values are which class. of_value: class by (attribute, value)."""

    labels_are_actions: bool
    chosen: tuple[str, ...]
    kinds: dict[str, str]
    doubled: set[str]
    classes: list[str]
    exclusive: dict[str, list[str]]

    @classmethod
    def of(cls, files: Sequence[CvatFile], chosen: Sequence[str]) -> _Vocabulary:
        known: dict[str, CvatAttribute] = {}
        for file in files:
            for attributes in file.labels.values():
                for attribute in attributes:
                    known.setdefault(attribute.name, attribute)
        for file in files:
            _guess_kinds(file, known)
        for name in chosen:
            if name not in known:
                raise UserError(
                    f"{files[0].path}: no attribute '{name}' (it has: {', '.join(known) or 'none'})"
                )
        acting = {
            name: attribute
            for name, attribute in known.items()
            if attribute.kind in ("checkbox", "select", "radio") and (not chosen or name in chosen)
        }
        if not acting:
            labels = dict.fromkeys(
                label for f in files for label in [*f.labels, *(t.label for t in f.tracks)]
            )
            return cls(True, (), {}, set(), [label for label in labels if label], {})
        return cls._of_attributes(acting, tuple(chosen))

    @classmethod
    def _of_attributes(
        cls, acting: Mapping[str, CvatAttribute], chosen: tuple[str, ...]
    ) -> _Vocabulary:
        count: Counter[str] = Counter()
        for name, attribute in acting.items():
            count.update([name] if attribute.kind == "checkbox" else _values(attribute))
        words = cls(
            False,
            chosen,
            {name: attribute.kind for name, attribute in acting.items()},
            {name for name, times in count.items() if times > 1},
            [],
            {},
        )
        for name, attribute in acting.items():
            if attribute.kind == "checkbox":
                words.classes.append(words.class_of(name, name))
                continue
            group = [words.class_of(name, value) for value in _values(attribute)]
            words.classes += group
            if len(group) > 1:
                words.exclusive[name] = group
        return words

    def class_of(self, attribute: str, value: str) -> str:
        """Return the class of a value; two attributes with one value are kept apart by name."""
        return f"{attribute}: {value}" if value in self.doubled else value

    def actions(self, label: str, values: Mapping[str, str]) -> tuple[str, ...]:
        """Return what a box says its person does."""
        if self.labels_are_actions:
            return (label,) if label else ()
        found = []
        for name, value in values.items():
            kind = self.kinds.get(name)
            if kind == "checkbox":
                if value.lower() in ("true", "1"):
                    found.append(self.class_of(name, name))
            elif kind is not None and value.lower() not in NO_ACTION:
                found.append(self.class_of(name, value))
        return tuple(dict.fromkeys(found))


def _values(attribute: CvatAttribute) -> list[str]:
    return [value for value in attribute.values if value.lower() not in NO_ACTION]


def _guess_kinds(file: CvatFile, known: dict[str, CvatAttribute]) -> None:
    """Complete what the file's head says by what its boxes hold (some files have no head)."""
    seen: dict[str, dict[str, None]] = {}
    for track in file.tracks:
        for box in track.boxes:
            for name, value in box.attributes.items():
                seen.setdefault(name, {})[value] = None
    for name, values in seen.items():
        attribute = known.setdefault(name, CvatAttribute(name))
        if not attribute.kind:
            boolean = all(value.lower() in ("true", "false") for value in values)
            attribute.kind = "checkbox" if boolean else "select"
        if attribute.kind in ("select", "radio"):
            attribute.values = tuple(dict.fromkeys([*attribute.values, *values]))


def _files(source: Path) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in (".xml", ".zip")]
    if not found:
        raise UserError(f"{source}: no .xml or .zip file in it")
    return found


def _tasks(file: CvatFile) -> list[tuple[CvatTask, list[CvatTrack]]]:
    """Share a file's tracks out to its tasks; a file of one task names none."""
    if len(file.tasks) <= 1:
        return [(file.tasks[0] if file.tasks else CvatTask(), file.tracks)]
    by_id = {task.fields.get("id", ""): task for task in file.tasks}
    shared: dict[str, list[CvatTrack]] = {task_id: [] for task_id in by_id}
    for track in file.tracks:
        if track.task_id not in shared:
            raise at_row(
                file.path, track.line, f"track of task '{track.task_id}', which is not listed above"
            )
        shared[track.task_id].append(track)
    return [(by_id[task_id], tracks) for task_id, tracks in shared.items()]


def _find(
    file: CvatFile, task: CvatTask, tracks: list[CvatTrack], videos: Path, *, alone: bool
) -> OwnVideo:
    """Find a task's video by the name of its source, of the task, or of the file itself."""
    path = Path(file.path)
    size = task.size_px
    if videos.is_file() and alone and len(file.tasks) <= 1:
        return OwnVideo(videos.name, videos, file.path, False, size)
    if not videos.is_dir():
        raise UserError(f"{videos}: no such folder of videos")
    names = [task.fields.get("source", ""), task.fields.get("name", "")]
    if len(file.tasks) <= 1:
        stem = path.parent.stem if path.name == "annotations.xml" else path.stem
        names.append(stem)
    tried = []
    for name in dict.fromkeys(names):
        if not name:
            continue
        try:
            found = find_video(videos, name)
        except ValueError as error:
            tried.append(str(error))
            continue
        return OwnVideo(found.relative_to(videos).as_posix(), found, file.path, False, size)
    raise UserError(f"{file.path}: {'; '.join(tried) or 'names no video'}")


def _fill(
    video: OwnVideo,
    file: CvatFile,
    task: CvatTask,
    tracks: Sequence[CvatTrack],
    vocabulary: _Vocabulary,
    every_s: float,
    keep_occluded: bool,
    problems: Problems,
    notes: Counter[str],
) -> None:
    """Add the boxes at every moment of the video's annotated part."""
    with VideoReader(video.path) as reader:
        times_s = reader.frame_times_s()
        size_px = reader.frame_size()
    _check_shape(video, size_px)
    for track in tracks:
        for box in track.boxes:
            if box.frame >= len(times_s) and not box.outside:
                problems.add(
                    file.path,
                    box.line,
                    f"frame {box.frame} (counted from 0), but {video.path.name} has "
                    f"{len(times_s)} frames: is it the same file as in CVAT?",
                )
                break
    first, last = _range(task, tracks, len(times_s))
    moments = _moments(times_s, every_s)
    kept = [(time_s, frame) for time_s, frame in moments if first <= frame <= last]
    peopled = set()
    for position, track in enumerate(tracks):
        if not vocabulary.labels_are_actions and file.labels and _is_no_actor(file, track.label):
            notes[f"tracks of '{track.label}' left out: the label has no attributes"] += 1
            continue
        frames = [box.frame for box in track.boxes]
        person = track.track_id or str(position)
        for time_s, frame in kept:
            shown = _box_at(track, frames, frame)
            if shown is None or (shown.occluded and not keep_occluded):
                continue
            actions = vocabulary.actions(track.label, shown.attributes)
            video.boxes.append(OwnBox(time_s, shown.box_px, actions, person, shown.line))
            peopled.add(time_s)
    video.empty += [time_s for time_s, _ in kept if time_s not in peopled]


def _is_no_actor(file: CvatFile, label: str) -> bool:
    return label in file.labels and not file.labels[label]


def _check_shape(video: OwnVideo, size_px: tuple[int, int]) -> None:
    if video.size is None:
        return
    annotated, shown = video.size[0] / video.size[1], size_px[0] / size_px[1]
    if abs(math.log(annotated / shown)) > _SHAPE_TOLERANCE:
        raise UserError(
            f"{video.source_file}: annotated on {video.size[0]}x{video.size[1]}, but "
            f"{video.path.name} shows {size_px[0]}x{size_px[1]}: another video, or turned"
        )


def _range(task: CvatTask, tracks: Sequence[CvatTrack], num_frames: int) -> tuple[int, int]:
    """Return the first and the last annotated frame."""
    first, stop, size = (task.number(name) for name in ("start_frame", "stop_frame", "size"))
    stepped = "step" in task.fields.get("frame_filter", "")
    last = num_frames - 1
    if stop is not None:
        last = stop
    elif size and not stepped:
        last = (first or 0) + size - 1
    elif stepped:
        last = max((box.frame for track in tracks for box in track.boxes), default=last)
    return first or 0, min(last, num_frames - 1)


def _moments(times_s: NDArray[np.float64], every_s: float) -> list[tuple[float, int]]:
    """Return (seconds, frame shown nearest) of every moment within the video."""
    if not every_s:
        return [(float(time_s), frame) for frame, time_s in enumerate(times_s)]
    interval_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    first = math.ceil(float(times_s[0]) / every_s - 1e-9)
    end_s = float(times_s[-1]) + interval_s - END_MARGIN_S
    wanted = np.arange(first, max(first, math.ceil(end_s / every_s - 1e-9))) * every_s
    return list(zip(wanted.tolist(), nearest_frames(times_s, wanted).tolist(), strict=True))


def _box_at(track: CvatTrack, frames: Sequence[int], frame: int) -> CvatBox | None:
    """Return the track's box at a frame as CVAT shows it, None where the person is not there.

    Between two listed boxes it moves evenly; attributes stay as they were; before somebody goes and
    after the last box it stands still.
    """
    position = bisect.bisect_right(frames, frame) - 1
    if position < 0 or track.boxes[position].outside:
        return None
    before = track.boxes[position]
    if before.frame == frame or position + 1 == len(track.boxes):
        return before
    after = track.boxes[position + 1]
    if after.outside:
        return before
    share = (frame - before.frame) / (after.frame - before.frame)
    x1, y1, x2, y2 = (a + share * (b - a) for a, b in zip(before.box_px, after.box_px, strict=True))
    return CvatBox(frame, (x1, y1, x2, y2), False, before.occluded, before.attributes, before.line)
