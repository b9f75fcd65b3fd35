"""Encodes a review document as the JSON that the page reads.

Keys are short, since there may be a hundred thousand boxes. Legend of a video's `data`: `us` [n]
keyframes in microseconds; `tracks` of {id, k [K] keyframe numbers, b [4 K] corners, s [K] scores as
[column, thousandths, column, thousandths, ...], p [K] thousandths}; `truth` of {k [m] annotated
keyframe numbers, people of {id, k [K], b [4 K], l [K] label columns}} or null; `errors`, worst
first; `decided` of {id, k [K], l [K], nobody} of tracks. On a page on which people are labelled
boxes are the file's very numbers, since labels find their person again by them. Columns count the
classes of the label map.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detection.datasets.ava_csv import time_us_of
from detection.drawing.palette import PALETTE, css_color
from detection.files import sha256_of_text
from detection.review.document import (
    LEAST_SCORE,
    Decision,
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
        "mode": document.mode,
        "key": _key(classes, document, clips),
        "title": document.title,
        "note": document.note,
        "notes": [line for line in (*document.notes, document.opening.line) if line],
        "palette": [css_color(color) for color in PALETTE],
        "classes": classes,
        "exclusive": [list(map(int, group)) for group in document.exclusive.values()],
        "exclusiveNames": list(document.exclusive),
        "order": _order(document),
        "inDataset": document.in_dataset,
        "threshold": document.score_threshold,
        "slider": document.opening.slider,
        "classThresholds": {columns[i]: t for i, t in document.class_thresholds.items()},
        "goesOn": document.goes_on,
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
        "suggested": any(bool((t.action_scores >= LEAST_SCORE).any()) for t in video.tracks),
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
        "tracks": (_track(track, place, document.mode == "label") for track in video.tracks),
        "truth": None if video.truth is None else _truth(video.truth, place),
        "errors": [] if document.mode == "label" else find_errors(video, document, place),
        "decided": [_decision(decision, place) for decision in video.decisions],
    }


def _track(track: ReviewTrack, place: dict[int, int], exact: bool) -> dict[str, Any]:
    thousandths = np.rint(track.action_scores * 1000).astype(int)
    numbers = track.boxes_01.reshape(-1)
    return {
        "id": int(track.track_id),
        "k": _places(track.times_s, place),
        "b": numbers.tolist() if exact else [float(f"{number:.5f}") for number in numbers],
        "s": [_sparse(row) for row in thousandths],
        "p": np.rint(track.person_score * 1000).astype(int).tolist(),
    }


def _decision(decision: Decision, place: dict[int, int]) -> dict[str, Any]:
    return {
        "id": int(decision.track_id),
        "k": _places(decision.times_s, place),
        "l": [np.flatnonzero(row).tolist() for row in decision.labels],
        "nobody": decision.nobody,
    }


def _order(document: ReviewDocument) -> list[tuple[int, int]]:
    """Return (video number, track id) of people to label: those of the order, then all others."""
    if document.mode != "label":
        return []
    number = {video.video_id: i for i, video in enumerate(document.videos)}
    first = [(number[video_id], int(track_id)) for video_id, track_id in document.order]
    every = [
        (number[video.video_id], int(track.track_id))
        for video in document.videos
        for track in sorted(video.tracks, key=lambda track: track.times_s[:1].tolist())
    ]
    return list(dict.fromkeys([*first, *every]))


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
    classes: list[dict[str, Any]], document: ReviewDocument, clips: list[dict[str, Any]]
) -> str:
    """Return the storage key of what is done on the page.

    It is the same for new predictions of one ground truth, and for new suggestions, another order
    and more decisions on the same people.
    """
    named: list[Any] = [classes]
    for video, clip in zip(document.videos, clips, strict=True):
        named.append([video.video_id, clip["us"], clip["truth"]])
    if document.mode == "label":
        named.append([[list(map(int, group)) for group in document.exclusive.values()]])
        for video in document.videos:
            for track in video.tracks:
                times_us = [time_us_of(time_s) for time_s in track.times_s]
                named.append([int(track.track_id), times_us, track.boxes_01.tolist()])
    text = json.dumps(named, separators=(",", ":"))
    return sha256_of_text(text)[:20]
