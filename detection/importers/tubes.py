"""Imports data sets whose annotations are a pickle of tubes: JHMDB-21, UCF101-24, MultiSports.

The usual format (from the ACT detector): a dictionary with `labels`, `gttubes` {FOLDER/NAME:
{class: [(n, 5) arrays of frame, x1, y1, x2, y2]}}, `train_videos` and `test_videos` (a list per
split) and `resolution` {FOLDER/NAME: (height, width)}. Frames count from 1, pixels from 0, and
x2, y2 name the last pixel inside (0 to 319 of 320; the published evaluations count it in), so a box
ends at x2 + 1.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError, first_few, printable
from detection.formats.safe_pickle import read_plain_pickle
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
    annotations = _read_annotations(path, form)
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


def _notes(annotations: _Annotations, decoded: Mapping[str, int]) -> list[str]:
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
    for name, tubes in _read_annotations(path, form).tubes.items():
        try:
            file = find_video(videos, name)
        except ValueError:
            file = None
        frames = [tube[:, 0].max() for _, tube in tubes if len(tube)]
        found.append(TubeVideo(name, file, int(max(frames, default=0))))
    return found


@dataclass(frozen=True)
class _Annotations:
    """The content of the pickle, by FOLDER/NAME of a video."""

    labels: tuple[str, ...]
    tubes: Mapping[str, list[tuple[int, NDArray[np.float64]]]]  # class, (frames, 5) array of each
    size: Mapping[str, tuple[int, int]]  # height, width
    splits: Mapping[str, list[str]]
    num_frames: Mapping[str, int]  # as stated
    without_tubes: Sequence[str] = ()  # videos of a split that have no annotation


def _files(source: Path, form: TubeFormat, videos: str | Path | None) -> tuple[Path, Path]:
    """Return the annotation file and the folder of videos."""
    for name in form.files:
        path = source / name
        if path.is_file():
            folders = (source / "videos", path.parent) if videos is None else (Path(videos),)
            return path, next((f for f in folders if f.is_dir()), folders[0])
    raise UserError(f"{source / form.files[0]}: file not found")


def _source_videos(
    annotations: _Annotations, path: Path, folder: Path, form: TubeFormat
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


def _read_annotations(path: Path, form: TubeFormat) -> _Annotations:
    """Read the pickle and check its format."""
    values = read_plain_pickle(path)
    keys = ("labels", "gttubes", "train_videos", "test_videos", "resolution")
    if not isinstance(values, dict) or not set(keys) <= set(values):
        raise UserError(f"{path}: a dictionary with {', '.join(keys)} is required")
    try:
        labels = tuple(_text(path, label, "label") for label in values["labels"])
        tubes: dict[str, list[tuple[int, NDArray[np.float64]]]] = {}
        for name, by_class in sorted(values["gttubes"].items()):
            tubes[_checked_name(path, name)] = _tubes_of(path, name, by_class, labels)
        size = {name: _size_of(path, name, values["resolution"][name]) for name in tubes}
        splits, without_tubes = _splits_of(path, values, tubes, form)
        num_frames = {
            str(k): max(0, min(_whole(path, f"nframes of {k}", n), 10**9))
            for k, n in values.get("nframes", {}).items()
        }
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not {form.name}'s annotations ({type(error).__name__}: {error})"
        ) from error
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"{path}: labels must be different and at least one, found {len(labels)}")
    if not splits:
        raise UserError(f"{path}: lists of videos are required in train_videos and test_videos")
    return _Annotations(labels, tubes, size, splits, num_frames, without_tubes)


def _splits_of(
    path: Path, values: Mapping[str, Any], tubes: Mapping[str, Any], form: TubeFormat
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the annotated videos by split, and the videos of splits that have no tube."""
    splits: dict[str, list[str]] = {}
    bare: set[str] = set()
    pairs = list(zip(values["train_videos"], values["test_videos"], strict=True))
    for number, (train, test) in enumerate(pairs, start=1):
        prefix = f"split{number}_" if form.numbered_splits or len(pairs) > 1 else ""
        both = sorted(set(train) & set(test))
        if both:
            raise UserError(
                f"{path}: {len(both)} videos in train and in test of split {number}: "
                f"{first_few([printable(str(name)) for name in both])}"
            )
        bare |= {name for name in (*train, *test) if not tubes[name]}
        splits[f"{prefix}train"] = [name for name in sorted(set(train)) if tubes[name]]
        splits[f"{prefix}val"] = [name for name in sorted(set(test)) if tubes[name]]
    return splits, sorted(bare)


def _text(path: Path, value: Any, what: str) -> str:
    if type(value) is not str:
        raise UserError(f"{path}: a {what} that is a {type(value).__name__}, text is required")
    return value


def _whole(path: Path, what: str, value: Any) -> int:
    """Return a whole number as int; refuse 1.5, NaN and "1"."""
    if isinstance(value, (bool, str, bytes)) or not isinstance(value, (int, float, np.number)):
        kind = type(value).__name__
        raise UserError(f"{path}: {printable(what)[:80]} is a {kind}, a number is required")
    if not math.isfinite(value) or value != int(value):
        raise UserError(f"{path}: {printable(what)[:80]} is {value}, a whole number is required")
    return int(value)


def _checked_name(path: Path, name: Any) -> str:
    text = _text(path, name, "video's name")
    parts = text.split("/")
    if len(parts) != 2 or any(
        not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts
    ):
        raise UserError(f"{path}: {text[:80]!r} is not FOLDER/NAME of a video")
    return text


def _tubes_of(
    path: Path, name: str, by_class: Any, labels: tuple[str, ...]
) -> list[tuple[int, NDArray[np.float64]]]:
    tubes: list[tuple[int, NDArray[np.float64]]] = []
    for label, arrays in by_class.items():
        number = _whole(path, f"a class of {name}", label)
        if not 0 <= number < len(labels):
            raise UserError(f"{path}: {printable(name)}: class {number} of {len(labels)}")
        for array in arrays:
            tube = np.asarray(array)
            if tube.ndim != 2 or tube.shape[1] != 5 or tube.dtype.kind not in "iuf":
                raise UserError(
                    f"{path}: {printable(name)}: numbers in rows of frame, x1, y1, x2, y2 are "
                    f"required, found an array of shape {tube.shape}"
                )
            tube = tube.astype(np.float64)
            bad = np.flatnonzero(~np.isfinite(tube).all(axis=1))
            if len(bad):
                first = ", ".join(f"{value:g}" for value in tube[bad[0]])
                raise UserError(
                    f"{path}: {printable(name)}: finite numbers are required, {len(bad)} of "
                    f"{len(tube)} rows have others, the first: {first}"
                )
            frames = tube[:, 0]
            odd = frames[(frames < 1) | (frames != np.round(frames)) | (frames > 1e9)]
            if len(odd):
                raise UserError(
                    f"{path}: {printable(name)}: frames must be whole numbers from 1 on, "
                    f"{len(odd)} of {len(frames)} are not, the first: {odd[0]:g}"
                )
            tubes.append((number, tube))
    return tubes


def _size_of(path: Path, name: str, resolution: Any) -> tuple[int, int]:
    height, width = (_whole(path, f"resolution of {name}", number) for number in resolution)
    if not 1 <= height <= 1 << 20 or not 1 <= width <= 1 << 20:
        raise UserError(f"{path}: {printable(name)}: a resolution of {height}, {width}")
    return height, width
