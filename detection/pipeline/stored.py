"""Reads a finished folder of results back, and says in it what its tables do not hold."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detection.errors import UserError, at_row
from detection.files import write_text
from detection.formats.json_text import read_json_object
from detection.pipeline.segments import FORMAT, STATE_NAME
from detection.pipeline.writers import video_facts
from detection.tracking.events import ActionEvent

_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class StoredFacts:
    """What run.json says of the video.

    empty_s: times of keyframes without people.
    """

    video_id: str
    size_px: tuple[int, int] | None
    empty_s: tuple[float, ...]


@dataclass(frozen=True)
class PersonRow:
    """A person at a keyframe; `seen` is false where the box was filled in."""

    track: int
    box_01: tuple[float, ...]
    person_score: float
    scores: tuple[float, ...]
    doing: tuple[str, ...]
    seen: bool = True


def read_facts(folder: Path) -> StoredFacts:
    """Read run.json; raises `UserError` where the folder holds no finished results."""
    path = folder / STATE_NAME
    if not path.is_file():
        raise UserError(f"{folder}: no results of detect_actions ({STATE_NAME} is required)")
    state = read_json_object(path)
    if state.get("complete") is not True:
        raise UserError(f"{folder}: the run is not finished; run it to its end first")
    facts = state.get("video", {})
    try:
        video_id = facts["video_id"] if "video_id" in facts else state["options"]["video_id"]
        size_px = facts.get("size_px")
        if size_px is not None:
            width, height = (int(side) for side in size_px)
            size_px = (width, height)
        empty_s = tuple(float(each) for each in facts.get("keyframes_without_people_s", ()))
        return StoredFacts(str(video_id), size_px, empty_s)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"{path}: damaged ({error!r}); results cannot be read back") from error


def write_saved_state(
    folder: Path, video_id: str, size_px: tuple[int, int] | None, empty_s: Sequence[float]
) -> None:
    """Write run.json of results that were saved from Python; no run goes on from them."""
    state = {
        "format": FORMAT,
        "complete": True,
        "options": {"video_id": video_id, "saved": "by VideoResults.save"},
        "inputs": {},
        "video": video_facts(video_id, size_px, empty_s),
    }
    write_text(folder / STATE_NAME, json.dumps(state, indent=2) + "\n")


def stored_events(folder: Path) -> Iterator[ActionEvent]:
    """Yield the events of finished results, in the order in which they ended."""
    for path, number, values in _json_lines(folder / "events.jsonl"):
        try:
            yield ActionEvent(
                video_id=_typed(values, "video", str),
                track=_typed(values, "track", int),
                action=_typed(values, "action", str),
                action_id=_typed(values, "action_id", int),
                start_s=_number(values["start_s"]),
                end_s=_number(values["end_s"]),
                peak_score=_number(values["peak_score"]),
            )
        except (LookupError, TypeError, ValueError, OverflowError) as error:
            raise at_row(path, number, f"not an event ({error!r})") from error


def read_stored_rows(
    folder: Path, names: tuple[str, ...], events: Sequence[ActionEvent]
) -> dict[float, list[PersonRow]]:
    """Read tracks.jsonl: the people by keyframe; see `stored_rows`."""
    rows: dict[float, list[PersonRow]] = defaultdict(list)
    for time_s, row in stored_rows(folder, names, events):
        rows[time_s].append(row)
    return rows


def stored_rows(
    folder: Path, names: tuple[str, ...], events: Sequence[ActionEvent]
) -> Iterator[tuple[float, PersonRow]]:
    """Yield (time_s, person) of tracks.jsonl, track after track; one track at a time in memory.

    Classes that were left out of a track for their low scores have score 0.
    events: tell what is being done in tables of older versions, which do not say it.
    """
    of_track: dict[int, list[ActionEvent]] = defaultdict(list)
    for event in events:
        of_track[event.track].append(event)
    column_of = {name: column for column, name in enumerate(names)}
    for path, number, values in _json_lines(folder / "tracks.jsonl"):
        try:
            track = _typed(values, "track", int)
            columns = [column_of[name] for name in values["classes"]]
            for each in values["keyframes"]:
                time_s = _number(each["time_s"])
                doing = each.get("doing")
                if doing is None:
                    under_way = (e for e in of_track[track] if e.start_s <= time_s <= e.end_s)
                    doing = sorted({e.action for e in under_way}, key=names.index)
                if not set(doing) <= set(names):
                    raise ValueError("doing holds names that are no classes")
                row = PersonRow(
                    track,
                    _numbers(each["box_01"], 4),
                    _number(each["person_score"]),
                    _scores(each["scores"], columns, len(names)),
                    tuple(doing),
                    _typed({"seen": True, **each}, "seen", bool),
                )
                yield time_s, row
        except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise at_row(path, number, f"not a track ({error!r})") from error


def _json_lines(path: Path) -> Iterator[tuple[Path, int, dict[str, Any]]]:
    """Yield the objects of a file with one on each line, each with file and line number."""
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    values = json.loads(line)
                except (ValueError, RecursionError) as error:
                    raise at_row(path, number, f"not JSON, or cut short ({error})") from error
                if not isinstance(values, dict):
                    raise at_row(path, number, "an object {...} is required")
                yield path, number, values
    except FileNotFoundError as error:
        raise UserError(f"{path}: not found; results without it cannot be read back") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from error


def _typed(values: dict[str, Any], key: str, kind: type) -> Any:
    value = values[key]
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise TypeError(f"{key} {value!r}")
    return value


def _number(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{value!r} where a number is required")
    number = float(value)
    if not math.isfinite(number) or abs(number) > _LARGEST:
        raise ValueError(f"{value!r} where a finite number is required")
    return number


def _numbers(values: Sequence[object], count: int) -> tuple[float, ...]:
    if len(values) != count:
        raise ValueError(f"{len(values)} numbers where {count} are required")
    return tuple(_number(value) for value in values)


def _scores(values: Sequence[object], columns: Sequence[int], count: int) -> tuple[float, ...]:
    scores = [0.0] * count
    for column, score in zip(columns, _numbers(values, len(columns)), strict=True):
        scores[column] = score
    return tuple(scores)
