"""Writes a split as tasks of Label Studio: a `VideoRectangle` region for each person's actions.

https://labelstud.io/tags/videorectangle and https://labelstud.io/guide/tasks. Labels belong to a
whole region: where a person's actions change, another region begins; `meta.text` says whose it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from detection.datasets.folder import DatasetFolder
from detection.errors import UserError, first_few, printable
from detection.files import write_text
from detection.formats.json_text import json_text
from detection.importers.exact_boxes import corner_and_size
from detection.importers.label_studio_regions import PERSON, Clock
from detection.importers.labels_out import (
    LabelledBox,
    SplitLabels,
    SplitVideo,
    check_names,
    counted_note,
    frames_of,
    read_split_labels,
    size_note,
)
from detection.video.frame_folder import nearest_frames

_BOX, _VIDEO, _LABELS = "box", "video", "videoLabels"


@dataclass
class _Counts:
    boxes: int = 0
    inexact: int = 0
    between: int = 0
    regions: int = 0
    people: int = 0


def write_label_studio(
    folder: DatasetFolder, split: str, out: Path, *, config: Path | None = None
) -> list[str]:
    """Write `out`; return what the form does not hold, a line each.

    config: file for the labelling configuration that the project needs. Raises `UserError`.
    """
    labels = read_split_labels(folder, split)
    check_names(labels)
    odd = [name for name in labels.label_map.names if name.strip().lower() == "person"]
    if odd:
        raise UserError(f"class '{odd[0]}': it means no action to the importer")
    counts, rates = _Counts(), []
    tasks = []
    for number, video in enumerate(labels.videos, 1):
        times_s, _ = frames_of(folder, video)
        clock = Clock.of(times_s, None)
        rates.append(clock.own_fps)
        result = list(_results(video, clock, labels, counts))
        tasks.append(
            {
                "id": number,
                "data": {"video": video.file_name, "fps": round(clock.own_fps, 6)},
                "annotations": [{"result": result}],
            }
        )
    write_text(out, json_text(tasks, indent=None, ensure_ascii=False))
    if config is not None:
        write_text(config, _config(labels))
    empty = sum(len(video.empty_s) for video in labels.videos)
    lowest, highest = min(rates), max(rates)
    return [
        f"{len(tasks):,} tasks, {counts.boxes:,} boxes of {counts.people:,} people in "
        f"{counts.regions:,} regions; {lowest:.6g} to {highest:.6g} frames a second",
        *labels.notes,
        *counted_note(
            empty, labels.num_keyframes, "keyframes left out",
            "without a person, which Label Studio has no region for",
        ),
        *counted_note(
            counts.between, counts.boxes, "boxes lie between two frames",
            "Label Studio shows them at the nearer, the time is kept in 'time' until one is moved",
        ),
        *size_note(counts.inexact, counts.boxes),
    ]  # fmt: skip


def _results(
    video: SplitVideo, clock: Clock, labels: SplitLabels, counts: _Counts
) -> Iterator[dict[str, Any]]:
    """Yield a result for each stretch of a person with the same actions."""
    keyframes_s = np.unique([*video.empty_s, *(box.time_s for box in video.boxes)])
    usual_s = float(np.median(np.diff(keyframes_s))) if len(keyframes_s) > 1 else 0.0
    for person, (name, boxes) in enumerate(_people(video, clock)):
        counts.people += 1
        for part in _stretches(boxes):
            number = counts.regions = counts.regions + 1
            sequence = [
                _key(box, frame, clock, counts)
                | {"enabled": _goes_on(box, after, keyframes_s, usual_s)}
                for (frame, box), after in zip(part, [*(b for _, b in part[1:]), None], strict=True)
            ]
            value: dict[str, Any] = {
                "framesCount": len(clock.times_s),
                "duration": round(len(clock.times_s) / clock.own_fps, 6),
                "sequence": sequence,
            }
            if part[0][1].actions:
                value["labels"] = [labels.label_map.names[c] for c in part[0][1].actions]
            yield {
                "id": f"p{person}_{number}", "type": "videorectangle", "from_name": _BOX,
                "to_name": _VIDEO, "origin": "manual", "value": value,
                "meta": {"text": [PERSON.format(name)]},
            }  # fmt: skip


def _people(video: SplitVideo, clock: Clock) -> Iterator[tuple[str, list[tuple[int, LabelledBox]]]]:
    """Yield each person's boxes by frame from 0, one a frame; a second goes to another region."""
    frames = nearest_frames(clock.times_s, [box.time_s for box in video.boxes]).tolist()
    found: dict[tuple[str, int], list[tuple[int, LabelledBox]]] = {}
    seen: dict[tuple[str, int], int] = {}
    for position, (frame, box) in enumerate(zip(frames, video.boxes, strict=True)):
        name = f"unknown{position}" if box.person is None else str(box.person)
        nth = seen[name, frame] = seen.get((name, frame), -1) + 1
        found.setdefault((name, nth), []).append((frame, box))
    for (name, _), boxes in found.items():
        yield name, sorted(boxes, key=lambda pair: pair[0])


def _stretches(
    boxes: list[tuple[int, LabelledBox]],
) -> Iterator[list[tuple[int, LabelledBox]]]:
    part: list[tuple[int, LabelledBox]] = []
    for pair in boxes:
        if part and set(part[-1][1].actions) != set(pair[1].actions):
            yield part
            part = []
        part.append(pair)
    yield part


def _goes_on(
    box: LabelledBox, after: LabelledBox | None, keyframes_s: NDArray[np.float64], usual_s: float
) -> bool:
    """Tell whether a person is there up to the next box: no keyframe in between lacks them."""
    if after is None or after.time_s - box.time_s > 1.5 * usual_s:
        return False
    between = (keyframes_s > box.time_s) & (keyframes_s < after.time_s)
    return not bool(between.any())


def _key(box: LabelledBox, frame: int, clock: Clock, counts: _Counts) -> dict[str, Any]:
    (x, y, width, height), exact = corner_and_size(box.box_01, (100.0, 100.0))
    counts.boxes += 1
    counts.inexact += not exact
    shown_s = float(clock.times_s[frame])
    counts.between += round(shown_s, 6) != round(box.time_s, 6)
    number = round(clock.number_of(shown_s))
    return {
        "frame": number, "x": x, "y": y, "width": width, "height": height, "rotation": 0,
        "time": box.time_s,
    }  # fmt: skip


def _config(labels: SplitLabels) -> str:
    bad = [name for name in labels.label_map.names if "$" in name or "\n" in name]
    if bad:
        shown = first_few([*map(printable, bad)])
        raise UserError(f"class '{shown}': a name without $ is required for Label Studio")
    listed = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in labels.label_map.names)
    return (
        "<View>\n"
        f'  <Labels name="{_LABELS}" toName="{_VIDEO}" choice="multiple" allowEmpty="true">\n'
        f"{listed}  </Labels>\n"
        f'  <Video name="{_VIDEO}" value="$video" framerate="$fps"/>\n'
        f'  <VideoRectangle name="{_BOX}" toName="{_VIDEO}"/>\n'
        "</View>\n"
    )
