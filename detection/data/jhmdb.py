"""JHMDB-21 into AVA's form.

The source holds `JHMDB-GT.pkl`, the file the field uses (from the ACT detector), and
`videos/CLASS/NAME.mp4`. Boxes there are in pixels counted from 0, and x2, y2 name the last pixel
inside (0 to 319 and 0 to 239 occur in 320x240), so a box ends at x2 + 1; frames count from 1.
"""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detection.data.ava_files import AvaRows, write_ground_truth
from detection.data.dataset_folder import (
    DatasetFile,
    EvaluationPart,
    SplitPart,
    write_dataset_file,
)
from detection.data.label_map import LabelMap, write_label_map
from detection.data.new_folder import new_dataset_folder
from detection.data.plain_pickle import read_plain_pickle
from detection.data.video import VideoReader
from detection.errors import UserError
from detection.files import replacing
from detection.structures import Keyframe

ANNOTATION_FILE = "JHMDB-GT.pkl"
DESCRIPTION = (
    "JHMDB-21: one annotated person and one of 21 actions per clip, boxed in every frame "
    "(http://jhmdb.is.tue.mpg.de). Videos from HMDB51 (CC BY 4.0)."
)


@dataclass(frozen=True)
class LeftOut:
    """A row whose frame the clip does not have. frame: from 1. box_px: x1, y1, x2, y2."""

    video_id: str
    source: str
    frame: int
    num_frames: int
    box_px: tuple[float, float, float, float]


@dataclass(frozen=True)
class ImportReport:
    """What was written: rows by split, and the rows that were left out."""

    num_videos: int
    num_rows: Mapping[str, int]
    left_out: tuple[LeftOut, ...]


def import_jhmdb(
    source: str | Path,
    out: str | Path,
    *,
    overwrite: bool = False,
    link: bool = False,
    show_progress: bool = False,
) -> ImportReport:
    """Write the data set folder `out` from the JHMDB folder `source`.

    link: hard links to the source's videos in place of copies. A row is dated by the presentation
    time of its frame in the file; rows past a clip's last decodable frame go to `left_out.csv`.
    Raises `UserError` naming what is wrong with the source; then `out` stays as it was.
    """
    source = Path(source)
    annotations = _read_annotations(source / ANNOTATION_FILE)
    ids = video_ids(list(annotations.tubes))
    with new_dataset_folder(out, overwrite=overwrite) as folder:
        (folder / "videos").mkdir()
        times_s: dict[str, NDArray[np.float64]] = {}
        for name in tqdm(
            annotations.tubes, desc="importing clips", unit="clip", disable=not show_progress
        ):
            path = source / "videos" / f"{name}.mp4"
            with VideoReader(path) as video:
                times_s[name] = video.decoded_times_s()
            _place(path, folder / "videos" / f"{ids[name]}.mp4", link=link)
        num_rows, left_out = _write_annotations(folder, annotations, ids, times_s)
    return ImportReport(len(ids), num_rows, left_out)


def video_ids(names: list[str]) -> dict[str, str]:
    """Return for each CLASS/NAME an id that is safe as a file name, all different.

    NAME itself where it is plain; else its odd characters become `_` and eight hexadecimal digits
    of a hash of CLASS/NAME follow, so that an id does not depend on which other clips there are.
    """
    bases = [name.rpartition("/")[2] for name in names]
    doubled = {base for base, count in Counter(bases).items() if count > 1}
    ids: dict[str, str] = {}
    for name, base in zip(names, bases, strict=True):
        plain = re.sub(r"[^A-Za-z0-9_.-]", "_", base)[:150].lstrip(".-")
        if plain != base or base in doubled:
            plain = f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
        ids[name] = plain
    if len({video_id.casefold() for video_id in ids.values()}) < len(ids):
        raise UserError("two clips have names that cannot be told apart as file names")
    return ids


@dataclass(frozen=True)
class _Annotations:
    """labels: 21 names.  tubes: (class, (frames, 5)) by CLASS/NAME.  size: (height, width)."""

    labels: tuple[str, ...]
    tubes: Mapping[str, list[tuple[int, NDArray[np.float64]]]]
    size: Mapping[str, tuple[int, int]]
    splits: Mapping[str, list[str]]


def _read_annotations(path: Path) -> _Annotations:
    """Read the pickle and see that it is what JHMDB's is."""
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
        for number, (train, test) in enumerate(
            zip(values["train_videos"], values["test_videos"], strict=True), start=1
        ):
            splits[f"split{number}_train"] = [name for name in sorted(train) if tubes[name]]
            splits[f"split{number}_val"] = [name for name in sorted(test) if tubes[name]]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not JHMDB's annotations ({type(error).__name__}: {error})"
        ) from error
    return _Annotations(labels, tubes, size, splits)


def _checked_name(path: Path, name: Any) -> str:
    parts = str(name).split("/")
    if len(parts) != 2 or any(not part or part.startswith(".") or "\\" in part for part in parts):
        raise UserError(f"{path}: '{name}' is no CLASS/NAME of a clip")
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
            if (frames < 1).any() or (frames != np.round(frames)).any():
                raise UserError(f"{path}: {name}: frames must be whole numbers from 1 on")
            tubes.append((int(label), tube))
    return tubes


def _size_of(resolution: Any) -> tuple[int, int]:
    height, width = (int(number) for number in resolution)
    if height < 1 or width < 1:
        raise ValueError(f"resolution {resolution}")
    return height, width


def _write_annotations(
    folder: Path,
    annotations: _Annotations,
    ids: Mapping[str, str],
    times_s: Mapping[str, NDArray[np.float64]],
) -> tuple[dict[str, int], tuple[LeftOut, ...]]:
    """Write everything but the videos; return rows by split, and what was left out."""
    num_rows: dict[str, int] = {}
    left_out: dict[str, list[LeftOut]] = {}
    for split, names in annotations.splits.items():
        keyframes: list[Keyframe] = []
        boxes: list[NDArray[np.float64]] = []
        actions: list[int] = []
        persons: list[int] = []
        for name in names:
            left_out[name] = []
            for person, (label, tube) in enumerate(annotations.tubes[name], start=1):
                inside = tube[:, 0] <= len(times_s[name])
                left_out[name] += _left_out(ids[name], name, tube[~inside], len(times_s[name]))
                shown = times_s[name][tube[inside, 0].astype(int) - 1]
                keyframes += [Keyframe(ids[name], float(time_s)) for time_s in shown]
                boxes.append(_fractions(name, tube[inside, 1:], annotations.size[name]))
                actions += [label + 1] * int(inside.sum())
                persons += [person] * int(inside.sum())
        rows = AvaRows.from_rows(
            keyframes,
            boxes_01=np.concatenate([np.zeros((0, 4)), *boxes]),
            action_id=actions,
            person_id=persons,
        )
        write_ground_truth(folder / "annotations" / f"{split}.csv", rows)
        num_rows[split] = len(rows)
    labels = annotations.labels
    label_map = LabelMap(labels, tuple(range(1, len(labels) + 1)))
    write_label_map(folder / "annotations" / "label_map.pbtxt", label_map)
    gone = tuple(row for name in sorted(left_out) for row in left_out[name])
    _write_tables(folder, ids, gone)
    write_dataset_file(
        folder,
        DatasetFile(
            name="JHMDB-21",
            description=DESCRIPTION,
            videos="videos",
            splits={
                split: SplitPart(annotations=f"annotations/{split}.csv")
                for split in annotations.splits
            },
            evaluation=EvaluationPart(protocol="frame-map"),
            how_to_get="python -m ava_tools.import_dataset jhmdb --source DIR --out DIR",
        ),
    )
    return num_rows, gone


def _fractions(
    name: str, boxes_px: NDArray[np.float64], size: tuple[int, int]
) -> NDArray[np.float64]:
    """Return (rows, 4) fractions of the frame; x2, y2 in pixels are inside the box."""
    height, width = size
    ends = boxes_px + np.array([0, 0, 1, 1])
    boxes = np.clip(ends / np.array([width, height, width, height]), 0, 1)
    if not ((boxes[:, 0] < boxes[:, 2]) & (boxes[:, 1] < boxes[:, 3])).all():
        raise UserError(f"{ANNOTATION_FILE}: {name}: a box lies outside the frame or is inside out")
    return boxes


def _left_out(
    video_id: str, name: str, tube: NDArray[np.float64], num_frames: int
) -> list[LeftOut]:
    return [
        LeftOut(video_id, name, int(frame), num_frames, (x1, y1, x2, y2))
        for frame, x1, y1, x2, y2 in tube.tolist()
    ]


def _write_tables(folder: Path, ids: Mapping[str, str], left_out: tuple[LeftOut, ...]) -> None:
    """Write `left_out.csv` and `video_sources.csv`, for people to look at."""
    with replacing(folder / "left_out.csv") as path, path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "source", "frame", "frames_in_clip", "x1", "y1", "x2", "y2"])
        for row in left_out:
            table.writerow([row.video_id, row.source, row.frame, row.num_frames, *row.box_px])
    with replacing(folder / "video_sources.csv") as path, path.open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["video_id", "source"])
        table.writerows((ids[name], name) for name in sorted(ids))


def _place(source: Path, target: Path, *, link: bool) -> None:
    """Link where asked and where the file system can, else copy."""
    if link:
        try:
            os.link(source, target)
            return
        except OSError:
            target.unlink(missing_ok=True)
    shutil.copyfile(source, target)
