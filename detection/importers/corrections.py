"""Merges what pages export into a copy of a data set: see docs/review.md.

The rows of each keyframe in a label file are replaced, so that deletions count; all others are
kept.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from detection.datasets.actor_table import read_video_ids
from detection.datasets.ava_csv import AvaRows, read_ground_truth, write_ground_truth
from detection.datasets.folder import DatasetFolder, Split, SplitPart, inside
from detection.datasets.label_file import (
    JoinedLabels,
    LabelledVideo,
    join_label_files,
    read_label_file,
)
from detection.datasets.open_video import keyframe_outside, open_video
from detection.errors import UserError, first_few
from detection.files import new_dataset_folder, read_lines, write_text
from detection.importers.source_videos import (
    copy_or_link,
    copy_or_link_video,
    find_video,
    write_video_sources,
)
from detection.structures import Keyframe
from detection.video.reader import VideoReader


@dataclass(frozen=True)
class MergeReport:
    """What a merge changed.

    num_keyframes: keyframes that were taken from label files.
    removed: rows of the split's annotations that were removed at these keyframes.
    added: rows that were added at these keyframes.
    new_videos: ids of videos that were added to the split.
    num_rows: rows of the split's annotations after the merge.
    notes: what the user should know, a line each.
    """

    num_keyframes: int
    removed: int
    added: int
    new_videos: tuple[str, ...]
    num_rows: int
    notes: tuple[str, ...] = ()


def merge_corrections(
    dataset: str | Path,
    out: str | Path,
    *,
    split: str,
    corrections: Sequence[str | Path],
    prefer: str | Path | None = None,
    videos: str | Path | None = None,
    link: bool = False,
    overwrite: bool = False,
) -> MergeReport:
    """Write the data set folder `out`: `dataset` with the label files' keyframes replaced.

    corrections: label files (`detection.datasets.label_file`).  prefer: the one that decides where
    they disagree.  videos: folder of videos that the data set does not have yet; they are added to
    the split.  link: hard-link files where possible, in place of copying them.  overwrite: replace
    an existing data set folder, which may be `dataset`.  Raises `UserError` before anything is
    written.
    """
    folder = DatasetFolder.open(dataset)
    part = folder.split(split)
    stated = folder.file.splits[split]
    joined = join_label_files([read_label_file(path) for path in corrections], prefer=prefer)
    what = joined.paths[0]
    _check_classes(joined, folder)
    labelled, notes = decided_keyframes(joined.videos, keep_partly=split == "train")
    merged = _rows(labelled, joined)
    keyframes = frozenset(merged.keyframes())
    if not keyframes:
        raise UserError(f"{what}: holds no keyframe to merge" + "".join(f"; {n}" for n in notes))
    rows = AvaRows.from_rows([], boxes_01=[], action_id=[])
    if part.annotations.stat().st_size:
        rows = read_ground_truth(part.annotations)
    new_ids = _unknown_videos(folder, part, keyframes)
    sources = new_videos(new_ids, folder, videos, what)
    check_times(labelled, folder, sources, known=frozenset(rows.keyframes()), path=what)
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
        _add_videos(building, folder, sources, link=link)
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
        notes=(*joined.notes, *notes),
    )


def _add_videos(
    building: Path, folder: DatasetFolder, sources: Mapping[str, Path], *, link: bool
) -> None:
    for video_id, source in sources.items():
        assert folder.file.videos is not None
        place = inside(building, folder.file.videos, what="the folder of videos")
        copy_or_link_video(source, place, video_id, link=link)
    if sources:
        write_video_sources(building, {str(path): name for name, path in sources.items()})


def decided_keyframes(
    videos: Sequence[LabelledVideo], *, keep_partly: bool
) -> tuple[list[LabelledVideo], list[str]]:
    """Return the videos without keyframes at which people are undecided, and notes about these.

    keep_partly: keep those at which at least one person is decided.
    """
    kept: list[LabelledVideo] = []
    left_out: list[str] = []
    partly: list[str] = []
    for video in videos:
        persons = {time for person in video.people for time in person.times_us.tolist()}
        out = set()
        for time, count in zip(video.keyframes_us.tolist(), video.undecided.tolist(), strict=True):
            if count:
                key = str(Keyframe(video.video_id, time / 1e6))
                stays = keep_partly and time in persons
                (partly if stays else left_out).append(key)
                if not stays:
                    out.add(time)
        kept.append(_without(video, out))
    notes = []
    for keys, does in (
        (partly, "kept with those who are decided"),
        (left_out, "left out"),
    ):
        if keys:
            many = f"{len(keys):,} keyframe{'s' * (len(keys) > 1)} with undecided people {does}"
            notes.append(f"{many}: {first_few(keys)}")
    return kept, notes


def _without(video: LabelledVideo, times: set[int]) -> LabelledVideo:
    stays = ~np.isin(video.keyframes_us, list(times))
    people = []
    for person in video.people:
        rows = ~np.isin(person.times_us, list(times))
        if rows.any():
            columns = ("times_us", "boxes_01", "labels")
            people.append(replace(person, **{c: getattr(person, c)[rows] for c in columns}))
    return replace(
        video,
        keyframes_us=video.keyframes_us[stays],
        undecided=video.undecided[stays],
        people=tuple(people),
    )


def _check_classes(joined: JoinedLabels, folder: DatasetFolder) -> None:
    """Refuse labels of other classes than the data set's: what was not asked is not labelled."""
    label_map = folder.read_label_map()
    path, where = joined.paths[0], folder.label_map_path
    ours = set(zip(label_map.names, label_map.ids, strict=True))
    theirs = set(zip(joined.classes.names, joined.classes.ids, strict=True))
    if odd := sorted(theirs - ours):
        raise UserError(f"{path}: class '{odd[0][0]}' ({odd[0][1]}) is not in {where}")
    if odd := sorted(ours - theirs):
        raise UserError(
            f"{path}: lacks class '{odd[0][0]}' ({odd[0][1]}) of {where}: its labels would be lost"
        )
    for group, columns in folder.exclusive_groups(label_map).items():
        names = [label_map.names[column] for column in columns]
        own = [joined.classes.index_by_name[name] for name in names]
        for video in joined.videos:
            for person in video.people:
                for row in np.flatnonzero(person.labels[:, own].sum(axis=1) > 1).tolist():
                    two = [joined.classes.names[c] for c in own if person.labels[row, c]][:2]
                    key = Keyframe(video.video_id, person.times_us[row] / 1e6)
                    raise UserError(
                        f"{path}: {key}: one person with '{two[0]}' and '{two[1]}' of '{group}', "
                        "which exclude each other"
                    )


def check_times(
    videos: Sequence[LabelledVideo],
    folder: DatasetFolder,
    sources: Mapping[str, Path],
    *,
    known: frozenset[Keyframe],
    path: str,
) -> None:
    """Raise `UserError` for a keyframe outside its video.

    sources: files of videos that the folder does not have.  known: keyframes that are fine.
    """
    for video in videos:
        keys = [Keyframe(video.video_id, time / 1e6) for time in video.keyframes_us.tolist()]
        times_s = [key.time_s for key in keys if key not in known]
        if not times_s:
            continue
        source = sources.get(video.video_id)
        with open_video(folder, video.video_id) if source is None else VideoReader(source) as file:
            bad = keyframe_outside(file, video.video_id, times_s)
        if bad is not None:
            raise UserError(f"{path}: {bad[1]}")


def _rows(videos: Sequence[LabelledVideo], joined: JoinedLabels) -> AvaRows:
    """Return a row for each person, keyframe and class (-1: without one)."""
    keys, boxes, actions, persons, empty = [], [], [], [], []
    for video in videos:
        there = set()
        for person in video.people:
            for row, time in enumerate(person.times_us.tolist()):
                there.add(time)
                columns = np.flatnonzero(person.labels[row]).tolist()
                for action in [joined.classes.ids[column] for column in columns] or [-1]:
                    keys.append(Keyframe(video.video_id, time / 1e6))
                    boxes.append(person.boxes_01[row])
                    actions.append(action)
                    persons.append(-1 if person.person_id is None else person.person_id)
        empty += [
            Keyframe(video.video_id, time / 1e6)
            for time in video.keyframes_us.tolist()
            if time not in there
        ]
    return AvaRows.from_rows(
        keys, boxes_01=boxes, action_id=actions, person_id=persons, empty_keyframes=empty
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


def new_videos(
    ids: list[str], folder: DatasetFolder, videos: str | Path | None, path: str | Path
) -> dict[str, Path]:
    """Return the file of each new video that the folder does not contain."""
    sources: dict[str, Path] = {}
    for video_id in ids:
        if "/" in video_id:
            raise UserError(f"{path}: '{video_id}' is not a video id (it would be a path)")
        try:
            folder.video_path(video_id)
        except UserError:
            if folder.file.frames is not None:
                raise UserError(
                    f"{path}: video '{video_id}' is not in {folder.root}, which contains extracted "
                    "frames: videos can only be added to data sets of videos"
                ) from None
            if videos is None:
                raise UserError(
                    f"{path}: video '{video_id}' is not in {folder.root}; "
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
