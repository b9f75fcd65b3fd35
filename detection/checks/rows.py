"""Findings about the rows of one annotation file, all rows at once.

Legend: N rows, M actors (a box of a person at a keyframe), K keyframes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.checks.findings import Findings
from detection.datasets.actor_table import group_rows
from detection.datasets.ava_csv import AvaRows
from detection.datasets.ava_csv_rows import EDGE_TOLERANCE
from detection.datasets.label_map import is_ava
from detection.structures import LabelMap

# Two people seldom overlap so much; one person boxed twice does.
TWIN_IOU = 0.9
# With more boxes at a keyframe, each is compared with its nearest neighbours in the file only.
CROWD = 200


@dataclass(frozen=True)
class Actors:
    """Rows grouped into actors.

    of_row: (N,) actor of each row.
    first_row: (M,) first row of each actor.
    keyframe: (M,) keyframe of each actor, ascending.
    keyframe_row: (K,) first row of each keyframe.
    """

    of_row: NDArray[np.int64]
    first_row: NDArray[np.int64]
    keyframe: NDArray[np.int64]
    keyframe_row: NDArray[np.int64]


def check_rows(
    rows: AvaRows,
    label_map: LabelMap | None,
    *,
    exclusive: Mapping[str, Sequence[int]],
    findings: Findings,
) -> Actors:
    """Look at every row; returns the rows grouped into actors.

    exclusive: groups of columns of the label map.
    """
    _check_boxes(rows, findings)
    if label_map is not None:
        _check_labels(rows, label_map, findings)
    actors = group(rows)
    _check_duplicates(rows, actors, findings)
    _check_persons(rows, actors, findings)
    _check_twins(rows, actors, findings)
    for name, columns in exclusive.items():
        assert label_map is not None
        _check_group(rows, actors, name, columns, label_map, findings)
    return actors


def group(rows: AvaRows) -> Actors:
    """Group rows into actors: keyframe, person and all four numbers agree exactly."""
    key = _mixed(rows.video_index, rows.time_us)
    person = np.full(len(rows), -1) if rows.person_id is None else rows.person_id
    whole = _mixed(key, person, *(rows.boxes_01[:, edge] + 0.0 for edge in range(4)))
    first_of_key, keyframe_of_row = group_rows((key,))
    # Keyframes in order of their first row, actors in order of keyframe, then of the file.
    rank = np.argsort(np.argsort(first_of_key))
    keyframe_of_row = rank[keyframe_of_row]
    first, actor_of_row = group_rows((whole,))
    order = np.lexsort((first, keyframe_of_row[first]))
    place = np.empty(len(first), np.int64)
    place[order] = np.arange(len(first))
    first = first[order]
    return Actors(place[actor_of_row], first, keyframe_of_row[first], np.sort(first_of_key))


def _check_boxes(rows: AvaRows, findings: Findings) -> None:
    boxes = rows.boxes_01
    outside = (boxes.min(axis=1, initial=0) < -EDGE_TOLERANCE) | (
        boxes.max(axis=1, initial=1) > 1 + EDGE_TOLERANCE
    )
    findings.add_rows(
        "box outside the frame", "error", rows, outside,
        lambda row: "the box reaches outside the frame: " + _box(rows, row)
        + (" (pixels? fractions of the frame are required)" if boxes[row].max() > 2 else ""),
    )  # fmt: skip
    flat = (boxes[:, 0] >= boxes[:, 2]) | (boxes[:, 1] >= boxes[:, 3])
    findings.add_rows(
        "box without area", "error", rows, flat,
        lambda row: "the box is inside out or has no area: " + _box(rows, row),
    )  # fmt: skip


def _check_labels(rows: AvaRows, label_map: LabelMap, findings: Findings) -> None:
    known = np.isin(rows.action_id, [*label_map.ids, -1])
    if is_ava(label_map):
        unscored = ~known & (rows.action_id >= 1) & (rows.action_id <= 80)
        known |= unscored
        findings.add_rows(
            "class that is not scored", "warning", rows, unscored,
            lambda row: f"action id {rows.action_id[row]} is AVA's, but not among the "
            f"{len(label_map)} of the label map: data.skip_unknown_labels=true leaves it out",
        )  # fmt: skip
    findings.add_rows(
        "unknown class", "error", rows, ~known,
        lambda row: f"action id {rows.action_id[row]} is not in the label map "
        f"({len(label_map)} classes)",
    )  # fmt: skip


def _check_duplicates(rows: AvaRows, actors: Actors, findings: Findings) -> None:
    again, first = _repeated(_mixed(actors.of_row, rows.action_id))
    findings.add_rows(
        "duplicate row", "warning", rows, again,
        lambda row: f"the same as line {rows.line[first[row]]}: it counts twice in scoring",
    )  # fmt: skip


def _check_persons(rows: AvaRows, actors: Actors, findings: Findings) -> None:
    """One person with two boxes at one keyframe."""
    if rows.person_id is None:
        return
    person = rows.person_id[actors.first_row]
    again, first = _repeated(_mixed(actors.keyframe, person))
    findings.add_rows(
        "one person, two boxes", "warning", rows, actors.first_row[again & (person >= 0)],
        lambda row: f"person {rows.person_id[row]} has another box at this keyframe in line "  # type: ignore[index]
        f"{rows.line[actors.first_row[first[actors.of_row[row]]]]}",
    )  # fmt: skip


def _check_twins(rows: AvaRows, actors: Actors, findings: Findings) -> None:
    """Two boxes of one keyframe that are nearly the same."""
    boxes = rows.boxes_01[actors.first_row]
    twin = np.full(len(boxes), -1, np.int64)
    crowd = np.bincount(actors.keyframe, minlength=1)
    of_row = actors.keyframe[actors.of_row]
    findings.add_rows(
        "crowded keyframe", "warning", rows, actors.keyframe_row[np.flatnonzero(crowd > CROWD)],
        lambda row: f"{crowd[of_row[row]]:,} boxes at one keyframe: are the times right?",
    )  # fmt: skip
    for step in range(1, CROWD):
        same = np.flatnonzero(actors.keyframe[step:] == actors.keyframe[:-step])
        if not len(same):
            break
        near = same[paired_iou(boxes[same], boxes[same + step]) > TWIN_IOU]
        twin[near + step] = near
    findings.add_rows(
        "two boxes on one person", "warning", rows, actors.first_row[twin >= 0],
        lambda row: "nearly the same box as in line "
        f"{rows.line[actors.first_row[twin[actors.of_row[row]]]]} (IoU above {TWIN_IOU})",
    )  # fmt: skip


def _check_group(
    rows: AvaRows,
    actors: Actors,
    name: str,
    columns: Sequence[int],
    label_map: LabelMap,
    findings: Findings,
) -> None:
    """Find the rows that give an actor a second class of an exclusive group."""
    members = np.array([label_map.ids[column] for column in columns])
    inside = np.flatnonzero(np.isin(rows.action_id, members))
    distinct, _ = group_rows((_mixed(actors.of_row[inside], rows.action_id[inside]),))
    candidates = inside[np.sort(distinct)]
    again, first = _repeated(actors.of_row[candidates])
    later, before = candidates[again], candidates[first[again]]
    earlier = dict(zip(later.tolist(), before.tolist(), strict=True))
    names = dict(zip(label_map.ids, label_map.names, strict=True))
    findings.add_rows(
        "exclusive classes", "error", rows, later,
        lambda row: f"'{names[int(rows.action_id[row])]}' and "
        f"'{names[int(rows.action_id[earlier[row]])]}' (line {rows.line[earlier[row]]}) "
        f"exclude each other ({name})",
    )  # fmt: skip


def _repeated(key: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Return (N,) which rows repeat an earlier key, and (N,) the first row of each row's key."""
    first, of_row = group_rows((key,))
    again = np.ones(len(key), bool)
    again[first] = False
    return again, first[of_row]


def _box(rows: AvaRows, row: int) -> str:
    return "x1, y1, x2, y2 = " + ", ".join(f"{edge:g}" for edge in rows.boxes_01[row].tolist())


def _mixed(*columns: NDArray[Any]) -> NDArray[np.uint64]:
    """Return one 64-bit number per row that tells rows apart (splitmix64 of each column in turn).

    Equal rows have equal numbers. Different ones have, but once in 2**64 / N**2.
    """
    mixed = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        if column.dtype.kind == "f":
            bits = np.ascontiguousarray(column, np.float64).view(np.uint64)
        else:
            bits = column.astype(np.uint64)
        mixed = mixed * np.uint64(0x9E3779B97F4A7C15) + bits
        mixed ^= mixed >> np.uint64(30)
        mixed *= np.uint64(0xBF58476D1CE4E5B9)
        mixed ^= mixed >> np.uint64(27)
        mixed *= np.uint64(0x94D049BB133111EB)
        mixed ^= mixed >> np.uint64(31)
    return mixed
