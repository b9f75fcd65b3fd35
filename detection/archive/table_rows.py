"""Reads a finished video's results as rows of the tables of all videos.

Legend: N people at keyframes, A action classes.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.label_map import read_label_map
from detection.errors import NotFoundError, UserError
from detection.files import sha256_of_text, temporary_folder
from detection.formats.json_text import read_json_object
from detection.pipeline.folder_index import State, state_of
from detection.pipeline.segments import STATE_NAME
from detection.pipeline.stored import stored_events, stored_rows
from detection.pipeline.summary import SUMMARY_NAME, read_summary
from detection.structures import LabelMap
from detection.tracking.events import ActionEvent
from detection.transfer.places import fetch, is_remote, local_path, naming_address

LABEL_MAP_NAME = "label_map.pbtxt"
TABLE_NAMES = (LABEL_MAP_NAME, "tracks.jsonl", "events.jsonl")


@dataclass(frozen=True)
class VideoRow:
    """What videos.parquet says of a video.

    video: its name. folder: of its results, below the tables. length_s: None where unknown.
    keyframes, people, persons, events: of its summary; people are those found at keyframes,
        persons tracks. None unless it is done.
    state: done, unfinished, failed or waiting.
    """

    video: str
    folder: str
    length_s: float | None
    keyframes: int | None
    people: int | None
    persons: int | None
    events: int | None
    state: State


@dataclass(frozen=True, eq=False)
class PeopleRows:
    """The people of a video at keyframes, by time and track.

    time_s: (N,) float64. track: (N,) int64. boxes_01: (N, 4) float32. person_score: (N,) float32.
    seen: (N,) bool. scores: (N, A) float32. doing: N tuples of names.
    """

    time_s: NDArray[np.float64]
    track: NDArray[np.int64]
    boxes_01: NDArray[np.float32]
    person_score: NDArray[np.float32]
    seen: NDArray[np.bool_]
    scores: NDArray[np.float32]
    doing: list[tuple[str, ...]]

    def __len__(self) -> int:
        return len(self.time_s)


@dataclass(frozen=True)
class FoundVideo:
    """What stands in a video's folder.

    rows: about its number of people at keyframes.
    common: what decides its results but for the video itself, as a digest; "" unless it is done.
    """

    row: VideoRow
    rows: int = 0
    common: str = ""


def look_up_video(root: str, video: str, folder: str, *, failed: bool) -> FoundVideo:
    """Return what stands in a video's folder.

    root: path or address. failed: whether it failed, whatever stands there.
    """
    if failed:
        return FoundVideo(VideoRow(video, folder, None, None, None, None, None, "failed"))
    with results_here(root, folder, (STATE_NAME, SUMMARY_NAME)) as place:
        state = state_of(place)
        if state != "done":
            return FoundVideo(VideoRow(video, folder, None, None, None, None, None, state))
        common = sha256_of_text(json.dumps(_common(place), sort_keys=True))
        summary = read_summary(place)
    row = VideoRow(
        video,
        folder,
        _length_s(summary),
        _count(summary, "keyframes"),
        _count(summary, "people"),
        _count(summary, "persons"),
        _count(summary, "events"),
        state,
    )
    seen, filled = (_count(summary, key) for key in ("people_tracked", "people_filled"))
    if seen is not None and filled is not None:
        return FoundVideo(row, seen + filled, common)
    with results_here(root, folder, ("tracks.jsonl",)) as place:  # of a version without counts
        path = place / "tracks.jsonl"
        return FoundVideo(row, _lines_with_time(path) if path.is_file() else 0, common)


def read_common(root: str, folder: str) -> dict[str, Any]:
    """Return what decides a finished video's results but for the video itself.

    `options` by name, and `inputs` (weights) by their part in it, each with its name and content.
    """
    with results_here(root, folder, (STATE_NAME,)) as place:
        options, contents = _common(place)
        inputs = read_json_object(place / STATE_NAME)["inputs"]
        return {"options": options, "inputs": {name: inputs[name] for name in contents}}


def _common(place: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return options and contents of inputs by name; files of another name are the same."""
    state = read_json_object(place / STATE_NAME)
    try:
        options = {name: value for name, value in state["options"].items() if name != "video_id"}
        inputs = state["inputs"].items()
        return options, {name: each["content"] for name, each in inputs if name != "video"}
    except (LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{place / STATE_NAME}: damaged ({error!r})") from error


def read_video_tables(
    root: str, video: str, folder: str
) -> tuple[LabelMap, PeopleRows, list[ActionEvent]]:
    """Return the classes, people and events of a finished video, under the name that is given.

    Events are by start, track, class id and end. Raises `UserError` for damaged results.
    """
    with results_here(root, folder, TABLE_NAMES) as place:
        label_map = read_label_map(place / LABEL_MAP_NAME)
        events = [replace(event, video_id=video) for event in stored_events(place)]
        rows = _read_rows(place, label_map, events)
    events.sort(key=lambda event: (event.start_s, event.track, event.action_id, event.end_s))
    return label_map, rows, events


def read_classes(root: str, folder: str) -> LabelMap:
    """Return the classes of a finished video."""
    with results_here(root, folder, (LABEL_MAP_NAME,)) as place:
        return read_label_map(place / LABEL_MAP_NAME)


@contextmanager
def results_here(root: str, folder: str, names: tuple[str, ...]) -> Iterator[Path]:
    """Yield a folder of this machine that holds those of a video's files that are there.

    root: path or address; what is not on this machine is fetched for as long as the block lasts.
    """
    if not is_remote(root):
        yield local_path(root) / folder
        return
    with temporary_folder() as temporary:
        for name in names:
            with suppress(NotFoundError):
                fetch(f"{root.rstrip('/')}/{folder}/{name}", temporary / name)
        with naming_address(temporary, f"{root.rstrip('/')}/{folder}"):
            yield temporary


def _read_rows(place: Path, label_map: LabelMap, events: list[ActionEvent]) -> PeopleRows:
    """Read the people track by track into plain arrays, so that a day of video fits into memory."""
    times, tracks, seen = array("d"), array("q"), array("b")
    numbers, scores = array("f"), array("f")
    doing: list[tuple[str, ...]] = []
    known: dict[tuple[str, ...], tuple[str, ...]] = {}
    for time_s, row in stored_rows(place, label_map.names, events):
        times.append(time_s)
        tracks.append(row.track)
        seen.append(row.seen)
        numbers.extend((*row.box_01, row.person_score))
        scores.extend(row.scores)
        doing.append(known.setdefault(row.doing, row.doing))
    times_s, track = np.array(times, np.float64), np.array(tracks, np.int64)
    order = np.lexsort((track, times_s))
    boxes = np.asarray(numbers, np.float32).reshape(-1, 5)[order]
    return PeopleRows(
        times_s[order],
        track[order],
        boxes[:, :4],
        boxes[:, 4],
        np.array(seen, bool)[order],
        np.asarray(scores, np.float32).reshape(-1, len(label_map))[order],
        [doing[row] for row in order.tolist()],
    )


def _length_s(summary: dict[str, Any]) -> float | None:
    value = summary.get("length_s")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e12:
        return None
    return float(value)


def _count(summary: dict[str, Any], key: str) -> int | None:
    value = summary.get(key)
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 60
    return value if is_count else None


def _lines_with_time(path: Path) -> int:
    with path.open("rb") as file:
        return sum(line.count(b'"time_s"') for line in file)
