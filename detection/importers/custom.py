"""Writes a user's own annotations, of any format, to a data set folder.

A format's reader makes one `AnnotatedVideo` per video, with classes by name; `import_annotations`
numbers the classes, splits the videos into train and val, and calls `write_dataset`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detection.datasets.label_map import read_label_map
from detection.errors import Problems, UserError, first_few
from detection.importers.write import (
    DatasetHeader,
    ImportReport,
    ImportRules,
    SourceVideo,
    write_dataset,
)
from detection.structures import LabelMap

VAL_SHARE = 0.2


@dataclass(frozen=True)
class AnnotatedBox:
    """One person in one frame.

    frame_or_time: frame number from 0, or seconds (`AnnotatedVideo.by_frame`).
    box: x1, y1, x2, y2.
    actions: names of classes; may be empty.
    person: the source's id, None where unknown.
    line: line of the source file, 0 where it has none.
    """

    frame_or_time: float
    box: tuple[float, float, float, float]
    actions: tuple[str, ...]
    person: str | None
    line: int | str


@dataclass
class AnnotatedVideo:
    """One video and the boxes in it.

    name: the source's name.
    path: the video file.
    source_file: the annotation file.
    by_frame: boxes have frame numbers; else times in seconds.
    size: (width, height) that boxes are relative to, as in `SourceVideo`.
    boxes: one per person and frame.
    empty: frame numbers or times without persons.
    split: "train" or "val" where the source says so.
    """

    name: str
    path: Path
    source_file: str
    by_frame: bool
    size: tuple[float, float] | None
    boxes: list[AnnotatedBox] = field(default_factory=list)
    empty: list[float] = field(default_factory=list)
    split: str | None = None


@dataclass(frozen=True)
class AnnotatedData:
    """The content of an annotation file, or of several.

    videos: the annotated videos.
    classes: in the order of the source.
    exclusive: mutually exclusive classes by attribute.
    notes: what the user should know, a line each.
    """

    videos: list[AnnotatedVideo]
    classes: list[str]
    exclusive: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Choices:
    """Options of an import.

    name: of the data set.
    label_map: file of the classes and their ids; None: every class that occurs gets an id from 1.
    val_videos: names of the videos of `val`.
    val_share: share of the videos for `val`, where none are named.
    exclusive: names of mutually exclusive classes by group.
    leave_out_bad: leave out and list invalid rows; else they are errors.
    """

    name: str = "my actions"
    label_map: Path | None = None
    val_videos: tuple[str, ...] = ()
    val_share: float = VAL_SHARE
    exclusive: Mapping[str, Sequence[str]] = field(default_factory=dict)
    leave_out_bad: bool = False


def import_annotations(
    out: str | Path,
    videos: Sequence[AnnotatedVideo],
    *,
    classes: Sequence[str],
    exclusive: Mapping[str, Sequence[str]],
    choices: Choices,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out`.

    classes: in the order of their ids; other classes that occur follow, sorted by name.
    exclusive: groups that the source declares; groups of `choices` replace those of the same name.
    Raises `UserError` naming file and line; then `out` stays as it was.
    """
    if not videos:
        raise UserError("these annotations contain no video")
    problems = Problems()
    label_map = _label_map(videos, classes, choices, problems)
    problems.raise_if_any()
    with_persons = any(box.person is not None for video in videos for box in video.boxes)
    return write_dataset(
        out,
        [_source_video(video, label_map, with_persons) for video in videos],
        header=DatasetHeader(
            name=choices.name,
            label_map=label_map,
            splits=split_videos(videos, choices),
            exclusive=_groups({**exclusive, **choices.exclusive}, label_map, choices),
        ),
        rules=ImportRules(leave_out=choices.leave_out_bad),
        overwrite=overwrite,
        link=link,
        show_progress=show_progress,
    )


def split_videos(videos: Sequence[AnnotatedVideo], choices: Choices) -> dict[str, list[str]]:
    """Return the names of the videos of `train` and `val`; a video is never in both.

    By the videos named in `choices`, else by the splits of the source, else by a share of the
    videos, chosen such that as many classes as possible are in both.
    """
    names = [video.name for video in videos]
    if choices.val_videos:
        val = [_named(names, name) for name in choices.val_videos]
    elif any(video.split for video in videos):
        val = [video.name for video in videos if video.split == "val"]
    elif choices.val_share == 0:
        return {"train": names}
    elif len(videos) == 1:
        raise UserError(
            f"one video ({names[0]}) cannot be in train and in val: add another video, cut it into "
            "two files, or give --val-share 0 for a data set without val"
        )
    else:
        counts = {v.name: Counter(a for box in v.boxes for a in box.actions) for v in videos}
        val = choose_val(counts, choices.val_share)
    chosen = set(val)
    splits = {
        "train": [name for name in names if name not in chosen],
        "val": [name for name in names if name in chosen],
    }
    for split, members in splits.items():
        if not members:
            raise UserError(f"no video is left for {split}: {len(names)} in all")
    return splits


def choose_val(counts: Mapping[str, Counter[str]], share: float) -> list[str]:
    """Choose about `share` of the videos (at least one) for val; deterministic.

    Each step chooses the video that adds most new classes to val, without taking a class's last
    example from train; between equals, the one whose number of labels is nearest to the mean.
    """
    number = min(max(1, round(share * len(counts))), len(counts) - 1)
    mean = sum(sum(c.values()) for c in counts.values()) / len(counts)
    holders = Counter(name for c in counts.values() for name in set(c))
    chosen: list[str] = []
    while len(chosen) < number:
        have = {name for video in chosen for name in counts[video]}

        def cost(video: str, have: set[str] = have) -> tuple[int, int, float, str]:
            lost = sum(1 for name in counts[video] if holders[name] == 1)
            gained = sum(1 for name in counts[video] if name not in have)
            return lost, -gained, abs(sum(counts[video].values()) - mean), video

        best = min((video for video in counts if video not in chosen), key=cost)
        holders.subtract(set(counts[best]))
        chosen.append(best)
    return chosen


def _named(names: Sequence[str], name: str) -> str:
    matches = [n for n in names if name in (n, Path(n).name, Path(n).stem)]
    if len(matches) != 1:
        known = first_few(names, most=5, separator=", ")
        raise UserError(f"--val-videos '{name}': {len(matches)} videos of that name; {known}")
    return matches[0]


def _label_map(
    videos: Sequence[AnnotatedVideo], classes: Sequence[str], choices: Choices, problems: Problems
) -> LabelMap:
    """Return the classes; where a label map is given, every class that occurs must be in it."""
    used = {name for video in videos for box in video.boxes for name in box.actions}
    if choices.label_map is None:
        names = list(dict.fromkeys([*classes, *sorted(used - set(classes))]))
        if not names:
            raise UserError(f"{videos[0].source_file}: no class in {len(videos)} videos")
        return LabelMap(tuple(names), tuple(range(1, len(names) + 1)))
    label_map = read_label_map(choices.label_map)
    for video in videos:
        for box in video.boxes:
            for name in box.actions:
                if name not in label_map.index_by_name:
                    close = difflib.get_close_matches(name, label_map.names, n=1)
                    hint = f", did you mean '{close[0]}'?" if close else ""
                    message = f"class {name!r} is not in {choices.label_map}{hint}"
                    problems.add(video.source_file, box.line or None, message)
    return label_map


def _groups(
    groups: Mapping[str, Sequence[str]], label_map: LabelMap, choices: Choices
) -> dict[str, list[str]]:
    """Return the exclusive groups, without classes that are not in the label map."""
    kept: dict[str, list[str]] = {}
    seen: dict[str, str] = {}
    for group, names in groups.items():
        for name in names:
            if name not in label_map.index_by_name and group in choices.exclusive:
                raise UserError(f"--exclusive {group}: '{name}' is not a class of this data set")
            if seen.setdefault(name, group) != group:
                raise UserError(f"class '{name}' is in two exclusive groups, {seen[name]}, {group}")
        known = [name for name in names if name in label_map.index_by_name]
        if len(known) > 1:
            kept[group] = known
    return kept


def _source_video(video: AnnotatedVideo, label_map: LabelMap, with_persons: bool) -> SourceVideo:
    """Make one row per box and action, and number the persons."""
    rows = [
        (box, number, -1 if name is None else label_map.index_by_name[name])
        for box, number in zip(video.boxes, _person_numbers(video), strict=True)
        for name in dict.fromkeys(box.actions) or [None]
    ]
    when = [box.frame_or_time for box, _, _ in rows]
    by_frame = video.by_frame
    return SourceVideo(
        name=video.name,
        path=video.path,
        boxes=np.array([box.box for box, _, _ in rows], np.float64).reshape(-1, 4),
        size=video.size,
        frame=np.array(when, np.int64) if by_frame else None,
        time_s=None if by_frame else np.array(when, np.float64),
        action=np.array([action for _, _, action in rows], np.int64),
        person=np.array([number for _, number, _ in rows], np.int64) if with_persons else None,
        source_file=video.source_file,
        line=[box.line for box, _, _ in rows],
        empty_frame=[int(frame) for frame in video.empty] if by_frame else (),
        empty_time_s=() if by_frame else video.empty,
    )


def _person_numbers(video: AnnotatedVideo) -> list[int]:
    """Return a number per box: the source's ids where all are numbers, else counted from 1 on.

    A box without an id is a person of its own (equal boxes of one frame are one person).
    """
    names = {box.person for box in video.boxes if box.person is not None}
    plain = all(name.isascii() and name.isdigit() and len(name) < 10 for name in names)
    number: dict[str, int] = {}
    unknown: dict[tuple[float, ...], int] = {}
    last = max(map(int, names), default=0) if plain else len(names)
    found = []
    for box in video.boxes:
        if box.person is None:
            found.append(unknown.setdefault((box.frame_or_time, *box.box), last + 1 + len(unknown)))
        elif plain:
            found.append(int(box.person))
        else:
            found.append(number.setdefault(box.person, len(number) + 1))
    return found
