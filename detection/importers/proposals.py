"""mmaction2's proposal pickles, both ways: detected people by keyframe.

https://github.com/open-mmlab/mmaction2/blob/main/mmaction/datasets/ava_dataset.py: a dictionary of
"VIDEO,0902" to (N, 5) arrays of x1, y1, x2, y2 in fractions of the frame and score, or (N, 4)
without scores. From a pickle only plain values and arrays are read; no code in it is run.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import AvaRows, read_person_boxes, time_us_of, write_person_boxes
from detection.datasets.folder import DatasetFolder
from detection.datasets.plain_names import check_video_id
from detection.errors import Problems, UserError, printable
from detection.files import replacing
from detection.formats.csv_rows import finite_number
from detection.formats.safe_pickle import read_plain_pickle
from detection.structures import ActorBoxes, Keyframe

_OVERHANG_01 = 0.05  # as imports take it: a detector's edge may lie this far outside; it is cut


def read_proposals(source: str | Path, out: str | Path) -> list[str]:
    """Write a pickle's boxes as the CSV file `out` in FAIR's form; return notes, a line each.

    Edges a little outside the frame are cut; boxes without scores get 1.  Raises `UserError` naming
    up to ten keys of bad entries; then `out` is not written.
    """
    path, problems = Path(source), Problems()
    content = read_plain_pickle(path)
    if not isinstance(content, dict):
        raise UserError(f"{path}: a dictionary of 'VIDEO,SECOND' to boxes is required")
    found: dict[Keyframe, ActorBoxes] = {}
    empty = unscored = cut = 0
    for key, value in content.items():
        try:
            keyframe = _keyframe(key)
            if keyframe in found:
                raise ValueError("this keyframe is there twice")
            boxes_01, score, outside = _boxes(value)
        except ValueError as error:
            problems.add(path, printable(str(key))[:80], str(error))
            continue
        empty += not len(boxes_01)
        unscored += len(boxes_01) if score is None else 0
        cut += outside
        found[keyframe] = ActorBoxes(
            boxes_01, np.ones(len(boxes_01), np.float32) if score is None else score
        )
    problems.raise_if_any()
    if empty == len(found):
        raise UserError(f"{path}: holds no box, at {empty:,} keyframes")
    write_person_boxes(out, sorted(found.items(), key=lambda pair: pair[0]))
    number = sum(len(boxes.score) for boxes in found.values())
    notes = [f"{number:,} boxes at {len(found) - empty:,} keyframes of "
             f"{len({key.video_id for key in found}):,} videos"]  # fmt: skip
    notes += [f"{empty:,} keyframes without a box: no row says so"] * bool(empty)
    notes += [f"{unscored:,} boxes without a score got 1"] * bool(unscored)
    return notes + [f"{cut:,} boxes cut at the edge of the frame"] * bool(cut)


def write_proposals(
    folder: DatasetFolder, split: str, out: str | Path, *, boxes: str | Path
) -> list[str]:
    """Write a split's detected people as a pickle; return notes, a line each.

    boxes: a name that `dataset.yaml` registers, or a CSV file in FAIR's form.  Raises `UserError`
    for a time that is no whole second, which mmaction2's keys cannot hold.
    """
    part = folder.split(split)
    path = folder.boxes_path(part, str(boxes)) if str(boxes) in part.boxes else Path(boxes)
    rows = read_person_boxes(path)
    if rows.score is None:
        raise UserError(f"{path}: person boxes need a score in column 8")
    odd = np.flatnonzero(rows.time_us % 1_000_000)
    if len(odd):
        raise UserError(
            f"{path}:{rows.line[odd[0]]}: {rows.time_us[odd[0]] / 1e6:.6f} s, mmaction2's "
            f"proposals hold whole seconds ({len(odd):,} of {len(rows):,} rows are at others)"
        )
    content = _by_key(rows)
    with replacing(out) as temporary:
        temporary.write_bytes(pickle.dumps(content, protocol=4))
    return [f"{len(rows):,} boxes at {len(content):,} keyframes"]


def _by_key(rows: AvaRows) -> dict[str, NDArray[np.float32]]:
    assert rows.score is not None
    table = np.concatenate([rows.boxes_01, rows.score[:, None]], axis=1).astype(np.float32)
    members: dict[str, list[int]] = {}
    for row, (video, time_us) in enumerate(
        zip(rows.video_index.tolist(), rows.time_us.tolist(), strict=True)
    ):
        members.setdefault(f"{rows.video_names[video]},{time_us // 1_000_000:04d}", []).append(row)
    content = {key: table[positions] for key, positions in members.items()}
    for key in rows.empty_keyframes:
        content.setdefault(f"{key.video_id},{int(key.time_s):04d}", np.zeros((0, 5), np.float32))
    return content


def _keyframe(key: Any) -> Keyframe:
    if not isinstance(key, str) or "," not in key:
        raise ValueError("a key VIDEO,SECOND is required")
    video, _, second = key.rpartition(",")
    time_s = finite_number(second, "the second", most=1e9)
    return Keyframe(check_video_id(video), time_us_of(time_s) / 1e6)


def _boxes(value: Any) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, int]:
    """Return (N, 4) boxes within the frame, their scores, and how many were cut."""
    try:
        array = np.asarray(value)
    except ValueError as error:
        raise ValueError("rows of equal length are required") from error
    if array.size == 0:
        return np.zeros((0, 4), np.float32), None, 0
    if array.ndim != 2 or array.shape[1] not in (4, 5) or array.dtype.kind not in "iuf":
        raise ValueError(f"rows of x1, y1, x2, y2, score are required, found shape {array.shape}")
    array = array.astype(np.float32)
    if not np.isfinite(array).all():
        raise ValueError("finite numbers are required")
    boxes = array[:, :4]
    far = (boxes < -_OVERHANG_01) | (boxes > 1 + _OVERHANG_01)
    if far.any():
        raise ValueError(f"fractions of the frame are required, found {boxes[far][0]:g}")
    inside = np.clip(boxes, 0, 1)
    if ((inside[:, 0] >= inside[:, 2]) | (inside[:, 1] >= inside[:, 3])).any():
        raise ValueError("x1, y1 must lie before x2, y2")
    score = array[:, 4] if array.shape[1] == 5 else None
    if score is not None and ((score < 0) | (score > 1)).any():
        raise ValueError("scores must be from 0 to 1")
    return inside, score, int((inside != boxes).any(axis=1).sum())
