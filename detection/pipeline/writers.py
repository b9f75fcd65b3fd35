"""Writes the results of a video: detections, tracks, events, annotated video and review page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from detection.datasets.ava_csv import write_detections
from detection.datasets.label_map import write_label_map
from detection.drawing.annotated_video import displayed_size
from detection.errors import UserError
from detection.files import replacing
from detection.pipeline.postprocess import Postprocessed, ShownKeyframe
from detection.review.document import ReviewDocument, ReviewTrack, ReviewVideo
from detection.review.page import write_review
from detection.structures import ActorBoxes, Detections, Keyframe, LabelMap
from detection.tracking.events import ActionEvent, TrackedKeyframe
from detection.video.reader import VideoReader

if TYPE_CHECKING:
    from detection.pipeline.networks import Networks

ANNOTATED_NAME = "annotated.mp4"


TrackRows = list[tuple[TrackedKeyframe, int]]
"""The keyframes of a track so far, each with the track's row in it."""
ShownRows = list[tuple[ShownKeyframe, int]]
"""The same with what is being done."""


def write_tables(
    folder: Path,
    video_id: str,
    label_map: LabelMap,
    results: Iterable[Postprocessed],
    max_gap_s: float,
    least_score: float = 0.0,
) -> list[float]:
    """Write detections.csv, tracks.jsonl, events.jsonl and the label map in one pass.

    A track is written once it has ended, so that only open tracks are in memory.  least_score:
    lower scores are left out of detections.csv, and classes that never reach it out of a track.
    Returns the times of keyframes without people, which the tables do not hold.
    """
    empty_s: list[float] = []
    write_label_map(folder / "label_map.pbtxt", label_map)
    with (
        replacing(folder / "tracks.jsonl") as tracks_path,
        replacing(folder / "events.jsonl") as events_path,
        tracks_path.open("w", encoding="utf-8") as tracks,
        events_path.open("w", encoding="utf-8") as events,
    ):

        def write_track(number: int, rows: ShownRows) -> None:
            for piece in track_line(video_id, number, rows, label_map.names, least_score):
                tracks.write(piece)

        def detections() -> Iterator[Detections]:
            for keyframe in _walk(results, events.write, write_track, max_gap_s):
                if not len(keyframe.track):
                    empty_s.append(keyframe.time_s)
                yield Detections(
                    Keyframe(video_id, keyframe.time_s),
                    ActorBoxes(keyframe.boxes_01, keyframe.person_score),
                    keyframe.scores,
                )

        write_detections(
            folder / "detections.csv", detections(), label_map, least_score=least_score
        )
    return empty_s


def video_facts(
    video_id: str, size_px: tuple[int, int] | None, empty_s: Sequence[float]
) -> dict[str, Any]:
    """Return what run.json says of the video: what the tables do not hold."""
    return {
        "video_id": video_id,
        "size_px": None if size_px is None else list(size_px),
        "keyframes_without_people_s": list(empty_s),
    }


def _walk(
    results: Iterable[Postprocessed],
    write_event: Callable[[str], object],
    write_track: Callable[[int, ShownRows], None],
    max_gap_s: float,
) -> Iterator[TrackedKeyframe]:
    open_tracks: dict[int, ShownRows] = {}
    for result in results:
        for event in result.events:
            write_event(event_line(event))
        for shown in result.keyframes:
            keyframe = shown.keyframe
            for number in list(open_tracks):
                if keyframe.time_s - open_tracks[number][-1][0].keyframe.time_s > max_gap_s + 1e-6:
                    write_track(number, open_tracks.pop(number))
            for row, number in enumerate(keyframe.track.tolist()):
                open_tracks.setdefault(number, []).append((shown, row))
            yield keyframe
    for number, rows in open_tracks.items():
        write_track(number, rows)


def event_line(event: ActionEvent) -> str:
    """Return an event as a line of JSON without control characters."""
    values = asdict(event)
    return _json({"video": values.pop("video_id"), **values}) + "\n"


def track_line(
    video_id: str,
    number: int,
    rows: ShownRows,
    classes: Sequence[str],
    least_score: float = 0.0,
) -> Iterator[str]:
    """Yield a track's line of JSON in pieces, so that a long one is never one string in memory.

    least_score: classes that never reach it are left out.
    """
    best = np.max([shown.keyframe.scores[row] for shown, row in rows], axis=0)
    columns = np.flatnonzero(best >= least_score).tolist()
    head = {
        "video": video_id,
        "track": number,
        "start_s": rows[0][0].keyframe.time_s,
        "end_s": rows[-1][0].keyframe.time_s,
        "classes": [classes[column] for column in columns],
    }
    yield _json(head)[:-1] + ', "keyframes": ['
    for position, (shown, row) in enumerate(rows):
        keyframe = shown.keyframe
        values = {
            "time_s": keyframe.time_s,
            "box_01": _rounded(keyframe.boxes_01[row]),
            "person_score": round(float(keyframe.person_score[row]), 6),
            "scores": _rounded(keyframe.scores[row, columns]),
            "doing": [classes[column] for column in sorted(shown.doing[row])],
        }
        if keyframe.seen is not None and not keyframe.seen[row]:
            values["seen"] = False
        yield (", " if position else "") + _json(values)
    yield "]}\n"


def write_page(
    folder: Path,
    video_id: str,
    source: str,
    networks: Networks,
    results: Iterable[Postprocessed],
    *,
    threshold: float,
    goes_on: float,
    sized_as: Path,
    notes: Sequence[str] = (),
) -> Path:
    """Write review.html beside a video that browsers play.

    source: the video, relative to the folder.
    goes_on: share of its threshold down to which an event lasts.
    sized_as: the video whose size the page says.
    notes: lines shown at the top of the page.
    """
    keyframes_s, tracks = _review_tracks(results)
    with VideoReader(folder / source) as reader:
        info = reader.info
    with VideoReader(sized_as) as reader:
        width, height = displayed_size(reader)
    shown_video = ReviewVideo(
        video_id,
        source,
        width,
        height,
        info.duration_s,
        start_s=info.start_s,
        keyframes_s=keyframes_s,
        tracks=tracks,
    )
    by_class = zip(networks.label_map.ids, networks.thresholds.tolist(), strict=True)
    document = ReviewDocument(
        video_id,
        networks.label_map,
        [shown_video],
        exclusive=networks.label_map.exclusive,
        score_threshold=threshold,
        class_thresholds={i: t for i, t in by_class if t != threshold},
        goes_on=goes_on,
        note="detected people, predicted actions",
        notes=notes,
    )
    return write_review(folder, document)


def _review_tracks(results: Iterable[Postprocessed]) -> tuple[list[float], list[ReviewTrack]]:
    """Return the keyframes from 0 s on and the tracks, by number."""
    keyframes_s: list[float] = []
    tracks: dict[int, TrackRows] = {}
    for keyframe in (shown.compared for result in results for shown in result.keyframes):
        if keyframe.time_s < 0:
            continue
        keyframes_s.append(keyframe.time_s)
        for row, number in enumerate(keyframe.track.tolist()):
            tracks.setdefault(number, []).append((keyframe, row))
    return keyframes_s, [
        ReviewTrack(
            number,
            np.array([keyframe.time_s for keyframe, _ in rows]),
            np.stack([keyframe.boxes_01[row] for keyframe, row in rows]),
            np.stack([keyframe.scores[row] for keyframe, row in rows]),
            np.array([keyframe.person_score[row] for keyframe, row in rows], np.float32),
        )
        for number, rows in sorted(tracks.items())
    ]


def check_folder(folder: Path) -> None:
    """Raise `UserError` if the path for the results is not a folder."""
    if not folder.is_dir() and (folder.exists() or folder.is_symlink()):
        raise UserError(f"{folder}: not a folder, which is required for results")


def check_output(folder: Path) -> None:
    """Create the folder for results; raises `UserError` if that fails."""
    check_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be created ({error.strerror})") from error


def _json(values: Mapping[str, Any]) -> str:
    """Return JSON in which only unprintable characters are escaped."""
    text = json.dumps(values, ensure_ascii=False)
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def _rounded(values: Any) -> list[float]:
    return [round(float(value), 6) for value in values]
