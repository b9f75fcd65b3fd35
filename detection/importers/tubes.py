"""Imports data sets whose annotations are a pickle of tubes: JHMDB-21, UCF101-24, MultiSports.

Their format is that of `formats/tube_pickle.py`; the published evaluations count the last pixel in,
so a box ends at `x2 + 1`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detection.errors import UserError, first_few, printable
from detection.formats.tube_pickle import TubeAnnotations, read_tube_annotations
from detection.importers.source_videos import find_video
from detection.importers.write import (
    DatasetHeader,
    ImportReport,
    ImportRules,
    SourceVideo,
    has_aspect_ratio,
    write_dataset,
)
from detection.structures import LabelMap
from detection.video.reader import VideoReader


@dataclass(frozen=True)
class TubeFormat:
    """One data set in this format.

    key: name in commands.
    name: name of the data set.
    files: possible names of the annotation file; the first that exists is read.
    description: for `dataset.yaml`.
    numbered_splits: name splits split1_train ... even where there is only one.
    annotated_only: frames outside all tubes are not keyframes; else they are keyframes without
    persons, as in the published evaluations.
    leave_out: leave out and list invalid boxes; else they are errors.
    """

    key: str
    name: str
    files: tuple[str, ...]
    description: str
    numbered_splits: bool = False
    annotated_only: bool = False
    leave_out: bool = True


JHMDB = TubeFormat(
    key="jhmdb",
    name="JHMDB-21",
    files=("JHMDB-GT.pkl",),
    description=(
        "JHMDB-21: one annotated person and one of 21 actions per clip, boxed in every frame "
        "(http://jhmdb.is.tue.mpg.de). Videos from HMDB51 (CC BY 4.0)."
    ),
    numbered_splits=True,
    annotated_only=True,
    leave_out=False,
)
UCF101_24 = TubeFormat(
    key="ucf101-24",
    name="UCF101-24",
    files=("UCF101v2-GT.pkl", "UCF101-GT.pkl"),
    description="UCF101-24: 24 of UCF101's actions, boxed in the frames in which they are done.",
)
MULTISPORTS = TubeFormat(
    key="multisports",
    name="MultiSports",
    files=("multisports_GT.pkl", "trainval/multisports_GT.pkl", "multisports_half_test_GT.pkl"),
    description="MultiSports: 66 fine actions of four sports, many people (CC BY-NC 4.0).",
)


def import_tubes(
    form: TubeFormat,
    source: str | Path,
    out: str | Path,
    *,
    videos: str | Path | None = None,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out` from a folder with the pickle.

    videos: folder of FOLDER/NAME.mp4 (or .avi ...); None: `source/videos`, else `source`. A row
    gets the presentation time of its frame; rows past a video's last decodable frame go to
    `left_out.csv`. A tube is a person. Raises `UserError` naming what is wrong with the source;
    then `out` stays as it was.
    """
    path, videos = _files(Path(source), form, videos)
    annotations = _annotations(path, form)
    labels = annotations.labels
    report = write_dataset(
        out,
        _source_videos(annotations, path, videos, form),
        header=DatasetHeader(
            name=form.name,
            description=form.description,
            label_map=LabelMap(labels, tuple(range(1, len(labels) + 1))),
            splits=annotations.splits,
            how_to_get=f"python -m ava_tools.import_dataset {form.key} --source DIR --out DIR",
        ),
        rules=ImportRules(
            max_overhang_01=np.inf,
            leave_out=form.leave_out,
            leave_out_late=True,
            decode=True,
            ascii_ids=True,
        ),
        overwrite=overwrite,
        link=link,
        show_progress=show_progress,
    )
    return replace(report, notes=(*report.notes, *_notes(annotations, report.num_frames)))


def _notes(annotations: TubeAnnotations, decoded: Mapping[str, int]) -> list[str]:
    """Return the warnings about the source, a line each."""
    stated = annotations.num_frames
    miscounted = [
        f"{printable(name)}: {stated[name]} stated, {decoded[name]} decoded"
        for name in annotations.tubes
        if name in decoded and stated.get(name, decoded[name]) != decoded[name]
    ]
    twice = [
        f"{printable(name)}: frame {frame}"
        for name, tubes in annotations.tubes.items()
        for _, tube in tubes
        for frame, times in Counter(tube[:, 0].astype(np.int64).tolist()).items()
        if times > 1
    ]
    members = {name for names in annotations.splits.values() for name in names}
    unused = [printable(name) for name in annotations.tubes if name not in members]
    bare = [printable(name) for name in annotations.without_tubes]
    found = (
        (miscounted, "videos whose number of frames (nframes) is not that of the decodable frames, "
         "which were used"),
        (twice, "frames twice in one tube, both kept"),
        (bare, "videos of the splits without a tube, left out of them"),
        (unused, "annotated videos in no split"),
    )  # fmt: skip
    return [f"warning: {len(cases)} {what}: {first_few(cases)}" for cases, what in found if cases]


@dataclass(frozen=True)
class TubeVideo:
    """An annotated video.

    name: FOLDER/NAME in the pickle.
    path: the video file, None where it is missing.
    last_frame: number of the last frame with a box, from 1; 0 without boxes.
    """

    name: str
    path: Path | None
    last_frame: int


def annotated_videos(form: TubeFormat, source: str | Path) -> list[TubeVideo]:
    """Return the annotated videos of a source folder; no video is opened."""
    path, videos = _files(Path(source), form, None)
    found = []
    for name, tubes in _annotations(path, form).tubes.items():
        try:
            file = find_video(videos, name)
        except ValueError:
            file = None
        frames = [tube[:, 0].max() for _, tube in tubes if len(tube)]
        found.append(TubeVideo(name, file, int(max(frames, default=0))))
    return found


def _annotations(path: Path, form: TubeFormat) -> TubeAnnotations:
    return read_tube_annotations(path, name=form.name, numbered_splits=form.numbered_splits)


def _files(source: Path, form: TubeFormat, videos: str | Path | None) -> tuple[Path, Path]:
    """Return the annotation file and the folder of videos."""
    for name in form.files:
        path = source / name
        if path.is_file():
            folders = (source / "videos", path.parent) if videos is None else (Path(videos),)
            return path, next((f for f in folders if f.is_dir()), folders[0])
    raise UserError(f"{source / form.files[0]}: file not found")


def _source_videos(
    annotations: TubeAnnotations, path: Path, folder: Path, form: TubeFormat
) -> list[SourceVideo]:
    found = []
    missing: list[str] = []
    misshapen: list[str] = []
    for name, tubes in annotations.tubes.items():
        try:
            file = find_video(folder, name)
        except ValueError as error:
            missing.append(str(error))
            continue
        height, width = annotations.size[name]
        with VideoReader(file) as reader:
            size_px, pixel_shape = reader.frame_size(), reader.pixel_shape
        if not has_aspect_ratio((width, height), size_px, pixel_shape):
            frames = f"frames of {size_px[0]}x{size_px[1]}"
            misshapen.append(f"{printable(name)}: boxes in {width}x{height}, {frames}")
        rows = np.concatenate([np.zeros((0, 5)), *(tube for _, tube in tubes)])
        lengths = [len(tube) for _, tube in tubes]
        frame = rows[:, 0].astype(np.int64) - 1
        last = 0 if form.annotated_only else annotations.num_frames.get(name, 0)
        found.append(
            SourceVideo(
                name=name,
                path=file,
                boxes=rows[:, 1:] + np.array([0, 0, 1, 1]),
                size=(width, height),
                frame=frame,
                action=np.repeat(np.array([c for c, _ in tubes], np.int64), lengths),
                person=np.repeat(np.arange(1, len(tubes) + 1), lengths),
                source_file=str(path),
                empty_below=last,
            )
        )
    if missing:
        raise UserError(
            f"{path}: {len(missing)} of {len(annotations.tubes)} videos are missing, the first: "
            f"{missing[0]}"
        )
    if misshapen:
        raise UserError(
            f"{path}: {len(misshapen)} videos of another aspect ratio than their boxes' "
            f"resolution: {first_few(misshapen)}"
        )
    return found
