"""Label Studio's JSON export of videos: regions of `VideoRectangle`, each a person through time.

https://labelstud.io/tags/videorectangle and https://labelstud.io/guide/export: a region's
`sequence` has boxes in per cent of the frame at frames from 1, at the frame rate of the labelling
configuration; between them it moves evenly, after one that is not `enabled` it is absent. Its
`labels`, and `choices` of the same id, are what the person does.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from numpy.typing import NDArray

from detection.datasets.keyframe_times import describe_intervals, interval_for, keyframe_times
from detection.datasets.plain_names import check_class_name, video_suffix
from detection.errors import Problems, first_few, printable
from detection.formats.json_text import read_json_list
from detection.importers.class_names import name_warnings
from detection.importers.coco_shapes import FieldError, number_of
from detection.importers.custom import AnnotatedBox, AnnotatedData, AnnotatedVideo
from detection.importers.label_studio_regions import Clock, DrawnBox, VideoRegion, box_at, region_of
from detection.importers.regions import Regions, SegmentUse, TemporalSegment
from detection.importers.source_videos import find_video
from detection.video.frame_folder import nearest_frames
from detection.video.reader import VideoReader

Every = float | Literal["auto", "keys"]
_RATES = ("fps", "framerate", "frame_rate")
_PERSONS = ("person", "people", "human", "pedestrian")
_UPLOADED = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of an upload


def read_label_studio_videos(
    path: str | Path,
    videos: str | Path,
    *,
    every_s: Every = "auto",
    fps: float | None = None,
    segments: SegmentUse = "auto",
) -> AnnotatedData:
    """Read an export; the videos of its tasks lie below `videos`.

    every_s: seconds between keyframes (0: every frame; auto: by the video's length; keys: the
    times at which a box is drawn).  fps: frame rate of the labelling configuration; None: the
    task's `fps`, else its frames by its seconds.  segments: of timeline labels, as in `Regions`.
    Raises `UserError` naming the file and the item (`[3].annotations[0].result[2].value`).
    """
    tasks = read_json_list(path)
    reader = _Reader(str(path), Path(videos), every_s, fps)
    for number, task in enumerate(tasks):
        try:
            reader.add(task, f"[{number}]")
        except ValueError as error:
            reader.bad(f"[{number}]", error)
    reader.problems.raise_if_any()
    return reader.data(segments)


class _Reader:
    def __init__(self, path: str, folder: Path, every_s: Every, fps: float | None) -> None:
        self.path, self.folder, self.every_s, self.fps = path, folder, every_s, fps
        self.problems = Problems()
        self.videos: dict[str, AnnotatedVideo] = {}
        self.regions = Regions(path, "unjudged")
        self.classes: dict[str, None] = {}
        self.counts: Counter[str] = Counter()
        self.others: Counter[str] = Counter()
        self.intervals_s: list[float] = []
        self.rates: list[str] = []

    def bad(self, place: str, error: ValueError) -> None:
        field = f".{error.field}" if isinstance(error, FieldError) else ""
        self.problems.add(self.path, place + field, printable(str(error)))

    def add(self, task: Any, place: str) -> None:
        """Add the regions of a task; raises ValueError."""
        annotation, number = self._annotation(_object(task))
        if annotation is None:
            return
        file = _video_of(task, self.folder)
        name = file.relative_to(self.folder).as_posix()
        if name in self.videos:
            raise ValueError(f"video '{name}' is in a task above already: one is required")
        video = AnnotatedVideo(name, file, self.path, False, (1.0, 1.0))
        self.videos[name] = video
        place = f"{place}.annotations[{number}].result"
        found: dict[str, VideoRegion] = {}
        chosen: dict[str, list[str]] = {}
        timeline: list[tuple[float, float, tuple[str, ...]]] = []
        for position, item in enumerate(_list(annotation.get("result"), "result")):
            try:
                self._result(_object(item), f"{place}[{position}]", found, chosen, timeline)
            except ValueError as error:
                self.bad(f"{place}[{position}]", error)
        for identity, names in chosen.items():
            if identity in found:
                found[identity].actions += [n for n in names if n not in found[identity].actions]
        with VideoReader(file) as reader:
            times_s, size_px = reader.frame_times_s(), reader.frame_size()
        clock = self._clock(task, found, times_s, video)
        for first, last, actions in timeline:
            self.regions.segments.append(
                TemporalSegment(video, clock.time_of(first), clock.time_of(last), actions)
            )
        self._sample(video, list(found.values()), clock, times_s, size_px)

    def _annotation(self, task: Mapping[str, Any]) -> tuple[dict[str, Any] | None, int]:
        """Return the annotation of a task that is taken, None for one without."""
        if "annotations" not in task:
            form = "the JSON export, whose tasks have annotations, is required"
            if "completions" in task:
                raise ValueError(f"'completions' of Label Studio below 1.0 found; {form} (1.0 on)")
            raise ValueError(f"no annotations (JSON-MIN, or a task to import?); {form}")
        listed = _list(task["annotations"], "annotations")
        good = [
            (_object(annotation), number)
            for number, annotation in enumerate(listed)
            if not _object(annotation).get("was_cancelled")
        ]
        self.counts["without"] += not good
        self.counts["several"] += len(good) > 1
        return good[-1] if good else (None, 0)

    def _result(
        self,
        item: Mapping[str, Any],
        place: str,
        found: dict[str, VideoRegion],
        chosen: dict[str, list[str]],
        timeline: list[tuple[float, float, tuple[str, ...]]],
    ) -> None:
        kind, value = str(item.get("type", "")).lower(), _object(item.get("value"))
        identity = item.get("id")
        if kind == "videorectangle":
            if not isinstance(identity, str | int) or isinstance(identity, bool):
                raise FieldError("id", f"a text is required, found {str(identity)[:40]}")
            if str(identity) in found:
                raise FieldError("id", f"id {str(identity)[:40]} is there twice")
            region = region_of(item, str(identity), self._names(value.get("labels")), place)
            if region is not None:
                found[region.identity] = region
        elif kind == "choices" and isinstance(identity, str):
            chosen.setdefault(identity, []).extend(self._names(value.get("choices")))
        elif kind == "timelinelabels":
            actions = tuple(self._names(value.get("timelinelabels")))
            # Regions are doubled as timeline labels without ranges where both tags are used.
            for span in _list(value.get("ranges") or [], "value.ranges"):
                first, last = (
                    number_of(_object(span).get(end), "value.ranges") for end in ("start", "end")
                )
                timeline.append((first, last, actions))
        else:
            self.others[printable(kind[:40]) or "(no type)"] += 1

    def _names(self, names: Any) -> list[str]:
        kept = []
        for name in _list(names or [], "value.labels"):
            if not isinstance(name, str):
                raise FieldError("value.labels", f"texts are required, found {str(name)[:40]}")
            check_class_name(name)
            if name.strip().lower() in _PERSONS:
                self.counts["persons"] += 1
                continue
            kept.append(name)
            self.classes[name] = None
        return list(dict.fromkeys(kept))

    def _clock(
        self,
        task: Mapping[str, Any],
        found: Mapping[str, VideoRegion],
        times_s: NDArray[np.float64],
        video: AnnotatedVideo,
    ) -> Clock:
        stated = self.fps
        data = task["data"]
        for name in _RATES:
            if stated is None and isinstance(data.get(name), int | float):
                stated = number_of(data[name], f"data.{name}")
        for region in found.values():
            if stated is None and region.frames and region.duration_s:
                stated = region.frames / region.duration_s
        if stated is not None and not 0 < stated <= 1000:
            raise ValueError(f"{stated:g} frames a second: above 0 to 1000 is required")
        clock = Clock.of(times_s, stated)
        if abs(clock.fps - clock.own_fps) > 1e-9:
            self.rates.append(f"{printable(video.name)} {clock.fps:.4g} for {clock.own_fps:.4g}")
        return clock

    def _sample(
        self,
        video: AnnotatedVideo,
        found: list[VideoRegion],
        clock: Clock,
        times_s: NDArray[np.float64],
        size_px: tuple[int, int],
    ) -> None:
        """Add the boxes at every keyframe."""
        keys: list[dict[int, DrawnBox]] = []
        for region in found:
            try:
                keys.append(clock.by_frame(region.keys))
            except ValueError as error:
                self.bad(f"{region.place}.value.sequence", error)
                return
        for time_s, frame in self._keyframes(keys, times_s, clock):
            self.regions.see(video, time_s)
            for region, by_frame in zip(found, keys, strict=True):
                box = box_at(region.keys, by_frame, frame, clock.number_of(time_s))
                if box is None:
                    continue
                self.counts["turned"] += bool(box.rotation % 360)
                made = AnnotatedBox(
                    time_s, box.hull_01(size_px), tuple(region.actions), region.person, region.place
                )
                self.regions.add(video, made)

    def _keyframes(
        self, keys: list[dict[int, DrawnBox]], times_s: NDArray[np.float64], clock: Clock
    ) -> list[tuple[float, int]]:
        """Return the times of the keyframes, each with its frame from 0."""
        if self.every_s == "keys":
            drawn: dict[int, float] = {}
            for by_frame in keys:
                for frame, key in by_frame.items():
                    drawn.setdefault(frame, clock.exact_time(key, frame))
            return [(time_s, frame) for frame, time_s in sorted(drawn.items())]
        every_s = interval_for(times_s) if self.every_s == "auto" else float(self.every_s)
        self.intervals_s.append(every_s)
        chosen_s = keyframe_times(times_s, every_s)
        return list(zip(chosen_s.tolist(), nearest_frames(times_s, chosen_s).tolist(), strict=True))

    def data(self, segments: SegmentUse) -> AnnotatedData:
        """Return what was read, with notes."""
        notes = [*filter(None, [describe_intervals(self.intervals_s)])]
        videos = list(self.videos.values())
        notes += self.regions.hand_over(videos, segments)
        said = {
            "without": "tasks without an annotation left out",
            "several": "tasks with several annotations: the last that is not skipped was taken",
            "turned": "rotated boxes taken as the upright boxes around them",
            "persons": "labels that only say 'person' taken as no action",
        }
        notes += [f"{self.counts[k]:,} {words}" for k, words in said.items() if self.counts[k]]
        if self.others:
            listed = [f"{kind} ({count:,})" for kind, count in self.others.items()]
            notes.append(f"results of other types left out: {first_few(listed, separator=', ')}")
        if self.rates:
            notes.append(
                f"{len(self.rates):,} videos annotated at another frame rate than their own: "
                f"{first_few(self.rates)} (--fps says otherwise)"
            )
        classes = list(dict.fromkeys([*self.classes, *self.regions.segment_classes]))
        return AnnotatedData(videos, classes, {}, [*notes, *name_warnings(classes)])


def _video_of(task: Mapping[str, Any], folder: Path) -> Path:
    """Find a task's video by the addresses among its data; raises ValueError."""
    data = task.get("data")
    if not isinstance(data, dict):
        raise FieldError("data", "an object that names the video is required")
    texts = [data.get("video"), *data.values(), task.get("file_upload")]
    names = [name for text in texts if isinstance(text, str) for name in _names_in(text)]
    error: ValueError | None = None
    for name in dict.fromkeys(names):
        try:
            return find_video(folder, name)
        except ValueError as refused:
            error = error or refused
    raise FieldError("data", str(error) if error else "no video is named")


def _names_in(address: str) -> list[str]:
    """Return the names that a video's address may stand for; none for what is no video's."""
    parts = urlsplit(address) if "?" in address or "://" in address else None
    path = unquote(parts.path) if parts else address
    local = parse_qs(parts.query).get("d", []) if parts else []  # /data/local-files/?d=PATH
    names = [*local, path]
    last = [name.replace("\\", "/").rpartition("/")[2] for name in names]
    plain = [_UPLOADED.sub("", name, count=1) for name in last if _UPLOADED.match(name)]
    return [name for name in (*last, *plain) if video_suffix(name)]


def _object(item: Any) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise ValueError(f"an object is required, found {str(item)[:40]}")
    return item


def _list(value: Any, field: str) -> list[Any]:
    if not isinstance(value, list):
        raise FieldError(field, f"a list is required, found {str(value)[:40]}")
    return value
