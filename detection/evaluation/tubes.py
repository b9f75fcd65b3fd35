"""Tubes: the boxes of one action of one person over the frames of a video.

Frames are numbered along the sorted keyframes of either file, whatever the frame rate. Ground-truth
tubes are the rows of one person and class; detected ones come from a `track_id` column or are
linked from frame to frame.

Linking is the rule of the ACT detector (Kalogeiton et al., ICCV 2017; its released code, for
tubelets of one frame): per class and frame non-maximum suppression at 0.3 and the 10 best boxes;
tubes, by mean score, are extended by the best-scored box that overlaps their last one by 0.2; a
tube ends after 5 frames without a box; tubes below a mean score of 0.01 or shorter than 15 frames
are dropped; non-maximum suppression of tubes at 0.3. Frames that a tube has no box for are
interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detection.boxes import paired_iou, plain_iou
from detection.datasets.ava_csv import AvaRows
from detection.evaluation.keyframe_index import ClassColumns, SharedKeys
from detection.evaluation.progress import progress_bar
from detection.structures import LabelMap

BOX_NMS, BOXES_PER_FRAME = 0.3, 10
LINK_IOU, FRAMES_WITHOUT = 0.2, 5
LEAST_SCORE, LEAST_FRAMES, TUBE_NMS = 0.01, 15, 0.3


@dataclass(frozen=True)
class Tube:
    """A box for each of F consecutive frames.

    first: number of the first frame.
    boxes: (F, 4).
    score: mean score of the boxes.
    """

    first: int
    boxes: NDArray[np.float64]
    score: float

    @property
    def last(self) -> int:
        """Number of the last frame."""
        return self.first + len(self.boxes) - 1


# Tubes by (class, video number).
Tubes = dict[tuple[int, int], list[Tube]]


class Frames:
    """The frame number of every row, counted within its video."""

    def __init__(self, ground_truth: AvaRows, detections: AvaRows) -> None:
        keys = SharedKeys(ground_truth, detections, frozenset())
        video = keys.video_of_key
        starts = np.searchsorted(video, np.arange(int(video.max(initial=-1)) + 1))
        number = np.arange(len(video)) - starts[video]
        self.video_of_ground_truth = video[keys.ground_truth]
        self.video_of_detections = video[keys.detections]
        self.of_ground_truth = number[keys.ground_truth]
        self.of_detections = number[keys.detections]
        self.per_video = np.bincount(video)


def ground_truth_tubes(rows: AvaRows, frames: Frames, label_map: LabelMap) -> Tubes:
    """Return one tube per person, class and run of consecutive frames."""
    person = np.zeros(len(rows), np.int64) if rows.person_id is None else rows.person_id
    return _tubes_of_ids(
        rows, person, frames.video_of_ground_truth, frames.of_ground_truth, label_map, gaps=False
    )


def tracked_tubes(rows: AvaRows, frames: Frames, label_map: LabelMap) -> Tubes:
    """Return one tube per `track_id` and class; frames in between are interpolated."""
    assert rows.track_id is not None
    return _tubes_of_ids(
        rows, rows.track_id, frames.video_of_detections, frames.of_detections, label_map, gaps=True
    )


def linked_tubes(
    rows: AvaRows,
    frames: Frames,
    label_map: LabelMap,
    *,
    least_frames: int = LEAST_FRAMES,
    progress: bool = False,
) -> Tubes:
    """Link boxes into tubes by ACT's rule.

    least_frames: shorter tubes are dropped; in videos with fewer frames, those shorter than the
        video.
    """
    assert rows.score is not None
    out: Tubes = {}
    groups = _groups(rows, frames.video_of_detections, label_map)
    bar = progress_bar(groups.items(), what="linking", unit="tube set", shown=progress)
    for (column, video), members in bar:
        boxes, score = rows.boxes_01[members], rows.score[members]
        frame = frames.of_detections[members]
        least = min(least_frames, int(frames.per_video[video]))
        tubes = _link(frame, boxes, score)
        tubes = [t for t in tubes if t.score >= LEAST_SCORE and len(t.boxes) >= least]
        out[column, video] = suppress(tubes, TUBE_NMS)
    return out


def overlap(first: Tube, second: Tube) -> float:
    """Return the spatiotemporal IoU: mean box IoU of common frames, times the temporal IoU."""
    start, end = max(first.first, second.first), min(first.last, second.last)
    if end < start:
        return 0.0
    union = max(first.last, second.last) - min(first.first, second.first) + 1
    mine = first.boxes[start - first.first : end - first.first + 1]
    other = second.boxes[start - second.first : end - second.first + 1]
    return float(paired_iou(mine, other).mean() * (end - start + 1) / union)


def suppress(tubes: list[Tube], threshold: float) -> list[Tube]:
    """Non-maximum suppression: drop tubes that overlap a better one by more than the threshold."""
    kept: list[Tube] = []
    for tube in sorted(tubes, key=lambda tube: -tube.score):
        if all(overlap(tube, better) <= threshold for better in kept):
            kept.append(tube)
    return kept


def _groups(
    rows: AvaRows, video: NDArray[np.int64], label_map: LabelMap
) -> dict[tuple[int, int], NDArray[np.int64]]:
    """Return the rows of each (class, video), of classes in the label map."""
    columns = ClassColumns(label_map).of(rows.action_id).astype(np.int64)
    solid = (rows.boxes_01[:, 0] < rows.boxes_01[:, 2]) & (
        rows.boxes_01[:, 1] < rows.boxes_01[:, 3]
    )
    chosen = np.flatnonzero((columns >= 0) & solid)
    if not len(chosen):
        return {}
    size = int(video.max()) + 1
    cell = columns[chosen] * size + video[chosen]
    order = np.argsort(cell, kind="stable")
    cells, starts = np.unique(cell[order], return_index=True)
    parts = np.split(chosen[order], starts[1:])
    return {divmod(one, size): part for one, part in zip(cells.tolist(), parts, strict=True)}


def _tubes_of_ids(
    rows: AvaRows,
    ids: NDArray[np.int64],
    video: NDArray[np.int64],
    frame: NDArray[np.int64],
    label_map: LabelMap,
    *,
    gaps: bool,
) -> Tubes:
    out: Tubes = {}
    for key, members in _groups(rows, video, label_map).items():
        tubes = []
        for one in np.unique(ids[members]).tolist():
            mine = members[ids[members] == one]
            _, first = np.unique(frame[mine], return_index=True)
            mine = mine[first]
            cuts = np.flatnonzero(np.diff(frame[mine]) > 1) + 1
            for part in [mine] if gaps else np.split(mine, cuts):
                score = 1.0 if rows.score is None else float(rows.score[part].mean())
                tubes.append(_tube(frame[part], rows.boxes_01[part], score))
        out[key] = tubes
    return out


def _tube(frame: NDArray[np.int64], boxes: NDArray[np.float64], score: float) -> Tube:
    """Interpolate the boxes of missing frames linearly."""
    every_frame = np.arange(frame[0], frame[-1] + 1)
    filled = np.stack([np.interp(every_frame, frame, boxes[:, side]) for side in range(4)], axis=1)
    return Tube(int(frame[0]), filled, score)


def _link(
    frame: NDArray[np.int64], boxes: NDArray[np.float64], score: NDArray[np.float64]
) -> list[Tube]:
    # For the few boxes of a frame plain numbers are several times as fast as arrays.
    box, value, time = boxes.tolist(), score.tolist(), frame.tolist()
    members: dict[int, list[int]] = {}
    for row in sorted(range(len(time)), key=lambda row: (time[row], -value[row])):
        members.setdefault(time[row], []).append(row)
    current: list[_Growing] = []
    finished: list[_Growing] = []
    for now, rows in members.items():
        free = _best_boxes(rows, box)
        going = []
        for tube in sorted(current, key=lambda tube: -tube.score):
            if now - time[tube.rows[-1]] > FRAMES_WITHOUT:
                finished.append(tube)
                continue
            last = box[tube.rows[-1]]
            near = [row for row in free if plain_iou(box[row], last) >= LINK_IOU]
            if near:  # the best first
                tube.add(near[0], value[near[0]])
                free.remove(near[0])
            going.append(tube)
        current = going + [_Growing([row], value[row]) for row in free]
    done = finished + current
    return [_tube(frame[t.rows], boxes[t.rows], float(np.mean(score[t.rows]))) for t in done]


@dataclass
class _Growing:
    """A tube under construction: its rows and the sum of their scores."""

    rows: list[int]
    total: float

    def add(self, row: int, score: float) -> None:
        self.rows.append(row)
        self.total += score

    @property
    def score(self) -> float:
        return self.total / len(self.rows)


def _best_boxes(rows: list[int], box: list[list[float]]) -> list[int]:
    """Return the rows of a frame after non-maximum suppression; best first, as given."""
    kept: list[int] = []
    for row in rows:
        if all(plain_iou(box[row], box[better]) <= BOX_NMS for better in kept):
            kept.append(row)
            if len(kept) == BOXES_PER_FRAME:
                break
    return kept
