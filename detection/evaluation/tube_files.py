"""Reads what the field's scripts of tubes are given: pickles of ground truth and of detections.

Ground truth: `formats/tube_pickle.py`. `frame_detections.pkl`: an (N, 8) array, or a list of
arrays, of video index, frame, label index, score, x1, y1, x2, y2 (ACT, MOC-Detector, MultiSports).
`video_detections.pkl`: {label index: [(FOLDER/NAME, score, (F, 5 or 6) array of frame, x1, y1, x2,
y2[, score])]} (MultiSports). The video index counts the split's test videos from 0 in the file's
order, frames count from 1, boxes are pixels. From pickles only plain values and arrays are read.
"""

from __future__ import annotations

import numbers
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError, printable
from detection.evaluation.tube_scores import FoundTubes, FrameBoxes
from detection.evaluation.tubes import Tube, Tubes
from detection.formats.safe_pickle import read_plain_pickle
from detection.formats.tube_pickle import read_tube_annotations

_MAX_FRAME = 1e9


@dataclass(frozen=True)
class TubeTruth:
    """Ground truth of one split.

    names: of the classes, by index. videos: FOLDER/NAME by index. tubes: by (class, video index).
    """

    names: tuple[str, ...]
    videos: tuple[str, ...]
    tubes: Tubes


def read_tube_truth(path: str | Path, *, split: int = 1) -> TubeTruth:
    """Read the tubes of the test videos of a split, numbered from 1.

    Raises `UserError` for a file that is none, a split that it does not have, and a tube whose
    frames do not follow each other.
    """
    path = Path(path)
    annotations = read_tube_annotations(path)
    if not 1 <= split <= len(annotations.test_videos):
        raise UserError(f"{path}: split {split} of {len(annotations.test_videos)}")
    videos = tuple(annotations.test_videos[split - 1])
    tubes: Tubes = {}
    for number, video in enumerate(videos):
        for column, rows in annotations.tubes.get(video, ()):
            if len(rows):
                place = f"{path}: {printable(video)}, {annotations.labels[column]}"
                tubes.setdefault((column, number), []).append(_tube(place, rows, 1.0))
    return TubeTruth(annotations.labels, videos, tubes)


def read_frame_boxes(path: str | Path, truth: TubeTruth) -> FrameBoxes:
    """Read scored boxes of frames; raises `UserError` with the first bad row, counted from 0."""
    path = Path(path)
    content = read_plain_pickle(path)
    try:
        rows = np.asarray(content, np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: rows of 8 numbers are required, found others") from error
    if not rows.size:
        rows = np.zeros((0, 8))
    if rows.ndim != 2 or rows.shape[1] != 8:
        raise UserError(
            f"{path}: rows of video index, frame, label index, score, x1, y1, x2, y2 are required, "
            f"found an array of shape {rows.shape}"
        )
    whole = rows[:, :3]
    limits = np.array([len(truth.videos) - 1, _MAX_FRAME, len(truth.names) - 1])
    problems = (
        (~np.isfinite(rows).all(axis=1), "finite numbers are required"),
        ((whole != np.round(whole)).any(axis=1) | (whole < 0).any(axis=1),
         "video, frame and label index must be whole numbers from 0 on"),
        ((whole > limits).any(axis=1),
         f"there are {len(truth.videos)} videos and {len(truth.names)} labels"),
        ((rows[:, 4] > rows[:, 6]) | (rows[:, 5] > rows[:, 7]),
         "x1, y1 must not lie beyond x2, y2"),
    )  # fmt: skip
    for bad, required in problems:
        if bad.any():
            row = int(np.argmax(bad))
            shown = ", ".join(f"{value:g}" for value in rows[row])
            raise UserError(f"{path}: row {row}: {required}, found {shown}")
    video, frame, column = whole.astype(np.int64).T
    return FrameBoxes(video, frame, column, rows[:, 3], rows[:, 4:])


def read_found_tubes(path: str | Path, truth: TubeTruth) -> FoundTubes:
    """Read scored tubes; raises `UserError` with label index and place of the first bad one."""
    path = Path(path)
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a dictionary of label index to tubes is required")
    index = {video: number for number, video in enumerate(truth.videos)}
    found: dict[int, list[tuple[int, Tube]]] = {}
    for label, members in content.items():
        if not _is_number(label) or int(label) != label or not 0 <= label < len(truth.names):
            shown = printable(str(label))[:40]
            raise UserError(f"{path}: label index {shown}, there are {len(truth.names)} labels")
        if not isinstance(members, list | tuple):
            raise UserError(f"{path}: label {int(label)}: a list of tubes is required")
        pairs = found.setdefault(int(label), [])
        for number, member in enumerate(members):
            pairs.append(_found_tube(f"{path}: label {int(label)}, tube {number}", member, index))
    return found


def _found_tube(place: str, member: Any, index: dict[str, int]) -> tuple[int, Tube]:
    if not isinstance(member, list | tuple) or len(member) != 3:
        raise UserError(f"{place}: (video, score, rows) is required")
    video, score, rows = member
    if not isinstance(video, str) or video not in index:
        shown = printable(str(video))[:80]
        raise UserError(f"{place}: video {shown} is not among the split's test videos")
    if not _is_number(score) or not np.isfinite(float(score)):
        raise UserError(f"{place}: the score is {printable(str(score))[:40]}, a number is required")
    try:
        array = np.asarray(rows)
    except ValueError as error:
        raise UserError(f"{place}: rows of equal length are required") from error
    if array.ndim != 2 or array.shape[1] not in (5, 6) or array.dtype.kind not in "iuf":
        raise UserError(
            f"{place}: rows of frame, x1, y1, x2, y2 are required, found shape {array.shape}"
        )
    if not len(array):
        raise UserError(f"{place}: a tube without rows")
    return index[video], _tube(place, array[:, :5].astype(np.float64), float(score))


def _tube(place: str, rows: NDArray[np.float64], score: float) -> Tube:
    """Return a tube of rows (F, 5) of frame and box."""
    if not np.isfinite(rows).all():
        raise UserError(f"{place}: finite numbers are required")
    frames = rows[:, 0]
    if frames[0] != np.round(frames[0]) or not 0 <= frames[0] <= _MAX_FRAME:
        raise UserError(f"{place}: frame {frames[0]:g}, a whole number from 0 on is required")
    jumps = np.flatnonzero(np.diff(frames) != 1)
    if len(jumps):
        first, second = frames[jumps[0]], frames[jumps[0] + 1]
        raise UserError(f"{place}: frames must follow each other, found {second:g} after {first:g}")
    if ((rows[:, 1] > rows[:, 3]) | (rows[:, 2] > rows[:, 4])).any():
        raise UserError(f"{place}: x1, y1 must not lie beyond x2, y2")
    return Tube(int(frames[0]), rows[:, 1:], score)


def _is_number(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
