"""Makes a data set of bare videos (`unlabelled`) and the label files of a page."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from detection.datasets.ava_csv import read_person_boxes
from detection.datasets.folder import DatasetFolder, inside, write_dataset_file
from detection.datasets.label_file import LabelledVideo, join_label_files, read_label_file
from detection.datasets.label_map import write_label_map
from detection.errors import UserError, first_few
from detection.files import behind_links, new_dataset_folder, read_lines, text_lines, write_text
from detection.importers.corrections import check_times, decided_keyframes, new_videos
from detection.importers.custom import (
    AnnotatedBox,
    AnnotatedVideo,
    Choices,
    draw_notes,
    import_annotations,
    split_videos,
)
from detection.importers.source_videos import video_ids
from detection.importers.write import ImportReport
from detection.structures import LabelMap


def is_bare(folder: DatasetFolder) -> bool:
    """Say whether a data set has videos alone: no label map, and no row of annotations."""
    return not (folder.root / folder.file.label_map).is_file() and not any(
        folder.split(name).annotations.stat().st_size for name in folder.file.splits
    )


def import_labelled(
    dataset: str | Path,
    out: str | Path,
    *,
    corrections: Sequence[str | Path],
    choices: Choices,
    prefer: str | Path | None = None,
    videos: str | Path | None = None,
    link: bool = False,
    overwrite: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out`: the labelled videos of the bare data set `dataset`.

    Train and val are chosen by `choices`; boxes that are registered come along, and so does the
    people detector's name. Arguments else as of `merge_corrections`. Raises `UserError` before
    `out` is there.
    """
    folder = DatasetFolder.open(dataset)
    _check_folders(folder, out)
    joined = join_label_files([read_label_file(path) for path in corrections], prefer=prefer)
    path, classes = joined.paths[0], joined.classes
    known = {video_id for name in folder.file.splits for video_id in _ids(folder, name)}
    labelled, notes = decided_keyframes(joined.videos, keep_partly=True)
    labelled = [video for video in labelled if len(video.keyframes_us)]
    if not labelled:
        raise UserError(f"{path}: holds no keyframe at which a person is decided")
    new = [video.video_id for video in labelled if video.video_id not in known]
    sources = new_videos(new, folder, videos, path)
    check_times(labelled, folder, sources, known=frozenset(), path=path)
    files = [sources.get(v.video_id) or folder.video_path(v.video_id) for v in labelled]
    annotated = [
        _annotated(video, file, classes, path) for video, file in zip(labelled, files, strict=True)
    ]
    annotated, left_out = _with_splits(annotated, labelled, choices)
    if without := sorted(known - {video.name for video in annotated}):
        notes.append(f"{len(without):,} videos without labels left out: {first_few(without)}")
    _check_names([video.name for video in annotated], path)
    choices = replace(choices, val_videos=())
    with new_dataset_folder(out, overwrite=overwrite) as building:
        with tempfile.TemporaryDirectory(dir=building, prefix=".classes-") as temporary:
            write_label_map(Path(temporary) / "label_map.pbtxt", classes)
            report = import_annotations(
                building / "made",
                annotated,
                classes=classes.names,
                exclusive={
                    group: [classes.names[column] for column in columns]
                    for group, columns in classes.exclusive.items()
                },
                choices=replace(choices, label_map=Path(temporary) / "label_map.pbtxt"),
                link=link,
                show_progress=show_progress,
            )
        _complete(building / "made", folder)
        for entry in sorted((building / "made").iterdir()):
            entry.rename(building / entry.name)
        (building / "made").rmdir()
    return replace(report, notes=(*joined.notes, *notes, *left_out, *report.notes))


def _check_folders(folder: DatasetFolder, out: str | Path) -> None:
    if behind_links(out).resolve() == folder.root.resolve():
        raise UserError(f"{out}: its videos without labels would be lost; name another folder")
    if folder.file.frames is not None:
        raise UserError(
            f"{folder.root}: holds extracted frames, train and val are made of video files alone; "
            f"write the classes into {folder.root / folder.file.label_map}, and --split NAME takes "
            "the labels into that split"
        )


def _check_names(names: Sequence[str], path: str) -> None:
    """Refuse ids that would become others: labels are found by them."""
    for name, video_id in video_ids(names).items():
        if name != video_id:
            raise UserError(
                f"{path}: video '{name}' would get another name, '{video_id}': give it one without "
                "what file systems forbid, also in its boxes, and make the page again"
            )


def _ids(folder: DatasetFolder, split: str) -> list[str]:
    listed = folder.split(split).videos
    return [] if listed is None else read_lines(listed, what="list of videos")


def _annotated(video: LabelledVideo, file: Path, classes: LabelMap, path: str) -> AnnotatedVideo:
    boxes, there = [], set()
    last = max((p.person_id for p in video.people if p.person_id is not None), default=0)
    for person in video.people:
        number = person.person_id
        if number is None:
            number = last = last + 1
        for row, time in enumerate(person.times_us.tolist()):
            there.add(time)
            names = [n for n, does in zip(classes.names, person.labels[row], strict=True) if does]
            x1, y1, x2, y2 = person.boxes_01[row].tolist()
            boxes.append(AnnotatedBox(time / 1e6, (x1, y1, x2, y2), tuple(names), str(number), 0))
    empty = [time / 1e6 for time in video.keyframes_us.tolist() if time not in there]
    return AnnotatedVideo(video.video_id, file, path, False, (1.0, 1.0), boxes, empty)


def _with_splits(
    annotated: list[AnnotatedVideo], labelled: Sequence[LabelledVideo], choices: Choices
) -> tuple[list[AnnotatedVideo], list[str]]:
    """Choose train and val; leave keyframes with undecided people out of val.

    Val is drawn from videos in which everyone is decided at some keyframe.
    """
    pairs = list(zip(annotated, labelled, strict=True))
    whole = [video for video, labels in pairs if not labels.undecided.all()]
    partial = [video.name for video, labels in pairs if labels.undecided.all()]
    notes: list[str] = []
    if choices.val_videos or choices.val_share == 0 or len(whole) < 2:
        splits = split_videos(annotated, choices)
    else:
        splits = split_videos(whole, choices)
        splits["train"] += partial
        notes = draw_notes(annotated, splits, choices)
    if "val" not in splits:
        return annotated, []
    val = set(splits["val"])
    partly = {
        video.video_id: {
            time / 1e6
            for time, count in zip(
                video.keyframes_us.tolist(), video.undecided.tolist(), strict=True
            )
            if count
        }
        for video in labelled
    }
    keys, kept = [], []
    for video in annotated:
        video.split = "val" if video.name in val else "train"
        if video.name in val:
            keys += [f"{video.name} at {time:.3f} s" for time in sorted(partly[video.name])]
            odd = partly[video.name]
            video.boxes = [box for box in video.boxes if box.frame_or_time not in odd]
            video.empty = [time for time in video.empty if time not in odd]
        if video.boxes or video.empty:
            kept.append(video)
    if not any(video.split == "val" for video in kept):
        raise UserError(
            f"val ({first_few(sorted(val))}) has no keyframe at which everyone is decided: decide "
            "on the others there, or choose with --val-videos or --val-share 0"
        )
    if keys:
        many = f"{len(keys):,} keyframe{'s' * (len(keys) > 1)} of val with undecided people"
        notes.append(f"{many} left out: {first_few(keys)}")
    if gone := sorted(val - {video.name for video in kept}):
        many = f"{len(gone):,} video{'s' * (len(gone) > 1)} of val left out"
        notes.append(
            f"{many}, at none of whose keyframes everyone is decided: {first_few(gone)}; decide on "
            "the others there, or keep it out of --val-videos: train takes what is decided"
        )
    return kept, notes


def _complete(made: Path, folder: DatasetFolder) -> None:
    """Carry along the registered boxes, by video, and what `dataset.yaml` knows of people."""
    file = DatasetFolder.open(made).file
    splits = dict(file.splits)
    for split in splits:
        ids = set(_ids(DatasetFolder.open(made), split))
        boxes: dict[str, str] = {}
        for raw in folder.file.splits:
            for name in folder.file.splits[raw].boxes:
                if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]*", name):
                    raise UserError(f"{folder.root}: boxes '{name}' cannot name a file")
                table = folder.boxes_path(folder.split(raw), name)
                relative = f"annotations/{name}_{split}.csv"
                if relative in (splits[split].annotations, *boxes.values()):
                    raise UserError(f"{folder.root}: boxes '{name}' would replace {relative}")
                write_text(inside(made, relative, what="the box file"), _lines_of(table, ids))
                boxes[name] = relative
        splits[split] = splits[split].model_copy(update={"boxes": boxes})
    made_anew = ("name", "label_map", "videos", "frames", "exclusive")
    update: dict[str, object] = {key: getattr(file, key) for key in made_anew}
    if folder.file.evaluation.protocol is None:
        update["evaluation"] = file.evaluation
    whole = folder.file.model_copy(update={**update, "splits": splits})
    write_dataset_file(made, whole)


def _lines_of(table: Path, ids: set[str]) -> str:
    """Return the lines of some videos, as they are."""
    if not table.stat().st_size:
        return ""
    rows = read_person_boxes(table)
    chosen = [name in ids for name in rows.video_names]
    numbers = {
        line for line, video in zip(rows.line.tolist(), rows.video_index.tolist(), strict=True)
        if chosen[video]
    }  # fmt: skip
    lines = enumerate(text_lines(table, what="box file"), start=1)
    return "".join(line for number, line in lines if number in numbers)
