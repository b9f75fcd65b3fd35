"""Detected boxes as training samples: those that fit a labelled person take the labels.

The X3D and SlowFast papers train on ground-truth boxes and on detected boxes whose IoU with one is
above 0.9. A detected box that fits no person is left out: in AVA it may show a person without
labels, and as a negative of every class it would teach that people do nothing.

Legend: G labelled actors, D detected boxes, P pairs of both in one keyframe.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou
from detection.datasets.actor_table import ActorTable


def add_matched_boxes(
    labelled: ActorTable,
    detected: ActorTable,
    *,
    above_iou: float = 0.9,
    keep_unmatched: bool = False,
) -> ActorTable:
    """Return the labelled actors, and after them in each keyframe the detected boxes that fit one.

    A box takes the labels of the actor that it overlaps most (of equals the first), where that IoU
    is greater than `above_iou`. keep_unmatched: add the other boxes too, without any label.
    Keyframes without labelled actors stay as they are.
    """
    keyframe_of_box = _keyframe_of_box(labelled, detected)
    actor, iou = _best_actor(labelled, detected, keyframe_of_box)
    fits = (actor >= 0) & (iou > above_iou)
    added = np.flatnonzero(fits | (keep_unmatched & (keyframe_of_box >= 0)))
    return _with_boxes(labelled, detected, added, keyframe_of_box, np.where(fits, actor, -1))


def _keyframe_of_box(labelled: ActorTable, detected: ActorTable) -> NDArray[np.int64]:
    """Return (D,) the labelled keyframe that each detected box belongs to, -1 for none."""
    rank = {name: index for index, name in enumerate(labelled.video_names)}
    video = np.asarray([rank.get(name, -1) for name in detected.video_names], dtype=np.int64)
    # One number for video and time: a day of microseconds leaves room for 10^8 videos.
    span = 1 + max(np.abs(table.time_us).max(initial=0) for table in (labelled, detected))
    ours = labelled.video_index * (2 * span) + labelled.time_us
    theirs = video[detected.video_index] * (2 * span) + detected.time_us
    place = np.minimum(np.searchsorted(ours, theirs), max(0, len(ours) - 1))
    found = (ours[place] == theirs) if len(ours) else np.zeros(len(theirs), bool)
    found &= video[detected.video_index] >= 0
    keyframe = np.where(found, place, -1)
    # A labelled keyframe without persons is a negative as a whole: nothing is added to it.
    keyframe[found] = np.where(np.diff(labelled.first_actor)[place[found]] > 0, place[found], -1)
    return np.repeat(keyframe, np.diff(detected.first_actor))


def _best_actor(
    labelled: ActorTable, detected: ActorTable, keyframe_of_box: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return (D,) the actor that each box overlaps most and their IoU; -1 and 0 for none."""
    boxes = np.flatnonzero(keyframe_of_box >= 0)
    firsts = labelled.first_actor[keyframe_of_box[boxes]]
    counts = labelled.first_actor[keyframe_of_box[boxes] + 1] - firsts
    box = np.repeat(boxes, counts)  # (P,)
    within = np.arange(len(box)) - np.repeat(np.cumsum(counts) - counts, counts)
    actor = np.repeat(firsts, counts) + within
    mine = labelled.boxes_01[actor].astype(np.float64)
    iou = paired_iou(mine, detected.boxes_01[box].astype(np.float64))
    best = np.full(len(detected.boxes_01), -1, dtype=np.int64)
    best_iou = np.zeros(len(detected.boxes_01))
    order = np.lexsort((-actor, iou, box))  # the last of each box is its best
    best[box[order]], best_iou[box[order]] = actor[order], iou[order]
    return best, best_iou


def _with_boxes(
    labelled: ActorTable,
    detected: ActorTable,
    added: NDArray[np.int64],
    keyframe_of_box: NDArray[np.int64],
    actor_of_box: NDArray[np.int64],
) -> ActorTable:
    """Put detected boxes behind the actors of their keyframes, with the labels of their actors."""
    counts = np.diff(labelled.first_actor)
    keyframe = np.concatenate([np.repeat(np.arange(len(labelled)), counts), keyframe_of_box[added]])
    order = np.argsort(keyframe, kind="stable")
    # Whose labels each actor of the new table has: its own, its match's, or (-1) none.
    source = np.concatenate([np.arange(labelled.num_actors), actor_of_box[added]])[order]
    label_counts = np.where(source >= 0, np.diff(labelled.first_label)[source], 0)
    first_label = np.concatenate([[0], np.cumsum(label_counts)])
    within = np.arange(first_label[-1]) - np.repeat(first_label[:-1], label_counts)
    columns = labelled.label_column[np.repeat(labelled.first_label[source], label_counts) + within]
    no_line = np.zeros(len(added), labelled.line.dtype)  # they are of another file
    return replace(
        labelled,
        first_actor=np.searchsorted(keyframe[order], np.arange(len(labelled) + 1)),
        boxes_01=np.concatenate([labelled.boxes_01, detected.boxes_01[added]])[order],
        score=np.concatenate([labelled.score, detected.score[added]])[order],
        line=np.concatenate([labelled.line, no_line])[order],
        first_label=first_label,
        label_column=columns,
        person=None,  # one of them has two boxes now: tracks are linked by place
    )
