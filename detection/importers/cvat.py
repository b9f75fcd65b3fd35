"""Imports CVAT's tracks as boxes and actions of persons at keyframes.

`cvat_xml` reads the files, `cvat_tasks` finds the frames of each task, `cvat_actions` chooses the
labels that are persons and the attribute values that are classes.
"""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detection.datasets.keyframe_times import describe_intervals, interval_for, keyframe_times
from detection.errors import Problems, UserError, first_few, printable
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.cvat_actions import ActionRules, Vocabulary
from detection.importers.cvat_shapes import CvatBox, interpolated
from detection.importers.cvat_tasks import TaskTracks, annotated_frames, tracks_by_task
from detection.importers.cvat_xml import CvatFile, CvatTask, CvatTrack, read_cvat
from detection.importers.source_videos import find_video
from detection.importers.write import has_aspect_ratio
from detection.video.frame_folder import nearest_frames
from detection.video.reader import VideoReader


@dataclass(frozen=True)
class _KeyframeRules:
    """Which keyframes and boxes are made."""

    every_s: float | None  # between keyframes; 0: every frame; None: by the video's length
    keep_occluded: bool
    hulls: bool  # use the bounding boxes of shapes other than boxes


def read_cvat_videos(
    source: str | Path,
    videos: str | Path,
    *,
    every_s: float | None = 1.0,
    attributes: Sequence[str] = (),
    labels: Sequence[str] = (),
    shapes: Literal["unjudged", "hull"] = "unjudged",
    separators: str = "",
    keep_occluded: bool = True,
) -> AnnotatedData:
    """Read one CVAT file, or all XML and ZIP files of a folder, for the videos below `videos`.

    every_s: seconds between keyframes (0: every frame; None: by the video's length), at the times
    of `keyframe_times`. A keyframe's boxes are those of the nearest frame. attributes, labels,
    separators: see `ActionRules`. shapes: for persons drawn as polygons and the like, leave out the
    keyframe ("unjudged") or use the bounding box ("hull"). Raises `UserError` naming file and line.
    """
    if every_s and not 0.01 <= every_s < 1e6:
        raise UserError(f"keyframes every {every_s:g} s: 0 (every frame) or >= 0.01 is required")
    files = [read_cvat(path) for path in cvat_files(Path(source))]
    vocabulary = Vocabulary.of(files, ActionRules(tuple(attributes), tuple(labels), separators))
    rules = _KeyframeRules(every_s, keep_occluded, shapes == "hull")
    found: list[AnnotatedVideo] = []
    place_of: dict[str, str] = {}
    problems = Problems()
    counts = _Counts()
    for file in files:
        for part in tracks_by_task(file):
            video = video_of_task(file, part.task, Path(videos), alone=len(files) == 1)
            if video.name in place_of:
                raise UserError(
                    f"{file.path}: video '{video.name}' is annotated in {place_of[video.name]} "
                    "already; one file per video is required"
                )
            place_of[video.name] = file.path
            _add_boxes(video, file, part, vocabulary, rules, problems, counts)
            found.append(video)
    problems.raise_if_any()
    notes = [*vocabulary.notes, *counts.notes()]
    return AnnotatedData(found, vocabulary.classes, vocabulary.exclusive, notes)


def cvat_files(source: Path) -> list[Path]:
    """Return a file, or all XML and ZIP files of a folder; raises `UserError` for none."""
    if not source.is_dir():
        return [source]
    found = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in (".xml", ".zip")]
    if not found:
        raise UserError(f"{source}: contains no .xml or .zip file")
    return found


def video_of_task(file: CvatFile, task: CvatTask, videos: Path, *, alone: bool) -> AnnotatedVideo:
    """Find a task's video by the name of its source, of the task, or of the file itself.

    Raises `UserError`.
    """
    path = Path(file.path)
    size = task.size_px
    if videos.is_file() and alone and len(file.tasks) <= 1:
        return AnnotatedVideo(videos.name, videos, file.path, False, size)
    if not videos.is_dir():
        raise UserError(f"{videos}: folder of videos not found")
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
        return AnnotatedVideo(found.relative_to(videos).as_posix(), found, file.path, False, size)
    raise UserError(f"{file.path}: {'; '.join(tried) or 'names no video'}")


@dataclass
class _Counts:
    """Counts for the notes."""

    turned: int = 0  # rotated boxes
    hulls: Counter[str] = field(default_factory=Counter)  # shapes used as bounding boxes, by kind
    unjudged: Counter[str] = field(default_factory=Counter)  # shapes that left out keyframes
    unjudged_keyframes: int = 0
    unjudged_others: int = 0  # boxes of other persons at these keyframes
    places: list[str] = field(default_factory=list)  # of the first three of these shapes
    frames: list[str] = field(default_factory=list)  # notes about frame numbers
    intervals_s: list[float] = field(default_factory=list)  # between keyframes, by video
    unseen: list[str] = field(default_factory=list)  # persons whom no keyframe shows

    def notes(self) -> list[str]:
        """Return a line for each kind."""
        lines = [*filter(None, [describe_intervals(self.intervals_s)]), *self.frames]
        if self.unseen:
            lines.append(
                f"warning: {len(self.unseen):,} persons are there between keyframes only and are "
                f"left out (a smaller --every shows them): {first_few(self.unseen)}"
            )
        if self.turned:
            lines.append(f"{self.turned:,} rotated boxes replaced by their bounding boxes")
        if self.hulls:
            lines.append(f"{_kinds(self.hulls)} replaced by their bounding boxes")
        if self.unjudged_keyframes:
            lines.append(
                f"warning: {self.unjudged_keyframes:,} keyframes left out: a person is drawn there "
                f"as {_kinds(self.unjudged)}, the first: {', '.join(self.places)}; with them "
                f"{self.unjudged_others:,} boxes of other persons (--shapes hull uses the bounding "
                "boxes of such shapes)"
            )
        return lines


def _kinds(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} ({count:,} times)" for name, count in counts.items())


def _add_boxes(
    video: AnnotatedVideo,
    file: CvatFile,
    part: TaskTracks,
    vocabulary: Vocabulary,
    rules: _KeyframeRules,
    problems: Problems,
    counts: _Counts,
) -> None:
    """Add the boxes at every keyframe of the annotated frames."""
    times_s = _frames_of(video, part.task, counts)
    every_s = interval_for(times_s) if rules.every_s is None else rules.every_s
    counts.intervals_s.append(every_s)
    for track in part.tracks:
        for box in track.boxes:
            if box.frame >= len(times_s) and not box.outside:
                has = f"{video.path.name} has {len(times_s)} frames"
                message = f"frame {box.frame} (counted from 0), but {has}"
                problems.add(file.path, box.line, f"{message}: is it the same file as in CVAT?")
                break
    if part.num_beyond:
        counts.frames.append(
            f"warning: {printable(file.path)}: {part.num_beyond:,} boxes at frames that the task "
            "does not cover according to its start, stop and step"
        )
    first, last = annotated_frames(part.task)
    last = len(times_s) - 1 if last is None else min(last, len(times_s) - 1)
    kept = [(t, f) for t, f in _keyframes(times_s, every_s) if first <= f <= last]
    by_time: dict[float, list[AnnotatedBox]] = {}
    unjudged: set[float] = set()
    for position, track in enumerate(part.tracks):
        if track.label and track.label not in vocabulary.persons:
            continue
        frames = [box.frame for box in track.boxes]
        person = track.track_id or str(position)
        _count_unseen(track, [frame for _, frame in kept], video, counts)
        for time_s, frame in kept:
            shown = _box_at(track, frames, frame)
            if shown is None or (shown.occluded and not rules.keep_occluded):
                continue
            if shown.shape != "box" and not rules.hulls:
                unjudged.add(time_s)
                counts.unjudged[shown.shape] += 1
                if len(counts.places) < 3:
                    counts.places.append(f"{file.path}:{shown.line}")
                continue
            if shown.shape != "box":
                counts.hulls[shown.shape] += 1
            counts.turned += bool(shown.rotation % 360)
            actions = vocabulary.actions(track.label, shown.attributes)
            by_time.setdefault(time_s, []).append(
                AnnotatedBox(time_s, shown.hull_px, actions, person, shown.line)
            )
    # A keyframe without one of its persons would count detections of that person as wrong.
    counts.unjudged_keyframes += len(unjudged)
    counts.unjudged_others += sum(len(by_time.pop(time_s, ())) for time_s in unjudged)
    video.boxes += [box for _, boxes in sorted(by_time.items()) for box in boxes]
    video.empty += [t for t, _ in kept if t not in by_time and t not in unjudged]


def _count_unseen(
    track: CvatTrack, keyframes: Sequence[int], video: AnnotatedVideo, counts: _Counts
) -> None:
    """Count a person whom no keyframe shows."""
    boxes = [box for box in track.boxes if not box.outside]
    frames = [box.frame for box in track.boxes]
    if boxes and all(_box_at(track, frames, frame) is None for frame in keyframes):
        counts.unseen.append(f"{printable(video.name)}: frame {boxes[0].frame}")


def _frames_of(video: AnnotatedVideo, task: CvatTask, counts: _Counts) -> NDArray[np.float64]:
    """Return the times of the frames that CVAT counted; check the frame size against the task.

    CVAT counts the frames that it decodes: where the file lists another number of frames, and
    exactly CVAT's number can be decoded, these are the frames.
    """
    first, last = annotated_frames(task)
    counted = None if last is None else last + 1
    with VideoReader(video.path) as reader:
        times_s, packets = reader.frame_times_s(), reader.frame_counts().packets
        width, height = reader.frame_size()
        shape = reader.pixel_shape
        if video.size is not None and not has_aspect_ratio(video.size, (width, height), shape):
            raise UserError(
                f"{video.source_file}: annotated on {video.size[0]}x{video.size[1]}, but "
                f"{video.path.name} has {width}x{height}: another video, or rotated"
            )
        if packets != len(times_s):
            of_task = "" if counted is None else f"CVAT's task has {counted}; "
            counts.frames.append(
                f"warning: {printable(video.name)}: {packets} packets in the file, "
                f"{len(times_s)} frames displayed; {of_task}frame numbers count displayed frames"
            )
        if counted is None or counted == len(times_s):
            return times_s
        decoded_s = reader.decoded_times_s()
    stills = task.fields.get("mode") == "annotation" and not task.is_job
    if stills and counted not in (len(times_s), len(decoded_s)):
        raise UserError(
            f"{video.source_file}: a task of {counted} still images, but {video.path.name} has "
            f"{len(times_s)} frames: image numbers are not its frame numbers"
        )
    if len(decoded_s) == len(times_s):
        if first == 0 and task.step == 1 and not task.is_job:
            counts.frames.append(
                f"{printable(video.name)}: {len(times_s)} frames, CVAT's task has {counted}; "
                "frames are counted from the video's first"
            )
        return times_s
    used_s = decoded_s if counted <= len(decoded_s) else times_s
    which = "that can be decoded" if used_s is decoded_s else "in the file"
    counts.frames.append(
        f"warning: {printable(video.name)}: {len(times_s)} frames in the file, {len(decoded_s)} "
        f"can be decoded, {counted} in CVAT's task; frame numbers count those {which}"
    )
    return used_s


def _keyframes(times_s: NDArray[np.float64], every_s: float) -> list[tuple[float, int]]:
    """Return (seconds, nearest frame) of every keyframe within the video."""
    chosen_s = keyframe_times(times_s, every_s)
    nearest = nearest_frames(times_s, chosen_s)
    return list(zip(chosen_s.tolist(), nearest.tolist(), strict=True))


def _box_at(track: CvatTrack, frames: Sequence[int], frame: int) -> CvatBox | None:
    """Return the track's box at a frame as CVAT shows it, None where the person is outside.

    Between two listed boxes it is interpolated linearly, attributes are those of the earlier one;
    before an `outside` box and after the last box it does not move.
    """
    position = bisect.bisect_right(frames, frame) - 1
    if position < 0 or track.boxes[position].outside:
        return None
    before = track.boxes[position]
    if before.frame == frame or position + 1 == len(track.boxes):
        return before
    after = track.boxes[position + 1]
    if after.outside or after.shape != before.shape:
        return before
    return interpolated(before, after, frame)
