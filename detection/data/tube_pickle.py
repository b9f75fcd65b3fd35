"""Data sets whose annotations are a pickle of tubes: JHMDB-21, UCF101-24, MultiSports.

The field's form (from the ACT detector): a dictionary with `labels`, `gttubes` {FOLDER/NAME:
{class: [(n, 5) arrays of frame, x1, y1, x2, y2]}}, `train_videos` and `test_videos` (a list per
split) and `resolution` {FOLDER/NAME: (height, width)}. Frames count from 1, pixels from 0, and
x2, y2 name the last pixel inside (0 to 319 of 320; the published evaluations count it in), so a box
ends at x2 + 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.data.import_rows import Header, ImportReport, Rules, SourceVideo, write_dataset
from detection.data.label_map import LabelMap
from detection.data.plain_pickle import read_plain_pickle
from detection.data.source_videos import find_video
from detection.errors import UserError


@dataclass(frozen=True)
class TubeForm:
    """One data set of the family.

    files: names of the annotation file, the first that is there is read.  numbered_splits: call
    them split1_train ... even where there is one.  annotated_only: frames outside all tubes are no
    keyframes, else keyframes with nobody in them, as the published evaluations score them.
    leave_out: boxes that cannot be right are left out and listed, not refused.
    """

    key: str
    name: str
    files: tuple[str, ...]
    description: str
    numbered_splits: bool = False
    annotated_only: bool = False
    leave_out: bool = True


JHMDB = TubeForm(
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
UCF101_24 = TubeForm(
    key="ucf101-24",
    name="UCF101-24",
    files=("UCF101v2-GT.pkl", "UCF101-GT.pkl"),
    description="UCF101-24: 24 of UCF101's actions, boxed in the frames in which they are done.",
)
MULTISPORTS = TubeForm(
    key="multisports",
    name="MultiSports",
    files=("multisports_GT.pkl", "trainval/multisports_GT.pkl", "multisports_half_test_GT.pkl"),
    description="MultiSports: 66 fine actions of four sports, many people (CC BY-NC 4.0).",
)


def import_tubes(
    form: TubeForm,
    source: str | Path,
    out: str | Path,
    *,
    videos: str | Path | None = None,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out` from a folder with the pickle.

    videos: folder of FOLDER/NAME.mp4 (or .avi ...); None: `source/videos`, else `source`. A row is
    dated by the presentation time of its frame in the file; rows past a video's last decodable
    frame go to `left_out.csv`. A tube is a person. Raises `UserError` naming what is wrong with the
    source; then `out` stays as it was.
    """
    source = Path(source)
    path = _annotation_file(source, form)
    annotations = _read_annotations(path, form)
    if videos is None:
        videos = next(f for f in (source / "videos", path.parent) if f.is_dir())
    labels = annotations.labels
    return write_dataset(
        out,
        _source_videos(annotations, path, Path(videos), form),
        header=Header(
            name=form.name,
            description=form.description,
            label_map=LabelMap(labels, tuple(range(1, len(labels) + 1))),
            splits=annotations.splits,
            how_to_get=f"python -m ava_tools.import_dataset {form.key} --source DIR --out DIR",
        ),
        rules=Rules(
            max_overhang_01=np.inf, leave_out=form.leave_out, leave_out_late=True, decode=True
        ),
        overwrite=overwrite,
        link=link,
        show_progress=show_progress,
    )


@dataclass(frozen=True)
class TubeVideo:
    """A video that the pickle annotates: its file (None: not there), and its last boxed frame."""

    name: str
    path: Path | None
    last_frame: int


def annotated_videos(
    form: TubeForm, source: str | Path, *, videos: str | Path | None = None
) -> list[TubeVideo]:
    """Return what a source folder annotates, frames counted from 1; no video is opened."""
    source = Path(source)
    path = _annotation_file(source, form)
    if videos is None:
        videos = next(f for f in (source / "videos", path.parent) if f.is_dir())
    found = []
    for name, tubes in _read_annotations(path, form).tubes.items():
        try:
            file = find_video(Path(videos), name)
        except ValueError:
            file = None
        frames = [tube[:, 0].max() for _, tube in tubes if len(tube)]
        found.append(TubeVideo(name, file, int(max(frames, default=0))))
    return found


@dataclass(frozen=True)
class _Annotations:
    """By FOLDER/NAME: tubes (class, (frames, 5)), size (height, width), frames of the video."""

    labels: tuple[str, ...]
    tubes: Mapping[str, list[tuple[int, NDArray[np.float64]]]]
    size: Mapping[str, tuple[int, int]]
    splits: Mapping[str, list[str]]
    num_frames: Mapping[str, int]


def _annotation_file(source: Path, form: TubeForm) -> Path:
    for name in form.files:
        if (source / name).is_file():
            return source / name
    raise UserError(f"{source / form.files[0]}: no such file")


def _source_videos(
    annotations: _Annotations, path: Path, folder: Path, form: TubeForm
) -> list[SourceVideo]:
    found = []
    missing: list[str] = []
    for name, tubes in annotations.tubes.items():
        try:
            file = find_video(folder, name)
        except ValueError as error:
            missing.append(str(error))
            continue
        height, width = annotations.size[name]
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
    return found


def _read_annotations(path: Path, form: TubeForm) -> _Annotations:
    """Read the pickle and see that it is of the form."""
    values = read_plain_pickle(path)
    wanted = ("labels", "gttubes", "train_videos", "test_videos", "resolution")
    if not isinstance(values, dict) or not set(wanted) <= set(values):
        raise UserError(f"{path}: wanted a dictionary with {', '.join(wanted)}")
    try:
        labels = tuple(str(label) for label in values["labels"])
        tubes: dict[str, list[tuple[int, NDArray[np.float64]]]] = {}
        for name in sorted(values["gttubes"]):
            tubes[_checked_name(path, name)] = _tubes_of(
                path, name, values["gttubes"][name], labels
            )
        size = {name: _size_of(values["resolution"][name]) for name in tubes}
        splits: dict[str, list[str]] = {}
        pairs = list(zip(values["train_videos"], values["test_videos"], strict=True))
        for number, (train, test) in enumerate(pairs, start=1):
            prefix = f"split{number}_" if form.numbered_splits or len(pairs) > 1 else ""
            splits[f"{prefix}train"] = [name for name in sorted(train) if tubes[name]]
            splits[f"{prefix}val"] = [name for name in sorted(test) if tubes[name]]
        num_frames = {
            str(k): max(0, min(int(n), 10**9)) for k, n in values.get("nframes", {}).items()
        }
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not {form.name}'s annotations ({type(error).__name__}: {error})"
        ) from error
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"{path}: wanted different labels, found {len(labels)}")
    if not splits:
        raise UserError(f"{path}: wanted lists of videos in train_videos and test_videos")
    return _Annotations(labels, tubes, size, splits, num_frames)


def _checked_name(path: Path, name: Any) -> str:
    parts = str(name).split("/")
    if len(parts) != 2 or any(
        not part or part.startswith(".") or "\\" in part or "\0" in part for part in parts
    ):
        raise UserError(f"{path}: {str(name)!r} is no FOLDER/NAME of a video")
    return str(name)


def _tubes_of(
    path: Path, name: str, by_class: Any, labels: tuple[str, ...]
) -> list[tuple[int, NDArray[np.float64]]]:
    tubes: list[tuple[int, NDArray[np.float64]]] = []
    for label, arrays in by_class.items():
        if not 0 <= int(label) < len(labels):
            raise UserError(f"{path}: {name}: class {label} of {len(labels)}")
        for array in arrays:
            tube = np.asarray(array, dtype=np.float64)
            if tube.ndim != 2 or tube.shape[1] != 5 or not np.isfinite(tube).all():
                raise UserError(
                    f"{path}: {name}: wanted numbers in rows of frame, x1, y1, x2, y2, "
                    f"got an array of shape {tube.shape}"
                )
            frames = tube[:, 0]
            if (frames < 1).any() or (frames != np.round(frames)).any() or (frames > 1e9).any():
                raise UserError(f"{path}: {name}: frames must be whole numbers from 1 on")
            tubes.append((int(label), tube))
    return tubes


def _size_of(resolution: Any) -> tuple[int, int]:
    height, width = (int(number) for number in resolution)
    if height < 1 or width < 1:
        raise ValueError(f"resolution {resolution}")
    return height, width
