"""Encodes a review document as the JSON that the page reads.

Keys are short, since there may be a hundred thousand boxes. Legend of a video's `data`: `us` [n]
keyframes in microseconds; `tracks` of {id, k [K] keyframe numbers, b [4 K] corners, s [K] scores as
[column, thousandths, column, thousandths, ...], p [K] thousandths}; `truth` of {k [m] annotated
keyframe numbers, people of {id, k [K], b [4 K], l [K] label columns}} or null; `errors`, worst
first. Columns count the classes of the label map.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import time_us_of
from detection.drawing.palette import PALETTE, css_color
from detection.files import sha256_of_text
from detection.review.document import (
    LEAST_SCORE,
    ReviewDocument,
    ReviewTrack,
    ReviewTruth,
    ReviewVideo,
)
from detection.review.errors import ERROR_KINDS, find_errors, worst_of

FORMAT = 1


def encode_document(document: ReviewDocument) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return the page's head, and the data of each video, which is read when the video is opened.

    A video's `tracks` is a generator, since all of them would be many times the size of the arrays.
    """
    label_map = document.label_map
    groups = label_map.groups or ("",) * len(label_map)
    classes = [
        {"id": class_id, "name": name, "group": group}
        for class_id, name, group in zip(label_map.ids, label_map.names, groups, strict=True)
    ]
    columns = label_map.index_by_id
    clips = [_clip(video, document) for video in document.videos]
    return {
        "format": FORMAT,
        "key": _key(classes, document.videos, clips),
        "title": document.title,
        "note": document.note,
        "notes": [line for line in (*document.notes, document.opening.line) if line],
        "palette": [css_color(color) for color in PALETTE],
        "classes": classes,
        "exclusive": [list(map(int, group)) for group in document.exclusive.values()],
        "threshold": document.score_threshold,
        "slider": document.opening.slider,
        "classThresholds": {columns[i]: t for i, t in document.class_thresholds.items()},
        "leastScore": LEAST_SCORE,
        "errorKinds": ERROR_KINDS,
        "videos": [
            _summary(video, clip, document)
            for video, clip in zip(document.videos, clips, strict=True)
        ],
    }, clips


def _summary(video: ReviewVideo, clip: dict[str, Any], document: ReviewDocument) -> dict[str, Any]:
    people = video.tracks if video.truth is None else video.truth.people
    summary: dict[str, Any] = {
        "id": video.video_id,
        "source": video.source,
        "thumbnail": video.thumbnail,
        "width": video.width_px,
        "height": video.height_px,
        "start": video.start_s,
        "duration": video.duration_s,
        "keyframes": len(video.keyframes_s),
        "people": len(people),
        "errors": None,
        "badness": None,
        "worst": None,
    }
    if video.truth is not None:
        summary["errors"], weight, summary["worst"] = worst_of(clip["errors"], document)
        summary["badness"] = weight / max(1, len(video.truth.keyframes_s))
    return summary


def _clip(video: ReviewVideo, document: ReviewDocument) -> dict[str, Any]:
    keyframes_us = [time_us_of(time_s) for time_s in video.keyframes_s]
    place = {time_us: number for number, time_us in enumerate(keyframes_us)}
    return {
        "us": keyframes_us,
        "tracks": (_track(track, place) for track in video.tracks),
        "truth": None if video.truth is None else _truth(video.truth, place),
        "errors": find_errors(video, document, place),
    }


def _track(track: ReviewTrack, place: dict[int, int]) -> dict[str, Any]:
    thousandths = np.rint(track.action_scores * 1000).astype(int)
    return {
        "id": int(track.track_id),
        "k": _places(track.times_s, place),
        "b": [float(text) for text in map("{:.5f}".format, track.boxes_01.reshape(-1))],
        "s": [_sparse(row) for row in thousandths],
        "p": np.rint(track.person_score * 1000).astype(int).tolist(),
    }


def _truth(truth: ReviewTruth, place: dict[int, int]) -> dict[str, Any]:
    people = [
        {
            "id": person.person_id,
            "k": _places(person.times_s, place),
            "b": person.boxes_01.reshape(-1).tolist(),
            "l": [np.flatnonzero(row).tolist() for row in person.labels],
        }
        for person in truth.people
    ]
    return {"k": _places(truth.keyframes_s, place), "people": people}


def _places(times_s: Any, place: dict[int, int]) -> list[int]:
    return [place[time_us_of(float(time_s))] for time_s in times_s]


def _sparse(thousandths: NDArray[np.int_]) -> list[int]:
    columns = np.flatnonzero(thousandths >= LEAST_SCORE * 1000)
    columns = columns[np.argsort(-thousandths[columns], kind="stable")]
    return np.column_stack([columns, thousandths[columns]]).reshape(-1).tolist()


def _key(
    classes: list[dict[str, Any]], videos: Sequence[ReviewVideo], clips: list[dict[str, Any]]
) -> str:
    """Return the storage key of corrections: the same for new predictions of one ground truth."""
    named: list[Any] = [classes]
    for video, clip in zip(videos, clips, strict=True):
        named.append([video.video_id, clip["us"], clip["truth"]])
    text = json.dumps(named, separators=(",", ":"))
    return sha256_of_text(text)[:20]
