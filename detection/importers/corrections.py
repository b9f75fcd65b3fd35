"""Merges corrections from a review page into a copy of a data set: see docs/review.md.

A page exports all persons at the reviewed keyframes. The rows of these keyframes are replaced, so
that deletions count; all others are kept.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from detection.datasets.actor_table import read_video_ids
from detection.datasets.ava_csv import (
    AvaRows,
    read_ground_truth,
    read_keyframe_list,
    write_ground_truth,
)
from detection.datasets.folder import DatasetFolder, Split, SplitPart, inside
from detection.errors import Problems, UserError
from detection.files import new_dataset_folder, read_lines, write_text
from detection.importers.source_videos import (
    copy_or_link,
    copy_or_link_video,
    find_video,
    write_video_sources,
)
from detection.structures import Keyframe, LabelMap


@dataclass(frozen=True)
class MergeReport:
    """What a merge changed.

    num_keyframes: reviewed keyframes.
    removed: rows of the split's annotations that were removed at reviewed keyframes.
    added: rows that were added at reviewed keyframes.
    new_videos: ids of videos that were added to the split.
    num_rows: rows of the split's annotations after the merge.
    """

    num_keyframes: int
    removed: int
    added: int
    new_videos: tuple[str, ...]
    num_rows: int


def merge_corrections(
    dataset: str | Path,
    out: str | Path,
    *,
    split: str,
    corrections: str | Path,
    reviewed: str | Path,
    videos: str | Path | None = None,
    link: bool = False,
    overwrite: bool = False,
) -> MergeReport:
    """Write the data set folder `out`: `dataset` with the reviewed keyframes' rows replaced.

    corrections: ground truth in AVA's format, two columns for a keyframe without persons.
    reviewed: `video_id,time` of every reviewed keyframe.  videos: folder of videos that the data
    set does not have yet; they are added to the split.  link: hard-link files where possible, in
    place of copying them.  overwrite: replace an existing data set folder, which may be `dataset`.
    Raises `UserError` naming file and row before anything is written.
    """
    folder = DatasetFolder.open(dataset)
    part = folder.split(split)
    stated = folder.file.splits[split]
    merged, keyframes = _read(folder, Path(corrections), Path(reviewed))
    rows = AvaRows.from_rows([], boxes_01=[], action_id=[])
    if part.annotations.stat().st_size:
        rows = read_ground_truth(part.annotations)
    new_ids = _unknown_videos(folder, part, keyframes)
    sources = _new_videos(new_ids, folder, videos, reviewed)
    others = np.array([rows.keyframe(row) not in keyframes for row in range(len(rows))], bool)
    empty = tuple(key for key in rows.empty_keyframes if key not in keyframes)
    kept = replace(rows.select(others), empty_keyframes=empty)
    _check_paths(folder, stated, adds_videos=bool(sources), adds_ids=bool(new_ids))
    with new_dataset_folder(out, overwrite=overwrite) as building:
        copy = partial(copy_or_link, link=link)
        shutil.copytree(folder.root, building, dirs_exist_ok=True, copy_function=copy)
        annotations = inside(building, stated.annotations, what="the split's annotation file")
        annotations.unlink()
        write_ground_truth(annotations, _joined(kept, merged))
        for video_id, source in sources.items():
            assert folder.file.videos is not None
            place = inside(building, folder.file.videos, what="the folder of videos")
            copy_or_link_video(source, place, video_id, link=link)
        if sources:
            write_video_sources(building, {str(path): name for name, path in sources.items()})
        if stated.videos is not None and new_ids:
            listed = inside(building, stated.videos, what="the split's list of videos")
            lines = read_lines(listed, what="list of videos")
            listed.unlink()
            write_text(listed, "\n".join([*lines, *new_ids]) + "\n")
    return MergeReport(
        num_keyframes=len(keyframes),
        removed=len(rows) - len(kept),
        added=len(merged),
        new_videos=tuple(new_ids),
        num_rows=len(kept) + len(merged),
    )


def _check_paths(
    folder: DatasetFolder, stated: SplitPart, *, adds_videos: bool, adds_ids: bool
) -> None:
    """Refuse, before anything is written, paths outside the folder that is written."""
    file = folder.file
    written = [(stated.annotations, "the split's annotation file")]
    if adds_videos:
        written.append((file.videos or "", "the folder of videos"))
    if adds_ids and stated.videos is not None:
        written.append((stated.videos, "the split's list of videos"))
    for path, what in written:
        inside(folder.root, path, what=what)
    source = file.videos if file.frames is None else file.frames.folder
    relative = [file.label_map, source or ""]
    for part in file.splits.values():
        relative += [part.annotations, *filter(None, (part.exclusions, part.videos))]
        relative += part.boxes.values()
    for path in relative:
        if not Path(path).is_absolute() and ".." in Path(path).parts:
            inside(folder.root, path, what="a path of dataset.yaml, which the copy would repeat,")


def _read(
    folder: DatasetFolder, corrections: Path, reviewed: Path
) -> tuple[AvaRows, frozenset[Keyframe]]:
    """Read both files and check them against each other, the classes and the exclusive groups."""
    for path in (corrections, reviewed):
        if not path.is_file():
            raise UserError(f"{path}: file not found; a review page exports it")
    keyframes = read_keyframe_list(reviewed)
    if not keyframes:
        raise UserError(f"{reviewed}: lists no reviewed keyframe")
    rows = read_ground_truth(corrections)
    label_map = folder.read_label_map()
    problems = Problems()
    known = np.isin(rows.action_id, [-1, *label_map.ids])
    for row in np.flatnonzero(~known).tolist():
        message = f"class {rows.action_id[row]} is not in {folder.label_map_path}"
        problems.add(corrections, int(rows.line[row]), message)
    for row in range(len(rows)):
        if rows.keyframe(row) not in keyframes:
            message = f"keyframe {rows.keyframe(row)} is not listed in {reviewed}"
            problems.add(corrections, int(rows.line[row]), message)
    there = set(rows.keyframes())
    for key in sorted(keyframes - there):
        message = f"{key} has no row in {corrections} (two columns without persons): cut off?"
        problems.add(reviewed, None, message)
    for key in sorted(set(rows.empty_keyframes) - keyframes):
        problems.add(corrections, None, f"keyframe {key} is not listed in {reviewed}")
    _check_exclusive(rows, corrections, folder, label_map, problems)
    problems.raise_if_any()
    return rows, keyframes


def _check_exclusive(
    rows: AvaRows, path: Path, folder: DatasetFolder, label_map: LabelMap, problems: Problems
) -> None:
    persons = np.full(len(rows), -1) if rows.person_id is None else rows.person_id
    for name, columns in folder.exclusive_groups(label_map).items():
        ids = [label_map.ids[column] for column in columns]
        first: dict[tuple[object, ...], int] = {}
        for row in np.flatnonzero(np.isin(rows.action_id, ids)).tolist():
            who = (rows.keyframe(row), *rows.boxes_01[row].tolist(), int(persons[row]))
            before = first.setdefault(who, int(rows.action_id[row]))
            if before != rows.action_id[row]:
                message = f"one person with classes {before} and {rows.action_id[row]} of '{name}'"
                problems.add(path, int(rows.line[row]), f"{message}, which exclude each other")


def _unknown_videos(
    folder: DatasetFolder, part: Split, keyframes: frozenset[Keyframe]
) -> list[str]:
    """Return reviewed videos in no split; raises `UserError` for those of another split."""
    new = {key.video_id for key in keyframes} - _videos_of(part)
    for name in folder.file.splits:
        if name == part.name or not new:
            continue
        if other := sorted(new & _videos_of(folder.split(name))):
            raise UserError(f"video '{other[0]}' belongs to split '{name}', not to '{part.name}'")
    return sorted(new)


def _videos_of(part: Split) -> set[str]:
    listed: set[str] = set()
    if part.videos is not None:
        listed = set(read_video_ids(part.videos))
    if not part.annotations.stat().st_size:
        return listed
    rows = read_ground_truth(part.annotations)
    return listed | {*rows.video_names, *(key.video_id for key in rows.empty_keyframes)}


def _new_videos(
    ids: list[str], folder: DatasetFolder, videos: str | Path | None, reviewed: str | Path
) -> dict[str, Path]:
    """Return the file of each new video that the folder does not contain."""
    if ids and folder.file.frames is not None:
        raise UserError(
            f"{reviewed}: video '{ids[0]}' is not in {folder.root}, which contains extracted "
            "frames: videos can only be added to data sets of videos"
        )
    sources: dict[str, Path] = {}
    for video_id in ids:
        if "/" in video_id:
            raise UserError(f"{reviewed}: '{video_id}' is not a video id (it would be a path)")
        try:
            folder.video_path(video_id)
        except UserError:
            if videos is None:
                raise UserError(
                    f"{reviewed}: video '{video_id}' is not in {folder.root}; "
                    "--videos DIR adds it from there"
                ) from None
            try:
                sources[video_id] = find_video(Path(videos), video_id)
            except ValueError as error:
                raise UserError(str(error)) from error
    return sources


def _joined(kept: AvaRows, merged: AvaRows) -> AvaRows:
    """Return the rows of both, by video (in the order of the file, then new ones) and time."""
    names = list(dict.fromkeys([*kept.video_names, *merged.video_names]))
    place = {name: number for number, name in enumerate(names)}
    parts = (kept, merged)
    index = np.concatenate(
        [np.array([place[n] for n in p.video_names], np.int32)[p.video_index] for p in parts]
    )
    person = None
    if any(part.person_id is not None for part in parts):
        person = np.concatenate(
            [np.full(len(p), -1) if p.person_id is None else p.person_id for p in parts]
        )
    time_us = np.concatenate([part.time_us for part in parts])
    order = np.lexsort([time_us, index])
    return AvaRows(
        path="(merged)",
        video_names=tuple(names),
        video_index=index.astype(np.int32),
        time_us=time_us,
        boxes_01=np.concatenate([part.boxes_01 for part in parts]),
        action_id=np.concatenate([part.action_id for part in parts]),
        person_id=person,
        empty_keyframes=tuple(sorted({*kept.empty_keyframes, *merged.empty_keyframes})),
    ).select(order)
