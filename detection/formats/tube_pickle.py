"""Reads the field's annotation pickle of tubes: JHMDB-21, UCF101-24, MultiSports.

The usual format (from the ACT detector): a dictionary with `labels`, `gttubes` {FOLDER/NAME:
{class: [(n, 5) arrays of frame, x1, y1, x2, y2]}}, `train_videos` and `test_videos` (a list per
split) and `resolution` {FOLDER/NAME: (height, width)}. Frames count from 1, pixels from 0, and
x2, y2 name the last pixel inside (0 to 319 of 320).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.errors import UserError, first_few, printable
from detection.formats.safe_pickle import read_plain_pickle


@dataclass(frozen=True)
class TubeAnnotations:
    """The content of the pickle, by FOLDER/NAME of a video.

    tubes: class and (frames, 5) array of each tube.
    size: height, width.
    splits: videos with tubes, sorted, by name of the split.
    test_videos: the test videos of each split in the file's order, those without tubes too.
    num_frames: as stated.
    without_tubes: videos of a split that have no annotation.
    """

    labels: tuple[str, ...]
    tubes: Mapping[str, list[tuple[int, NDArray[np.float64]]]]
    size: Mapping[str, tuple[int, int]]
    splits: Mapping[str, list[str]]
    test_videos: Sequence[Sequence[str]]
    num_frames: Mapping[str, int]
    without_tubes: Sequence[str] = ()


def read_tube_annotations(
    path: Path, *, name: str = "the ACT detector", numbered_splits: bool = False
) -> TubeAnnotations:
    """Read the pickle and check its format; no code in it is run.

    name: of the data set, for messages. numbered_splits: name splits split1_train ... even where
    there is only one. Raises `UserError` with what is wrong.
    """
    values = read_plain_pickle(path)
    keys = ("labels", "gttubes", "train_videos", "test_videos", "resolution")
    if not isinstance(values, dict) or not set(keys) <= set(values):
        raise UserError(f"{path}: a dictionary with {', '.join(keys)} is required")
    try:
        labels = tuple(_text(path, label, "label") for label in values["labels"])
        tubes: dict[str, list[tuple[int, NDArray[np.float64]]]] = {}
        for video, by_class in sorted(values["gttubes"].items()):
            tubes[_checked_name(path, video)] = _tubes_of(path, video, by_class, labels)
        size = {video: _size_of(path, video, values["resolution"][video]) for video in tubes}
        splits, without_tubes = _splits_of(path, values, tubes, numbered_splits)
        test_videos = [[str(video) for video in test] for test in values["test_videos"]]
        num_frames = {
            str(k): max(0, min(_whole(path, f"nframes of {k}", n), 10**9))
            for k, n in values.get("nframes", {}).items()
        }
    except UserError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{path}: not {name}'s annotations ({type(error).__name__}: {error})"
        ) from error
    if not labels or len(set(labels)) < len(labels):
        raise UserError(f"{path}: labels must be different and at least one, found {len(labels)}")
    if not splits:
        raise UserError(f"{path}: lists of videos are required in train_videos and test_videos")
    return TubeAnnotations(labels, tubes, size, splits, test_videos, num_frames, without_tubes)


def _splits_of(
    path: Path, values: Mapping[str, Any], tubes: Mapping[str, Any], numbered: bool
) -> tuple[dict[str, list[str]], list[str]]:
    """Return the annotated videos by split, and the videos of splits that have no tube."""
    splits: dict[str, list[str]] = {}
    bare: set[str] = set()
    pairs = list(zip(values["train_videos"], values["test_videos"], strict=True))
    for number, (train, test) in enumerate(pairs, start=1):
        prefix = f"split{number}_" if numbered or len(pairs) > 1 else ""
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
