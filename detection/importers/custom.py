"""Writes a user's own annotations, of any format, to a data set folder.

A format's reader makes one `AnnotatedVideo` per video, with classes by name; `import_annotations`
numbers the classes, splits the videos into train and val, and calls `write_dataset`.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detection.datasets.label_map import read_label_map
from detection.errors import Problems, UserError, first_few, printable
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

    def set_size(self, size: tuple[float, float]) -> None:
        """Set the size of the frames; raises ValueError where another one was stated before."""
        if self.size not in (None, size):
            assert self.size is not None
            raise ValueError(
                f"'{self.name}' has frames of {self.size[0]:g}x{self.size[1]:g} above and of "
                f"{size[0]:g}x{size[1]:g} here: one size a video is required"
            )
        self.size = size


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
    seed: of the draw of these videos.
    exclusive: names of mutually exclusive classes by group.
    leave_out_bad: leave out and list invalid rows; else they are errors.
    """

    name: str = "my actions"
    label_map: Path | None = None
    val_videos: tuple[str, ...] = ()
    val_share: float = VAL_SHARE
    seed: int = 0
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
    splits = split_videos(videos, choices)
    report = write_dataset(
        out,
        [_source_video(video, label_map, with_persons) for video in videos],
        header=DatasetHeader(
            name=choices.name,
            label_map=label_map,
            splits=splits,
            exclusive=_groups({**exclusive, **choices.exclusive}, label_map, choices),
        ),
        rules=ImportRules(leave_out=choices.leave_out_bad),
        overwrite=overwrite,
        link=link,
        show_progress=show_progress,
    )
    named = choices.val_videos or choices.val_share == 0 or any(video.split for video in videos)
    notes = [] if named else draw_notes(videos, splits, choices)
    return replace(report, notes=(*notes, *report.notes))


def split_videos(videos: Sequence[AnnotatedVideo], choices: Choices) -> dict[str, list[str]]:
    """Return the names of the videos of `train` and `val`; a video is never in both.

    By the videos named in `choices`, else by the splits of the source, else by `choose_val`.
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
        val = choose_val(counts, choices.val_share, choices.seed)
    chosen = set(val)
    splits = {
        "train": [name for name in names if name not in chosen],
        "val": [name for name in names if name in chosen],
    }
    for split, members in splits.items():
        if not members:
            raise UserError(f"no video is left for {split}: {len(names)} in all")
    return splits


def choose_val(counts: Mapping[str, Counter[str]], share: float, seed: int = 0) -> list[str]:
    """Draw about `share` of the videos of each class for val, at random; the same for a seed.

    counts: labels by class of each video. A class of which two videos or more tell is in both
    splits wherever that can be, one of a single video in train; at least one video is drawn and one
    is not.
    """
    names = sorted(counts)
    classes = sorted({name for of_video in counts.values() for name in of_video})
    has = np.array([[c in counts[name] for c in classes] for name in names], bool)
    has = has.reshape(len(names), len(classes))
    generator = np.random.default_rng(seed)
    best, least = np.zeros(len(names), bool), np.inf
    for attempt in range(20 if len(names) <= 200 else 3):
        start = generator.random(len(names)) < share * bool(attempt)  # the first one: no video
        drawn, cost = _draw(has, share, start, generator)
        if cost < least:
            best, least = drawn, cost
        if cost < _MISSING:
            break
    return [name for name, is_val in zip(names, best.tolist(), strict=True) if is_val]


# What a split costs: a class lost to train, a class missing in one split, and otherwise the videos
# that a class or the whole has too many or too few.
_LOST, _MISSING = 1e7, 1e4


def _draw(
    has: NDArray[np.bool_], share: float, start: NDArray[np.bool_], generator: np.random.Generator
) -> tuple[NDArray[np.bool_], float]:
    """Return which of V videos are drawn, and what that costs, for (V, A) classes of videos.

    From the (V,) videos of `start` on it moves or exchanges videos, by random choice among the
    best, until none makes it cheaper.
    """
    num_videos = len(has)
    member = has.astype(np.int64)
    holders = member.sum(axis=0)
    aim = np.clip(share * holders, np.minimum(1, holders - 1), np.maximum(1, holders - 1))

    def costs(val: NDArray[np.int64], size: NDArray[np.int64]) -> NDArray[np.float64]:
        lost = (val == holders).sum(axis=-1) * _LOST
        missing = ((val == 0) & (holders > 1)).sum(axis=-1) * _MISSING
        off = np.abs(val - aim)[..., holders > 1].sum(axis=-1)
        cost = lost + missing + off + 0.5 * np.abs(size - share * num_videos)
        return np.where((size < 1) | (size >= num_videos), np.inf, cost)

    drawn = start.copy()
    cost = float(costs(member[drawn].sum(axis=0), np.array(drawn.sum())))
    while True:
        sign = np.where(drawn, -1, 1)
        val, size = member[drawn].sum(axis=0), int(drawn.sum())
        found = costs(val + sign[:, None] * member, size + sign)
        moves = np.stack([np.arange(num_videos)] * 2, axis=1)
        inside, outside = np.flatnonzero(drawn), np.flatnonzero(~drawn)
        if found.min() >= cost and num_videos <= 200 and len(inside):
            moves = np.stack(np.meshgrid(inside, outside), axis=-1).reshape(-1, 2)
            changed = val - member[moves[:, 0]] + member[moves[:, 1]]
            found = costs(changed, np.full(len(moves), size))
        if not len(found) or found.min() >= cost - 1e-9:
            return drawn, cost
        move = moves[generator.choice(np.flatnonzero(found <= found.min() + 1e-9))]
        drawn[np.unique(move)] ^= True
        cost = float(found.min())


def draw_notes(
    videos: Sequence[AnnotatedVideo], splits: Mapping[str, Sequence[str]], choices: Choices
) -> list[str]:
    """Say which videos were drawn for val, how many of each class, and which class is in one."""
    holders: dict[str, set[str]] = {}
    for video in videos:
        for name in {name for box in video.boxes for name in box.actions}:
            holders.setdefault(name, set()).add(video.name)
    val = set(splits["val"])
    shares = [
        f"{printable(name)} {len(holders[name] & val)} of {len(holders[name])}"
        for name in sorted(holders)
    ]
    drawn = first_few([*map(printable, splits["val"])], most=20, separator=", ")
    by_class = first_few(shares, most=20, separator=", ")
    lines = [
        f"val drawn at random (--seed {choices.seed}): {len(val)} of {len(videos)} videos ({drawn})"
        + f"; videos by class: {by_class}" * bool(shares)
    ]
    for split, members in splits.items():
        lacking = [printable(n) for n in sorted(holders) if not holders[n] & set(members)]
        if lacking:
            lines.append(
                f"warning: {len(lacking)} classes without a video in {split}: {first_few(lacking)}"
            )
    return lines


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
