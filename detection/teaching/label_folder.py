"""Label files as what is decided in each video of a data set.

Legend: R decided people at keyframes of one video, A classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detection.datasets.label_file import (
    LabelFile,
    LabelledVideo,
    join_label_files,
    read_label_file,
)
from detection.datasets.labelling_task import TASK_FILE
from detection.errors import UserError, printable
from detection.structures import LabelMap
from detection.teaching.features import PersonKeyframes
from detection.teaching.labelled import Decided, Labelled, find_on_page
from detection.teaching.session import Session


def read_labelled(
    session: Session, files: Sequence[Path], *, prefer: Path | None = None
) -> dict[str, Labelled]:
    """Read label files, and find their people on the page of the data set.

    prefer: the file that counts where annotators disagree. Raises `UserError` for a file of other
    videos, classes or boxes, and for all that `join_label_files` refuses.
    """
    read = [read_label_file(path) for path in files]
    for file in read:
        _check_classes(session, file)
        _check_people(session, file)
    if not read:
        return {}
    joined = join_label_files(read, prefer=prefer)
    for note in joined.notes:
        print(printable(note))
    labelled = {}
    for video in joined.videos:
        decided = _decided(video, joined.classes, session.label_map)
        if len(decided.people):
            labelled[video.video_id] = find_on_page(decided, session.people.tracks[video.video_id])
    return labelled


def _check_classes(session: Session, file: LabelFile) -> None:
    """Refuse a file of other classes: what it does not say was not looked for."""
    ours, theirs = session.label_map.names, file.classes.names
    odd = [name for name in theirs if name not in ours]
    lacking = [name for name in ours if name not in theirs]
    if odd or lacking:
        what = f"has '{odd[0]}'" if odd else f"lacks '{lacking[0]}'"
        raise UserError(
            f"{file.path}: labelled with other classes: it {printable(what)}; those of "
            f"{session.folder.root / TASK_FILE} are required"
        )


def _check_people(session: Session, file: LabelFile) -> None:
    """Refuse a file of another data set's videos, and one of whose boxes none is on the page."""
    tracks = session.people.tracks
    known = boxes = 0
    for video in file.videos:
        if video.video_id not in tracks:
            raise UserError(
                f"{file.path}: an export of another data set: {session.folder.root} has no video "
                f"'{printable(video.video_id)}' with boxes '{session.task.boxes}'"
            )
        decided = _decided(video, file.classes, session.label_map)
        labelled = find_on_page(decided, tracks[video.video_id])
        boxes += len(labelled)
        known += int((labelled.track >= 0).sum())
    if boxes and not known:
        raise UserError(
            f"{file.path}: an export of a page of other boxes: none of its {boxes} boxes is one of "
            f"boxes '{session.task.boxes}' of {session.folder.root}"
        )


def _decided(video: LabelledVideo, classes: LabelMap, label_map: LabelMap) -> Decided:
    """Return one video's decisions, columns of the data set's classes."""
    column = [label_map.index_by_name[name] for name in classes.names]
    both = [(one, False) for one in video.people] + [(one, True) for one in video.nobody]
    labels = [np.zeros((0, len(label_map)), bool)]
    for one, _ in both:
        ours = np.zeros((len(one.times_us), len(label_map)), bool)
        ours[:, column] = one.labels
        labels.append(ours)
    counts = [len(one.times_us) for one, _ in both]
    return Decided(
        PersonKeyframes.joined([PersonKeyframes(one.times_us, one.boxes_01) for one, _ in both]),
        np.concatenate(labels),
        np.repeat(np.array([no_person for _, no_person in both], bool), counts),
        np.repeat(np.arange(len(both)), counts),
    )
